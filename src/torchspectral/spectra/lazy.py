"""Lazy cubes computed from lazy cubes: values are made block by block when they are asked for.

A `BlockArray` is a picklable xarray backend array over the source's variable: indexing reads only the input bands,
rows and columns that the answer needs, in strips of bounded memory.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from torchspectral.errors import BadCube

_STRIP_BYTES = 64 * 2**20


class BlockFunction(Protocol):
    """Function of pixels' spectra: (..., reads, y, x) to (..., size, y, x). Must be picklable."""

    @property
    def dtype(self) -> Any:
        """Type of the output values."""
        ...

    @property
    def reads(self) -> np.ndarray:
        """Input bands (indices) that the function is given."""
        ...

    @property
    def size(self) -> int:
        """Number of output bands."""
        ...

    def take(self, bands: np.ndarray) -> BlockFunction:
        """The same function with only some of its output bands."""
        ...

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Values for one block."""
        ...


class BlockArray(BackendArray):
    """Array (..., band, y, x) that a function makes of a lazy variable's pixels.

    Parameters
    ----------
    source : Variable, dims (..., band, y, x)
        Lazy; read in windows.
    function : BlockFunction
    nodata : float or None
        Stored value of an integer source that becomes NaN.
    """

    def __init__(self, source: xr.Variable, function: BlockFunction, nodata: float | None = None) -> None:
        self.source, self.function, self.nodata = source, function, nodata
        self.shape = (*source.shape[:-3], function.size, *source.shape[-2:])
        self.dtype = np.dtype(function.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        """Values under an explicit xarray indexer."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        keys = list(key) + [slice(None)] * (len(self.shape) - len(key))
        dropped = tuple(axis for axis, k in enumerate(keys) if isinstance(k, int | np.integer))
        kept = [np.atleast_1d(k) if axis in dropped else k for axis, k in enumerate(keys)]
        bands = np.arange(self.shape[-3])[kept[-3]]
        function = (
            self.function if bands.size == self.shape[-3] and (np.diff(bands) == 1).all() else self.function.take(bands)
        )
        names = self.source.dims
        spatial = {name: kept[axis] for axis, name in enumerate(names) if axis != len(names) - 3}
        window = self.source.isel({names[-3]: function.reads, **spatial})
        out = run_blocks(window, function, self.nodata)
        return out.squeeze(axis=dropped) if dropped else out


def run_blocks(source: xr.Variable, function: BlockFunction, nodata: float | None = None) -> np.ndarray:
    """Apply a function to a variable that holds exactly the bands it reads, in strips of rows."""
    rows = source.shape[-2]
    row_bytes = max(1, source.size // max(rows, 1) * max(4, source.dtype.itemsize))
    strip = max(1, _STRIP_BYTES // row_bytes)
    out = np.empty((*source.shape[:-3], function.size, *source.shape[-2:]), dtype=function.dtype)
    for top in range(0, rows, strip):
        block = to_float(source.isel({source.dims[-2]: slice(top, top + strip)}).values, nodata)
        out[..., top : top + strip, :] = function(block)
    return out


def to_float(block: np.ndarray, nodata: float | None) -> np.ndarray:
    """Floating-point copy of integers with nodata as NaN; floats pass."""
    if block.dtype.kind == "f":
        return block
    out = block.astype(np.float32)
    if nodata is not None:
        out[block == nodata] = np.nan
    return out


def is_lazy(value: xr.DataArray) -> bool:
    """Whether the values are not in memory yet."""
    return not value.variable._in_memory


def map_pixels(cube: xr.DataArray, function: BlockFunction) -> xr.Variable:
    """Apply a function to a cube's spectra: now if the cube is in memory, else lazily.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x) or (time, band, y, x)

    Returns
    -------
    Variable, dims of `cube`

    Raises
    ------
    BadCube
        The cube holds stored integers of a physical quantity (opened with ``raw=True``).
    """
    if "packing" in cube.attrs:
        raise BadCube("got a packed cube, expected physical values: open the product without raw=True")
    nodata = cube.attrs.get("nodata")
    variable = cube.variable
    if not is_lazy(cube):
        return xr.Variable(cube.dims, run_blocks(variable.isel(band=function.reads), function, nodata))
    if variable.chunks is not None:
        return xr.Variable(cube.dims, _map_dask(variable.isel(band=function.reads), function, nodata))
    return xr.Variable(cube.dims, indexing.LazilyIndexedArray(BlockArray(variable, function, nodata)))


def _map_dask(variable: xr.Variable, function: BlockFunction, nodata: float | None) -> Any:
    axis = len(variable.dims) - 3
    data = variable.data.rechunk({axis: -1})
    chunks = (*data.chunks[:axis], (function.size,), *data.chunks[axis + 1 :])
    return data.map_blocks(lambda block: function(to_float(block, nodata)), dtype=function.dtype, chunks=chunks)
