"""Bad inputs of super-resolution."""

from __future__ import annotations

import numpy as np
from table import Row

import torchspectral as ts
from torchspectral.errors import (
    BadCube,
    BadInput,
    BadSettings,
    BandMismatch,
    MissingWeights,
    ProductNotFound,
    UnknownName,
)
from torchspectral.superresolution import chikusei_parts, degrade, mix_spectra, mixing_matrix


def _cube(bands: int = 3, rows: int = 8, cols: int = 8):
    values = np.random.default_rng(0).uniform(0.1, 0.9, (bands, rows, cols)).astype(np.float32)
    return ts.make_cube(values, wavelength=np.linspace(450, 900, bands) if bands > 1 else None)


def _superres(**given):
    return lambda tmp: ts.superres(_cube(), **given)


ROWS = [
    Row("superres-array", lambda tmp: ts.superres(np.ones((3, 8, 8))), BadCube, "ndarray"),
    Row("superres-method", _superres(method="esaformer"), UnknownName, "did you mean essaformer"),
    Row("superres-scale", _superres(scale=1), BadSettings, "scale"),
    Row("superres-two-scales", _superres(scale=2, settings={"scale": 4}), BadSettings, "one of them"),
    Row("superres-kernel", _superres(settings={"kernel": "sinc"}), BadSettings, "kernel"),
    Row("superres-components", _superres(settings={"components": 9}), BadSettings, "9 for 3 bands"),
    Row("superres-few-bands", _superres(method="essaformer"), BandMismatch, "16 bands and the scene has 3"),
    Row("superres-other-bands", _superres(method="spectral-mixup"), BandMismatch, "31"),
    Row("superres-weights-and-state", _superres(weights="x", state={}), BadSettings, "one of them"),
    Row("superres-no-file", _superres(method="essaformer", weights="no/such.pth"), ProductNotFound, "no/such"),
    Row("superres-state", _superres(method="essaformer", state={"a": 1}), MissingWeights, "trained weights"),
    Row("superres-tile", _superres(method="essaformer", state={}, settings={"attention": "tile", "overlap": 64}),
        BadSettings, "larger tiles"),
    Row("superres-nodata", lambda tmp: ts.superres(_cube() * np.nan), BadInput, "nodata|valid"),
    Row("degrade-small", lambda tmp: degrade(_cube(), 16), BadCube, "at least 16"),
    Row("chikusei-small", lambda tmp: chikusei_parts(_cube()), BadCube, "2517"),
    Row("mixing-bands", lambda tmp: mix_spectra(_cube().values, mixing_matrix(4)), BadSettings, "for 3 bands"),
    Row("mixing-none", lambda tmp: mixing_matrix(0), BadSettings, "at least 1"),
]  # fmt: skip
