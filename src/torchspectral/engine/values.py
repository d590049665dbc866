"""From scratch arrays and states to the values that a result holds, with coordinates, names and history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from torchspectral.cube import make_cube, make_layers, make_spectra
from torchspectral.engine.method import Output, SceneInfo, State
from torchspectral.engine.outputs import Target, integer_nodata
from torchspectral.engine.roles import Inputs
from torchspectral.geo import grid_of, place, place_coarser

KEPT = ("source", "sensor", "platform", "level", "product", "acquired", "sun_zenith", "sun_azimuth", "view_zenith")
"""Attributes of the lead that layers carry on."""


class _Frames(BackendArray):
    """A (time * band, y, x) variable as (time, band, y, x)."""

    def __init__(self, flat: xr.Variable, frames: int) -> None:
        self.flat = flat
        self.shape = (frames, flat.shape[0] // frames, *flat.shape[1:])
        self.dtype = flat.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        time, band, rows, cols = key
        frames, bands = (np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, (time, band), strict=False))
        index = (frames[:, None] * self.shape[1] + bands[None, :]).ravel()
        block = np.asarray(self.flat[index][..., rows, cols].values)
        shaped = block.reshape(frames.size, bands.size, *block.shape[1:])
        drop = tuple(0 if np.ndim(k) == 0 and not isinstance(k, slice) else slice(None) for k in (time, band))
        return shaped[drop]


class _Stack(BackendArray):
    """Frames in files of their own as one (time, band, y, x) array."""

    def __init__(self, frames: list[xr.Variable]) -> None:
        self.frames = frames
        self.shape = (len(frames), *frames[0].shape)
        self.dtype = frames[0].dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        time, *rest = key
        if np.ndim(time) == 0 and not isinstance(time, slice):
            return np.asarray(self.frames[int(time)][tuple(rest)].values)
        index = np.arange(len(self.frames))[time]
        return np.stack([np.asarray(self.frames[n][tuple(rest)].values) for n in index])


def stacked(frames: list[xr.DataArray], like: xr.DataArray) -> xr.DataArray:
    """A lazy video of frames that were opened one by one, with the coordinates of `like`."""
    variable = xr.Variable(like.dims, indexing.LazilyIndexedArray(_Stack([frame.variable for frame in frames])))
    out = xr.DataArray(variable, coords={n: c.variable for n, c in like.coords.items()}, name=like.name)
    out.attrs = dict(like.attrs)
    return out


def unstacked(flat: xr.Variable, frames: int) -> xr.Variable:
    """The frames of a video from an array in which they lie one after another."""
    if flat._in_memory:
        values = flat.values
        return xr.Variable(("time", "band", "y", "x"), values.reshape(frames, -1, *values.shape[1:]))
    return xr.Variable(("time", "band", "y", "x"), indexing.LazilyIndexedArray(_Frames(flat, frames)))


def raster_value(
    target: Target, variable: xr.Variable, inputs: Inputs, state: State, history: str, scaled: bool
) -> xr.DataArray:
    """A cube or layers on the ground grid of the output.

    Parameters
    ----------
    variable : dims (band, y, x) or (time, band, y, x)
    scaled : bool
        Whether values are still in the working scale.
    """
    lead, output = inputs.lead, target.output
    ground = _ground(target, inputs)
    lines = [*lead.attrs.get("history", []), history]
    if output.own_bands:
        value = _cube_of_own_bands(output, variable, state)
        value.attrs |= {k: v for k, v in lead.attrs.items() if k in KEPT}
        value = value.assign_coords({n: c.variable for n, c in ground.coords.items()})
    elif output.kind == "cube":
        dims = variable.dims
        coords: dict[str, Any] = {}
        if variable.sizes["band"] == lead.sizes["band"]:
            coords = {str(n): c.variable for n, c in lead.coords.items() if c.dims == ("band",)}
        if "time" in dims and "time" in lead.coords:
            coords["time"] = lead.coords["time"].variable
        coords |= {str(n): c.variable for n, c in ground.coords.items()}
        value = xr.DataArray(variable, dims=dims, coords=coords, name=output.name)
        value.attrs = {k: v for k, v in lead.attrs.items() if k not in ("packing", "nodata", "glt")}
        if scaled:
            value.attrs["units"] = "working scale of the method"
    else:
        names = layer_names(output, state, target.bands)
        if variable.ndim == 4:
            value = xr.DataArray(
                variable.data, dims=("time", "layer", "y", "x"), coords={"layer": names}, name=output.name
            ).assign_coords({n: c.variable for n, c in ground.coords.items()})
        else:
            value = make_layers(xr.Variable(("layer", "y", "x"), variable._data), names, name=output.name)
            value = value.assign_coords({n: c.variable for n, c in ground.coords.items()})
        value.attrs = {k: v for k, v in lead.attrs.items() if k in KEPT}
    if "glt" in ground.attrs:
        value.attrs["glt"] = ground.attrs["glt"]
    if target.dtype.kind in "iu":
        value.attrs["nodata"] = integer_nodata(target.dtype)
    value.attrs["history"] = lines
    return value


def _cube_of_own_bands(output: Output, variable: xr.Variable, state: State) -> xr.DataArray:
    """A cube at the wavelengths that the state tells, of quantity "dn" until `finish` says better."""
    known = np.asarray(state[str(output.names)[1:]], dtype=np.float64)
    return make_cube(xr.Variable(("band", "y", "x"), variable._data), wavelength=known, name=output.name, quantity="dn")


def _ground(target: Target, inputs: Inputs) -> xr.DataArray:
    """An array whose coordinates are the output's grid; its values are of no matter."""
    output = target.output
    like = inputs.cubes[output.grid] if output.grid else inputs.lead
    ground = {n: c.variable for n, c in like.coords.items() if set(c.dims) <= {"y", "x"} and n != "band"}
    rows, cols = like.sizes["y"], like.sizes["x"]
    zoom, step = (1, 1) if output.grid else (output.zoom, output.step)
    if step > 1:
        return place_coarser(xr.DataArray(_nothing(-(-rows // step), -(-cols // step)), dims=("y", "x")), like, step)
    if zoom == 1:
        empty = xr.DataArray(_nothing(rows, cols), dims=("y", "x"), coords=ground)
        if "glt" in like.attrs:
            empty.attrs["glt"] = like.attrs["glt"]
        return empty
    grid = grid_of(like)
    empty = xr.DataArray(_nothing(rows * zoom, cols * zoom), dims=("y", "x"))
    if grid.kind in ("map", "rotated"):
        return place(empty, grid.scaled(zoom).transform, grid.crs)
    empty = place(empty, None)
    if grid.kind == "swath":
        from torchspectral.geo import place_swath

        lon, lat = (_zoomed(np.asarray(like[name].values, dtype=np.float64), zoom) for name in ("lon", "lat"))
        return place_swath(empty, lon, lat)
    return empty


def _nothing(rows: int, cols: int) -> np.ndarray:
    return np.broadcast_to(np.zeros((), dtype=np.uint8), (rows, cols))


def _zoomed(values: np.ndarray, zoom: int) -> np.ndarray:
    """Coordinates of pixel centres on a finer grid: linear between centres, continued at the edges."""
    for axis in (0, 1):
        n = values.shape[axis]
        if n == 1:
            values = np.repeat(values, zoom, axis)
            continue
        at = (np.arange(n * zoom) + 0.5) / zoom - 0.5
        low = np.clip(np.floor(at).astype(int), 0, n - 2)
        share = (at - low).reshape(-1, 1) if axis == 0 else (at - low).reshape(1, -1)
        values = np.take(values, low, axis) * (1 - share) + np.take(values, low + 1, axis) * share
    return values


def layer_names(output: Output, state: State, count: int) -> list[str]:
    """Names of layers or spectra: declared, from the state, or numbers."""
    names = output.names
    if isinstance(names, str):
        names = tuple(str(n) for n in state[names[1:]]) if names.startswith("=") else (names,)
    if len(names) == count:
        return list(names)
    return [f"{output.name} {n + 1}" if count > 1 else output.name for n in range(count)]


def spectra_value(output: Output, values: Any, state: State, info: SceneInfo, attrs: Mapping[str, Any]) -> xr.DataArray:
    """Spectra such as endmembers, (spectrum, band)."""
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.ndim == 1:
        array = array[None]
    matches = array.shape[1] == info.bands
    return make_spectra(
        array.astype(output.dtype),
        layer_names(output, state, array.shape[0]),
        wavelength=info.wavelength if matches else None,
        fwhm=info.fwhm if matches else None,
        attrs=attrs,
    )


def table_value(values: Any) -> Any:
    """A DataFrame from a mapping of columns; anything else is handed on."""
    import pandas as pd  # type: ignore[import-untyped]

    if isinstance(values, Mapping):
        return pd.DataFrame({n: v.tolist() if hasattr(v, "tolist") else v for n, v in values.items()})
    return values
