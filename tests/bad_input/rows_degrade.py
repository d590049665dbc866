"""Bad inputs of degradations."""

from __future__ import annotations

import numpy as np
from table import Row

import torchspectral as ts
from torchspectral import metrics
from torchspectral.errors import (
    BadCube,
    BadInput,
    BadSettings,
    MissingMetadata,
    OutputExists,
    OutputFailed,
    UnknownName,
)
from torchspectral.restoration import protocol
from torchspectral.synth import degrade_array


def _cube(bands: int = 6, rows: int = 24, cols: int = 24, *, wavelength: bool = True):
    values = np.random.default_rng(0).random((bands, rows, cols)).astype(np.float32)
    return ts.make_cube(values, wavelength=np.linspace(450, 900, bands) if wavelength else None)


def _file(folder):
    ts.save(_cube(), folder / "scene.tif")
    return folder


def _command(*words):
    return lambda tmp: ["degrade", tmp / "scene.tif", *words, "-o", tmp / "noisy.tif"]


def _bad(recipe: str):
    return lambda tmp: ts.degrade(_cube(), recipe)


ROWS = [
    Row(
        "unknown-recipe",
        lambda tmp: ts.degrade(ts.open(tmp / "scene.tif"), "icvl-mixtur"),
        UnknownName,
        "did you mean icvl-mixture",
        cli=_command("--set", "recipe=icvl-mixtur"),
        prepare=_file,
    ),
    Row("unknown-task", _bad("mp-hsir:hazy"), UnknownName, "did you mean haze"),
    Row("no-task", _bad("mp-hsir"), UnknownName, "no task"),
    Row("unknown-noise", _bad("mp-hsir:complex:strip"), UnknownName, "did you mean stripe"),
    Row("no-number", _bad("gaussian"), BadSettings, "gaussian:SIGMA"),
    Row("no-number-again", _bad("gaussian:loud"), BadSettings, "gaussian:SIGMA"),
    Row("negative-sigma", _bad("gaussian:-3"), BadSettings, "gaussian|deviation"),
    Row("reversed-sigma", _bad("gaussian:70-10"), BadSettings, "deviation"),
    Row("even-kernel", _bad("blur:8"), BadSettings, "odd"),
    Row("broken-kernel", _bad("blur:nine"), BadSettings, "number after the colon"),
    Row("two-numbers", _bad("inpaint:0.5:0.6"), BadSettings, "at most 1"),
    Row("share-above-one", _bad("inpaint:80"), BadSettings, "0 to 1"),
    Row("broken-factor", _bad("sr:2.5"), BadSettings, "whole number"),
    Row("imresize-factor", _bad("imresize:1"), BadSettings, "imresize:N"),
    Row("rule", _bad("icvl-stripe:fortran"), BadSettings, "python or matlab"),
    Row("empty-recipe", _bad(" + "), BadSettings, "expected a name"),
    Row("empty-part", _bad("blur:9+"), BadSettings, "expected a name"),
    Row("seed", lambda tmp: ts.degrade(_cube(), "noniid", -1), BadSettings, "seed"),
    Row("setting", lambda tmp: ts.degrade(_cube(), settings={"recipes": "noniid"}), BadSettings, "did you mean recipe"),
    Row(
        "generator",
        lambda tmp: ts.degrade(ts.open(tmp / "scene.tif"), settings={"generator": "new"}),
        BadSettings,
        "generator",
        cli=_command("--set", "generator=new"),
        prepare=_file,
    ),
    Row("narrow", lambda tmp: ts.degrade(_cube(6, 9, 6), "icvl-stripe"), BadInput, "too narrow"),
    Row("small", lambda tmp: ts.degrade(_cube(6, 9, 3), "sr:4"), BadInput, "at least 4 x 4"),
    Row("no-wavelengths", lambda tmp: ts.degrade(_cube(wavelength=False), "haze:0.5"), MissingMetadata, "wavelength"),
    Row("constant", lambda tmp: ts.degrade(_cube() * 0 + 3, "noniid"), BadInput, "no range"),
    Row("all-nodata", lambda tmp: ts.degrade(_cube() * np.nan, "noniid"), BadInput, "no good band has a valid"),
    Row("array", lambda tmp: ts.degrade(np.ones((3, 4, 5)), "noniid"), BadCube, "DataArray"),
    Row(
        "output-is-input",
        lambda tmp: ts.degrade(ts.open(tmp / "scene.tif"), "noniid", out=tmp / "scene.tif", overwrite=True),
        OutputFailed,
        "input",
        cli=lambda tmp: ["degrade", tmp / "scene.tif", "--overwrite", "-o", tmp / "scene.tif"],
        prepare=_file,
    ),
    Row(
        "output-exists",
        lambda tmp: ts.degrade(_cube(), "noniid", out=tmp / "scene.tif"),
        OutputExists,
        "overwrite",
        prepare=_file,
    ),
    Row("draw-from", lambda tmp: degrade_array(np.ones((3, 4, 5)), "noniid", "dice"), BadSettings, "draw from"),
    Row("two-dimensions", lambda tmp: degrade_array(np.ones((4, 5)), "noniid"), BadInput, "band, y, x"),
    Row("protocol", lambda tmp: protocol.figures(_cube(), _cube(), protocol="icvl"), BadSettings, "hsir"),
    Row("ssim-protocol", lambda tmp: metrics.MSSIM(protocol="icvl"), BadSettings, "hsir"),
    Row("ssim-both", lambda tmp: metrics.MSSIM(1.0, "hsir"), BadSettings, "one of them"),
    Row(
        "completion",
        lambda tmp: protocol.figures(_cube(), _cube(), degraded=_cube()),
        BadInput,
        "wholly zero",
    ),
    Row("crop", lambda tmp: protocol.test_image(np.random.default_rng(0).random((3, 9, 9))), BadInput, "at least 512"),
]
