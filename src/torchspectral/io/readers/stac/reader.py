"""STAC items of any collection, as local JSON with their assets beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadSettings, MissingMetadata, UnknownName, closest
from torchspectral.io.readers.base import Reader, as_cube
from torchspectral.io.readers.facts import Values, guess_quantity, read_options
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.members import open_image
from torchspectral.io.readers.stac.item import Asset, Item
from torchspectral.io.readers.stacks import StackArray, check_alike, ground_of, raster_layer
from torchspectral.io.safety import read_text


class StacReader(Reader):
    """Reader of STAC items."""

    name = "stac"
    title = "STAC item with assets beside it"
    patterns = ("*.json", "*.geojson")
    options = ("assets", "quantity", "scale", "nodata")
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By the keys of the JSON."""
        if not path.is_file() or path.suffix.lower() not in (".json", ".geojson"):
            return 0.0
        with path.open("rb") as file:
            if file.read(64).lstrip()[:1] != b"{":
                return 0.0
        if path.stat().st_size > (64 << 20):
            return 0.0
        start = read_text(path)
        return 0.7 if '"stac_version"' in start and '"assets"' in start else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open the item's bands of one grid as a lazy cube, sorted by wavelength.

        Parameters
        ----------
        assets : sequence of str
            Which assets, by their keys, in this order; by default all images whose bands have wavelengths, which must
            then lie on one grid.
        quantity, scale, nodata
            Where the item and its files do not say what the values are.

        Raises
        ------
        MissingMetadata
            Several grids, or no wavelengths, and `assets` does not choose.
        BrokenProduct, UnsafeInput, ProductNotFound, TooLarge, BadSettings
        """
        given = read_options({k: v for k, v in options.items() if k in ("quantity", "scale", "nodata")})
        item = Item(path)
        chosen = _chosen(item, options.get("assets"))
        handles = [_handle(a) for a in chosen]
        check_alike(handles, [a.file for a in chosen])
        rows = [
            (index, band, _band(asset, band - 1))
            for index, (asset, handle) in enumerate(zip(chosen, handles, strict=True))
            for band in range(1, handle.get().count + 1)
        ]
        wavelength = np.array([_nanometres(facts, "center_wavelength") for _, _, facts in rows])
        order = np.arange(len(rows))
        if options.get("assets") is None and np.isfinite(wavelength).all():
            order = np.argsort(wavelength, kind="stable")
        rows = [rows[i] for i in order]
        scale, offset, notes = _scaling(handles, rows)
        nodata = next((n for h, (_, _, f) in zip([handles[r[0]] for r in rows], rows, strict=True)
                       if (n := _nodata(h, f)) is not None), None)  # fmt: skip
        values = guess_quantity(
            Values(scale, offset, nodata, _stated_quantity(chosen, scale, wavelength), notes),
            words=" ".join(str(f.get("unit", "")) for _, _, f in rows[:1]),
            floats=np.dtype(handles[0].get().dtypes[0]).kind == "f",
            given=given,
        )
        where = np.array([[index, band] for index, band, _ in rows])
        array = StackArray(handles, where, source=path, scale=values.scale, offset=values.offset, nodata=values.nodata)
        attrs = {
            **item.attributes(),
            "source": [str(path), *(str(a.path) for a in chosen)],
            "history": [f"opened {item.name} (STAC item)", *item.notes(), *values.notes],
        }
        cube = as_cube(
            array,
            quantity=values.quantity,
            raw=raw,
            attrs=attrs,
            wavelength=wavelength[order],
            fwhm=[_nanometres(f, "full_width_half_max") for _, _, f in rows],
            number=order + 1,
        )
        names = [
            str(f.get("name") or (chosen[i].key if handles[i].get().count == 1 else f"{chosen[i].key}_{b}"))
            for i, b, f in rows
        ]
        cube = cube.assign_coords(name=("band", names))
        return ground_of(cube, handles[0].get())

    def layers(self, path: Path) -> list[str]:
        """Every image of one band that lies beside the item, by its key."""
        return [a.key for a in Item(path).rasters() if _handle(a).get().count == 1]

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """One image as stored, (y, x), on its own grid."""
        known = {a.key: a for a in Item(path).rasters()}
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, list(known))}")
        handle = _handle(known[name])
        return raster_layer(handle, name, str(known[name].path), nodata=handle.get().nodata)


def _handle(asset: Asset) -> Handle:
    assert asset.path is not None
    return Handle(open_image, asset.path, per_thread=True)


def _chosen(item: Item, keys: Any) -> list[Asset]:
    here = {a.key: a for a in item.rasters()}
    if keys is not None:
        listed = [keys] if isinstance(keys, str) else list(keys) if isinstance(keys, Sequence) else None
        if not listed:
            raise BadSettings(f"got assets={str(keys)[:60]!r}, expected keys among {', '.join(sorted(here))}")
        for key in listed:
            if key not in here:
                raise UnknownName(f"{item.path.name} has no asset {key!r} beside it: {closest(str(key), list(here))}")
        return [here[key] for key in listed]
    if len(here) == 1:
        return list(here.values())
    with_bands = [a for a in here.values() if any("center_wavelength" in b for b in a.bands())]
    single = [a for a in with_bands if len(a.bands()) == 1]
    found = single or with_bands
    if not found:
        raise MissingMetadata(
            f"{item.path.name} has {len(here)} images and says wavelengths of none: choose with assets= among "
            f"{', '.join(sorted(here)[:12])}"
        )
    sizes: dict[tuple[int, int], list[str]] = {}
    for asset in found:
        dataset = _handle(asset).get()
        sizes.setdefault((dataset.height, dataset.width), []).append(asset.key)
    if len(sizes) > 1:
        text = "; ".join(f"{h} x {w}: {', '.join(keys)}" for (h, w), keys in sorted(sizes.items(), reverse=True))
        raise MissingMetadata(
            f"{item.path.name} has bands of {len(sizes)} pixel sizes, choose with assets=: {text}"[:560]
        )
    return found


def _band(asset: Asset, index: int) -> dict[str, Any]:
    bands = asset.bands()
    return bands[index] if index < len(bands) else {}


def _nanometres(facts: dict[str, Any], key: str) -> float:
    value = facts.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not np.isfinite(value) or value <= 0:
        return np.nan
    # The eo extension states micrometres.
    return round(float(value) * 1000.0, 6)


def _scaling(
    handles: list[Handle], rows: list[tuple[int, int, dict[str, Any]]]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The item's scale and offset, else those of the files."""
    scale, offset = np.ones(len(rows)), np.zeros(len(rows))
    how: set[str] = set()
    for at, (index, band, facts) in enumerate(rows):
        dataset = handles[index].get()
        s, o = facts.get("scale"), facts.get("offset")
        if isinstance(s, (int, float)) and np.isfinite(s) and s != 0:
            scale[at] = float(s)
            offset[at] = float(o) if isinstance(o, (int, float)) and np.isfinite(o) else 0.0
            how.add("value = stored * scale + offset of the item's bands")
        elif (dataset.scales[band - 1] or 1.0) != 1.0 or (dataset.offsets[band - 1] or 0.0) != 0.0:
            scale[at], offset[at] = dataset.scales[band - 1] or 1.0, dataset.offsets[band - 1] or 0.0
            how.add("value = stored * scale + offset of the files")
    return scale, offset, sorted(how)


def _nodata(handle: Handle, facts: dict[str, Any]) -> float | None:
    stated = handle.get().nodata
    if stated is not None:
        return float(stated)
    value = facts.get("nodata")
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _stated_quantity(chosen: list[Asset], scale: np.ndarray, wavelength: np.ndarray) -> str:
    """Reflectance where the assets' roles say so and a scale stands beside."""
    roles = {str(r) for a in chosen for r in (a.facts.get("roles") or []) if isinstance(r, str)}
    small = bool(np.all((np.abs(scale) >= 1e-6) & (np.abs(scale) <= 1e-2)))
    if small and ("reflectance" in roles or np.isfinite(wavelength).all()):
        return "reflectance"
    return ""
