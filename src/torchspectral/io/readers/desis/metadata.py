"""What a DESIS product says about its bands: the METADATA.xml and the ENVI header beside the image."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from torchspectral.errors import BandMismatch, BrokenProduct, MissingMetadata
from torchspectral.io.readers.facts import iso_time
from torchspectral.io.safety import parse_xml

# DLR states radiance in mW cm-2 sr-1 um-1.
RADIANCE = 10.0


@dataclass
class DesisBands:
    """Facts of the bands, arrays of shape (band,); NaN where nothing is stated.

    Attributes
    ----------
    wavelength, fwhm : ndarray [nm]
    gain, offset : ndarray
        stored * gain + offset, in the product's unit.
    good : ndarray of bool
    """

    wavelength: np.ndarray
    fwhm: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    good: np.ndarray
    nodata: float | None = None
    attrs: dict[str, Any] = field(default_factory=dict)


def plain(root: Element) -> Element:
    """Without namespaces."""
    for element in root.iter():
        if isinstance(element.tag, str) and "}" in element.tag:
            element.tag = element.tag.split("}", 1)[1]
    return root


def _number(element: Element | None, path: str) -> float:
    found = element.find(path) if element is not None else None
    try:
        value = float((found.text or "").strip()) if found is not None else np.nan
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan


def from_xml(document: bytes, name: str) -> DesisBands:
    """Bands and facts of the scene by the METADATA.xml.

    Raises
    ------
    BrokenProduct, UnsafeInput
        No XML of DESIS, no bands, or a band without wavelength.
    """
    root = plain(parse_xml(document, name))
    # <band> also stands under the interior orientation: only those of the characterisation count.
    listed = root.find(".//bandCharacterisation")
    bands = [] if listed is None else listed.findall("band")
    if not bands:
        raise BrokenProduct(f"{name} has no bandCharacterisation/band, expected one a band")
    numbers = [_number(b, "bandNumber") for b in bands]
    bands = [bands[i] for i in np.argsort(np.nan_to_num(numbers, nan=np.inf), kind="stable")]
    wavelength = np.array([_number(b, "wavelengthCenterOfBand") for b in bands])
    if not (wavelength > 0).all():
        at = int(np.argmin(wavelength > 0)) + 1
        raise BrokenProduct(f"{name} gives band {at} no wavelengthCenterOfBand, expected nanometres")
    background = root.find(".//backgroundValue")
    nodata = np.nan if background is None else _number(root, ".//backgroundValue")
    return DesisBands(
        wavelength=wavelength,
        fwhm=np.array([_number(b, "wavelengthWidthOfBand") for b in bands]),
        gain=np.array([_number(b, "gainOfBand") for b in bands]),
        offset=np.array([_number(b, "offsetOfBand") for b in bands]),
        good=np.ones(len(bands), dtype=bool),
        nodata=float(nodata) if np.isfinite(nodata) else None,
        attrs=_attributes(root),
    )


def _attributes(root: Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    time = root.findtext(".//temporalCoverage/startTime") or root.findtext(".//startTime") or ""
    if iso_time(time):
        found["acquired"] = iso_time(time)
    for key, tag in (
        ("sun_zenith", "sunZenithAngle"), ("sun_azimuth", "sunAzimuthAngle"), ("scene_azimuth", "sceneAzimuthAngle"),
    ):  # fmt: skip
        value = _number(root, f".//specific/{tag}")
        if np.isfinite(value):
            found[key] = float(value)
    view = _number(root, ".//specific/sceneIncidenceAngle")
    if np.isfinite(view):
        found["view_zenith"] = abs(float(view))
    return found


def from_header(text: str, name: str) -> DesisBands | None:
    """Bands by the ENVI header beside the image; None where it lists no wavelengths."""
    fields = {
        match[1].strip().lower(): match[2].strip()
        for match in re.finditer(r"(?ms)^\s*([A-Za-z][\w ]*?)\s*=\s*(\{.*?\}|[^\n]*)", text)
    }

    def numbers(key: str) -> np.ndarray:
        words = fields.get(key, "").strip("{}").replace("\n", " ").split(",")
        try:
            values = np.array([float(word) for word in words if word.strip()])
            return np.where(np.isfinite(values), values, np.nan)
        except ValueError:
            raise BrokenProduct(f"{name}: {key} holds something that is no number") from None

    wavelength = numbers("wavelength")
    if not wavelength.size:
        return None
    count = wavelength.size
    lists = {key: numbers(key) for key in ("fwhm", "data gain values", "data offset values", "bbl")}
    for key, values in lists.items():
        if values.size not in (0, count):
            raise BandMismatch(f"{name} states {count} wavelengths but {values.size} {key}: they must agree")
    nothing = np.full(count, np.nan)
    ignored = numbers("data ignore value")
    return DesisBands(
        wavelength=wavelength * (1000.0 if wavelength.max() < 30 else 1.0),
        fwhm=lists["fwhm"] * (1000.0 if wavelength.max() < 30 else 1.0) if lists["fwhm"].size else nothing,
        gain=lists["data gain values"] if lists["data gain values"].size else nothing,
        offset=lists["data offset values"] if lists["data offset values"].size else nothing,
        good=lists["bbl"] != 0 if lists["bbl"].size else np.ones(count, dtype=bool),
        nodata=float(ignored[0]) if ignored.size == 1 else None,
    )


def merged(xml: DesisBands | None, header: DesisBands | None, bands: int, name: str) -> tuple[DesisBands, list[str]]:
    """One set of facts: the XML's, completed by the header's; both must say the same.

    Returns
    -------
    DesisBands, and lines for the history.

    Raises
    ------
    MissingMetadata, BandMismatch, BrokenProduct
    """
    known = [(b, w) for b, w in ((xml, "METADATA.xml"), (header, "ENVI header")) if b is not None]
    if not known:
        raise MissingMetadata(
            f"no wavelengths for {name}: searched -METADATA.xml and -SPECTRAL_IMAGE.hdr beside it; get one of them, or "
            "open it with reader='geotiff' and wavelength="
        )
    for facts, where in known:
        if facts.wavelength.size != bands:
            raise BandMismatch(f"{name} has {bands} bands but its {where} describes {facts.wavelength.size}")
    out, first = known[0]
    notes = [f"band facts from the {' and the '.join(w for _, w in known)}"]
    if len(known) == 2:
        other = known[1][0]
        for key in ("wavelength", "gain", "offset"):
            a, b = getattr(out, key), getattr(other, key)
            both = np.isfinite(a) & np.isfinite(b)
            if not np.allclose(a[both], b[both], rtol=1e-4, atol=0.05 if key == "wavelength" else 1e-12):
                at = int(np.argmax(both & ~np.isclose(a, b, rtol=1e-4, atol=0.05 if key == "wavelength" else 1e-12)))
                raise BrokenProduct(
                    f"band {at + 1}: the {first} says {key} {a[at]:g}, the {known[1][1]} {b[at]:g}: are they of one product?"
                )
        for key in ("fwhm", "gain", "offset"):
            a, b = getattr(out, key), getattr(other, key)
            setattr(out, key, np.where(np.isfinite(a), a, b))
        out.good = out.good & other.good
        out.nodata = other.nodata if out.nodata is None else out.nodata
    return out, notes
