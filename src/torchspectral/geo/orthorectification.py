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
from torchspectral.geo.lazy import LazyArray, missing_value, read_window, with_data
from torchspectral.geo.swaths import SwathOnMap

BLOCK_BYTES = 64 * 2**20
"""Most bytes of sensor pixels that are read at a time."""

METHODS = ("nearest", "bilinear")
# Blocks of this side are small enough that little beside what is looked at lies in their sensor window.
_SIDE = 128
_WASTE = 3


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
        seen = self._seen(rows)
        if not seen.any():
            return
        window = self._window(rows[seen], cols[seen])
        pixels = (window[0].stop - window[0].start) * (window[1].stop - window[1].start)
        longer = int(rows.shape[1] > rows.shape[0])
        # A swath lies slantwise: of the window under a long block most is not looked at.
        wasteful = rows.shape[longer] > _SIDE and pixels > _WASTE * np.count_nonzero(seen)
        too_large = rows.shape[longer] > 1 and bands.size * pixels * self.dtype.itemsize > BLOCK_BYTES
        if wasteful or too_large:
            half = rows.shape[longer] // 2
            for part in (slice(None, half), slice(half, None)):
                cut = (slice(None), part) if longer else (part, slice(None))
                self._fill(out[(slice(None), *cut)], bands, rows[cut], cols[cut])
            return
        values = read_window(self.source, bands, *window)
        plan = self._plan(rows[seen], cols[seen], window)
        for band, plane in enumerate(values):
            out[band][seen] = self._looked_up(plane.reshape(-1), plan)

    def _seen(self, rows: np.ndarray) -> np.ndarray:
        return rows >= 0

    def _window(self, rows: np.ndarray, cols: np.ndarray) -> tuple[slice, slice]:
        """Sensor pixels that are needed."""
        return slice(int(rows.min()), int(rows.max()) + 1), slice(int(cols.min()), int(cols.max()) + 1)

    def _plan(self, rows: np.ndarray, cols: np.ndarray, window: tuple[slice, slice]) -> Any:
        """What `_looked_up` needs for the places, the same for every band: positions in the flattened window."""
        width = window[1].stop - window[1].start
        return (rows.astype(np.int64) - window[0].start) * width + (cols - window[1].start)

    def _looked_up(self, plane: np.ndarray, plan: Any) -> np.ndarray:
        """Values at the places, of the flattened window of one band."""
        return plane.take(plan)


class BilinearArray(LookupArray):
    """Bilinear mix of the four sensor pixels around fractional places (NaN where unseen).

    A place whose nearest sensor pixel is nodata is nodata; elsewhere neighbours that are nodata count for nothing and
    the weights of the others are stretched to one.
    """

    def __init__(self, source: xr.Variable, rows: np.ndarray, cols: np.ndarray) -> None:
        super().__init__(source, rows, cols, float("nan"))

    def _seen(self, rows: np.ndarray) -> np.ndarray:
        return np.isfinite(rows)

    def _window(self, rows: np.ndarray, cols: np.ndarray) -> tuple[slice, slice]:
        limits = self.source.shape[-2:]
        first, last = zip(
            *(
                (max(0, int(np.floor(places.min()))), min(limit, int(np.floor(places.max())) + 2))
                for places, limit in ((rows, limits[0]), (cols, limits[1]))
            ),
            strict=True,
        )
        return slice(first[0], last[0]), slice(first[1], last[1])

    def _plan(self, rows: np.ndarray, cols: np.ndarray, window: tuple[slice, slice]) -> Any:
        height, width = (part.stop - part.start for part in window)
        r = np.clip(rows.astype(np.float64), 0, self.source.shape[-2] - 1) - window[0].start
        c = np.clip(cols.astype(np.float64), 0, self.source.shape[-1] - 1) - window[1].start
        low_r, low_c = np.floor(r).astype(np.int64), np.floor(c).astype(np.int64)
        nearest = np.floor(r + 0.5).astype(np.int64) * width + np.floor(c + 0.5).astype(np.int64)
        corners = []
        for dr in (0, 1):
            for dc in (0, 1):
                share = np.abs(1 - dr - (r - low_r)) * np.abs(1 - dc - (c - low_c))
                at = np.minimum(low_r + dr, height - 1) * width + np.minimum(low_c + dc, width - 1)
                corners.append((at, share))
        return nearest, corners

    def _looked_up(self, plane: np.ndarray, plan: Any) -> np.ndarray:
        nearest, corners = plan
        known = np.isfinite(plane)
        if known.all():
            return np.asarray(sum(plane.take(at) * share for at, share in corners))
        clean = np.where(known, plane, 0)
        total = sum(clean.take(at) * share for at, share in corners)
        weight = sum(known.take(at) * share for at, share in corners)
        # The nearest pixel has at least a quarter of the weight.
        return np.where(known.take(nearest), total / np.maximum(weight, 0.2), plane.take(nearest))


