"""Labels from class rasters: whole numbers with names and colours, on the pixels of a cube."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube, BadInput, GridMismatch, MissingMetadata, UnknownName, closest
from torchspectral.geo.grids import Grid, grid_of, to_ground, to_pixels

LAYER_NAMES = ("labels", "gt", "groundtruth", "ground_truth", "classes", "map", "mask_train")
"""Layers that are taken as labels where a product has several, the first found."""

_KEPT = ("class_names", "class_colors", "source", "licence")


def read_labels(path: str | Path, *, like: xr.DataArray | None = None, layer: str | None = None) -> xr.DataArray:
    """Read a class raster: GeoTIFF, ENVI classification, Zarr or a MATLAB ground truth.

    Parameters
    ----------
    path : path
    like : DataArray, optional
        Cube whose pixels the labels shall lie on. In one CRS and a whole number of pixels apart they are cut and
        filled up with 0, exactly; else each pixel takes the nearest label, which the history says. Without
        georeference on either side the sizes must be equal.
    layer : str, optional
        Which layer of a product that has several.

    Returns
    -------
    DataArray, shape (y, x), uint8 or uint16
        0 is unlabelled (nodata becomes 0); ``attrs["class_names"]`` (entry i belongs to value i) and
        ``attrs["class_colors"]`` where the file has them.

    Raises
    ------
    BadInput
        Fractions, negative or too large numbers, several bands.
    GridMismatch
        The labels do not lie on the cube.
    UnknownName, ProductNotFound, UnknownProduct, BrokenProduct
    """
    file = Path(path)
    labels = _whole_numbers(_plane(file, layer), file)
    return labels if like is None else labels_on(labels, like)


def _plane(file: Path, layer: str | None) -> xr.DataArray:
    from torchspectral.io.opening import find_reader, list_layers, open_product

    known = list_layers(file)
    chosen = layer or next((n for want in LAYER_NAMES for n in known if n.lower() == want), None)
    if layer is not None and layer not in known:
        raise UnknownName(f"{file.name} has no layer {layer!r}: {closest(layer, known)}")
    if chosen is not None:
        reader, found = find_reader(file)
        plane = reader.open_layer(found, chosen)
        return plane.isel(layer=0, drop=True) if "layer" in plane.dims else plane
    try:
        opened = open_product(file, raw=True)
    except (BadCube, MissingMetadata) as error:
        raise BadInput(f"{file.name} holds no class raster: {error}") from None
    if not isinstance(opened, xr.DataArray) or opened.ndim != 3 or opened.shape[0] != 1:
        shape = getattr(opened, "shape", ())
        raise BadInput(f"{file.name} holds an array of shape {shape}, expected one band of class numbers")
    return opened.isel({opened.dims[0]: 0}, drop=True)


def _whole_numbers(plane: xr.DataArray, file: Path) -> xr.DataArray:
    values = np.asarray(plane.values)
    nodata = (plane.attrs.get("packing") or {}).get("nodata", plane.attrs.get("nodata"))
    if values.dtype.kind == "f":
        values = np.where(np.isfinite(values), values, 0)
    if nodata is not None:
        values = np.where(values == nodata, 0, values)
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise BadInput(f"{file.name} holds fractions, expected whole class numbers: is it a class raster?")
    least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if least < 0 or most > 65535:
        raise BadInput(f"{file.name} holds numbers from {least} to {most}, expected class numbers from 0 to 65535")
    out = xr.DataArray(
        values.astype(np.uint8 if most < 256 else np.uint16),
        dims=("y", "x"),
        coords={k: c.variable for k, c in plane.coords.items() if set(c.dims) <= {"y", "x"} and k in _GROUND},
        name="labels",
        attrs={k: v for k, v in plane.attrs.items() if k in _KEPT},
    )
    out.attrs.setdefault("source", [str(file)])
    out.attrs["history"] = [f"labels of {file.name}"]
    return out


_GROUND = ("y", "x", "spatial_ref", "lon", "lat")


def labels_on(labels: xr.DataArray, like: xr.DataArray) -> xr.DataArray:
    """Put labels on the pixels of a cube.

    Parameters
    ----------
    labels : DataArray of integers, shape (y, x)
    like : DataArray, shape (band, y, x)

    Returns
    -------
    DataArray, shape (y, x) of `like`
        0 where the labels do not reach.

    Raises
    ------
    GridMismatch
        They do not overlap, or have other sizes and no georeference.
    """
    here, there = grid_of(labels), grid_of(like)
    placed = ("map", "rotated")
    if here.kind not in placed or there.kind not in placed:
        if labels.shape != like.shape[-2:]:
            raise GridMismatch(
                f"the labels have {labels.shape[0]} x {labels.shape[1]} pixels, expected {like.shape[-2]} x "
                f"{like.shape[-1]} as the cube: one of them has no georeference to bring them together"
            )
        return _wrapped(labels.values, labels, like, "laid on the cube pixel by pixel")
    offset = _whole_offset(here, there)
    if offset is None:
        return _nearest(labels, like)
    row, col = offset
    if (row, col) == (0, 0) and here.shape == there.shape:
        return _wrapped(labels.values, labels, like, "")
    out = np.zeros(there.shape, dtype=labels.dtype)
    rows, cols = (
        slice(max(0, -shift), min(size, ours - shift))
        for shift, size, ours in ((row, there.height, here.height), (col, there.width, here.width))
    )
    if rows.start >= rows.stop or cols.start >= cols.stop:
        raise GridMismatch("the labels do not overlap the cube: are they of another scene?")
    out[rows, cols] = labels.values[rows.start + row : rows.stop + row, cols.start + col : cols.stop + col]
    return _wrapped(out, labels, like, f"labels cut to the cube: row {row}, column {col} of theirs is its corner")


def _whole_offset(here: Grid, there: Grid) -> tuple[int, int] | None:
    """Row and column of the labels at which the cube begins, where both share CRS and pixels."""
    if here.crs != there.crs:
        return None
    corners = ((0, 0), (there.width, 0), (0, there.height))
    seen = [to_pixels(here.transform, *to_ground(there.transform, *c)) for c in corners]
    col, row = round(float(seen[0][0])), round(float(seen[0][1]))
    off = [abs(p[0] - c[0] - col) + abs(p[1] - c[1] - row) for p, c in zip(seen, corners, strict=True)]
    if max(off) > 1e-3:
        return None
    return row, col


def _nearest(labels: xr.DataArray, like: xr.DataArray) -> xr.DataArray:
    from torchspectral.geo import align

    stacked = labels.expand_dims(layer=["labels"])
    moved = align(stacked, like, resampling="nearest", nodata=0).isel(layer=0, drop=True)
    values = np.asarray(moved.values)
    if not values.any() and labels.values.any():
        raise GridMismatch("no label lies on the cube: are they of another scene?")
    return _wrapped(values, labels, like, "labels moved onto the cube's pixels by nearest neighbour")


def _wrapped(values: np.ndarray, labels: xr.DataArray, like: xr.DataArray, note: str) -> xr.DataArray:
    ground: dict[Any, Any] = {
        k: c.variable for k, c in like.coords.items() if k in _GROUND and set(c.dims) <= {"y", "x"}
    }
    out = xr.DataArray(values, dims=("y", "x"), coords=ground, name=labels.name, attrs=dict(labels.attrs))
    if note:
        out.attrs["history"] = [*labels.attrs.get("history", []), note]
    return out
