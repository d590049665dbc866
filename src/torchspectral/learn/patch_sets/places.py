"""Where patches lie, which of them go into which part, and what the parts share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from torchspectral.errors import BadInput
from torchspectral.learn.patch_sets.entries import PARTS, TEST
from torchspectral.learn.patch_sets.index import BROKEN, Index
from torchspectral.learn.splits import HELD_OUT, TRAIN

DEGREE = 111_194.9
"""Metres of a degree of latitude."""
NEEDED = 20
"""Blocks that a set shall have at least."""


@dataclass(frozen=True)
class Ground:
    """Middle and half side of each patch on the ground [m], NaN where it lies nowhere.

    `middle` (n, 3) are places on a sphere, so that distances hold across map zones and poles.
    """

    middle: np.ndarray
    half: np.ndarray
    lonlat: np.ndarray


def ground_of(index: Index) -> Ground:
    """Places of all patches; one transformation a map zone."""
    from rasterio.crs import CRS
    from rasterio.warp import transform

    n = len(index)
    lonlat = np.full((n, 2), np.nan)
    half = np.full(n, np.nan)
    box, number = index.columns["box"], index.columns["crs"]
    for k, text in enumerate(index.crs):
        rows = np.flatnonzero((number == k) & np.isfinite(box).all(1))
        if not rows.size:
            continue
        west, south, east, north = box[rows].T
        crs = CRS.from_string(text)
        x, y = (west + east) / 2, (south + north) / 2
        lon, lat = transform(crs, CRS.from_epsg(4326), np.append(x, x), np.append(y, north))
        low, high = np.asarray(lat[: rows.size]), np.asarray(lat[rows.size :])
        lonlat[rows] = np.column_stack([lon[: rows.size], low])
        half[rows] = np.abs(high - low) * DEGREE
    lon, lat = np.radians(lonlat).T
    sphere = np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    return Ground(sphere * np.degrees(1) * DEGREE, half, lonlat)


@dataclass(frozen=True)
class Split:
    """Rows of each part and what is to be said of it.

    Attributes
    ----------
    rows : dict of str to ndarray
    sentence : str
    shared, near : float
        Share of held-out patches that overlap a training patch, or lie within `guard` metres of one; NaN where
        nothing is known of the places.
    guard : float
    left_out : int
        Training patches that lay within the guard.
    """

    rows: dict[str, np.ndarray]
    sentence: str
    shared: float
    near: float
    guard: float
    left_out: int = 0


def split_rows(
    index: Index,
    keep: np.ndarray,
    *,
    how: str = "blocks",
    held_out: float = 0.2,
    block: float = 0.0,
    guard: float = -1.0,
    seed: int = 0,
    ground: Ground | None = None,
) -> Split:
    """The parts of a set: the published ones, else blocks of ground (or, asked for, patches at random).

    Parameters
    ----------
    keep : ndarray of int
        Rows to deal out.
    how : {"blocks", "random"}
        Only where nothing is published. Patches of one place stay together either way, but for "random".
    held_out : float
        Share of the blocks or patches.
    block : float
        Side of a block [m]; 0: the largest of 128, 64, .. patches that gives 20 blocks, else places one by one.
    guard : float
        Training patches this near to a held-out one are left out [m]; -1: the side of a patch, 0 where places one by
        one are dealt out.
    seed : int

    Raises
    ------
    BadInput
        One place alone.
    """
    ground = ground if ground is not None else ground_of(index)
    keep = keep[index.columns["kind"][keep] != BROKEN]
    part = index.columns["part"][keep]
    rows = {name: keep[part == PARTS.index(name)] for name in (TRAIN, HELD_OUT, TEST)}
    published = bool(rows[TRAIN].size)
    if published and rows[HELD_OUT].size:
        return _judged(index, ground, rows, "published split", 0.0)
    pool = rows[TRAIN] if published else keep[part == 0]
    kind = "held-out part dealt out of the training part, " if published else ""
    rng = np.random.default_rng([seed, 1])
    if how == "random":
        order = rng.permutation(pool.size)
        count = _share(pool.size, held_out)
        rows[HELD_OUT], rows[TRAIN] = np.sort(pool[order[:count]]), np.sort(pool[order[count:]])
        return _judged(index, ground, rows, f"{kind}patches at random", 0.0)
    block_of, side = _blocks(index, ground, pool, block)
    names = np.unique(block_of)
    if names.size < 2:
        raise BadInput(
            f"the {pool.size} patches lie in one place: expected at least two, choose split=random or smaller blocks"
        )
    chosen = rng.permutation(names)[: _share(names.size, held_out)]
    held = np.isin(block_of, chosen)
    rows[HELD_OUT], rows[TRAIN] = pool[held], pool[~held]
    # The published test part must not be trained beside, either.
    others = np.concatenate([rows[HELD_OUT], rows[TEST]])
    least = guard if guard >= 0 else (2 * float(np.nanmedian(ground.half[pool])) if side else 0.0)
    before = rows[TRAIN].size
    if least > 0:
        rows[TRAIN] = rows[TRAIN][_gap(ground, rows[TRAIN], others) >= least]
    if not rows[TRAIN].size:
        raise BadInput(f"no training patch lies {least:.0f} m from the held-out ones: choose a smaller guard")
    what = f"{kind}blocks of {side / 1000:.3g} km" if side else f"{kind}places one by one"
    return _judged(index, ground, rows, what, least, before - rows[TRAIN].size)


def _share(count: int, held_out: float) -> int:
    return min(max(round(held_out * count), 1), count - 1)


def _blocks(index: Index, ground: Ground, pool: np.ndarray, block: float) -> tuple[np.ndarray, float]:
    """Number of the block of each patch, and their side [m]; places where no side gives enough blocks."""
    place = index.columns["place"][pool]
    lonlat = ground.lonlat[pool]
    if not np.isfinite(lonlat).all():
        return place, 0.0
    # One spot a place, so that its dates stay together whatever their boxes.
    order = np.argsort(place, kind="stable")
    first = order[np.unique(place[order], return_index=True)[1]]
    spot = np.empty((int(place.max()) + 1, 2))
    spot[place[first]] = lonlat[first]
    width = 2 * float(np.nanmedian(ground.half[pool]))
    sides = [block] if block > 0 else [width * 2**k for k in range(7, 0, -1)]
    for side in sides:
        found = _cells(spot[place], side)
        if block > 0 or np.unique(found).size >= NEEDED:
            return found, float(side)
    return place, 0.0


def _cells(lonlat: np.ndarray, side: float) -> np.ndarray:
    row = np.floor(lonlat[:, 1] * DEGREE / side)
    # Columns are counted along the middle of their row of blocks, so that all blocks have one size.
    middle = np.radians(np.clip((row + 0.5) * side / DEGREE, -89.9, 89.9))
    col = np.floor(lonlat[:, 0] * np.cos(middle) * DEGREE / side)
    return np.unique(np.column_stack([row, col]), axis=0, return_inverse=True)[1].reshape(-1)


def _gap(ground: Ground, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance [m] from each patch to the nearest of others, edge to edge along the axes; below 0: they overlap."""
    here, there = ground.middle[rows], ground.middle[others]
    fine, known = np.isfinite(here).all(1), np.isfinite(there).all(1)
    gap = np.full(rows.size, np.inf)
    if not fine.any() or not known.any():
        return gap
    distance, nearest = cKDTree(there[known]).query(here[fine])
    a, b = ground.lonlat[rows[fine]], ground.lonlat[others[known][nearest]]
    # The nearest middle decides; patches of one set have about one size.
    across = np.abs((a[:, 0] - b[:, 0] + 180) % 360 - 180) * np.cos(np.radians(a[:, 1])) * DEGREE
    down = np.abs(a[:, 1] - b[:, 1]) * DEGREE
    sides = ground.half[rows[fine]] + ground.half[others[known][nearest]]
    gap[fine] = np.where(distance < 1e6, np.maximum(across, down), distance) - sides
    return gap


