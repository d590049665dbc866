"""Bad lines, gains, references and panels of calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from table import Row

import torchspectral as ts
from torchspectral.calibration import read_gains
from torchspectral.errors import BadInput, BadSettings, BandMismatch, BrokenProduct, GridMismatch, ProductNotFound


def cube(bands: int = 2, rows: int = 30, cols: int = 20, seed: int = 0):
    values = np.random.default_rng(seed).uniform(0.5, 1.5, (bands, rows, cols)).astype(np.float32)
    return ts.make_cube(values, wavelength=np.linspace(500, 600, bands))


def lines(folder: Path, *, cols: tuple[int, ...] = (20, 20), bands: tuple[int, ...] = (2, 2)) -> Path:
    for n, (width, count) in enumerate(zip(cols, bands, strict=True)):
        ts.save(cube(count, 30, width, n), folder / f"line{n}.hdr")
    return folder


def gain(folder: Path, *more: str) -> list[str]:
    words = [str(folder / "line0.hdr"), str(folder / "line1.hdr")]
    return ["calibrate", "gain", *words, *more, "-o", str(folder / "g.csv")]


def by_gain(*more: str, **options):
    def call(folder: Path):
        return ts.calibrate_gain([ts.open(folder / "line0.hdr"), ts.open(folder / "line1.hdr")], **options)

    return {"make": call, "cli": lambda folder: gain(folder, *more)}


def written(name: str, text: str):
    def prepare(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return prepare


def captured(folder: Path, white: int = 4000, cols: int = 20) -> Path:
    for name, level, width in (("raw", 2000, 20), ("white", white, cols), ("dark", 100, 20)):
        values = np.full((2, 5, width), level, np.uint16)
        ts.save(ts.make_cube(values, wavelength=[500.0, 600.0]), folder / f"{name}.hdr")
    return folder


def by_references(**options):
    def call(folder: Path):
        return ts.calibrate_reflectance(*(ts.open(folder / f"{n}.hdr") for n in ("raw", "white", "dark")), **options)

    return call


def reflectance(folder: Path, *more: str) -> list[str]:
    given = ["--white", str(folder / "white.hdr"), "--dark", str(folder / "dark.hdr"), *more]
    return ["calibrate", "reflectance", str(folder / "raw.hdr"), *given, "-o", str(folder / "refl.tif")]


SHIFTS = ["--shift", "0,0", "--shift"]
ROWS = [
    Row("gain-nowhere", expect=GridMismatch, message="no georeference", prepare=lines, **by_gain()),
    Row(
        "gain-groups", expect=BadInput, message="unconnected groups", prepare=lines,
        **by_gain(*SHIFTS, "0,2", shifts=[(0, 0), (0, 2)]),
    ),
    Row(
        "gain-apart", expect=BadInput, message="no two detectors saw the same ground", prepare=lines,
        **by_gain(*SHIFTS, "0,50", shifts=[(0, 0), (0, 50)]),
    ),
    Row(
        "gain-other-width", expect=BadInput, message="the same detectors", prepare=lambda f: lines(f, cols=(20, 12)),
        **by_gain(*SHIFTS, "0,1", shifts=[(0, 0), (0, 1)]),
    ),
    Row(
        "gain-other-bands", expect=BandMismatch, message="the same sensor", prepare=lambda f: lines(f, bands=(2, 3)),
        **by_gain(*SHIFTS, "0,1", shifts=[(0, 0), (0, 1)]),
    ),
    Row(
        "gain-not-flat", expect=BadInput, message="not homogeneous", prepare=lines, **by_gain("-m", "flat", method="flat"),
    ),
    Row("gain-no-library", expect=BadInput, message="no library", prepare=lines, **by_gain("-m", "spectral", method="spectral")),
    Row("gain-method", expect=BadSettings, message="unknown gain method", prepare=lines, **by_gain("-m", "gans", method="gans")),
    Row("gains-absent", read_gains, ProductNotFound, "does not exist", prepare=lambda f: f / "none.csv"),
    Row("gains-words", read_gains, BrokenProduct, "no column", prepare=written("g.csv", "hello,world\n1,2\n")),
    Row("gains-holes", read_gains, BrokenProduct, "expected one for each", prepare=written("g.csv", "band,detector,gain\n1,1,1\n2,2,1\n")),
    Row("gains-text", read_gains, BrokenProduct, "words", prepare=written("g.csv", "band,detector,gain\n1,1,x\n")),
    Row("gains-zip", read_gains, BrokenProduct, "no file of gains", prepare=written("g.npz", "PK not a zip")),
    Row("gains-suffix", read_gains, BadSettings, ".csv, .npz, .hdr", prepare=written("g.txt", "1")),
    Row(
        "white-saturates", by_references(), BadInput, "white panel saturates",
        cli=reflectance, prepare=lambda f: captured(f, 65535),
    ),
    Row("white-is-dark", by_references(), BadInput, "mixed up", cli=reflectance, prepare=lambda f: captured(f, 100)),
    Row("white-width", by_references(), GridMismatch, "white=spectrum", cli=reflectance, prepare=lambda f: captured(f, 4000, 8)),
    Row(
        "panel-percent", by_references(panel=99.0), BadSettings, "not 99",
        cli=lambda f: reflectance(f, "--panel", "99"), prepare=captured,
    ),
    Row(
        "panel-short",
        by_references(panel=ts.make_spectra([[0.9, 0.9, 0.9]], ["p"], wavelength=[400, 450, 520])),
        BandMismatch, "does not cover", prepare=captured,
    ),
]  # fmt: skip
