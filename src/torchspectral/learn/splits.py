"""Splits of ground: what trains must not lie beside what validates.

Neighbouring pixels of a scene are alike, and patches that overlap share pixels; a random split therefore measures
memory, not skill. Blocks of ground with a guard distance between the parts are the default; `leakage` says how much a
random split shares.

References
----------
Roberts et al., "Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic structure",
Ecography 40 (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise

import numpy as np

from torchspectral.engine.method import Window
from torchspectral.errors import BadInput, BadSettings

TRAIN, HELD_OUT = "train", "held-out"
Grid = list[list[Window]]


@dataclass(frozen=True)
class Area:
    """Rectangle of one scene that belongs to one part.

    Attributes
    ----------
    scene : int
        Position in the list of scenes.
    window : Window
        Lead pixels that may be used: the guard towards other parts is already taken off.
    part : str
        "train" or "held-out".
    ground : Window
        What may be read to make the patches: `window` with the guard, and ground of the same part beyond the block.
    """

    scene: int
    window: Window
    part: str
    ground: Window

    def patches(self, size: int, stride: int, multiple: int = 1) -> list[Window]:
        """Windows of `size` pixels inside, their origins on multiples of `multiple`; the last ones end at the edge."""
        rows = _starts(self.window.row, self.window.height, size, stride, multiple)
        cols = _starts(self.window.col, self.window.width, size, stride, multiple)
        return [Window(row, col, size, size) for row in rows for col in cols]

    def tiles(self, side: int, multiple: int = 1, least: int = 1) -> list[Window]:
        """The area in pieces of at most `side` pixels on multiples; pieces smaller than `least` are left out."""
        ends = []
        for start, length in ((self.window.row, self.window.height), (self.window.col, self.window.width)):
            low, high = -(-start // multiple) * multiple, (start + length) // multiple * multiple
            ends.append([(at, min(side, high - at)) for at in range(low, high, side)])
        return [Window(r, c, h, w) for r, h in ends[0] for c, w in ends[1] if min(h, w) >= least]


def _starts(first: int, length: int, size: int, stride: int, multiple: int) -> list[int]:
    low = -(-first // multiple) * multiple
    high = (first + length - size) // multiple * multiple
    if high < low:
        return []
    starts = list(range(low, high + 1, max(stride // multiple, 1) * multiple))
    return starts if starts[-1] == high else [*starts, high]


def block_split(
    shapes: Sequence[tuple[int, int]],
    *,
    held_out: float = 0.2,
    block: int = 0,
    guard: int = 0,
    least: int = 1,
    reach: int = 0,
    seed: int = 0,
    counts: Callable[[int, Window], np.ndarray | None] | None = None,
) -> list[Area]:
    """Deal blocks of ground out to training and held-out part.

    Parameters
    ----------
    shapes : sequence of (rows, columns)
        Of each scene [pixels].
    held_out : float
        Share of the ground that is held out, 0..1; at least one block, and at least one trains.
    block : int
        Side of a block [pixels]; 0 takes the largest of 512, 256, 128, .. that gives at least 16 blocks over all
        scenes and still holds a patch beside its guards, and else quarters of the ground.
    guard : int
        Least distance between pixels of different parts [pixels]; -1 takes an eighth of a block, at most `reach`.
    least : int
        Side of the smallest useful area (the patch) [pixels].
    reach : int
        How far beyond a patch is read to make it [pixels]; never into ground of another part.
    seed : int
    counts : callable, optional
        ``counts(scene, window)`` gives the labelled pixels of each class, or None: blocks are then dealt out so that
        about the wanted share of each class is held out, and each class that has two blocks lies in both parts.

    Returns
    -------
    list of Area
        Empty areas are left out; areas of different parts are at least `guard` pixels apart.

    Raises
    ------
    BadSettings, BadInput
        The scenes are too small for two parts with the guard between them.
    """
    if not 0 < held_out < 1:
        raise BadSettings(f"got a held-out share of {held_out}, expected a number between 0 and 1")
    side = block or _block_side(shapes, least + max(guard, 0))
    guard = _guard(guard, side, reach)
    grids = [_blocks(shape, side) for shape in shapes]
    order = np.random.default_rng([seed, 1]).permutation(sum(len(g) * len(g[0]) for g in grids))
    total = len(order)
    if total < 2:
        raise BadInput(
            f"{len(shapes)} scene of {shapes[0][0]} x {shapes[0][1]} pixels gives one block of {side}: expected at "
            "least two blocks, choose a smaller block or give more scenes"
        )
    held = set(order[: min(max(round(held_out * total), 1), total - 1)].tolist())
    known = _counted(grids, counts)
    if known is not None:
        held = balanced(known, held_out, seed=seed)
    parts = _labels(grids, held)
    areas = _with_guard(grids, parts, guard, reach)
    _check_parts(areas, (TRAIN, HELD_OUT), least, shapes, guard, side)
    return areas


def _counted(grids: list[Grid], counts: Callable[[int, Window], np.ndarray | None] | None) -> np.ndarray | None:
    """Labelled pixels of each class in each block, (blocks, classes)."""
    if counts is None:
        return None
    found = [counts(scene, window) for scene, grid in enumerate(grids) for row in grid for window in row]
    known = [c for c in found if c is not None]
    return np.stack(known) if len(known) == len(found) else None


def balanced(counts: np.ndarray, held_out: float, *, seed: int = 0) -> set[int]:
    """Choose the blocks to hold out so that about `held_out` of the labels of each class is in them.

    Greedy from a seeded order: the block that brings the shares of the classes nearest to `held_out` is taken, as long
    as one does, and none that would leave a class without training labels. A class that only one block has trains.

    Parameters
    ----------
    counts : ndarray of int, shape (blocks, classes)
    held_out : float

    Returns
    -------
    set of int
        Blocks; at least one, never all.
    """
    total = counts.sum(0).astype(float)
    shares = counts[:, total > 0] / total[total > 0]
    order = np.random.default_rng([seed, 1]).permutation(len(counts))
    reach = (shares > 0).sum(0)
    held: list[int] = []
    sums = np.zeros(shares.shape[1])
    while len(held) < len(counts) - 1:
        best, least = -1, np.inf if not held else float(np.square(sums - held_out).sum()) - 1e-12
        # A class that is not held out yet, though it could be, counts more than all shares.
        least += float(((sums == 0) & (reach > 1)).sum())
        for block in order:
            if block in held or (held and not counts[block].any()):
                continue
            after = sums + shares[block]
            if (after >= 1 - 1e-12).any():
                continue
            cost = float(np.square(after - held_out).sum()) + float(((after == 0) & (reach > 1)).sum())
            if cost < least:
                best, least = int(block), cost
        if best < 0:
            break
        held.append(best)
        sums = sums + shares[best]
    return set(held) or {int(order[0])}


def folds(
    shapes: Sequence[tuple[int, int]],
    k: int,
    *,
    block: int = 0,
    guard: int = 0,
    least: int = 1,
    reach: int = 0,
    seed: int = 0,
) -> list[list[Area]]:
    """Spatial k-fold: each round holds one k-th of the blocks out; arguments as in `block_split`.

    Returns
    -------
    list of list of Area
        One split a round; every block is held out once.

    Raises
    ------
    BadSettings, BadInput
    """
    if k < 2:
        raise BadSettings(f"got {k} folds, expected at least 2")
    side = block or _block_side(shapes, least + max(guard, 0), needed=4 * k)
    guard = _guard(guard, side, reach)
    grids = [_blocks(shape, side) for shape in shapes]
    total = sum(len(g) * len(g[0]) for g in grids)
    if total < k:
        raise BadInput(
            f"got {total} blocks of {side} pixels for {k} folds, expected at least as many: choose a smaller block"
        )
    dealt = np.random.default_rng([seed, 1]).permutation(total)
    fold_of = np.empty(total, dtype=int)
    fold_of[dealt] = np.arange(total) % k
    rounds = []
    for fold in range(k):
        held = set(np.flatnonzero(fold_of == fold).tolist())
        parts = _labels(grids, held)
        areas = _with_guard(grids, parts, guard, reach)
        _check_parts(areas, (TRAIN, HELD_OUT), least, shapes, guard, side)
        rounds.append(areas)
    return rounds


def _guard(guard: int, side: int, reach: int) -> int:
    return min(side // 8, reach) if guard < 0 else guard


def _block_side(shapes: Sequence[tuple[int, int]], least: int, needed: int = 16) -> int:
    for side in (512, 256, 128, 64, 32, 16):
        if side >= 2 * least and sum((r // side) * (c // side) for r, c in shapes) >= needed:
            return side
    longest = max(max(shape) for shape in shapes)
    parts = max(2, min(4, 4 * longest // (5 * max(least, 1))))
    return max(-(-longest // parts), 1)


def _blocks(shape: tuple[int, int], side: int) -> Grid:
    rows, cols = (_edges(length, side) for length in shape)
    return [[Window(r0, c0, r1 - r0, c1 - c0) for c0, c1 in pairwise(cols)] for r0, r1 in pairwise(rows)]


def _edges(length: int, side: int) -> list[int]:
    pieces = max(round(length / side), 1)
    return [round(i * length / pieces) for i in range(pieces + 1)]


def _labels(grids: list[Grid], held: set[int]) -> list[list[list[str]]]:
    number = count()
    return [[[HELD_OUT if next(number) in held else TRAIN for _ in row] for row in grid] for grid in grids]


def _with_guard(grids: list[Grid], parts: list[list[list[str]]], guard: int, reach: int) -> list[Area]:
    """Take half the guard off each side of a block that has another part beyond it (corners count for both sides)."""
    areas = []
    for scene, (grid, part) in enumerate(zip(grids, parts, strict=True)):
        for i, row in enumerate(grid):
            for j, window in enumerate(row):
                differs = {
                    (di, dj)
                    for di in (-1, 0, 1)
                    for dj in (-1, 0, 1)
                    if 0 <= i + di < len(grid) and 0 <= j + dj < len(row) and part[i + di][j + dj] != part[i][j]
                }
                top, bottom, left, right = (
                    any(d[axis] == sign for d in differs) for axis, sign in ((0, -1), (0, 1), (1, -1), (1, 1))
                )
                near, far = (guard + 1) // 2, guard // 2
                rows, read_rows = _side(window.row, window.height, near * top, far * bottom, top, bottom, reach)
                cols, read_cols = _side(window.col, window.width, near * left, far * right, left, right, reach)
                if rows[1] > 0 and cols[1] > 0:
                    inner = Window(rows[0], cols[0], rows[1], cols[1])
                    ground = Window(read_rows[0], read_cols[0], read_rows[1], read_cols[1])
                    areas.append(Area(scene, inner, part[i][j], ground))
    return areas


def _side(
    start: int, length: int, cut0: int, cut1: int, other0: bool, other1: bool, reach: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Along one axis: what is left of a block, and what may be read for it."""
    stop = start + length
    grow = max(min(reach, length), 1)  # not beyond the neighbour, which is of about this size
    low = start if other0 else max(start - grow + 1, 0)
    high = stop if other1 else stop + grow - 1
    return (start + cut0, length - cut0 - cut1), (low, high - low)


