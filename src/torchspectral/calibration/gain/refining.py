"""Alternating least squares on y = D A x itself, from a linear start."""

from __future__ import annotations

import torch

from torchspectral.calibration.gain.models import Diverse, Repeated, Snapshots
from torchspectral.errors import BadSettings


def als(sums: Repeated | Diverse | Snapshots, s: torch.Tensor, rounds: int) -> torch.Tensor:
    """Minimise sum ||y_l - D A_l x_l||^2 in turns over the objects and D; returns 1 / diag(D), shape (m,).

    Unlike the linear form it does not multiply the noise by s, so that its answer has no bias at low signal.

    Raises
    ------
    BadSettings
        Model "a" from streamed sums.
    """
    d = 1 / s
    for _ in range(rounds):
        if isinstance(sums, Snapshots):
            above, below = _snapshots(sums, d)
        elif isinstance(sums, Diverse):
            above, below = _diverse(sums, d)
        else:
            above, below = _repeated(sums, d)
        d = torch.where(below > 0, above / below, d)
    return 1 / d


def _snapshots(sums: Snapshots, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    a = sums.a.to(d.dtype)
    z = a @ torch.linalg.pinv(d[:, None] * a)
    outer = sums.cross.conj().to(d.dtype)
    return (z.conj() * outer).sum(1), ((z @ outer) * z.conj()).sum(1).real


def _diverse(sums: Diverse, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    above, below = torch.zeros_like(d), torch.zeros_like(d.real)
    for y, a, good in sums.parts:
        rows = a.to(d.dtype)
        u = rows @ torch.linalg.lstsq(d[:, None] * rows, y.to(d.dtype)[:, None], driver="gelsd").solution[:, 0]
        u = u.where(good, 0)
        above += y * u.conj()
        below += u.abs() ** 2
    return above, below


def _repeated(sums: Repeated, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if sums.kept is None:
        raise BadSettings("alternating least squares needs the measurements again: call fit with all, not partial_fit")
    normal = torch.zeros(sums.n, sums.n, dtype=d.dtype, device=d.device)
    right = torch.zeros(sums.n, dtype=d.dtype, device=d.device)
    for y, a in sums.kept:
        rows = d[:, None] * a.to(d.dtype)
        normal += rows.mH @ rows
        right += rows.mH @ y.to(d.dtype)
    x = torch.linalg.pinv(normal, hermitian=True) @ right
    above, below = torch.zeros_like(d), torch.zeros_like(d.real)
    for y, a in sums.kept:
        u = a.to(d.dtype) @ x
        above += y * u.conj()
        below += u.abs() ** 2
    return above, below
