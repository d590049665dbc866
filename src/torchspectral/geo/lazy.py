"""Arrays that are computed window by window when they are indexed, and cubes made of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

BLOCK_BYTES = 256 * 2**20
"""Most bytes that one step of a lazy array reads from its source."""

Key = int | np.integer | slice | np.ndarray


class LazyArray(BackendArray):
    """Picklable array of a given shape and type whose windows are computed on demand.

    Subclasses write `compute`, which gets one index array an axis and returns the outer-indexed block.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._outer)

    def _outer(self, key: tuple[Key, ...]) -> np.ndarray:
        indices, squeezed = [], []
        for axis, (part, size) in enumerate(zip(key, self.shape, strict=True)):
            if isinstance(part, slice):
                indices.append(np.arange(*part.indices(size)))
            elif np.ndim(part) == 0:
                indices.append(np.array([int(part)]) % size if size else np.array([int(part)]))
                squeezed.append(axis)
            else:
                array = np.asarray(part)
                indices.append(np.where(array < 0, array + size, array))
        if any(index.size == 0 for index in indices):
            block = np.empty([index.size for index in indices], dtype=self.dtype)
        else:
            block = self.compute(*indices)
        return block.reshape([n for axis, n in enumerate(block.shape) if axis not in squeezed])

    @abstractmethod
    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Block at the outer product of the index arrays, shape (len(i) for i in indices)."""


def as_slice(index: np.ndarray) -> slice | np.ndarray:
    """The index array as a slice where it counts up by one, so that readers see a window."""
    if index.size == 1 or (index[-1] - index[0] == index.size - 1 and bool(np.all(np.diff(index) == 1))):
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def read_window(source: xr.Variable, bands: np.ndarray, rows: slice, cols: slice) -> np.ndarray:
    """Values of a (band or layer, y, x) variable, shape (len(bands), rows, cols)."""
    return np.asarray(source[as_slice(bands), rows, cols].values)


def split_rows(rows: int, bytes_each: float, limit: int = BLOCK_BYTES) -> list[slice]:
    """Cut `rows` rows into runs that stay under `limit` bytes."""
    step = max(1, int(limit // max(bytes_each, 1)))
    return [slice(start, min(rows, start + step)) for start in range(0, rows, step)]


def with_data(template: xr.DataArray, array: LazyArray, attrs: Mapping[str, Any] | None = None) -> xr.DataArray:
    """A lazy array with the dims, name, attributes and leading coordinates of `template`, not yet on the ground."""
    dims = template.dims
    variable = xr.Variable(dims, indexing.LazilyIndexedArray(array))
    kept = {n: c.variable for n, c in template.coords.items() if not {"y", "x"} & set(c.dims) and n != "spatial_ref"}
    out = xr.DataArray(variable, coords=kept, name=template.name)
    out.attrs = {**template.attrs, **(attrs or {})}
    out.attrs.pop("glt", None)
    return out


def missing_value(cube: xr.DataArray) -> float | int | None:
    """What stands for nodata in the values of `cube`: NaN, the integer nodata, or None where there is none."""
    if cube.dtype.kind == "f":
        return float("nan")
    packing = cube.attrs.get("packing")
    nodata = packing.get("nodata") if packing else cube.attrs.get("nodata")
    return None if nodata is None else int(nodata)
