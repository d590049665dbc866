"""Non-negative least squares from cross products: one Gram matrix, any number of right-hand sides, exact.

References
----------
Lawson and Hanson, "Solving least squares problems", Prentice-Hall (1974), ch. 23.
"""

from __future__ import annotations

import torch

from torchspectral.ops.fcls import _primal


def nnls_gram(gram: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Minimise ``x^T G x / 2 - r^T x`` over x >= 0 for each column r.

    All columns are worked on together; each keeps its own active set. Free sets stay independent, so that `gram` may
    be singular.

    Parameters
    ----------
    gram : Tensor, shape (n, n)
        Symmetric, positive semi-definite: ``A^T A`` summed in float64.
    right : Tensor, shape (n,) or (n, m)
        ``A^T y``.

    Returns
    -------
    Tensor, shape of `right`, float64
    """
    gram, flat = gram.double(), right.double().reshape(gram.shape[0], -1)
    # Columns of unit norm and right-hand sides of unit size: the solver's tolerances are absolute.
    norm = gram.diagonal().clamp_min(0).sqrt()
    inverse = torch.where(norm > 0, 1 / torch.where(norm > 0, norm, 1.0), 0.0)
    scaled = inverse[:, None] * flat
    size = scaled.abs().amax(0)
    size = torch.where(size > 0, size, 1.0)
    unit = inverse[:, None] * gram * inverse[None, :]
    solution = _primal(unit, scaled / size, False)
    return (inverse[:, None] * solution * size).reshape(right.shape)


def kkt_violation(gram: torch.Tensor, right: torch.Tensor, solution: torch.Tensor) -> float:
    """How far `solution` is from optimal, 0 for the exact one, as a share of the largest right-hand side.

    Covers negative entries, gradients of the wrong sign where x is zero, and gradients that do not vanish where it is
    not. Rows and columns are scaled to a Gram matrix with unit diagonal.
    """
    gram, right, solution = (t.double() for t in (gram, right, solution))
    norm = gram.diagonal().clamp_min(0).sqrt()
    scale = torch.where(norm > 0, norm, 1.0)
    gradient = (gram @ solution - right) / (scale[:, None] if right.ndim == 2 else scale)
    level = float((right / (scale[:, None] if right.ndim == 2 else scale)).abs().max().clamp_min(1e-300))
    free = solution > 0
    worst = torch.where(free, gradient.abs(), (-gradient).clamp_min(0)).max() / level
    return max(float(worst), float((-solution).clamp_min(0).max()))
