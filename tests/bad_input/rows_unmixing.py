"""Bad inputs of unmixing, the spectral-angle map and MNF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from table import Row

import torchspectral as ts
from torchspectral.errors import (
    BadCube,
    BadInput,
    BadSettings,
    BandMismatch,
    GridMismatch,
    TooLarge,
    UnknownName,
)


def cube(bands: int = 8, rows: int = 6, cols: int = 5, **attrs: Any) -> xr.DataArray:
    values = np.random.default_rng(0).random((bands, rows, cols)).astype(np.float32)
    return ts.make_cube(values, wavelength=np.linspace(400, 2400, bands), quantity="reflectance", attrs=attrs)


def flat(value: float) -> xr.DataArray:
    return cube().copy(data=np.full((8, 6, 5), value, dtype=np.float32))


def library(bands: int = 8, value: float | None = None, shift: float = 0.0) -> xr.DataArray:
    values = np.random.default_rng(1).random((3, bands)) if value is None else np.full((3, bands), value)
    return ts.make_spectra(values, ["a", "b", "c"], wavelength=np.linspace(400, 2400, bands) + shift)


def labels(value: int, rows: int = 6, layers: int = 1) -> xr.DataArray:
    return ts.make_layers(np.full((layers, rows, 5), value, dtype=np.int32), [str(i) for i in range(layers)])


def holes() -> xr.DataArray:
    out = library()
    out[1, 2] = np.nan
    return out


ROWS = [
    Row("k-more-than-rank", lambda tmp: ts.unmix(flat(0.5), 3), BadInput, "span 0 dimensions.*at most 1"),
    Row("k-more-than-bands", lambda tmp: ts.unmix(cube(3), 5), BadInput, "3 bands, expected at most 4"),
    Row("k-more-than-pixels", lambda tmp: ts.unmix(cube(8, 1, 2), 3), BadInput, "2 valid pixels for 3"),
    Row("k-one", lambda tmp: ts.unmix(cube(), 1), BadSettings, "at least 2 endmembers"),
    Row("k-negative", lambda tmp: ts.endmembers(cube(), -4), BadSettings, "k=-4"),
    Row("k-word", lambda tmp: ts.unmix(cube(), "seven"), BadSettings, "seven"),
    Row("k-and-setting", lambda tmp: ts.unmix(cube(), 3, settings={"k": 4}), BadSettings, "expected one of them"),
    Row("k-and-library", lambda tmp: ts.unmix(cube(), 3, library=library()), BadSettings, "and a library"),
    Row("all-nodata", lambda tmp: ts.unmix(flat(np.nan), 3), BadInput, "no valid pixel"),
    Row("all-zero", lambda tmp: ts.unmix(flat(0), 3), BadInput, "zero"),
    Row("all-infinite", lambda tmp: ts.unmix(flat(np.inf), 3), BadInput, "no valid pixel"),
    Row("one-band", lambda tmp: ts.unmix(cube(1), 2), BandMismatch, "at least 2"),
    Row("method-unknown", lambda tmp: ts.unmix(cube(), 3, method="vca-fcl"), UnknownName, "did you mean vca-fcls"),
    Row("setting-unknown", lambda tmp: ts.unmix(cube(), 3, settings={"sn": 3}), BadSettings, "unknown setting 'sn'"),
    Row(
        "constraint-unknown",
        lambda tmp: ts.unmix(cube(), 3, settings={"constraint": "sum"}),
        BadSettings,
        "constraint='sum'",
    ),
    Row("option-unknown", lambda tmp: ts.unmix(cube(), 3, tiles=5), BadSettings, "unknown option 'tiles'"),
    Row("not-a-cube", lambda tmp: ts.unmix(np.zeros((3, 4, 5)), 3), BadCube, "got ndarray"),
    Row("library-of-arrays", lambda tmp: ts.unmix(cube(), library=np.ones((2, 8))), BadInput, "ndarray as library"),
    Row("library-bands", lambda tmp: ts.unmix(cube(), library=library(9)), BandMismatch, "has 9 bands"),
    Row(
        "library-wavelengths",
        lambda tmp: ts.unmix(cube(), library=library(shift=300)),
        BandMismatch,
        "300.0 nm off",
    ),
    Row("library-zero", lambda tmp: ts.unmix(cube(), library=library(value=0)), BadInput, "endmembers are zero"),
    Row("library-holes", lambda tmp: ts.unmix(cube(), library=holes()), BadInput, "missing values"),
    Row("library-empty", lambda tmp: ts.unmix(cube(), library=library()[:0]), BadInput, "at least one spectrum"),
    Row("fcls-of-nothing", lambda tmp: ts.unmix(cube(), method="fcls"), BadInput, "neither a library nor a state"),
    Row("state-empty", lambda tmp: ts.unmix(cube(), method="fcls", state={"k": 3}), BadInput, "a state with k"),
    Row(
        "state-of-other-bands",
        lambda tmp: ts.unmix(cube(), method="fcls", state={"endmembers": np.eye(5)[:3]}),
        BandMismatch,
        "have 5 bands and the cube 8",
    ),
    Row("state-of-words", lambda tmp: ts.unmix(cube(), state={"endmembers": "soil"}), BadInput, "of type str"),
    Row(
        "mnf-state",
        lambda tmp: ts.restore(cube(), method="mnf", state={"mean": 3}),
        BadInput,
        "the state has no forward",
    ),
    Row("sam-state", lambda tmp: ts.classify(cube(), state={"means": 3}), BadInput, "references"),
    Row("sam-of-nothing", lambda tmp: ts.classify(cube()), BadSettings, "exactly one"),
    Row("sam-no-labels", lambda tmp: ts.classify(cube(), labels=labels(0)), BadInput, "no labelled pixel"),
    Row("sam-class-300", lambda tmp: ts.classify(cube(), labels=labels(300)), BadInput, "at most 254"),
    Row("sam-labels-size", lambda tmp: ts.classify(cube(), labels=labels(1, rows=7)), GridMismatch, "labels"),
    Row("sam-labels-layers", lambda tmp: ts.classify(cube(), labels=labels(1, layers=2)), BadInput, "one layer"),
    Row(
        "sam-angle",
        lambda tmp: ts.classify(cube(), library=library(), settings={"max_angle": -1}),
        BadSettings,
        "max_angle=-1",
    ),
    Row(
        "mnf-components",
        lambda tmp: ts.restore(cube(), method="mnf", settings={"components": 9}),
        BadInput,
        "only 8 bands vary",
    ),
    Row("mnf-one-pixel", lambda tmp: ts.restore(cube(8, 1, 1), method="mnf"), BadInput, "got 1 valid pixels"),
]


def covers(first: int, last: int) -> xr.DataArray:
    return library().isel(band=slice(first, last))


ROWS += [
    Row(
        "library-not-covering",
        lambda tmp: ts.unmix(cube(), library=covers(0, 5), resampling="linear"),
        BandMismatch,
        "missing values in . of the 8 bands.*drop",
    ),
    Row(
        "library-covering-nothing",
        lambda tmp: ts.unmix(cube(), library=library(shift=9000), resampling="linear", uncovered="drop"),
        BandMismatch,
        "cover none of the 8",
    ),
    Row("uncovered-word", lambda tmp: ts.unmix(cube(), library=library(), uncovered="fill"), BadSettings, "refuse or"),
    Row("resampling-word", lambda tmp: ts.unmix(cube(), library=library(), resampling="cubic"), BadSettings, "srf"),
    Row("ignore-odd", lambda tmp: ts.unmix(cube(), 3, ignore=[(400, 500), (600,)]), BadSettings, "expected pairs"),
    Row("ignore-all", lambda tmp: ts.endmembers(cube(), 3, ignore=[(0, 9999)]), BandMismatch, "no band is left"),
    Row("sunsal-of-nothing", lambda tmp: ts.unmix(cube(), method="sunsal"), BadInput, "neither a library nor a state"),
    Row(
        "sunsal-exact-signed",
        lambda tmp: ts.unmix(
            cube(), library=library(), method="sunsal", settings={"solver": "exact", "positive": False}
        ),
        BadSettings,
        "expected positive=True",
    ),
    Row(
        "sunsal-tv-too-large",
        lambda tmp: ts.unmix(cube(8, 60, 50), library=library(), method="sunsal-tv", max_memory=100_000),
        TooLarge,
        "at once",
    ),
    Row("sunaa-k", lambda tmp: ts.unmix(cube(), 4, library=library(), method="sunaa"), BadInput, "library of 3"),
    Row(
        "mesma-classes",
        lambda tmp: ts.unmix(cube(), library=library(), method="mesma", settings={"classes": ["a"]}),
        BadSettings,
        "1 classes for 3",
    ),
    Row(
        "mesma-shade",
        lambda tmp: ts.unmix(cube(), library=library(), method="mesma", settings={"shade": True}),
        BadSettings,
        "removes shade",
    ),
    Row(
        "sma-normalisation",
        lambda tmp: ts.unmix(cube(), library=library(), method="sma", settings={"normalisation": "mean"}),
        BadSettings,
        "normalisation='mean'",
    ),
    Row("edaa-one-pixel", lambda tmp: ts.unmix(cube(8, 1, 1), 2, method="edaa"), BadInput, "got 1 valid pixels"),
    Row("sisal-constant", lambda tmp: ts.endmembers(flat(0.5), 3, method="sisal"), BadInput, "span 0 dimensions"),
    Row("polygons-missing", lambda tmp: ts.endmembers(cube(), method="polygons"), BadInput, "'labels' is missing"),
    Row("polygons-empty", lambda tmp: ts.endmembers(cube(), labels=labels(0)), BadInput, "no labelled pixel"),
    Row("names-elsewhere", lambda tmp: ts.unmix(cube(), 3, names_from=library(shift=9000)), BandMismatch, "in common"),
]


def _scene(tmp: Path) -> Path:
    ts.save(cube(), tmp / "scene.tif")
    return tmp


ROWS += [
    Row(
        "cli-k-one",
        lambda tmp: ts.unmix(ts.open(tmp / "scene.tif"), 1),
        BadSettings,
        "at least 2 endmembers",
        cli=lambda tmp: ["unmix", tmp / "scene.tif", "-k", "1", "-o", tmp / "out/"],
        prepare=_scene,
    ),
    Row(
        "cli-k-too-many",
        lambda tmp: ts.unmix(ts.open(tmp / "scene.tif"), 12, out=f"{tmp}/out/"),
        BadInput,
        "at most 9",
        cli=lambda tmp: ["unmix", tmp / "scene.tif", "-k", "12", "-o", tmp / "out/"],
        prepare=_scene,
    ),
    Row(
        "cli-classify-of-nothing",
        lambda tmp: ts.classify(ts.open(tmp / "scene.tif"), out=tmp / "classes.tif"),
        BadSettings,
        "exactly one",
        cli=lambda tmp: ["classify", tmp / "scene.tif", "-o", tmp / "classes.tif"],
        prepare=_scene,
    ),
    Row(
        "cli-mnf-components",
        lambda tmp: ts.restore(
            ts.open(tmp / "scene.tif"), method="mnf", settings={"components": 40}, out=tmp / "c.tif"
        ),
        BadInput,
        "only 8 bands vary",
        cli=lambda tmp: ["restore", tmp / "scene.tif", "-o", tmp / "c.tif", "-m", "mnf", "--set", "components=40"],
        prepare=_scene,
    ),
]
