"""Which pixels stand for a scene: spread over the ground, since neighbours are near duplicates."""

from __future__ import annotations

import math

import numpy as np

GROUPS = 8
"""Blocks a side of the ground whose pixels may not vote for each other in the kNN probe."""


def stratified(mask: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of `count` pixels of a mask, in reading order, spread evenly over its blocks.

    Parameters
    ----------
    mask : ndarray of bool, shape (y, x)
        Pixels that may be drawn.
    count : int
        All of them where there are no more.
    seed : int
    """
    rows, cols = np.nonzero(mask)
    if rows.size > count:
        side = max(int(math.sqrt(rows.size / count)), 1)
        block = rows // side * (mask.shape[1] // side + 1) + cols // side
        chance = np.random.default_rng([seed, 21]).permutation(rows.size)
        order = np.lexsort((chance, block))
        first = np.flatnonzero(np.r_[True, np.diff(block[order]) > 0])
        turn = np.empty(rows.size, dtype=np.int64)
        turn[order] = np.arange(rows.size) - np.repeat(first, np.diff(np.r_[first, rows.size]))
        # Each block gives one pixel before any gives a second.
        keep = np.sort(np.lexsort((chance, turn))[:count])
        rows, cols = rows[keep], cols[keep]
    return rows, cols


def ground_groups(rows: np.ndarray, cols: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Number of the block of ground of each pixel, `GROUPS` a side of the longer axis."""
    side = max(-(-max(shape) // GROUPS), 1)
    return rows // side * (shape[1] // side + 1) + cols // side
