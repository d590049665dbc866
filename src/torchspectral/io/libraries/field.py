"""Text files of one spectrum each: SVC ``.sig``, ECOSTRESS (and ASTER), USGS, and plain columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import make_spectra
from torchspectral.errors import BrokenProduct, MissingMetadata

USGS_DELETED = -1e30
"""USGS marks deleted channels with -1.23e34."""

_LARGEST = 8 << 20
_USGS = re.compile(r"^\s*(?:splib0\d\w?|USGS)", re.IGNORECASE)


def kind_of(text: str) -> str:
    """What a text is: "svc", "ecostress", "usgs", "columns" or ""."""
    lines = text.splitlines()
    first = next((line.strip() for line in lines if line.strip()), "")
    if "Spectra Vista" in first:
        return "svc"
    if re.match(r"Name\s*:", first) and re.search(r"^X Units?\s*:", text[:4000], re.MULTILINE | re.IGNORECASE):
        return "ecostress"
    if _USGS.match(first):
        return "usgs"
    body = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if len(body) >= 3 and all(_row(line) for line in body[:3]) and len(_row(body[0])) >= 2:
        return "columns"
    return ""


def read_text(path: Path) -> str:
    """A text file of bounded size.

    Raises
    ------
    BrokenProduct
    """
    if path.stat().st_size > _LARGEST:
        raise BrokenProduct(f"{path.name} has {path.stat().st_size >> 20} MB, expected the text of one spectrum")
    return path.read_bytes().decode("utf-8-sig", errors="replace")


def read_field_text(path: Path) -> xr.DataArray:
    """Read one spectrum from text.

    Parameters
    ----------
    path : Path
        SVC ``.sig`` (wavelength, reference, target, reflectance in per cent); ECOSTRESS or ASTER (header lines
        ``Name: value``, units of both axes told, any order of wavelengths); USGS splib06 (three columns) and splib07
        (one column, with its file of wavelengths in the same folder or the one above); plain columns of wavelength
        and value.

    Returns
    -------
    DataArray, shape (1, band)
        float32, wavelengths ascending in nm, reflectance as a fraction (per cent are divided by 100, which the history
        says), NaN for deleted channels.

    Raises
    ------
    BrokenProduct
        It is none of these, or damaged.
    MissingMetadata
        A splib07 spectrum without its file of wavelengths.
    """
    text = read_text(path)
    readers = {"svc": _svc, "ecostress": _ecostress, "usgs": _usgs, "columns": _columns}
    kind = kind_of(text)
    if kind not in readers:
        raise BrokenProduct(
            f"{path.name} is no spectrum that is known: expected SVC .sig, ECOSTRESS or USGS text, or columns of "
            "wavelength and value"
        )
    return readers[kind](path, text)


def _svc(path: Path, text: str) -> xr.DataArray:
    head, _, body = text.partition("data=")
    rows = _rows(body.splitlines(), path, least=4)
    notes = ["reflectance was in per cent"]
    name = re.search(r"^name=\s*(.+)$", head, re.MULTILINE)
    spectrum = Path(name[1].split(",")[-1].strip()).stem if name else path.stem
    return _spectrum(path, spectrum, rows[:, 0], rows[:, 3] / 100, "reflectance", notes)


def _ecostress(path: Path, text: str) -> xr.DataArray:
    facts = {k.strip().lower(): v.strip() for k, v in re.findall(r"^([A-Za-z][\w /.]*?)\s*:(.*)$", text, re.MULTILINE)}
    rows = _rows([line for line in text.splitlines() if ":" not in line], path, least=2)
    x_units, y_units = facts.get("x units", "").lower(), facts.get("y units", "").lower()
    notes: list[str] = []
    wave = rows[:, 0]
    if "micromet" in x_units:
        wave = wave * 1000
    elif "wavenumber" in x_units:
        wave = 1e7 / wave
    elif "nanomet" not in x_units:
        raise MissingMetadata(f"{path.name} has X Units {x_units!r}, expected micrometers, nanometers or wavenumbers")
    values = rows[:, 1]
    if "percent" in y_units:
        values, notes = values / 100, ["values were in per cent"]
    quantity = "reflectance" if "reflect" in y_units or "reflect" in facts.get("measurement", "").lower() else "dn"
    return _spectrum(path, facts.get("name") or path.stem, wave, values, quantity, notes)


def _usgs(path: Path, text: str) -> xr.DataArray:
    lines = text.splitlines()
    title = lines[0].strip()
    name = re.sub(r"^\s*splib\w*\s+Record=\s*\d+:\s*", "", title) or path.stem
    found = [_row(line) for line in lines[1:]]
    triples = [row for row in found if len(row) == 3]
    if len(triples) > len(found) / 2:  # splib06: wavelength, reflectance, standard deviation
        table = np.array(triples)
        return _spectrum(path, name, _to_nm(table[:, 0]), _without_deleted(table[:, 1]), "reflectance", [])
    values = np.array([row[0] for row in found if len(row) == 1])
    if not values.size:
        raise BrokenProduct(f"{path.name} begins as a USGS spectrum and holds no numbers")
    wave, source = _usgs_wavelengths(path, values.size)
    return _spectrum(path, name, _to_nm(wave), _without_deleted(values), "reflectance", [f"wavelengths of {source}"])


def _usgs_wavelengths(path: Path, count: int) -> tuple[np.ndarray, str]:
    """Channels of splib07 stand in a file of their own, one for each spectrometer, told by its number of lines."""
    tried = []
    for folder in (path.parent, path.parent.parent):
        for file in sorted(folder.glob("*[Ww]avelength*.txt"))[:50]:
            tried.append(file.name)
            rows = [_row(line) for line in read_text(file).splitlines()[1:]]
            numbers = [row[0] for row in rows if len(row) == 1]
            if len(numbers) == count:
                return np.array(numbers), file.name
    raise MissingMetadata(
        f"{path.name} has {count} channels and no wavelengths: expected the library's file of wavelengths "
        f"(splib07a_Wavelengths_...txt) beside it or one folder up, looked at {', '.join(tried) or 'no such file'}"
    )


def _columns(path: Path, text: str) -> xr.DataArray:
    lines = text.splitlines()
    rows = _rows([line for line in lines if not line.lstrip().startswith("#")], path, least=2)
    said = " ".join(line for line in lines[:5] if line.lstrip().startswith("#")).lower()
    wave = rows[:, 0] if re.search(r"\bnm\b|nanomet", said) else _to_nm(rows[:, 0])
    finite = rows[np.isfinite(rows[:, 1]), 1]
    reflectance = "reflectance" in said or (finite.size > 0 and finite.max() <= 2 and "radiance" not in said)
    return _spectrum(path, path.stem, wave, rows[:, 1], "reflectance" if reflectance else "dn", [])


def _to_nm(wave: np.ndarray) -> np.ndarray:
    # Below 30 nobody means nanometres: no optical spectrometer reaches there.
    return wave * 1000 if np.nanmax(wave) < 30 else wave


def _without_deleted(values: np.ndarray) -> np.ndarray:
    return np.where(values < USGS_DELETED, np.nan, values)


def _row(line: str) -> list[float]:
    """Numbers of a line, or nothing where a word stands in it."""
    try:
        return [float(word) for word in re.split(r"[\s,;]+", line.strip()) if word]
    except ValueError:
        return []


def _rows(lines: Sequence[str], path: Path, least: int) -> np.ndarray:
    found = [row for row in map(_row, lines) if len(row) >= least]
    if not found or len({len(row) for row in found}) > 1:
        raise BrokenProduct(f"{path.name} has no table of at least {least} columns of numbers: is it complete?")
    return np.array(found, dtype=np.float64)


def _spectrum(
    path: Path, name: str, wave: np.ndarray, values: np.ndarray, quantity: str, notes: list[str]
) -> xr.DataArray:
    if not np.isfinite(wave).all() or (wave <= 0).any():
        raise BrokenProduct(f"{path.name} has a wavelength that is no positive number")
    order = np.argsort(wave, kind="stable")
    attrs: dict[str, Any] = {"quantity": quantity, "source": [str(path)], "history": [f"read {path.name}", *notes]}
    return make_spectra(values[order].astype(np.float32)[None], [name], wavelength=wave[order], attrs=attrs)
