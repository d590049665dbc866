"""Least squares from pixels or from streamed cross products.

Both give the solution of least norm where bands are dependent or there are fewer pixels than bands.
"""

from __future__ import annotations

import torch


def min_norm_solve(gram: torch.Tensor, right: torch.Tensor, rtol: float | None = None) -> torch.Tensor:
    """Solution of least norm of ``gram @ x = right``.

    Parameters
    ----------
    gram : Tensor, shape (n, n)
        Symmetric, positive semi-definite: the cross products ``X^T X`` summed in float64.
    right : Tensor, shape (n,) or (n, m)
        ``X^T y``.
    rtol : float, optional
        Eigenvalues below this share of the largest are taken as zero; default ``n`` times the float64 rounding step.

    Returns
    -------
    Tensor, shape of `right`, float64
    """
    gram, right = gram.double(), right.double()
    values, vectors = torch.linalg.eigh(gram)
    limit = (rtol if rtol is not None else gram.shape[0] * torch.finfo(torch.float64).eps) * values.abs().max()
    inverse = torch.where(values > limit, 1 / values.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    flat = right.reshape(gram.shape[0], -1)
    return (vectors @ (inverse[:, None] * (vectors.T @ flat))).reshape(right.shape)


def regress(target: torch.Tensor, on: torch.Tensor, *, constant: bool = False) -> torch.Tensor:
    """Least squares of `target` on the rows of `on`, all pixels at once, float64, least norm.

    Parameters
    ----------
    target : Tensor, shape (pixels,) or (k, pixels)
    on : Tensor, shape (n, pixels)
    constant : bool
        Add a row of ones as the last regressor.

    Returns
    -------
    Tensor, shape (n [+ 1],) or (n [+ 1], k), float64
    """
    design = on.double()
    if constant:
        design = torch.cat([design, torch.ones_like(design[:1])])
    right = target.double().reshape(-1, design.shape[1])
    driver = "gelsd" if design.device.type == "cpu" else "gels"
    if driver == "gels":
        solution = torch.linalg.pinv(design.T) @ right.T
    else:
        solution = torch.linalg.lstsq(design.T, right.T, driver=driver).solution
    return solution[:, 0] if target.ndim == 1 else solution
