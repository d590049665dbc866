"""Bad inputs of the restoration methods and of `noise`."""

from __future__ import annotations

import numpy as np
import torch
from table import Row

import torchspectral as ts
from torchspectral.errors import (
    BadCube,
    BadInput,
    BadSettings,
    BadWeights,
    BandMismatch,
    MissingWeights,
    OutputExists,
    OutputFailed,
    ProductNotFound,
    UnknownName,
    UnsafeInput,
)
from torchspectral.restoration.noise import write
from torchspectral.weights import save
from torchspectral.weights.card import WeightsCard


def _cube(bands: int = 6, rows: int = 16, cols: int = 14):
    rng = np.random.default_rng(0)
    values = np.linspace(0.2, 0.8, bands)[:, None, None] + 0.2 * rng.random((1, rows, cols))
    values = (values + 0.01 * rng.standard_normal((bands, rows, cols))).astype(np.float32)
    return ts.make_cube(values, wavelength=np.linspace(450, 900, bands), quantity="reflectance")


def _scene(folder, **size):
    ts.save(_cube(**size), folder / "scene.tif")
    return folder


class _Code:
    def __reduce__(self):
        return (print, ("code of a checkpoint was run",))


def _with(make):
    """The scene, and a file of weights beside it."""

    def prepare(folder):
        torch.manual_seed(0)
        make(folder)
        return _scene(folder)

    return prepare


def _checkpoint(model: str, **arguments):
    return _with(lambda f: torch.save({"net": ts.create_model(model, **arguments).state_dict()}, f / "net.pth"))


def _mp_hsir(**more):
    small = {"bands": 6, "tasks": 6, "dim": 8, "blocks": (1, 2, 1), "refinement": 1}
    return _checkpoint("mp-hsir-s", **small, **more)


def _calm(folder):
    card = WeightsCard(name="hsdt-s.calm", model="hsdt-s", constructor={"bands": 6, "channels": 2}, noise=(0.0, 1e-3))
    save(folder / "calm", dict(ts.create_model("hsdt-s", bands=6, channels=2).state_dict()), card)


def _code(folder):
    torch.save({"net": {"weight": torch.ones(2)}, "hook": _Code()}, folder / "net.pth")


def _row(name: str, method: str | None, expect, message: str, *, prepare=_scene, weights: str = "", **settings):
    """A restoration by library and by command."""
    options = ["-m", method] if method else []
    for key, value in settings.items():
        options += ["--set", f"{key}={value}"]

    def make(folder):
        file = folder / weights if weights else None
        return ts.restore(ts.open(folder / "scene.tif"), method=method, settings=settings, weights=file)

    def cli(folder):
        more = ["--weights", folder / weights] if weights else []
        return ["restore", folder / "scene.tif", "-o", folder / "out.tif", *options, *more]

    return Row(name, make, expect, message, cli=cli, prepare=prepare)


def _nothing(folder):
    ts.save(_cube() * np.float32(np.nan), folder / "scene.tif")
    return folder


def _below_zero(folder):
    cube = _cube()
    ts.save(cube.copy(data=cube.values - 5), folder / "scene.tif")
    return folder


def _flat(folder):
    cube = _cube()
    ts.save(cube.copy(data=np.full_like(cube.values, 0.3)), folder / "scene.tif")
    return folder


def _one_pixel(folder):
    return _scene(folder, rows=1, cols=1)


SUBSPACE = ("fasthyde", "hyres", "hyminor", "wsrrr", "otvca", "forpdn", "l1hymixde")
EVERYTHING = (
    "fasthyin",
    "lrmr",
    "lrtv",
    "lrtdtv",
    "ngmeet",
    "pca",
    "tv",
    "wiener",
    "bad-pixels",
    "destripe",
    "despike",
)

