"""What people get wrong on the command line; each row also calls the library the same way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from affine import Affine
from table import Row

import torchspectral as ts
from torchspectral.cli.batch import expand, outputs_for
from torchspectral.cli.options import OutPath, parse_bands, parse_tile
from torchspectral.errors import (
    BadCube,
    BadInput,
    BadSettings,
    BandMismatch,
    GridMismatch,
    OutputExists,
    OutputFailed,
    ProductNotFound,
    TorchspectralError,
    UnknownName,
)
from torchspectral.geo.grids import place
from torchspectral.io.places import read_points, save_spectra_at
from torchspectral.io.quicklook import save_quicklook


def _scene(folder: Path, name: str = "scene.tif", bands: int = 6, size: int = 16) -> Path:
    cube = ts.make_cube(
        np.random.default_rng(0).random((bands, size, size), np.float32),
        wavelength=np.linspace(450, 900, bands),
        fwhm=np.full(bands, 10.0),
        quantity="reflectance",
    )
    ts.save(place(cube, Affine(30, 0, 362175, 0, -30, 5809965), 32633), folder / name)
    return folder / name


def _library(folder: Path) -> Path:
    ts.save(ts.make_spectra(np.eye(3, 6, dtype=np.float32), ["a", "b", "c"], wavelength=np.linspace(450, 900, 6)),
            folder / "library.sli")  # fmt: skip
    return folder / "library.sli"


def _points(folder: Path) -> tuple[Path, Path]:
    (folder / "points.csv").write_text("name,x\na,3\n")
    return _scene(folder), folder / "points.csv"


def _list(folder: Path) -> Path:
    (folder / "list.txt").write_text("nowhere.tif\n")
    return folder / "list.txt"


def _config(folder: Path, text: str) -> tuple[Path, Path]:
    (folder / "c.yaml").write_text(text)
    return _scene(folder), folder / "c.yaml"


def _twice(folder: Path) -> Path:
    for name in ("one", "two"):
        (folder / name).mkdir()
        _scene(folder / name)
    return folder


def _usage(*words: str) -> None:
    """Wrong usage has no counterpart in the library: run the command and say what it said."""
    import io
    from contextlib import redirect_stderr

    from torchspectral.cli import main

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            main(list(words))
    except SystemExit as stop:
        if stop.code == 2:
            raise TorchspectralError(said.getvalue().strip()) from None


def _only_words(name: str, message: str, *words: str) -> Row:
    return Row(name, lambda f: _usage(*words), TorchspectralError, message, cli=lambda f: list(words))


def _at(scene: Path, x: float, y: float, how: str = "pixel") -> None:
    save_spectra_at(ts.open(scene), [("p", x, y)], scene.parent / "s.csv", how=how)


ROWS = [
    Row("bands-word", lambda f: parse_bands("1-x"), BadSettings, "--bands",
        cli=lambda f: ["convert", str(f), "-o", str(f.parent / "o.tif"), "--bands", "1-x"], prepare=_scene),
    Row("bands-beyond", lambda f: ts.convert(f, f.parent / "o.tif", bands=[0, 99]), BandMismatch, "band 100 .* expected bands 1 to 6",
        cli=lambda f: ["convert", str(f), "-o", str(f.parent / "o.tif"), "--bands", "1,100"], prepare=_scene),
    Row("tile-word", lambda f: parse_tile("0x3"), BadSettings, "--tile",
        cli=lambda f: ["restore", str(f), "-o", str(f.parent / "o.tif"), "--tile", "0x3"], prepare=_scene),
    Row("input-missing", lambda f: expand([f / "no.tif"]), ProductNotFound, "does not exist",
        cli=lambda f: ["info", str(f / "no.tif")]),
    Row("folder-empty", lambda f: expand([f]), ProductNotFound, "holds none", cli=lambda f: ["info", str(f)]),
    Row("list-missing", lambda f: expand([f]), ProductNotFound, "nowhere.tif", prepare=_list,
        cli=lambda f: ["convert", str(f), "-o", str(f.parent / "out") + "/"]),
    Row("many-to-one-file", lambda f: outputs_for([f, f], OutPath("x.tif"), ".tif"), BadSettings, "one output file",
        cli=lambda f: ["convert", str(f), str(f), "-o", str(f.parent / "x.tif")], prepare=_scene),
    Row("same-names", lambda f: outputs_for([f / "one/scene.tif"] * 2, OutPath.read("o/"), ".tif"), BadSettings,
        "same name", prepare=_twice,
        cli=lambda f: ["convert", str(f / "one/scene.tif"), str(f / "one/scene.tif"), "-o", str(f / "o") + "/"]),
    Row("output-is-input", lambda f: ts.convert(f, f, overwrite=True), OutputFailed, "input",
        cli=lambda f: ["convert", str(f), "-o", str(f), "--overwrite"], prepare=_scene),
    Row("restore-over-input", lambda f: ts.restore(ts.open(f), out=f, overwrite=True), OutputFailed, "input",
        cli=lambda f: ["restore", str(f), "-o", str(f), "--overwrite"], prepare=_scene),
    Row("output-exists", lambda f: ts.convert(f, f.with_name("scene.tif")), OutputFailed, "input",
        cli=lambda f: ["convert", str(f), "-o", str(f)], prepare=_scene),
    Row("quicklook-exists", lambda f: save_quicklook(ts.open(f), f.with_suffix(".png")), OutputExists, "exists",
        cli=lambda f: ["quicklook", str(f), "-o", str(f.with_suffix(".png"))],
        prepare=lambda f: (_scene(f), (f / "scene.png").write_bytes(b"mine"))[0]),
    Row("quicklook-suffix", lambda f: save_quicklook(ts.open(f), f.with_suffix(".xyz")), BadSettings, "picture",
        cli=lambda f: ["quicklook", str(f), "-o", str(f.with_suffix(".xyz"))], prepare=_scene),
    Row("quicklook-infrared", lambda f: save_quicklook(ts.open(f), f.with_suffix(".png"), wavelengths=(2200, 1600, 9)),
        BandMismatch, "within",
        cli=lambda f: ["quicklook", str(f), "-o", str(f.with_suffix(".png")), "--rgb", "2200", "1600", "9"],
        prepare=_scene),
    Row("quicklook-library", lambda f: save_quicklook(ts.open(f), f.with_suffix(".png")), BadCube, "expected an image",
        cli=lambda f: ["quicklook", str(f), "-o", str(f.with_suffix(".png"))], prepare=_library),
    Row("spectrum-library", lambda f: _at(f, 0, 0), BadCube, "expected an image",
        cli=lambda f: ["spectrum", str(f), "--at", "0", "0", "-o", str(f.parent / "s.csv")], prepare=_library),
    Row("spectrum-half-pixel", lambda f: _at(f, 0.5, 0), BadSettings, "whole numbers",
        cli=lambda f: ["spectrum", str(f), "--at", "0.5", "0", "--pixel", "-o", str(f.parent / "s.csv")],
        prepare=_scene),
    Row("spectrum-outside", lambda f: _at(f, 1, 2, "grid"), GridMismatch, "outside",
        cli=lambda f: ["spectrum", str(f), "--at", "1", "2", "-o", str(f.parent / "s.csv")], prepare=_scene),
    Row("points-two-columns", lambda f: read_points(f[1]), BadSettings, "name,x,y", prepare=_points,
        cli=lambda f: ["spectrum", str(f[0]), "--points", str(f[1]), "-o", str(f[0].parent / "s.csv")]),
    Row("sensor-misspelt", lambda f: ts.convert(f, f.parent / "o.tif", resample="sentinal-2"), UnknownName, "sentinel-2",
        cli=lambda f: ["convert", str(f), "-o", str(f.parent / "o.tif"), "--resample", "sentinal-2"], prepare=_scene),
    Row("box-outside", lambda f: ts.convert(f, f.parent / "o.tif", bbox=(1, 2, 3, 4)), GridMismatch, "outside",
        cli=lambda f: ["convert", str(f), "-o", str(f.parent / "o.tif"), "--bbox", "1", "2", "3", "4", "--dry-run"],
        prepare=_scene),
    Row("no-flags", lambda f: ts.convert(f, f.parent / "o.tif", mask="clear"), BadInput, "flags",
        cli=lambda f: ["convert", str(f), "-o", str(f.parent / "o.tif"), "--mask", "clear"], prepare=_scene),
    Row("no-pan", lambda f: ts.open(f, layers=("pan",)), UnknownName, "pan", prepare=_scene),
    Row("config-unknown-option", lambda f: _usage("restore", str(f[0]), "-o", "o.tif", "--config", str(f[1])),
        TorchspectralError, "no option", prepare=lambda f: _config(f, "comopnents: 3\n"),
        cli=lambda f: ["restore", str(f[0]), "-o", str(f[0].parent / "o.tif"), "--config", str(f[1])]),
    Row("config-of-another-verb", lambda f: _usage("restore", str(f[0]), "-o", "o.tif", "--config", str(f[1])),
        TorchspectralError, "unmixing/vca", prepare=lambda f: _config(f, "method: unmixing/vca\ntorchspectral: 0.1\n"),
        cli=lambda f: ["restore", str(f[0]), "-o", str(f[0].parent / "o.tif"), "--config", str(f[1])]),
    Row("config-a-list", lambda f: _usage("restore", str(f[0]), "-o", "o.tif", "--config", str(f[1])),
        TorchspectralError, "expected a map", prepare=lambda f: _config(f, "- 1\n"),
        cli=lambda f: ["restore", str(f[0]), "-o", str(f[0].parent / "o.tif"), "--config", str(f[1])]),
    _only_words("usage-nothing", "no verb"),
    _only_words("usage-verb", "Did you mean 'convert'", "convrt", "x"),
    _only_words("usage-sub-verb", "Did you mean 'sharpen'", "bench", "shapen"),
    _only_words("usage-no-input", "SCENES", "convert", "-o", "x.tif"),
    _only_words("usage-no-output", "--output", "convert", "x.tif"),
    _only_words("usage-option", "--overwrite", "convert", "x.tif", "-o", "y.tif", "--overwrit"),
    _only_words("usage-number", "--workers", "convert", "x.tif", "-o", "y.tif", "--workers", "many"),
    _only_words("usage-three-of-four", "--bbox", "convert", "x.tif", "-o", "y.tif", "--bbox", "1", "2", "3"),
    _only_words("usage-empty-output", "empty", "convert", "x.tif", "-o", ""),
    _only_words("usage-to", "--to", "convert", "x.tif", "-o", "y/", "--to", "jp2"),
    _only_words("methods-room", "sharpening", "methods", "sharpning"),
    _only_words("methods-name", "gsa", "methods", "sharpening", "gsaa"),
    _only_words("methods-reader", "enmap", "methods", "io", "enmpa"),
]  # fmt: skip
