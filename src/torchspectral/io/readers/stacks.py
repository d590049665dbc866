"""Lazy arrays over rasters: bands that lie in several files, flags, and bands of several pixel sizes on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from torchspectral.cube import DIMS
from torchspectral.errors import BrokenProduct
from torchspectral.geo.grids import place
from torchspectral.io.readers.base import StoredArray, as_layer
from torchspectral.io.readers.handles import Handle


class StackArray(StoredArray):
    """Lazy array over the bands of rasters of one size and type.

    Parameters
    ----------
    handles : sequence of Handle
        Open rasters, one a thread.
    where : ndarray of int, shape (band, 2)
        Raster and its 1-based band, for each band of the array.
    """

    def __init__(self, handles: Sequence[Handle], where: np.ndarray, *, stored: Any = None, **more: Any) -> None:
        self.handles = list(handles)
        self.where = np.asarray(where, dtype=np.int64)
        dataset = self.handles[int(self.where[0, 0])].get()
        block = dataset.block_shapes[0]
        interleaved = dataset.interleaving is not None and dataset.interleaving.value.lower() == "pixel"
        together = interleaved and dataset.count > 1
        super().__init__(
            (len(self.where), dataset.height, dataset.width),
            stored or dataset.dtypes[0],
            chunks=(
                len(self.where) if together else 1,
                min(block[0], dataset.height),
                min(block[1], dataset.width),
            ),
            split="y" if together else "band",
            **more,
        )

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window; one call for each raster."""
        from rasterio.windows import Window

        window = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
        wanted = self.where[bands]
        rasters = np.unique(wanted[:, 0])
        if rasters.size == 1:
            return self.handles[int(rasters[0])].get().read(indexes=wanted[:, 1].tolist(), window=window)
        out = np.empty((len(wanted), int(window.height), int(window.width)), dtype=self.stored)
        for raster in rasters:
            at = np.flatnonzero(wanted[:, 0] == raster)
            out[at] = self.handles[int(raster)].get().read(indexes=wanted[at, 1].tolist(), window=window)
        return out


