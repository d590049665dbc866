"""What every reader is, and the lazy array that every reader returns.

A reader recognises a product by its content and opens it as a cube whose values are a `StoredArray`: it knows where
the stored numbers lie (`read`), and the base turns windows of them into physical float32 with NaN, or hands the
stored numbers out (`raw`).
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from torchspectral.cube import DIMS, make_cube
from torchspectral.errors import BrokenProduct, TooLarge, TorchspectralError, UnknownName, closest
from torchspectral.io.safety import check_read

PIECE = 4 << 20
"""Stored bytes that are decoded at a time, so that they stay in the processor's cache."""

LIBRARY_ERRORS = (
    OSError,
    KeyError,
    ValueError,
    IndexError,
    TypeError,
    EOFError,
    RuntimeError,
    OverflowError,
    SystemError,
    zlib.error,
)
"""What file libraries raise on damaged files."""


class Reader:
    """Base of all readers; a plugin names its own in the entry point group ``torchspectral.readers``.

    Attributes
    ----------
    name, title : str
        As given to ``reader=``, and for people.
    patterns : tuple of str
        File name patterns, for messages and as hints.
    options : tuple of str
        Keywords of `open` beyond those that `open_product` handles for all.
    layer_options : tuple of str
        Those among them that `open_layer` takes as well.
    evidence : {"seen-real", "miniature-only"}
        Whether it was tried on real products.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    patterns: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[tuple[str, ...]] = ()
    layer_options: ClassVar[tuple[str, ...]] = ()
    evidence: ClassVar[str] = "miniature-only"

    def recognise(self, path: Path) -> float:
        """How surely `path` is this product, 0..1, from its content; never raises on foreign files."""
        raise NotImplementedError

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """The product's cube (lazy), or spectra where it is a library."""
        raise NotImplementedError

    def layers(self, path: Path) -> list[str]:
        """Names of what the product has beside its cube."""
        return []

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """One layer, dims (y, x) or (layer, y, x), on its own grid.

        Raises
        ------
        UnknownName
        """
        raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, self.layers(path))}")


