"""Flat binary (band, y, x) arrays on disk, read and written in windows without memory maps.

The one way in which torchspectral touches raw pixels: backend of the ENVI reader and writer and scratch of
the engine. Only ``pread``/``pwrite`` are used, so that pages of the file never count as memory of the process,
several threads may share one array, and a full disk is an error instead of a killed process.

A window is read in as few calls as its layout allows: one for each band (bsq) or one for all (bil, bip) where
it spans whole rows, and otherwise by *sieving*: gaps of at most `GAP` bytes are read along with what is
wanted, in pieces that stay in the processor's cache, because a call costs as much as copying some kilobytes.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from torchspectral.errors import BadCube, BrokenProduct, OutputFailed, ProductNotFound

INTERLEAVES = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}
"""Axes of (band, y, x) in the order in which they lie on disk."""

GAP = 16 << 10
"""Largest gap between two wanted runs that is read along with them [bytes]."""

PIECE = 1 << 20
"""Size of one sieving read [bytes]."""

# Linux moves at most 0x7ffff000 bytes in one call.
_CALL = 1 << 30

_mode = threading.local()


@contextlib.contextmanager
def streaming() -> Iterator[None]:
    """Within, this thread reads by calls alone: no reader maps a file, whatever the window (the engine's streams)."""
    before = getattr(_mode, "streams", False)
    _mode.streams = True
    try:
        yield
    finally:
        _mode.streams = before


def is_streaming() -> bool:
    """Whether this thread is within `streaming`."""
    return getattr(_mode, "streams", False)


Axis = slice | np.ndarray
"""Which indices of one axis: a slice with positive step, or an array of integers."""


class RawArray:
    """A (band, y, x) array in a flat file; cheap to make, picklable, opened on first use.

    Parameters
    ----------
    path : str or Path
    shape : tuple of int
        Bands, rows, columns, whatever the interleave.
    dtype : numpy dtype
        Its byte order is replaced by `byteorder`.
    interleave : {"bsq", "bil", "bip"}
        Order on disk: (band, y, x), (y, band, x) or (y, x, band).
    offset : int
        Bytes before the first value.
    byteorder : {"<", ">"}
    writable : bool

    Raises
    ------
    ProductNotFound
        No such file.
    BrokenProduct
        The file is shorter than the array.
    BadCube
        Shape, interleave or byte order make no sense.
    """

    def __init__(
        self,
        path: str | Path,
        shape: tuple[int, int, int],
        dtype: Any,
        interleave: str = "bsq",
        offset: int = 0,
        byteorder: str = "<",
        writable: bool = False,
    ) -> None:
        if interleave not in INTERLEAVES:
            raise BadCube(f"got interleave {interleave!r}, expected one of {', '.join(INTERLEAVES)}")
        if byteorder not in ("<", ">"):
            raise BadCube(f"got byte order {byteorder!r}, expected '<' (little) or '>' (big)")
        if len(shape) != 3 or min(shape) < 1 or offset < 0:
            raise BadCube(f"got a raw array of shape {tuple(shape)} after {offset} bytes, expected (band, y, x) >= 1")
        self.path = Path(path)
        self.shape: tuple[int, int, int] = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.interleave = interleave
        self.offset = int(offset)
        self.byteorder = byteorder
        self.writable = writable
        self._disk_dtype = self.dtype.newbyteorder(byteorder)
        self._order = INTERLEAVES[interleave]
        self._fd = -1
        self._lock = threading.Lock()
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            raise ProductNotFound(f"{self.path} does not exist: expected a raw file of {self.nbytes} bytes") from None
        if size < self.offset + self.nbytes:
            raise BrokenProduct(
                f"{self.path} has {size} bytes, expected {self.offset + self.nbytes} for {self.shape} values "
                f"of {self.dtype} after {self.offset} bytes: the file is truncated or its header is wrong"
            )

    @classmethod
    def create(
        cls,
        path: str | Path,
        shape: tuple[int, int, int],
        dtype: Any,
        interleave: str = "bsq",
        offset: int = 0,
        byteorder: str = "<",
    ) -> RawArray:
        """Make a sparse file of the right size (all zeros, no disk used yet) and open it for writing.

        Raises
        ------
        OutputFailed
            The file cannot be made.
        """
        size = offset + int(np.prod([int(n) for n in shape], dtype=object)) * np.dtype(dtype).itemsize
        try:
            with Path(path).open("wb") as file:
                file.truncate(size)
        except OSError as error:
            raise output_failed(path, error) from error
        return cls(path, shape, dtype, interleave, offset, byteorder, writable=True)

    @property
    def ndim(self) -> int:
        """Always three."""
        return 3

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return self.shape[0] * self.shape[1] * self.shape[2] * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"<RawArray {self.shape} {self.dtype} {self.interleave} in {self.path.name}>"

    def read(self, rows: Axis, cols: Axis, bands: Axis | None = None) -> np.ndarray:
        """Read a window.

        Parameters
        ----------
        rows, cols, bands : slice or array of int
            Slices need a positive step; None means all bands.

        Returns
        -------
        ndarray, shape (band, y, x)
            Native byte order. Laid out in memory as on disk, so bil and bip come as transposed views.

        Raises
        ------
        BrokenProduct
            The file ended early or the disk cannot be read.
        """
        wanted = (slice(None) if bands is None else bands, rows, cols)
        indices = [_indices(key, size) for key, size in zip(wanted, self.shape, strict=True)]
        native = [indices[axis] for axis in self._order]
        out = np.empty([len(i) for i in native], dtype=self._disk_dtype)
        if out.size:
            self._gather(native, out)
        if not self._disk_dtype.isnative:
            out = out.byteswap(inplace=True).view(self.dtype)
        return out.transpose(np.argsort(self._order))

    def __getitem__(self, key: tuple[Any, Any, Any]) -> np.ndarray:
        """Outer indexing by (band, y, x): integers drop their axis, slices and integer arrays keep it."""
        parts: list[Axis] = []
        drop: list[Any] = []
        for part, size in zip(key, self.shape, strict=True):
            if isinstance(part, (int, np.integer)):
                at = int(part) + (size if part < 0 else 0)
                parts.append(slice(at, at + 1))
                drop.append(0)
            elif isinstance(part, slice) and (part.step or 1) < 0:
                parts.append(np.arange(size)[part])
                drop.append(slice(None))
            else:
                parts.append(part)
                drop.append(slice(None))
        return self.read(parts[1], parts[2], parts[0])[tuple(drop)]

    def _gather(self, native: list[np.ndarray], out: np.ndarray) -> None:
        """Fill `out` (axes as on disk) with the values at the outer product of `native`."""
        _, size_b, size_c = (self.shape[axis] for axis in self._order)
        item = self.dtype.itemsize
        for part_a, run_a in _runs(native[0], 0):
            for part_b, run_b in _runs(native[1], GAP // max(1, size_c * item)):
                for part_c, run_c in _runs(native[2], GAP // item):
                    picks = [
                        None if (hi - lo) == (part.stop - part.start) else native[axis][part] - lo
                        for axis, part, (lo, hi) in (
                            (0, part_a, run_a), (1, part_b, run_b), (2, part_c, run_c)
                        )
                    ]  # fmt: skip
                    target = out[part_a, part_b, part_c]
                    if all(p is None for p in picks):
                        self._read_box(run_a, run_b, run_c, size_b, size_c, target)
                        continue
                    # Strided picks: row by row of the slowest axis, so that the detour stays small.
                    for n, a in enumerate(range(*run_a)):
                        box = np.empty((1, run_b[1] - run_b[0], run_c[1] - run_c[0]), dtype=out.dtype)
                        self._read_box((a, a + 1), run_b, run_c, size_b, size_c, box)
                        line = box[0] if picks[1] is None else box[0][picks[1]]
                        target[n] = line if picks[2] is None else line[:, picks[2]]

    def _read_box(
        self,
        run_a: tuple[int, int],
        run_b: tuple[int, int],
        run_c: tuple[int, int],
        size_b: int,
        size_c: int,
        target: np.ndarray,
    ) -> None:
        item = self.dtype.itemsize
        whole_c = run_c == (0, size_c)
        whole_b = run_b == (0, size_b)

        def place(a: int, b: int, c: int) -> int:
            return self.offset + ((a * size_b + b) * size_c + c) * item

        if whole_c and (whole_b or run_a[1] - run_a[0] == 1) and target.flags.c_contiguous:
            self._pread(target, place(run_a[0], run_b[0], 0))
            return
        length_b, length_c = run_b[1] - run_b[0], run_c[1] - run_c[0]
        # One buffer for all pieces: fresh memory would cost a page fault every 4 KiB.
        step = max(1, min(length_b, PIECE // (size_c * item)))
        buffer = np.empty((step - 1) * size_c + length_c, dtype=target.dtype)
        for n, a in enumerate(range(*run_a)):
            plane = target[n]
            if whole_c and plane.flags.c_contiguous:
                self._pread(plane, place(a, run_b[0], 0))
            elif (size_c - length_c) * item <= GAP and length_b > 1:
                for b in range(0, length_b, step):
                    count = min(step, length_b - b)
                    flat = buffer[: (count - 1) * size_c + length_c]
                    self._pread(flat, place(a, run_b[0] + b, run_c[0]))
                    lines = np.lib.stride_tricks.as_strided(
                        flat, (count, length_c), (size_c * item, item), writeable=False
                    )
                    plane[b : b + count] = lines
            else:
                for b in range(length_b):
                    self._pread_line(plane[b], place(a, run_b[0] + b, run_c[0]))

    def _pread_line(self, line: np.ndarray, position: int) -> None:
        if line.flags.c_contiguous:
            self._pread(line, position)
        else:
            flat = np.empty(line.shape, dtype=line.dtype)
            self._pread(flat, position)
            line[...] = flat

    def _pread(self, buffer: np.ndarray, position: int) -> None:
        view = memoryview(buffer.reshape(-1).view(np.uint8).data)
        done, total, fd = 0, len(view), self._open()
        while done < total:
            try:
                got = os.preadv(fd, [view[done : done + _CALL]], position + done)
            except OSError as error:
                raise BrokenProduct(
                    f"{self.path} cannot be read at byte {position + done}: {error.strerror}"
                ) from error
            if got == 0:
                raise BrokenProduct(f"{self.path} ended at byte {position + done}: it was cut short while open")
            done += got

    def write(self, row: int, col: int, block: np.ndarray, band: int = 0) -> None:
        """Write a block with its first value at (band, row, col); values are cast to the file's type.

        Parameters
        ----------
        block : ndarray, shape (band, y, x)

        Raises
        ------
        OutputFailed
            Disk full or another error of the system.
        BadCube
            The block does not lie inside the array.
        """
        block = np.asarray(block)
        starts = (band, row, col)
        if block.ndim != 3 or any(
            s < 0 or s + n > size for s, n, size in zip(starts, block.shape, self.shape, strict=True)
        ):
            raise BadCube(f"got a block of shape {block.shape} at {starts}, expected it inside {self.shape}")
        native = np.ascontiguousarray(block.transpose(self._order), dtype=self._disk_dtype)
        (size_b, size_c) = (self.shape[axis] for axis in self._order[1:])
        a, b, c = (starts[axis] for axis in self._order)
        item = self.dtype.itemsize

        def place(i: int, j: int) -> int:
            return self.offset + (((a + i) * size_b + b + j) * size_c + c) * item

        if native.shape[1:] == (size_b, size_c):
            self._pwrite(native, place(0, 0))
        elif native.shape[2] == size_c:
            for i in range(native.shape[0]):
                self._pwrite(native[i], place(i, 0))
        else:
            for i in range(native.shape[0]):
                for j in range(native.shape[1]):
                    self._pwrite(native[i, j], place(i, j))

    def _pwrite(self, buffer: np.ndarray, position: int) -> None:
        view = memoryview(buffer.reshape(-1).view(np.uint8).data)
        done, total, fd = 0, len(view), self._open()
        while done < total:
            try:
                done += os.pwrite(fd, view[done : done + _CALL], position + done)
            except OSError as error:
                raise output_failed(self.path, error) from error

    def sync(self) -> None:
        """Force what was written onto the disk.

        Raises
        ------
        OutputFailed
            The system reports a late write error.
        """
        try:
            os.fsync(self._open())
        except OSError as error:
            raise output_failed(self.path, error) from error

    def _open(self) -> int:
        if self._fd < 0:
            with self._lock:
                if self._fd < 0:
                    flags = os.O_RDWR if self.writable else os.O_RDONLY
                    try:
                        self._fd = os.open(self.path, flags | getattr(os, "O_CLOEXEC", 0))
                    except FileNotFoundError:
                        raise ProductNotFound(f"{self.path} does not exist any more: it was moved or deleted") from None
                    except OSError as error:
                        if self.writable:
                            raise output_failed(self.path, error) from error
                        raise BrokenProduct(f"{self.path} cannot be opened: {error.strerror}") from error
        return self._fd

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> RawArray:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # Nothing but its own arguments: when a process ends, modules may be gone before the last array.
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            try:  # noqa: SIM105
                close(fd)
            except OSError:
                pass

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        state["_fd"] = -1
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def lazy(self, dims: tuple[str, str, str] = ("band", "y", "x")) -> xr.Variable:
        """The array as a lazy, uncached, picklable xarray variable."""
        return xr.Variable(dims, indexing.LazilyIndexedArray(RawBackend(self)))

    def stripes(self, budget: int = 64 << 20) -> Iterator[slice]:
        """Row slices of whole rows that hold at most `budget` bytes each (at least one row)."""
        rows = max(1, budget // max(1, self.shape[0] * self.shape[2] * self.dtype.itemsize))
        for row in range(0, self.shape[1], rows):
            yield slice(row, min(row + rows, self.shape[1]))


class RawBackend(BackendArray):
    """A `RawArray` as xarray's lazy indexing sees it."""

    def __init__(self, raw: RawArray) -> None:
        self.raw = raw
        self.shape = raw.shape
        self.dtype = raw.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, lambda outer: self.raw[outer]
        )


def _indices(key: Axis, size: int) -> np.ndarray:
    if isinstance(key, slice):
        start, stop, step = key.indices(size)
        if step < 1:
            raise BadCube(f"got a slice with step {step}, expected a positive step")
        return np.arange(start, stop, step)
    found = np.asarray(key)
    if found.dtype == bool:
        found = np.flatnonzero(found)
    found = np.where(found < 0, found + size, found).astype(np.intp)
    if found.size and (found.min() < 0 or found.max() >= size):
        raise BadCube(f"got index {int(found.max())} on an axis of {size}")
    return found


def _runs(indices: np.ndarray, gap: int) -> Iterator[tuple[slice, tuple[int, int]]]:
    """Split ascending stretches of `indices` where more than `gap` values lie between two neighbours."""
    steps = np.diff(indices)
    cuts = np.flatnonzero((steps < 1) | (steps > 1 + gap)) + 1
    edges = [0, *cuts.tolist(), len(indices)]
    for first, last in itertools.pairwise(edges):
        yield slice(first, last), (int(indices[first]), int(indices[last - 1]) + 1)


@contextlib.contextmanager
def picture_file(target: Path) -> Iterator[Path]:
    """A name of the same kind beside `target` to write to; it becomes `target` when the block is done, else nothing.

    Raises
    ------
    OutputFailed
        The system refuses the folder or the file.
    """
    part = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise output_failed(target, error) from error


def output_failed(path: str | Path, error: OSError) -> OutputFailed:
    """Turn an error of the system into `OutputFailed` with its reason in words."""
    what = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "too large a file",
    }
    reason = what.get(error.errno or 0, error.strerror or str(error))
    return OutputFailed(f"cannot write {Path(path)}: {reason}; free space or choose another place")
