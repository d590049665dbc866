"""Windows of HDF5 datasets as lazy arrays, and plain values of attributes: what HDF5 and netCDF-4 readers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from xarray.core import indexing

from torchspectral.cube import DIMS
from torchspectral.errors import BrokenProduct
from torchspectral.geo.glt import GLT
from torchspectral.geo.grids import Grid, parse_crs
from torchspectral.io.readers.base import StoredArray
from torchspectral.io.readers.handles import Handle
from torchspectral.io.safety import check_read, check_scene, open_hdf5

_MAGIC = b"\x89HDF\r\n\x1a\n"
_STARTS = (0, 512, 1024, 2048)
_MOST_TEXTS = 100_000
_MOST_TEXT = 64 << 20


def open_file(path: str) -> Any:
    """Checked h5py file; the opener of every `Handle` on HDF5 and netCDF-4."""
    return open_hdf5(path)


def is_hdf5(path: Path) -> bool:
    """Whether a file starts as HDF5 does, where HDF5 may start."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        for start in _STARTS:
            file.seek(start)
            if file.read(len(_MAGIC)) == _MAGIC:
                return True
    return False


def plain(value: Any) -> Any:
    """An attribute or scalar as text, number or array: one-element arrays are what they hold, bytes are text."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip("\0 \n\t")
    if isinstance(value, str):
        return value.strip("\0 \n\t")
    return value.item() if isinstance(value, np.generic) else value


def attribute(item: Any, *names: str) -> Any:
    """The first of some attributes that an object has, `plain`; None where it has none of them."""
    for name in names:
        if name in item.attrs:
            return plain(item.attrs[name])
    return None


def text_attribute(item: Any, *names: str) -> str:
    """The first of some attributes that is a text; "" where there is none."""
    for name in names:
        value = attribute(item, name)
        if isinstance(value, str) and value:
            return value
    return ""


def is_numeric(item: Any) -> bool:
    """Whether an object is a dataset of real numbers."""
    return hasattr(item, "dtype") and hasattr(item, "chunks") and item.dtype.kind in "iuf"


def vector(item: Any, source: str | Path) -> np.ndarray:
    """A short numeric dataset as float64, shape (n,).

    Raises
    ------
    BrokenProduct, TooLarge
    """
    if not is_numeric(item):
        raise BrokenProduct(f"{Path(source).name}: {getattr(item, 'name', item)} holds no numbers")
    check_read((item.size, 8), "u1", source)
    return np.asarray(item[()], dtype=np.float64).reshape(-1)


def texts(item: Any, source: str | Path) -> list[str]:
    """A dataset of texts (variable or fixed length, or rows of characters) as a list.

    Raises
    ------
    BrokenProduct
        It holds something else, or too many.
    """
    name = Path(source).name
    if item.size > _MOST_TEXTS or item.size * item.dtype.itemsize > _MOST_TEXT or item.dtype.kind not in "OSU":
        raise BrokenProduct(f"{name}: {item.name} holds {item.size} values of {item.dtype}, expected a list of texts")
    values = np.asarray(item[()]) if item.dtype.kind != "O" or item.ndim != 1 else _long_texts(item, name)
    if values.dtype.kind == "S" and values.dtype.itemsize == 1 and values.ndim == 2:
        values = np.array([b"".join(row.tolist()) for row in values], dtype=object)
    return [str(plain(v)) for v in values.reshape(-1)]


def _long_texts(item: Any, name: str) -> np.ndarray:
    """Texts of any length, a few at a time: many references may share one text as large as the file."""
    step = max(1, _MOST_TEXT // max(1, item.file.id.get_filesize()))
    found: list[Any] = []
    total = 0
    for start in range(0, item.size, step):
        part = item[start : start + step]
        total += sum(map(len, part))
        if total > _MOST_TEXT:
            raise BrokenProduct(f"{name}: the texts of {item.name} take more than {_MOST_TEXT >> 20} MB")
        found.extend(part)
    return np.array(found, dtype=object)


class Hdf5Array(StoredArray):
    """Lazy (band, y, x) array over one or several HDF5 datasets whose axes may come in any order.

    Parameters
    ----------
    handle : Handle
        Of the h5py file.
    places : sequence of str
        Datasets of one type and layout.
    axes : tuple of int
        Which axis of them is band, y, x; -1 for a band axis that they do not have. All other axes must have length 1.
    where : array_like of int, shape (band, 2), optional
        Dataset and its 0-based band, for each band of the array; by default all bands of the datasets in turn.
    flipped : tuple of bool
        Whether rows, columns are stored in reverse order.
    unsigned : bool
        Whether signed integers stand for unsigned ones (``_Unsigned`` of netCDF).
    """

    def __init__(
        self,
        handle: Handle,
        places: Sequence[str],
        axes: tuple[int, int, int],
        where: Any = None,
        *,
        flipped: tuple[bool, bool] = (False, False),
        unsigned: bool = False,
        **more: Any,
    ) -> None:
        self.handle = handle
        self.places = tuple(places)
        self.axes = axes
        self.flipped = flipped
        file = handle.get()
        first = file[self.places[0]]
        name = Path(handle.path).name
        for place in self.places:
            item = file[place]
            if not is_numeric(item):
                raise BrokenProduct(f"{name}: {place} holds {getattr(item, 'dtype', 'a group')}, expected numbers")
            check_scene(item.shape, item.dtype, handle.path)
            if item.dtype != first.dtype or [item.shape[a] for a in axes[1:]] != [first.shape[a] for a in axes[1:]]:
                raise BrokenProduct(
                    f"{name}: {place} has shape {item.shape} of {item.dtype}, {self.places[0]} has {first.shape} of "
                    f"{first.dtype}, expected equal rows, columns and type"
                )
            if any(n != 1 for axis, n in enumerate(item.shape) if axis not in axes):
                raise BrokenProduct(f"{name}: {place} has shape {item.shape}, expected a band, a y and an x axis")
        if where is None:
            counts = [1 if axes[0] < 0 else int(file[p].shape[axes[0]]) for p in self.places]
            where = [(number, band) for number, count in enumerate(counts) for band in range(count)]
        self.where = np.asarray(where, dtype=np.int64).reshape(-1, 2)
        blocks = first.chunks
        chunks = None
        if blocks is not None:
            chunks = tuple(1 if axis < 0 else int(blocks[axis]) for axis in axes)
        stored = first.dtype.newbyteorder("=")
        self.unsigned = unsigned and stored.kind == "i"
        band_first = axes[0] < 0 or axes[0] < min(axes[1:])
        super().__init__(
            (len(self.where), first.shape[axes[1]], first.shape[axes[2]]),
            np.dtype(f"u{stored.itemsize}") if self.unsigned else stored,
            source=handle.path,
            chunks=chunks,
            split="band" if band_first else "y",
            **more,
        )

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window, bands in the order of the array."""
        wanted = self.where[bands]
        file = self.handle.get()
        lines, columns = (
            _turned(part, n, f) for part, n, f in zip((rows, cols), self.shape[1:], self.flipped, strict=True)
        )
        numbers = np.unique(wanted[:, 0])
        if numbers.size == 1 and self.axes[0] >= 0 and np.all(np.diff(wanted[:, 1]) == 1):
            part = slice(int(wanted[0, 1]), int(wanted[-1, 1]) + 1)
            return self._block(file[self.places[int(numbers[0])]], part, lines, columns)
        out = np.empty((len(wanted), rows.stop - rows.start, cols.stop - cols.start), dtype=self.stored)
        for number in numbers:
            dataset = file[self.places[int(number)]]
            at = np.flatnonzero(wanted[:, 0] == number)
            if self.axes[0] < 0:
                out[at] = self._block(dataset, slice(0, 1), lines, columns)
                continue
            for some, low, high in runs(wanted[at, 1]):
                block = self._block(dataset, slice(low, high), lines, columns)
                out[at[some]] = block[wanted[at[some], 1] - low]
        return out

    def _block(self, dataset: Any, bands: slice, rows: slice, cols: slice) -> np.ndarray:
        """One read, as (band, y, x)."""
        key: list[Any] = [0] * len(dataset.shape)
        for axis, part in zip(self.axes, (bands, rows, cols), strict=True):
            if axis >= 0:
                key[axis] = part
        block = np.asarray(dataset[tuple(key)])
        left = [axis for axis in range(len(dataset.shape)) if axis in self.axes]
        block = block.transpose([left.index(axis) for axis in self.axes if axis >= 0])
        if self.axes[0] < 0:
            block = block[None]
        block = block[:, :: -1 if self.flipped[0] else 1, :: -1 if self.flipped[1] else 1]
        if self.unsigned:
            block = block.astype(block.dtype.newbyteorder("="), copy=False).view(self.stored)
        return block.astype(self.stored, copy=False)


