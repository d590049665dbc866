"""The METADATA.XML of EnMAP products."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from torchspectral.errors import BrokenProduct
from torchspectral.io.readers.facts import iso_time
from torchspectral.io.safety import parse_xml

# VNIR reaches up to 1000 nm and SWIR down to 900 nm; between, both see.
_SWIR_STARTS, _VNIR_ENDS = 900.0, 1000.0
_EMPTY_MEAN = -1e6


@dataclass
class EnmapMetadata:
    """What the XML says, arrays of shape (band,) in the order of its band numbers.

    Attributes
    ----------
    wavelength, fwhm : ndarray [nm]
    gain, offset : ndarray
        physical = DN * gain + offset; NaN where the XML is silent.
    detector : list of str
        "vnir", "swir" or "".
    empty : ndarray of bool
        Bands whose statistics say that they hold no data.
    has_statistics : bool
    level : str
        "L1B", "L1C" or "L2A".
    nodata : float or None
    attrs : dict
        Attributes of the cube.
    names : list of str
        File names that the XML lists.
    notes : list of str
        Lines for the history.
    rpc : dict
        Rational polynomial coefficients as the XML names them, by band number; L1B has them.
    """

    wavelength: np.ndarray
    fwhm: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    detector: list[str]
    empty: np.ndarray
    has_statistics: bool
    level: str
    nodata: float | None
    attrs: dict[str, Any]
    names: list[str]
    notes: list[str] = field(default_factory=list)
    rpc: dict[int, dict[str, float | list[float]]] = field(default_factory=dict)

    def take(self, bands: np.ndarray) -> EnmapMetadata:
        """The metadata of some bands, by 0-based index."""
        arrays = {key: getattr(self, key)[bands] for key in ("wavelength", "fwhm", "gain", "offset", "empty")}
        return replace(self, **arrays, detector=[self.detector[int(i)] for i in bands])


def parse_metadata(document: bytes, name: str) -> EnmapMetadata:
    """Read the XML.

    Raises
    ------
    BrokenProduct
        No bands, a band without wavelength, or numbers that are none.
    UnsafeInput
        The XML declares a document type or entities.
    """
    root = _plain(parse_xml(document, name))
    characters = root.findall("specific/bandCharacterisation/bandID")
    if not characters:
        raise BrokenProduct(f"{name} has no specific/bandCharacterisation/bandID, expected one a band")
    numbered = sorted(enumerate(characters, start=1), key=lambda item: int(_float(item[1].get("number"), item[0])))
    bands = [item for _, item in numbered]
    wavelength = np.array([_child(b, "wavelengthCenterOfBand") for b in bands])
    if not np.isfinite(wavelength).all() or (wavelength <= 0).any():
        at = int(np.argmin(np.isfinite(wavelength) & (wavelength > 0))) + 1
        raise BrokenProduct(f"{name} gives band {at} no wavelength, expected specific/bandCharacterisation/bandID")
    fwhm = np.array([_child(b, "FWHMOfBand") for b in bands])
    fwhm[~(fwhm > 0)] = np.nan
    count = len(bands)
    empty, has_statistics = _empty_bands(root, count)
    notes: list[str] = []
    detector = _listed_detectors(root, count)
    if detector is None:
        detector, how = guess_detectors(wavelength, fwhm)
        notes.append(f"the XML lists no detector channels: detectors {how}")
    level = "".join(_text(root, "base/level").upper().split()) or _level_of(name)
    background = root.find(".//backgroundValue")
    nodata = None if background is None else _float(background.text, np.nan)
    return EnmapMetadata(
        wavelength=wavelength,
        fwhm=fwhm,
        gain=np.array([_child(b, "GainOfBand") for b in bands]),
        offset=np.array([_child(b, "OffsetOfBand") for b in bands]),
        detector=detector,
        empty=empty,
        has_statistics=has_statistics,
        level=level,
        nodata=None if nodata is None or not np.isfinite(nodata) else nodata,
        attrs=_attributes(root, level),
        names=[e.text.strip() for e in root.iter("name") if e.text and "." in e.text],
        notes=notes,
        rpc=_rpc(root, count),
    )


def _plain(root: Element) -> Element:
    """Without namespaces, which some writers add."""
    for element in root.iter():
        if isinstance(element.tag, str) and "}" in element.tag:
            element.tag = element.tag.split("}", 1)[1]
    return root


def _float(text: Any, default: float) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return default
    return value if np.isfinite(value) else default


def _child(element: Element, name: str) -> float:
    found = element.find(name)
    return np.nan if found is None else _float((found.text or "").strip(), np.nan)


def _text(root: Element, path: str) -> str:
    found = root.find(path)
    return (found.text or "").strip() if found is not None else ""


def _level_of(name: str) -> str:
    upper = name.upper()
    return next((level for level in ("L1B", "L1C", "L2A") if level in upper), "")


def _empty_bands(root: Element, count: int) -> tuple[np.ndarray, bool]:
    """Bands with standard deviation 0 and the mean of nothing (-1000000), by the statistics."""
    empty = np.zeros(count, dtype=bool)
    items = root.findall("product/bandStatistics/bandID")
    seen = False
    for position, item in enumerate(items, start=1):
        number = int(_float(item.get("number"), position))
        mean, deviation = _child(item, "mean"), _child(item, "stdDeviation")
        if 1 <= number <= count and np.isfinite(mean):
            seen = True
            empty[number - 1] = deviation == 0 and mean <= _EMPTY_MEAN
    return empty, seen


def _rpc(root: Element, count: int) -> dict[int, dict[str, float | list[float]]]:
    """Rational polynomials of each band under product/navigation/RPC, names in lower case, numbers as stated."""
    out: dict[int, dict[str, float | list[float]]] = {}
    for position, item in enumerate(root.findall("product/navigation/RPC/bandID"), start=1):
        number = int(_float(item.get("number"), position))
        found: dict[str, float | list[float]] = {}
        for child in item.iter():
            words = (child.text or "").replace(",", " ").split()
            values = [_float(word, np.nan) for word in words]
            if child is not item and values and np.isfinite(values).all():
                found[str(child.tag).lower()] = values[0] if len(values) == 1 else values
        if found and 1 <= number <= count:
            out[number] = found
    return out


def _listed_detectors(root: Element, count: int) -> list[str] | None:
    """Detector of each band by the lists of expected channels; None where they are absent or do not fit."""
    out = [""] * count
    for detector in ("vnir", "swir"):
        text = _text(root, f"specific/{detector}ProductQuality/expectedChannelsList")
        try:
            numbers = [int(word) for word in text.replace(";", ",").split(",") if word.strip()]
        except ValueError:
            return None
        if not numbers or any(not 1 <= n <= count for n in numbers):
            return None
        for number in numbers:
            if out[number - 1] not in ("", detector):
                return None
            out[number - 1] = detector
    return out if all(out) else None


def guess_detectors(wavelength: np.ndarray, fwhm: np.ndarray) -> tuple[list[str], str]:
    """Detectors from the order of wavelengths, else from the jump of the widths; "" where neither tells.

    Returns
    -------
    list of str, and how they were found.
    """
    steps = np.flatnonzero(np.diff(wavelength) < 0)
    if steps.size == 1 and _SWIR_STARTS - 30 < wavelength[steps[0] + 1] < wavelength[steps[0]] < _VNIR_ENDS + 30:
        split = int(steps[0]) + 1
        return ["vnir"] * split + ["swir"] * (wavelength.size - split), "taken from the order of wavelengths"
    sure = np.where(wavelength < _SWIR_STARTS, "vnir", np.where(wavelength > _VNIR_ENDS, "swir", ""))
    out = [str(d) for d in sure]
    between = np.flatnonzero(sure == "")
    if between.size == 0:
        return out, "taken from the wavelengths"
    if steps.size == 0 and (sure == "vnir").any() and (sure == "swir").any() and np.isfinite(fwhm).all():
        chains = _follow_widths(fwhm, between)
        if chains is not None:
            for index, detector in zip(between, chains, strict=True):
                out[int(index)] = detector
            return out, "taken from the jumps of the widths between 900 and 1000 nm"
    return out, "between 900 and 1000 nm are unknown"


def _follow_widths(fwhm: np.ndarray, between: np.ndarray) -> list[str] | None:
    """Part the bands of the overlap into two chains along which the width changes least.

    The VNIR chain comes from the band before the overlap, the SWIR chain ends at the band after it. Dynamic
    programming over the last band of each chain.
    """
    first, last = int(between[0]), int(between[-1])
    if between.size != last - first + 1:
        return None
    # State: last band of VNIR, last band of SWIR (-1: none yet) -> (cost, detectors).
    states: dict[tuple[int, int], tuple[float, tuple[str, ...]]] = {(first - 1, -1): (0.0, ())}
    for band in range(first, last + 1):
        following: dict[tuple[int, int], tuple[float, tuple[str, ...]]] = {}
        for (vnir, swir), (cost, chain) in states.items():
            jump = 0.0 if swir < 0 else float(fwhm[band] - fwhm[swir])
            options = (
                ((band, swir), cost + float(fwhm[band] - fwhm[vnir]) ** 2, "vnir"),
                ((vnir, band), cost + jump**2, "swir"),
            )
            for key, total, detector in options:
                if key not in following or total < following[key][0]:
                    following[key] = total, (*chain, detector)
        states = following
    ends = []
    for (_, swir), (cost, chain) in states.items():
        if swir >= 0 and "vnir" in chain:
            ends.append((cost + float(fwhm[last + 1] - fwhm[swir]) ** 2, chain))
    if not ends:
        return None
    cost, best = min(ends)
    # Along one detector widths change by a tenth of a nanometre a band; more means that no jump was found.
    return list(best) if cost / between.size < 0.3**2 and _alternates(best) else None


def _alternates(chain: tuple[str, ...]) -> bool:
    """Whether neither detector misses three bands in a row in the middle of the overlap."""
    middle = chain[2:-2]
    return all(len(set(middle[i : i + 4])) == 2 for i in range(max(0, len(middle) - 3)))


def _attributes(root: Element, level: str) -> dict[str, Any]:
    found: dict[str, Any] = {"sensor": "EnMAP", "platform": "EnMAP", "level": level}
    time = iso_time(_text(root, "base/temporalCoverage/startTime"))
    if time:
        found["acquired"] = time
    angles = {
        "sun_elevation": "sunElevationAngle",
        "sun_azimuth": "sunAzimuthAngle",
        "across_off_nadir": "acrossOffNadirAngle",
        "scene_azimuth": "sceneAzimuthAngle",
    }
    values = {key: _float(_text(root, f"specific/{tag}/center"), np.nan) for key, tag in angles.items()}
    if np.isfinite(values["sun_elevation"]):
        found["sun_zenith"] = 90.0 - values["sun_elevation"]
    if np.isfinite(values["sun_azimuth"]):
        found["sun_azimuth"] = values["sun_azimuth"]
    if np.isfinite(values["across_off_nadir"]):
        found["view_zenith"] = abs(values["across_off_nadir"])
    if np.isfinite(values["scene_azimuth"]):
        found["scene_azimuth"] = values["scene_azimuth"]
    for key, path, factor in (
        ("ground_elevation", "specific/meanGroundElevation", 1.0),
        ("aerosol_optical_thickness", "specific/qualityFlag/sceneAOT", 1e-3),
        ("water_vapour", "specific/qualityFlag/sceneWV", 1e-3),
    ):
        value = _float(_text(root, path), np.nan)
        if np.isfinite(value):
            found[key] = value * factor
    corners_of = {
        key: {
            str(child.tag): value
            for child in root.findall(f"specific/{tag}/*")
            if np.isfinite(value := _float((child.text or "").strip(), np.nan))
        }
        for key, tag in angles.items()
    }
    if any(len(v) > 1 for v in corners_of.values()):
        found["corner_angles"] = {key: v for key, v in corners_of.items() if v}
    revision = _text(root, "base/revision")
    if revision:
        found["revision"] = revision
    corners = _corners(root)
    if corners:
        found["corners"] = corners
    return found


def _corners(root: Element) -> dict[str, list[float]]:
    """Longitude and latitude [deg] of the corners and the centre by their names."""
    out = {}
    for point in root.findall("base/spatialCoverage/boundingPolygon/point"):
        frame, lon, lat = _text(point, "frame"), _child(point, "longitude"), _child(point, "latitude")
        if frame and np.isfinite(lon) and np.isfinite(lat):
            out[frame] = [float(lon), float(lat)]
    return out
