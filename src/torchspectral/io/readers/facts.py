"""Band facts and the meaning of values, put together from what a file states and what the user gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from torchspectral.cube import QUANTITIES
from torchspectral.errors import BadSettings, closest
from torchspectral.io.readers.wavelengths import (
    check_count,
    check_units,
    from_names,
    given_wavelengths,
    plain_names,
    to_nanometres,
    widths,
)

GIVEN = ("wavelength", "wavelength_units", "quantity", "scale", "nodata")
"""Options with which a user states what a file does not."""


@dataclass
class BandFacts:
    """Coordinates of the bands, shape (band,) each; wavelengths and widths in nm."""

    wavelength: np.ndarray
    fwhm: np.ndarray
    good: np.ndarray
    names: list[str] | None = None
    notes: list[str] = field(default_factory=list)

    def coords(self) -> dict[str, Any]:
        """Keywords of `make_cube`."""
        return {"wavelength": self.wavelength, "fwhm": self.fwhm, "good": self.good}


@dataclass
class Values:
    """What the stored numbers mean: physical = stored * scale + offset."""

    scale: np.ndarray
    offset: np.ndarray
    nodata: float | int | None
    quantity: str = ""
    notes: list[str] = field(default_factory=list)


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options among `GIVEN`, checked.

    Raises
    ------
    BadSettings
    """
    given = {name: options[name] for name in GIVEN if options.get(name) is not None}
    if "quantity" in given and given["quantity"] not in QUANTITIES:
        raise BadSettings(f"got quantity={given['quantity']!r}: {closest(str(given['quantity']), QUANTITIES)}")
    if "wavelength_units" in given:
        check_units(given["wavelength_units"])
    for name in ("scale", "nodata"):
        if name in given:
            value = given[name]
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
                raise BadSettings(f"got {name}={value!r}, expected a number")
            if name == "scale" and (not np.isfinite(value) or value == 0):
                raise BadSettings(f"got scale={value!r}, expected a finite number other than 0")
    return given


def band_facts(
    bands: int,
    where: str,
    *,
    wavelength: Any = (),
    units: str = "",
    fwhm: Any = (),
    good: Any = (),
    names: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    searched: str = "the wavelength key, the band names and the option wavelength=",
) -> BandFacts:
    """Band coordinates from what a file states.

    Parameters
    ----------
    wavelength, fwhm, good : array_like
        As stated, in `units`; empty where the file is silent.
    names : sequence of str
        Band names, searched for wavelengths where none are stated.
    given : mapping
        Options of the user, which win.
    searched : str
        Where wavelengths were looked for, for the history.

    Raises
    ------
    BandMismatch
        A list has not one entry a band.
    MissingMetadata
        The units are neither stated nor to be guessed.
    """
    given = given or {}
    notes: list[str] = []
    stated = np.asarray(wavelength, dtype=np.float64).reshape(-1)
    units = str(given.get("wavelength_units") or units)
    fixed = given.get("wavelength")
    if fixed is not None:
        nanometres = given_wavelengths(fixed, bands, given.get("wavelength_units"))
        stated = np.asarray(fixed, dtype=np.float64).reshape(-1)
        notes.append("wavelengths given by the user")
    else:
        if stated.size:
            check_count(stated, bands, "wavelengths", where)
        else:
            hidden = from_names(names)
            if hidden is not None:
                stated = hidden[0]
                units = str(given.get("wavelength_units") or hidden[1])
                notes.append("wavelengths taken from the band names")
        if stated.size:
            nanometres, note = to_nanometres(stated, units, where=where)
            notes += [note] if note else []
        else:
            nanometres = np.full(bands, np.nan)
            if bands > 4:
                notes.append(f"no wavelengths found: searched {searched}")
    outside = np.isfinite(nanometres) & ((nanometres < 100) | (nanometres > 100_000))
    if outside.any():
        notes.append(f"{int(outside.sum())} wavelengths outside 100..100000 nm dropped")
        nanometres = np.where(outside, np.nan, nanometres)
    width = np.asarray(fwhm, dtype=np.float64).reshape(-1)
    if width.size and fixed is None:
        check_count(width, bands, "widths (fwhm)", where)
    if width.size == bands and np.isfinite(nanometres).any():
        width = widths(width, stated, units, nanometres)
    else:
        width = np.full(bands, np.nan)
    flags = np.asarray(good, dtype=np.float64).reshape(-1)
    if flags.size:
        check_count(flags, bands, "bad band flags (bbl)", where)
    use = flags != 0 if flags.size else np.ones(bands, dtype=bool)
    return BandFacts(nanometres, width, use, plain_names(names) if names else None, notes)


