"""The ground that a scene covers, as GeoJSON in WGS 84: also across the antimeridian and around a pole."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from pyproj import CRS, Transformer

from torchspectral.geo.grids import Grid, grid_of, to_ground

_WGS84 = CRS.from_epsg(4326)
_POINTS = 24
_DIGITS = 7
_STRAIGHT = 2e-6  # degrees by which a point may lie beside the line that replaces it, some 20 cm


def footprint(cube: xr.DataArray) -> tuple[dict[str, Any] | None, list[float] | None]:
    """Outline of a cube or of layers, and its bounding box.

    Parameters
    ----------
    cube : DataArray, shape (..., y, x)
        On a map or rotated grid: the outer edges of its pixels, with points in between, as straight lines are not
        straight in other coordinates. On a swath: the outer edges of the pixels whose ``lon`` and ``lat`` are known.

    Returns
    -------
    geometry : dict or None
        GeoJSON Polygon, or MultiPolygon where it is cut along the antimeridian; counter-clockwise. None where the
        image lies nowhere.
    bbox : list of float or None
        West, south, east, north [deg]; west > east across the antimeridian.

    References
    ----------
    RFC 7946 (GeoJSON), sections 3.1.6, 3.1.9, 5.2.
    """
    grid = grid_of(cube)
    slack = _STRAIGHT
    if grid.kind == "swath":
        places = np.asarray(cube["lon"].values, float), np.asarray(cube["lat"].values, float)
        steps = np.abs(np.diff(places[1], axis=0)), np.abs(np.diff(places[1], axis=1))
        known = [float(np.nanmedian(s)) for s in steps if np.isfinite(s).any()]
        # Relief makes the edges of a swath ragged; a tenth of a pixel of that need not be told.
        slack = max(slack, 0.1 * max(known, default=0.0))
        lon, lat = _swath_ring(*places)
    elif grid.kind == "none" or grid.crs is None:
        return None, None
    else:
        lon, lat = _grid_ring(grid)
    finite = np.isfinite(lon) & np.isfinite(lat)
    lon, lat = lon[finite], lat[finite]
    if lon.size < 3:
        return None, None
    return _geojson(lon, lat, slack)


def _grid_ring(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    t = np.linspace(0.0, 1.0, _POINTS, endpoint=False)
    zero = np.zeros_like(t)
    col = np.concatenate([zero, t, zero + 1, 1 - t]) * grid.width
    row = np.concatenate([t, zero + 1, 1 - t, zero]) * grid.height
    x, y = to_ground(grid.transform, col, row)
    if grid.crs == _WGS84:
        return x, np.clip(y, -90, 90)
    lon, lat = Transformer.from_crs(grid.crs, _WGS84, always_xy=True).transform(x, y)
    return np.asarray(lon), np.asarray(lat)


def _swath_ring(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outer edges of a swath's known pixels, half a pixel beyond their centres, as points on the sphere."""
    known = np.isfinite(lon) & np.isfinite(lat)
    rows = np.flatnonzero(known.any(axis=1))
    if rows.size == 0:
        return np.empty(0), np.empty(0)
    first, last = known.argmax(axis=1), known.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
    top, bottom = rows[0], rows[-1]
    left = [(r, first[r]) for r in _thinned(rows)]
    low = [(bottom, c) for c in _thinned(np.flatnonzero(known[bottom]))]
    right = [(r, last[r]) for r in _thinned(rows)[::-1]]
    high = [(top, c) for c in _thinned(np.flatnonzero(known[top]))[::-1]]
    # Each side with the step outwards, in half pixels.
    sides = ((left, 0, -1), (low, 1, 0), (right, 0, 1), (high, -1, 0))
    at, out = [], []
    for number, (places, down, across) in enumerate(sides):
        before, after = sides[number - 1], sides[(number + 1) % 4]
        for place, (row, col) in enumerate(places):
            step = np.array([down, across], dtype=float)
            # The corners lie half a pixel beyond both sides that meet there.
            if place == 0:
                step = step + np.array(before[1:])
            elif place == len(places) - 1:
                step = step + np.array(after[1:])
            at.append((row, col))
            out.append(step)
    places_, steps = np.array(at), np.array(out)
    a, o = np.deg2rad(lat), np.deg2rad(lon)
    sphere = np.stack([np.cos(a) * np.cos(o), np.cos(a) * np.sin(o), np.sin(a)], axis=-1)
    here = sphere[places_[:, 0], places_[:, 1]]
    edge = here.copy()
    for axis in (0, 1):
        inner = places_.copy()
        inner[:, axis] = np.clip(inner[:, axis] - np.sign(steps[:, axis]).astype(int), 0, lon.shape[axis] - 1)
        beside = sphere[inner[:, 0], inner[:, 1]]
        move = 0.5 * (here - beside)
        edge += np.where(np.isfinite(move), move, 0.0)
    edge /= np.linalg.norm(edge, axis=1, keepdims=True)
    return np.rad2deg(np.arctan2(edge[:, 1], edge[:, 0])), np.rad2deg(np.arcsin(np.clip(edge[:, 2], -1, 1)))


