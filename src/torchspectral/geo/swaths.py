"""From the longitudes and latitudes of a swath to a map grid: suitable CRS, pixel size, lookup table, inverse map."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer

from torchspectral.errors import BadInput, GridMismatch
from torchspectral.geo.glt import GLT
from torchspectral.geo.grids import Grid, parse_crs, to_ground

_ROWS_AT_ONCE = 128


_UPS = {True: 5041, False: 5042}  # WGS 84 / UPS North and South, axes east, north


def suitable_crs(lon: np.ndarray, lat: np.ndarray) -> CRS:
    """A projected CRS that holds the points without tearing them apart.

    The UTM zone (WGS 84) at their centre; beyond 84 deg N and 80 deg S, and for scenes wider than 12 deg of longitude
    beyond 60 deg, polar stereographic (UPS); other scenes wider than 12 deg are put into longitude and latitude.

    Parameters
    ----------
    lon, lat : ndarray
        WGS 84 [deg]; NaN where unknown.
    """
    finite = np.isfinite(lon) & np.isfinite(lat)
    centre = _middle_longitude(lon[finite])
    middle = float(np.median(lat[finite]))
    width = float(np.ptp((lon[finite] - centre + 180) % 360 - 180))
    if not -80 <= middle <= 84 or (width > 12 and abs(middle) > 60):
        return CRS.from_epsg(_UPS[middle > 0])
    if width > 12:
        return CRS.from_epsg(4326)
    zone = int((centre + 180) // 6) % 60 + 1
    return CRS.from_epsg((32600 if middle >= 0 else 32700) + zone)


def _middle_longitude(lon: np.ndarray) -> float:
    angle = np.deg2rad(lon)
    return math.degrees(math.atan2(float(np.sin(angle).mean()), float(np.cos(angle).mean())))


class SwathOnMap:
    """Pixel centres of a swath in map coordinates, with what is needed to go back.

    Parameters
    ----------
    lon, lat : array_like, shape (y, x)
        Pixel centres, WGS 84 [deg]; NaN where unknown.
    crs : CRS, optional
        Map coordinates; `suitable_crs` by default.

    Raises
    ------
    BadInput
        Fewer than 2 x 2 pixels, or hardly any finite position.
    GridMismatch
        Positions outside -180..360, -90..90, or unequal shapes; a CRS that has no place for some of them, or that
        tears the scene apart (the pole in longitude and latitude, the far side of a projection).

    Notes
    -----
    Memory: six float64 arrays of the swath's size.
    """

    def __init__(self, lon: Any, lat: Any, crs: Any = None) -> None:
        lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        if lon.shape != lat.shape or lon.ndim != 2:
            raise GridMismatch(f"lon has shape {lon.shape} and lat {lat.shape}, expected two equal 2-D arrays")
        if min(lon.shape) < 2:
            raise BadInput(f"a swath of {lon.shape} pixels has no pixel size: at least 2 x 2 are needed")
        finite = np.isfinite(lon) & np.isfinite(lat)
        if finite.sum() < 4:
            raise BadInput(f"only {int(finite.sum())} pixels of the swath have a position: nothing to put on a map")
        if np.abs(lat[finite]).max() > 90 or lon[finite].min() < -180.001 or lon[finite].max() > 360.001:
            raise GridMismatch("lon and lat are not degrees: expected -180..360 and -90..90 (NaN where unknown)")
        self.crs = parse_crs(crs) or suitable_crs(lon, lat)
        transformer = Transformer.from_crs(CRS.from_epsg(4326), self.crs, always_xy=True)
        if self.crs.is_geographic:
            # Longitudes that jump by 360 degrees inside the scene would spread it over the globe.
            centre = _middle_longitude(lon[finite])
            lon = centre + (lon - centre + 180) % 360 - 180
        x, y = transformer.transform(np.where(finite, lon, np.nan), np.where(finite, lat, np.nan))
        lost = finite & ~(np.isfinite(x) & np.isfinite(y))
        if lost.any():
            raise GridMismatch(
                f"{int(lost.sum())} of {int(finite.sum())} pixels of the swath have no place in {self.crs.name}: choose "
                "another CRS, or none for one that fits the scene"
            )
        self.x, self.y = np.where(finite, x, np.nan), np.where(finite, y, np.nan)
        self.shape = self.x.shape
        self.steps = tuple(np.gradient(a, axis=axis) for axis in (0, 1) for a in (self.x, self.y))
        area = np.abs(self.steps[0] * self.steps[3] - self.steps[1] * self.steps[2])
        self.pixel = float(np.sqrt(np.nanmedian(area))) if np.isfinite(area).any() else 0.0
        if not self.pixel > 0:
            raise BadInput("the positions of the swath fall on one line: no pixel size can be told")
        self._check_whole()

    def _check_whole(self) -> None:
        """Refuse coordinates that jump between neighbours."""
        for values in (self.x, self.y):
            extent = float(np.nanmax(values) - np.nanmin(values))
            for axis in (0, 1):
                jump = np.abs(np.diff(values, axis=axis))
                if np.isfinite(jump).any() and np.nanmax(jump) > max(0.45 * extent, 50 * self.pixel):
                    raise GridMismatch(
                        f"the swath is torn apart in {self.crs.name} (neighbouring pixels lie {np.nanmax(jump):g} of its "
                        "units apart): it holds a pole or the edge of that map; leave the CRS away, or take one made "
                        "for the place, such as EPSG:5041 (north pole), EPSG:5042 (south pole) or a UTM zone"
                    )

    def grid(self, resolution: float | None = None) -> Grid:
        """Map grid that holds the swath, its origin at a multiple of the pixel size."""
        size = resolution if resolution is not None else float(f"{self.pixel:.4g}")
        if not (math.isfinite(size) and size > 0):
            raise GridMismatch(f"got resolution {resolution}, expected a positive number in units of {self.crs.name}")
        half = self.pixel / 2
        west = math.floor((float(np.nanmin(self.x)) - half) / size) * size
        north = math.ceil((float(np.nanmax(self.y)) + half) / size) * size
        width = max(1, math.ceil((float(np.nanmax(self.x)) + half - west) / size - 1e-9))
        height = max(1, math.ceil((north - float(np.nanmin(self.y)) + half) / size - 1e-9))
        return Grid("map", width, height, Affine(size, 0.0, west, 0.0, -size, north), self.crs)

    def nearest(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """0-based sensor row and column next to each map pixel, int32 shape (height, width); -1 beyond the swath.

        Beyond means farther than half the local pixel diagonal from any sensor pixel centre.
        """
        from scipy.spatial import cKDTree

        known = np.isfinite(self.x) & np.isfinite(self.y)
        index = np.flatnonzero(known)
        tree = cKDTree(np.column_stack([self.x.ravel()[index], self.y.ravel()[index]]))
        dxr, dyr, dxc, dyc = self.steps
        reach = 0.5 * np.fmax(np.hypot(dxr + dxc, dyr + dyc), np.hypot(dxr - dxc, dyr - dyc)).ravel()
        # Where a neighbour is unknown the local step is too: the scene's own pixel stands in.
        reach = np.where(np.isfinite(reach), reach, self.pixel * math.sqrt(0.5)) * 1.01
        limit = float(reach[index].max())
        rows = np.full(grid.shape, -1, dtype=np.int32)
        cols = np.full(grid.shape, -1, dtype=np.int32)
        centres = np.arange(grid.width) + 0.5
        for start in range(0, grid.height, _ROWS_AT_ONCE):
            lines = np.arange(start, min(start + _ROWS_AT_ONCE, grid.height)) + 0.5
            x, y = to_ground(grid.transform, *np.meshgrid(centres, lines))
            distance, hit = tree.query(np.column_stack([x.ravel(), y.ravel()]), distance_upper_bound=limit)
            found = np.flatnonzero(np.isfinite(distance))
            pixel = index[hit[found]]
            close = distance[found] <= reach[pixel]
            found, pixel = found[close], pixel[close]
            block = slice(start, start + lines.size)
            rows[block].reshape(-1)[found] = pixel // self.shape[1]
            cols[block].reshape(-1)[found] = pixel % self.shape[1]
        return rows, cols

    def positions(self, grid: Grid, near: tuple[np.ndarray, np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Fractional sensor row and column of each map pixel centre, float32 shape (height, width); NaN where unseen.

        Newton steps invert the bilinear map (row, column) -> (x, y), from the sensor pixels `near` the map pixels
        (0-based, -1 where unseen; those of `nearest` by default). Where they lead away, in folded swaths say, the
        near pixel itself is the place.
        """
        near_rows, near_cols = self.nearest(grid) if near is None else near
        rows = np.full(grid.shape, np.nan, dtype=np.float32)
        cols = np.full(grid.shape, np.nan, dtype=np.float32)
        centres = np.arange(grid.width) + 0.5
        for start in range(0, grid.height, _ROWS_AT_ONCE):
            block = slice(start, min(start + _ROWS_AT_ONCE, grid.height))
            seen = near_rows[block] >= 0
            if not seen.any():
                continue
            lines = np.arange(block.start, block.stop) + 0.5
            x, y = (a[seen] for a in to_ground(grid.transform, *np.meshgrid(centres, lines)))
            rows[block][seen], cols[block][seen] = self._inverted(x, y, near_rows[block][seen], near_cols[block][seen])
        return rows, cols

    def _inverted(self, x: np.ndarray, y: np.ndarray, r0: np.ndarray, c0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dxr, dyr, dxc, dyc = (step[r0, c0] for step in self.steps)
        det = dxr * dyc - dxc * dyr
        row, col = r0.astype(np.float64), c0.astype(np.float64)
        last = self.shape[0] - 1, self.shape[1] - 1
        for _ in range(3):
            ex, ey = self._miss(x, y, row, col, (dxr, dyr, dxc, dyc))
            with np.errstate(divide="ignore", invalid="ignore"):
                row = np.clip(
                    row + (ex * dyc - ey * dxc) / det, np.maximum(r0 - 2, -0.5), np.minimum(r0 + 2, last[0] + 0.5)
                )
                col = np.clip(
                    col + (ey * dxr - ex * dyr) / det, np.maximum(c0 - 2, -0.5), np.minimum(c0 + 2, last[1] + 0.5)
                )
        with np.errstate(invalid="ignore"):
            miss = np.hypot(*self._miss(x, y, row, col, (dxr, dyr, dxc, dyc)))
            # Beyond the edge the place is held back by up to half a pixel's diagonal.
            kept = miss <= np.hypot(np.hypot(dxr, dyr), np.hypot(dxc, dyc))
        return np.where(kept, row, r0), np.where(kept, col, c0)

    def _miss(
        self, x: np.ndarray, y: np.ndarray, row: np.ndarray, col: np.ndarray, steps: tuple[np.ndarray, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ground from a fractional place to (x, y); beyond the outer centres the local step goes on."""
        from scipy.ndimage import map_coordinates

        dxr, dyr, dxc, dyc = steps
        at = np.stack([np.clip(row, 0, self.shape[0] - 1), np.clip(col, 0, self.shape[1] - 1)])
        over = row - at[0], col - at[1]
        here_x, here_y = (map_coordinates(a, at, order=1, mode="nearest") for a in (self.x, self.y))
        return x - here_x - over[0] * dxr - over[1] * dxc, y - here_y - over[0] * dyr - over[1] * dyc


def build_glt(lon: Any, lat: Any, *, resolution: float | None = None, crs: Any = None, grid: Grid | None = None) -> GLT:
    """Lookup table of a swath by nearest neighbour.

    Parameters
    ----------
    lon, lat : array_like, shape (y, x)
        Pixel centres, WGS 84 [deg]; NaN where unknown.
    resolution : float, optional
        Pixel size in units of the CRS; by default the median pixel of the swath.
    crs : optional
        CRS of the map; by default the UTM zone of the scene.
    grid : Grid, optional
        The map grid itself; then `resolution` and `crs` must be absent.

    Returns
    -------
    GLT
        Its numbers count pixels of `lon`, 1-based; empty where no pixel centre lies within half the local pixel
        diagonal.

    Raises
    ------
    GridMismatch, BadInput
        Positions that are no degrees, or too few of them.
    """
    if grid is not None and (resolution is not None or crs is not None):
        raise GridMismatch("got a grid and a resolution or CRS, expected one or the other")
    swath = SwathOnMap(lon, lat, grid.crs if grid is not None else crs)
    grid = grid or swath.grid(resolution)
    rows, cols = swath.nearest(grid)
    return GLT(cols + 1, rows + 1, grid.transform, grid.crs)
