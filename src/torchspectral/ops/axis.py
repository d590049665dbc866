"""Linear operators along one axis, held as sparse matrices and applied as dense blocks.

Interpolators, decimators and separable filters of sharpening and super-resolution are all of this kind. As a matrix an
operator carries its border rule with it, composes with others (``outer @ inner``), has an exact adjoint, and runs as a
few matrix products: the fastest form on CPU and GPU alike for images cut into tiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse

BLOCK = 192
"""Output samples worked on at a time: small enough that a banded operator wastes little, large enough for BLAS."""


class AxisOperator:
    """A real matrix of shape (outputs, inputs) that acts along one image axis.

    Parameters
    ----------
    matrix : scipy sparse matrix or ndarray, shape (outputs, inputs)
        Float64.
    """

    def __init__(self, matrix: sparse.spmatrix | np.ndarray) -> None:
        self.matrix = sparse.csr_matrix(matrix, dtype=np.float64)
        self._blocks: dict[tuple[torch.dtype, torch.device], list[tuple[int, int, torch.Tensor]]] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """Samples out and in."""
        return self.matrix.shape

    def __matmul__(self, inner: AxisOperator) -> AxisOperator:
        return AxisOperator(self.matrix @ inner.matrix)

    def adjoint(self) -> AxisOperator:
        """The transposed operator."""
        return AxisOperator(self.matrix.T)

    def blocks(self, dtype: torch.dtype, device: torch.device) -> list[tuple[int, int, torch.Tensor]]:
        """Dense pieces ``(first input, last input + 1, piece)`` whose stacked products are the output."""
        key = (dtype, device)
        if key not in self._blocks:
            pieces = []
            for start in range(0, self.shape[0], BLOCK):
                rows = self.matrix[start : start + BLOCK]
                first, last = (int(rows.indices.min()), int(rows.indices.max()) + 1) if rows.nnz else (0, 1)
                dense = torch.from_numpy(rows[:, first:last].toarray())
                pieces.append((first, last, dense.to(device=device, dtype=dtype)))
            self._blocks[key] = pieces
        return self._blocks[key]

    def rows(self, image: torch.Tensor) -> torch.Tensor:
        """Act along the rows axis: (..., inputs, x) to (..., outputs, x)."""
        parts = [piece @ image[..., a:b, :] for a, b, piece in self.blocks(image.dtype, image.device)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)

    def cols(self, image: torch.Tensor) -> torch.Tensor:
        """Act along the columns axis: (..., y, inputs) to (..., y, outputs)."""
        parts = [image[..., a:b] @ piece.T for a, b, piece in self.blocks(image.dtype, image.device)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def apply(image: torch.Tensor, rows: AxisOperator, cols: AxisOperator) -> torch.Tensor:
    """Act along both axes, the one that shrinks the image more (or grows it less) first.

    Parameters
    ----------
    image : Tensor, shape (..., y, x)
    rows, cols : AxisOperator

    Returns
    -------
    Tensor, shape (..., rows.shape[0], cols.shape[0])
    """
    if rows.shape[0] * cols.shape[1] <= rows.shape[1] * cols.shape[0]:
        return cols.cols(rows.rows(image))
    return rows.rows(cols.cols(image))


def border_index(index: np.ndarray, size: int, border: str) -> np.ndarray:
    """Sample that stands for each index outside 0..size-1.

    Parameters
    ----------
    index : ndarray of int
    size : int
    border : {"symmetric", "reflect", "edge", "wrap"}
        "symmetric" repeats the edge sample (numpy's and MATLAB's word), "reflect" does not; both repeat as often as the
        index asks for.
    """
    if border == "wrap":
        return np.mod(index, size)
    if border == "edge" or size == 1:
        return np.clip(index, 0, size - 1)
    if border == "symmetric":
        folded = np.mod(index, 2 * size)
        return np.where(folded < size, folded, 2 * size - 1 - folded)
    if border == "reflect":
        folded = np.mod(index, 2 * size - 2)
        return np.where(folded < size, folded, 2 * size - 2 - folded)
    raise ValueError(f"unknown border {border!r}")


def gather(index: np.ndarray, weight: np.ndarray, size: int, border: str) -> AxisOperator:
    """Operator whose output i is ``sum_k weight[i, k] * sample[index[i, k]]``.

    Parameters
    ----------
    index : ndarray of int, shape (outputs, taps)
        May lie outside 0..size-1.
    weight : ndarray, shape (outputs, taps) or (taps,)
    size : int
        Input samples.
    border : str
        See `border_index`.
    """
    outputs, taps = index.shape
    columns = border_index(index, size, border).reshape(-1)
    values = np.broadcast_to(weight, index.shape).reshape(-1)
    lines = np.repeat(np.arange(outputs), taps)
    matrix = sparse.coo_matrix((values, (lines, columns)), shape=(outputs, size)).tocsr()
    matrix.eliminate_zeros()
    return AxisOperator(matrix)


def correlation(size: int, taps: Sequence[float] | np.ndarray, border: str, centre: int | None = None) -> AxisOperator:
    """Same-size correlation with `taps`; `centre` is the tap on the output's own sample (default the middle)."""
    weights = np.asarray(taps, dtype=np.float64)
    middle = len(weights) // 2 if centre is None else centre
    index = np.arange(size)[:, None] + (np.arange(len(weights)) - middle)[None, :]
    return gather(index, weights, size, border)


def pick(size: int, first: int, step: int) -> AxisOperator:
    """Every `step`-th sample from `first` on."""
    index = np.arange(first, size, step)
    return gather(index[:, None], np.ones(1), size, "edge")
