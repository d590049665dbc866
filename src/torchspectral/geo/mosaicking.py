"""Mosaics of cubes or layers that share a pixel lattice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from pyproj import Transformer

from torchspectral.cube import with_history
from torchspectral.errors import BadCube, BadSettings, BandMismatch, GridMismatch, closest
from torchspectral.geo.cropping import outline
from torchspectral.geo.grids import Grid, grid_of, moved, parse_crs, place, to_ground, to_pixels
from torchspectral.geo.lazy import LazyArray, missing_value, read_window, with_data
from torchspectral.geo.orthorectification import orthorectify, swath_grid
from torchspectral.geo.warping import map_grid, reproject

METHODS = ("first", "last", "mean", "min", "max", "median", "center")
_REDUCE: dict[str, Callable[..., np.ndarray]] = {"min": np.nanmin, "max": np.nanmax, "median": np.nanmedian}
_LATTICE = 0.01


class MosaicArray(LazyArray):
    """Tiles laid on a common grid; a block reads only the tiles that it touches."""

    def __init__(
        self,
        tiles: Sequence[tuple[xr.Variable, int, int]],
        shape: tuple[int, int, int],
        dtype: Any,
        method: str,
        fill: float | int | None,
    ) -> None:
        super().__init__(shape, dtype)
        self.tiles, self.method, self.fill = list(tiles), method, fill

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Lay or mix the tiles under one block."""
        bands, ys, xs = indices
        shape = bands.size, ys.size, xs.size
        fill = 0 if self.fill is None else self.fill
        pieces: list[Any] = []
        for source, row, col in self.tiles:
            at_y = np.flatnonzero((ys >= row) & (ys < row + source.shape[1]))
            at_x = np.flatnonzero((xs >= col) & (xs < col + source.shape[2]))
            if at_y.size and at_x.size:
                pieces.append((source, at_y, at_x, ys[at_y] - row, xs[at_x] - col))
        if self.method in _REDUCE:
            return self._stacked(bands, shape, pieces, fill)
        if self.method == "center":
            return self._nearest_centre(bands, ys, xs, pieces, fill)
        out = np.full(shape, fill, dtype=self.dtype)
        total = np.zeros(shape) if self.method == "mean" else np.empty(0)
        count = np.zeros(shape, dtype=np.int32) if self.method == "mean" else np.empty(0)
        order = pieces if self.method != "first" else pieces[::-1]
        for piece in order:
            values, known, at = self._piece(bands, piece)
            if self.method == "mean":
                total[at] += np.where(known, values, 0)
                count[at] += known
            else:
                out[at] = np.where(known, values, out[at])
        if self.method == "mean":
            seen = count > 0
            mean = total[seen] / count[seen]
            out[seen] = np.rint(mean) if self.dtype.kind in "iu" else mean
        return out

    def _piece(self, bands: np.ndarray, piece: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
        source, at_y, at_x, rows, cols = piece
        window = slice(int(rows.min()), int(rows.max()) + 1), slice(int(cols.min()), int(cols.max()) + 1)
        values = read_window(source, bands, *window)[
            :, (rows - window[0].start)[:, None], (cols - window[1].start)[None, :]
        ]
        if values.dtype.kind == "f":
            known = ~np.isnan(values)
        else:
            known = np.ones(values.shape, dtype=bool) if self.fill is None else values != self.fill
        return values, known, (slice(None), at_y[:, None], at_x[None, :])

    def _nearest_centre(
        self, bands: np.ndarray, ys: np.ndarray, xs: np.ndarray, pieces: list[Any], fill: float | int
    ) -> np.ndarray:
        """Of the tiles with a value the one whose middle is nearest; of equals the first."""
        shape = bands.size, ys.size, xs.size
        out = np.full(shape, fill, dtype=self.dtype)
        best = np.full(shape, np.iinfo(np.int64).max, dtype=np.int64)
        for piece in pieces:
            values, known, at = self._piece(bands, piece)
            source, _, _, rows, cols = piece
            # In half pixels, so that all is whole and equal distances are equal.
            away = (2 * rows[:, None] + 1 - source.shape[1]) ** 2 + (2 * cols[None, :] + 1 - source.shape[2]) ** 2
            taken = known & (away[None] < best[at])
            out[at] = np.where(taken, values, out[at])
            best[at] = np.where(taken, away[None], best[at])
        return out

    def _stacked(self, bands: np.ndarray, shape: tuple[int, ...], pieces: list[Any], fill: float | int) -> np.ndarray:
        out = np.full(shape, fill, dtype=self.dtype)
        if not pieces:
            return out
        kind = np.float32 if self.dtype == np.float32 or self.dtype.itemsize < 3 else np.float64
        for number, band in enumerate(bands):
            stack = np.full((len(pieces), *shape[1:]), np.nan, dtype=kind)
            for layer, piece in zip(stack, pieces, strict=True):
                values, known, at = self._piece(np.array([band]), piece)
                layer[at[1:]] = np.where(known, values, np.nan)[0]
            seen = ~np.isnan(stack).all(axis=0)
            mixed = _REDUCE[self.method](stack[:, seen], axis=0)
            out[number][seen] = np.rint(mixed) if self.dtype.kind in "iu" else mixed
        return out


def mosaic(
    cubes: Sequence[xr.DataArray],
    method: str = "first",
    *,
    resampling: str | None = None,
    crs: Any = None,
    resolution: float | None = None,
    nodata: int | None = None,
) -> xr.DataArray:
    """Lay cubes, or layers, on one grid; lazy.

    Without `resampling` no value is changed: all must share CRS, pixel size and lattice (to 1/100 pixel). With it,
    those that do not are resampled onto the lattice of the first (or onto `crs` and `resolution`).

    Parameters
    ----------
    cubes : sequence of DataArray, shape (band or layer, y, x)
        Same bands (wavelengths equal to 0.1 nm) and quantity.
    method : {"first", "last", "mean", "min", "max", "median", "center"}
        Which value stands where several have one; "center": that of the cube whose middle is nearest. Nodata never
        counts.
    resampling : str, optional
        As in `geo.reproject`; allows grids that differ, and swaths, which are orthorectified straight onto the common
        lattice ("nearest" or "bilinear").
    crs, resolution : optional
        Grid of the mosaic; need `resampling`.
    nodata : int, optional
        For integers without nodata value, what to write into gaps.

    Returns
    -------
    DataArray
        Attributes that all cubes share, the times of the first and the last acquisition (``acquired``,
        ``acquired_end``); a band is good where it is good in all.

    Raises
    ------
    GridMismatch
        Grids differ and `resampling` is absent; the message names both.
    BandMismatch
        Bands, quantity or packing differ.
    """
    cubes = list(cubes)
    if not cubes:
        raise BadCube("got no cube, expected at least one for a mosaic")
    if method not in METHODS:
        raise BadSettings(f"unknown mosaic method {method!r}: {closest(str(method), METHODS)}")
    if resampling is None and (crs is not None or resolution is not None):
        raise BadSettings("crs and resolution of a mosaic need resampling= (nearest, bilinear, ...)")
    for number, cube in enumerate(cubes):
        if not isinstance(cube, xr.DataArray) or cube.ndim != 3:
            raise BadCube(f"got {type(cube).__name__} as cube {number + 1}, expected a DataArray (band, y, x)")
        _same_bands(cubes[0], cube, number)
    if resampling is None:
        checked = [
            map_grid(cube, f"cube {number}", "or give resampling= (--resampling nearest)")
            for number, cube in enumerate(cubes, start=1)
        ]
        lead = checked[0]
    else:
        cubes, lead = _together(cubes, resampling, crs, resolution, nodata)
    grids = [_same_turn(lead, grid_of(cube)) for cube in cubes]
    places = []
    for number, grid in enumerate(grids):
        difference = _difference(lead, grid)
        if difference is not None:
            raise GridMismatch(
                f"cube {number + 1} does not fit cube 1: {difference}; give resampling= "
                "(--resampling nearest) or align it first"
            )
        col, row = to_pixels(lead.transform, *to_ground(grid.transform, 0, 0))
        places.append((round(float(row)), round(float(col))))
    top, left = min(p[0] for p in places), min(p[1] for p in places)
    height = max(p[0] + g.height for p, g in zip(places, grids, strict=True)) - top
    width = max(p[1] + g.width for p, g in zip(places, grids, strict=True)) - left
    fill = missing_value(cubes[0])
    if fill is None and nodata is not None:
        fill = int(nodata)
    if fill is None and _has_gaps(places, grids, top, left, height, width):
        raise BadSettings(f"the cubes leave gaps and values of type {cubes[0].dtype} carry no nodata: give nodata=")
    tiles = [(c.variable, row - top, col - left) for c, (row, col) in zip(cubes, places, strict=True)]
    array = MosaicArray(tiles, (cubes[0].shape[0], height, width), cubes[0].dtype, method, fill)
    out = with_data(cubes[0], array)
    out.attrs = {k: v for k, v in out.attrs.items() if k == "history" or all(_same(c.attrs.get(k), v) for c in cubes)}
    seen = sorted(str(c.attrs["acquired"]) for c in cubes if c.attrs.get("acquired"))
    if len(seen) == len(cubes) and seen[0] != seen[-1]:
        out.attrs |= {"acquired": seen[0], "acquired_end": seen[-1]}
    if "source" in cubes[0].attrs:
        out.attrs["source"] = [path for cube in cubes for path in cube.attrs.get("source", [])]
    if nodata is not None and out.dtype.kind in "iu" and "packing" not in out.attrs:
        out.attrs.setdefault("nodata", int(nodata))
    if "good" in cubes[0].coords:
        good = np.all([cube["good"].values for cube in cubes], axis=0)
        out = out.assign_coords(good=(cubes[0].dims[0], good))
    out = place(out, moved(lead.transform, left, top), lead.crs)
    return with_history(out, f"mosaic of {len(cubes)} cubes ({method})")


def _together(
    cubes: list[xr.DataArray], resampling: str, crs: Any, resolution: float | None, nodata: int | None
) -> tuple[list[xr.DataArray], Grid]:
    """All cubes on the lattice of the first, or on that of `crs` and `resolution`, and that lattice."""
    first = cubes[0]
    if grid_of(first).kind == "swath":
        first = orthorectify(first, resolution, resampling, crs=crs)
    elif crs is not None or resolution is not None:
        first = reproject(first, parse_crs(crs), resolution=resolution, resampling=resampling, nodata=nodata)
    lead = map_grid(first, "cube 1")
    moved_cubes = [first]
    for number, cube in enumerate(cubes[1:], start=2):
        if grid_of(cube).kind == "swath":
            here = swath_grid(cube, lead.crs)
            moved_cubes.append(orthorectify(cube, method=resampling, grid=_on_lattice(lead, here)))
            continue
        here = map_grid(cube, f"cube {number}")
        if _difference(lead, _same_turn(lead, here)) is not None:
            cube = reproject(cube, like=_on_lattice(lead, here), resampling=resampling, nodata=nodata)
        moved_cubes.append(cube)
    return moved_cubes, lead


def _same_turn(lead: Grid, grid: Grid) -> Grid:
    """`grid` in longitudes on the same turn of the globe as `lead`, so that tiles beside 180 degrees are neighbours."""
    if lead.crs is None or lead.crs != grid.crs or not lead.crs.is_geographic:
        return grid
    middles = [(g.bounds[0] + g.bounds[2]) / 2 for g in (lead, grid)]
    turns = round((middles[0] - middles[1]) / 360)
    t = grid.transform
    return replace(grid, transform=Affine(t.a, t.b, t.c + 360 * turns, t.d, t.e, t.f)) if turns else grid


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else bool(a == b)


def _has_gaps(places: list[tuple[int, int]], grids: list[Grid], top: int, left: int, height: int, width: int) -> bool:
    rows = sorted({edge for p, g in zip(places, grids, strict=True) for edge in (p[0] - top, p[0] - top + g.height)})
    cols = sorted({edge for p, g in zip(places, grids, strict=True) for edge in (p[1] - left, p[1] - left + g.width)})
    seen = np.zeros((len(rows) - 1, len(cols) - 1), dtype=bool)
    for (row, col), grid in zip(places, grids, strict=True):
        seen[
            rows.index(row - top) : rows.index(row - top + grid.height),
            cols.index(col - left) : cols.index(col - left + grid.width),
        ] = True
    return not seen.all()


def _same_bands(first: xr.DataArray, other: xr.DataArray, number: int) -> None:
    if first.dims != other.dims or first.shape[0] != other.shape[0]:
        raise BandMismatch(
            f"cube {number + 1} has {other.shape[0]} {other.dims[0]}s, expected {first.shape[0]} {first.dims[0]}s "
            "as cube 1"
        )
    if "wavelength" in first.coords and "wavelength" in other.coords:
        a, b = first["wavelength"].values, other["wavelength"].values
        if not np.allclose(a, b, rtol=0, atol=0.1, equal_nan=True):
            at = int(np.nanargmax(np.abs(a - b))) if np.isfinite(a - b).any() else 0
            raise BandMismatch(
                f"band {at + 1} of cube {number + 1} is centred at {b[at]:g} nm, expected {a[at]:g} nm as in cube 1: "
                "resample the spectra first"
            )
    if "layer" in first.coords and list(first["layer"].values) != list(other["layer"].values):
        raise BandMismatch(f"layers of cube {number + 1} are {list(other['layer'].values)}, expected those of cube 1")
    for key in ("quantity", "packing"):
        if first.attrs.get(key) != other.attrs.get(key):
            raise BandMismatch(
                f"{key} of cube {number + 1} is {str(other.attrs.get(key))[:60]}, expected "
                f"{str(first.attrs.get(key))[:60]} as in cube 1"
            )
    if first.dtype != other.dtype:
        raise BandMismatch(f"cube {number + 1} has type {other.dtype}, expected {first.dtype} as cube 1")
    if first.dtype.kind in "iu" and missing_value(first) != missing_value(other):
        raise BandMismatch(
            f"cube {number + 1} has nodata {missing_value(other)}, expected {missing_value(first)} as cube 1"
        )


def _difference(lead: Grid, grid: Grid) -> str | None:
    """Why `grid` is not on the lattice of `lead`; None where it is."""
    if lead.crs != grid.crs:
        names = [g.crs.name if g.crs is not None else "no CRS" for g in (grid, lead)]
        return f"its CRS is {names[0]}, the first has {names[1]}"
    a, b = lead.transform, grid.transform
    # Over the whole width of the grid the pixel sizes may drift apart by 1/100 pixel.
    drift = max(abs(a.a - b.a), abs(a.d - b.d)) * grid.width, max(abs(a.b - b.b), abs(a.e - b.e)) * grid.height
    if max(drift) > _LATTICE * min(lead.resolution):
        sizes = "its pixels are {:g} x {:g}, those of the first {:g} x {:g}"
        return sizes.format(*grid.resolution, *lead.resolution)
    col, row = (float(v) for v in to_pixels(a, b.c, b.f))
    if max(abs(col - round(col)), abs(row - round(row))) > _LATTICE:
        return f"its origin lies {col:.3f} columns, {row:.3f} rows from the first's: no whole number of pixels"
    return None


def _on_lattice(lead: Grid, grid: Grid) -> Grid:
    """Part of the lattice of `lead` that covers `grid`."""
    col, row = outline(0, 0, grid.width, grid.height)
    x, y = to_ground(grid.transform, col, row)
    if grid.crs != lead.crs:
        if grid.crs is None or lead.crs is None:
            raise GridMismatch("one of the cubes has no CRS, so they cannot be brought together: call geo.place")
        x, y = Transformer.from_crs(grid.crs, lead.crs, always_xy=True).transform(x, y)
    col, row = to_pixels(lead.transform, x, y)
    if not (np.isfinite(col).all() and np.isfinite(row).all()):
        raise GridMismatch(f"a cube in {grid.crs.name if grid.crs else 'no CRS'} cannot be put into the first's CRS")
    left, top = math.floor(col.min() + 1e-6), math.floor(row.min() + 1e-6)
    width, height = math.ceil(col.max() - 1e-6) - left, math.ceil(row.max() - 1e-6) - top
    return lead.window(top, left, max(1, height), max(1, width))