def _turned(part: slice, size: int, flipped: bool) -> slice:
    return slice(size - part.stop, size - part.start) if flipped else part


def runs(bands: np.ndarray, gap: int = 8) -> Iterator[tuple[np.ndarray, int, int]]:
    """Cut wanted bands into stretches worth one read: (positions, low, high); small gaps are read over."""
    order = np.argsort(bands, kind="stable")
    ordered = bands[order]
    for part in np.split(np.arange(bands.size), np.flatnonzero(np.diff(ordered) > gap) + 1):
        yield order[part], int(ordered[part[0]]), int(ordered[part[-1]]) + 1


class FlagArray(StoredArray):
    """True where any of some bands of stored numbers is set; shape (1, y, x).

    Parameters
    ----------
    source : StoredArray
    bands : sequence of int
        Bands of `source` to look at.
    bits : int, optional
        Bits that set the flag; not 0 without.
    value : int, optional
        Value that sets the flag, in place of bits.
    missing : bool
        Whether nodata sets the flag; it never does otherwise.
    """

    def __init__(
        self,
        source: StoredArray,
        bands: Sequence[int] = (0,),
        *,
        bits: int | None = None,
        value: int | None = None,
        missing: bool = False,
    ) -> None:
        self.array, self.bands, self.bits, self.value, self.missing = source, tuple(bands), bits, value, missing
        chunks = None if source.chunks is None else (1, *source.chunks[1:])
        super().__init__((1, *source.shape[1:]), bool, source=source.source, chunks=chunks, decode=False)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """The flag in a window."""
        found = np.zeros((1, rows.stop - rows.start, cols.stop - cols.start), dtype=bool)
        for band in self.bands:
            block = self.array.read(slice(band, band + 1), rows, cols)
            gone = np.isnan(block) if block.dtype.kind == "f" else np.zeros(block.shape, dtype=bool)
            if self.array.nodata is not None:
                gone |= block == self.array.nodata
            if self.bits is not None:
                there = (block.astype(np.int64) & self.bits) != 0
            else:
                there = block != 0 if self.value is None else block == self.value
            found |= (there & ~gone) | (gone if self.missing else False)
        return found


