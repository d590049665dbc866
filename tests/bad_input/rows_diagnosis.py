"""Bad embeddings and labels of a diagnosis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affine import Affine
from table import Row, file_of

import torchspectral as ts
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BadWeights,
    BrokenProduct,
    GridMismatch,
    OutputFailed,
    ProductNotFound,
    UnknownName,
    UnsafeInput,
)
from torchspectral.geo import place


def diagnose(path: Path):
    return ts.diagnose(path, out=path.parent / "report")


def command(*more: str):
    return lambda path: ["diagnose", str(path), *more, "-o", str(path.parent / "report")]


def array(name: str, values: np.ndarray, **more: np.ndarray):
    def prepare(tmp: Path) -> Path:
        path = tmp / name
        np.savez(path, embeddings=values, **more) if path.suffix == ".npz" else np.save(path, values)
        return path

    return prepare


def row(name: str, prepare, expect: type[Exception], message: str, **options: object) -> Row:
    words = [w for key, value in options.items() for w in (f"--{key}", str(value))]

    def make(path: Path):
        if not options:
            return diagnose(path)
        given = {"labels": options.get("labels"), "field": options.get("field"), "spectra": options.get("spectra")}
        return ts.diagnose(path, out=path.parent / "report", **given)  # type: ignore[arg-type]

    return Row(f"diagnose-{name}", make, expect, message, command(*words), prepare)


def run_folder(content: str):
    def prepare(tmp: Path) -> Path:
        path = tmp / "run"
        path.mkdir()
        (path / "run.yaml").write_text(content)
        return path

    return prepare


def taken(tmp: Path) -> Path:
    np.save(tmp / "e.npy", np.eye(20))
    (tmp / "report").mkdir()
    (tmp / "report" / "mine.txt").write_text("mine")
    return tmp / "e.npy"


def _layers():
    return _placed(ts.make_layers(np.random.default_rng(0).random((4, 8, 8), dtype="f4"), list("abcd")))


def _ground(west: float = 500000.0, crs: str = "EPSG:32633"):
    marks = np.where(np.arange(64).reshape(8, 8) % 2, 1, 2).astype("u1")
    return _placed(ts.make_layers(marks[None], ["labels"]), west, crs)


def _placed(layers, west: float = 500000.0, crs: str = "EPSG:32633"):
    return place(layers, Affine(30, 0, west, 0, -30, 5_800_000), crs)


EYE = np.eye(20)
HOLES = np.where(np.arange(400).reshape(20, 20) % 20 == 0, np.nan, 1.0)

ROWS = [
    row("absent", lambda tmp: tmp / "no.npz", ProductNotFound, "does not exist"),
    row("not-numpy", file_of("e.npy", b"hello there"), BrokenProduct, "no NumPy file"),
    row("truncated", file_of("e.npz", b"PK\x03\x04" + b"\0" * 40), BrokenProduct, "no readable ZIP"),
    row("words", file_of("e.csv", b"a,b\nx,y\nz,w\n"), BadInput, "words in the column"),
    row("one-axis", array("e.npy", np.ones(20)), BadInput, "(sample, dimension)"),
    row("few", array("e.npy", np.ones((5, 3))), BadInput, "at least 10"),
    row("nodata", array("e.npy", HOLES), BadInput, "0 embeddings without nodata"),
    row("complex", array("e.npy", EYE * 1j), BadInput, "complex128"),
    row("no-embeddings", lambda tmp: _two(tmp), BadInput, "an array named embeddings"),
    row("labels-count", array("e.npz", EYE, labels=np.arange(7)), BadInput, "7 labels for 20"),
    row("labels-fractions", array("e.npz", EYE, labels=np.arange(20) / 3), BadInput, "fractions"),
    row("labels-absent", array("e.npz", EYE), ProductNotFound, "one for each embedding", labels="nowhere.npy"),
    row("labels-on-ground", array("e.npz", EYE), ProductNotFound, "does not exist", labels="nowhere.gpkg"),
    row("field", array("e.npz", EYE, labels=np.arange(20)), UnknownName, "no array 'kind'", field="kind"),
    row("spectra", array("e.npz", EYE), BadInput, "one spectrum a sample", spectra="scene.tif"),
    row("run-broken", run_folder("a: [1"), BadWeights, "not YAML"),
    row("run-empty", run_folder("task: sharpen"), BadInput, "no curves yet"),
    row("target-taken", taken, OutputFailed, "holds no report"),
    Row(
        "diagnose-pickle",
        diagnose,
        UnsafeInput,
        "pickled objects",
        command(),
        lambda tmp: _pickle(tmp),
    ),
    Row(
        "diagnose-raw-without-sigma",
        lambda path: ts.diagnose(path, settings={"normalise": False}),
        BadSettings,
        "give sigma",
        command("--set", "normalise=false"),
        array("e.npy", EYE),
    ),
    Row(
        "diagnose-labels-elsewhere",
        lambda tmp: ts.diagnose(_layers(), labels=_ground(900000.0)),
        GridMismatch,
        "no label lies on the cube",
    ),
    Row(
        "diagnose-labels-of-another-crs",
        lambda tmp: ts.diagnose(_layers(), labels=_ground(crs="EPSG:32632")),
        GridMismatch,
        "no label lies on the cube",
    ),
    Row(
        "diagnose-labels-layers",
        lambda tmp: ts.diagnose(_layers(), labels=_layers()),
        BadInput,
        "expected one layer",
    ),
    Row(
        "diagnose-layers-nan",
        lambda path: ts.diagnose(path, out=path.parent / "report"),
        BadInput,
        "0 pixels without nodata",
        command(),
        lambda tmp: Path(ts.save(_layers() * np.nan, tmp / "emb.tif")),
    ),
]


def _two(tmp: Path) -> Path:
    np.savez(tmp / "e.npz", a=EYE, b=EYE)
    return tmp / "e.npz"


def _pickle(tmp: Path) -> Path:
    np.save(tmp / "e.npy", np.array([{"a": 1}] * 20, dtype=object), allow_pickle=True)
    return tmp / "e.npy"
