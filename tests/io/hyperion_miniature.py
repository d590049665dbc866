"""Writes miniature Hyperion scenes from the layout of USGS; shares nothing with the reader."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

STEM = "EO1H1150662006130110PY"
# Centres of a few bands in the coverage table of USGS.
CENTRES = {1: 355.59, 8: 426.82, 29: 640.5, 50: 854.18, 57: 925.41, 70: 1057.68, 71: 851.92, 77: 912.45, 78: 922.54,
           110: 1245.36, 150: 1648.9, 224: 2395.5, 242: 2577.08}  # fmt: skip


def write_scene(
    folder: Path, *, level: str = "L1T", bands: range | list[int] = range(1, 243), mtl: bool = True, size=(6, 7),
    factors: tuple[float, float] = (40.0, 80.0),
) -> dict[int, np.ndarray]:  # fmt: skip
    """One GeoTIFF a band and the MTL; returns the stored numbers by band."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    stored = {}
    for band in bands:
        values = rng.integers(-20, 8000, size).astype(np.int16)
        values[values == 0] = 1
        if not (8 <= band <= 57 or 77 <= band <= 224):
            values[:] = 0
        values[0, :3] = 0
        values[3, 3] = 0 if band == 150 else values[3, 3]
        stored[band] = values
        with rasterio.open(
            folder / f"{STEM}_B{band:03d}_{level}.TIF", "w", driver="GTiff", count=1, height=size[0], width=size[1],
            dtype="int16", crs="EPSG:32651", transform=Affine(30, 0, 100000, 0, -30, 200000),
        ) as out:  # fmt: skip
            out.write(values, 1)
    if mtl:
        (folder / f"{STEM}_MTL_{level}.TXT").write_text(
            f'GROUP = L1_METADATA_FILE\n  GROUP = PRODUCT_METADATA\n    PRODUCT_TYPE = "{level}"\n'
            '    SPACECRAFT_ID = "EO1"\n    SENSOR_ID = "HYPERION"\n    ACQUISITION_DATE = 2006-05-10\n'
            '    START_TIME = "2006 130 01:58:12"\n  END_GROUP = PRODUCT_METADATA\n'
            "  GROUP = PRODUCT_PARAMETERS\n    SUN_AZIMUTH = -60.5\n    SUN_ELEVATION = 52.25\n    SENSOR_LOOK_ANGLE = -8.5\n"
            "  END_GROUP = PRODUCT_PARAMETERS\n  GROUP = RADIANCE_SCALING\n"
            f"    SCALING_FACTOR_VNIR = {factors[0]:.6f}\n    SCALING_FACTOR_SWIR = {factors[1]:.6f}\n"
            "  END_GROUP = RADIANCE_SCALING\nEND_GROUP = L1_METADATA_FILE\nEND\n"
        )
    return stored


def zip_scene(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(folder.iterdir()):
            out.write(file, f"{STEM}_1T/{file.name}")
    return archive
