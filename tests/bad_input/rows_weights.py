"""Bad inputs of weights and training."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from table import Row, file_of

import torchspectral as ts
from torchspectral import weights
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BadWeights,
    BandMismatch,
    MissingMetadata,
    MissingWeights,
    OutputExists,
    ProductNotFound,
    UnknownName,
    UnsafeInput,
)


def _torch() -> Any:
    import torch

    return torch


class _Command:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch ran",)


def _save(content: Any, name: str = "w.pth") -> Any:
    def prepare(tmp: Path) -> Path:
        _torch().save(content(), tmp / name)
        return tmp / name

    return prepare


def _good(tmp: Path, **card: Any) -> Path:
    made = weights.WeightsCard(**{"name": "toy.test", **card})
    return weights.save(tmp / "good.safetensors", {"w": _torch().ones(3, 2)}, made)


def _changed(tmp: Path) -> Path:
    path = _good(tmp)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def _with_card(text: str) -> Any:
    def prepare(tmp: Path) -> Path:
        path = _good(tmp)
        (tmp / "good.yaml").write_text(text)
        return path

    return prepare


def _bomb(tmp: Path) -> Path:
    with zipfile.ZipFile(tmp / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 5_000_000)
    return tmp / "bomb.pt"


def _run(tmp: Path) -> Path:
    (tmp / "run").mkdir()
    (tmp / "run" / "run.yaml").write_text("{task: sharpen}")
    return tmp / "run"


def _cube(bands: int = 6, side: int = 24, wavelength: bool = True, quantity: str = "reflectance") -> Any:
    data = np.random.default_rng(0).uniform(0, 1, (bands, side, side)).astype(np.float32)
    return ts.make_cube(data, wavelength=np.linspace(450, 900, bands) if wavelength else None, quantity=quantity)


_CARD = weights.WeightsCard(name="toy.fit", wavelengths=[450.0, 600.0, 750.0], quantity="reflectance")


def _train(tmp: Path, **more: Any) -> Any:
    from torchspectral.learn.train import train

    given = {"task": "sharpen", "method": "hyperpnn", "data": _cube(), "out": tmp / "run", "device": "cpu", **more}
    return train(given.pop("task"), given.pop("method"), given.pop("data"), **given)


_SMALL = {"patch": 8, "batch": 2, "steps": 2, "cache": 0}

ROWS = [
    Row(
        "file-missing",
        lambda tmp: weights.load(tmp / "no.safetensors"),
        ProductNotFound,
        "no such weights file",
        cli=lambda tmp: ["weights", "inspect", str(tmp / "no.safetensors")],
    ),
    Row(
        "name-unknown",
        lambda tmp: weights.load("nosuchnet-xl.tag"),
        MissingWeights,
        "torchspectral weights add nosuchnet-xl.tag FILE",
        cli=lambda tmp: ["weights", "inspect", "nosuchnet-xl.tag"],
    ),
    Row("name-odd", lambda tmp: weights.find("Not A Name"), BadWeights, "expected family-size.tag"),
    Row("empty", weights.load, BadWeights, "no weights file", prepare=file_of("w.pth", b"")),
    Row(
        "text",
        weights.load,
        BadWeights,
        "no weights file, .*expected safetensors",
        prepare=file_of("w.pth", b"hello, world\n" * 9),
    ),
    Row(
        "safetensors-cut",
        weights.load,
        BadWeights,
        "safetensors file cannot be read",
        prepare=file_of("w.safetensors", b"\xff\0\0\0\0\0\0\0{" + b'"a":1'),
    ),
    Row(
        "zip-without-pickle",
        weights.load,
        BadWeights,
        "no weights file|archive",
        prepare=file_of("w.pt", b"PK\5\6" + b"\0" * 18),
    ),
    Row("zip-bomb", weights.load, UnsafeInput, "unpack to", prepare=_bomb),
    Row(
        "pickled-command",
        weights.load,
        UnsafeInput,
        "wants to run.*weights convert",
        prepare=_save(lambda: {"w": _torch().ones(1), "x": _Command()}),
        cli=lambda path: ["weights", "inspect", str(path)],
    ),
    Row(
        "convert-plain-pickle",
        lambda path: weights.convert(path, path.with_name("out.safetensors")),
        BadWeights,
        "no tensors",
        prepare=lambda tmp: file_of("w.pkl", pickle.dumps(_Command()))(tmp),
        cli=lambda path: ["weights", "convert", str(path), "-o", str(path.with_name("out.safetensors"))],
    ),
    Row(
        "convert-suffix",
        lambda path: weights.convert(path, path.with_name("out.pth")),
        BadWeights,
        "ends in .safetensors",
        prepare=_save(lambda: {"w": _torch().ones(1)}),
    ),
    Row(
        "convert-exists",
        lambda path: weights.convert(path, path),
        OutputExists,
        "exists",
        prepare=_good,
    ),
    Row("no-tensors", weights.load, BadWeights, "without tensors", prepare=_save(lambda: {"epoch": 3})),
    Row(
        "several-networks",
        weights.load,
        BadWeights,
        "choose one part",
        prepare=_save(lambda: {"a": {"w": _torch().ones(1)}, "b": {"w": _torch().ones(1)}}),
    ),
    Row(
        "stride-bomb", weights.load, UnsafeInput, "claim", prepare=_save(lambda: {"w": _torch().ones(1).expand(10**9)})
    ),
    Row("checksum", weights.load, BadWeights, "checksum", prepare=_changed),
    Row(
        "keys",
        lambda p: weights.load(p, expect={"v": (3, 2)}),
        BadWeights,
        r"1 absent \(v\); 1 in excess \(w\)",
        prepare=_good,
    ),
    Row(
        "shape",
        lambda p: weights.load(p, expect={"w": (2, 3)}),
        BadWeights,
        r"w is \(3, 2\), expected \(2, 3\)",
        prepare=_good,
    ),
    Row("card-not-yaml", weights.load, BadWeights, "not YAML", prepare=_with_card("name: [")),
    Row("card-field", weights.load, BadWeights, "field colour", prepare=_with_card("name: a.b\ncolour: red")),
    Row("card-quantity", weights.load, BadWeights, "quantity", prepare=_with_card("name: a.b\nquantity: furlongs")),
    Row(
        "card-python", weights.load, BadWeights, "not YAML", prepare=_with_card("!!python/object/apply:os.system ['x']")
    ),
    Row("card-list", weights.load, BadWeights, "expected a map", prepare=_with_card("- 1")),
    Row("run-unfinished", weights.find, BadWeights, "no finished weights", prepare=_run),
    Row("add-name", lambda p: weights.add("../evil", p), BadWeights, "as name of weights", prepare=_good),
    Row("fit-bands", lambda tmp: weights.check_fit(_CARD, _cube()), BandMismatch, "6 bands.*expect 3.*train"),
    Row("fit-quantity", lambda tmp: weights.check_fit(_CARD, _cube(3, quantity="dn")), BadInput, "expect reflectance"),
    Row(
        "fit-no-wavelengths",
        lambda tmp: weights.check_fit(_CARD, _cube(3, wavelength=False)),
        MissingMetadata,
        "wavelength",
    ),
    Row("model-unknown", lambda tmp: ts.create_model("hyperpn"), UnknownName, "did you mean hyperpnn"),
    Row("model-argument", lambda tmp: ts.create_model("hyperpnn", bands="many"), BadSettings, "argument bands='many'"),
    Row("model-argument-missing", lambda tmp: ts.create_model("hyperpnn"), BadSettings, "needs bands"),
    Row("train-task", lambda tmp: _train(tmp, task="shapren"), UnknownName, "no task or room 'shapren'"),
    Row(
        "train-method",
        lambda tmp: _train(tmp, method="gsa"),
        UnknownName,
        "no training for method 'gsa'",
    ),
    Row("train-setting", lambda tmp: _train(tmp, settings={"lr": 1}), BadSettings, "unknown setting 'lr'"),
    Row(
        "train-data-missing",
        lambda tmp: _train(tmp, data=tmp / "none"),
        ProductNotFound,
        "does not exist",
        cli=lambda tmp: ["train", "sharpen", "-m", "hyperpnn", "--data", str(tmp / "none"), "-o", str(tmp / "run")],
    ),
    Row("train-scene-small", lambda tmp: _train(tmp), BadInput, "24 x 24.*smaller patch"),
    Row("train-patch-ratio", lambda tmp: _train(tmp, settings={"patch": 9}), BadInput, "multiple of 4"),
    Row("train-all-nodata", lambda tmp: _train(tmp, data=_cube(side=64) * np.nan, settings=_SMALL), BadInput, "nodata"),
    Row("train-resume-nothing", lambda tmp: _train(tmp, resume=True), ProductNotFound, "no run to resume"),
    Row("train-epochs-and-steps", lambda tmp: _train(tmp, epochs=1, steps=1), BadSettings, "one of them"),
    Row("train-precision", lambda tmp: _train(tmp, precision="int4"), BadSettings, "float32, bf16"),
]
ROWS += [
    Row(
        "train-seed", lambda tmp: ts.train("sharpen", "hyperpnn", [], out=tmp / "run", seed=-1), BadSettings, "seed=-1"
    ),
    Row(
        "train-settings",
        lambda tmp: ts.train("sharpen", "hyperpnn", [], out=tmp / "run", settings=5),
        BadSettings,
        "int",
    ),
    Row("train-data", lambda tmp: ts.train("sharpen", "hyperpnn", 5, out=tmp / "run"), BadInput, "got int as training"),
]
