"""A STAC item as a local JSON file: its properties and those of its assets that lie beside it.

Assets are looked up inside the item's own folder only. Nothing is fetched: an asset on the network counts as there where a
file of its name lies beside the item, as after a download.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from torchspectral.errors import BrokenProduct, ProductNotFound, TooLarge, UnsafeInput
from torchspectral.io.readers.facts import iso_time
from torchspectral.io.safety import human, read_text

MOST_BYTES = 16 << 20
MOST_ASSETS = 4096
_RASTER = re.compile(r"\.(tiff?|jp2|geotiff|gtiff)$", re.IGNORECASE)


@dataclass(frozen=True)
class Asset:
    """One asset.

    Attributes
    ----------
    key : str
        Its name in the item.
    href : str
        As written.
    path : Path or None
        The file, where it lies in the item's folder.
    remote : bool
        Whether the href leads to the network.
    facts : mapping
        The asset's own fields.
    """

    key: str
    href: str
    path: Path | None
    remote: bool
    facts: Mapping[str, Any] = field(repr=False)

    @property
    def file(self) -> str:
        """Last part of the href."""
        return PurePosixPath(unquote(urlsplit(self.href).path)).name

    @property
    def raster(self) -> bool:
        """Whether it is an image by its name (previews left out)."""
        roles = self.facts.get("roles") or []
        preview = isinstance(roles, list) and {"thumbnail", "overview"} & {str(r) for r in roles}
        return bool(_RASTER.search(self.file)) and not preview

    def bands(self) -> list[dict[str, Any]]:
        """What the item says about each band: raster and eo fields in one mapping, without their prefixes."""
        out: list[dict[str, Any]] = []
        lists = [self.facts.get(key) for key in ("bands", "raster:bands", "eo:bands")]
        for listed in lists:
            if not isinstance(listed, list):
                continue
            for number, entry in enumerate(listed[:4096]):
                if not isinstance(entry, Mapping):
                    continue
                while len(out) <= number:
                    out.append({})
                for key, value in entry.items():
                    out[number].setdefault(str(key).split(":", 1)[-1], value)
        shared = {str(k).split(":", 1)[-1]: v for k, v in self.facts.items() if str(k).startswith(("raster:", "eo:"))}
        for key in ("nodata", "data_type", "unit"):
            if key in self.facts:
                shared.setdefault(key, self.facts[key])
        for entry in out or ([shared] if shared else []):
            for key, value in shared.items():
                if key != "bands":
                    entry.setdefault(key, value)
        return out or ([shared] if shared else [])


class Item:
    """An item.

    Attributes
    ----------
    path : Path
    name : str
        Its id.
    properties : mapping
    assets : dict of str to Asset

    Raises
    ------
    BrokenProduct, TooLarge
        No JSON, no item, or larger than an item may be.
    UnsafeInput
        A raster's href is a ``file:`` URL, an absolute path, or leads out of the item's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        document = read_item(path)
        self.name = str(document.get("id", path.stem))
        found = document.get("properties")
        self.properties: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        listed = document.get("assets")
        if not isinstance(listed, Mapping) or not listed:
            raise BrokenProduct(f"{path.name} is a STAC item without assets, expected one for each file")
        if len(listed) > MOST_ASSETS:
            raise TooLarge(f"{path.name} lists {len(listed)} assets, more than the allowed {MOST_ASSETS}")
        self.assets: dict[str, Asset] = {}
        for key, facts in listed.items():
            if isinstance(facts, Mapping) and isinstance(facts.get("href"), str):
                facts = _with_shared_bands(facts, self.properties)
                self.assets[str(key)] = _asset(path, str(key), facts)

    def rasters(self) -> list[Asset]:
        """Assets that are images and lie beside the item.

        Raises
        ------
        UnsafeInput, ProductNotFound
            None is there: all are on the network, or their files are missing.
        """
        images = [a for a in self.assets.values() if a.raster]
        here = [a for a in images if a.path is not None]
        if here:
            return here
        remote = next((a for a in images if a.remote), None)
        if remote is not None:
            raise UnsafeInput(
                f"{self.path.name}: asset {remote.key!r} lies on the network ({_short(remote.href)}) and nothing is "
                f"fetched: download the assets into {self.path.parent.name or 'its folder'}, as {remote.file}"
            )
        if images:
            raise ProductNotFound(f"{self.path.name}: no asset is there, expected {images[0].href} beside it")
        raise BrokenProduct(f"{self.path.name} has no asset that is a GeoTIFF or JPEG 2000 image")

    def notes(self) -> list[str]:
        """Lines for the history: assets taken from beside the item, and those that are not there."""
        images = [a for a in self.assets.values() if a.raster]
        local = [a.key for a in images if a.remote and a.path is not None]
        gone = [a.key for a in images if a.path is None]
        out = []
        if local:
            out.append(f"{len(local)} assets with remote hrefs taken from the files of their names beside the item")
        if gone:
            out.append(f"assets that are not there left out: {', '.join(gone[:20])}{' ...' if len(gone) > 20 else ''}")
        return out

    def number(self, *keys: str) -> float | None:
        """The first of some properties that is a number."""
        for key in keys:
            value = self.properties.get(key)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        return None

    def attributes(self) -> dict[str, Any]:
        """Attributes of a cube: platform, time and angles."""
        found: dict[str, Any] = {"product": self.name}
        platform = self.properties.get("platform") or self.properties.get("eo:platform")
        if isinstance(platform, str) and platform:
            found["platform"] = platform
        time = iso_time(self.properties.get("datetime") or self.properties.get("start_datetime") or "")
        if time:
            found["acquired"] = time
        elevation = self.number("view:sun_elevation", "eo:sun_elevation")
        azimuth = self.number("view:sun_azimuth", "eo:sun_azimuth")
        view = self.number("view:incidence_angle", "view:off_nadir", "eo:off_nadir")
        if elevation is not None:
            found["sun_zenith"] = 90.0 - elevation
        if azimuth is not None:
            found["sun_azimuth"] = azimuth
        if view is not None:
            found["view_zenith"] = abs(view)
        return found


