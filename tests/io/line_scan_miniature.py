"""Writes miniature captures of line-scan cameras as their software lays them out; shares nothing with the reader."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

BANDS, LINES, SAMPLES = 6, 5, 4
WAVE = ", ".join(f"{400 + 20.5 * n:.2f}" for n in range(BANDS))


def frames(lines: int, seed: int, bands: int = BANDS, samples: int = SAMPLES) -> np.ndarray:
    """Counts of 12 bits, (band, y, x)."""
    return np.random.default_rng(seed).integers(90, 4000, (bands, lines, samples)).astype("<u2")


def bil(path: Path, values: np.ndarray, before: bytes = b"") -> None:
    path.write_bytes(before + np.ascontiguousarray(values.transpose(1, 0, 2)).tobytes())


def header(values: np.ndarray, keys: str, offset: int = 0) -> str:
    bands, lines, samples = values.shape
    return (
        f"ENVI\nsamples = {samples}\nlines = {lines}\nbands = {bands}\nheader offset = {offset}\ndata type = 12\n"
        f"interleave = bil\nbyte order = 0\n{keys}"
    )


def specim(folder: Path, name: str = "leaf_0001", closed: int = 0) -> dict[str, np.ndarray]:
    """``NAME/capture`` with dark, white and the dark of the white; `closed` lines at the end of the scene are dark."""
    capture = folder / name / "capture"
    capture.mkdir(parents=True)
    made = {"scene": frames(LINES, 1), "dark": frames(3, 2), "white": frames(4, 3), "white_dark": frames(2, 4)}
    prefixes = {"scene": "", "dark": "DARKREF_", "white": "WHITEREF_", "white_dark": "WHITEDARKREF_"}
    for role, values in made.items():
        keys = (
            "file type = ENVI\nsensor type = SPECIM FX10e, 4210123\nsensorid = 4210123\n"
            f"fps = 50.00\ntint = {9.5 if role in ('white', 'white_dark') else 8.25}\nbinning = {{2, 1}}\n"
            "acquisition date = DATE(yyyy-mm-dd): 2023-05-01\nStart Time = UTC TIME: 08:09:10\n"
            "Stop Time = UTC TIME: 08:10:00\ntemperature = {\n 38.25, 31}\nwavelength = {\n" + WAVE + "\n}\n"
        )
        if role == "scene" and closed:
            keys += f"autodarkstartline = {LINES - closed}\n"
        stem = f"{prefixes[role]}{name}"
        (capture / f"{stem}.hdr").write_text(header(values, keys))
        bil(capture / f"{stem}.raw", values)
    return made


def headwall(folder: Path) -> dict[str, np.ndarray]:
    """Flat folder; references without endings; no byte order, list items that begin with a comma."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {"scene": frames(LINES, 5), "dark": frames(1, 6), "white": frames(3, 7)}
    listed = "wavelength = {\n" + "\n,".join(f"{400 + 20.5 * n:.2f}" for n in range(BANDS)) + "\n}\n"
    for role, name in (("scene", "raw_0"), ("dark", "darkReference"), ("white", "whiteReference")):
        keys = "; taken in the laboratory\ndescription = {[HEADWALL Hyperspec III]}\nwavelength units = nm\n" + listed
        text = header(made[role], keys).replace("byte order = 0\n", "").replace("header offset = 0\n", "")
        (folder / f"{name}.hdr").write_text(text)
        bil(folder / name, made[role])
    return made


def resonon(folder: Path) -> dict[str, np.ndarray]:
    """``NAME.bil`` with ``NAME.bil.hdr``, gain in dB, shutter in ms."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {"scene": frames(LINES, 8), "dark": frames(2, 9)}
    for role, name in (("scene", "Rock-3"), ("dark", "Rock-3-Dark")):
        keys = (
            "imager type = Pika L\nimager serial number = 100064-1\nframerate = 62.5\nshutter = 11.25\ngain = 4.5\n"
            "timestamp = 2022-03-04T05:06:07\nsample binning = 1\nspectral binning = 2\nline binning = 1\n"
            f"ceiling = 4095\nwavelength = {{{WAVE}}}\n"
        )
        (folder / f"{name}.bil.hdr").write_text(header(made[role], keys))
        bil(folder / f"{name}.bil", made[role])
    return made


def hyspex_block(background: np.ndarray, responsivity: np.ndarray, efficiency: np.ndarray, size: int) -> bytes:
    """The header of a raw file: fixed fields of 2181 bytes, then centres, QE, RE and background in float64."""
    bands, samples = background.shape
    out = bytearray(size)
    out[:8] = b"HYSPEX\0\0"
    struct.pack_into("<ii", out, 8, size, 827)
    struct.pack_into("<ddd", out, 856, 41.5, 40.25, 20.0)
    out[1080:1100] = b"VNIR_1800_SN0827".ljust(20, b"\0")
    struct.pack_into("<IIII", out, 1957, 200, bands, samples, 2)
    struct.pack_into("<II", out, 1977, 13000, 30000)
    at = 2181
    for block in (400 + 20.5 * np.arange(bands), efficiency, responsivity, background):
        data = np.asarray(block, "<f8").tobytes()
        out[at : at + len(data)] = data
        at += len(data)
    return bytes(out)


def hyspex(folder: Path, block: bool = True) -> dict[str, np.ndarray]:
    """``.hyspex`` with a header of its own before the pixels, whose size the ENVI header states."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(10)
    made = {
        "scene": frames(LINES, 11), "background": rng.uniform(90, 110, (BANDS, SAMPLES)),
        "responsivity": rng.uniform(0.9, 1.1, (BANDS, SAMPLES)), "efficiency": rng.uniform(0.3, 0.8, BANDS),
    }  # fmt: skip
    size = 4096
    name = "site_VNIR_1800_SN0827_13000_us_raw"
    keys = (
        "description = {\nFrameperiod = 30000\nIntegrationtime = 13000\nBinning = 2\nID = VNIR_1800_SN0827\n"
        "Pixelsize x = 0.00018\nPixelsize y = 0.00036\nNumber of background = 200\n}\n"
        f"wavelength units = Nanometers\nwavelength = {{{WAVE}}}\n"
    )
    before = hyspex_block(made["background"], made["responsivity"], made["efficiency"], size) if block else b"\0" * size
    (folder / f"{name}.hdr").write_text(header(made["scene"], keys, size))
    bil(folder / f"{name}.hyspex", made["scene"], before)
    return made
