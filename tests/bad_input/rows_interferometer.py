"""Bad inputs of interferometers: acquisitions, device files, interferograms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from table import Row

import torchspectral as ts
from torchspectral.calibration import interferometer as fp
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BandMismatch,
    BrokenProduct,
    ProductNotFound,
    UnknownName,
    UnsafeInput,
)


def device(count: int = 12) -> fp.Characterization:
    """A small instrument."""
    opd = np.arange(count)[:, None] * 0.3
    flat = np.ones((count, 1))
    return fp.Characterization(opd, flat, 0.3 * flat, 0 * flat, wavenumber=np.linspace(1.0, 2.0, 20))


def image(count: int = 12, value: float | None = None) -> Any:
    values = np.random.default_rng(0).random((count, 4, 3)) if value is None else np.full((count, 4, 3), value)
    return ts.make_cube(values.astype(np.float32))


def files(tmp: Path) -> Path:
    """An acquisition with too few lines, one that is a pickle, a device and an interferogram."""
    for name, data in (("few", np.ones((3, 8))), ("pickle", np.array([None, 1], dtype=object))):
        folder = tmp / name
        folder.mkdir()
        np.save(folder / "data.npy", data, allow_pickle=True)
        np.save(folder / "central_wavenumbers.npy", np.linspace(1, 2, 8))
    device().save(tmp / "device.json")
    ts.save(image(9), tmp / "y.tif")
    (tmp / "broken.json").write_text(json.dumps({"format": "torchspectral interferometer", "version": 1}))
    return tmp


ROWS = [
    Row(
        "few-lines",
        lambda tmp: fp.calibrate_folder(tmp / "few", tmp / "out.json"),
        BadSettings,
        "8 wavenumbers for 14 unknowns",
        cli=lambda tmp: ["calibrate", "interferometer", tmp / "few", "-o", tmp / "out.json"],
        prepare=files,
    ),
    Row(
        "pickled",
        lambda tmp: fp.calibrate_folder(tmp / "pickle", tmp / "out.json"),
        UnsafeInput,
        "pickled objects",
        cli=lambda tmp: ["calibrate", "interferometer", tmp / "pickle", "-o", tmp / "out.json"],
        prepare=files,
    ),
    Row(
        "no-acquisition",
        lambda tmp: fp.read_acquisition(tmp),
        ProductNotFound,
        r"no data\.npy",
        cli=lambda tmp: ["calibrate", "interferometer", tmp, "-o", tmp / "out.json"],
    ),
    Row(
        "recipe-unknown",
        lambda tmp: fp.characterise(np.ones((2, 40)), np.linspace(1, 2, 40), recipe="imagaz"),
        UnknownName,
        "imagaz_1",
    ),
    Row("no-wavenumbers", lambda tmp: fp.characterise(np.ones((2, 40))), BadInput, "without wavenumbers"),
    Row(
        "bounds",
        lambda tmp: fp.characterise(np.ones((2, 40)), np.linspace(1, 2, 40), reflectivity_bounds=(0.5, 0.1)),
        BadSettings,
        "reflectivity bounds 0.5 and 0.1",
    ),
    Row(
        "solver",
        lambda tmp: fp.characterise(np.ones((2, 40)), np.linspace(1, 2, 40), solver="newton"),  # type: ignore[arg-type]
        BadSettings,
        "solver 'newton'",
    ),
    Row(
        "device-broken",
        lambda tmp: ts.reconstruct(image(), tmp / "broken.json"),
        BrokenProduct,
        "no whole device file",
        cli=lambda tmp: ["reconstruct", tmp / "y.tif", "--device", tmp / "broken.json", "-o", tmp / "x.tif"],
        prepare=files,
    ),
    Row(
        "bands",
        lambda tmp: ts.reconstruct(ts.open(tmp / "y.tif"), tmp / "device.json", out=tmp / "x.tif"),
        BandMismatch,
        "9 bands for a device of 12",
        cli=lambda tmp: ["reconstruct", tmp / "y.tif", "--device", tmp / "device.json", "-o", tmp / "x.tif"],
        prepare=files,
    ),
    Row(
        "wavelengths",
        lambda tmp: ts.reconstruct(image(), device(), wavelength=[300.0, 400.0]),
        BadInput,
        "characterised from 500 to 1000 nm",
    ),
    Row("all-zero", lambda tmp: ts.reconstruct(image(value=0.0), device()), BadInput, "all interferograms are zero"),
    Row("all-nodata", lambda tmp: ts.reconstruct(image(value=np.nan), device()), BadInput, "no pixel|no valid|nodata"),
    Row("response", lambda tmp: ts.reconstruct(image(), device(), response="raw"), BadSettings, "response='raw'"),  # type: ignore[arg-type]
    Row("method", lambda tmp: ts.reconstruct(image(), device(), method="rigde"), UnknownName, "did you mean ridge"),
]
