"""Local STAC items and item collections as lists of products: whose hrefs are followed, and whose are not."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import unquote, urlsplit

from torchspectral.errors import BadSettings, BrokenProduct, ProductNotFound, UnsafeInput
from torchspectral.io.opening import is_product
from torchspectral.io.safety import read_text
from torchspectral.io.writers.base import tidy

_OTHER_ROLES = {"metadata", "thumbnail", "overview", "visual", "data-mask", "snow-ice", "cloud", "angles"}


def read_items(path: str | Path) -> list[dict[str, Any]] | None:
    """Items of a STAC item or item collection; None where the file is no such thing.

    A GeoJSON of plain features, without assets, is none.

    Raises
    ------
    BrokenProduct
        It is a collection of items, but damaged.
    TooLarge
        Larger than `Limits.text_bytes`.
    """
    file = Path(path)
    if not file.is_file() or file.suffix.lower() not in (".json", ".geojson"):
        return None
    try:
        found = json.loads(read_text(file))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    if found.get("type") == "Feature" and isinstance(found.get("assets"), dict):
        return [found]
    features = found.get("features")
    if found.get("type") != "FeatureCollection" or not isinstance(features, list):
        return None
    items = [f for f in features if isinstance(f, dict) and "assets" in f]
    if not items:
        return None
    for number, feature in enumerate(features, start=1):
        if not (isinstance(feature, dict) and isinstance(feature.get("assets"), dict)):
            raise BrokenProduct(f"item {number} of {file.name} has no assets, expected a STAC item as the others are")
    return items


def products_of(path: str | Path) -> list[Path]:
    """The product of each item of a STAC item or item collection, in order.

    An item's product is its own file, where it has a local ``self`` link that opens as a product; else its one asset
    of role "data"; else the folder that holds all its data, where that opens as a product.

    Raises
    ------
    UnsafeInput
        An href is remote, a ``file:`` address, or leads out of the folder of the collection.
    ProductNotFound
        An asset does not exist.
    BadSettings
        An item has no data asset, or several that are no product together.
    BrokenProduct, TooLarge
        As `read_items`.
    """
    file = Path(path)
    items = read_items(file)
    if items is None:
        raise BrokenProduct(f"{file.name} is no STAC item and no collection of items (GeoJSON features with assets)")
    return [_product(item, file, number) for number, item in enumerate(items, start=1)]


def _product(item: dict[str, Any], file: Path, number: int) -> Path:
    name = f"item {tidy(item.get('id') or number)[:80]!r} of {file.name}"
    links = item.get("links")
    for link in links if isinstance(links, list) else []:
        own = link.get("href") if isinstance(link, dict) and link.get("rel") == "self" else None
        # A self link usually is the address that the item was fetched from.
        if isinstance(own, str) and not urlsplit(own).scheme and not PurePosixPath(own).is_absolute():
            found = local_href(own, file, name)
            if found.is_file() and found.resolve() != file.resolve() and is_product(found):
                return found
    assets = {str(k): a for k, a in item["assets"].items() if isinstance(a, dict) and isinstance(a.get("href"), str)}
    data = {k: a for k, a in assets.items() if "data" in _roles(a)}
    if not data:
        data = {k: a for k, a in assets.items() if not _roles(a) & _OTHER_ROLES}
    if not data:
        raise BadSettings(f"{name} has no asset of role 'data' among {', '.join(assets) or 'none'}: nothing to open")
    paths = {key: local_href(asset["href"], file, f"asset {tidy(key)[:40]!r} of {name}") for key, asset in data.items()}
    for key, found in paths.items():
        if not found.exists():
            raise ProductNotFound(f"asset {tidy(key)[:40]!r} of {name} is {found}, which does not exist")
    distinct = list(dict.fromkeys(paths.values()))
    if len(distinct) == 1:
        return distinct[0]
    folders = {p.parent for p in distinct}
    if len(folders) == 1 and (folder := folders.pop()).resolve() != file.parent.resolve() and is_product(folder):
        return folder
    raise BadSettings(
        f"{name} has {len(distinct)} data assets ({', '.join(list(paths)[:6])}{', ...' if len(paths) > 6 else ''}), "
        "which are no product together: give the item as a file of its own, or mark the one to open with role 'data'"
    )


def _roles(asset: dict[str, Any]) -> set[str]:
    roles = asset.get("roles")
    return {str(r) for r in roles} if isinstance(roles, list) else set()


def local_href(href: str, file: Path, what: str) -> Path:
    """The local path of an href, which must lie in or below the folder of the `file` that names it.

    Raises
    ------
    UnsafeInput
        It does not; `what` names the culprit.
    """
    folder = file.parent
    shown = tidy(href)[:120]
    for text in dict.fromkeys((href, unquote(href))):
        scheme = urlsplit(text).scheme.lower() if "://" in text or text.lower().startswith("file:") else ""
        if scheme == "file":
            raise UnsafeInput(f"{what} is the file: address {shown!r}: expected a relative href below {folder}")
        if scheme or text.startswith("//"):
            raise UnsafeInput(f"{what} is remote ({shown!r}): fetch it first and write its relative path as href")
        if text.startswith("/vsi"):
            raise UnsafeInput(f"{what} is the virtual path {shown!r}: expected a relative href below {folder}")
        if ".." in PurePosixPath(text).parts or ".." in PureWindowsPath(text).parts:
            raise UnsafeInput(f"{what} leads upwards ({shown!r}): expected a relative href without '..' below {folder}")
        if "\x00" in text or not text.strip():
            raise UnsafeInput(f"{what} has the href {shown!r}, expected a relative path")
        absolute = PurePosixPath(text).is_absolute() or bool(PureWindowsPath(text).drive)
        if absolute and not Path(text).is_relative_to(folder.resolve()):
            raise UnsafeInput(
                f"{what} is the absolute path {shown!r} outside {folder}: expected a relative href below that folder"
            )
    found = folder / href
    if not found.exists() and (folder / unquote(href)).exists():
        found = folder / unquote(href)
    if not found.resolve().is_relative_to(folder.resolve()):
        raise UnsafeInput(f"{what} ({shown!r}) is a link to {found.resolve()}, outside {folder}: copy the file there")
    return found
