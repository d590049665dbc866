"""Lazy arrays over the datasets of PRISMA products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from torchspectral.geo.lazy import LazyArray
from torchspectral.io.readers.base import StoredArray
from torchspectral.io.readers.handles import Handle

_BLOCK = 32


class Axis1Array(StoredArray):
    """Lazy (band, y, x) array over one or two HDF5 datasets that are stored as (y, band, x).

    Parameters
    ----------
    handle : Handle
        Of the h5py file.
    places : tuple of str
        Datasets.
    where : ndarray of int, shape (band, 2)
        Dataset and its 0-based band, for each band of the array.
    """

    def __init__(self, handle: Handle, places: tuple[str, ...], where: np.ndarray, **more: Any) -> None:
        self.handle = handle
        self.places = tuple(places)
        self.where = np.asarray(where, dtype=np.int64)
        first = handle.get()[places[0]]
        chunks = None if first.chunks is None else (first.chunks[1], first.chunks[0], first.chunks[2])
        super().__init__(
            (len(self.where), first.shape[0], first.shape[2]),
            first.dtype,
            source=handle.path,
            chunks=chunks,
            split="y",
            **more,
        )

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window, bands in the order of the array."""
        wanted = self.where[bands]
        out = np.empty((len(wanted), rows.stop - rows.start, cols.stop - cols.start), dtype=self.stored)
        file = self.handle.get()
        for number in np.unique(wanted[:, 0]):
            dataset = file[self.places[int(number)]]
            at = np.flatnonzero(wanted[:, 0] == number)
            for part, low, high in _runs(wanted[at, 1]):
                block = dataset[rows, low:high, cols]
                out[at[part]] = np.moveaxis(block, 1, 0)[wanted[at[part], 1] - low]
        return out


class PrismaCube(Axis1Array):
    """The two cubes as one; a pixel with DN 0 in every stored band is nodata."""

    def __init__(self, handle: Handle, places: tuple[str, ...], where: np.ndarray, **more: Any) -> None:
        super().__init__(handle, places, where, **more)
        self._known: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": {}}

    def packing(self) -> dict[str, Any]:
        """Scale and offset; in packed form 0 stands for nodata also where only one band is 0."""
        return {**super().packing(), "nodata": 0}

    def invalid(self, rows: slice, cols: slice) -> np.ndarray | None:
        """Pixels with DN 0 in all bands of both cubes."""
        gone = np.zeros((rows.stop - rows.start, cols.stop - cols.start), dtype=bool)
        for start in range(rows.start // _BLOCK * _BLOCK, rows.stop, _BLOCK):
            block = self._empty_block(start)
            low, high = max(start, rows.start), min(start + block.shape[0], rows.stop)
            gone[low - rows.start : high - rows.start] = block[low - start : high - start, cols]
        return gone if gone.any() else None

    def _empty_block(self, start: int) -> np.ndarray:
        """Empty pixels of some whole rows; remembered, since every window of bands asks again."""
        known = self._known.get(start)
        if known is None:
            datasets = [self.handle.get()[place] for place in self.places]
            rows = slice(start, min(start + _BLOCK, self.shape[1]))
            # Three bands tell nearly all pixels apart; only where they are all 0 the others are looked at.
            probes = [datasets[0].shape[1] // 4, datasets[0].shape[1] // 2, datasets[0].shape[1] * 3 // 4]
            known = ~np.any([datasets[0][rows, band, :] != 0 for band in sorted(set(probes))], axis=0)
            for dataset in datasets:
                if known.any():
                    cols = np.flatnonzero(known.any(axis=0))
                    part = slice(int(cols[0]), int(cols[-1]) + 1)
                    known[:, part] &= ~(dataset[rows, :, part] != 0).any(axis=1)
            self._known[start] = known
        return known


class FlatArray(StoredArray):
    """Lazy (1, y, x) array over a 2-D dataset; with `value` True where it equals that value."""

    def __init__(self, handle: Handle, place: str, value: int | None = None, **more: Any) -> None:
        dataset = handle.get()[place]
        self.handle, self.place, self.value = handle, place, value
        chunks = None if dataset.chunks is None else (1, *dataset.chunks)
        stored = dataset.dtype if value is None else np.dtype(bool)
        super().__init__((1, *dataset.shape), stored, source=handle.path, chunks=chunks, split="y", **more)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers, or the flag, of a window."""
        block = self.handle.get()[self.place][rows, cols][None]
        return block if self.value is None else block == self.value


class EmptyArray(PrismaCube):
    """True where a pixel is nodata; shape (1, y, x)."""

    def __init__(self, handle: Handle, places: tuple[str, ...]) -> None:
        super().__init__(handle, places, np.array([[0, 0]]), decode=False)
        self.stored = np.dtype(bool)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Empty pixels of a window."""
        gone = self.invalid(rows, cols)
        shape = (1, rows.stop - rows.start, cols.stop - cols.start)
        return np.zeros(shape, dtype=bool) if gone is None else gone[None]


class Positions(LazyArray):
    """Longitudes or latitudes, lazy, shape (y, x)."""

    def __init__(self, handle: Handle, place: str) -> None:
        dataset = handle.get()[place]
        super().__init__(dataset.shape, dataset.dtype)
        self.handle, self.place = handle, place

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Values at the outer product of rows and columns."""
        ys, xs = indices
        block = self.handle.get()[self.place][ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        return block[np.ix_(ys - ys.min(), xs - xs.min())]


class ColumnArray(StoredArray):
    """Per-column band facts, stored as (x, band), as (band, 1, x)."""

    def __init__(self, handle: Handle, places: tuple[str, ...], where: np.ndarray) -> None:
        self.handle, self.places, self.where = handle, places, np.asarray(where)
        first = handle.get()[places[0]]
        super().__init__((len(where), 1, first.shape[0]), first.dtype, source=handle.path, decode=False)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Facts of a run of columns."""
        wanted = self.where[bands]
        out = np.empty((len(wanted), rows.stop - rows.start, cols.stop - cols.start), dtype=self.stored)
        for number in np.unique(wanted[:, 0]):
            at = np.flatnonzero(wanted[:, 0] == number)
            block = self.handle.get()[self.places[int(number)]][cols, :]
            out[at, 0] = block.T[wanted[at, 1]]
        return out


def _runs(bands: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """Cut wanted bands into stretches worth one read: (positions, low, high); gaps of a few bands are read over."""
    order = np.argsort(bands, kind="stable")
    ordered = bands[order]
    for part in np.split(np.arange(bands.size), np.flatnonzero(np.diff(ordered) > 8) + 1):
        yield order[part], int(ordered[part[0]]), int(ordered[part[-1]]) + 1
