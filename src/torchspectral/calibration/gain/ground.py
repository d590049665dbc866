"""Which ground each pixel of several lines saw, and the sums over it, block by block of ground."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from torchspectral.calibration.gain.cells import CellSums
from torchspectral.errors import BadInput, BadSettings, GridMismatch
from torchspectral.geo import grid_of
from torchspectral.geo.grids import to_ground
from torchspectral.io.statistics import values_of
from torchspectral.log import Progress, Step, no_progress

BLOCK_VALUES = 1_500_000
"""Values that are summed at a time."""

FARTHEST = 1 << 30
"""Farthest shift [pixels]."""

HELD_ROWS, HELD_EVERY = 8, 5
"""Ground is held out in runs of so many cells along track, every so many runs."""


@dataclass
class Line:
    """One line and where its pixels lie, in cells.

    Attributes
    ----------
    cube : DataArray, dims (band, y, x)
    along, across : ndarray of int, shape (y, x) or None
        Cell of each pixel along and across; None with a plain shift.
    shift : tuple of int
        Cell of the first pixel, where all others follow it one by one.
    """

    cube: xr.DataArray
    shift: tuple[int, int] = (0, 0)
    along: np.ndarray | None = None
    across: np.ndarray | None = None

    def __post_init__(self) -> None:
        rows, self.cols = self.cube.shape[-2:]
        if self.along is None:
            self.first = self.last = self.shift[0] + np.arange(rows)
        else:
            self.first, self.last = self.along.min(1), self.along.max(1)

    def lines(self, low: int, high: int) -> slice:
        """Lines that have pixels on cells `low` up to, not including, `high`."""
        found = np.flatnonzero((self.last >= low) & (self.first < high))
        return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)

    def cells(self, part: slice) -> tuple[np.ndarray, np.ndarray]:
        """Cells along and across of the pixels of some lines, both (lines, x)."""
        if self.along is not None and self.across is not None:
            return self.along[part], self.across[part]
        along = self.shift[0] + np.arange(part.start, part.stop)[:, None]
        across = self.shift[1] + np.arange(self.cols)[None, :]
        return np.broadcast_to(along, (len(along), self.cols)), np.broadcast_to(across, (len(along), self.cols))


def lines_by_shift(cubes: Sequence[xr.DataArray], shifts: Sequence[tuple[int, int]]) -> list[Line]:
    """Lines whose first pixel lies on the given cell (along, across).

    Raises
    ------
    BadSettings
        Not one pair of whole numbers for each line.
    """
    given = [tuple(int(v) for v in np.atleast_1d(s)) for s in shifts]
    if len(given) != len(cubes) or any(len(s) != 2 for s in given):
        raise BadSettings(
            f"got {len(given)} shifts for {len(cubes)} lines, expected one pair (along, across) of pixels for each"
        )
    if any(abs(v) > FARTHEST for s in given for v in s):
        raise BadSettings(
            f"got shifts of up to {max(abs(v) for s in given for v in s)} pixels, expected at most {FARTHEST}"
        )
    return [Line(cube, (s[0], s[1])) for cube, s in zip(cubes, given, strict=True)]


def lines_by_georeference(cubes: Sequence[xr.DataArray], cell_size: float | None = None) -> tuple[list[Line], float]:
    """Lines placed by their coordinates: swaths by longitude and latitude, others by their transform.

    Parameters
    ----------
    cell_size : float, optional
        Side of a ground cell [m, or the CRS' unit]; the median distance of neighbouring pixels by default.

    Returns
    -------
    lines : list of Line
    float
        The side that was used.

    Raises
    ------
    GridMismatch
        A line lies nowhere, or the lines are in different CRS.
    """
    places = ground_coordinates(cubes)
    size = float(cell_size) if cell_size is not None else min(_spacing(x, y) for x, y in places)
    if not size > 0:
        raise GridMismatch("neighbouring pixels lie on the same ground, expected coordinates of every pixel")
    x0, y0 = (min(float(np.nanmin(place[n])) for place in places) for n in (0, 1))
    first = places[0]
    # Ground is worked off in the direction of flight, so that each line is read about once.
    ends = [abs(float(np.nanmean(v[-1]) - np.nanmean(v[0]))) for v in first]
    order = (0, 1) if ends[0] >= ends[1] else (1, 0)
    lines = []
    for cube, place in zip(cubes, places, strict=True):
        cells = [_cells(v, start, size) for v, start in zip(place, (x0, y0), strict=True)]
        lines.append(Line(cube, along=cells[order[0]], across=cells[order[1]]))
    return lines, size


def ground_coordinates(cubes: Sequence[xr.DataArray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Coordinates x and y of every pixel, both (y, x), in one CRS; NaN where unknown.

    Raises
    ------
    GridMismatch
    """
    places: list[tuple[np.ndarray, np.ndarray]] = []
    crs = None
    for number, cube in enumerate(cubes, 1):
        grid = grid_of(cube)
        if grid.kind == "none":
            raise GridMismatch(
                f"line {number} has no georeference, expected a transform or longitude and latitude: give the shift of "
                "each line (--shift ALONG,ACROSS)"
            )
        if grid.kind == "swath":
            from pyproj import CRS, Transformer

            from torchspectral.geo.swaths import suitable_crs

            lon, lat = (np.asarray(cube[name].values, dtype=np.float64) for name in ("lon", "lat"))
            crs = crs or suitable_crs(lon, lat)
            x, y = Transformer.from_crs(CRS.from_epsg(4326), crs, always_xy=True).transform(lon, lat)
            x, y = (np.where(np.isfinite(v), v, np.nan) for v in (x, y))
        else:
            if crs is not None and grid.crs is not None and grid.crs != crs:
                raise GridMismatch(f"line {number} is in {grid.crs.name}, the first in {crs.name}: bring them into one")
            crs = crs or grid.crs
            col, row = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
            x, y = to_ground(grid.transform, col, row)
        if not np.isfinite(x).any():
            raise GridMismatch(f"line {number} has no pixel with known coordinates")
        places.append((x, y))
    return places


def _cells(values: np.ndarray, start: float, size: float) -> np.ndarray:
    far = np.iinfo(np.int32).max
    cells = np.floor((values - start) / size + 1e-6)
    return np.where(np.isfinite(values), np.clip(cells, -1, far), -1).astype(np.int32)


def _spacing(x: np.ndarray, y: np.ndarray) -> float:
    steps = [np.hypot(np.diff(x, axis=n), np.diff(y, axis=n)) for n in (0, 1)]
    known = [float(np.nanmedian(s)) for s in steps if s.size and np.isfinite(s).any()]
    return max(known) if known else 0.0


def sum_cells(
    lines: Sequence[Line],
    bands: np.ndarray,
    *,
    dark: np.ndarray | None = None,
    ceiling: float | None = None,
    hold_out: bool = True,
    progress: Progress = no_progress,
) -> tuple[CellSums, CellSums]:
    """Sums over the ground that the lines share, streamed; a part of the ground apart, to test on.

    Parameters
    ----------
    bands : ndarray of int
    dark : ndarray, shape (bands, x) or (bands, 1), optional
        Taken off first.
    ceiling : float, optional
        Stored values from here on are saturated.

    Returns
    -------
    CellSums, CellSums
        To solve with, and held out (empty without `hold_out`).
    """
    widths = {line.cols for line in lines}
    if len(widths) > 1:
        raise BadInput(f"the lines have {sorted(widths)} columns, expected the same detectors in all of them")
    detectors = widths.pop()
    used, held = CellSums(detectors, len(bands)), CellSums(detectors, len(bands))
    low, high = _along(lines)
    first, last = _across(lines)
    wide = max(last - first, detectors)
    step = max(1, BLOCK_VALUES // max(1, len(lines) * len(bands) * wide) // HELD_ROWS) * HELD_ROWS
    for start, stop in _blocks(lines, low, high + 1, step):
        cell, detector, along, values = _block(lines, start, stop, bands, dark, ceiling)
        if cell.size:
            apart = (
                (along - low) // HELD_ROWS % HELD_EVERY == HELD_EVERY // 2 if hold_out else np.zeros(cell.size, bool)
            )
            for sums, part in ((used, ~apart), (held, apart)):
                if part.any():
                    sums.add(cell[part], detector[part], values[:, part])
        progress(Step("overlap", (stop - low) / (high + 1 - low)))
    return used, held


def _blocks(lines: Sequence[Line], low: int, end: int, step: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most `step` cells along, from `low`, that some line has pixels on."""
    ranges = sorted(
        {pair for line in lines for pair in zip((line.first - low) // step, (line.last - low) // step, strict=True)}
    )
    done = 0
    for first, last in ranges:
        for number in range(max(int(first), done), int(last) + 1):
            yield low + number * step, min(low + (number + 1) * step, end)
        done = max(done, int(last) + 1)


def _along(lines: Sequence[Line]) -> tuple[int, int]:
    """First and last cell along; coordinates that are not known are -1."""
    low = min(int(line.first.min()) for line in lines)
    return (max(0, low) if lines[0].along is not None else low), max(int(line.last.max()) for line in lines)


def _across(lines: Sequence[Line]) -> tuple[int, int]:
    low = min(line.shift[1] if line.across is None else int(line.across.min()) for line in lines)
    high = max(line.shift[1] + line.cols if line.across is None else int(line.across.max()) + 1 for line in lines)
    return low, high


def _block(
    lines: Sequence[Line], start: int, stop: int, bands: np.ndarray, dark: np.ndarray | None, ceiling: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Observations on cells `start` to `stop` along: cell, detector, cell along, values (bands, n)."""
    cells, detectors, alongs, values = [], [], [], []
    first, last = _across(lines)
    for line in lines:
        for part in _pieces(line.lines(start, stop), len(bands) * line.cols):
            along, across = line.cells(part)
            inside = (along >= start) & (along < stop) & (across >= 0 if line.across is not None else True)
            if not inside.any():
                continue
            block = values_of(line.cube[bands, part], ceiling)
            if dark is not None:
                block -= dark[:, None, :]
            values.append(block[:, inside])
            cells.append((along[inside].astype(np.int64) - start) * (last - first + 1) + (across[inside] - first))
            detectors.append(np.nonzero(inside)[1])
            alongs.append(along[inside].astype(np.int64))
    if not cells:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((len(bands), 0))
    return np.concatenate(cells), np.concatenate(detectors), np.concatenate(alongs), np.concatenate(values, axis=1)


def _pieces(part: slice, row_values: int) -> Iterator[slice]:
    step = max(1, BLOCK_VALUES // max(1, row_values))
    for start in range(part.start, part.stop, step):
        yield slice(start, min(start + step, part.stop))
