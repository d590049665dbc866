"""Calibration files (XML) of snapshot-mosaic sensors: filters, active area, spectral correction."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from torchspectral.errors import BrokenProduct, MissingMetadata, UnknownName, closest
from torchspectral.io.safety import parse_xml

_SIGNS = (b"filter_info", b"filter_zone", b"filter_area")
_LOOK = 1 << 16
_LARGEST_PATTERN = 16


@dataclass(frozen=True)
class Correction:
    """A spectral correction: virtual bands as sums over the filters.

    Attributes
    ----------
    name : str
    wavelength, fwhm : ndarray, shape (virtual,)
        nm; NaN where not stated.
    matrix : ndarray, shape (virtual, filters)
        Filters in the order of their index.
    """

    name: str
    wavelength: np.ndarray
    fwhm: np.ndarray
    matrix: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """What a calibration file says.

    Attributes
    ----------
    path : Path
    sensor : str
    pattern : (int, int)
        Rows and columns of the repeated filters.
    area : (int, int, int, int) or None
        Row, column, height and width of the active area [pixels of the frame].
    wavelength, fwhm : ndarray, shape (filters,)
        Main peak of each filter [nm], row by row; NaN where not stated.
    corrections : list of Correction
    """

    path: Path
    sensor: str
    pattern: tuple[int, int]
    area: tuple[int, int, int, int] | None
    wavelength: np.ndarray
    fwhm: np.ndarray
    corrections: list[Correction] = field(default_factory=list)

    def correction(self, name: str | bool) -> Correction:
        """The correction of that name; True takes the only one.

        Raises
        ------
        MissingMetadata
            There is none, or several and no name.
        UnknownName
        """
        names = [c.name for c in self.corrections]
        if not names:
            raise MissingMetadata(f"{self.path.name} has no correction matrix: leave out correction=")
        if name is True:
            if len(names) > 1:
                raise MissingMetadata(
                    f"{self.path.name} has several corrections: give correction= ({', '.join(names)})"
                )
            return self.corrections[0]
        found = next((c for c in self.corrections if c.name == name), None)
        if found is None:
            raise UnknownName(f"{self.path.name} has no correction {name!r}: {closest(str(name), names)}")
        return found


def looks_like_calibration(path: Path) -> bool:
    """Whether an XML file speaks of filters."""
    try:
        with path.open("rb") as file:
            start = file.read(_LOOK)
    except OSError:
        return False
    return any(sign in start for sign in _SIGNS)


def calibration_beside(frame: Path) -> Path | None:
    """``FRAME.xml`` beside a frame, where it is a calibration file."""
    for suffix in (".xml", ".XML"):
        found = frame.with_suffix(suffix)
        if found.is_file() and looks_like_calibration(found):
            return found
    return None


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file.

    Raises
    ------
    BrokenProduct
        Filters, area or matrices contradict each other.
    MissingMetadata
        There is no filter zone, or the filters are no mosaic.
    UnsafeInput, TooLarge
    """
    root = parse_xml(path)
    zones = list(root.iter("filter_zone"))
    if not zones:
        raise MissingMetadata(f"{path.name} has no filter_zone: expected the calibration file of a mosaic sensor")
    if len(zones) > 1:
        raise MissingMetadata(f"{path.name} has {len(zones)} filter zones, expected one mosaic over the sensor")
    zone = zones[0]
    layout = (zone.get("layout") or _text(zone, "layout")).upper()
    if layout and layout not in ("MOSAIC", "SNAPSHOT_MOSAIC"):
        raise MissingMetadata(f"{path.name} describes filters in the layout {layout[:30]!r}, expected MOSAIC")
    pattern = _whole(path, zone, "pattern_height"), _whole(path, zone, "pattern_width")
    check_pattern(pattern, path.name)
    wavelength, fwhm = _peaks(path, zone, pattern)
    corrections = [c for item in root.iter("correction_matrix") if (c := _correction(path, item, wavelength.size))]
    sensor = next(
        (s for tag in ("sensor_type_name", "sensor_type", "sensor_name", "name") if (s := _text(root, tag))), ""
    )
    return Calibration(path, sensor, pattern, _area(path, zone), wavelength, fwhm, corrections)


