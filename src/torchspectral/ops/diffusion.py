"""Kernels between embeddings and their spectra, for numpy arrays and torch tensors alike.

Arrays are (..., n, d); leading axes are batches. torch tensors on the CPU are computed in float64, on a device in
float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

BLOCK = 1024
"""Rows of a distance matrix that are made at a time."""


def is_tensor(x: Any) -> bool:
    """Whether x is a torch tensor, asked without importing torch."""
    return type(x).__module__.partition(".")[0] == "torch"


def working(x: Any) -> Any:
    """In the precision that kernels are computed in: float64, or float32 for a tensor on a device."""
    if is_tensor(x):
        return x.detach().double() if x.device.type == "cpu" else x.detach().float()
    return np.asarray(x, dtype=np.float64)


def squared_distances(x: Any) -> Any:
    """Squared Euclidean distances between the rows, shape (..., n, n), symmetric, zero on the diagonal.

    Rows are centred first and the matrix is made in blocks of rows, so that one more array of its size is never held.
    """
    x = x - x.mean(-2)[..., None, :]
    norms = (x * x).sum(-1)
    n = x.shape[-2]
    turned = x.swapaxes(-1, -2)
    out = _empty(x, (*x.shape[:-1], n))
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        block = norms[..., rows, None] + norms[..., None, :] - 2.0 * (x[..., rows, :] @ turned)
        out[..., rows, :] = block.clip(0.0)
    symmetrise(out)
    index = np.arange(n)
    out[..., index, index] = 0.0
    return out


def symmetrise(matrix: Any) -> None:
    """Replace a matrix by the mean of itself and its transpose, in place, block by block."""
    n = matrix.shape[-1]
    for i in range(0, n, BLOCK):
        for j in range(i, n, BLOCK):
            upper = matrix[..., i : i + BLOCK, j : j + BLOCK]
            mean = (upper + matrix[..., j : j + BLOCK, i : i + BLOCK].swapaxes(-1, -2)) / 2
            matrix[..., i : i + BLOCK, j : j + BLOCK] = mean
            matrix[..., j : j + BLOCK, i : i + BLOCK] = mean.swapaxes(-1, -2)


def median_distance(squared: Any) -> float:
    """Median distance between different rows; the mean of the positive ones where it is 0, 1.0 where all are 0."""
    values = squared.cpu().numpy() if is_tensor(squared) else squared
    pairs = np.sqrt(values[np.triu_indices(values.shape[-1], 1)])
    if not pairs.size or not (pairs > 0).any():
        return 1.0
    middle = float(np.median(pairs))
    return middle if middle > 0 else float(pairs[pairs > 0].mean())


def gaussian_kernel(squared: Any, sigma: float) -> Any:
    """``exp(-D^2 / (2 sigma^2)) / (sigma sqrt(2 pi))``; overwrites the squared distances."""
    squared *= -0.5 / sigma**2
    kernel = squared.exp_() if is_tensor(squared) else np.exp(squared, out=squared)
    kernel /= sigma * math.sqrt(2.0 * math.pi)
    return kernel


def diffusion_matrix(kernel: Any, alpha: float = 0.0) -> Any:
    """``Deg^-1/2 G Deg^-1/2`` of a kernel, in place; its eigenvalues are those of the random walk ``Deg^-1 G``.

    Parameters
    ----------
    kernel : array, shape (..., n, n)
    alpha : float
        Density normalisation ``G / (deg_i deg_j)^alpha`` before it; 0 as the authors' code.
    """
    if alpha:
        weight = kernel.sum(-1) ** -alpha
        kernel *= weight[..., :, None]
        kernel *= weight[..., None, :]
    root = kernel.sum(-1) ** -0.5
    kernel *= root[..., :, None]
    kernel *= root[..., None, :]
    return kernel


def eigenvalues(matrix: Any) -> Any:
    """Eigenvalues of symmetric matrices, descending, shape (..., n)."""
    if is_tensor(matrix):
        import torch

        return torch.linalg.eigvalsh(matrix).flip(-1)
    return np.linalg.eigvalsh(matrix)[..., ::-1]


def spectrum_entropy(values: Any, t: float = 1.0) -> Any:
    """Entropy of ``|lambda|^t``, scaled to sum 1, over the last axis [bit]; machine epsilon is added to each share."""
    powers = abs(values) ** t
    shares = powers / powers.sum(-1)[..., None] + float(np.finfo(np.float64).eps)
    return -(shares * (shares.log2() if is_tensor(shares) else np.log2(shares))).sum(-1)


def _empty(like: Any, shape: tuple[int, ...]) -> Any:
    return like.new_empty(shape) if is_tensor(like) else np.empty(shape)
