"""Vectors of one length that a long `fit` lays down outside memory, one by one, and that a state may hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchspectral.engine.scratch import FileScratch, MemoryScratch

if TYPE_CHECKING:
    import torch


class Shelf:
    """Rows of a matrix in the run's scratch, (count, size), read and written as those of a tensor on the CPU.

    Only the rows that are asked for are in memory. A state that holds a shelf is journaled without its values: what is
    on the shelf when a round is journaled must not change in later rounds, for a resumed run finds the file as it is.

    Parameters
    ----------
    array : MemoryScratch or FileScratch, shape (1, count, size)
    """

    def __init__(self, array: MemoryScratch | FileScratch) -> None:
        self._array = array

    @classmethod
    def open(cls, path: Path, shape: tuple[int, int], dtype: Any) -> Shelf:
        """The shelf of an earlier run.

        Raises
        ------
        ProductNotFound, BrokenProduct
        """
        return cls(FileScratch(path, (1, *shape), dtype, writable=True))

    @property
    def shape(self) -> tuple[int, int]:
        """Count and size of the vectors."""
        return self._array.shape[1], self._array.shape[2]

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""
        return self._array.dtype

    @property
    def path(self) -> Path | None:
        """File of the values; None in memory."""
        return self._array.path if isinstance(self._array, FileScratch) else None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int | slice) -> torch.Tensor:
        """A vector, or some."""
        import torch

        rows = self._rows(row)
        values = torch.from_numpy(self._array.read(rows, slice(None))[0])
        return values if isinstance(row, slice) else values[0]

    def __setitem__(self, row: int | slice, values: torch.Tensor) -> None:
        """Lay down a vector, or some on consecutive rows."""
        rows = self._rows(row)
        block = values.detach().cpu().numpy().reshape(1, rows.stop - rows.start, self.shape[1])
        self._array.write(rows.start, 0, block)

    def _rows(self, row: int | slice) -> slice:
        if isinstance(row, slice):
            start, stop, _ = row.indices(len(self))
            return slice(start, max(start, stop))
        place = row + len(self) if row < 0 else row
        if not 0 <= place < len(self):
            raise IndexError(f"row {row} of a shelf of {len(self)}")
        return slice(place, place + 1)
