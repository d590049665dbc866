"""Bad inputs of sharpening, its protocol and the metrics."""

from __future__ import annotations

import numpy as np
from table import Row

import torchspectral as ts
from torchspectral.errors import (
    BadCube,
    BadInput,
    BadSettings,
    BandMismatch,
    GridMismatch,
    MissingMetadata,
    MissingWeights,
    OutputExists,
    UnknownName,
)


def _cube(bands: int = 3, rows: int = 8, cols: int = 8, **more):
    values = np.random.default_rng(0).uniform(100, 900, (bands, rows, cols)).astype(np.float32)
    return ts.make_cube(values, wavelength=np.linspace(450, 900, bands) if bands > 1 else None, **more)


def _empty():
    return _cube() * np.nan


def _raw():
    cube = _cube()
    cube.attrs["packing"] = {"scale": [1e-4], "offset": [0.0], "nodata": None}
    return cube


def _existing(folder):
    (folder / "pair").mkdir()
    (folder / "pair" / "pan.tif").write_bytes(b"x")
    return folder


def _written(folder):
    """A cube and a PAN of the same size, as plain GeoTIFFs."""
    import rasterio

    for name, bands in (("hs", 3), ("pan", 1)):
        options = {"driver": "GTiff", "width": 8, "height": 8, "count": bands, "dtype": "float32"}
        with rasterio.open(folder / f"{name}.tif", "w", **options) as file:
            file.write(_cube(bands).values)
    return folder


ROWS = [
    Row("no-pan", lambda tmp: ts.sharpen(_cube()), BadInput, "there is no PAN"),
    Row("pan-not-finer", lambda tmp: ts.sharpen(_cube(), _cube(1)), GridMismatch, "twice as fine"),
    Row("pan-coarser", lambda tmp: ts.sharpen(_cube(), _cube(1, 4, 4)), GridMismatch, "whole number of times"),
    Row("pan-other-ratio", lambda tmp: ts.sharpen(_cube(), _cube(1, 16, 24)), GridMismatch, "whole number of times"),
    Row(
        "pan-bands", lambda tmp: ts.sharpen(_cube(), _cube(4, 16, 16), method="gsa"), BandMismatch, "expected one band"
    ),
    Row("pan-empty", lambda tmp: ts.sharpen(_cube(), _cube(1, 16, 16) * np.nan), BadInput, "input pan are nodata"),
    Row("pan-array", lambda tmp: ts.sharpen(_cube(), np.ones((1, 16, 16))), BadCube, "ndarray as pan"),
    Row("hs-array", lambda tmp: ts.sharpen(np.ones((3, 8, 8)), _cube(1, 16, 16)), BadCube, "ndarray as cube"),
    Row("method", lambda tmp: ts.sharpen(_cube(), _cube(1, 16, 16), method="gsaa"), UnknownName, "did you mean gsa"),
    Row(
        "setting",
        lambda tmp: ts.sharpen(_cube(), _cube(1, 16, 16), settings={"gain": 1}),
        BadSettings,
        "unknown setting",
    ),
    Row(
        "setting-range",
        lambda tmp: ts.sharpen(_cube(), _cube(1, 16, 16), method="mtf-glp-fs", settings={"mtf_gain": 1.5}),
        BadSettings,
        "mtf_gain",
    ),
    Row("option", lambda tmp: ts.sharpen(_cube(), _cube(1, 16, 16), tyle=4), BadSettings, "unknown option"),
    Row("all-nodata", lambda tmp: ts.sharpen(_empty(), _cube(1, 16, 16)), BadInput, "valid|nodata|no "),
    Row(
        "no-weights",
        lambda tmp: ts.sharpen(_cube(), _cube(1, 16, 16), method="hyperpnn", weights="hyperpnn.prisma"),
        MissingWeights,
        "CC BY-NC-SA",
    ),
    Row(
        "weights-bands",
        lambda tmp: ts.sharpen(_cube(), _cube(1, 16, 16), method="hyperpnn"),
        BandMismatch,
        "expect 200",
    ),
    Row(
        "weights-for-none",
        lambda tmp: ts.sharpen(_cube(), _cube(1, 16, 16), weights="x"),
        BadSettings,
        "no weights",
    ),
    Row("wald-ratio", lambda tmp: ts.simulate_wald(_cube(), 1), BadSettings, "at least 2"),
    Row("wald-small", lambda tmp: ts.simulate_wald(_cube(), 9), GridMismatch, "at least 9 x 9"),
    Row("wald-wavelengths", lambda tmp: ts.simulate_wald(_cube(1), 2), MissingMetadata, "no wavelengths"),
    Row(
        "wald-range", lambda tmp: ts.simulate_wald(_cube(), 2, pan_low=2000.0, pan_high=2400.0), MissingMetadata, "2000"
    ),
    Row(
        "wald-setting", lambda tmp: ts.simulate_wald(_cube(), 2, rouding="round"), BadSettings, "did you mean rounding"
    ),
    Row("wald-raw", lambda tmp: ts.simulate_wald(_raw(), 2), BadCube, "raw=True"),
    Row("wald-seed", lambda tmp: ts.simulate_wald(_cube(), 2, seed=-1), BadSettings, "seed"),
    Row(
        "wald-exists",
        lambda tmp: ts.simulate_wald(_cube(), 2, out=tmp / "pair"),
        OutputExists,
        "pan.tif exists",
        prepare=_existing,
    ),
    Row("score-bands", lambda tmp: ts.score(_cube(), _cube(4)), BandMismatch, "3 bands to compare with 4"),
    Row(
        "score-grid", lambda tmp: ts.score(_cube(), _cube(3, 8, 9)), GridMismatch, "8 x 8 pixels to compare with 8 x 9"
    ),
    Row("score-metric", lambda tmp: ts.score(_cube(), _cube(), metrics=["psnrr"]), UnknownName, "did you mean psnr"),
    Row("score-crop", lambda tmp: ts.score(_cube(), _cube(), crop=4), BadSettings, "nothing would be left"),
    Row("score-empty", lambda tmp: ts.score(_empty(), _cube()), BadInput, "nothing to compare"),
    Row(
        "pan-file-not-finer",
        lambda tmp: ts.sharpen(ts.open(tmp / "hs.tif"), ts.open(tmp / "pan.tif")),
        GridMismatch,
        "twice as fine",
        cli=lambda tmp: ["sharpen", str(tmp / "hs.tif"), str(tmp / "pan.tif"), "-o", str(tmp / "out.tif")],
        prepare=_written,
    ),
]
