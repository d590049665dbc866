"""Bad inputs of guided fusion and of pairs that do not lie over each other."""

from __future__ import annotations

import numpy as np
from affine import Affine
from table import Row

import torchspectral as ts
from torchspectral.cube import make_spectra
from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch, MissingMetadata, UnknownName
from torchspectral.geo import place


def _cube(bands: int = 3, side: int = 12, *, pixel: float = 0.0, west: float = 4e5, crs: int = 32633):
    values = np.random.default_rng(0).uniform(100, 900, (bands, side, side)).astype(np.float32)
    cube = ts.make_cube(values, wavelength=np.linspace(450, 900, bands) if bands > 1 else None)
    return place(cube, Affine(pixel, 0, west, 0, -pixel, 5e6), crs) if pixel else cube


def _responses(count: int):
    return make_spectra(
        np.ones((count, 5), np.float32), [str(k) for k in range(count)], wavelength=np.arange(5) * 100 + 450
    )


def _files(folder):
    ts.save(_cube(3, pixel=30), folder / "hs.tif")
    ts.save(_cube(4, 36, pixel=10, west=5e5), folder / "far.tif")
    ts.save(_cube(1, 36, pixel=10), folder / "pan.tif")
    return folder


ROWS = [
    Row("guides-not-finer", lambda tmp: ts.sharpen(_cube(), guides=_cube(4)), GridMismatch, "no guide is finer"),
    Row("guides-coarser", lambda tmp: ts.sharpen(_cube(), guides=_cube(4, 6)), GridMismatch, "no guide is finer"),
    Row("guides-ratio", lambda tmp: ts.sharpen(_cube(), guides=_cube(4, 30)), GridMismatch, "whole number of times"),
    Row("guides-none", lambda tmp: ts.sharpen(_cube(), guides=[]), BadInput, "no guide"),
    Row("guided-alone", lambda tmp: ts.sharpen(_cube(), method="guided"), BadInput, "no guide"),
    Row("guides-empty", lambda tmp: ts.sharpen(_cube() * np.nan, guides=_cube(4, 24)), BadInput, "valid|nodata|no "),
    Row("guides-for-gsa", lambda tmp: ts.sharpen(_cube(), guides=_cube(4, 24), method="gsa"), BadSettings, "one PAN"),
    Row(
        "guides-off-grid",
        lambda tmp: ts.sharpen(_cube(3, pixel=30), guides=_cube(4, 50, pixel=10, west=4e5 - 44)),
        GridMismatch,
        "between the cube's",
    ),
    Row(
        "guides-far",
        lambda tmp: ts.sharpen(_cube(3, pixel=30), guides=_cube(4, 36, pixel=10, west=5e5)),
        GridMismatch,
        "guide and the cube do not overlap",
    ),
    Row(
        "guides-elsewhere",
        lambda tmp: ts.sharpen(_cube(3, pixel=30), _cube(1, 36, pixel=10, west=5e5)),
        GridMismatch,
        "do not overlap",
    ),
    Row(
        "responses-count",
        lambda tmp: ts.sharpen(_cube(), guides=_cube(4, 24), responses=_responses(3)),
        BandMismatch,
        "3 responses for 4",
    ),
    Row(
        "responses-array",
        lambda tmp: ts.sharpen(_cube(), guides=_cube(4, 24), responses=np.ones((4, 3))),
        BadSettings,
        "responses",
    ),
    Row(
        "responses-without-wavelengths",
        lambda tmp: ts.sharpen(_cube(1), guides=_cube(4, 24), responses=_responses(4)),
        MissingMetadata,
        "wavelengths",
    ),
    Row(
        "guided-setting",
        lambda tmp: ts.sharpen(_cube(), guides=_cube(4, 24), settings={"ridge": -1}),
        BadSettings,
        "ridge",
    ),
    Row(
        "guided-setting-name",
        lambda tmp: ts.sharpen(_cube(), guides=_cube(4, 24), settings={"rigde": 1}),
        BadSettings,
        "did you mean ridge",
    ),
    Row(
        "simulated-guides-band",
        lambda tmp: _simulated(bands=("B99",)),
        UnknownName,
        "no band 'B99'",
    ),
    Row(
        "pan-and-guide",
        lambda tmp: ts.sharpen(ts.open(tmp / "hs.tif"), guides=ts.open(tmp / "far.tif"), method="gsa"),
        BadSettings,
        "one PAN",
        prepare=_files,
    ),
    Row(
        "pan-file-elsewhere",
        lambda tmp: ts.sharpen(ts.open(tmp / "hs.tif"), ts.open(tmp / "far.tif").isel(band=[0])),
        GridMismatch,
        "do not overlap",
        prepare=_files,
    ),
]


def _simulated(**more):
    from torchspectral.sharpening.guided.simulation import simulate_guides

    wave = np.linspace(430, 900, 40)
    values = np.ones((40, 8, 8), np.float32)
    return simulate_guides(ts.make_cube(values, wavelength=wave, fwhm=np.full(40, 12.0)), **more)
