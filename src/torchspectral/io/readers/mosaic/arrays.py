"""Lazy cubes over a mosaic frame: one band a filter, on the filters' own lattice or interpolated to every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchspectral.io.readers.base import StoredArray


class LatticeArray(StoredArray):
    """Each filter's pixels as a band, shape (filters, rows // pattern, columns // pattern), stored type kept.

    Parameters
    ----------
    frame : StoredArray, shape (1, rows, columns)
    pattern : (int, int)
    area : (int, int, int, int)
        Row, column, height and width of the active area; heights and widths are whole patterns.
    order : ndarray of int
        Filter of each band, counted row by row.
    """

    def __init__(
        self,
        frame: StoredArray,
        pattern: tuple[int, int],
        area: tuple[int, int, int, int],
        order: np.ndarray,
        **more: Any,
    ) -> None:
        self.frame, self.pattern, self.area, self.order = frame, pattern, area, np.asarray(order)
        shape = (len(self.order), area[2] // pattern[0], area[3] // pattern[1])
        super().__init__(shape, frame.stored, source=frame.source, split="y", **more)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window."""
        (high, wide), (top, left, _, _) = self.pattern, self.area
        block = self.frame.read(
            slice(0, 1),
            slice(top + rows.start * high, top + rows.stop * high),
            slice(left + cols.start * wide, left + cols.stop * wide),
        )[0]
        height, width = rows.stop - rows.start, cols.stop - cols.start
        # (rows, filter row, columns, filter column) -> (filter row, filter column, rows, columns)
        cube = block.reshape(height, high, width, wide).transpose(1, 3, 0, 2).reshape(high * wide, height, width)
        return np.ascontiguousarray(cube[self.order[bands]], dtype=self.stored)


class BilinearArray(StoredArray):
    """Each filter interpolated bilinearly to every pixel of the active area, float32; beyond its outermost pixels the
    nearest ones are continued. Nodata spreads to what was interpolated from it.

    Parameters
    ----------
    As `LatticeArray`, whose values are physical here already.
    """

    def __init__(self, lattice: LatticeArray) -> None:
        self.lattice = lattice
        _, _, height, width = lattice.area
        super().__init__((lattice.shape[0], height, width), np.float32, source=lattice.source, split="y")

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Values of a window."""
        lattice, (high, wide) = self.lattice, self.lattice.pattern
        low_r, high_r = max(0, rows.start // high - 1), min(lattice.shape[1], (rows.stop - 1) // high + 2)
        low_c, high_c = max(0, cols.start // wide - 1), min(lattice.shape[2], (cols.stop - 1) // wide + 2)
        lattice.decode = True
        values = lattice._window(bands, slice(low_r, high_r), slice(low_c, high_c))
        out = np.empty((len(values), rows.stop - rows.start, cols.stop - cols.start), dtype=np.float32)
        for n, place in enumerate(lattice.order[bands]):
            down = _weights(np.arange(rows.start, rows.stop), int(place) // wide, high, low_r, high_r)
            across = _weights(np.arange(cols.start, cols.stop), int(place) % wide, wide, low_c, high_c)
            out[n] = _mix(_mix(values[n], *down).T, *across).T
        return out


def _weights(
    pixels: np.ndarray, phase: int, step: int, low: int, high: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lattice points on either side of each pixel, counted from `low`, and the weight of the second."""
    position = np.clip((pixels - phase) / step, low, high - 1)
    first = np.minimum(np.floor(position).astype(int), max(low, high - 2))
    second = np.minimum(first + 1, high - 1)
    return first - low, second - low, (position - first).astype(np.float32)


def _mix(values: np.ndarray, first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows of `values` mixed two by two; a row of weight 0 does not count, whatever it holds."""
    by = weight[:, None]
    a, b = values[first], values[second]
    return np.where(by == 0, a, np.where(by == 1, b, a * (1 - by) + b * by))


class CorrectedArray(StoredArray):
    """Virtual bands: the correction matrix times all filters, float32.

    Parameters
    ----------
    filters : StoredArray
        All filters in the order of their index, physical.
    matrix : ndarray, shape (virtual, filters)
    """

    def __init__(self, filters: LatticeArray | BilinearArray, matrix: np.ndarray) -> None:
        self.filters, self.matrix = filters, np.asarray(matrix, dtype=np.float32)
        super().__init__((len(self.matrix), *filters.shape[1:]), np.float32, source=filters.source, split="y")

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Values of a window."""
        self.filters.decode = True
        values = self.filters._window(slice(0, self.filters.shape[0]), rows, cols)
        return np.tensordot(self.matrix[bands], values, axes=1).astype(np.float32)