class StoredArray(BackendArray):
    """Lazy, picklable (band, y, x) array over stored numbers.

    Subclasses write `read`; they must be picklable (see `handles.Handle`) and safe to read from several threads.

    Parameters
    ----------
    shape : tuple of int
        Bands, rows, columns.
    stored : numpy dtype
        Type of the stored numbers.
    source : str or Path
        For messages.
    scale, offset : float or array_like of shape (band,)
        physical = stored * scale + offset.
    nodata : float or int, optional
        Stored value that stands for nodata; ignored where the type cannot hold it.
    decode : bool
        True for physical values (float32, NaN for nodata), False for the stored numbers.
    chunks : tuple of int, optional
        Stored block size in bands, rows, columns.
    split : {"band", "y", ""}
        Axis along which a large read may be cut into pieces at no cost.
    """

    def __init__(
        self,
        shape: Sequence[int],
        stored: Any,
        *,
        source: str | Path = "",
        scale: Any = 1.0,
        offset: Any = 0.0,
        nodata: float | int | None = None,
        decode: bool = True,
        chunks: Sequence[int] | None = None,
        split: str = "",
    ) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.stored = np.dtype(stored)
        self.source = str(source)
        self.set_meaning(scale, offset, nodata)
        self.decode = decode
        self.precise = False
        self.chunks = tuple(int(n) for n in chunks) if chunks is not None else None
        self.split = split

    def set_meaning(self, scale: Any = 1.0, offset: Any = 0.0, nodata: float | int | None = None) -> None:
        """Set what the stored numbers mean, see the class."""
        self.scale = _per_band(scale, self.shape[0])
        self.offset = _per_band(offset, self.shape[0])
        self.nodata = representable(nodata, self.stored)
        self._uniform = all(np.all(v == v[0]) for v in (self.scale, self.offset))

    @property
    def dtype(self) -> np.dtype:
        """Type of the values handed out: as stored, or float32 (float64 where `precise` asks for it)."""
        if not self.decode:
            return self.stored
        return np.dtype(np.float64 if self.precise else np.float32)

    @property
    def scaled(self) -> bool:
        """Whether physical values differ from stored ones."""
        return bool(np.any(self.scale != 1.0) or np.any(self.offset != 0.0))

    @abstractmethod
    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window, shape (band, y, x), native byte order, freshly made.

        Parameters
        ----------
        bands : slice (any step) or array of int
        rows, cols : slice
            Start and stop given, step 1.
        """

    def view(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray | None:
        """The same without copying, read-only, where the window lies in memory already; else None."""
        return None

    def invalid(self, rows: slice, cols: slice) -> np.ndarray | None:
        """Pixels that are nodata in every band whatever their value, bool of shape (y, x); None where none are."""
        return None

    def packing(self) -> dict[str, Any]:
        """``attrs["packing"]`` of the stored numbers."""
        scale, offset = (
            [float(v[0])] if np.all(v == v[0]) else [float(x) for x in v] for v in (self.scale, self.offset)
        )
        return {"scale": scale, "offset": offset, "nodata": self.nodata}

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        if isinstance(key, indexing.BasicIndexer | indexing.OuterIndexer):
            return self._outer(key.tuple)
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._outer)

    def _outer(self, key: tuple[Any, ...]) -> np.ndarray:
        drop = tuple(0 if np.ndim(k) == 0 and not isinstance(k, slice) else slice(None) for k in key)
        bands, rows, cols = (_index(k, n) for k, n in zip(key, self.shape, strict=True))
        shape = (_length(bands), _length(rows), _length(cols))
        if 0 in shape:
            return np.empty(shape, dtype=self.dtype)[drop]
        check_read(shape, self.dtype, self.source)
        try:
            if isinstance(rows, slice) and isinstance(cols, slice):
                out = self._window(bands, rows, cols)
            else:
                out = self._pixels(bands, _array(rows), _array(cols))
        except TorchspectralError:
            raise
        except MemoryError:
            raise TooLarge(f"{Path(self.source).name} unpacks to more than the memory that is left") from None
        except LIBRARY_ERRORS as error:
            text = " ".join(str(error).split())[:200]
            raise BrokenProduct(f"{Path(self.source).name} cannot be read: {text or type(error).__name__}") from error
        return out[drop]

    def _pixels(self, bands: slice | np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Picked rows and columns, read in windows around them."""
        left = int(cols.min())
        across = slice(left, int(cols.max()) + 1)
        count = _length(bands)
        out = np.empty((count, rows.size, cols.size), dtype=self.dtype)
        wide = count * (across.stop - across.start) * self.stored.itemsize
        for part, low, high in _stretches(rows, max(1, (16 * PIECE) // wide)):
            block = self._window(bands, slice(low, high), across)
            out[:, part] = block[:, rows[part] - low][:, :, cols - left]
        return out

    def _window(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        seen = self.view(bands, rows, cols)
        if not self.decode:
            return self.read(bands, rows, cols) if seen is None else np.array(seen, order="K", dtype=self.stored)
        scale: Any = self.scale[0] if self._uniform else self.scale[bands]
        offset: Any = self.offset[0] if self._uniform else self.offset[bands]
        invalid = self.invalid(rows, cols)
        count = len(range(*bands.indices(self.shape[0]))) if isinstance(bands, slice) else len(bands)
        size = (count, rows.stop - rows.start, cols.stop - cols.start)
        if seen is not None:
            return decode_values(seen, scale, offset, self.nodata, invalid, out=_like(seen, size, self.dtype))
        step = self._step(size)
        if self.stored == self.dtype or step is None:
            block = self.read(bands, rows, cols)
            return decode_values(block, scale, offset, self.nodata, invalid, dtype=self.dtype)
        out: np.ndarray | None = None
        if self.split == "band":
            chosen = np.arange(self.shape[0])[bands]
            for first in range(0, size[0], step):
                part = slice(first, first + step)
                block = self.read(as_slice(chosen[part]), rows, cols)
                out = _like(block, size, self.dtype) if out is None else out
                by = (scale, offset) if self._uniform else (scale[part], offset[part])
                decode_values(block, *by, self.nodata, invalid, out=out[part])
        else:
            for first in range(rows.start, rows.stop, step):
                last = min(first + step, rows.stop)
                block = self.read(bands, slice(first, last), cols)
                out = _like(block, size, self.dtype) if out is None else out
                here = slice(first - rows.start, last - rows.start)
                gone = None if invalid is None else invalid[here]
                decode_values(block, scale, offset, self.nodata, gone, out=out[:, here])
        assert out is not None
        return out

    def _step(self, size: tuple[int, int, int]) -> int | None:
        """Bands or rows of one piece; None where the read is small or cannot be cut."""
        total = size[0] * size[1] * size[2] * self.stored.itemsize
        if not self.split or total <= 2 * PIECE:
            return None
        axis = 0 if self.split == "band" else 1
        step = max(1, PIECE // max(1, total // size[axis]))
        if self.chunks is not None:
            # Whole stored blocks, so that none is unpacked twice.
            block = self.chunks[axis]
            step = max(block, step // block * block)
        return step


def _like(block: np.ndarray, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    """Empty array of `shape` laid out in memory in the order of `block`'s axes."""
    order = sorted(range(3), key=lambda axis: -abs(block.strides[axis]))
    return np.empty([shape[axis] for axis in order], dtype=dtype).transpose(np.argsort(order))


def decode_values(
    stored: np.ndarray,
    scale: Any = 1.0,
    offset: Any = 0.0,
    nodata: float | int | None = None,
    invalid: np.ndarray | None = None,
    out: np.ndarray | None = None,
    dtype: Any = np.float32,
) -> np.ndarray:
    """Physical values (float32 unless `dtype` says otherwise) with NaN for nodata.

    Parameters
    ----------
    stored : ndarray, shape (band, y, x)
        Overwritten and returned where it has the type wanted and `out` is not given.
    scale, offset : float or ndarray of shape (band,)
        value = stored * scale + offset. A scale of 1/n is applied as a division by n, so that 10000 counts are exactly
        the float32 nearest to their quotient.
    nodata : optional
        Stored value that becomes NaN.
    invalid : ndarray of bool, shape (y, x), optional
        Pixels that become NaN in every band.
    out : ndarray of float, optional
    """
    if out is None:
        if stored.dtype == dtype and stored.flags.writeable:
            out = stored
        else:
            out = np.empty_like(stored, dtype=dtype, order="K")
    order = sorted(range(3), key=lambda axis: -abs(stored.strides[axis]))
    a, o = stored.transpose(order), out.transpose(order)
    factor, divide = _factor(scale, out.dtype)
    shift = _compact(offset).astype(out.dtype)
    shape = [-1 if axis == 0 else 1 for axis in order]
    factor = factor.reshape(shape) if factor.ndim else factor
    shift = shift.reshape(shape) if shift.ndim else shift
    scaled, shifted = bool(np.any(factor != 1.0)), bool(np.any(shift != 0.0))
    value = None if nodata is None or nodata != nodata else stored.dtype.type(nodata)
    gather = out is not stored and not a[0].flags.c_contiguous
    step = max(1, (PIECE // 16 if gather else PIECE) // max(1, a[0].size * a.dtype.itemsize))
    scratch = np.empty((min(step, a.shape[0]), *a.shape[1:]), dtype=a.dtype.newbyteorder("=")) if gather else None
    along = order[0] == 0
    for first in range(0, a.shape[0], step):
        part = slice(first, first + step)
        values, target = a[part], o[part]
        if scratch is not None:
            values = scratch[: len(values)]
            np.copyto(values, a[part])
        # Looked for before the values are overwritten.
        gone = np.equal(values, value) if value is not None and not values.min() > value else None
        if scaled:
            by = factor[part] if factor.ndim and along else factor
            operation = np.divide if divide else np.multiply
            operation(values, by, out=target, dtype=target.dtype, casting="unsafe")
        elif out is not stored:
            np.copyto(target, values, casting="unsafe")
        if shifted:
            target += shift[part] if shift.ndim and along else shift
        if gone is not None:
            np.copyto(target, np.nan, where=gone, casting="unsafe")
    if invalid is not None:
        np.copyto(out, np.nan, where=invalid, casting="unsafe")
    return out


def _compact(value: Any) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    return np.asarray(array.flat[0]) if array.ndim and np.all(array == array.flat[0]) else array


def _factor(scale: Any, dtype: np.dtype) -> tuple[np.ndarray, bool]:
    """Scale as scalar or array of `dtype`, or its whole-number inverse and True."""
    array = _compact(scale)
    if not array.ndim:
        value, divide = _inverse(float(array))
        return np.asarray(value, dtype=dtype), divide
    pairs = [_inverse(float(v)) for v in array]
    if all(divide for _, divide in pairs):
        return np.array([v for v, _ in pairs], dtype=dtype), True
    return array.astype(dtype), False


@lru_cache(maxsize=4096)
def _inverse(scale: float) -> tuple[float, bool]:
    if scale == 0 or not np.isfinite(scale) or abs(scale) >= 1:
        return scale, False
    whole = round(1.0 / scale)
    if abs(whole) < 2**24 and abs(1.0 / scale - whole) <= 1e-9 * abs(whole):
        return float(whole), True
    return scale, False


def as_cube(
    array: StoredArray,
    *,
    quantity: str,
    raw: bool = False,
    attrs: Mapping[str, Any] | None = None,
    **bands: Any,
) -> xr.DataArray:
    """Lazy cube over stored numbers, not yet on the ground (see `geo.place`).

    Integers of quantity dn without a scale keep their type, and nodata goes to ``attrs["nodata"]``; everything else
    becomes float32 with NaN, or with `raw` stays as stored with ``attrs["packing"]``.

    Parameters
    ----------
    array : StoredArray
        Its `decode` is set here.
    **bands
        ``wavelength``, ``fwhm``, ``good``, ``number``, ``detector`` as for `make_cube`.
    """
    facts = dict(attrs or {})
    counts = quantity == "dn" and array.stored.kind in "iu" and not array.scaled
    array.decode = not raw and not counts
    if counts:
        if array.nodata is not None:
            facts["nodata"] = array.nodata
    elif raw and (array.scaled or array.stored.kind in "iu" or array.nodata is not None):
        facts["packing"] = array.packing()
    variable = xr.Variable(DIMS, indexing.LazilyIndexedArray(array))
    cube = make_cube(variable, quantity=quantity, attrs=facts, **bands)
    cube.encoding = storage(array)
    return cube


def storage(array: StoredArray) -> dict[str, Any]:
    """Encoding of a lazy cube: source, stored type and block size."""
    found: dict[str, Any] = {"source": array.source, "dtype": str(array.stored)}
    if array.chunks is not None:
        found["preferred_chunks"] = dict(zip(DIMS, array.chunks, strict=True))
    return found


def as_layer(values: Any, name: str, attrs: Mapping[str, Any] | None = None) -> xr.DataArray:
    """A (y, x) layer from an array (or a lazy one-band `StoredArray`), on a grid that lies nowhere."""
    if isinstance(values, StoredArray):
        variable = xr.Variable(DIMS, indexing.LazilyIndexedArray(values))[0]
    else:
        variable = xr.Variable(("y", "x"), values)
    coords = {"y": np.arange(variable.shape[0]) + 0.5, "x": np.arange(variable.shape[1]) + 0.5}
    return xr.DataArray(variable, coords=coords, name=name, attrs=dict(attrs or {}))


def representable(nodata: Any, dtype: np.dtype) -> float | int | None:
    """The nodata value as a plain number that `dtype` can hold, else None (nothing stored can equal it)."""
    if nodata is None:
        return None
    value = float(nodata)
    if dtype.kind in "iu":
        if not np.isfinite(value) or value != int(value):
            return None
        limits = np.iinfo(dtype)
        whole = int(nodata) if isinstance(nodata, (int, np.integer)) else int(value)
        return whole if limits.min <= whole <= limits.max else None
    if dtype.kind == "f":
        if not np.isfinite(value):
            # Infinity may be stored; NaN needs no replacing.
            return None if np.isnan(value) else value
        return float(dtype.type(value))
    return None


def _per_band(value: Any, bands: int) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64).reshape(-1)
    return np.full(bands, array[0]) if array.size == 1 else array


def _index(key: Any, size: int) -> slice | np.ndarray:
    """A slice with start, stop and no step where the key runs up by one, else indices."""
    if isinstance(key, slice):
        start, stop, step = key.indices(size)
        if step == 1:
            return slice(start, max(start, stop))
        return np.arange(start, stop, step)
    array = np.atleast_1d(np.asarray(key))
    array = np.where(array < 0, array + size, array)
    found = as_slice(array) if array.size else array
    return found if isinstance(found, slice) and found.step is None else array


def _length(key: slice | np.ndarray) -> int:
    return key.stop - key.start if isinstance(key, slice) else int(key.size)


def _array(key: slice | np.ndarray) -> np.ndarray:
    return np.arange(key.start, key.stop) if isinstance(key, slice) else key


def as_slice(index: np.ndarray) -> slice | np.ndarray:
    """The indices as a slice where they are evenly spaced and ascending."""
    if index.size == 1:
        return slice(int(index[0]), int(index[0]) + 1)
    step = int(index[1] - index[0])
    if step > 0 and bool(np.all(np.diff(index) == step)):
        return slice(int(index[0]), int(index[-1]) + 1, step if step > 1 else None)
    return index


def _stretches(rows: np.ndarray, most: int) -> Iterator[tuple[slice, int, int]]:
    """Cut row indices into runs whose ends lie at most `most` rows apart: (part of `rows`, low, high)."""
    first = 0
    while first < rows.size:
        last = first + 1
        low = high = int(rows[first])
        while last < rows.size:
            row = int(rows[last])
            near = abs(row - int(rows[last - 1])) <= 8
            if not near or max(high, row) - min(low, row) + 1 > most:
                break
            low, high = min(low, row), max(high, row)
            last += 1
        yield slice(first, last), low, high + 1
        first = last
