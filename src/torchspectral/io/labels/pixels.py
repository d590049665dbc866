"""Labels put on the pixels of a cube."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import GridMismatch
from torchspectral.geo.grids import Grid, grid_of, to_ground, to_pixels

GROUND = ("y", "x", "spatial_ref", "lon", "lat")
"""Coordinates that say where pixels lie."""


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
        return wrapped(labels.values, labels, like, "laid on the cube pixel by pixel")
    offset = _whole_offset(here, there)
    if offset is None:
        return _nearest(labels, like)
    row, col = offset
    if (row, col) == (0, 0) and here.shape == there.shape:
        return wrapped(labels.values, labels, like, "")
    out = np.zeros(there.shape, dtype=labels.dtype)
    rows, cols = (
        slice(max(0, -shift), min(size, ours - shift))
        for shift, size, ours in ((row, there.height, here.height), (col, there.width, here.width))
    )
    if rows.start >= rows.stop or cols.start >= cols.stop:
        raise GridMismatch("the labels do not overlap the cube: are they of another scene?")
    out[rows, cols] = labels.values[rows.start + row : rows.stop + row, cols.start + col : cols.stop + col]
    return wrapped(out, labels, like, f"labels cut to the cube: row {row}, column {col} of theirs is its corner")


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
    return wrapped(values, labels, like, "labels moved onto the cube's pixels by nearest neighbour")


def wrapped(values: np.ndarray, labels: xr.DataArray, like: xr.DataArray, note: str) -> xr.DataArray:
    """Values on the pixels of `like`, with what the labels tell and a note in their history."""
    ground: dict[Any, Any] = {
        k: c.variable for k, c in like.coords.items() if k in GROUND and set(c.dims) <= {"y", "x"}
    }
    out = xr.DataArray(values, dims=("y", "x"), coords=ground, name=labels.name, attrs=dict(labels.attrs))
    if note:
        out.attrs["history"] = [*labels.attrs.get("history", []), note]
    return out