def orthorectify(
    cube: xr.DataArray,
    resolution: float | None = None,
    method: str = "nearest",
    *,
    crs: Any = None,
    grid: Grid | None = None,
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
        only), on the same map pixels as "nearest". A map pixel whose nearest sensor pixel is nodata is nodata, and
        nodata beside it has no weight.
    crs : optional
        CRS of the output; by default that of the GLT, else the one of `suitable_crs`.
    grid : Grid, optional
        The map grid itself, then without `resolution` and `crs`.

    Returns
    -------
    DataArray
        On a map grid; nodata (NaN, or the integer nodata) where the sensor did not look.

    Notes
    -----
    The table is held in memory, 8 bytes a map pixel, and six times 8 bytes a sensor pixel while it is built from
    ``lon`` and ``lat``; values are read in windows of at most `BLOCK_BYTES`.

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
    if method == "bilinear" and cube.dtype.kind != "f":
        raise BadSettings(f"got bilinear for values of type {cube.dtype}, expected float values: use nearest")
    if grid is not None:
        if resolution is not None or crs is not None:
            raise GridMismatch("got a grid and a resolution or CRS, expected one or the other")
        if grid.kind not in ("map", "rotated") or grid.crs is None:
            raise GridMismatch(f"got a {grid.kind} grid without map coordinates, expected a map grid with a CRS")
    glt = cube.attrs.get("glt")
    swath = None
    how = "GLT"
    if glt is None:
        swath = SwathOnMap(cube["lon"].values, cube["lat"].values, crs if grid is None else grid.crs)
        there = grid or swath.grid(resolution)
        rows, cols = swath.nearest(there)
        how = "nearest neighbour on lon/lat"
    else:
        if grid is not None or resolution is not None or parse_crs(crs) not in (None, glt.crs):
            glt = glt.to_grid(grid or _regridded(glt.grid, resolution, crs))
            how = "GLT, moved by nearest neighbour"
        rows, cols, there = _local(glt, cube, whole=grid is not None)
    if method == "bilinear":
        swath = swath or SwathOnMap(cube["lon"].values, cube["lat"].values, there.crs)
        array: LookupArray = BilinearArray(cube.variable, *swath.positions(there, (rows, cols)))
        how = "bilinear on lon/lat"
    else:
        array = LookupArray(cube.variable, rows, cols, fill)
    out = place(with_data(cube, array), there.transform, there.crs)
    out.encoding["preferred_chunks"] = {"y": min(_SIDE, there.height), "x": min(_SIDE, there.width)}
    name = there.crs.name if there.crs is not None else "map"
    return with_history(out, f"orthorectified by {how} to {there.height} x {there.width} pixels of {name}")


def to_map(
    cube: xr.DataArray, *, crs: Any = None, resolution: float | None = None, resampling: str = "nearest"
) -> xr.DataArray:
    """Put a cube or layers onto a map, wherever they lie now; lazy.

    Swaths are orthorectified. Maps and rotated grids are resampled where a CRS or a pixel size is asked for, and are
    returned as they are where not.

    Parameters
    ----------
    cube : DataArray, shape (band or layer, y, x)
    crs : optional
        CRS of the output; by default the cube's own, of swaths that of the GLT or one that fits the scene.
    resolution : float, optional
        Pixel size in units of the output CRS.
    resampling : str
        "nearest" or "bilinear"; maps also as in `geo.reproject`.

    Raises
    ------
    GridMismatch, BadSettings
        As `orthorectify` and `geo.reproject`.
    """
    if grid_of(cube).kind == "swath":
        return orthorectify(cube, resolution, resampling, crs=crs)
    if crs is None and resolution is None:
        return cube
    from torchspectral.geo.warping import reproject

    return reproject(cube, crs, resolution=resolution, resampling=resampling)


def swath_grid(cube: xr.DataArray, crs: Any = None) -> Grid:
    """The map grid that a swath would be put on in `crs`: that of its GLT where the CRS is the same."""
    glt = cube.attrs.get("glt")
    if glt is None:
        return SwathOnMap(cube["lon"].values, cube["lat"].values, crs).grid()
    return glt.grid if parse_crs(crs) in (None, glt.crs) else _regridded(glt.grid, None, crs)


def _regridded(grid: Grid, resolution: float | None, crs: Any) -> Grid:
    """The ground of `grid` with another pixel size or CRS."""
    target = parse_crs(crs) or grid.crs
    transform, width, height = calculate_default_transform(
        grid.crs, target, grid.width, grid.height, *grid.bounds, resolution=resolution
    )
    return Grid("map", int(width), int(height), Affine(*transform[:6]), target)


def _local(glt: GLT, cube: xr.DataArray, whole: bool = False) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Rows and columns of the table counted in this cube, which may be a window of the scene; -1 where empty.

    The table is cut to the pixels that see the cube unless `whole`.
    """
    valid = glt.valid.copy()
    places = []
    for name, table in (("y", glt.y), ("x", glt.x)):
        counted = cube[name].values
        step = float(counted[1] - counted[0]) if counted.size > 1 else 1.0
        place = np.rint((table - 0.5 - counted[0]) / step).astype(np.int32)
        valid &= (place >= 0) & (place < counted.size)
        places.append(place)
    if not valid.any() and not whole:
        raise GridMismatch(
            f"the GLT sees no pixel of this cube of {cube.shape[-2:]} pixels: it belongs to another scene"
        )
    grid = glt.grid
    window = slice(None), slice(None)
    if not whole and not np.array_equal(valid, glt.valid):
        rows, cols = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
        window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)
        grid = grid.window(
            window[0].start, window[1].start, window[0].stop - window[0].start, window[1].stop - window[1].start
        )
    row, col = (np.where(valid, place, -1)[window].astype(np.int32) for place in places)
    return row, col, grid
