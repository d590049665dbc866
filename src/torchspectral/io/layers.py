"""A cube and its layers in one Dataset, each on its own grid."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import xarray as xr

from torchspectral.errors import GridMismatch
from torchspectral.geo.grids import grid_of


def combine(cube: xr.DataArray, whole: xr.DataArray, layers: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Dataset with ``cube`` and each layer.

    Parameters
    ----------
    cube : DataArray, shape (band, y, x)
        A window of `whole`.
    whole : DataArray
        The cube as the product has it, on which the layers are cut to the same ground.
    layers : mapping of str to DataArray, shape (y, x) or (layer, y, x)
        On the cube's grid they share its ``y`` and ``x``; others keep dims of their own, ``y_NAME``, ``x_NAME``.

    Raises
    ------
    GridMismatch
        A layer cannot be cut to the window.
    """
    found = xr.Dataset({"cube": cube})
    for name, layer in layers.items():
        cut = _same_ground(layer, name, cube, whole)
        variable = name if name != "cube" else "cube_layer"
        if cut.shape[-2:] == cube.shape[-2:] and layer.shape[-2:] == whole.shape[-2:]:
            extra = [c for c in cut.coords if c not in ("layer",) and c in found.coords]
            cut = cut.drop_vars(extra).drop_vars([c for c in ("y", "x") if c in cut.coords], errors="ignore")
        else:
            names = {
                key: f"{key}_{name}"
                for key in (*cut.dims, *cut.coords)
                if key in ("y", "x", "spatial_ref", "lon", "lat")
            }
            cut = cut.rename(names)
        if "layer" in cut.dims:
            cut = cut.rename({"layer": f"layer_{name}"})
        cut.name = variable
        found[variable] = cut.drop_vars([c for c in cut.coords if c in found.coords and c not in cut.dims])
    return found


def _same_ground(layer: xr.DataArray, name: str, cube: xr.DataArray, whole: xr.DataArray) -> xr.DataArray:
    """Cut a layer to the part of `whole` that `cube` covers."""
    if cube.shape[-2:] == whole.shape[-2:]:
        return layer
    row, col = (_first(cube, whole, axis) for axis in ("y", "x"))
    if layer.sizes["y"] == 1 < whole.sizes["y"] and layer.sizes["x"] == whole.sizes["x"]:
        # One value a detector column (smile): the rows of a window change nothing.
        return layer.isel(x=slice(col, col + cube.sizes["x"]))
    bounds = []
    for axis, start in (("y", row), ("x", col)):
        zoom = Fraction(layer.sizes[axis], whole.sizes[axis])
        low, high = start * zoom, (start + cube.sizes[axis]) * zoom
        if low.denominator != 1 or high.denominator != 1:
            return _by_ground(layer, name, cube)
        bounds.append(slice(int(low), int(high)))
    return layer.isel(y=bounds[0], x=bounds[1])


def _first(cube: xr.DataArray, whole: xr.DataArray, axis: str) -> int:
    where = np.flatnonzero(whole[axis].values == cube[axis].values[0])
    if where.size != 1:
        raise GridMismatch(f"the window's {axis} coordinates are not those of the product")
    return int(where[0])


def _by_ground(layer: xr.DataArray, name: str, cube: xr.DataArray) -> xr.DataArray:
    from torchspectral.geo import crop

    if grid_of(layer).kind == "none" or grid_of(cube).kind == "none":
        raise GridMismatch(
            f"layer {name!r} of {layer.shape[-2:]} pixels cannot be cut to the window: open it without window or bbox"
        )
    return crop(layer, grid_of(cube).bounds)