def read_item(path: Path) -> dict[str, Any]:
    """The JSON of an item, bounded in size.

    Raises
    ------
    BrokenProduct, TooLarge
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise TooLarge(f"{path.name} has {human(size)}, more than the allowed {human(MOST_BYTES)} of a STAC item")
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise BrokenProduct(f"{path.name} is no readable JSON: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(document, dict) or document.get("type") != "Feature" or "stac_version" not in document:
        kind = document.get("type") if isinstance(document, dict) else type(document).__name__
        raise BrokenProduct(
            f"{path.name} is no STAC item (type {str(kind)[:40]!r}), expected a Feature with stac_version and assets"
        )
    return document


def _with_shared_bands(facts: Mapping[str, Any], properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """Old items list bands once in the properties, and assets give their numbers."""
    own, shared = facts.get("eo:bands"), properties.get("eo:bands")
    if not (isinstance(own, list) and isinstance(shared, list) and all(isinstance(n, int) for n in own)):
        return facts
    return {**facts, "eo:bands": [shared[n] for n in own if 0 <= n < len(shared)]}


def _asset(item: Path, key: str, facts: Mapping[str, Any]) -> Asset:
    href = str(facts["href"])
    scheme = urlsplit(href).scheme.lower() if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", href) else ""
    folder = item.parent
    if scheme and scheme != "file":
        asset = Asset(key, href, None, True, facts)
        name = asset.file
        if _plain(name) and _inside(folder, folder / name):
            return Asset(key, href, folder / name, True, facts)
        return asset
    asset = Asset(key, href, None, False, facts)
    if not asset.raster:
        return asset
    if scheme == "file":
        raise UnsafeInput(
            f"{item.name}: asset {key!r} is a file: URL ({_short(href)}), expected a path relative to the item"
        )
    relative = PurePosixPath(unquote(href.split("?", 1)[0]))
    if href.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", href) or relative.is_absolute():
        raise UnsafeInput(
            f"{item.name}: asset {key!r} is an absolute path ({_short(href)}), expected one relative to the item"
        )
    if ".." in relative.parts or "\\" in str(relative) or "\0" in href:
        raise UnsafeInput(f"{item.name}: asset {key!r} leads out of the item's folder ({_short(href)})")
    place = folder.joinpath(*relative.parts)
    if not place.exists():
        return asset
    if not _inside(folder, place):
        raise UnsafeInput(f"{item.name}: asset {key!r} leads out of the item's folder ({_short(href)}) by a link")
    return Asset(key, href, place, False, facts)


def _plain(name: str) -> bool:
    return bool(name) and not re.search(r"[\\/:\0]", name) and name not in (".", "..")


def _inside(folder: Path, place: Path) -> bool:
    try:
        return place.is_file() and place.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return False


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:40]}...{text[-37:]}"
