"""Scratch arrays of a run: in memory, or flat files in the journal's folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr

from torchspectral.errors import OutputFailed
from torchspectral.io.raw import RawArray, output_failed


class Scratch(Protocol):
    """A (band, y, x) array that is written block by block."""

    shape: tuple[int, int, int]
    dtype: np.dtype

    def read(self, rows: slice, cols: slice, bands: Any = None) -> np.ndarray:
        """A window, (band, y, x)."""
        ...

    def write(self, row: int, col: int, block: np.ndarray) -> None:
        """Put a block at a place."""
        ...


class MemoryScratch:
    """Scratch that lives in this process."""

    shared = False

    def __init__(self, shape: tuple[int, int, int], dtype: Any) -> None:
        self.values = np.zeros(shape, dtype=dtype)
        self.shape = shape
        self.dtype = self.values.dtype

    def read(self, rows: slice, cols: slice, bands: Any = None) -> np.ndarray:
        """A window, (band, y, x); a view where it can be."""
        return self.values[slice(None) if bands is None else bands, rows, cols]

    def write(self, row: int, col: int, block: np.ndarray) -> None:
        """Put a block at a place."""
        _, height, width = block.shape
        self.values[:, row : row + height, col : col + width] = block

    def variable(self) -> xr.Variable:
        """The values."""
        return xr.Variable(("band", "y", "x"), self.values)

    def close(self) -> None:
        """Nothing to do."""


class FileScratch(RawArray):
    """Scratch in a file: worker processes write into it themselves."""

    shared = True

    def variable(self) -> xr.Variable:
        """The values, lazy."""
        return RawArray(self.path, self.shape, self.dtype, self.interleave).lazy()


def _digest(work: Any) -> str:
    """SHA-256 of all that a function carries; tensors and settings by their values: their pickles differ from run to run."""
    import torch

    from torchspectral.settings import Settings

    class Values(pickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, Settings):
                return str, (f"{type(value)}{value.model_dump()}",)
            if not isinstance(value, torch.Tensor):
                return NotImplemented
            flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            return str, (
                f"{value.dtype}{tuple(value.shape)}{value.device}{hashlib.sha256(flat.numpy().tobytes()).hexdigest()}",
            )

    buffer = io.BytesIO()
    Values(buffer, protocol=5).dump(work)
    return hashlib.sha256(buffer.getvalue()).hexdigest()


class TileLog:
    """Which tiles of an array have been written; a run that was stopped goes on after them.

    They count only where the same work wrote them, to the last bit of its state: another machine may have found the same
    subspace turned. Work that cannot be told apart begins again.
    """

    def __init__(self, path: Path | None, work: Any) -> None:
        self.done: set[int] = set()
        self.path = path
        if path is None:
            return
        try:
            same = _digest(work)
        except Exception:  # whatever a method hands over that has no bytes
            self.path = None
            return
        with contextlib.suppress(OSError, ValueError):
            first, *numbers = path.read_text(encoding="ascii").split("\n")
            if first == same:
                self.done = {int(number) for number in numbers[:-1]}  # the last may be cut off
        if not self.done:
            self._write(same, "w")

    def add(self, number: int) -> None:
        """A tile has been written."""
        if self.path is not None:
            self._write(str(number), "a")

    def _write(self, line: str, mode: str) -> None:
        assert self.path is not None
        try:
            with self.path.open(mode, encoding="ascii") as file:
                file.write(f"{line}\n")
        except OSError as error:
            raise output_failed(self.path, error) from error


class Workspace:
    """Where the scratch arrays of one run live.

    Parameters
    ----------
    folder : Path or None
        The journal's folder; None keeps arrays in memory, or in a temporary folder where other processes write them.
    shared : bool
        Whether other processes write.
    """

    def __init__(self, folder: Path | None, shared: bool = False) -> None:
        self.keeps = folder is not None
        self._temporary = folder is None and shared
        if folder is None and shared:
            try:
                folder = Path(tempfile.mkdtemp(prefix="torchspectral-"))
            except OSError as error:
                raise output_failed(tempfile.gettempdir(), error) from error
        self.folder = folder

    def array(
        self, name: str, shape: tuple[int, ...], dtype: Any, *, reuse: bool = False, interleave: str = "bsq"
    ) -> MemoryScratch | FileScratch:
        """Make an array, or open the one of an earlier run (`reuse`).

        Raises
        ------
        OutputFailed
            The file cannot be made, or the disk has too little space for it.
        """
        bands, rows, cols = (int(n) for n in shape)
        size = bands, rows, cols
        if self.folder is None:
            return MemoryScratch(size, dtype)
        path = self.folder / f"{name}.raw"
        if reuse and path.exists():
            return FileScratch(path, size, dtype, interleave, writable=True)
        need = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        free = shutil.disk_usage(self.folder).free
        if need > free:
            raise OutputFailed(
                f"{self.folder.parent} has {free / 1e6:.1f} MB free, expected {need / 1e6:.1f} MB for {name}: "
                "free space or choose another place"
            )
        made = FileScratch.create(path, size, dtype, interleave)
        assert isinstance(made, FileScratch)
        return made

    def drop(self, name: str) -> None:
        """Delete an array that is not needed any more."""
        if self.folder is not None:
            for file in (f"{name}.raw", f"{name}.tiles"):
                with contextlib.suppress(OSError):
                    (self.folder / file).unlink()

    def tiles(self, name: str, work: Any) -> TileLog:
        """The record of which tiles of an array have been written by `work`, in this run or the one that it resumes."""
        if not self.keeps or self.folder is None:
            return TileLog(None, work)
        if not (self.folder / f"{name}.raw").exists():
            self.drop(name)
        return TileLog(self.folder / f"{name}.tiles", work)

    def close(self) -> None:
        """Remove a temporary folder."""
        if self._temporary and self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
