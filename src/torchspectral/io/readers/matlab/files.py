"""Numeric arrays in MATLAB files of v5 and (through h5py) v7.3; nothing else of them is ever loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.errors import BrokenProduct
from torchspectral.io.readers.base import StoredArray
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.matlab.elements import elements, read_numbers
from torchspectral.io.safety import check_read, open_hdf5

_NUMERIC = {
    "double", "single", "logical",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
}  # fmt: skip


@dataclass(frozen=True)
class Variable:
    """One variable, shape as MATLAB sees it; `kind` is its class there."""

    name: str
    shape: tuple[int, ...]
    kind: str

    @property
    def numeric(self) -> bool:
        """Whether it is a full array of real numbers."""
        return self.kind in _NUMERIC

    @property
    def vector(self) -> bool:
        """Whether all axes but one have length 1."""
        return sum(n > 1 for n in self.shape) <= 1


def is_v73(path: Path) -> bool | None:
    """True for HDF5, False for v5 (or v4 by its name), None for something else."""
    with path.open("rb") as file:
        start = file.read(16)
        file.seek(512)
        later = file.read(8)
    if start.startswith(b"MATLAB 5.0"):
        return False
    if start.startswith(b"MATLAB 7.3") or (path.suffix.lower() == ".mat" and start.startswith(b"\x89HDF\r\n")):
        return True
    if later.startswith(b"\x89HDF\r\n"):
        return True if path.suffix.lower() == ".mat" else None
    return None


def variables(path: Path) -> dict[str, Variable]:
    """All variables, without their values.

    Raises
    ------
    BrokenProduct
    """
    if is_v73(path):
        return _variables_v73(path)
    return {name: Variable(name, e.shape, e.kind) for name, e in elements(path).items()}


def open_v73(path: str) -> Any:
    """Checked h5py file."""
    return open_hdf5(path)


def _variables_v73(path: Path) -> dict[str, Variable]:
    import h5py

    file = Handle(open_v73, path).get()
    found: dict[str, Variable] = {}
    for name in file:
        if name.startswith("#"):
            continue
        item = file.get(name)
        if not isinstance(item, h5py.Dataset):
            found[name] = Variable(name, (), "struct")
            continue
        kind = item.attrs.get("MATLAB_class", b"")
        kind = kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)
        if not kind and item.dtype.kind in "iufb":
            kind = {"float64": "double", "float32": "single", "bool": "logical"}.get(str(item.dtype), str(item.dtype))
        if item.dtype.kind not in "iufb" or "MATLAB_sparse" in item.attrs or item.attrs.get("MATLAB_empty", 0):
            kind = kind if kind not in _NUMERIC else "complex"
        found[name] = Variable(name, tuple(reversed(item.shape)), kind)
    return found


def load(path: str | Path, name: str) -> np.ndarray:
    """A numeric variable, axes as in MATLAB, native byte order, kept for the next call."""
    return _load(str(path), Path(path).stat().st_mtime_ns, name)


@lru_cache(maxsize=2)
def _load(path: str, stamp: int, name: str) -> np.ndarray:
    return small(Path(path), name)


def small(path: Path, name: str) -> np.ndarray:
    """A numeric variable, not kept.

    Raises
    ------
    BrokenProduct, TooLarge
    """
    known = variables(path)[name]
    item = 8 if known.kind in ("double", "int64", "uint64") else 4 if known.kind in ("single", "int32", "uint32") else 1
    check_read(known.shape, f"u{item}", path)
    if is_v73(path):
        data = np.asarray(Handle(open_v73, path).get()[name][()])
        return data.transpose()
    found = read_numbers(path, elements(path)[name])
    if known.kind == "logical" and found.dtype != np.uint8:
        raise BrokenProduct(f"{path.name}: {name} is logical but holds {found.dtype}")
    return found


class MatArray(StoredArray):
    """Lazy (band, y, x) array over a MATLAB variable.

    Parameters
    ----------
    path, name : str
    shape : tuple of int
        Bands, rows, columns.
    form : {"cube", "matrix", "image"}
        (rows, cols, bands), (bands, pixels), or (rows, cols).
    order : {"columns", "rows"}
        Whether the pixels of a matrix run down the image's columns, as MATLAB counts, or along its rows.
    turned : bool
        The matrix is (pixels, bands).
    """

    def __init__(
        self,
        path: Path,
        name: str,
        shape: tuple[int, int, int],
        form: str,
        *,
        order: str = "columns",
        turned: bool = False,
        **more: Any,
    ) -> None:
        self.path = str(path)
        self.name = name
        self.form = form
        self.order = order
        self.turned = turned
        self.v73 = bool(is_v73(path))
        chunks = None
        if self.v73:
            dataset = self._dataset()
            stored = np.dtype(np.uint8) if dataset.dtype.kind == "b" else dataset.dtype.newbyteorder("=")
            if dataset.chunks and form == "cube":
                chunks = (dataset.chunks[0], dataset.chunks[2], dataset.chunks[1])
        else:
            stored = elements(path)[name].stored
            if stored is None:
                raise BrokenProduct(f"{Path(path).name}: {name} holds numbers of a type that does not exist")
        super().__init__(shape, stored, source=path, chunks=chunks, **more)

    def _dataset(self) -> Any:
        return Handle(open_v73, self.path).get()[self.name]

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Stored numbers of a window."""
        block = self._v73(bands, rows, cols) if self.v73 else self._v5(bands, rows, cols)
        return np.array(block, dtype=self.stored, order="C")

    def _v5(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        data = load(self.path, self.name)
        if self.form == "cube":
            return data[rows, cols][:, :, bands].transpose(2, 0, 1)
        if self.form == "image":
            return data[rows, cols][None]
        by_rows = self.order == "rows"
        lines = (self.shape[1], self.shape[2]) if by_rows else (self.shape[2], self.shape[1])
        outer, inner = (rows, cols) if by_rows else (cols, rows)
        if self.turned:
            block = data.reshape(*lines, self.shape[0])[outer, inner][:, :, bands].transpose(2, 0, 1)
        else:
            block = data.reshape(self.shape[0], *lines)[bands][:, outer, inner]
        return block if by_rows else block.transpose(0, 2, 1)

    def _v73(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        data = self._dataset()
        if self.form == "image":
            return data[cols, rows].transpose()[None]
        if self.form == "matrix":
            return self._v73_matrix(data, bands, rows, cols)
        if isinstance(bands, slice):
            return data[bands, cols, rows].transpose(0, 2, 1)
        unique, back = np.unique(bands, return_inverse=True)
        return data[unique, cols, rows][back].transpose(0, 2, 1)

    def _v73_matrix(self, data: Any, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """HDF5 holds the axes reversed: (pixels, bands), or (bands, pixels) where the matrix is turned."""
        by_rows = self.order == "rows"
        long = self.shape[2] if by_rows else self.shape[1]
        outer, inner = (rows, cols) if by_rows else (cols, rows)
        part = slice(outer.start * long, outer.stop * long)
        count = outer.stop - outer.start
        if self.turned:
            block = data[:, part][bands].reshape(-1, count, long)[:, :, inner]
        else:
            block = data[part].reshape(count, long, -1)[:, inner][:, :, bands].transpose(2, 0, 1)
        return block if by_rows else block.transpose(0, 2, 1)
