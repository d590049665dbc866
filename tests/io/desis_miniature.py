"""Writes miniature DESIS products from the published layout; shares nothing with the reader."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

STEM = "DESIS-HSI-{}-DT0707652640_011-20220404T193259-V0220"
BANDS = 12


def table() -> list[tuple[float, float, float, float]]:
    """Centre, width [nm], gain and offset of each band."""
    return [(401.9 + 54.0 * i, 3.0 + 0.05 * i, 1e-4 * (1 + i % 3), 0.0 if i else 0.001) for i in range(BANDS)]


def write_product(
    folder: Path, level: str = "L2A", *, xml: bool = True, header: bool = True, tiff_scale: bool = False,
    size: tuple[int, int] = (9, 11), suffix: str = ".tif", quality: bool = True, gain_in_header: float = 1.0,
) -> np.ndarray:  # fmt: skip
    """One product; returns the stored numbers, (band, y, x)."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = STEM.format(level)
    rng = np.random.default_rng(5)
    values = rng.integers(-50, 9000, (BANDS, *size)).astype(np.int16)
    values[:, 0, :4] = -32768
    place = {} if level == "L1B" else {"crs": "EPSG:32611", "transform": Affine(30, 0, 400000, 0, -30, 3800000)}
    with rasterio.open(
        folder / f"{stem}-SPECTRAL_IMAGE{suffix}", "w", driver="GTiff", count=BANDS, height=size[0], width=size[1],
        dtype="int16", nodata=-32768, interleave="pixel", compress="deflate", **place,
    ) as out:  # fmt: skip
        out.write(values)
        if tiff_scale:
            out.scales = [row[2] for row in table()]
            out.offsets = [row[3] for row in table()]
    if quality:
        flags = np.zeros((10, *size), np.int16)
        for band, pixel in enumerate([(1, 1), (1, 2), (1, 3), (1, 4), (2, 4), (3, 1), (3, 2), (4, 4)]):
            flags[(band, *pixel)] = 1
        flags[8], flags[9] = 150, 20
        with rasterio.open(
            folder / f"{stem}-QL_QUALITY-2{suffix}", "w", driver="GTiff", count=10, height=size[0], width=size[1],
            dtype="int16", **place,
        ) as out:  # fmt: skip
            out.write(flags)
    if xml:
        bands = "".join(
            f"<band><bandNumber>{i + 1}</bandNumber><wavelengthCenterOfBand>{c}</wavelengthCenterOfBand>"
            f"<wavelengthWidthOfBand>{w}</wavelengthWidthOfBand><gainOfBand>{g}</gainOfBand><offsetOfBand>{o}</offsetOfBand>"
            "<wavelengths>1,2,3</wavelengths><response>0.1,1,0.1</response></band>"
            for i, (c, w, g, o) in enumerate(table())
        )
        # <band> stands under the interior orientation too.
        (folder / f"{stem}-METADATA.xml").write_text(
            f'<?xml version="1.0" encoding="UTF-8"?><hsi_doc xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
            "<base><temporalCoverage><startTime>2022-04-04T19:32:59.123456Z</startTime></temporalCoverage></base>"
            f"<specific><interiorOrientation><band><bandNumber>1</bandNumber></band></interiorOrientation>"
            f"<bandCharacterisation>{bands}</bandCharacterisation><sunZenithAngle>31.5</sunZenithAngle>"
            "<sunAzimuthAngle>140.5</sunAzimuthAngle><sceneAzimuthAngle>42.0</sceneAzimuthAngle>"
            "<sceneIncidenceAngle>-6.5</sceneIncidenceAngle><backgroundValue>-32768</backgroundValue></specific></hsi_doc>"
        )
    if header:
        lists = {
            "wavelength": [r[0] for r in table()], "fwhm": [r[1] for r in table()],
            "data gain values": [r[2] * gain_in_header for r in table()], "data offset values": [r[3] for r in table()],
        }  # fmt: skip
        text = "".join(f"{k} = {{\n {', '.join(map(str, v))}}}\n" for k, v in lists.items())
        (folder / f"{stem}-SPECTRAL_IMAGE.hdr").write_text(
            f"ENVI\nsamples = {size[1]}\nlines = {size[0]}\nbands = {BANDS}\ndata type = 2\ninterleave = bip\n"
            f"wavelength units = Nanometers\ndata ignore value = -32768\n{text}"
        )
    return values


def zip_product(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(folder.iterdir()):
            out.write(file, f"product/{file.name}")
    return archive