def _judged(
    index: Index, ground: Ground, rows: dict[str, np.ndarray], what: str, guard: float, left_out: int = 0
) -> Split:
    held, train = rows[HELD_OUT], rows[TRAIN]
    same = float(np.isin(index.columns["place"][held], index.columns["place"][train]).mean()) if held.size else 0.0
    if not np.isfinite(ground.lonlat[train]).all(1).any() or not np.isfinite(ground.lonlat[held]).all(1).any():
        text = f"{what}: where the patches lie is not known; {same:.0%} of the held-out ones are of a place that trains"
        return Split(rows, text, np.nan, np.nan, guard, left_out)
    gap = _gap(ground, held, train)
    side = 2 * float(np.nanmedian(ground.half[held]))
    near = guard if guard > 0 else side
    # Rounding of coordinates: patches edge to edge do not overlap.
    shared, close = float((gap < -0.02 * side).mean()), float((gap < near - 0.02 * side).mean())
    shared = max(shared, same)
    close = max(close, shared)
    text = (
        f"{what}: {shared:.0%} of the held-out patches overlap training patches and {close:.0%} lie within "
        f"{near / 1000:.3g} km of one"
    )
    if left_out:
        text += f"; {left_out} training patches within {guard / 1000:.3g} km were left out"
    if close:
        text += ": figures of this split are too good"
    return Split(rows, text, shared, close, guard, left_out)
