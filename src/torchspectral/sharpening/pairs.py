"""Bringing a finer image onto the ground of a hyperspectral one: overlap, CRS, ratio, cuts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from torchspectral.engine.method import Input
from torchspectral.engine.roles import CORNER_TOLERANCE, fit_grid
from torchspectral.errors import GridMismatch
from torchspectral.geo import align, grid_of
from torchspectral.geo.grids import Grid, pixel_in, to_ground, to_pixels, transfer
from torchspectral.geo.lazy import LazyArray, missing_value, read_window, with_data
from torchspectral.result import Report

PLACED = ("map", "rotated")
SAME_SIZE = 1e-4
"""Largest relative difference of a pixel size from a whole share of the other."""


@dataclass
class Done:
    """What was done to the inputs before the engine saw them, as sentences for the report."""

    resampled: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def tell(self, report: Report) -> None:
        """Add the sentences to a report."""
        for name in ("resampled", "dropped", "notes"):
            getattr(report, name).extend(line for line in getattr(self, name) if line not in getattr(report, name))


class Floats(LazyArray):
    """Integers as float32 with NaN for nodata, window by window."""

    def __init__(self, source: xr.Variable, nodata: float | None, scale: np.ndarray, offset: np.ndarray) -> None:
        super().__init__(source.shape, np.float32)
        self.source, self.nodata, self.scale, self.offset = source, nodata, scale, offset

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Convert a window."""
        bands, rows, cols = indices
        window = slice(int(rows.min()), int(rows.max()) + 1), slice(int(cols.min()), int(cols.max()) + 1)
        stored = read_window(self.source, bands, *window)
        stored = stored[:, (rows - window[0].start)[:, None], (cols - window[1].start)[None, :]]
        values = stored * self.scale[bands][:, None, None] + self.offset[bands][:, None, None]
        if self.nodata is not None:
            values[stored == self.nodata] = np.nan
        return values.astype(np.float32)


def as_floats(cube: xr.DataArray) -> xr.DataArray:
    """A cube whose missing values are NaN; floats are returned as they are, and nothing is read."""
    if cube.dtype.kind == "f" and "packing" not in cube.attrs:
        return cube
    bands = cube.sizes["band"]
    packing = cube.attrs.get("packing") or {}
    scale, offset = (
        np.broadcast_to(np.asarray(packing.get(name, usual), dtype=np.float64), (bands,))
        for name, usual in (("scale", 1.0), ("offset", 0.0))
    )
    missing = missing_value(cube)
    out = with_data(cube, Floats(cube.variable, missing, scale, offset))
    out.attrs = {k: v for k, v in out.attrs.items() if k not in ("packing", "nodata")}
    return out.assign_coords({n: c.variable for n, c in cube.coords.items() if n not in out.coords})


def cut_to(cube: xr.DataArray, fine: xr.DataArray, what: str, done: Done) -> xr.DataArray:
    """The pixels of the cube that a smaller fine image covers; all of them where it covers the cube.

    Raises
    ------
    GridMismatch
        The two do not overlap.
    """
    here, there = grid_of(cube), grid_of(fine)
    if here.kind not in PLACED or there.kind not in PLACED or (here.crs is None) != (there.crs is None):
        return cube
    west, north, east, south = _footprint(there, here)
    # Half a fine pixel of the rim may be missing: it is what rounding of corners leaves.
    slack = 0.5 * pixel_in(there, here)[0]
    left, top = math.ceil(west - slack), math.ceil(north - slack)
    right, bottom = math.floor(east + slack), math.floor(south + slack)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, here.width), min(bottom, here.height)
    if right <= left or bottom <= top:
        raise GridMismatch(
            f"the {what} and the cube do not overlap: the cube lies at {_said(here)}, the {what} at {_said(there)}; are "
            "both of the same place, and their CRS right?"
        )
    if (left, top, right, bottom) == (0, 0, here.width, here.height):
        return cube
    done.dropped.append(
        f"the {what} covers rows {top + 1}-{bottom} and columns {left + 1}-{right} of {here.height} x {here.width}: the "
        "cube was cut to them"
    )
    return cube.isel(y=slice(top, bottom), x=slice(left, right))


