"""Bad input to the writers, labels and libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from table import Row

import torchspectral as ts
from torchspectral.errors import (
    BadCube,
    BadInput,
    BadSettings,
    BrokenProduct,
    GridMismatch,
    MissingMetadata,
    OutputExists,
    OutputFailed,
    ProductNotFound,
)


def cube(**more):
    return ts.make_cube(np.ones((2, 3, 4), "f4"), quantity="reflectance", **more)


def written(name: str):
    def prepare(tmp: Path) -> Path:
        return Path(ts.save(cube(), tmp / name))

    return prepare


def text(name: str, content: str | bytes):
    def prepare(tmp: Path) -> Path:
        path = tmp / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return prepare


def library(path: Path):
    from torchspectral.io.libraries import read_library

    return read_library(path)


def labels(path: Path, **more):
    from torchspectral.io.labels import read_labels

    return read_labels(path, **more)


def adopt_wrong_shape(tmp: Path):
    from torchspectral.io.raw import RawArray
    from torchspectral.io.writers.envi import adopt

    return adopt(RawArray(tmp / "scratch", (1, 2, 2), "f4"), cube(), tmp / "o.hdr")


def fractions(tmp: Path) -> Path:
    return Path(ts.save(ts.make_layers(np.full((1, 2, 2), 0.5, "f4"), ["a"]), tmp / "l.tif"))


def three_bands(tmp: Path) -> Path:
    return Path(ts.save(ts.make_cube(np.ones((3, 2, 2), "u1")), tmp / "l.tif"))


def six_by_five(tmp: Path) -> Path:
    return Path(ts.save(ts.make_layers(np.ones((1, 6, 5), "u1"), ["a"]), tmp / "l.hdr"))


ROWS = [
    Row("suffix-unknown", lambda tmp: ts.save(cube(), tmp / "o.xyz"), BadSettings, "expected one of .*tif"),
    Row(
        "suffix-of-spectra", lambda tmp: ts.save(cube(), tmp / "o.sli"), BadSettings, "cannot write a cube or layers as"
    ),
    Row(
        "spectra-as-tif",
        lambda tmp: ts.save(ts.make_spectra(np.ones((1, 3)), ["a"]), tmp / "o.tif"),
        BadSettings,
        "cannot write spectra as o.tif",
    ),
    Row("no-array", lambda tmp: ts.save({"a": 1}, tmp / "o.tif"), BadCube, "got dict .* take one value"),
    Row("no-folder", lambda tmp: ts.save(cube(), tmp / "no" / "o.tif"), OutputFailed, "folder .* does not exist"),
    Row("exists", lambda path: ts.save(cube(), path), OutputExists, "exists", prepare=written("o.tif")),
    Row("exists-zarr", lambda path: ts.save(cube(), path), OutputExists, "exists", prepare=written("o.zarr")),
    Row(
        "exists-other-half",
        lambda path: ts.save(cube(), path.with_suffix(".img")),
        OutputExists,
        "exists",
        prepare=written("o.hdr"),
    ),
    Row(
        "output-is-input",
        lambda path: ts.save(ts.open(path), path, overwrite=True),
        OutputFailed,
        "is the input itself",
        prepare=written("o.tif"),
    ),
    Row(
        "output-is-input-envi",
        lambda path: ts.save(ts.open(path)[:1], path.with_suffix(".img"), overwrite=True),
        OutputFailed,
        "is the input itself",
        prepare=written("o.hdr"),
    ),
    Row(
        "output-is-input-zarr",
        lambda path: ts.save(ts.open(path), path, overwrite=True),
        OutputFailed,
        "is the input itself",
        prepare=written("o.zarr"),
    ),
    Row("dtype-unknown", lambda tmp: ts.save(cube(), tmp / "o.tif", dtype="int7"), BadSettings, "got dtype 'int7'"),
    Row("dtype-complex", lambda tmp: ts.save(cube(), tmp / "o.hdr", dtype="complex64"), BadSettings, "expected one of"),
    Row(
        "nodata-not-held",
        lambda tmp: ts.save(cube(), tmp / "o.tif", nodata=1e39),
        BadSettings,
        "float32 cannot hold",
    ),
    Row("option-unknown", lambda tmp: ts.save(cube(), tmp / "o.tif", blocks=256), BadSettings, "did you mean block"),
    Row("option-of-other", lambda tmp: ts.save(cube(), tmp / "o.hdr", compress="lzw"), BadSettings, "unknown option"),
    Row("block-odd", lambda tmp: ts.save(cube(), tmp / "o.tif", block=100), BadSettings, "multiple of 16"),
    Row("compress-unknown", lambda tmp: ts.save(cube(), tmp / "o.tif", compress="zip"), BadSettings, "compress='zip'"),
    Row("chunks-zero", lambda tmp: ts.save(cube(), tmp / "o.zarr", chunks=(0, 1, 1)), BadSettings, "at least 1"),
    Row(
        "attribute-object",
        lambda tmp: ts.save(cube(attrs={"model": object()}), tmp / "o.tif"),
        BadCube,
        "attribute model is a object",
    ),
    Row(
        "complex-values",
        lambda tmp: ts.save(ts.make_cube(np.ones((1, 2, 2), "c8")), tmp / "o.tif"),
        BadCube,
        "expected real numbers",
    ),
    Row(
        "video",
        lambda tmp: ts.save(ts.make_cube(np.ones((2, 1, 2, 2))), tmp / "o.zarr"),
        BadCube,
        "save each frame",
    ),
    Row(
        "adopt-wrong-shape",
        adopt_wrong_shape,
        BadCube,
        r"holds \(1, 2, 2\)",
        prepare=lambda tmp: text("scratch", bytes(16))(tmp).parent,
    ),
    Row("labels-missing", lambda tmp: labels(tmp / "no.tif"), ProductNotFound, "does not exist"),
    Row("labels-fractions", labels, BadInput, "whole class numbers", prepare=fractions),
    Row("labels-bands", labels, BadInput, "expected one band", prepare=three_bands),
    Row("labels-size", lambda path: labels(path, like=cube()), GridMismatch, "6 x 5 pixels", prepare=six_by_five),
    Row("library-missing", lambda tmp: library(tmp / "no.csv"), ProductNotFound, "does not exist"),
    Row("library-no-wavelengths", library, MissingMetadata, "no wavelengths", prepare=text("l.csv", "a,b\n1,2\n")),
    Row("library-ragged", library, BrokenProduct, "line 2 .* 1 cells", prepare=text("l.csv", "wavelength,b\n500\n")),
    Row("library-words", library, BrokenProduct, "expected a number", prepare=text("l.csv", "wavelength,b\n500,x\n")),
    Row("library-binary", library, BrokenProduct, "not text", prepare=text("l.csv", b"\xff\xfe\x00\x01" * 9)),
    Row("library-is-image", library, BrokenProduct, "no spectral library", prepare=written("o.hdr")),
]
