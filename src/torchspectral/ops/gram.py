"""Sums over pixels (count, total, cross products) and the small dense algebra that is done on them.

A scene of any size is reduced to a bands x bands matrix, in float64; what follows never sees the pixels again.
"""

from __future__ import annotations

import numpy as np
import torch

CHUNK = 16_384
"""Pixels turned to float64 at a time."""


def gram_sums(pixels: torch.Tensor, chunk: int = CHUNK) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Count, sums and cross products of pixels, in float64.

    Parameters
    ----------
    pixels : Tensor, shape (bands, n)
        Finite values of any float type.
    chunk : int
        Pixels converted at a time.

    Returns
    -------
    n : int
    total : Tensor, shape (bands,)
    cross : Tensor, shape (bands, bands)
        Sum of x x^T.
    """
    bands, n = pixels.shape
    total = pixels.new_zeros(bands, dtype=torch.float64)
    cross = pixels.new_zeros(bands, bands, dtype=torch.float64)
    for start in range(0, n, chunk):
        part = pixels[:, start : start + chunk].to(torch.float64)
        total += part.sum(1)
        cross.addmm_(part, part.T)
    return n, total, cross


def add_sums(
    one: tuple[int, torch.Tensor, torch.Tensor], other: tuple[int, torch.Tensor, torch.Tensor]
) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Sums of two disjoint sets of pixels."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def covariance(n: int, total: torch.Tensor, cross: torch.Tensor, *, unbiased: bool = False) -> torch.Tensor:
    """Covariance from sums, shape (bands, bands); divisor n, or n - 1 when `unbiased`."""
    mean = total / max(n, 1)
    centred = cross - n * torch.outer(mean, mean)
    return centred / max(n - 1 if unbiased else n, 1)


def fix_signs(vectors: torch.Tensor) -> torch.Tensor:
    """Turn each column so that its entries sum to a positive number (its largest one, where they cancel out).

    Eigenvectors have no sign of their own; without this rule, seeded draws on projected pixels would depend on the
    linear algebra library.
    """
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))[0]
    sums = vectors.sum(0)
    signs = torch.sign(torch.where(sums.abs() > 1e-6 * largest.abs(), sums, largest))
    return vectors * torch.where(signs == 0, torch.ones_like(signs), signs)


def eigh_descending(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (largest first) and sign-fixed eigenvectors (columns) of a symmetric matrix."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return values.flip(0), fix_signs(vectors.flip(1))


def lapack_axes(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues (largest first) and eigenvectors (columns) of a symmetric matrix, with the signs of LAPACK's SVD.

    Published codes that draw random directions in singular vectors inherit those signs: this gives their draws.
    """
    left, values, _ = np.linalg.svd(((matrix + matrix.T) / 2).cpu().numpy())
    return torch.from_numpy(values), torch.from_numpy(left)


def rank_of(values: torch.Tensor, relative: float = 1e-10) -> int:
    """Number of eigenvalues above `relative` times the largest (0 for a zero matrix)."""
    top = float(values.max()) if values.numel() else 0.0
    return int((values > relative * top).sum()) if top > 0 else 0