# Words of units that files state for radiance, and the factor to W m-2 sr-1 um-1.
_RADIANCE = (
    (re.compile(r"(uw|microwatts?|µw|μw)\W*(/|per|\s)*\W*(cm)", re.I), 10.0),
    (re.compile(r"(mw|milliwatts?).*m\W*\^?-?2.*nm", re.I), 1.0),
    (re.compile(r"\bw\b.*m\W*\^?-?2.*(um|µm|μm|micro)", re.I), 1.0),
    (re.compile(r"\bw\b.*m\W*\^?-?2.*nm", re.I), 1000.0),
)


def guess_quantity(
    values: Values, *, words: str = "", hints: str = "", floats: bool = False, given: Mapping[str, Any] | None = None
) -> Values:
    """Settle the quantity and, for radiance in other units, the scale.

    Parameters
    ----------
    words : str
        What the file says about its values (units, plot titles).
    hints : str
        File name and description: believed for reflectance only, and only for `floats`, since they state no units.
    given : mapping
        Options of the user (``quantity``, ``scale``, ``nodata``), which win.
    """
    given = given or {}
    notes = list(values.notes)
    quantity, scale, offset = values.quantity, values.scale, values.offset
    nodata = given.get("nodata", values.nodata)
    if "scale" in given:
        scale, offset = np.full(scale.shape, float(given["scale"])), np.zeros(offset.shape)
        notes.append(f"value = stored * {given['scale']:g} (given by the user)")
    if "quantity" in given:
        return replace(values, scale=scale, offset=offset, nodata=nodata, quantity=given["quantity"], notes=notes)
    if not quantity:
        low = words.lower()
        if "reflectance" in low:
            quantity = "reflectance"
        else:
            for pattern, factor in _RADIANCE:
                if pattern.search(words):
                    quantity = "radiance"
                    if factor != 1.0:
                        scale, offset = scale * factor, offset * factor
                        notes.append(f"radiance in {' '.join(words.split())[:60]!r} times {factor:g}")
                    break
    if not quantity and floats and re.search(r"(?i)(?<![a-z])(rfl|refl|reflectance)(?![a-z])", hints.replace("_", " ")):
        quantity = "reflectance"
        notes.append("taken as reflectance by its name or description")
    if not quantity and "scale" in given and 1e-6 <= abs(float(given["scale"])) <= 1e-2:
        quantity = "reflectance"
        notes.append("taken as reflectance because of the scale given")
    if not quantity:
        quantity = "dn"
        if floats:
            notes.append("the file does not say what its values are: taken as dn, give quantity= where you know it")
    return replace(values, scale=scale, offset=offset, nodata=nodata, quantity=quantity, notes=notes)


def sun_facts(*, acquired: str = "", elevation: str = "", azimuth: str = "") -> dict[str, Any]:
    """Attributes ``acquired`` (ISO 8601), ``sun_zenith``, ``sun_azimuth`` [deg] from those texts that can be read."""
    found: dict[str, Any] = {}
    time = iso_time(acquired)
    if time:
        found["acquired"] = time
    for name, text, change in (("sun_zenith", elevation, lambda v: 90.0 - v), ("sun_azimuth", azimuth, lambda v: v)):
        try:
            value = change(float(text))
        except ValueError:
            continue
        if np.isfinite(value):
            found[name] = value
    return found


def iso_time(text: Any) -> str:
    """A time as ISO 8601 in UTC; times without a zone are taken as UTC; "" where it cannot be read."""
    words = text.decode("latin-1") if isinstance(text, bytes) else str(text or "")
    words = words.strip().strip('"').strip()
    if not words:
        return ""
    for form in (None, "%Y-%m-%dT%H:%M:%S.%fZ", "%d-%b-%Y %H:%M:%S", "%Y%m%dT%H%M%S", "%Y:%m:%d %H:%M:%S"):
        try:
            time = datetime.fromisoformat(words) if form is None else datetime.strptime(words, form)
        except ValueError:
            continue
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        return time.isoformat().replace("+00:00", "Z")
    return ""