class FlagArray(StackArray):
    """True where any of some raster bands has one of some values or some bits; shape (1, y, x).

    Parameters
    ----------
    equal : sequence of int
        Values that set the flag.
    bits : int
        Bits that set it.
    """

    def __init__(
        self, handles: Sequence[Handle], where: np.ndarray, *, equal: Sequence[int] = (), bits: int = 0, **more: Any
    ) -> None:
        super().__init__(handles, np.asarray(where)[:1], stored=np.bool_, decode=False, **more)
        self.looked_at = np.asarray(where, dtype=np.int64)
        self.equal, self.bits = list(equal), int(bits)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Whether the flag is set in each pixel."""
        from rasterio.windows import Window

        window = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
        out = np.zeros((1, int(window.height), int(window.width)), dtype=bool)
        for raster, number in self.looked_at:
            values = self.handles[int(raster)].get().read(indexes=[int(number)], window=window)
            if self.equal:
                out |= np.isin(values, self.equal)
            if self.bits:
                out |= (values.astype(np.int64) & self.bits) != 0
        return out


class RepeatedArray(StoredArray):
    """Each pixel of an array as `zoom` x `zoom` pixels."""

    def __init__(self, inner: StoredArray, zoom: int) -> None:
        bands, rows, cols = inner.shape
        super().__init__((bands, rows * zoom, cols * zoom), inner.dtype, source=inner.source, decode=False)
        self.inner, self.zoom = inner, zoom

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Values of a window."""
        z = self.zoom
        low, left = rows.start // z, cols.start // z
        block = _values(self.inner, bands, slice(low, -(-rows.stop // z)), slice(left, -(-cols.stop // z)))
        block = block.repeat(z, axis=1).repeat(z, axis=2)
        cut = slice(rows.start - low * z, rows.stop - low * z), slice(cols.start - left * z, cols.stop - left * z)
        return np.ascontiguousarray(block[:, cut[0], cut[1]])


class MergedArray(StoredArray):
    """`zoom` x `zoom` pixels as one: their mean (NaN left out), or for flags whether any is set."""

    def __init__(self, inner: StoredArray, zoom: int) -> None:
        bands, rows, cols = inner.shape
        super().__init__((bands, rows // zoom, cols // zoom), inner.dtype, source=inner.source, decode=False)
        self.inner, self.zoom = inner, zoom

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Values of a window."""
        z = self.zoom
        block = _values(self.inner, bands, slice(rows.start * z, rows.stop * z), slice(cols.start * z, cols.stop * z))
        if block.dtype.kind == "b":
            parts = block.reshape(block.shape[0], block.shape[1] // z, z, block.shape[2] // z, z)
            return np.asarray(parts.any(axis=(2, 4)))
        # Added in one order whatever the window, so that windows equal the whole to the last bit.
        total = np.zeros((block.shape[0], block.shape[1] // z, block.shape[2] // z))
        count = np.zeros(total.shape, dtype=np.int16)
        for row in range(z):
            for col in range(z):
                part = block[:, row::z, col::z]
                known = np.isfinite(part)
                total += np.where(known, part, 0.0)
                count += known
        with np.errstate(invalid="ignore", divide="ignore"):
            return (total / count).astype(np.float32)


class JoinedArray(StoredArray):
    """Bands of several arrays of one size, as the values that they hand out.

    Parameters
    ----------
    where : ndarray of int, shape (band, 2)
        Array and its 0-based band.
    """

    def __init__(self, arrays: Sequence[StoredArray], where: np.ndarray) -> None:
        self.arrays, self.where = list(arrays), np.asarray(where, dtype=np.int64)
        first = self.arrays[0]
        super().__init__(
            (len(self.where), *first.shape[1:]), first.dtype, source=first.source, decode=False, split="band"
        )

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Values of a window."""
        wanted = self.where[bands]
        out = np.empty((len(wanted), rows.stop - rows.start, cols.stop - cols.start), dtype=self.stored)
        for number in np.unique(wanted[:, 0]):
            at = np.flatnonzero(wanted[:, 0] == number)
            out[at] = _values(self.arrays[int(number)], wanted[at, 1], rows, cols)
        return out


def _values(array: StoredArray, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
    """What an array hands out for a window."""
    chosen = np.arange(array.shape[0])[bands]
    variable = xr.Variable(DIMS, indexing.LazilyIndexedArray(array))
    return np.asarray(variable[chosen, rows, cols].values)


def on_zoom(array: StoredArray, shape: tuple[int, int], what: str) -> StoredArray:
    """An array on a grid of the same ground with a whole multiple or part of its pixels, or as it is.

    Raises
    ------
    BrokenProduct
        The sizes are no whole multiples of each other.
    """
    rows, cols = array.shape[1:]
    if (rows, cols) == tuple(shape):
        return array
    for zoom in range(2, 13):
        if (rows * zoom, cols * zoom) == tuple(shape):
            return RepeatedArray(array, zoom)
        if (shape[0] * zoom, shape[1] * zoom) == (rows, cols):
            return MergedArray(array, zoom)
    raise BrokenProduct(
        f"{what} has {rows} x {cols} pixels, expected a whole multiple or part of {shape[0]} x {shape[1]}"
    )


def check_alike(handles: Sequence[Handle], names: Sequence[str]) -> None:
    """Refuse rasters that differ in size, type or place.

    Raises
    ------
    BrokenProduct
    """
    first: tuple[Any, ...] | None = None
    for handle, name in zip(handles, names, strict=True):
        dataset = handle.get()
        facts = (dataset.height, dataset.width, dataset.dtypes[0], tuple(dataset.transform)[:6], str(dataset.crs))
        if first is None:
            first = facts
        elif facts[:3] != first[:3]:
            raise BrokenProduct(
                f"{Path(name).name} has {facts[0]} x {facts[1]} pixels of {facts[2]}, {Path(names[0]).name} "
                f"{first[0]} x {first[1]} of {first[2]}: the bands of one cube must agree"
            )
        elif facts[3:] != first[3:]:
            raise BrokenProduct(
                f"{Path(name).name} lies elsewhere than {Path(names[0]).name}: are they of one product?"
            )


def ground_of(value: xr.DataArray, dataset: Any) -> xr.DataArray:
    """Put a cube or layer where an open raster lies."""
    if dataset.transform.is_identity and dataset.crs is None:
        return place(value, None)
    return place(value, dataset.transform, dataset.crs)


def raster_layer(
    handle: Handle, name: str, source: str, attrs: dict[str, Any] | None = None, *,
    scale: float = 1.0, offset: float = 0.0, nodata: float | int | None = None, decode: bool = False,
) -> xr.DataArray:  # fmt: skip
    """The first band of a raster as a (y, x) layer on its own grid: as stored, or with `decode` as float32 with NaN."""
    array = StackArray(
        [handle], np.array([[0, 1]]), source=source, scale=scale, offset=offset, nodata=nodata, decode=decode
    )
    layer = as_layer(array, name, {**(attrs or {}), "source": [source]})
    if not decode and array.nodata is not None:
        layer.attrs["nodata"] = array.nodata
    return ground_of(layer, handle.get())
