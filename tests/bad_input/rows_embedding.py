"""Bad inputs of embedding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from table import Row

import torchspectral as ts
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BadWeights,
    BandMismatch,
    MissingMetadata,
    MissingWeights,
    ProductNotFound,
    UnknownName,
    UnsafeInput,
)

SMALL = {"dim": 24, "depth": 1, "heads": 3, "image_size": 16}
BANDS = 80


def _scene(bands: int = BANDS, *, waves: bool = True) -> Any:
    wavelength = np.linspace(420, 2400, bands) if waves else None
    return ts.make_cube(np.full((bands, 16, 16), 0.2, np.float32), wavelength=wavelength, quantity="reflectance")


def _weights(folder: Path, **more: Any) -> Path:
    from torchspectral.weights.card import WeightsCard
    from torchspectral.weights.files import save

    card = {
        "name": "spec-vit-t.bad",
        "model": "spec-vit-t",
        "constructor": SMALL,
        "wavelengths": np.linspace(420, 2400, BANDS).tolist(),
        "mean": [0.2] * BANDS,
        "std": [0.1] * BANDS,
        **more,
    }
    return save(folder / "vit.safetensors", ts.create_model("spec-vit-t", **SMALL).state_dict(), WeightsCard(**card))


class _Code:
    def __reduce__(self):
        return (print, ("ran",))


def _pickled(folder: Path) -> Path:
    import torch

    torch.save({"w": _Code()}, folder / "code.pth")
    return folder / "code.pth"


def _another(folder: Path) -> Path:
    import torch

    torch.save({"state_dict": {f"layer{n}.weight": torch.zeros(2, 2) for n in range(30)}}, folder / "other.pth")
    return folder / "other.pth"


def _embed(cube: Any, weights: Any = None, backbone: str | None = None, **more: Any) -> Any:
    options = {k: more.pop(k) for k in ("tile", "resample") if k in more}
    return ts.embed(cube, backbone=backbone, weights=weights, settings=more, **options)


def _beside_scene(make: Any) -> Any:
    """The weights that `make` writes, with a scene of 100 bands beside them."""

    def prepare(folder: Path) -> Path:
        ts.save(_scene(100), folder / "scene.tif")
        return make(folder)

    return prepare


def _words(weights: Path, *more: str) -> list[str]:
    folder = weights.parent
    return ["embed", str(folder / "scene.tif"), "--weights", str(weights), "-o", str(folder / "emb.tif"), *more]


ROWS = [
    Row(
        "embed-band-count",
        lambda w: _embed(_scene(100), w),
        BandMismatch,
        "100 bands",
        cli=_words,
        prepare=_beside_scene(_weights),
    ),
    Row("embed-few-bands", lambda w: _embed(_scene(60), w, own_bands=True), BandMismatch, "75", prepare=_weights),
    Row("embed-no-wavelengths", lambda w: _embed(_scene(waves=False), w), MissingMetadata, "wavelength", prepare=_weights),
    Row(
        "embed-no-wavelengths-continuous",
        lambda tmp: _embed(_scene(9, waves=False), backbone="less-vit-s", initial="random", window=16),
        MissingMetadata,
        "wavelengths",
    ),
    Row(
        "embed-uncovered",
        lambda w: _embed(_scene(90).sel(band=slice(0, 60)), w, resample=True),
        BandMismatch,
        "uncovered",
        prepare=_weights,
    ),
    Row("embed-nodata", lambda w: _embed(_scene() * np.nan, w), BadInput, "no valid|nodata|without", prepare=_weights),
    Row("embed-other-model", lambda w: _embed(_scene(), w, "spec-vit-s"), BadWeights, "spec-vit-t", prepare=_weights),
    Row("embed-other-keys", lambda w: _embed(_scene(), w, "spec-vit-t"), BadWeights, "0% of the keys", prepare=_another),
    Row(
        "embed-pickle",
        lambda w: _embed(_scene(), w, "spec-vit-t"),
        UnsafeInput,
        "weights convert",
        cli=lambda w: _words(w, "--backbone", "spec-vit-t"),
        prepare=_beside_scene(_pickled),
    ),
    Row("embed-no-name", lambda w: _embed(_scene(), w), BadSettings, "--backbone", prepare=_another),
    Row("embed-no-weights", lambda tmp: _embed(_scene(), None, "spec-vit-h"), MissingWeights, "initial=random"),
    Row("embed-nothing", lambda tmp: _embed(_scene()), BadSettings, "--backbone"),
    Row("embed-missing-file", lambda tmp: _embed(_scene(), tmp / "no.pth"), ProductNotFound, "no such weights"),
    Row("embed-unknown-backbone", lambda tmp: _embed(_scene(), None, "spec-vit-xl"), UnknownName, "spec-vit-l"),
    Row("embed-statistics", lambda w: _embed(_scene(), w), MissingMetadata, "statistics=scene",
        prepare=lambda tmp: _weights(tmp, mean=None, std=None)),
    Row("embed-window", lambda w: _embed(_scene(), w, window=18), BadSettings, "18", prepare=_weights),
    Row("embed-stride", lambda w: _embed(_scene(), w, stride=6), BadSettings, "stride=6", prepare=_weights),
    Row("embed-tile", lambda w: _embed(_scene(), w, tile=(8, 8)), BadSettings, "window=", prepare=_weights),
    Row("embed-step", lambda w: _embed(_scene(), w, step=2), BadSettings, "encoder decides", prepare=_weights),
    Row(
        "embed-both",
        lambda w: _embed(_scene(), w, initial="random"),
        BadSettings,
        "weights and initial=random",
        prepare=_weights,
    ),
]  # fmt: skip
