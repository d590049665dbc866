"""Bad scenes, labels and weights of classification."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from table import Row

import torchspectral as ts
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BadWeights,
    BandMismatch,
    GridMismatch,
    MissingMetadata,
    UnknownName,
    UnsafeInput,
)
from torchspectral.geo import place

BANDS, SIDE = 80, 32
SMALL = {"dim": 24, "depth": 1, "heads": 3}
WAVES = np.linspace(420, 2400, BANDS)


def _scene(bands: int = BANDS, *, waves: bool = True, fill: float | None = None, quantity: str = "reflectance") -> Any:
    values = 0.2 + 0.1 * np.random.default_rng(0).random((bands, SIDE, SIDE), dtype=np.float32)
    if fill is not None:
        values[:] = fill
    wavelength = np.linspace(420, 2400, bands) if waves else None
    cube = ts.make_cube(values, wavelength=wavelength, quantity=quantity)
    return place(cube, Affine(30, 0, 600000, 0, -30, 5000000), "EPSG:32633")


def _marks(high: int = 2) -> np.ndarray:
    return np.where(np.arange(SIDE)[:, None] < SIDE // 2, 1, high) * np.ones((1, SIDE), dtype=np.int64)


def _labels(marks: Any) -> xr.DataArray:
    return ts.make_layers(np.asarray(marks)[None], ["labels"])


def _data(cube: Any = None, marks: Any = None) -> xr.Dataset:
    cube = _scene() if cube is None else cube
    return xr.Dataset({"cube": cube, "labels": (("y", "x"), _marks() if marks is None else marks)})


def _tune(data: Any, tmp: Path, **more: Any) -> Any:
    settings = {"backbone": "spec-vit-t", "initial": "random", "arguments": SMALL, "patch": 16, "steps": 1, **more}
    return ts.train("classify", "backbone", data, out=tmp / "run", device="cpu", settings=settings)


def _learn(cube: Any, marks: Any = None, method: str = "pca-lda") -> Any:
    return ts.classify(cube, labels=_labels(_marks() if marks is None else marks), method=method)


@lru_cache
def _network() -> Any:
    classes = {"class_names": ["a", "b"], "class_numbers": [1, 2], "class_colors": [[9, 9, 9], [99, 9, 9]]}
    constructor = {
        "backbone": "spec-vit-t",
        "arguments": {**SMALL, "image_size": 16},
        "bands": BANDS,
        "patch": 16,
        **classes,
    }
    return constructor, ts.create_model("backbone-classifier", **constructor).state_dict()


def _weights(tmp: Path, drop: str = "", **changes: Any) -> Path:
    constructor, state = _network()
    card = ts.weights.WeightsCard(
        name="backbone-classifier.bad", model="backbone-classifier", constructor={**constructor, **changes},
        wavelengths=WAVES.tolist(), quantity="reflectance", values=(0.0, 1.0),
        scale={"rule": "fixed", "gain": 1.0, "offset": 0.0},
    )  # fmt: skip
    return ts.weights.save(tmp / "tuned.safetensors", {k: v for k, v in state.items() if k != drop}, card)


class _Code:
    def __reduce__(self):
        return (print, ("ran",))


def _pickled(tmp: Path) -> Path:
    import torch

    torch.save({"w": _Code()}, tmp / "code.pth")
    return tmp / "code.pth"


def _vectors(column: dict[str, list[Any]], west: float = 600000.0, crs: str | None = "EPSG:32633") -> Any:
    """A scene with two polygons beside it."""

    def prepare(tmp: Path) -> Path:
        import geopandas
        from shapely.geometry import box

        ts.save(_scene(), tmp / "scene.tif")
        north = 5000000.0
        shapes = [box(west, north - 960, west + 480, north), box(west + 480, north - 960, west + 960, north)]
        geopandas.GeoDataFrame(column, geometry=shapes, crs=crs).to_file(tmp / "fields.gpkg")
        return tmp / "fields.gpkg"

    return prepare


def _from(path: Path, **more: Any) -> Any:
    settings = {"labels": [str(path)], **more}
    return _tune(path.parent / "scene.tif", path.parent, **settings)


def _command(*more: str) -> Any:
    def words(path: Path) -> list[str]:
        scene, out = path.parent / "scene.tif", path.parent / "map.tif"
        return ["classify", str(scene), "--labels", str(path), "--method", "pca-lda", *more, "-o", str(out)]

    return words


def _beside(make: Any) -> Any:
    def prepare(tmp: Path) -> Path:
        ts.save(_scene(79), tmp / "scene.tif")
        return make(tmp)

    return prepare


def _by_weights(path: Path) -> list[str]:
    return ["classify", str(path.parent / "scene.tif"), "--weights", str(path), "-o", str(path.parent / "map.tif")]


ROWS = [
    Row("classify-band-count", lambda w: ts.classify(_scene(79), weights=w), BandMismatch, "79 bands",
        cli=_by_weights, prepare=_beside(_weights)),
    Row("classify-no-wavelengths", lambda w: ts.classify(_scene(waves=False), weights=w), MissingMetadata, "wavelength",
        prepare=_weights),
    Row("classify-other-quantity", lambda w: ts.classify(_scene(quantity="radiance"), weights=w), BadInput,
        "radiance", prepare=_weights),
    Row("classify-other-scale", lambda w: ts.classify(_scene() * 10000, weights=w), BadInput, "another scale",
        prepare=_weights),
    Row("classify-cut-checkpoint", lambda w: ts.classify(_scene(), weights=w), BadWeights, "mean",
        prepare=lambda tmp: _weights(tmp, drop="mean")),
    Row("classify-other-checkpoint", lambda w: ts.classify(_scene(), weights=w), BadWeights, "shape|keys|match",
        prepare=lambda tmp: _weights(tmp, arguments={**SMALL, "dim": 48, "image_size": 16})),
    Row("classify-pickle", lambda w: ts.classify(_scene(79), weights=w), UnsafeInput, "weights convert",
        cli=_by_weights, prepare=_beside(_pickled)),
    Row("classify-later-not-asked", lambda w: ts.classify(_scene(), weights=w, later=_scene()), BadInput, "leave it out",
        prepare=_weights),
    Row("classify-labels-shape", lambda tmp: _learn(_scene(), np.ones((9, 9), int)), GridMismatch, "9 x 9|9 pixels|grid"),
    Row("classify-labels-fractions", lambda tmp: _learn(_scene(), _marks() / 3), BadInput, "fractions"),
    Row("classify-labels-negative", lambda tmp: _learn(_scene(), -_marks()), BadInput, "labelled pixel|from 1"),
    Row("classify-labels-range", lambda tmp: _learn(_scene(), _marks(999)), BadInput, "out of range"),
    Row("classify-labels-empty", lambda tmp: _learn(_scene(), 0 * _marks()), BadInput, "no labelled pixel"),
    Row("classify-one-class", lambda tmp: _learn(_scene(), _marks(1)), BadInput, "at least two classes"),
    Row("classify-all-nodata", lambda tmp: _learn(_scene(fill=np.nan)), BadInput, "labelled pixel"),
    Row("tune-few-bands", lambda tmp: _tune(_data(_scene(60)), tmp), BandMismatch, "at least 75"),
    Row("tune-no-wavelengths", lambda tmp: _tune(_data(_scene(9, waves=False)), tmp, backbone="less-vit-s",
        arguments={"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}), MissingMetadata, "wavelengths"),
    Row("tune-other-band-list", lambda tmp: _tune(_data(), tmp, backbone="enmap-vit-t", arguments={}), BandMismatch, "202"),
    Row("tune-other-model", lambda w: _tune(_data(), w.parent, initial=str(w)), BadWeights, "backbone-classifier",
        prepare=_weights),
    Row("tune-pickle", lambda w: _tune(_data(), w.parent, initial=str(w)), UnsafeInput, "weights convert",
        prepare=_pickled),
    Row("tune-labels-range", lambda tmp: _tune(_data(marks=_marks(999)), tmp), BadInput, "out of range"),
    Row("tune-labels-negative", lambda tmp: _tune(_data(marks=-_marks()), tmp), BadInput, "from 1"),
    Row("tune-one-class", lambda tmp: _tune(_data(marks=_marks(1)), tmp), BadInput, "two classes"),
    Row("tune-all-nodata", lambda tmp: _tune(_data(_scene(fill=np.nan)), tmp), BadInput, "every labelled pixel is nodata"),
    Row("tune-adapter", lambda tmp: _tune(_data(), tmp, backbone="intl-resnet18", arguments={}, tuning="adapter"),
        BadSettings, "no spectral adapter"),
    Row("tune-unknown", lambda tmp: _tune(_data(), tmp, backbone="spec-vit"), UnknownName, "spec-vit"),
    Row("labels-elsewhere", lambda path: _from(path), GridMismatch, "covers a pixel of the cube", cli=_command(),
        prepare=_vectors({"crop": ["corn", "hay"]}, west=900000.0)),
    Row("labels-without-crs", lambda path: _from(path), MissingMetadata, "CRS", cli=_command(),
        prepare=_vectors({"crop": ["corn", "hay"]}, crs=None)),
    Row("labels-without-class", lambda path: _from(path), BadInput, "has no column of classes", cli=_command(),
        prepare=_vectors({})),
    Row("labels-classes-missing", lambda path: _from(path), BadInput, "missing|no class", cli=_command(),
        prepare=_vectors({"crop": [None, None]})),
    Row("labels-field", lambda path: _from(path, field="kind"), UnknownName, "kind", cli=_command("--field", "kind"),
        prepare=_vectors({"crop": ["corn", "hay"]})),
    Row("labels-one-class", lambda path: _from(path), BadInput, "two classes", cli=_command(),
        prepare=_vectors({"crop": ["corn", "corn"]})),
]  # fmt: skip