ROWS = [
    *(_row(f"{m}-one-pixel", m, BadInput, "expected at least 2", prepare=_one_pixel) for m in ("fast-eigen", *SUBSPACE)),
    *(_row(f"{m}-all-nodata", m, BadInput, "nodata|missing band", prepare=_nothing) for m in (*SUBSPACE, *EVERYTHING)),
    *(_row(f"{m}-below-zero", m, BadInput, "above 0", prepare=_below_zero) for m in ("lrtdtv", "ngmeet", "l1hymixde")),
    _row("fasthyde-rank", "fasthyde", BadSettings, "k", k=0),
    _row("fasthyde-denoiser", "fasthyde", BadSettings, "denoiser", denoiser="bm3d"),
    _row("l1hymixde-window", "l1hymixde", BadSettings, "window|median", window=4),
    _row("wsrrr-rank", "wsrrr", BadInput, "rank", rank=9),
    _row("otvca-features", "otvca", BadInput, "features", features=9),
    _row("pca-components", "pca", BadInput, "components", components=9),
    _row("lrmr-rank", "lrmr", BadSettings, "rank", rank=0),
    _row("lrtv-tau", "lrtv", BadSettings, "tau", tau=-1),
    _row("ngmeet-sigma", "ngmeet", BadSettings, "sigma", sigma=-1),
    _row("setting-of-another", "hyres", BadSettings, "rank", rank=3),
    _row("method-nearly", "fasteigen", UnknownName, "did you mean fast-eigen"),
    _row("fast-eigen-rank", "fast-eigen", BadInput, "at most as many", rank=7),
    _row("fast-eigen-patch", "fast-eigen", BadSettings, "patch", patch=64),
    _row("hsdt-flat", "hsdt", BadInput, "contrast", prepare=_flat),
    _row("hsdt-weights-of-man", "hsdt", BadWeights, "no weights of hsdt", weights="net.pth",
        prepare=_checkpoint("man-s", channels=2)),
    _row("hsdt-other-size", "hsdt", BadWeights, "size", weights="net.pth", size="m",
        prepare=_checkpoint("hsdt-s", bands=6, channels=2)),
    _row("hsdt-too-noisy", "hsdt", BadInput, "noise is about", weights="calm.safetensors", prepare=_with(_calm)),
    _row("hsdt-code-in-checkpoint", "hsdt", UnsafeInput, "weights convert", weights="net.pth", prepare=_with(_code)),
    _row("man-other-size", "man", BadWeights, "size", size="l"),
    _row("man-other-version", "man", BadWeights, "set version=v1", weights="net.pth", version="v2",
        prepare=_checkpoint("man-v1-s", channels=2)),
    _row("mp-hsir-far-bands", "mp-hsir", BandMismatch, "cover",
        prepare=lambda f: ts.save(_cube().assign_coords(wavelength=("band", np.linspace(1500, 2200, 6))), f / "scene.tif")
        and f),
    _row("mp-hsir-task", "mp-hsir", UnknownName, "destripe", task="destrip", weights="net.pth", prepare=_mp_hsir()),
    _row("mp-hsir-task-lacking", "mp-hsir", BadSettings, "not 'haze'", task="dehaze", weights="net.pth",
        prepare=_mp_hsir()),
    _row("mp-hsir-bands", "mp-hsir", BandMismatch, "for 5 bands", weights="net.pth",
        prepare=_checkpoint("mp-hsir-s", bands=5, tasks=6, dim=8, blocks=(1, 1, 1), refinement=1)),
    _row("mp-hsir-no-text", "mp-hsir", MissingWeights, "text_features=FILE", weights="net.pth",
        prepare=_mp_hsir(authors_layout=True, text_mode="released")),
    _row("mp-hsir-no-text-file", "mp-hsir", ProductNotFound, "text.npy", weights="net.pth", text_features="text.npy",
        prepare=_mp_hsir()),
    Row("residual-over-result", lambda f: ts.restore(ts.open(f / "scene.tif"), out=f / "o.tif", residual=f / "o.tif",
        overwrite=True), OutputFailed, "expected two files", prepare=_scene,
        cli=lambda f: ["restore", f / "scene.tif", "-o", f / "o.tif", "--residual", f / "o.tif", "--overwrite"]),
    Row("residual-exists", lambda f: ts.restore(ts.open(f / "scene.tif"), out=f / "o.tif", residual=f / "scene.tif"),
        OutputExists, "exists", prepare=_scene),
    Row("video", lambda f: ts.restore(_cube().expand_dims("time")), BadCube, "pick one with isel"),
    Row("noise-video", lambda f: ts.noise(_cube().expand_dims("time")), BadCube, "pick one with isel"),
    Row("array", lambda f: ts.restore(_cube().values), BadCube, "ts.make_cube"),
    Row("path", lambda f: ts.restore(f / "scene.tif"), BadCube, "ts.open"),
    Row("noise-nothing", lambda f: ts.noise(ts.open(f / "scene.tif")), BadInput, "no valid pixel",
        cli=lambda f: ["noise", f / "scene.tif"], prepare=_nothing),
    Row("noise-picture", lambda f: write(ts.noise(ts.open(f / "scene.tif")), f / "noise.jpeg"),
        OutputFailed, "expected .csv, .png", cli=lambda f: ["noise", f / "scene.tif", "-o", f / "noise.jpeg"], prepare=_scene),
]  # fmt: skip
