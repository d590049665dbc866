"""Orthogonal matching pursuit of many signals at once, with one dictionary.

References
----------
Pati, Rezaiifar, Krishnaprasad, "Orthogonal matching pursuit", Asilomar conference (1993).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

DEPENDENT = 1e-8
"""Share of an atom's power that must lie outside the span of those chosen before."""


@dataclass(frozen=True)
class Pursuit:
    """What was chosen for each of T signals.

    Attributes
    ----------
    index : Tensor of int64, shape (T, k)
        Columns of the dictionary; -1 where the pursuit ended before, and for a first atom that was given.
    basis : Tensor, shape (T, d, k)
        Orthonormal basis of the chosen atoms, zero where none was chosen.
    triangle : Tensor, shape (T, k, k)
        Upper triangular: chosen atoms = basis @ triangle; ones on the diagonal where none was chosen.
    """

    index: torch.Tensor
    basis: torch.Tensor
    triangle: torch.Tensor

    def coefficients(self, signals: torch.Tensor) -> torch.Tensor:
        """Least-squares weights of the chosen atoms, (T, k, m), of signals (T, d, m); zero where none was chosen."""
        right = self.basis.transpose(1, 2) @ signals
        return torch.linalg.solve_triangular(self.triangle, right, upper=True)


def pursue(
    dictionary: torch.Tensor,
    signals: torch.Tensor,
    atoms: int,
    *,
    first: torch.Tensor | None = None,
    least: float = 0.0,
) -> Pursuit:
    """Choose atoms greedily: each time the one with the largest absolute product with the residual.

    Atoms need not have unit norm: the product itself decides. A signal's pursuit ends where the next atom depends on
    those it has, or nothing is left of it.

    Parameters
    ----------
    dictionary : Tensor, shape (d, K)
    signals : Tensor, shape (T, d)
    atoms : int
        At most so many are chosen for each signal.
    first : Tensor, shape (T, d), optional
        An atom that each signal starts with.
    least : float
        Squared norm at or below which what an atom adds counts as nothing.
    """
    count, size = signals.shape
    basis = signals.new_zeros(count, size, atoms)
    triangle = torch.eye(atoms, dtype=signals.dtype, device=signals.device).repeat(count, 1, 1)
    index = torch.full((count, atoms), -1, dtype=torch.int64, device=signals.device)
    residual = signals.clone()
    going = torch.ones(count, dtype=torch.bool, device=signals.device)
    rows = torch.arange(count, device=signals.device)
    for step in range(atoms):
        if step == 0 and first is not None:
            atom, chosen = first, index[:, 0]
        else:
            match = (residual @ dictionary).abs()
            if step:
                taken = index[:, :step].clamp_min(0)
                match[rows[:, None], taken] = torch.where(index[:, :step] >= 0, -1.0, match[rows[:, None], taken])
            best, chosen = match.max(1)
            going = going & (best > 0)
            atom = dictionary.T[chosen]
        # Gram-Schmidt, twice: once is not enough for atoms that nearly depend on the others.
        inside = (basis.transpose(1, 2) @ atom[..., None])[..., 0]
        rest = atom - (basis @ inside[..., None])[..., 0]
        again = (basis.transpose(1, 2) @ rest[..., None])[..., 0]
        rest, inside = rest - (basis @ again[..., None])[..., 0], inside + again
        power = rest.square().sum(1)
        going = going & (power > least) & (power > DEPENDENT * atom.square().sum(1))
        if not bool(going.any()):
            break
        norm = torch.where(going, power, 1.0).sqrt()
        unit = torch.where(going[:, None], rest / norm[:, None], 0.0)
        basis[:, :, step] = unit
        triangle[:, :step, step] = torch.where(going[:, None], inside[:, :step], 0.0)
        triangle[:, step, step] = norm
        index[:, step] = torch.where(going, chosen, -1)
        residual = residual - unit * (unit * residual).sum(1, keepdim=True)
    return Pursuit(index, basis, triangle)
