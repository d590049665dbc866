"""Writes miniature netCDF-4 files by h5py alone, as netCDF libraries lay them out; shares nothing with the readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pyproj import CRS


def dimension(group: h5py.Group, name: str, values: Any) -> h5py.Dataset:
    """A dimension: a coordinate variable, or of a bare length where `values` is a number."""
    if np.ndim(values) == 0:
        item = group.create_dataset(name, (int(values),), ">f4")
        item.make_scale(f"This is a netCDF dimension but not a netCDF variable.{int(values):10d}")
    else:
        item = group.create_dataset(name, data=np.asarray(values))
        item.make_scale(name)
    return item


def variable(group: h5py.Group, name: str, values: Any, dims: list[h5py.Dataset], **attrs: Any) -> h5py.Dataset:
    """A variable over dimensions; texts are stored as fixed bytes, numbers as one-element arrays, as netCDF does."""
    data = np.asarray(values)
    item = group.create_dataset(name, data=data, chunks=tuple(min(n, 4) for n in data.shape) if data.ndim > 1 else None)
    for axis, dim in enumerate(dims):
        item.dims[axis].attach_scale(dim)
    describe(item, **attrs)
    return item


def describe(item: Any, **attrs: Any) -> None:
    for key, value in attrs.items():
        if isinstance(value, str):
            item.attrs[key] = np.bytes_(value.encode())
        elif key in ("_FillValue", "missing_value"):
            item.attrs[key] = np.array([value], item.dtype)
        else:
            item.attrs[key] = np.atleast_1d(value)


def grid_mapping(group: h5py.Group, name: str, epsg: int, *, transform: str = "", by: str = "crs_wkt") -> None:
    """A scalar grid mapping variable: WKT, GDAL's attribute, or CF parameters only."""
    item = group.create_dataset(name, data=np.int64(0))
    crs = CRS.from_epsg(epsg)
    if by == "cf":
        for key, value in crs.to_cf().items():
            if key != "crs_wkt":
                describe(item, **{key: value})
    else:
        describe(item, **{by: crs.to_wkt(), "grid_mapping_name": "transverse_mercator"})
    if transform:
        describe(item, GeoTransform=transform)


def write_cf(
    path: Path, *, order: str = "byx", group: str = "", epsg: int | None = 32632, mapping: str = "crs_wkt",
    up: bool = False, packed: bool = True, name: str = "reflectance", seed: int = 0, units: str = "nm", wave: str = "wavelength",
) -> dict[str, np.ndarray]:  # fmt: skip
    """A CF cube of 6 bands, 5 rows, 7 columns of 30 m; returns what was stored, (band, y, x), north first."""
    rng = np.random.default_rng(seed)
    stored = rng.integers(-200, 10000, (6, 5, 7)).astype(np.int16)
    stored[:, 0, 1] = -32768
    stored[2, 3, 3] = 0
    y = 5000000.0 - 30 * np.arange(5) - 15
    x = 500000.0 + 30 * np.arange(7) + 15
    waves = np.linspace(400, 900, 6)
    with h5py.File(path, "w") as file:
        describe(file, Conventions="CF-1.8", instrument="Some Imager", time_coverage_start="2024-05-06T07:08:09Z")
        inner = file.require_group(group) if group else file
        dims = {
            "b": dimension(inner, wave, waves if units == "nm" else waves / 1000),
            "y": dimension(file, "y", y[::-1] if up else y),
            "x": dimension(file, "x", x),
        }
        describe(dims["b"], units=units, standard_name="radiation_wavelength")
        variable(inner, "fwhm", np.full(6, 10.0) / (1 if units == "nm" else 1000), [dims["b"]], units=units)
        values = stored[:, ::-1] if up else stored
        values = values.transpose(["byx".index(k) for k in order])
        attrs: dict[str, Any] = {"_FillValue": -32768, "scale_factor": 1e-4, "add_offset": 0.01} if packed else {}
        if epsg is not None:
            grid_mapping(file, "spatial_ref", epsg, by=mapping, transform="" if up else "500000 30 0 5000000 0 -30")
            attrs["grid_mapping"] = "spatial_ref"
        if not packed:
            values = np.where(values == -32768, np.nan, values * 1e-4 + 0.01).astype(np.float32)
        variable(inner, name, values, [dims[k] for k in order], units="1", **attrs)
    return {"stored": stored, "waves": waves, "values": np.where(stored == -32768, np.nan, stored * 1e-4 + 0.01)}
