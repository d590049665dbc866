"""Gains as files: CSV, NPZ or ENVI, each with a JSON record beside it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.calibration.gain.gains import Gains
from torchspectral.errors import BadSettings, BrokenProduct, OutputExists, OutputFailed, ProductNotFound, TooLarge

SUFFIXES = (".csv", ".npz", ".hdr")
LARGEST = 2 << 30
"""Largest file of gains that is read [bytes]."""

MOST = 1 << 31
"""Bands and detectors have numbers below."""

_ROWS = ("gain", "offset", "error")


def check_path(path: str | Path, *, overwrite: bool = False) -> Path:
    """Refuse a name that no format has, and one that is taken.

    Raises
    ------
    BadSettings, OutputExists
    """
    out = Path(path)
    if out.suffix.lower() not in SUFFIXES:
        raise BadSettings(f"got {out.name} as output of gains, expected a name that ends in {', '.join(SUFFIXES)}")
    for taken in (out, record_path(out)):
        if taken.exists() and not overwrite:
            raise OutputExists(f"{taken} exists: overwrite=True (--overwrite) replaces it, or choose another name")
    return out


def record_path(path: Path) -> Path:
    """JSON record of a file of gains: gains.csv has gains.json."""
    return path.with_suffix(".json")


def write_gains(gains: Gains, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write gains and their record.

    CSV: one row a band and detector (band, wavelength, detector, gain, offset, error). NPZ: the arrays by name. ENVI:
    a cube of three lines, gain, offset and error. calibrated = gain * raw + offset.

    Raises
    ------
    BadSettings, OutputExists, OutputFailed
    """
    out = check_path(path, overwrite=overwrite)
    if out.suffix.lower() == ".csv":
        _write_csv(gains, out, overwrite)
    elif out.suffix.lower() == ".npz":
        arrays = {name: getattr(gains, name) for name in (*_ROWS, "wavelength", "number")}
        _atomic(out, lambda part: np.savez(part, **arrays))
    else:
        from torchspectral.cube import make_cube
        from torchspectral.io import save

        stacked = np.stack([getattr(gains, name) for name in _ROWS], axis=1)
        cube = make_cube(stacked, wavelength=gains.wavelength, number=gains.number, quantity="dn")
        cube.attrs["history"] = ["relative gains: line 1 gain, line 2 offset, line 3 standard error"]
        save(cube, out, overwrite=overwrite)
    text = json.dumps(
        {"what": "relative gains", "rule": "calibrated = gain * raw + offset", "gains": out.name, **gains.record},
        indent=1, allow_nan=False, default=str,
    )  # fmt: skip
    _atomic(record_path(out), lambda part: Path(part.name).write_text(text + "\n", encoding="utf-8"))
    return out


def _write_csv(gains: Gains, out: Path, overwrite: bool) -> None:
    import pandas as pd  # type: ignore[import-untyped]

    from torchspectral.io import save

    bands, detectors = gains.shape
    table = pd.DataFrame(
        {
            "band": np.repeat(gains.number, detectors),
            "wavelength": np.repeat(gains.wavelength, detectors),
            "detector": np.tile(np.arange(1, detectors + 1), bands),
            **{name: getattr(gains, name).ravel() for name in _ROWS},
        }
    )
    save(table, out, overwrite=overwrite)


def _atomic(path: Path, write: Any) -> None:
    part = path.with_name(f".{path.name}.partial")
    try:
        with part.open("wb") as file:
            write(file)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputFailed(f"cannot write {path}: {error.strerror or error}") from error


