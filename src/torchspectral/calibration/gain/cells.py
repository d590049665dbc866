"""Sums over ground cells that several detectors saw: the form of model (a) where A_l selects.

For one cell k seen n_k times, the best value of the ground is the mean of s y; what is left, summed over cells, is
s^T G s with G = diag(sum y^2) - sum_k v_k v_k^T / n_k. Only pairs of detectors that meet in a cell have an entry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from torchspectral.errors import BadInput


@dataclass
class CellSums:
    """Sums of all bands over cells, pair by pair of detectors.

    Parameters
    ----------
    detectors, bands : int

    Attributes
    ----------
    square, linear, count : ndarray, shape (bands, detectors)
        Sums over observations i of y_i^2 (1 - 1/n), y_i (1 - 1/n) and 1 - 1/n.
    keys : ndarray of int, shape (pairs,)
        lower detector * detectors + upper detector, ascending.
    both, low, high, joint : ndarray, shape (bands, pairs)
        Sums over pairs of observations in one cell of y y' / n, y_lower / n, y_upper / n and 1 / n.
    seen, cells : ndarray, shape (bands,)
        Observations in cells that were seen at least twice, and those cells.
    power : ndarray, shape (bands,)
        Sum of y^2 over these observations.
    """

    detectors: int
    bands: int

    def __post_init__(self) -> None:
        shape = (self.bands, self.detectors)
        self.square, self.linear, self.count = (np.zeros(shape) for _ in range(3))
        self.keys = np.zeros(0, np.int64)
        self.both, self.low, self.high, self.joint = (np.zeros((self.bands, 0)) for _ in range(4))
        self.seen, self.cells = np.zeros(self.bands, np.int64), np.zeros(self.bands, np.int64)
        self.power = np.zeros(self.bands)

    def add(self, cell: np.ndarray, detector: np.ndarray, values: np.ndarray) -> None:
        """Add observations; all of a cell must come in one call.

        Parameters
        ----------
        cell, detector : ndarray of int, shape (n,)
        values : ndarray, shape (bands, n)
            NaN: not seen in this band.
        """
        order = np.argsort(cell, kind="stable")
        cell, detector = cell[order], detector[order]
        starts = np.flatnonzero(np.r_[True, cell[1:] != cell[:-1]])
        sizes = np.diff(np.r_[starts, len(cell)])
        group = np.repeat(np.arange(len(starts)), sizes)
        shared = (sizes > 1)[group]
        if not shared.any():
            return
        detector, group = detector[shared], group[shared]
        y = values[:, order[shared]].astype(np.float64)
        valid = np.isfinite(y)
        y = np.where(valid, y, 0.0)
        firsts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
        lengths = np.diff(np.r_[firsts, len(group)])
        inside = np.repeat(np.arange(len(firsts)), lengths)
        n = np.add.reduceat(valid, firsts, axis=1, dtype=np.int64)
        share = (1.0 / np.maximum(n, 1))[:, inside]
        alone = (n < 2)[:, inside]
        share[alone] = 1.0
        kept = valid * (1.0 - share)
        for sums, part in ((self.square, y**2 * kept), (self.linear, y * kept), (self.count, kept)):
            _add_at(sums, detector, part)
        self.seen += np.where(n > 1, n, 0).sum(1)
        self.cells += (n > 1).sum(1)
        self.power += (y**2 * ~alone).sum(1)
        share = np.where(alone | ~valid, 0.0, share)
        for step in range(1, int(lengths.max())):
            one = np.flatnonzero(inside[:-step] == inside[step:])
            self._pairs(detector, y, valid, share, one, one + step)

    def _pairs(
        self, detector: np.ndarray, y: np.ndarray, valid: np.ndarray, share: np.ndarray, a: np.ndarray, b: np.ndarray
    ) -> None:
        swap = detector[a] > detector[b]
        low, high = np.where(swap, b, a), np.where(swap, a, b)
        key = detector[low].astype(np.int64) * self.detectors + detector[high]
        order = np.argsort(key, kind="stable")
        key, low, high = key[order], low[order], high[order]
        if not key.size:
            return
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        weight = share[:, low] * valid[:, high]
        one, other = y[:, low] * weight, y[:, high] * weight
        parts = [one * y[:, high], one, other, weight]
        self._merge(key[starts], [np.add.reduceat(part, starts, axis=1) for part in parts])

    def _merge(self, keys: np.ndarray, parts: list[np.ndarray]) -> None:
        if not np.isin(keys, self.keys, assume_unique=True).all():
            every = np.union1d(self.keys, keys)
            at = np.searchsorted(every, self.keys)
            for name in ("both", "low", "high", "joint"):
                wider = np.zeros((self.bands, len(every)))
                wider[:, at] = getattr(self, name)
                setattr(self, name, wider)
            self.keys = every
        at = np.searchsorted(self.keys, keys)
        for name, part in zip(("both", "low", "high", "joint"), parts, strict=True):
            getattr(self, name)[:, at] += part

    def merged(self, other: CellSums) -> CellSums:
        """Sums of both: of cells that are not the same."""
        if (self.detectors, self.bands) != (other.detectors, other.bands):
            raise BadInput("got sums of other detectors or bands, expected the same")
        out = CellSums(self.detectors, self.bands)
        for one in (self, other):
            for name in ("square", "linear", "count", "seen", "cells", "power"):
                getattr(out, name).__iadd__(getattr(one, name))
            if one.keys.size:
                out._merge(one.keys, [one.both, one.low, one.high, one.joint])
        return out

    # Forms of one band

    def links(self, band: int) -> np.ndarray:
        """Graph Laplacian of the detectors, (detectors, detectors): minus the entries is how much two share."""
        return self._symmetric(self.count[band], self.joint[band], self.joint[band])

    def form(self, band: int, *, offset: bool = False) -> np.ndarray:
        """G of a band, (detectors, detectors); with `offset` that of [s; o], twice as large."""
        gains = self._symmetric(self.square[band], self.both[band], self.both[band])
        if not offset:
            return gains
        mixed = self._symmetric(self.linear[band], self.low[band], self.high[band])
        return np.block([[gains, mixed], [mixed.T, self.links(band)]])

    def _symmetric(self, diagonal: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        out = np.diag(diagonal)
        i, j = np.divmod(self.keys, self.detectors)
        np.subtract.at(out, (i, j), upper)
        np.subtract.at(out, (j, i), lower)
        return out


def _add_at(sums: np.ndarray, detector: np.ndarray, part: np.ndarray) -> None:
    order = np.argsort(detector, kind="stable")
    ranked = detector[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    sums[:, ranked[starts]] += np.add.reduceat(part[:, order], starts, axis=1)