def _thinned(index: np.ndarray) -> np.ndarray:
    return np.unique(index[np.rint(np.linspace(0, index.size - 1, min(index.size, _POINTS))).astype(int)])


def _geojson(lon: np.ndarray, lat: np.ndarray, slack: float) -> tuple[dict[str, Any], list[float]]:
    """Polygon of an open ring, cut where it crosses the antimeridian, led over the pole where it goes around one."""
    steps = np.diff(np.append(lon, lon[0]))
    steps = steps - 360 * np.rint(steps / 360)
    along = np.concatenate([[lon[0]], lon[0] + np.cumsum(steps)])
    south, north = float(lat.min()), float(lat.max())
    turns = round((along[-1] - along[0]) / 360)
    if turns:
        pole = 90.0 if lat.mean() > 0 else -90.0
        along, around = _from_antimeridian(along, lat)
        ring = [*zip(along, around, strict=True), (along[-1], pole), (along[0], pole)]
        south, north = min(south, pole), max(north, pole)
    else:
        ring = list(zip(along[:-1], lat, strict=True))
    ring = [(float(x), float(y)) for x, y in ring]
    west, east = min(p[0] for p in ring), max(p[0] for p in ring)
    ring = [ring[n] for n in _bends(np.array(ring), slack)]
    parts = []
    for turn in range(int(np.floor((west + 180) / 360)), int(np.ceil((east + 180) / 360))):
        part = _clipped(_clipped(ring, 360 * turn - 180.0, 1), 360 * turn + 180.0, -1)
        closed = _closed([(x - 360 * turn, y) for x, y in part])
        if len(closed) >= 4:
            parts.append([closed])
    if east - west >= 360 - 1e-9:
        bbox = [-180.0, south, 180.0, north]
    else:
        shift = 360 * np.floor((west + 180) / 360)
        west, east = west - shift, east - shift
        bbox = [west, south, east - 360 if east > 180 else east, north]
    rounded = [round(float(v), _DIGITS) for v in bbox]
    if len(parts) == 1:
        return {"type": "Polygon", "coordinates": parts[0]}, rounded
    return {"type": "MultiPolygon", "coordinates": parts}, rounded


def _from_antimeridian(along: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A ring around a pole, closed, that starts and ends at 180 degrees."""
    lat = np.append(lat, lat[0])
    sense = np.sign(along[-1] - along[0])
    start = 360 * np.ceil((min(along[0], along[-1]) + 180) / 360) - 180
    after = int(np.flatnonzero(sense * along >= sense * start)[0])
    height = float(np.interp(sense * start, sense * along, lat))
    turned = np.concatenate([[start], along[after:], along[1:after] + sense * 360, [start + sense * 360]])
    return turned, np.concatenate([[height], lat[after:], lat[1:after], [height]])


def _bends(ring: np.ndarray, slack: float) -> list[int]:
    """Points of an open ring that its shape needs, to `slack` degrees (Douglas and Peucker 1973)."""
    far = int(np.argmax(np.hypot(*(ring - ring[0]).T)))
    kept, pending = {0, far}, [(0, far), (far, len(ring))]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        start, line = ring[first], ring[last % len(ring)] - ring[first]
        between = ring[first + 1 : last] - start
        share = np.clip(between @ line / max(float(line @ line), 1e-30), 0, 1)
        off = np.hypot(*(between - share[:, None] * line).T)
        worst = int(np.argmax(off))
        if off[worst] > slack:
            kept.add(first + 1 + worst)
            pending += [(first, first + 1 + worst), (first + 1 + worst, last)]
    return sorted(kept)


def _clipped(ring: list[tuple[float, float]], limit: float, sign: int) -> list[tuple[float, float]]:
    """The part of a ring on one side of a meridian (Sutherland and Hodgman 1974)."""
    out = []
    for number, (x, y) in enumerate(ring):
        px, py = ring[number - 1]
        inside, before = sign * (x - limit) >= 0, sign * (px - limit) >= 0
        if inside != before:
            out.append((limit, py + (y - py) * (limit - px) / (x - px)))
        if inside:
            out.append((x, y))
    return out


def _closed(ring: list[tuple[float, float]]) -> list[list[float]]:
    """Rounded, without repeated points, counter-clockwise, its first point again at its end; [] where it has no area."""
    points: list[list[float]] = []
    for x, y in ring:
        point = [round(x, _DIGITS), round(y, _DIGITS)]
        if not points or point != points[-1]:
            points.append(point)
    if len(points) > 1 and points[0] == points[-1]:
        points.pop()
    if len(points) < 3:
        return []
    x, y = np.array(points).T
    area = float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
    if abs(area) < 1e-14:
        return []
    if area < 0:
        points.reverse()
    return [*points, points[0]]
