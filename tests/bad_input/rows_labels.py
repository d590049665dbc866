"""Bad vectors, tables of pixels and spectrometers' files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affine import Affine
from table import Row

import torchspectral as ts
from torchspectral.errors import BadInput, BrokenProduct, GridMismatch, MissingMetadata, ProductNotFound
from torchspectral.geo import place


def scene():
    cube = ts.make_cube(np.full((3, 6, 8), 0.5, "f4"), wavelength=[500, 600, 700], quantity="reflectance")
    return place(cube, Affine(10, 0, 500_000, 0, -10, 5_800_000), "EPSG:32633")


def text(name: str, content: str | bytes):
    """A bad file beside a good scene."""

    def prepare(tmp: Path) -> Path:
        ts.save(scene(), tmp / "scene.tif")
        path = tmp / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return prepare


def labels(path: Path):
    from torchspectral.io.labels import read_labels

    return read_labels(path, like=scene())


def library(path: Path):
    from torchspectral.io.libraries import read_library

    return read_library(path)


def classify(flag: str):
    return lambda path: ["classify", str(path.parent / "scene.tif"), flag, str(path), "-o", str(path.parent / "o.tif")]


def label_row(name: str, file: str, content: str | bytes, expect: type[Exception], message: str) -> Row:
    return Row(f"labels-{name}", labels, expect, message, classify("--labels"), text(file, content))


def library_row(name: str, file: str, content: str | bytes, expect: type[Exception], message: str) -> Row:
    return Row(f"library-{name}", library, expect, message, classify("--library"), text(file, content))


ROWS = [
    label_row("vrt", "a.geojson", "<OGRVRTDataSource/>", BrokenProduct, "does not begin as a .geojson"),
    label_row("gpkg-text", "a.gpkg", "hello", BrokenProduct, "does not begin as a .gpkg"),
    label_row("json-broken", "a.geojson", "{", BrokenProduct, "cannot be read as vectors"),
    label_row("json-empty", "a.geojson", '{"type":"FeatureCollection","features":[]}', BadInput, "no shapes"),
    label_row("csv-columns", "a.csv", "a,b\n1,2\n", BadInput, "expected row and col"),
    label_row("csv-outside", "a.csv", "row,col,class\n99,0,1\n", BadInput, "row 99"),
    label_row("csv-half", "a.csv", "row,col,class\n0.5,0,1\n", BadInput, "whole numbers"),
    label_row("csv-far", "a.csv", "x,y,class\n0,0,1\n", GridMismatch, "lies on the cube"),
    label_row("csv-words", "a.csv", "row,col,class\nup,0,1\n", BadInput, "hold words"),
    label_row("csv-negative", "a.csv", "row,col,class\n0,0,-4\n", BadInput, "class numbers from -4"),
    label_row("csv-huge", "a.csv", "row,col,class\n0,0,1e300\n", BadInput, "to 1e\\+300"),
    label_row("csv-nothing", "a.csv", "row,col,class\n0,0,\n", BadInput, "every value is missing"),
    library_row("asd-short", "a.asd", b"as7" + b"\0" * 100, Exception, "a.asd"),
    library_row("asd-zero", "a.asd", b"as7" + b"\0" * 600, BrokenProduct, "header is damaged"),
    library_row(
        "ecostress-unit", "a.txt", "Name: x\nX Units: furlong\n\n1 2\n3 4\n", MissingMetadata, "X Units 'furlong'"
    ),
    library_row("ecostress-empty", "a.txt", "Name: x\nX Units: nanometers\n\n", BrokenProduct, "no table"),
    library_row("svc-cut", "a.sig", "/*** Spectra Vista SIG Data ***/\ndata=\n", BrokenProduct, "no table"),
    library_row("usgs-alone", "a.txt", "splib07a Record=1: x\n0.1\n0.2\n", MissingMetadata, "no wavelengths"),
    library_row("columns-zero", "a.txt", "0 1\n1 2\n2 3\n", BrokenProduct, "no positive number"),
    Row("library-folder-empty", lambda tmp: library(tmp), ProductNotFound, "holds no spectra"),
]
