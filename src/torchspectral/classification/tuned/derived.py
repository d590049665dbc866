"""Classes and entropy from blended probabilities, read lazily."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

NODATA = 255


class _Derived(BackendArray):
    """One layer computed from the probabilities (layer, y, x) of the same window."""

    def __init__(self, source: xr.Variable) -> None:
        self.source = source
        self.shape = (1, *source.shape[1:])

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        layer, rows, cols = key
        window = [slice(k, k + 1) if isinstance(k, int | np.integer) else k for k in (rows, cols)]
        found = self.derive(np.asarray(self.source[:, window[0], window[1]].values))[None][layer]
        for axis, k in ((-1, cols), (-2, rows)):
            if isinstance(k, int | np.integer):
                found = np.take(found, 0, axis=axis)
        return found

    def derive(self, p: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class Classes(_Derived):
    """Number of the most probable class; 0 where none is probable enough, 255 where there are no data."""

    dtype = np.dtype("uint8")

    def __init__(self, source: xr.Variable, numbers: list[int], least: float) -> None:
        super().__init__(source)
        self.numbers, self.least = np.asarray(numbers, dtype=np.uint8), least

    def derive(self, p: np.ndarray) -> np.ndarray:
        """Classes (y, x) of probabilities (class, y, x)."""
        empty = np.isnan(p).any(0)
        p = np.where(empty, 0, p)
        out = np.where(p.max(0) >= self.least, self.numbers[p.argmax(0)], 0).astype(np.uint8)
        out[empty] = NODATA
        return out


class Entropy(_Derived):
    """Entropy of the probabilities as a share of that of equal ones, 0..1."""

    dtype = np.dtype("float32")

    def derive(self, p: np.ndarray) -> np.ndarray:
        """Entropy (y, x) of probabilities (class, y, x)."""
        return entropy_share(p)


def entropy_share(p: np.ndarray) -> np.ndarray:
    """-sum p log p / log classes over the first axis; NaN where p is."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p), np.where(np.isnan(p), np.nan, 0))
    return np.abs(terms.sum(0) / math.log(len(p))).astype(np.float32)


def replaced(layers: xr.DataArray, array: _Derived) -> xr.DataArray:
    """`layers` with values that are computed when they are read."""
    variable = xr.Variable(layers.dims, indexing.LazilyIndexedArray(array), layers.attrs)
    out = xr.DataArray(variable, coords={n: c.variable for n, c in layers.coords.items()}, name=layers.name)
    return out
