"""Reading back what our own writers stored; the format is described in `torchspectral.io.writers.base`."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine

from torchspectral.errors import GridMismatch
from torchspectral.geo.grids import parse_crs, place
from torchspectral.io.readers.base import StoredArray, as_cube, storage
from torchspectral.log import get_logger

_KEYS = ("version", "kind", "name", "attrs", "bands", "grid", "nodata", "packing")


def from_text(text: str) -> dict[str, Any]:
    """Payload from base64 (ENVI); {} where it is none."""
    try:
        return from_items(json.loads(base64.b64decode("".join(text.split()), validate=True).decode("utf-8")))
    except (ValueError, binascii.Error):
        return {}


def from_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    """Payload from one JSON text an item (GeoTIFF); {} where it is none."""
    try:
        return from_items({key: json.loads(text) for key, text in tags.items() if key in _KEYS})
    except ValueError:
        return {}


def from_items(found: Any) -> dict[str, Any]:
    """Payload as a mapping, when it has the form of version 1; else {}."""
    if not isinstance(found, Mapping) or found.get("version") != 1 or found.get("kind") not in ("cube", "layers"):
        return {}
    if not isinstance(found.get("bands"), Mapping) or not isinstance(found.get("attrs"), Mapping):
        return {}
    return dict(found)


def fits(payload: Mapping[str, Any], bands: int) -> bool:
    """Whether the payload describes a file of so many bands; else somebody has edited the file."""
    lists = [v for v in payload["bands"].values() if isinstance(v, list)]
    ok = bool(lists) and all(len(v) == bands for v in lists)
    if not ok:
        get_logger("io").warning("the file was edited after torchspectral wrote it: its own metadata count")
    return ok


def restore(
    array: StoredArray, payload: Mapping[str, Any], *, raw: bool, transform: Affine | None, crs: Any
) -> xr.DataArray:
    """The value as it was saved, lazy.

    Parameters
    ----------
    array : StoredArray
        Over the file; scale, offset and nodata are set from the payload.
    transform, crs
        As the file itself states them.
    """
    attrs = dict(payload["attrs"])
    packing = payload.get("packing")
    if isinstance(packing, Mapping):
        array.set_meaning(packing.get("scale", 1.0), packing.get("offset", 0.0), packing.get("nodata"))
    else:
        array.set_meaning(1.0, 0.0, _number(payload.get("nodata")))
    array.precise = array.stored == np.float64
    bands = payload["bands"]
    if payload["kind"] == "layers":
        out = _layers(array, bands, attrs)
    else:
        coords = {
            key: _list(key, bands[key]) for key in ("wavelength", "fwhm", "good", "number", "detector") if key in bands
        }
        out = as_cube(array, quantity=str(attrs.get("quantity", "dn")), raw=raw, attrs=attrs, **coords)
        if isinstance(bands.get("name"), list):
            out = out.assign_coords(name=("band", [str(n) for n in bands["name"]]))
    out.name = payload.get("name")
    return _placed(out, payload.get("grid"), transform, crs)


def _layers(array: StoredArray, bands: Mapping[str, Any], attrs: dict[str, Any]) -> xr.DataArray:
    from xarray.core import indexing

    array.decode = array.stored.kind == "f"
    variable = xr.Variable(("layer", "y", "x"), indexing.LazilyIndexedArray(array))
    names = [str(n) for n in bands.get("layer", [])]
    out = xr.DataArray(variable, coords={"layer": names or np.arange(array.shape[0]).astype(str)}, attrs=attrs)
    if not array.decode and array.nodata is not None:
        out.attrs["nodata"] = array.nodata
    encoding = storage(array)
    if "preferred_chunks" in encoding:
        encoding["preferred_chunks"] = {
            "layer" if dim == "band" else dim: n for dim, n in encoding["preferred_chunks"].items()
        }
    out.encoding = encoding
    return out


def _placed(out: xr.DataArray, grid: Any, transform: Affine | None, crs: Any) -> xr.DataArray:
    shape = out.shape[-2:]
    if isinstance(grid, Mapping) and tuple(grid.get("size") or ()) == tuple(shape):
        numbers = grid.get("transform")
        own = Affine.from_gdal(*(float(v) for v in numbers)) if numbers else None
        if grid.get("kind") in ("none", "swath") and transform is None:
            return place(out, None)
        if own is not None and (transform is None or _same(own, transform)):
            try:
                return place(out, own, parse_crs(grid.get("crs_wkt")))
            except GridMismatch:
                pass
    return place(out, transform, crs)


def _same(a: Affine, b: Affine) -> bool:
    size = max(abs(a.a), abs(a.b), abs(a.d), abs(a.e))
    near = all(abs(x - y) <= 1e-6 * size for x, y in ((a.c, b.c), (a.f, b.f)))
    return near and all(abs(x - y) <= 1e-9 * size for x, y in ((a.a, b.a), (a.b, b.b), (a.d, b.d), (a.e, b.e)))


def _list(key: str, values: list[Any]) -> np.ndarray:
    if key in ("wavelength", "fwhm"):
        return np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)
    return np.asarray(values)


def _number(value: Any) -> float | int | None:
    if value is None:
        return None
    return float(value) if isinstance(value, str) else value
