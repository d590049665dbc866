"""Resampling cubes and layers onto another map grid, lazily and block by block through GDAL's warper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from pyproj import CRS
from rasterio.crs import CRS as GdalCRS
from rasterio.enums import Resampling
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import calculate_default_transform
from rasterio.warp import reproject as gdal_reproject
from rasterio.warp import transform as transform_points

from torchspectral.cube import with_history
from torchspectral.errors import BadSettings, GridMismatch, closest
from torchspectral.geo.grids import Grid, grid_of, parse_crs, place, to_ground, to_pixels
from torchspectral.geo.lazy import BLOCK_BYTES, LazyArray, missing_value, read_window, with_data

# Half width of the kernel in source pixels where nothing is shrunk.
RADIUS = {
    "nearest": 1, "bilinear": 1, "cubic": 2, "cubic_spline": 2, "lanczos": 3, "average": 1, "mode": 1,
    "min": 1, "max": 1, "med": 1, "q1": 1, "q3": 1, "sum": 1, "rms": 1,
}  # fmt: skip
_MIXING = {"bilinear", "cubic", "cubic_spline", "lanczos", "average", "rms", "sum", "med", "q1", "q3"}
# Blocks lie at multiples of this in the target, whatever window is asked for: GDAL interpolates its transformer between
# the ends of a block's rows (rasterio hands no tolerance on), so only equal blocks give equal values.
_SIDE = 128
# Both images in local coordinates without CRS: any projected CRS makes the warp the plain affine map it should be.
_LOCAL = CRS.from_epsg(32631)


class WarpedArray(LazyArray):
    """A raster on another map grid; each block reads and warps only the source window beneath it."""

    def __init__(self, source: xr.Variable, here: Grid, there: Grid, resampling: str, fill: float | int) -> None:
        super().__init__((source.shape[0], *there.shape), source.dtype)
        self.source, self.resampling, self.fill = source, resampling, fill
        self.here, self.there = here, there
        self._wkt = tuple((grid.crs or _LOCAL).to_wkt() for grid in (here, there))
        self.scale = self._scale()

    def _to_source(self, col: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = to_ground(self.there.transform, np.asarray(col, float), np.asarray(row, float))
        if self._wkt[0] != self._wkt[1]:
            shape = x.shape
            x, y = (np.asarray(v).reshape(shape) for v in transform_points(*self._crs()[::-1], x.ravel(), y.ravel()))
        return to_pixels(self.here.transform, x, y)

    def _crs(self) -> tuple[GdalCRS, GdalCRS]:
        here, there = (GdalCRS.from_wkt(wkt) for wkt in self._wkt)
        return here, there

    def _scale(self) -> tuple[float, float]:
        """Target pixels per source pixel along x and y at the middle of the target."""
        col, row = self.there.width / 2, self.there.height / 2
        c, r = self._to_source(np.array([col - 0.5, col + 0.5, col, col]), np.array([row, row, row - 0.5, row + 0.5]))
        along_x, along_y = math.hypot(c[1] - c[0], r[1] - r[0]), math.hypot(c[3] - c[2], r[3] - r[2])
        if not (math.isfinite(along_x) and math.isfinite(along_y) and along_x > 0 and along_y > 0):
            return 1.0, 1.0
        return 1 / along_x, 1 / along_y

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Warp the blocks of the target that hold the wanted pixels."""
        bands, ys, xs = indices
        out = np.full((bands.size, ys.size, xs.size), self.fill, dtype=self.dtype)
        for row in range(int(ys.min()) // _SIDE * _SIDE, int(ys.max()) + 1, _SIDE):
            at_y = np.flatnonzero((ys >= row) & (ys < row + _SIDE))
            for col in range(int(xs.min()) // _SIDE * _SIDE, int(xs.max()) + 1, _SIDE):
                at_x = np.flatnonzero((xs >= col) & (xs < col + _SIDE))
                if at_y.size == 0 or at_x.size == 0:
                    continue
                height, width = min(_SIDE, self.shape[1] - row), min(_SIDE, self.shape[2] - col)
                block = self._block(bands, row, col, height, width)
                if block is not None:
                    out[:, at_y[:, None], at_x] = block[:, (ys[at_y] - row)[:, None], xs[at_x] - col]
        return out

    def _block(self, bands: np.ndarray, row: int, col: int, height: int, width: int) -> np.ndarray | None:
        window = self._beneath(row, col, height, width)
        if window is None:
            return None
        rows, cols = window
        pixels = (rows.stop - rows.start) * (cols.stop - cols.start)
        count = max(1, int(BLOCK_BYTES // (pixels * self.dtype.itemsize)))
        source_crs, target_crs = self._crs()
        out = np.full((bands.size, height, width), self.fill, dtype=self.dtype)
        for start in range(0, bands.size, count):
            part = read_window(self.source, bands[start : start + count], rows, cols)
            for number, band in enumerate(part, start=start):
                # Band by band: GDAL would take the gaps of one band for those of all.
                gdal_reproject(
                    np.ascontiguousarray(band),
                    out[number],
                    src_transform=self.here.window(rows.start, cols.start, 1, 1).transform,
                    src_crs=source_crs,
                    src_nodata=self.fill,
                    dst_transform=self.there.window(row, col, 1, 1).transform,
                    dst_crs=target_crs,
                    dst_nodata=self.fill,
                    resampling=Resampling[self.resampling],
                    # One kernel size for the scene, where GDAL would take one for each block.
                    XSCALE=repr(self.scale[0]),
                    YSCALE=repr(self.scale[1]),
                )
        return out

    def _beneath(self, row: int, col: int, height: int, width: int) -> tuple[slice, slice] | None:
        """Source window under a block of the target, kernel included; None where they do not meet."""
        t = np.linspace(0.0, 1.0, 17)
        c, r = np.meshgrid(col + t * width, row + t * height)
        source_col, source_row = self._to_source(c, r)
        known = np.isfinite(source_col) & np.isfinite(source_row)
        if not known.any():
            return None
        margins = [math.ceil(RADIUS[self.resampling] * max(1.0, 1 / s)) + 3 for s in (min(self.scale), min(self.scale))]
        out = []
        for places, size, margin in (
            (source_row[known], self.here.height, margins[1]),
            (source_col[known], self.here.width, margins[0]),
        ):
            first = max(0, math.floor(float(places.min())) - margin)
            last = min(size, math.ceil(float(places.max())) + margin)
            if last <= first:
                return None
            out.append(slice(first, last))
        return out[0], out[1]


def reproject(
    cube: xr.DataArray,
    crs: Any = None,
    *,
    like: xr.DataArray | Grid | None = None,
    resolution: float | tuple[float, float] | None = None,
    resampling: str = "nearest",
    nodata: float | int | None = None,
) -> xr.DataArray:
    """Resample a cube or layers onto another map grid; lazy, band by band and block by block.

    Parameters
    ----------
    cube : DataArray, shape (band or layer, y, x)
        On a map or rotated grid (orthorectify swaths first).
    crs : optional
        Target CRS; by default the cube's own.
    like : DataArray or Grid, optional
        Target grid itself (map or rotated); then `crs` and `resolution` must be absent.
    resolution : float or (x, y), optional
        Target pixel size in CRS units; by default that which keeps the pixel count.
    resampling : str
        nearest, bilinear, cubic, cubic_spline, lanczos, average, mode, min, max, med, q1, q3, sum or rms.
    nodata : int, optional
        For integers without a nodata value: what to write where the source has nothing.

    Returns
    -------
    DataArray
        NaN (or nodata) where the source has nothing. Blocks equal the whole.

    Raises
    ------
    GridMismatch
        A grid without map coordinates or CRS; both `like` and `crs` given; an unusable resolution.
    BadSettings
        Unknown resampling; integers without nodata; mixing of integer labels.
    """
    if resampling not in RADIUS:
        raise BadSettings(f"unknown resampling {resampling!r}: {closest(str(resampling), tuple(RADIUS))}")
    if cube.ndim != 3:
        raise GridMismatch(f"got dims {cube.dims}, expected (band, y, x): take one time step")
    if cube.dtype.kind == "b" or cube.dtype == np.float16:
        cube = cube.astype(np.uint8 if cube.dtype.kind == "b" else np.float32)
    here = map_grid(cube, "the cube")
    there = _target(here, crs, like, resolution)
    fill = missing_value(cube)
    if fill is None:
        if nodata is None:
            raise BadSettings(
                f"values of type {cube.dtype} carry no nodata value, so places outside cannot be marked: give nodata="
            )
        fill = nodata
    if cube.dtype.kind in "iu" and resampling in _MIXING and cube.dims[0] == "layer":
        raise BadSettings(f"got {resampling} for integer layers, whose values are labels: use nearest or mode")
    array = WarpedArray(cube.variable, here, there, resampling, fill)
    attrs = {} if cube.dtype.kind == "f" or "packing" in cube.attrs else {"nodata": int(fill)}
    out = place(with_data(cube, array, attrs), there.transform, there.crs)
    name = there.crs.name if there.crs is not None else "local coordinates"
    x, y = there.resolution
    return with_history(
        out, f"resampled ({resampling}) to {there.height} x {there.width} pixels of {x:g} x {y:g} in {name}"
    )


def align(
    cube: xr.DataArray, like: xr.DataArray | Grid, *, resampling: str = "nearest", nodata: float | int | None = None
) -> xr.DataArray:
    """Resample a cube or layers onto the grid of `like`; returned as it is where the grids are already equal.

    Raises
    ------
    GridMismatch, BadSettings
        As `reproject`.
    """
    target = like if isinstance(like, Grid) else map_grid(like, "the target")
    here = grid_of(cube)
    if here.kind in ("map", "rotated") and here.shape == target.shape and here.crs == target.crs:
        corners = (0, 0), (here.width, 0), (0, here.height), (here.width, here.height)
        off = [to_pixels(target.transform, *to_ground(here.transform, *c)) for c in corners]
        if all(math.hypot(p[0] - c[0], p[1] - c[1]) < 1e-6 for p, c in zip(off, corners, strict=True)):
            return cube
    return reproject(cube, like=target, resampling=resampling, nodata=nodata)


def map_grid(value: xr.DataArray, what: str, otherwise: str = "") -> Grid:
    """Grid of `value`, which must be a map or rotated one; `what` names it in the error."""
    grid = grid_of(value)
    if grid.kind == "swath":
        raise GridMismatch(f"{what} is a swath: call geo.orthorectify first{f', {otherwise}' if otherwise else ''}")
    if grid.kind == "none":
        raise GridMismatch(f"{what} lies nowhere (no transform, no CRS): call geo.place first")
    return grid


def _target(here: Grid, crs: Any, like: Any, resolution: Any) -> Grid:
    if like is not None:
        if crs is not None or resolution is not None:
            raise GridMismatch("got like= and crs or resolution, expected one or the other")
        there = like if isinstance(like, Grid) else map_grid(like, "the target")
        if (here.crs is None) != (there.crs is None):
            raise GridMismatch("one of the two images has no CRS, so they cannot be brought together: call geo.place")
        return there
    target = parse_crs(crs) or here.crs
    if target is None or here.crs is None:
        if crs is not None:
            raise GridMismatch("the cube has no CRS, so it cannot be put into another one: call geo.place first")
        target = None
    if resolution is not None:
        pair = np.atleast_1d(np.asarray(resolution, dtype=float))
        if pair.size > 2 or not np.isfinite(pair).all() or (pair <= 0).any():
            raise GridMismatch(f"got resolution {resolution!r}, expected one or two positive numbers in CRS units")
        resolution = (float(pair[0]), float(pair[-1]))
    gdal = [GdalCRS.from_wkt((c or _LOCAL).to_wkt()) for c in (here.crs, target)]
    try:
        transform, width, height = calculate_default_transform(
            gdal[0], gdal[1], here.width, here.height, *here.bounds, resolution=resolution
        )
    except (CRSError, RasterioError) as error:
        raise GridMismatch(f"the scene cannot be put into {target.name if target else crs}: {error}") from None
    return Grid("map", int(width), int(height), Affine(*transform[:6]), target)
