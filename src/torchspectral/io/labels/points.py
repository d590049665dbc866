"""Places on the ground to pixels of a cube, and the labels that they claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.geo.grids import grid_of, parse_crs, to_pixels
from torchspectral.io.labels.pixels import wrapped


def pixels_of(
    like: xr.DataArray, x: np.ndarray, y: np.ndarray, crs: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column of places, and whether they lie on the cube.

    Parameters
    ----------
    like : DataArray
        On a map, a rotated grid, or a swath (the nearest pixel, no farther than one and a half pixels).
    x, y : ndarray, shape (n,)
        Coordinates.
    crs : optional
        Theirs; the cube's by default (longitude and latitude for a swath).

    Returns
    -------
    row, col : ndarray of int, shape (n,)
    inside : ndarray of bool, shape (n,)
    """
    grid = grid_of(like)
    if crs is not None and grid.kind != "swath" and grid.crs is not None and parse_crs(crs) != grid.crs:
        x, y = _moved(parse_crs(crs), grid.crs, x, y)
    elif crs is not None and grid.kind == "swath":
        x, y = _moved(parse_crs(crs), parse_crs("EPSG:4326"), x, y)
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if grid.kind == "swath":
        return _of_swath(like, x, y)
    col, row = to_pixels(grid.transform, x, y)
    with np.errstate(invalid="ignore"):
        row, col = np.floor(np.asarray(row)), np.floor(np.asarray(col))
        inside = (row >= 0) & (row < grid.height) & (col >= 0) & (col < grid.width)
    return np.where(inside, row, 0).astype(np.int64), np.where(inside, col, 0).astype(np.int64), inside


def _moved(source: Any, target: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from rasterio.warp import transform

    xs, ys = transform(source.to_wkt(), target.to_wkt(), list(map(float, x)), list(map(float, y)))
    return np.array(xs), np.array(ys)


def _of_swath(like: xr.DataArray, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from scipy.spatial import cKDTree

    def on_sphere(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        a, b = np.radians(lon), np.radians(lat)
        return np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)], axis=-1)

    lons, lats = (np.asarray(like[n].values, dtype=np.float64) for n in ("lon", "lat"))
    known = np.isfinite(lons) & np.isfinite(lats)
    places = on_sphere(lons, lats)
    steps = [np.linalg.norm(np.diff(places, axis=a), axis=-1) for a in (0, 1) if places.shape[a] > 1]
    size = max((float(np.nanmedian(s)) for s in steps), default=1e-4)
    wanted = np.isfinite(lon) & np.isfinite(lat)
    row, col = np.zeros(lon.size, dtype=np.int64), np.zeros(lon.size, dtype=np.int64)
    inside = np.zeros(lon.size, dtype=bool)
    if not known.any() or not wanted.any():
        return row, col, inside
    distance, index = cKDTree(places[known]).query(on_sphere(lon[wanted], lat[wanted]))
    rows, cols = np.nonzero(known)
    row[wanted], col[wanted], inside[wanted] = rows[index], cols[index], distance <= 1.5 * size
    return row, col, inside


def claim(
    like: xr.DataArray,
    where: tuple[np.ndarray, np.ndarray],
    numbers: np.ndarray,
    keep: np.ndarray,
    classes: list[str],
    file: Path,
) -> xr.DataArray:
    """Labels of the pixels that points claim; a pixel that two classes claim stays 0."""
    keep = keep & (numbers > 0)
    flat = where[0][keep] * like.sizes["x"] + where[1][keep]
    order = np.argsort(flat, kind="stable")
    pixel, number = flat[order], numbers[keep][order]
    values = np.zeros(like.sizes["y"] * like.sizes["x"], dtype=np.uint16)
    values[pixel] = number
    mixed = np.unique(pixel[1:][(pixel[1:] == pixel[:-1]) & (number[1:] != number[:-1])])
    values[mixed] = 0
    notes = [f"{int(keep.sum())} points of {file.name}, {int((values > 0).sum())} pixels labelled"]
    if (~keep).any():
        notes.append(f"{int((~keep).sum())} points lie beyond the cube or have no class")
    return finished(values.reshape(like.sizes["y"], like.sizes["x"]), like, classes, file, notes, mixed.size)


def finished(
    values: np.ndarray, like: xr.DataArray, classes: list[str], file: Path, notes: list[str], mixed: int
) -> xr.DataArray:
    """Labels with names and history, in the smallest type."""
    if mixed:
        notes.append(f"{mixed} pixels are claimed by more than one class and left unlabelled")
    kind = np.uint8 if len(classes) <= 256 else np.uint16
    bare = xr.DataArray(values.astype(kind), dims=("y", "x"), name="labels")
    bare.attrs = {"class_names": classes, "source": [str(file)], "history": notes[:-1]}
    return wrapped(bare.values, bare, like, notes[-1])
