"""Bad inputs of the sharpening networks and their training."""

from __future__ import annotations

import numpy as np
from table import Row

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, BadWeights, BandMismatch, MissingWeights, TooLarge, UnknownName


def _cube(bands: int = 3, rows: int = 8, cols: int = 8):
    values = np.random.default_rng(0).uniform(100, 900, (bands, rows, cols)).astype(np.float32)
    return ts.make_cube(values, wavelength=np.linspace(450, 900, bands) if bands > 1 else None)


def _sharpen(method: str, **more):
    return ts.sharpen(_cube(), _cube(1, 16, 16), method=method, check_shift=False, **more)


def _state(name: str, bands: int = 3):
    return dict(ts.create_model(name, bands=bands, features=4).state_dict())


ROWS = [
    Row(
        "network-missing-published",
        lambda tmp: _sharpen("hyper-dsnet", weights="hyper-dsnet.prisma"),
        MissingWeights,
        "CC BY-NC-SA",
    ),
    Row(
        "network-weights-of-another",
        lambda tmp: _sharpen("hspenet", weights="hyperpnn.indian-pines"),
        BadWeights,
        "expected weights of hspenet",
    ),
    Row("network-other-bands", lambda tmp: _sharpen("hspenet"), BandMismatch, "expect"),
    Row(
        "network-empty-state",
        lambda tmp: _sharpen("dhp-darn", state={"RRN.weight": 1.0}),
        MissingWeights,
        "needs trained weights",
    ),
    Row(
        "network-bands-of-state",
        lambda tmp: _sharpen("dip-hyperkite", state=_state("dip-hyperkite", 5)),
        BandMismatch,
        "for 5 bands",
    ),
    Row(
        "prior-unknown",
        lambda tmp: _sharpen("dhp-darn", state=_state("dhp-darn"), settings={"prior": "flat"}),
        BadSettings,
        "prior",
    ),
    Row(
        "prior-too-large",
        lambda tmp: _sharpen("dhp-darn", state=_state("dhp-darn"), max_memory="200kB"),
        TooLarge,
        "max_memory",
    ),
    Row("pca-z-pnn-too-small", lambda tmp: _sharpen("pca-z-pnn"), BadInput, "larger scene"),
    Row("pca-z-pnn-weights", lambda tmp: _sharpen("pca-z-pnn", weights="x"), BadSettings, "learns from the scene"),
    Row(
        "train-zero-shot",
        lambda tmp: ts.train("sharpen", "pca-z-pnn", _cube(), out=tmp / "run"),
        UnknownName,
        "no training",
    ),
]
