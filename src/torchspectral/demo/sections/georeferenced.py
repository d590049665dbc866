"""A georeferenced scene: open, resample to Sentinel-2, mask, write a COG with everything kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.demo.runner import Context, Part

ORDER = 40
TILES = ("128_96", "128_128", "160_96", "160_128")


def run(context: Context) -> Part:
    """Convert the scene twice, as it is and as Sentinel-2 sees it, and read both back with GDAL alone."""
    import torchspectral as ts
    from torchspectral.report.figures import rgb_panels

    source, told = _scene(context)
    cube = ts.open(source)
    mask = context.folder / "mask.tif"
    ts.save(_land(cube), mask, overwrite=True)
    kept = ts.convert(source, context.folder / "scene.tif", overwrite=True)
    small = ts.convert(
        source, context.folder / "sentinel2.tif", resample="sentinel-2a", mask=mask, dtype="int16", overwrite=True
    )
    rows = [_facts(Path(r.paths["cube"]), r.report, n) for n, r in enumerate((kept, small), start=1)]
    again = ts.open(context.folder / "scene.tif")
    same = bool(np.array_equal(again.values, cube.values, equal_nan=True))
    same &= all(np.array_equal(again[c].values, cube[c].values) for c in ("wavelength", "fwhm", "good"))
    context.say(f"   read back: values and band coordinates {'equal' if same else 'DIFFER'}")
    masked = ts.open(context.folder / "sentinel2.tif")
    return Part(
        title="A georeferenced scene",
        text=(
            f"{told} Written as a cloud-optimised GeoTIFF as it is, and resampled to the bands of Sentinel-2A with water "
            "masked and scaled integers. The table is what plain GDAL reads in the files; read back by torchspectral, "
            f"values, wavelengths, widths and good bands of the first are {'equal' if same else 'NOT equal'} to the source."
        ),
        figures=[
            ("natural colours", rgb_panels([("source", cube), ("as Sentinel-2, water masked", masked)], columns=2))
        ],
        tables=[("What GDAL reads", rows)],
        reports=[kept.report, small.report],
        files=sorted(p for p in context.folder.iterdir() if p.is_file()),
    )


def _scene(context: Context) -> tuple[Path, str]:
    """Four EnMAP tiles as one mosaic where the samples are at hand, else a generated scene."""
    import torchspectral as ts
    from torchspectral.geo import mosaic

    target = context.folder / "source.tif"
    folder = context.samples / "enmap" / "images" if context.samples else Path()
    tiles = [folder / f"enmap_potsdam_tile_{name}.tif" for name in TILES]
    if all(tile.is_file() for tile in tiles):
        made = mosaic([ts.open(tile) for tile in tiles])
        told = "EnMAP L2A, Potsdam, 24 July 2022 (data: DLR), four tiles as one mosaic."
    else:
        made = _generated(context.seed)
        told = "No real georeferenced sample lies beside this checkout: a generated scene with CRS stands in."
    ts.save(made, target, overwrite=True)
    return target, told


def _generated(seed: int) -> xr.DataArray:
    """Smooth mixtures of four made-up spectra over 224 bands, on a UTM grid."""
    from affine import Affine

    import torchspectral as ts
    from torchspectral.geo import place

    rng = np.random.default_rng(seed)
    wave = np.linspace(420, 2450, 224)
    bumps = [np.exp(-(((wave - c) / w) ** 2)) for c, w in ((550, 60), (900, 250), (1650, 200), (2200, 150))]
    spectra = 0.05 + np.stack([sum(rng.random() * b for b in bumps) for _ in range(4)]) * 0.3
    spectra[0] = 0.04 * np.exp(-(wave - 420) / 300)
    rows, cols = np.mgrid[0:96, 0:112] / 16.0
    weights = np.stack([np.sin(rows * (k + 1) * 0.7 + k) + np.cos(cols * (k + 1) * 0.5) for k in range(4)])
    weights = np.exp(2 * weights) / np.exp(2 * weights).sum(0)
    values = np.einsum("kb,kyx->byx", spectra, weights) + rng.normal(0, 0.002, (224, 96, 112))
    good = ~((wave > 1350) & (wave < 1430))
    cube = ts.make_cube(
        values.astype(np.float32), wavelength=wave, fwhm=np.full(224, 9.0), good=good, quantity="reflectance"
    )
    return place(cube, Affine(30, 0, 362175, 0, -30, 5809965), 32633)


def _land(cube: xr.DataArray) -> xr.DataArray:
    """Layer that is 1 where the NDWI says land, 0 (masked) where it says water."""
    from torchspectral.cube import make_layers

    land = (cube.hsi.index("NDWI").values <= 0.1).astype(np.uint8).reshape(1, *cube.shape[-2:])
    return make_layers(land, ["clear"], like=cube, attrs={"class_names": ["water", "land"]}, name="mask")


def _facts(path: Path, report: Any, run: int) -> dict[str, Any]:
    import rasterio

    with rasterio.open(path) as file:
        tags = file.tags(1)
        return {
            "file": path.name,
            "bands": file.count,
            "type": file.dtypes[0],
            "CRS": file.crs.to_string() if file.crs else "none",
            "origin": f"{file.transform.c:.0f}, {file.transform.f:.0f}",
            "nodata": str(file.nodata),
            "scale": file.scales[0],
            "block": "x".join(map(str, file.block_shapes[0])),
            "overviews": len(file.overviews(1)),
            "first band": f"{tags.get('wavelength', '?')} {tags.get('wavelength_units', '')}",
            "run": run,
        }
