"""Spectra from CSV in both orientations: a row a band, or a row a spectrum."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from torchspectral.cube import make_spectra
from torchspectral.errors import BrokenProduct, MissingMetadata

if TYPE_CHECKING:
    import pandas as pd

_WAVE = re.compile(r"^(wavelengths?|wave|wl|lambda|nm)\b|^wavelengths?_", re.IGNORECASE)
_FWHM = re.compile(r"^(fwhm|width|bandwidth)", re.IGNORECASE)
_GOOD = re.compile(r"^(good|bbl)$", re.IGNORECASE)
_HEADER = re.compile(r"^(?:wave|wl|band|x|r)?[ _.]?(\d+(?:\.\d+)?)(?: ?nm)?$", re.IGNORECASE)
_LARGEST = 64 << 20


def read_table(file: Path) -> tuple[xr.DataArray, pd.DataFrame]:
    """Spectra of a CSV in either orientation, and what its other columns tell about each (a row a spectrum).

    Raises
    ------
    BrokenProduct, MissingMetadata
    """
    import pandas as pd

    head, rows = _table(file)
    if sum(_band_of(name) is not None for name in head) > len(head) / 2:
        return _row_a_spectrum(head, rows, file)
    spectra = _row_a_band(head, rows, file)
    return spectra, pd.DataFrame(index=pd.Index(spectra["spectrum"].values, name="spectrum"))


def columns_of(file: Path) -> pd.DataFrame:
    """A CSV of facts, columns of numbers as such.

    Raises
    ------
    BrokenProduct
    """
    head, rows = _table(file)
    return _facts(head, rows, list(range(len(head))))


def _facts(head: list[str], rows: list[list[str]], columns: list[int]) -> pd.DataFrame:
    import pandas as pd

    def column(n: int) -> list[object]:
        numbers = [_number(row[n]) if row[n] else float("nan") for row in rows]
        return [row[n] for row in rows] if any(v is None for v in numbers) else list(numbers)

    return pd.DataFrame(dict(zip(unique([head[n] for n in columns]), map(column, columns), strict=True)))


def _table(file: Path) -> tuple[list[str], list[list[str]]]:
    if file.is_dir() or file.stat().st_size > _LARGEST:
        raise BrokenProduct(f"{file.name} is no CSV of at most {_LARGEST >> 20} MB")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise BrokenProduct(f"{file.name} is not text, expected a CSV of spectra") from None
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) < 2:
        raise BrokenProduct(f"{file.name} has {len(lines)} lines, expected a header and numbers")
    comma = max((",", ";", "\t"), key=lines[0].count)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=comma)]
    except csv.Error as error:
        raise BrokenProduct(f"{file.name} is no readable CSV: {error}") from None
    head, body = rows[0], rows[1:]
    for number, row in enumerate(body, start=2):
        if len(row) != len(head):
            raise BrokenProduct(
                f"line {number} of {file.name} has {len(row)} cells, expected {len(head)} as the header"
            )
    return head, body


def _row_a_band(head: list[str], rows: list[list[str]], file: Path) -> xr.DataArray:
    waves = [n for n, name in enumerate(head) if _WAVE.search(name)]
    numbered = head[0].lower() in ("band", "bands", "number")
    if not waves and not numbered:
        raise MissingMetadata(
            f"{file.name} has no wavelengths: expected a column named wavelength (or wavelengths as the header)"
        )
    widths = [n for n, name in enumerate(head) if _FWHM.search(name)]
    flags = [n for n, name in enumerate(head) if _GOOD.search(name)]
    aside = {*waves[:1], *widths[:1], *flags[:1], *([0] if numbered else [])}
    columns = [n for n in range(len(head)) if n not in aside]
    if not columns:
        raise BrokenProduct(f"{file.name} has no column with a spectrum")
    wave = _numbers(rows, waves[:1], file)[:, 0] if waves else np.full(len(rows), np.nan)
    width = _numbers(rows, widths[:1], file)[:, 0] if widths else None
    values = _numbers(rows, columns, file).T
    notes: list[str] = []
    factor = 1.0
    if waves:
        factor = _to_nanometres(head[waves[0]], wave, file, notes)
    out = _spectra(values, [head[n] for n in columns], wave * factor, file, notes)
    if width is not None:
        out = out.assign_coords(fwhm=("band", width * factor))
    if flags:
        out = out.assign_coords(good=("band", _numbers(rows, flags[:1], file)[:, 0] != 0))
    return out


def _row_a_spectrum(head: list[str], rows: list[list[str]], file: Path) -> tuple[xr.DataArray, pd.DataFrame]:
    import pandas as pd

    columns = [n for n, name in enumerate(head) if _band_of(name) is not None]
    aside = [n for n in range(len(head)) if n not in set(columns)]
    words = [n for n in aside if not all(_number(row[n] or "nan") is not None for row in rows)]
    names = [" ".join(row[n] for n in words if row[n]) or f"spectrum {k}" for k, row in enumerate(rows, start=1)]
    wave = np.array([_band_of(head[n]) for n in columns], dtype=np.float64)
    notes: list[str] = []
    factor = _to_nanometres("", wave, file, notes)
    spectra = _spectra(_numbers(rows, columns, file), names, wave * factor, file, notes)
    table = _facts(head, rows, aside)
    return spectra, table.set_index(pd.Index(spectra["spectrum"].values, name="spectrum"))


def _to_nanometres(title: str, wave: np.ndarray, file: Path, notes: list[str]) -> float:
    """Factor from the file's unit to nm; by the column's name, else by the size of the numbers."""
    finite = wave[np.isfinite(wave)]
    if not finite.size:
        raise MissingMetadata(f"{file.name} has no wavelengths in its wavelength column")
    low = title.lower()
    if re.search(r"\bnm\b|_nm|nanomet", low):
        return 1.0
    if re.search(r"\bum\b|_um|µm|μm|micromet", low) or finite.max() < 30:
        notes.append("wavelengths converted from micrometres")
        return 1000.0
    if finite.min() < 100 or finite.max() > 100_000:
        raise MissingMetadata(
            f"{file.name} has wavelengths from {finite.min():g} to {finite.max():g}, expected nanometres or micrometres"
        )
    return 1.0


def _spectra(values: np.ndarray, names: list[str], wave: np.ndarray, file: Path, notes: list[str]) -> xr.DataArray:
    finite = values[np.isfinite(values)]
    reflectance = bool(finite.size) and float(finite.max()) <= 2.0
    quantity = "reflectance" if reflectance else "dn"
    notes = [f"read {file.name} ({len(names)} spectra, taken as {quantity})", *notes]
    attrs = {"quantity": quantity, "source": [str(file)], "history": notes}
    # Text of float32 numbers gives them back exactly.
    return make_spectra(values.astype(np.float32), unique(names), wavelength=wave, attrs=attrs)


def unique(names: list[str]) -> list[str]:
    """Names told apart by a number where one stands twice."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return out


def _numbers(rows: list[list[str]], columns: list[int], file: Path) -> np.ndarray:
    out = np.empty((len(rows), len(columns)))
    for line, row in enumerate(rows):
        for place, column in enumerate(columns):
            value = _number(row[column]) if row[column] else np.nan
            if value is None:
                raise BrokenProduct(f"line {line + 2} of {file.name} has {row[column][:40]!r}, expected a number")
            out[line, place] = value
    return out


def _band_of(name: str) -> float | None:
    """Wavelength that a column is named after: 500, X500, Wave_500.5, 500 nm."""
    found = _HEADER.match(name)
    return float(found[1]) if found else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