def _check_parts(
    areas: list[Area], names: Iterable[str], least: int, shapes: Sequence[tuple[int, int]], guard: int, side: int
) -> None:
    for name in names:
        if not any(a.part == name and min(a.window.height, a.window.width) >= least for a in areas):
            size = ", ".join(f"{r} x {c}" for r, c in shapes[:3])
            raise BadInput(
                f"no {name} area of {least} x {least} pixels is left of {len(shapes)} scene(s) ({size}) with blocks of "
                f"{side} and a guard of {guard}: choose a smaller patch or guard (settings patch= and guard=), or give more scenes"
            )


def random_split(
    shapes: Sequence[tuple[int, int]],
    *,
    size: int,
    stride: int,
    multiple: int = 1,
    held_out: float = 0.2,
    seed: int = 0,
) -> tuple[list[tuple[int, Window]], list[tuple[int, Window]]]:
    """Deal patches out at random, as many papers do; see `leakage` for what this shares.

    Returns
    -------
    train, held : list of (scene, Window)
    """
    whole = [Area(i, Window(0, 0, *shape), "", Window(0, 0, *shape)) for i, shape in enumerate(shapes)]
    patches = [(area.scene, w) for area in whole for w in area.patches(size, stride, multiple)]
    if len(patches) < 2:
        raise BadInput(
            f"the scenes hold {len(patches)} patches of {size} pixels, expected at least two: choose a smaller patch"
        )
    order = np.random.default_rng([seed, 2]).permutation(len(patches))
    held = set(order[: min(max(round(held_out * len(patches)), 1), len(patches) - 1)].tolist())
    return (
        [p for i, p in enumerate(patches) if i not in held],
        [p for i, p in enumerate(patches) if i in held],
    )


