"""Bad AVIRIS flight lines, line-scan captures, mosaic frames, MATLAB and NumPy scenes."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import scipy.io
from table import Row, info, opens

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
import aviris_miniature
import line_scan_miniature
import mosaic_miniature

import torchspectral as ts
from torchspectral.errors import (
    BadCube,
    BadSettings,
    BandMismatch,
    BrokenProduct,
    GridMismatch,
    MissingMetadata,
    ProductNotFound,
    TooLarge,
    UnknownName,
    UnsafeInput,
)
from torchspectral.geo import orthorectify


def classic(name: str, change=None):
    def prepare(folder: Path) -> Path:
        aviris_miniature.classic(folder, 3, 3)
        if change:
            change(folder)
        return folder / name

    return prepare


def swath(change=None, image: str = f"{aviris_miniature.NG}_rdn_v2p11_img"):
    def prepare(folder: Path) -> Path:
        aviris_miniature.sensor_geometry(folder)
        if change:
            change(folder)
        return folder / image if image else folder

    return prepare


def edited(name: str, old: str, new: str):
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(path.read_text().replace(old, new, 1))

    return change


def gone(name: str):
    return lambda folder: (folder / name).unlink()


def empty_folder(folder: Path) -> Path:
    (folder / f"{aviris_miniature.NG}_x").mkdir()
    return folder / f"{aviris_miniature.NG}_x"


def capture(change=None):
    def prepare(folder: Path) -> Path:
        line_scan_miniature.headwall(folder)
        if change:
            change(folder)
        return folder / "raw_0"

    return prepare


def cut_dark(folder: Path) -> None:
    (folder / "darkReference").write_bytes(b"x" * 9)


def other_white(folder: Path) -> None:
    values = line_scan_miniature.frames(2, 1, samples=9)
    (folder / "whiteReference.hdr").write_text(line_scan_miniature.header(values, ""))
    line_scan_miniature.bil(folder / "whiteReference", values)


def hyspex(folder: Path) -> Path:
    made = line_scan_miniature.hyspex(folder)
    path = next(folder.glob("*.hyspex"))
    block = bytearray(path.read_bytes())
    block[1961:1969] = np.array([9999, 9999], "<u4").tobytes()
    path.write_bytes(bytes(block))
    assert made
    return path


def frame(**more):
    def prepare(folder: Path) -> Path:
        mosaic_miniature.write(folder / "frame.png", mosaic_miniature.frame(4, 16, 20))
        if more:
            area = more.get("area", (0, 0, 20, 16))
            rest = {key: value for key, value in more.items() if key != "area"}
            mosaic_miniature.calibration(folder / "frame.xml", 4, area, **rest)
        return folder / "frame.png"

    return prepare


def damaged_png(folder: Path) -> Path:
    path = mosaic_miniature.write(folder / "frame.png", mosaic_miniature.frame(4, 64, 64))
    path.write_bytes(path.read_bytes()[:300])
    return path


def mat(**variables):
    def prepare(folder: Path) -> Path:
        scipy.io.savemat(folder / "a.mat", variables)
        return folder / "a.mat"

    return prepare


def labels_of_another_scene(folder: Path) -> Path:
    scipy.io.savemat(folder / "PaviaU.mat", {"paviaU": np.zeros((4, 5, 6))})
    scipy.io.savemat(folder / "PaviaU_gt.mat", {"paviaU_gt": np.zeros((4, 4))})
    return folder / "PaviaU.mat"


def pickled(name: str):
    def prepare(folder: Path) -> Path:
        trap = np.array([{}], dtype=object)
        if name.endswith(".npz"):
            np.savez(folder / name, cube=np.zeros((2, 3, 4)), trap=trap)
        else:
            np.save(folder / name, trap, allow_pickle=True)
        return folder / name

    return prepare


def promising(folder: Path) -> Path:
    np.save(folder / "a.npy", np.zeros((2, 3, 4)))
    data = (folder / "a.npy").read_bytes()
    (folder / "a.npy").write_bytes(data.replace(b"(2, 3, 4), }" + b" " * 20, b"(200000, 300000, 400000), }".ljust(32)))
    return folder / "a.npy"


def two_cubes(folder: Path) -> Path:
    np.savez(folder / "a.npz", one=np.zeros((2, 3, 4)), two=np.zeros((2, 3, 4)))
    return folder / "a.npz"


def escaping(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.npz", "w") as out:
        out.writestr("/etc/up.npy", b"")
    return folder / "a.npz"


RFL, RDN = f"{aviris_miniature.CLASSIC}_rfl_v1_img", f"{aviris_miniature.CLASSIC}rdn_e_sc01_ort_img"
NG = aviris_miniature.NG
GAINS = f"{aviris_miniature.CLASSIC}rdn_e.gain"
ENTITY = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
ROWS = [
    Row("aviris-no-data", opens(), ProductNotFound, "data file", prepare=classic(f"{RFL}.hdr", gone(RFL)), cli=info),
    Row(
        "aviris-bands", opens(), BandMismatch, "224 bands but states 223",
        prepare=classic(RFL, edited(f"{RFL}.hdr", "365.9000 , ", "")), cli=info,
    ),
    Row(
        "aviris-factors", opens(), BandMismatch, "correction factors for 224",
        prepare=classic(RFL, edited(f"{RFL}.hdr", "correction factors = { ", "correction factors = { 1.0 , ")),
    ),
    Row("aviris-correction", opens(correction="on"), BadSettings, "none, apply, undo", prepare=classic(RFL)),
    Row("aviris-no-factors", opens(correction="apply"), BadSettings, "no correction factors", prepare=classic(RDN)),
    Row("aviris-overlap", opens(overlap="vnir"), BadSettings, "product, wavelength", prepare=classic(RFL)),
    Row("aviris-gains", opens(), BrokenProduct, "not positive", prepare=classic(RDN, edited(GAINS, "300.0", "-300.0"))),
    Row("aviris-layer", opens(layers=["sun_angle"]), UnknownName, "sun_", prepare=swath()),
    Row(
        "aviris-glt-outside", lambda path: orthorectify(ts.open(path)).values, BrokenProduct, "it belongs to another file",
        prepare=swath(lambda folder: aviris_miniature.envi(
            folder / f"{NG}_glt", np.full((2, 6, 5), 99, np.int32),
            "map info = {UTM, 1, 1, 499985.0, 4100015.0, 30, 30, 11, North, WGS-84, units=Meters}\n",
        )),
    ),
    Row("aviris-folder", opens(reader="aviris"), ProductNotFound, "no file of an AVIRIS flight line", prepare=empty_folder),
    Row(
        "line-scan-dark-cut", opens(layers="dark"), BrokenProduct, "9 bytes, expected 48", prepare=capture(cut_dark)
    ),
    Row(
        "line-scan-white-size", opens(layers="white"), BandMismatch, "9 samples, expected 6 bands and 4",
        prepare=capture(other_white),
    ),
    Row("line-scan-camera", opens(camera="x"), BadSettings, "headwall, specim", prepare=capture()),
    Row("line-scan-lines", opens(dark_lines="x"), BadSettings, "cut, keep", prepare=capture()),
    Row("line-scan-hyspex", opens(), BrokenProduct, "9999 bands and 9999 samples", prepare=hyspex, cli=info),
    Row("mosaic-no-pattern", opens(), MissingMetadata, r"pattern=\(4, 4\)", prepare=frame(), cli=info),
    Row("mosaic-pattern", opens(pattern="4x4"), BadSettings, "rows, columns", prepare=frame()),
    Row("mosaic-entity", opens(), UnsafeInput, "document type", prepare=frame(head=ENTITY), cli=info),
    Row("mosaic-area", opens(), GridMismatch, "leaves the frame", prepare=frame(area=(4, 0, 20, 16)), cli=info),
    Row(
        "mosaic-filters", opens(), BrokenProduct, "describes 9 filters", prepare=frame(peaks=[500.0] * 9), cli=info
    ),
    Row(
        "mosaic-damaged", lambda path: ts.open(path, pattern=(4, 4)).values, BrokenProduct, "cannot be (read|opened)",
        prepare=damaged_png,
    ),
    Row("mosaic-calibration", opens(calibration="none.xml"), ProductNotFound, "does not exist", prepare=frame()),
    Row("mat-labels-size", opens(layers="labels"), BrokenProduct, "4 x 4 pixels, expected 4 x 5", prepare=labels_of_another_scene),
    Row("mat-sensor", opens(sensor="rosis"), BandMismatch, "give wavelength=", prepare=mat(cube=np.zeros((3, 4, 9)))),
    Row("mat-sensor-name", opens(sensor="rosi"), UnknownName, "no sensor", prepare=mat(cube=np.zeros((3, 4, 9)))),
    Row("mat-size", opens(size="3x4"), BadSettings, "rows, columns", prepare=mat(Y=np.zeros((9, 12)))),
    Row(
        "mat-cells", opens(), BadCube, "cell", prepare=mat(names=np.array(["a", "b"], dtype=object)), cli=info
    ),
    Row("npy-pickle", opens(), UnsafeInput, "never loaded", prepare=pickled("a.npy"), cli=info),
    Row("npz-pickle", opens(), UnsafeInput, "never loaded", prepare=pickled("a.npz"), cli=info),
    Row("npy-promise", opens(), TooLarge, "promises 192 PB", prepare=promising, cli=info),
    Row("npz-several", opens(), MissingMetadata, "give key=", prepare=two_cubes, cli=info),
    Row("npz-escape", opens(), UnsafeInput, "leads out", prepare=escaping, cli=info),
    Row("npy-axes", opens(axes="bxy", key="one"), BadSettings, "yxb, byx, ybx", prepare=two_cubes),
]  # fmt: skip
