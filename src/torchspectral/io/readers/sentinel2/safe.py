"""Sentinel-2 products as ESA distributes them: SAFE folders and ZIPs of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from affine import Affine

from torchspectral.errors import BrokenProduct, MissingMetadata
from torchspectral.io.readers.facts import iso_time
from torchspectral.io.readers.members import Members, members_of
from torchspectral.io.readers.sentinel2.scene import BANDS, NATIVE, Angles, Raster, Scene
from torchspectral.io.safety import parse_xml

MTD = r"MTD_MSIL(?P<level>1C|2A)\.xml"
_IMAGE = r"(?:L\dA_)?T\w{5}_\d{8}T\d{6}_(?P<kind>B\d\d|B8A|SCL|AOT|WVP)(?:_(?P<size>10|20|60)m)?\.(?:jp2|tiff?)"
_MASK = r"MSK_(?P<kind>CLDPRB|SNWPRB|CLASSI)_(?:(?P<size>20|60)m|B00)\.(?:jp2|tiff?)"
_DEPTH = 6
_OFFSETS_SINCE = 4.0


def read_safe(path: Path, boa_offset: float | None = None) -> Scene:
    """A scene from its SAFE folder, a folder that holds it, its MTD file, or a ZIP.

    Raises
    ------
    BrokenProduct, MissingMetadata, UnsafeInput
        Parts missing; several products or tiles; offsets that a product of its baseline must state and does not.
    """
    members = members_of(path if path.is_dir() or path.suffix.lower() == ".zip" else path.parent, depth=_DEPTH)
    found = members.match(MTD)
    if not found:
        raise BrokenProduct(
            f"{path.name} holds no MTD_MSIL1C.xml or MTD_MSIL2A.xml, expected a Sentinel-2 SAFE product"
        )
    if len(found) > 1:
        raise BrokenProduct(f"{path.name} holds {len(found)} Sentinel-2 products: open one by its .SAFE folder")
    document, match = found[0]
    level = f"L{match['level'].upper()}"
    root = plain(parse_xml(members.read(document), document))
    base = document.rsplit("/", 1)[0] if "/" in document else ""
    inside = members.below(base)
    granules = sorted({m[1] for n in inside.names if (m := re.search(r"(?:^|/)GRANULE/([^/]+)/", n))})
    if len(granules) != 1:
        raise BrokenProduct(
            f"{path.name} holds {len(granules)} tiles, expected one: products from before December 2016 hold several; open "
            "their images one by one"
        )
    name = root.findtext(".//PRODUCT_URI") or (Path(base).name if base else members.root.name)
    platform = (root.findtext(".//SPACECRAFT_NAME") or "Sentinel-2").strip()
    scale, offset, notes = _scaling(root, level, boa_offset)
    scene = Scene(
        name=name.removesuffix(".SAFE"),
        level=level,
        platform=platform,
        images=_images(inside),
        scale=scale,
        offset=offset,
        centres=_centres(root),
        notes=notes,
    )
    if not any(b in scene.images for b in BANDS):
        raise BrokenProduct(f"{path.name} has no band images below GRANULE/{granules[0]}/IMG_DATA")
    scene.source = [str(members.root)] if members.zipped else [members.source(document)]
    scene.attrs = _attributes(root)
    tile = next((n for n, _ in inside.match(r"MTD_TL\.xml")), "")
    if tile:
        add_tile(scene, plain(parse_xml(inside.read(tile), tile)))
    return scene


def plain(root: Element) -> Element:
    """Without namespaces."""
    for element in root.iter():
        if isinstance(element.tag, str) and "}" in element.tag:
            element.tag = element.tag.split("}", 1)[1]
    return root


def number(text: str | None) -> float:
    """A finite number, NaN where the text is none."""
    try:
        value = float((text or "").strip())
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")


def _images(members: Members) -> dict[str, dict[int, Raster]]:
    """Images by kind and pixel size; the images of L1C have that at which they are sensed."""
    found: dict[str, dict[int, Raster]] = {}
    sensed = {band: size for size, bands in NATIVE.items() for band in bands}
    for name, match in (*members.match(_IMAGE), *members.match(_MASK)):
        kind = match["kind"].upper()
        size = int(match["size"]) if match["size"] else sensed.get(kind, 60)
        found.setdefault(kind, {}).setdefault(size, Raster(members.handle(name), members.source(name)))
    return found


def _scaling(root: Element, level: str, given: float | None) -> tuple[dict[str, float], dict[str, float], list[str]]:
    """Reflectance = (DN + offset) / quantification; the offset is stated since processing baseline 04.00."""
    kind = "RADIO" if level == "L1C" else "BOA"
    names = ["QUANTIFICATION_VALUE"] if level == "L1C" else ["BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"]
    quantification = next((v for n in names if np.isfinite(v := number(root.findtext(f".//{n}")))), np.nan)
    if not quantification > 0:
        raise MissingMetadata(
            f"the product's MTD file has no {names[0]}, which says what its numbers mean: use raw=True"
        )
    listed: dict[str, float] = {}
    for element in root.iter(f"{kind}_ADD_OFFSET"):
        at = int(np.nan_to_num(number(element.get("band_id")), nan=-1))
        if 0 <= at < len(BANDS) and np.isfinite(number(element.text)):
            listed[BANDS[at]] = number(element.text)
    baseline = number(root.findtext(".//PROCESSING_BASELINE"))
    if given is not None:
        listed, how = dict.fromkeys(BANDS, given), f"{given:g} (given)"
    elif listed:
        low, high = min(listed.values()), max(listed.values())
        how = f"{kind}_ADD_OFFSET {low:g}" + ("" if low == high else f"..{high:g}")
    elif baseline >= _OFFSETS_SINCE:
        raise MissingMetadata(
            f"the product is of processing baseline {baseline:05.2f} but its MTD file states no {kind}_ADD_OFFSET, as all do "
            "since 04.00: give boa_offset=-1000, or 0 where somebody has removed it"
        )
    else:
        how = "no offset (stated since processing baseline 04.00 only)"
        listed = dict.fromkeys(BANDS, 0.0)
    known = [b for b in BANDS if b in listed]
    notes = [f"reflectance = (DN + offset) / {quantification:g}, {how}"]
    return (
        dict.fromkeys(known, 1.0 / quantification),
        {b: listed[b] / quantification for b in known},
        notes,
    )


def _centres(root: Element) -> dict[str, tuple[float, float]]:
    """Centre and width of each band; the width is that of the response at half its peak."""
    found = {}
    for element in root.iter("Spectral_Information"):
        at = int(np.nan_to_num(number(element.get("bandId")), nan=-1))
        centre = number(element.findtext("Wavelength/CENTRAL"))
        if 0 <= at < len(BANDS) and centre > 0:
            found[BANDS[at]] = centre, _width(element.find("Spectral_Response"))
    return found


def _width(response: Element | None) -> float:
    if response is None:
        return float("nan")
    step = number(response.findtext("STEP"))
    try:
        values = np.array([float(word) for word in (response.findtext("VALUES") or "").split()])
    except ValueError:
        return float("nan")
    if values.size < 3 or not np.isfinite(values).all() or not step > 0 or not values.max() > 0:
        return float("nan")
    values = np.concatenate([[0.0], values / values.max(), [0.0]])
    above = np.flatnonzero(values >= 0.5)
    first, last = int(above[0]), int(above[-1])
    low = first - (values[first] - 0.5) / (values[first] - values[first - 1])
    high = last + (values[last] - 0.5) / (values[last] - values[last + 1])
    return float((high - low) * step)


def _attributes(root: Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    time = iso_time(root.findtext(".//PRODUCT_START_TIME"))
    if time:
        found["acquired"] = time
    baseline = (root.findtext(".//PROCESSING_BASELINE") or "").strip()
    if baseline:
        found["revision"] = baseline
    cover = number(root.findtext(".//Cloud_Coverage_Assessment"))
    if np.isfinite(cover):
        found["cloud_cover"] = cover
    return found


def add_tile(scene: Scene, root: Element) -> None:
    """Angles, sensing time and places from the tile's metadata (MTD_TL.xml)."""
    crs = (root.findtext(".//HORIZONTAL_CS_CODE") or "").strip() or None
    for element in root.iter("Geoposition"):
        size = number(element.get("resolution"))
        numbers = [number(element.findtext(k)) for k in ("ULX", "ULY", "XDIM", "YDIM")]
        if size in NATIVE and np.isfinite(numbers).all() and crs:
            x, y, dx, dy = numbers
            scene.ground[int(size)] = Affine(dx, 0.0, x, 0.0, dy, y), crs
    sun = root.find(".//Mean_Sun_Angle")
    if sun is not None:
        for key, tag in (("sun_zenith", "ZENITH_ANGLE"), ("sun_azimuth", "AZIMUTH_ANGLE")):
            if np.isfinite(number(sun.findtext(tag))):
                scene.attrs[key] = number(sun.findtext(tag))
    views = [number(e.findtext("ZENITH_ANGLE")) for e in root.iter("Mean_Viewing_Incidence_Angle")]
    if np.isfinite(views).any():
        scene.attrs["view_zenith"] = float(np.nanmean(views))
    time = iso_time(root.findtext(".//SENSING_TIME"))
    if time:
        scene.attrs["acquired"] = time
    origin = scene.ground.get(10)
    if origin is None:
        return
    grids: dict[str, list[np.ndarray]] = {}
    steps: dict[str, tuple[float, float]] = {}
    for tag, name in (("Sun_Angles_Grid", "sun"), ("Viewing_Incidence_Angles_Grids", "view")):
        for element in root.iter(tag):
            for part in ("Zenith", "Azimuth"):
                grid = _grid(element.find(part))
                if grid is not None:
                    key = f"{name}_{part.lower()}"
                    grids.setdefault(key, []).append(grid[0])
                    steps[key] = grid[1], grid[2]
    for key, listed in grids.items():
        shape = listed[0].shape
        same = np.stack([g for g in listed if g.shape == shape])
        dx, dy = steps[key]
        # Nodes lie at multiples of the step from the tile's corner, so their cells reach half a step beyond.
        transform = Affine(dx, 0.0, origin[0].c - dx / 2, 0.0, -dy, origin[0].f + dy / 2)
        scene.angles[key] = Angles(_mean(same, key.endswith("azimuth")), transform, origin[1])


def _grid(element: Element | None) -> tuple[np.ndarray, float, float] | None:
    if element is None:
        return None
    rows = [[number(word) for word in (row.text or "").split()] for row in element.iter("VALUES")]
    dx, dy = number(element.findtext("COL_STEP")), number(element.findtext("ROW_STEP"))
    if not rows or len({len(r) for r in rows}) != 1 or not rows[0] or not (dx > 0 and dy > 0) or len(rows) > 4096:
        return None
    return np.array(rows, dtype=np.float64), dx, dy


def _mean(grids: np.ndarray, circular: bool) -> np.ndarray:
    """Mean over bands and detectors, NaN where none looks."""
    known = np.isfinite(grids)
    count = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        if not circular:
            return (np.where(known, grids, 0).sum(axis=0) / count).astype(np.float32)
        radians = np.deg2rad(np.where(known, grids, 0))
        east, north = ((np.where(known, f(radians), 0)).sum(axis=0) / count for f in (np.sin, np.cos))
        return (np.rad2deg(np.arctan2(east, north)) % 360).astype(np.float32)