def as_plane(array: StoredArray) -> Any:
    """The first band of a lazy array as a lazy 2-D array, for coordinates."""
    return xr.Variable(DIMS, indexing.LazilyIndexedArray(array))[0]._data


def as_layers(array: StoredArray, names: Sequence[str], name: str, attrs: dict[str, Any] | None = None) -> xr.DataArray:
    """Lazy (layer, y, x) layers, on a grid that lies nowhere."""
    data = xr.Variable(("layer", "y", "x"), indexing.LazilyIndexedArray(array))
    coords = {
        "layer": np.array([str(n) for n in names], dtype=np.str_),
        "y": np.arange(array.shape[1]) + 0.5,
        "x": np.arange(array.shape[2]) + 0.5,
    }
    return xr.DataArray(data, coords=coords, name=name, attrs=dict(attrs or {}))


class StoredGLT(GLT):
    """A lookup table in an HDF5 file, read when it is first looked at and checked as every `GLT` is.

    Parameters
    ----------
    handle : Handle
    places : tuple of str
        Datasets of the 1-based sensor columns and rows, shape (rows, cols).
    transform, crs
        Of the map grid.
    """

    __slots__ = ("_handle", "_known", "_places", "_size")
    _handle: Handle
    _known: GLT | None
    _places: tuple[str, str]
    _size: tuple[int, int]

    def __init__(self, handle: Handle, places: tuple[str, str], transform: Affine, crs: Any) -> None:
        parsed = parse_crs(crs)
        items = [handle.get()[place] for place in places]
        shapes = [tuple(getattr(item, "shape", ())) for item in items]
        if len(shapes[0]) != 2 or shapes[0] != shapes[1] or 0 in shapes[0] or parsed is None:
            raise BrokenProduct(
                f"{Path(handle.path).name}: {places[0]} has shape {shapes[0]} and {places[1]} {shapes[1]}, expected two "
                "equal 2-D tables and their spatial_ref"
            )
        check_scene(shapes[0], items[0].dtype, handle.path)
        for key, value in (
            ("_handle", handle), ("_places", places), ("_size", shapes[0]), ("_known", None),
            ("_transform", transform), ("_crs", parsed),
        ):  # fmt: skip
            object.__setattr__(self, key, value)

    def _table(self) -> GLT:
        known = self._known
        if known is None:
            file = self._handle.get()
            for place in self._places:
                check_read(file[place].shape, file[place].dtype, self._handle.path)
            x, y = (file[place][()] for place in self._places)
            known = GLT(x, y, self._transform, self._crs)
            object.__setattr__(self, "_known", known)
        return known

    @property
    def _x(self) -> np.ndarray:  # type: ignore[override]
        return self._table()._x

    @property
    def _y(self) -> np.ndarray:  # type: ignore[override]
        return self._table()._y

    @property
    def filled(self) -> bool:  # type: ignore[override]
        """Whether the table had negative (nearest-filled) entries."""
        return self._table().filled

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map grid."""
        return self._size

    @property
    def grid(self) -> Grid:
        """The map grid."""
        t = self._transform
        return Grid("map" if t.b == 0 and t.d == 0 else "rotated", self._size[1], self._size[0], t, self._crs)

    def __repr__(self) -> str:
        return f"<GLT {self._size[0]} x {self._size[1]} in {Path(self._handle.path).name}, {self._crs.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredGLT, (self._handle, self._places, self._transform, self._crs.to_wkt())