def fit_fine(
    fine: xr.DataArray, cube: xr.DataArray, *, what: str, resample: bool, done: Done, zoom: int | None = None
) -> xr.DataArray:
    """A finer image on exactly the ground of the cube, a whole number of its pixels for each of the cube's.

    Whole pixels are cut (and missing ones come back NaN) without asking, for no value changes. All else is resampled
    only where `resample` says so.

    Parameters
    ----------
    fine : DataArray, shape (band, y, x)
    cube : DataArray
    what : str
        For messages: "PAN", "guide S2".
    resample : bool
        Whether it may be interpolated (cubic) where grids do not fit.
    done : Done
        Gets a sentence for everything that was done.
    zoom : int, optional
        The ratio that must come out; by default the nearest whole one.

    Raises
    ------
    GridMismatch
        Another place, another CRS, no whole ratio, not finer.
    """
    if zoom is None:
        try:
            fitted = fit_grid(fine, cube, Input(what, ratio="finer"), False, Report())[0]
        except GridMismatch as error:
            problem = error
        else:
            if grid_of(fine).kind == "none" and grid_of(cube).kind != "none":
                done.notes.append(f"the {what} has no georeference: taken to cover exactly the cube's ground")
            return fitted
    else:
        problem = GridMismatch(f"{what}: it does not fit the grid of the finest guide")
    here, there = grid_of(fine), grid_of(cube)
    if there.kind == "swath" and here.kind in PLACED:
        raise GridMismatch(
            f"the cube is in sensor geometry, the {what} on a map: call geo.orthorectify on the cube first"
        )
    if here.kind not in PLACED or there.kind not in PLACED:
        raise problem
    if (here.crs is None) != (there.crs is None):
        raise GridMismatch(f"{what} or cube has no CRS, so they cannot be brought together: call geo.place first")
    size = pixel_in(here, there)
    ratio = 1 / math.sqrt(size[0] * size[1])
    whole = zoom or max(1, round(ratio))
    if whole < 2:
        raise GridMismatch(
            f"got a {what} of {_metres(here)} pixels for a cube of {_metres(there)}, expected pixels at most half as "
            "large: exchange the images, or use another one"
        )
    target = there.scaled(whole)
    if here.crs == there.crs and _same_pixels(here, target):
        out = align(as_floats(fine), target, resampling="nearest")
        if here.width * here.height > target.width * target.height:
            done.notes.append(f"{what} cut to the cube's ground: {target.height} x {target.width} pixels, none changed")
        return out
    if here.crs != there.crs:
        why = f"its CRS is {_name(here)}, the cube's {_name(there)}"
    elif abs(ratio - whole) > SAME_SIZE * whole:
        why = f"the ratio is {ratio:.4g}, no whole number"
    elif not _same_way(here, target):
        why = "its rows and columns run another way than the cube's"
    else:
        why = "its pixels lie between the cube's"
    if not resample:
        raise GridMismatch(
            f"{what}: {why}: resample=True (--align) brings it onto a grid {whole} times finer than the cube's"
        )
    done.resampled.append(f"{what} (cubic) to {target.height} x {target.width} pixels, ratio {whole}: {why}")
    return align(as_floats(fine), target, resampling="cubic")


def _same_way(here: Grid, there: Grid) -> bool:
    """Whether rows and columns of two grids of like pixels run in the same directions, to a thousandth of a pixel."""
    a, b = here.transform, there.transform
    size = math.hypot(b.a, b.d)
    return max(abs(a.a - b.a), abs(a.b - b.b), abs(a.d - b.d), abs(a.e - b.e)) <= 1e-3 * size


def _same_pixels(here: Grid, target: Grid) -> bool:
    """Whether the pixels of the two grids coincide where both lie."""
    corners = [(0, 0), (target.width, 0), (0, target.height), (target.width, target.height)]
    places = [to_pixels(here.transform, *to_ground(target.transform, *corner)) for corner in corners]
    origin = places[0][0] - round(places[0][0]), places[0][1] - round(places[0][1])
    if max(map(abs, origin)) > CORNER_TOLERANCE:
        return False
    first = round(places[0][0]), round(places[0][1])
    return all(
        max(abs(place[0] - first[0] - corner[0]), abs(place[1] - first[1] - corner[1])) <= CORNER_TOLERANCE
        for place, corner in zip(places, corners, strict=True)
    )


def _footprint(source: Grid, target: Grid) -> tuple[float, float, float, float]:
    """Box around `source` in columns and rows of `target`: (left, top, right, bottom)."""
    steps = np.linspace(0, 1, 21)
    edges = {
        "left": (np.zeros(21), steps * source.height),
        "right": (np.full(21, source.width), steps * source.height),
        "top": (steps * source.width, np.zeros(21)),
        "bottom": (steps * source.width, np.full(21, source.height)),
    }
    move = transfer(source, target)
    found = {}
    for name, (cols, rows) in edges.items():
        x, y = move(*to_ground(source.transform, cols, rows))
        found[name] = to_pixels(target.transform, np.asarray(x), np.asarray(y))
    everything_c = np.concatenate([c for c, _ in found.values()])
    everything_r = np.concatenate([r for _, r in found.values()])
    if not (np.isfinite(everything_c).all() and np.isfinite(everything_r).all()):
        return (math.inf, math.inf, -math.inf, -math.inf)
    return (
        float(everything_c.min()),
        float(everything_r.min()),
        float(everything_c.max()),
        float(everything_r.max()),
    )


def _metres(grid: Grid) -> str:
    return " x ".join(f"{v:g}" for v in grid.resolution)


def _name(grid: Grid) -> str:
    return grid.crs.name if grid.crs is not None else "unknown"


def _said(grid: Grid) -> str:
    west, south, east, north = grid.bounds
    return f"{west:.6g} to {east:.6g}, {south:.7g} to {north:.7g} in {_name(grid)}"
