"""Windows of cubes and layers, by pixels or by a box on the ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from torchspectral.errors import GridMismatch
from torchspectral.geo.grids import Grid, grid_of, parse_crs, to_ground, to_pixels

_WGS84 = CRS.from_epsg(4326)


def window(cube: xr.DataArray, row: int, col: int, height: int, width: int) -> xr.DataArray:
    """Window of a cube or of layers; stays lazy, and its grid keeps the pixels in place.

    Raises
    ------
    GridMismatch
        The window leaves the image.
    """
    rows, cols = cube.sizes["y"], cube.sizes["x"]
    if row < 0 or col < 0 or height < 1 or width < 1 or row + height > rows or col + width > cols:
        raise GridMismatch(
            f"window row {row}, col {col}, {height} rows x {width} cols leaves the image of {rows} rows x {cols} cols"
        )
    return cube.isel(y=slice(row, row + height), x=slice(col, col + width))


def crop(cube: xr.DataArray, bbox: Sequence[float], crs: Any = None) -> xr.DataArray:
    """Smallest window that holds every pixel which the box touches; nothing is resampled.

    Parameters
    ----------
    cube : DataArray, shape (..., y, x)
        On a map, rotated or swath grid.
    bbox : (west, south, east, north)
        In the scene's CRS; in lon/lat [deg] for swaths. A swath pixel is held where its centre lies in the box.
    crs : optional
        CRS of the box, where it is another one.

    Raises
    ------
    GridMismatch
        The box is no box, lies outside the scene (the message gives the scene's bounds in its CRS and in degrees), or
        the scene lies nowhere.
    """
    west, south, east, north = _box(bbox)
    grid = grid_of(cube)
    if grid.kind == "none":
        raise GridMismatch("this image lies nowhere, so no box can be cut from it: use geo.window with row and col")
    source = parse_crs(crs)
    if grid.kind == "swath":
        rows, cols = _swath_window(cube, (west, south, east, north), source)
    else:
        x, y = outline(west, south, east, north)
        if source is not None:
            if grid.crs is None:
                raise GridMismatch("the scene has no CRS, so a box in another CRS has no place: give it without crs")
            if source != grid.crs:
                x, y = Transformer.from_crs(source, grid.crs, always_xy=True).transform(x, y)
        col, row = to_pixels(grid.transform, np.asarray(x), np.asarray(y))
        rows, cols = _cover(row, grid.height), _cover(col, grid.width)
    if rows is None or cols is None:
        given = "" if source is None else f" ({source.name})"
        raise GridMismatch(
            f"the box {west:g}, {south:g}, {east:g}, {north:g}{given} lies outside the scene, which spans "
            f"{describe_bounds(cube)}"
        )
    return cube.isel(y=rows, x=cols)


def _box(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = (float(v) for v in bbox)
    except (TypeError, ValueError):
        raise GridMismatch(f"got {bbox!r} as box, expected four numbers: west, south, east, north") from None
    if not all(math.isfinite(v) for v in (west, south, east, north)) or west >= east or south >= north:
        raise GridMismatch(
            f"got the box {west:g}, {south:g}, {east:g}, {north:g}, expected west < east and south < north"
        )
    return west, south, east, north


def outline(west: float, south: float, east: float, north: float, points: int = 21) -> tuple[np.ndarray, np.ndarray]:
    """Points along the edges of a box, dense enough for curved reprojections."""
    t = np.linspace(0.0, 1.0, points)
    x = west + (east - west) * t
    y = south + (north - south) * t
    return (
        np.concatenate([x, x, np.full(points, west), np.full(points, east)]),
        np.concatenate([np.full(points, south), np.full(points, north), y, y]),
    )


def _cover(positions: np.ndarray, size: int) -> slice | None:
    """Pixels that the interval of corner positions touches by more than a thousandth; None where it is empty."""
    positions = positions[np.isfinite(positions)]
    if positions.size == 0:
        return None
    first = max(0, math.floor(float(positions.min()) + 1e-3))
    last = min(size, math.ceil(float(positions.max()) - 1e-3))
    return slice(first, last) if last > first else None


def _swath_window(
    cube: xr.DataArray, box: tuple[float, float, float, float], crs: CRS | None
) -> tuple[slice | None, slice | None]:
    lon, lat = np.asarray(cube["lon"].values, dtype=np.float64), np.asarray(cube["lat"].values, dtype=np.float64)
    x, y = lon, lat
    if crs is not None and crs != _WGS84:
        x, y = Transformer.from_crs(_WGS84, crs, always_xy=True).transform(lon, lat)
    west, south, east, north = box
    if crs is None or crs == _WGS84:
        x = np.where(x < west, x + 360, np.where(x > east, x - 360, x))
    with np.errstate(invalid="ignore"):
        inside = (x >= west) & (x <= east) & (y >= south) & (y <= north)
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if rows.size == 0:
        return None, None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def lonlat_bounds(grid: Grid) -> tuple[float, float, float, float] | None:
    """West, south, east, north [deg] of a map or rotated grid; west > east across the antimeridian; None without CRS."""
    if grid.crs is None or grid.kind not in ("map", "rotated"):
        return None
    col, row = outline(0, 0, grid.width, grid.height)
    x, y = to_ground(grid.transform, col, row)
    try:
        lon, lat = Transformer.from_crs(grid.crs, _WGS84, always_xy=True).transform(x, y)
    except ProjError:  # another planet, or a CRS of which PROJ knows no way to degrees
        return None
    finite = np.isfinite(lon) & np.isfinite(lat)
    if not finite.any():
        return None
    lon, lat = lon[finite], lat[finite]
    west, east = float(lon.min()), float(lon.max())
    if east - west > 180:
        turned = lon % 360
        if np.ptp(turned) < 180:
            west, east = (float((v + 180) % 360 - 180) for v in (turned.min(), turned.max()))
    return west, float(lat.min()), east, float(lat.max())


def describe_bounds(cube: xr.DataArray) -> str:
    """The scene's bounds in its CRS and in degrees, for messages."""
    grid = grid_of(cube)
    if grid.kind == "swath":
        lon, lat = cube["lon"].values, cube["lat"].values
        edges = np.nanmin(lon), np.nanmin(lat), np.nanmax(lon), np.nanmax(lat)
        return "{:.5f}, {:.5f}, {:.5f}, {:.5f} deg (lon/lat swath)".format(*edges)
    if grid.kind == "none":
        return f"{grid.height} rows x {grid.width} cols that lie nowhere"
    west, south, east, north = grid.bounds
    name = grid.crs.name if grid.crs is not None else "local coordinates"
    text = f"{west:.2f}, {south:.2f}, {east:.2f}, {north:.2f} ({name})"
    if grid.crs is not None and grid.crs.is_geographic:
        return f"{west:.5f}, {south:.5f}, {east:.5f}, {north:.5f} ({name})"
    degrees = lonlat_bounds(grid)
    return text if degrees is None else text + " = {:.5f}, {:.5f}, {:.5f}, {:.5f} deg".format(*degrees)
