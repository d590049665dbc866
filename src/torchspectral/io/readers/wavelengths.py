"""Wavelengths as files state them: units, guesses, and numbers hidden in band names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from torchspectral.errors import BadSettings, BandMismatch, MissingMetadata

_FACTORS = {
    "nanometers": 1.0, "nanometres": 1.0, "nanometer": 1.0, "nanometre": 1.0, "nm": 1.0, "nanom": 1.0,
    "micrometers": 1e3, "micrometres": 1e3, "micrometer": 1e3, "micrometre": 1e3, "microns": 1e3, "micron": 1e3,
    "um": 1e3, "µm": 1e3, "μm": 1e3,
    "millimeters": 1e6, "millimetres": 1e6, "mm": 1e6,
    "centimeters": 1e7, "cm": 1e7, "meters": 1e9, "metres": 1e9, "m": 1e9,
    "angstroms": 0.1, "angstrom": 0.1,
}  # fmt: skip
_WAVENUMBERS = {"wavenumber", "wavenumbers", "cm-1", "1/cm", "cm^-1"}
_NO_UNITS = {"", "unknown", "index", "none", "undefined", "n/a", "-"}

_IN_NAME = re.compile(
    r"(?<![\w.])(\d+(?:\.\d+)?)\s*(nanomet(?:er|re)s?|nm|micromet(?:er|re)s?|microns?|um|µm|μm)(?![a-z])", re.IGNORECASE
)
_LAST_NUMBER = re.compile(r"\(\s*(\d+\.\d+)\s*\)\s*$")


def known_units(units: str) -> bool:
    """Whether the word names a unit of wavelength."""
    word = units.strip().lower()
    return word in _FACTORS or word in _WAVENUMBERS


def check_units(units: Any) -> str:
    """The value of an option ``wavelength_units``.

    Raises
    ------
    BadSettings
    """
    if not isinstance(units, str) or not known_units(units):
        raise BadSettings(f"got wavelength_units={units!r}, expected nm, um or wavenumber")
    return units


def to_nanometres(values: Any, units: str = "", *, where: str = "the file") -> tuple[np.ndarray, str]:
    """Wavelengths [nm] and a line for the history where the units had to be guessed.

    Parameters
    ----------
    values : array_like
        As stated by the file; zero, negative and non-finite entries become NaN.
    units : str
        As stated; "" and "Unknown" are guessed from the values, unknown words refused.
    where : str
        Name of the file, for messages.

    Raises
    ------
    MissingMetadata
        The units are neither stated nor to be guessed.
    """
    array = np.asarray(values, dtype=np.float64).reshape(-1).copy()
    array[~np.isfinite(array) | (array <= 0)] = np.nan
    word = units.strip().lower()
    if not np.isfinite(array).any():
        return array, ""
    if word in _FACTORS:
        return _clean(array * _FACTORS[word]), ""
    if word in _WAVENUMBERS:
        return _clean(1e7 / array), ""
    if word not in _NO_UNITS:
        raise MissingMetadata(
            f"{where} states wavelengths in {units!r}, expected nanometres, micrometres or wavenumbers: "
            "give wavelength_units="
        )
    if word == "index" and _counts(array):
        return np.full(array.shape, np.nan), f"{where} numbers its bands instead of stating wavelengths"
    low, high = float(np.nanmin(array)), float(np.nanmax(array))
    if high < 30:
        return _clean(array * 1e3), f"wavelengths {low:g}..{high:g} without units taken as micrometres"
    if low >= 200 and high <= 20000:
        return array, f"wavelengths {low:g}..{high:g} without units taken as nanometres"
    raise MissingMetadata(
        f"{where} states wavelengths {low:g}..{high:g} without units, which are neither micrometres (< 30) nor "
        "nanometres (200..20000): give wavelength_units="
    )


def factor_of(units: str, stated: Any) -> float | None:
    """Factor of widths (FWHM) in the units of the wavelengths; None for wavenumbers, whose widths are no lengths."""
    word = units.strip().lower()
    if word in _FACTORS:
        return _FACTORS[word]
    if word in _WAVENUMBERS:
        return None
    high = float(np.nanmax(np.asarray(stated, dtype=np.float64))) if np.size(stated) else np.nan
    return 1e3 if high < 30 else 1.0


def widths(fwhm: Any, stated: Any, units: str, nanometres: np.ndarray) -> np.ndarray:
    """FWHM [nm] from widths in the units of the wavelengths `stated`; zero and negative become NaN."""
    array = np.asarray(fwhm, dtype=np.float64).reshape(-1).copy()
    array[~np.isfinite(array) | (array <= 0)] = np.nan
    factor = factor_of(units, stated)
    if factor is None:
        # d(lambda) = lambda^2 d(wavenumber), with 1e7 between nm and cm.
        return array * nanometres**2 / 1e7
    return _clean(array * factor)


def _clean(array: np.ndarray) -> np.ndarray:
    """Without the last digits that a decimal factor leaves: 0.38975 um are 389.75 nm."""
    return np.round(array, 9)


def _counts(array: np.ndarray) -> bool:
    return bool(np.all(np.diff(array[np.isfinite(array)]) == 1) and np.nanmin(array) in (0, 1))


def from_names(names: Sequence[str]) -> tuple[np.ndarray, str] | None:
    """Wavelengths and their units inside band names, where every name has one.

    "band 3 (429.294 Nanometers)", "0.55 um" and, where all names end so, "Resize (...) (426.820007)".
    """
    if not names:
        return None
    found = [_IN_NAME.search(name) for name in names]
    if all(found):
        units = {_FACTORS.get(m[2].lower(), 1.0) for m in found if m}
        if len(units) == 1:
            word = "um" if units.pop() == 1e3 else "nm"
            return np.array([float(m[1]) for m in found if m]), word
    last = [_LAST_NUMBER.search(name) for name in names]
    if all(last) and len(names) > 1:
        values = np.array([float(m[1]) for m in last if m])
        if np.unique(values).size == values.size:
            return values, ""
    return None


def plain_names(names: Sequence[str]) -> list[str] | None:
    """Band names that say more than a number and a wavelength, else None."""
    stripped = [_LAST_NUMBER.sub("", _IN_NAME.sub("", name)) for name in names]
    if any(re.sub(r"(?i)\b(band|channel|bands|b|wavelength)\b|[\d\W_]", "", name) for name in stripped):
        return [str(name).strip() for name in names]
    return None


def check_count(values: Any, bands: int, what: str, where: str) -> None:
    """Refuse a list that has not one entry a band.

    Raises
    ------
    BandMismatch
    """
    if len(values) != bands:
        raise BandMismatch(
            f"{where} has {bands} bands but states {len(values)} {what}: correct the file, or give wavelength="
        )


def given_wavelengths(value: Any, bands: int, units: str | None = None) -> np.ndarray:
    """Wavelengths [nm] from the option ``wavelength`` of `open_product`.

    Raises
    ------
    BadSettings, BandMismatch, MissingMetadata
    """
    try:
        array = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise BadSettings(f"got wavelength={str(value)[:60]!r}, expected one number a band") from None
    if array.size != bands:
        raise BandMismatch(f"got {array.size} wavelengths for {bands} bands, expected one a band")
    return to_nanometres(array, check_units(units) if units else "", where="the option wavelength")[0]
