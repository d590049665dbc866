"""Bad inputs of the engine: roles, grids, bands, options, memory, outputs, half-done outputs, conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from table import Row

import torchspectral as ts
from torchspectral.engine.journal import Journal
from torchspectral.engine.method import BandRule, Input, Method, Scope
from torchspectral.errors import (
    BadCube,
    BadInput,
    BadSettings,
    BadWeights,
    BandMismatch,
    GridMismatch,
    JournalMismatch,
    MissingMetadata,
    OutputExists,
    OutputFailed,
    ProductNotFound,
    TooLarge,
    UnknownName,
)
from torchspectral.geo import place


class Copy(Method):
    """Gives back what it gets."""

    def apply(self, tile, state):  # type: ignore[no-untyped-def]
        return {"cube": tile.lead}


class Pair(Copy):
    """Needs a finer PAN."""

    inputs = (Input("cube"), Input("pan", ratio="finer"))


class Guided(Copy):
    """Needs guides on the same grid and a library."""

    inputs = (Input("cube"), Input("guides"), Input("library", kind="spectra", optional=True))


class Labelled(Copy):
    """Needs labels."""

    inputs = (Input("cube"), Input("labels"))


class Trained(Copy):
    """Weights for fixed bands."""

    bands = BandRule(wavelength=(500.0, 600.0, 700.0, 800.0))


class Three(Copy):
    """Three bands, no more."""

    bands = BandRule(least=3, most=3)


class AtOnce(Copy):
    """Whole scenes."""

    scope = Scope.SCENE


class Tiles(Copy):
    """Tiles of a multiple of 8."""

    scope = Scope.LOCAL
    multiple = 8


class Sampled(Copy):
    """Takes patches."""

    def fit(self, source, seed, state):  # type: ignore[no-untyped-def]
        source.patches(2, 9)
        return {}


def cube(bands: int = 4, rows: int = 6, cols: int = 5, *, pixel: float = 30.0, crs: str = "EPSG:32632") -> xr.DataArray:
    values = np.random.default_rng(0).random((bands, rows, cols)).astype(np.float32)
    made = ts.make_cube(values, wavelength=np.linspace(500, 800, bands), quantity="reflectance")
    return place(made, Affine(pixel, 0, 5e5, 0, -pixel, 4e6), crs)


def run(method: Method, inputs: Any = None, state: Any = None, out: Any = None, **options: Any) -> Any:
    given = {"cube": cube()} if inputs is None else inputs if isinstance(inputs, dict) else {"cube": inputs}
    return ts.run(method, given, out=out, state=state, options=ts.RunOptions(**options))


def video() -> xr.DataArray:
    return xr.concat([cube(), cube()], "time").assign_attrs(cube().attrs)


def half_done(tmp: Path) -> Path:
    Journal(tmp / "out.tif", {"method": "another"}).close(keep=True)
    return tmp


def with_file(tmp: Path) -> Path:
    (tmp / "out.tif").write_text("something")
    return tmp


def of_file(tmp: Path) -> Path:
    (tmp / "scene.img").write_text("something")
    return tmp


def known(tmp: Path) -> xr.DataArray:
    return cube().assign_attrs(source=[str(tmp / "scene.img")])


def bad_mask(value: Any) -> Any:
    return run(Copy(), mask=value)


ROWS = [
    Row("role-unknown", lambda tmp: run(Copy(), {"cube": cube(), "pann": cube()}), UnknownName, "no input 'pann'"),
    Row("role-missing", lambda tmp: run(Pair()), BadInput, "'pan' is missing"),
    Row("not-a-cube", lambda tmp: run(Copy(), {"cube": np.zeros((3, 4, 5))}), BadCube, "got ndarray as cube"),
    Row("wrong-dims", lambda tmp: run(Copy(), cube().transpose("y", "x", "band")), BadCube, "transpose"),
    Row("complex", lambda tmp: run(Copy(), cube().astype(complex)), BadCube, "real numbers"),
    Row("empty", lambda tmp: run(Copy(), cube().isel(x=slice(0, 0))), BadCube, "empty cube"),
    Row("video-for-an-image", lambda tmp: run(Copy(), video()), BadInput, "video of 2 frames"),
    Row("all-nodata", lambda tmp: run(Copy(), cube().where(False)), BadInput, "all pixels .* nodata"),
    Row("bands-none-good", lambda tmp: run(Copy(), cube().assign_coords(good=("band", [False] * 4))), BandMismatch, "marked good"),
    Row("bands-outside", lambda tmp: run(Copy(), bands=[0, 4]), BandMismatch, r"band 5 \(index 4\) of 4, expected bands 1 to 4"),
    Row("bands-negative", lambda tmp: run(Copy(), bands=[-1]), BandMismatch, "index -1"),
    Row("bands-twice", lambda tmp: run(Copy(), bands=[1, 1]), BandMismatch, "twice"),
    Row("bands-empty", lambda tmp: run(Copy(), bands=[]), BandMismatch, "no band was chosen"),
    Row("bands-word", lambda tmp: run(Copy(), bands="some"), BadSettings, "'good', 'all'"),
    Row("bands-fractions", lambda tmp: run(Copy(), bands=[0.5]), BadSettings, "list of band indices"),
    Row("bands-too-many", lambda tmp: run(Three()), BandMismatch, "works with 3 to 3"),
    Row("bands-of-other-weights", lambda tmp: run(Trained(), cube().assign_coords(wavelength=("band", [900.0, 1000.0, 1100.0, 1200.0]))), BandMismatch, "400.0 nm off"),
    Row("bands-without-wavelengths", lambda tmp: run(Trained(), ts.make_cube(np.ones((4, 3, 3)))), MissingMetadata, "needs the bands' wavelengths"),
    Row("pan-of-the-same-grid", lambda tmp: run(Pair(), {"cube": cube(), "pan": cube(1)}), GridMismatch, "at least twice as fine"),
    Row("pan-in-another-crs", lambda tmp: run(Pair(), {"cube": cube(), "pan": cube(1, 12, 10, pixel=15, crs="EPSG:32633")}), GridMismatch, "its CRS is"),
    Row("pan-of-no-whole-ratio", lambda tmp: run(Pair(), {"cube": cube(), "pan": cube(1, 13, 10, pixel=15)}), GridMismatch, "whole number"),
    Row("pan-elsewhere", lambda tmp: run(Pair(), {"cube": cube(), "pan": place(cube(1, 12, 10), Affine(15, 0, 5e5 + 7, 0, -15, 4e6), "EPSG:32632")}), GridMismatch, "corners lie"),
    Row("guides-finer", lambda tmp: run(Guided(), {"cube": cube(), "guides": cube(3, 12, 10, pixel=15)}), GridMismatch, "expected the same grid"),
    Row("library-of-other-bands", lambda tmp: run(Guided(), {"cube": cube(), "guides": cube(), "library": ts.make_spectra(np.ones((2, 7)), ["a", "b"])}), BandMismatch, "library has 7 bands"),
    Row("library-shifted", lambda tmp: run(Guided(), {"cube": cube(), "guides": cube(), "library": ts.make_spectra(np.ones((1, 4)), ["a"], wavelength=[600, 700, 800, 900])}), BandMismatch, "100.0 nm off"),
    Row("library-with-holes", lambda tmp: run(Guided(), {"cube": cube(), "guides": cube(), "library": ts.make_spectra(np.full((1, 4), np.nan), ["a"])}), BadInput, "missing values"),
    Row("library-is-a-cube", lambda tmp: run(Guided(), {"cube": cube(), "guides": cube(), "library": cube()}), BadCube, "expected spectra"),
    Row("labels-are-a-list", lambda tmp: run(Labelled(), {"cube": cube(), "labels": [1, 2]}), BadCube, "got list as labels"),
    Row("labels-of-another-size", lambda tmp: run(Labelled(), {"cube": cube(), "labels": ts.make_layers(np.zeros((1, 5, 5)), ["c"])}), GridMismatch, "5 x 5 pixels"),
    Row("mask-of-another-size", lambda tmp: bad_mask(xr.DataArray(np.ones((3, 3), bool), dims=("y", "x"))), GridMismatch, "put it on the scene's grid"),
    Row("mask-is-a-number", lambda tmp: bad_mask(3), BadInput, "got int as mask"),
    Row("mask-clear-of-an-array", lambda tmp: bad_mask("clear"), BadInput, "no file is known"),
    Row("mask-of-all", lambda tmp: bad_mask(np.zeros((6, 5), bool)), BadInput, "masked out"),
    Row("device-unknown", lambda tmp: run(Copy(), device="tpu"), BadSettings, "auto, cpu, cuda"),
    Row("device-absent", lambda tmp: run(Copy(), device="cuda:77"), BadSettings, "cuda:77"),
    Row("workers-zero", lambda tmp: run(Copy(), workers=0), BadSettings, "whole number from 1"),
    Row("batch-negative", lambda tmp: run(Copy(), batch=-2), BadSettings, "batch=-2"),
    Row("seed-negative", lambda tmp: run(Copy(), seed=-1), BadSettings, "seed=-1"),
    Row("tile-zero", lambda tmp: run(Copy(), tile=(0, 4)), BadSettings, "both positive"),
    Row("tile-no-multiple", lambda tmp: run(Tiles(), tile=(12, 12)), BadSettings, "multiples of 8"),
    Row("option-unknown", lambda tmp: ts.RunOptions.make({"worker": 2}), BadSettings, "did you mean workers"),
    Row("cluster-unknown", lambda tmp: run(Copy(), cluster="nowhere"), BadSettings, "cannot reach a Dask scheduler"),
    Row("memory-unreadable", lambda tmp: run(AtOnce(), max_memory="lots"), BadSettings, "4GB"),
    Row("memory-too-small", lambda tmp: run(AtOnce(), max_memory=100), TooLarge, "allowed by max_memory"),
    Row("patches-too-large", lambda tmp: run(Sampled()), BadInput, "do not fit into a scene of 6 x 5"),
    Row("state-is-a-list", lambda tmp: run(Copy(), state=[1]), BadWeights, "expected a mapping"),
    Row("out-exists", lambda tmp: run(Copy(), out=tmp / "out.tif"), OutputExists, "overwrite=True", prepare=with_file),
    Row("out-half-done", lambda tmp: run(Copy(), out=tmp / "out.tif"), OutputExists, "half-done", prepare=half_done),
    Row("out-of-another-run", lambda tmp: run(Copy(), out=tmp / "out.tif", resume=True), JournalMismatch, "method", prepare=half_done),
    Row("out-is-the-input", lambda tmp: run(Copy(), known(tmp), out=tmp / "scene.img", overwrite=True), OutputFailed, "one of the inputs", prepare=of_file),
    Row("out-below-a-file", lambda tmp: run(Copy(), out=tmp / "out.tif" / "x.tif"), OutputFailed, "is a file", prepare=with_file),
    Row("out-nameless", lambda tmp: run(Copy(), out=" "), BadSettings, "empty name"),
    Row("out-of-unknown-type", lambda tmp: run(Copy(), out=tmp / "out.jpeg"), BadSettings, "cannot tell how to write cube as 'out.jpeg'"),
    Row("out-of-another-type", lambda tmp: run(Copy(), out={"cube": tmp / "out.csv"}), BadSettings, "cannot tell how"),
    Row("out-of-no-output", lambda tmp: run(Copy(), out={"cubes": tmp / "x.tif"}), UnknownName, "did you mean cube"),
    Row("out-empty-mapping", lambda tmp: run(Copy(), out={}), BadSettings, "empty mapping"),
    Row("convert-missing", lambda tmp: ts.convert(tmp / "no.tif", tmp / "out.tif"), ProductNotFound, "no.tif",
        cli=lambda tmp: ["convert", str(tmp / "no.tif"), "-o", str(tmp / "out.tif")]),
    Row("convert-bands-outside", lambda tmp: ts.convert(cube(), tmp / "out.hdr", bands=[7]), BandMismatch, r"indices 0 to 3"),
    Row("convert-bands-word", lambda tmp: ts.convert(cube(), tmp / "out.hdr", bands="best"), BadSettings, "'all', 'good'"),
    Row("convert-box-elsewhere", lambda tmp: ts.convert(cube(), tmp / "out.hdr", bbox=(0, 0, 1, 1)), GridMismatch, "outside|bounds"),
    Row("convert-sensor-unknown", lambda tmp: ts.convert(cube(), tmp / "out.hdr", resample="sentinel-9"), UnknownName, "sentinel"),
    Row("convert-clear-of-an-array", lambda tmp: ts.convert(cube(), tmp / "out.hdr", mask="clear"), BadSettings, "product's path"),
    Row("convert-onto-itself", lambda tmp: ts.convert(known(tmp), tmp / "scene.img", overwrite=True), OutputFailed, "one of the inputs", prepare=of_file),
    Row("convert-exists", lambda tmp: ts.convert(cube(), tmp / "out.tif"), OutputExists, "overwrite", prepare=with_file),
]  # fmt: skip
