"""Orthorectification: swath cubes and layers onto a map grid, lazily."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from rasterio.warp import calculate_default_transform

from torchspectral.cube import with_history
from torchspectral.errors import BadSettings, GridMismatch
from torchspectral.geo.glt import GLT
from torchspectral.geo.grids import Grid, grid_of, parse_crs, place
from torchspectral.geo.lazy import BLOCK_BYTES, LazyArray, missing_value, read_window, with_data
from torchspectral.geo.swaths import SwathOnMap

METHODS = ("nearest", "bilinear")


class LookupArray(LazyArray):
    """Values of sensor pixels at the places of a lookup table; reads only the sensor window that a block needs.

    Parameters
    ----------
    source : xarray.Variable, dims (band or layer, y, x)
    rows, cols : ndarray of int32, shape (height, width)
        0-based; negative where empty.
    fill : number
        Value of empty places.
    """

    def __init__(self, source: xr.Variable, rows: np.ndarray, cols: np.ndarray, fill: float | int) -> None:
        super().__init__((source.shape[0], *rows.shape), source.dtype)
        self.source, self.rows, self.cols, self.fill = source, rows, cols, fill

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Look one block up, in halves where its sensor window would not fit."""
        bands, ys, xs = indices
        out = np.full((bands.size, ys.size, xs.size), self.fill, dtype=self.dtype)
        self._fill(out, bands, self.rows[np.ix_(ys, xs)], self.cols[np.ix_(ys, xs)])
        return out

    def _fill(self, out: np.ndarray, bands: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> None:
        seen = rows >= 0
        if not seen.any():
            return
        r, c = rows[seen], cols[seen]
        window = slice(int(r.min()), int(r.max()) + 1), slice(int(c.min()), int(c.max()) + 1)
        size = bands.size * (window[0].stop - window[0].start) * (window[1].stop - window[1].start)
        longer = int(rows.shape[1] > rows.shape[0])
        if size * self.dtype.itemsize > BLOCK_BYTES and rows.shape[longer] > 1:
            half = rows.shape[longer] // 2
            for part in (slice(None, half), slice(half, None)):
                cut = (slice(None), part) if longer else (part, slice(None))
                self._fill(out[(slice(None), *cut)], bands, rows[cut], cols[cut])
            return
        values = read_window(self.source, bands, *window)
        out[:, seen] = values[:, r - window[0].start, c - window[1].start]


class BilinearArray(LookupArray):
    """Bilinear mix of the four sensor pixels around fractional places; missing neighbours lend their weight."""

    def __init__(self, source: xr.Variable, rows: np.ndarray, cols: np.ndarray) -> None:
        super().__init__(source, rows, cols, float("nan"))

    def _fill(self, out: np.ndarray, bands: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> None:
        seen = np.isfinite(rows)
        if not seen.any():
            return
        height, width = self.source.shape[-2:]
        r = np.clip(rows[seen].astype(np.float64), 0, height - 1)
        c = np.clip(cols[seen].astype(np.float64), 0, width - 1)
        r0, c0 = np.minimum(r.astype(int), max(height - 2, 0)), np.minimum(c.astype(int), max(width - 2, 0))
        window = (
            slice(int(r0.min()), min(int(r0.max()) + 2, height)),
            slice(int(c0.min()), min(int(c0.max()) + 2, width)),
        )
        size = bands.size * (window[0].stop - window[0].start) * (window[1].stop - window[1].start)
        longer = int(rows.shape[1] > rows.shape[0])
        if size * self.dtype.itemsize > BLOCK_BYTES and rows.shape[longer] > 1:
            half = rows.shape[longer] // 2
            for part in (slice(None, half), slice(half, None)):
                cut = (slice(None), part) if longer else (part, slice(None))
                self._fill(out[(slice(None), *cut)], bands, rows[cut], cols[cut])
            return
        values = read_window(self.source, bands, *window)
        total = np.zeros((bands.size, r.size))
        weight = np.zeros((bands.size, r.size))
        for dr in (0, 1):
            for dc in (0, 1):
                w = np.abs(1 - dr - (r - r0)) * np.abs(1 - dc - (c - c0))
                corner = values[
                    :,
                    np.minimum(r0 + dr, height - 1) - window[0].start,
                    np.minimum(c0 + dc, width - 1) - window[1].start,
                ]
                known = np.isfinite(corner)
                total += np.where(known, corner, 0) * w
                weight += known * w
        with np.errstate(invalid="ignore", divide="ignore"):
            out[:, seen] = np.where(weight >= 0.5 - 1e-9, total / weight, np.nan)


def orthorectify(
    cube: xr.DataArray, resolution: float | None = None, method: str = "nearest", *, crs: Any = None
) -> xr.DataArray:
    """Put a swath cube, or layers on a swath, onto a map grid.

    With a product's GLT and neither `resolution` nor `crs` the lookup is exact: every value is a sensor value. With
    them the GLT itself is moved by nearest neighbour and values are looked up once. Without GLT the table is built
    from ``lon`` and ``lat``, in the UTM zone of the scene unless `crs` is given. The result is lazy: indexing a window
    reads the sensor window that is seen there.

    Parameters
    ----------
    cube : DataArray, shape (band or layer, y, x)
        On a swath grid, whole or a window of the scene; lazy or in memory.
    resolution : float, optional
        Pixel size in units of the output CRS.
    method : {"nearest", "bilinear"}
        "bilinear" inverts ``lon`` and ``lat`` and mixes the four sensor pixels around each map pixel (float cubes
        only).
    crs : optional
        CRS of the output; by default that of the GLT, else UTM.

    Returns
    -------
    DataArray
        On a map grid; nodata (NaN, or the integer nodata) where the sensor did not look.

    Raises
    ------
    GridMismatch
        The cube is not on a swath grid, or the GLT does not touch it.
    BadSettings
        Unknown method, or bilinear mixing of integers.
    """
    if method not in METHODS:
        raise BadSettings(f"got method {method!r}, expected one of {', '.join(METHODS)}")
    kind = grid_of(cube).kind
    if kind != "swath":
        raise GridMismatch(f"got a cube on a {kind} grid, expected a swath: only swaths are orthorectified")
    if cube.ndim != 3:
        raise GridMismatch(f"got a cube of dims {cube.dims}, expected (band, y, x): take one time step")
    if resolution is not None and not (np.isfinite(resolution) and resolution > 0):
        raise GridMismatch(f"got resolution {resolution}, expected a positive number in units of the map")
    fill = missing_value(cube)
    if fill is None:
        raise BadSettings("integer values without nodata cannot say 'not seen': set attrs['nodata'] or use float32")
    glt = cube.attrs.get("glt")
    how = "GLT"
    if glt is not None and (resolution is not None or parse_crs(crs) not in (None, glt.crs)):
        glt = glt.to_grid(_regridded(glt.grid, resolution, crs))
        how = "GLT, moved by nearest neighbour"
    if method == "bilinear":
        if cube.dtype.kind != "f":
            raise BadSettings(f"got bilinear for values of type {cube.dtype}, expected float values: use nearest")
        swath = SwathOnMap(cube["lon"].values, cube["lat"].values, glt.crs if glt is not None else crs)
        grid = glt.grid if glt is not None else swath.grid(resolution)
        array: LookupArray = BilinearArray(cube.variable, *swath.positions(grid))
        how = "bilinear on lon/lat"
    elif glt is not None:
        rows, cols, grid = _local(glt, cube)
        array = LookupArray(cube.variable, rows, cols, fill)
    else:
        swath = SwathOnMap(cube["lon"].values, cube["lat"].values, crs)
        grid = swath.grid(resolution)
        array = LookupArray(cube.variable, *swath.nearest(grid), fill)
        how = "nearest neighbour on lon/lat"
    out = place(with_data(cube, array), grid.transform, grid.crs)
    name = grid.crs.name if grid.crs is not None else "map"
    return with_history(out, f"orthorectified by {how} to {grid.height} x {grid.width} pixels of {name}")


def _regridded(grid: Grid, resolution: float | None, crs: Any) -> Grid:
    """The ground of `grid` with another pixel size or CRS."""
    target = parse_crs(crs) or grid.crs
    transform, width, height = calculate_default_transform(
        grid.crs, target, grid.width, grid.height, *grid.bounds, resolution=resolution
    )
    return Grid("map", int(width), int(height), Affine(*transform[:6]), target)


def _local(glt: GLT, cube: xr.DataArray) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Rows and columns of the table counted in this cube, which may be a window of the scene; -1 where empty."""
    valid = glt.valid.copy()
    places = []
    for name, table in (("y", glt.y), ("x", glt.x)):
        counted = cube[name].values
        step = float(counted[1] - counted[0]) if counted.size > 1 else 1.0
        place = np.rint((table - 0.5 - counted[0]) / step).astype(np.int32)
        valid &= (place >= 0) & (place < counted.size)
        places.append(place)
    if not valid.any():
        raise GridMismatch(
            f"the GLT sees no pixel of this cube of {cube.shape[-2:]} pixels: it belongs to another scene"
        )
    grid = glt.grid
    window = slice(None), slice(None)
    if not np.array_equal(valid, glt.valid):
        rows, cols = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
        window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)
        grid = grid.window(
            window[0].start, window[1].start, window[0].stop - window[0].start, window[1].stop - window[1].start
        )
    row, col = (np.where(valid, place, -1)[window].astype(np.int32) for place in places)
    return row, col, grid