def read_gains(path: str | Path) -> Gains:
    """Read gains that `write_gains` wrote, or a CSV with the columns band, detector and gain.

    Raises
    ------
    ProductNotFound, BrokenProduct, BadSettings, TooLarge
    """
    file = Path(path)
    if not file.is_file():
        raise ProductNotFound(f"{file} does not exist: check the path of the gains")
    if file.suffix.lower() not in SUFFIXES:
        raise BadSettings(f"got {file.name} as gains, expected a name that ends in {', '.join(SUFFIXES)}")
    if file.stat().st_size > LARGEST:
        raise TooLarge(f"{file.name} has {file.stat().st_size} bytes, expected at most {LARGEST} of gains")
    arrays = {".csv": _read_csv, ".npz": _read_npz, ".hdr": _read_envi}[file.suffix.lower()](file)
    if not np.isfinite(arrays["gain"]).any() or not np.isfinite(arrays["gain"] + arrays["offset"]).any():
        raise BrokenProduct(f"{file.name} has no finite gain")
    if not (arrays["gain"][np.isfinite(arrays["gain"])] > 0).all():
        raise BrokenProduct(f"{file.name} has gains that are not above 0, expected factors around 1")
    return Gains.make(**arrays, record=_read_record(record_path(file)))


def _read_record(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > 64 << 20:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_csv(file: Path) -> dict[str, np.ndarray]:
    import pandas as pd

    try:
        table = pd.read_csv(file)
    except (ValueError, OSError) as error:
        raise BrokenProduct(f"{file.name} cannot be read as CSV: {' '.join(str(error).split())[:200]}") from None
    missing = [name for name in ("band", "detector", "gain") if name not in table]
    if missing:
        raise BrokenProduct(f"{file.name} has no column {', '.join(missing)}, expected band, detector, gain")
    try:
        numbers = {
            name: table[name].to_numpy(dtype=np.float64)
            for name in table
            if name in (*_ROWS, "band", "detector", "wavelength")
        }
        with np.errstate(invalid="ignore"):  # what no integer can hold is refused below
            band, detector = (numbers[name].astype(np.int64) for name in ("band", "detector"))
    except (ValueError, TypeError):
        raise BrokenProduct(f"{file.name} has words where numbers are expected") from None
    counted = np.stack([numbers["band"], numbers["detector"]])
    if not len(band) or not (np.isfinite(counted) & (counted == [band, detector]) & (counted < MOST)).all():
        raise BrokenProduct(f"{file.name} has rows without band or detector, expected whole numbers")
    if detector.min() < 1:
        raise BrokenProduct(f"{file.name} has detector {detector.min()}, expected numbers from 1")
    known, at = np.unique(band, return_inverse=True)
    detectors = int(detector.max())
    if len(known) * detectors != len(band) or len(np.unique(at * detectors + detector)) != len(band):
        raise BrokenProduct(
            f"{file.name} has {len(band)} rows, expected one for each of {len(known)} bands and {detectors} detectors"
        )
    found: dict[str, np.ndarray] = {"number": known}
    for name in _ROWS:
        array = np.full((len(known), detectors), 0.0 if name == "offset" else np.nan)
        if name in numbers:
            array[at, detector - 1] = numbers[name]
        found[name] = array
    wavelength = np.full(len(known), np.nan)
    wavelength[at] = numbers.get("wavelength", np.full(len(band), np.nan))
    return {**found, "wavelength": wavelength}


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    from torchspectral.io.safety import check_read

    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        check_read((size,), np.uint8, file)
        with np.load(file, allow_pickle=False) as stored:
            found = {name: np.asarray(stored[name], dtype=np.float64) for name in (*_ROWS, "wavelength", "number")}
    except (KeyError, ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise BrokenProduct(f"{file.name} is no file of gains: {' '.join(str(error).split())[:200]}") from None
    shapes = {found[name].shape for name in _ROWS}
    if len(shapes) > 1 or found["gain"].ndim != 2 or found["number"].shape != found["gain"].shape[:1]:
        raise BrokenProduct(f"{file.name} has arrays that do not fit each other, expected (bands, detectors)")
    return {**found, "number": found["number"].astype(np.int64)}


def _read_envi(file: Path) -> dict[str, np.ndarray]:
    from torchspectral.io import open_product

    cube = open_product(file)
    if cube.ndim != 3 or cube.shape[1] != len(_ROWS):
        raise BrokenProduct(
            f"{file.name} has shape {cube.shape}, expected (bands, 3, detectors): lines of gain, offset and error"
        )
    values = np.asarray(cube.values, dtype=np.float64)
    found = {name: values[:, n] for n, name in enumerate(_ROWS)}
    return {**found, "wavelength": cube["wavelength"].values, "number": cube["number"].values}