def check_pattern(pattern: tuple[int, int], where: str) -> None:
    """Refuse patterns that no sensor has.

    Raises
    ------
    BrokenProduct
    """
    if not (min(pattern) >= 1 and max(pattern) <= _LARGEST_PATTERN and pattern[0] * pattern[1] > 1):
        raise BrokenProduct(f"{where} has a pattern of {pattern[0]} x {pattern[1]} filters, expected 2 x 2 to 16 x 16")


def _peaks(path: Path, zone: Element, pattern: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    count = pattern[0] * pattern[1]
    wavelength, fwhm = np.full(count, np.nan), np.full(count, np.nan)
    seen: set[int] = set()
    bands = list(zone.iter("band"))
    for place, band in enumerate(bands):
        text = band.get("index") or _text(band, "index")
        index = int(text) if text.strip().isdigit() else place
        if index in seen or not 0 <= index < count:
            raise BrokenProduct(
                f"{path.name}: filter {index} is stated twice or lies outside the pattern of {count} filters"
            )
        seen.add(index)
        best, strongest = None, -np.inf
        for order, peak in enumerate(band.iter("peak")):
            # Filters pass higher orders too: the strongest counts, else the first.
            strength = next((v for t in ("contribution", "QE", "qe") if (v := _number(peak, t)) is not None), -order)
            if strength > strongest:
                best, strongest = peak, strength
        if best is not None:
            wavelength[index] = value if (value := _number(best, "wavelength_nm")) is not None else np.nan
            fwhm[index] = value if (value := _number(best, "fwhm_nm")) is not None else np.nan
    if bands and len(seen) != count:
        raise BrokenProduct(
            f"{path.name} describes {len(seen)} filters, expected {count} for {pattern[0]} x {pattern[1]}"
        )
    return wavelength, fwhm


def _correction(path: Path, item: Element, filters: int) -> Correction | None:
    rows: list[np.ndarray] = []
    wave: list[float] = []
    width: list[float] = []
    for band in item.iter("virtual_band"):
        text = _text(band, "coefficients").replace(";", ",")
        try:
            row = np.array([float(v) for v in text.replace(",", " ").split()])
        except ValueError:
            raise BrokenProduct(f"{path.name} has correction coefficients that are no numbers") from None
        if row.size != filters or not np.isfinite(row).all():
            raise BrokenProduct(f"{path.name} has a virtual band of {row.size} coefficients, expected {filters}")
        rows.append(row)
        for found, tag in ((wave, "wavelength_nm"), (width, "fwhm_nm")):
            value = _number(band, tag)
            found.append(np.nan if value is None else value)
    if not rows:
        return None
    return Correction(_text(item, "name") or "correction", np.array(wave), np.array(width), np.stack(rows))


def _area(path: Path, zone: Element) -> tuple[int, int, int, int] | None:
    area = zone.find("filter_area")
    if area is None:
        return None
    found = [_whole(path, area, tag) for tag in ("offset_y", "offset_x", "height", "width")]
    if min(found[:2]) < 0 or min(found[2:]) < 1:
        raise BrokenProduct(f"{path.name} has an active area of {found[3]} x {found[2]} at {found[1]}, {found[0]}")
    return found[0], found[1], found[2], found[3]


def _text(parent: Element, tag: str) -> str:
    found = parent.find(tag)
    found = found if found is not None else next(iter(parent.iter(tag)), None)
    return " ".join((found.text or "").split()) if found is not None else ""


def _number(parent: Element, tag: str) -> float | None:
    found = parent.find(tag)
    try:
        value = float((found.text or "") if found is not None else "")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _whole(path: Path, parent: Element, tag: str) -> int:
    found = parent.find(tag)
    text = (found.text or "").strip() if found is not None else ""
    if not text.lstrip("+-").isdigit() or len(text) > 9:
        raise BrokenProduct(f"{path.name}: {tag} = {text[:20]!r}, expected a whole number")
    return int(text)