@dataclass(frozen=True)
class Leakage:
    """What the held-out part shares with training.

    Attributes
    ----------
    shared : float
        Share of held-out pixels that also lie in a training patch, 0..1.
    within : float
        Share of held-out pixels within `guard` pixels of a training patch, 0..1.
    guard : int
    """

    shared: float
    within: float
    guard: int

    def sentence(self) -> str:
        """For the report."""
        near = f" and {self.within:.0%} lie within {self.guard} pixels of training patches" if self.guard else ""
        warned = ": figures of this split are too good" if self.within else ""
        return f"{self.shared:.0%} of the held-out pixels also train{near}{warned}"


def leakage(train: Sequence[tuple[int, Window]], held: Sequence[tuple[int, Window]], *, guard: int = 0) -> Leakage:
    """Count held-out pixels that lie in, or near, training patches of the same scene."""
    total = shared = near = 0
    for scene in sorted({s for s, _ in held}):
        mine = [w for s, w in held if s == scene]
        theirs = [w for s, w in train if s == scene]
        rows = max(w.row + w.height for w in [*mine, *theirs])
        cols = max(w.col + w.width for w in [*mine, *theirs])
        test, exact, wide = (np.zeros((rows, cols), dtype=bool) for _ in range(3))
        for w in mine:
            test[w.slices] = True
        for w in theirs:
            exact[w.slices] = True
            grown = replace(w, row=max(w.row - guard, 0), col=max(w.col - guard, 0))
            wide[grown.row : w.row + w.height + guard, grown.col : w.col + w.width + guard] = True
        total += int(test.sum())
        shared += int((test & exact).sum())
        near += int((test & wide).sum())
    return Leakage(shared / max(total, 1), near / max(total, 1), guard)
