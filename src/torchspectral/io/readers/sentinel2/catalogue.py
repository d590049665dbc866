"""Copies of Sentinel-2 scenes as cloud-optimised GeoTIFFs with a STAC item."""

from __future__ import annotations

import math
import re
from pathlib import Path

from torchspectral.errors import BrokenProduct, MissingMetadata
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.members import open_image
from torchspectral.io.readers.sentinel2.safe import add_tile, plain
from torchspectral.io.readers.sentinel2.scene import BANDS, NATIVE, Raster, Scene
from torchspectral.io.readers.stac.item import Asset, Item, read_item
from torchspectral.io.safety import parse_xml

_FILE = re.compile(
    r"(?:^|[_/])(?P<kind>B0[1-9]|B1[0-2]|B8A|SCL|AOT|WVP)(?:_(?P<size>10|20|60)m)?\.(?:tiff?|jp2)$", re.IGNORECASE
)
_FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied", "s2:boa_offset_applied")
_BASELINES = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version")
_QUANTIFICATION = 1e-4


def is_sentinel_item(path: Path) -> bool:
    """Whether a JSON file is a STAC item of Sentinel-2 optical images."""
    document = read_item(path)
    properties = document.get("properties")
    if not isinstance(properties, dict):
        return False
    words = " ".join(
        str(properties.get(k, "")) for k in ("platform", "constellation", "eo:platform", "eo:constellation")
    )
    assets = document.get("assets")
    files = [str(a.get("href", "")) for a in assets.values() if isinstance(a, dict)] if isinstance(assets, dict) else []
    return "sentinel-2" in words.lower() and any(_FILE.search(f.split("?", 1)[0]) for f in files)


def read_catalogue(path: Path, boa_offset: float | None = None) -> Scene:
    """A scene from its STAC item.

    Whether the offset of baselines since 04.00 still has to be added is taken from the item, never from a date: its flag
    says that the archive has removed it; else the item's ``raster:bands`` state it.

    Raises
    ------
    MissingMetadata
        The item does not say, or contradicts itself.
    BrokenProduct, UnsafeInput, ProductNotFound
    """
    item = Item(path)
    images: dict[str, dict[int, Raster]] = {}
    chosen: dict[str, Asset] = {}
    sensed = {band: size for size, bands in NATIVE.items() for band in bands}
    for asset in item.rasters():
        match = _FILE.search(asset.file)
        if match is None or asset.path is None:
            continue
        kind = match["kind"].upper()
        size = int(match["size"]) if match["size"] else sensed.get(kind, 20)
        images.setdefault(kind, {}).setdefault(
            size, Raster(Handle(open_image, asset.path, per_thread=True), str(asset.path))
        )
        chosen.setdefault(kind, asset)
    bands = [b for b in BANDS if b in images]
    if not bands:
        raise BrokenProduct(f"{path.name} has no band of Sentinel-2 beside it, expected files named as B02.tif")
    scale, offset, notes = _scaling(item, {b: chosen[b] for b in bands}, boa_offset)
    attrs = item.attributes()
    platform = str(attrs.pop("platform", "sentinel-2"))
    centres = {}
    for band in bands:
        facts = (chosen[band].bands() or [{}])[0]
        centre, width = facts.get("center_wavelength"), facts.get("full_width_half_max")
        if (
            isinstance(centre, (int, float))
            and isinstance(width, (int, float))
            and "sentinel-2" not in platform.lower()
        ):
            centres[band] = float(centre) * 1000, float(width) * 1000
    scene = Scene(
        name=item.name,
        level=_level(item),
        platform=platform.title().replace("Sentinel-2a", "Sentinel-2A").replace("Sentinel-2b", "Sentinel-2B"),
        images=images,
        scale=scale,
        offset=offset,
        centres=centres,
        attrs={k: v for k, v in attrs.items() if k != "product"},
        source=[str(path)],
        notes=[*item.notes(), *notes],
    )
    tile = next(
        (a.path for a in item.assets.values() if a.file.lower() in ("granule_metadata.xml", "mtd_tl.xml") and a.path),
        None,
    )
    if tile is not None:
        add_tile(scene, plain(parse_xml(tile)))
    return scene


def _level(item: Item) -> str:
    words = (
        f"{item.properties.get('s2:product_type', '')} {item.properties.get('s2:product_uri', '')} {item.name}".upper()
    )
    return "L1C" if "1C" in words and "2A" not in words else "L2A"


def _scaling(
    item: Item, bands: dict[str, Asset], given: float | None
) -> tuple[dict[str, float], dict[str, float], list[str]]:
    stated = {band: (asset.bands() or [{}])[0] for band, asset in bands.items()}
    scale = {b: _number(f.get("scale")) or _QUANTIFICATION for b, f in stated.items()}
    unscaled = all(_number(f.get("scale")) is None for f in stated.values())
    listed = {b: _number(f.get("offset")) for b, f in stated.items()}
    any_offset = any(v not in (None, 0.0) for v in listed.values())
    flag = next((item.properties[k] for k in _FLAGS if isinstance(item.properties.get(k), bool)), None)
    baseline = next((v for k in _BASELINES if (v := _number(item.properties.get(k))) is not None), None)
    notes = ["the item states no scale: 0.0001 taken, as in all Sentinel-2 products"] if unscaled else []
    if given is not None:
        return (
            scale,
            {b: given * s for b, s in scale.items()},
            [*notes, f"reflectance = (DN {given:+g}) * scale (given)"],
        )
    if flag is True:
        contradicts = " (raster:bands still list it: the flag counts)" if any_offset else ""
        notes.append(f"reflectance = DN * scale: the archive has applied the offset already{contradicts}")
        return scale, dict.fromkeys(scale, 0.0), notes
    if any_offset:
        notes.append("reflectance = DN * scale + offset of the item's raster:bands")
        return scale, {b: v or 0.0 for b, v in listed.items()}, notes
    if baseline is not None and baseline < 4.0:
        notes.append(f"reflectance = DN * scale: processing baseline {baseline:05.2f} has no offset")
        return scale, dict.fromkeys(scale, 0.0), notes
    if flag is None and all(v is not None for v in listed.values()):
        notes.append("reflectance = DN * scale: the item's raster:bands state an offset of 0")
        return scale, dict.fromkeys(scale, 0.0), notes
    known = "an unknown processing baseline" if baseline is None else f"processing baseline {baseline:05.2f}"
    raise MissingMetadata(
        f"{item.path.name} is of {known} and does not say whether the offset of -1000 was removed: searched "
        f"{_FLAGS[0]} and raster:bands; give boa_offset=-1000 (still in the numbers) or 0 (removed)"
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
