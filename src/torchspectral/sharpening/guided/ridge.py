"""Ridge regression of the hyperspectral bands on the guides, from streamed sums."""

from __future__ import annotations

from dataclasses import dataclass

import torch

TINY = 1e-300


@dataclass
class Sums:
    """Float64 sums over coarse pixels where every guide is seen.

    Attributes
    ----------
    cross : Tensor, shape (1 + K, 1 + K + B)
        Products of the rows (1, s) with the rows (1, s, y): guides s, bands y.
    power : Tensor, shape (B,)
        Squares of the bands.
    back : Tensor, shape (K, K + B)
        Products of the rows t with the rows (t, u): what the details and the interpolated bands look like when seen by
        the sensor again, the bands less themselves.
    error : Tensor, shape (B,)
        Squares of u.
    """

    cross: torch.Tensor
    power: torch.Tensor
    back: torch.Tensor
    error: torch.Tensor

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.cross + other.cross, self.power + other.power, self.back + other.back, self.error + other.error
        )

    @property
    def guides(self) -> int:
        """K."""
        return self.cross.shape[0] - 1


@dataclass
class Fit:
    """Coefficients of the bands on a set of guides.

    Attributes
    ----------
    coef : Tensor, shape (K, B)
        Zero for guides that are not in the set.
    r2 : Tensor, shape (B,)
        Share of each band's variance that the set explains, 0..1.
    """

    coef: torch.Tensor
    r2: torch.Tensor


def ridge(sums: Sums, chosen: torch.Tensor, strength: float) -> Fit:
    """Ridge regression with intercept on standardised guides: ``(Z^T Z + strength n I)^-1 Z^T (y - mean y)``.

    Parameters
    ----------
    sums : Sums
    chosen : Tensor of bool, shape (K,)
        Guides that may be used.
    strength : float
        Lambda.
    """
    k, n = sums.guides, float(sums.cross[0, 0])
    bands = sums.cross.shape[1] - 1 - k
    coef = sums.cross.new_zeros(k, bands)
    if n < 2 or not bool(chosen.any()):
        return Fit(coef, coef.new_zeros(bands))
    mean = sums.cross[0] / n
    spread = sums.cross[1:] - n * mean[1 : k + 1, None] * mean[None, :]
    guides, bands_with = spread[:, 1 : k + 1], spread[:, k + 1 :]
    deviation = (guides.diagonal().clamp_min(0) / n).sqrt()
    usable = chosen & (deviation > 1e-7 * mean[1 : k + 1].abs()) & (deviation > TINY)
    index = usable.nonzero()[:, 0]
    if index.numel() == 0:
        return Fit(coef, coef.new_zeros(bands))
    scale = deviation[index]
    normal = guides[index][:, index] / (scale[:, None] * scale[None, :])
    right = bands_with[index] / scale[:, None]
    factor = torch.linalg.cholesky(normal + strength * n * torch.eye(index.numel(), dtype=normal.dtype))
    solved = torch.cholesky_solve(right, factor)
    power = (sums.power - n * mean[k + 1 :].square()).clamp_min(0)
    rest = power - 2 * (solved * right).sum(0) + (solved * (normal @ solved)).sum(0)
    flat = power <= 1e-13 * sums.power
    coef[index] = torch.where(flat, 0.0, solved / scale[:, None])
    r2 = torch.where(flat, 0.0, 1 - rest / power.clamp_min(TINY)).clamp(0, 1)
    return Fit(coef, r2)


def consistency(sums: Sums, coef: torch.Tensor) -> torch.Tensor:
    """Root mean square of what the fused bands, seen by the sensor again, differ from the bands, (B,)."""
    k, n = sums.guides, float(sums.cross[0, 0])
    if n < 1:
        return sums.error * torch.nan
    tt, tu = sums.back[:, :k], sums.back[:, k:]
    power = sums.error + 2 * (coef * tu).sum(0) + (coef * (tt @ coef)).sum(0)
    return (power.clamp_min(0) / n).sqrt()


def most_alike(sums: Sums, compared: torch.Tensor) -> torch.Tensor:
    """Weights that pick the band which correlates best with each guide, (K', B): for scenes without responses."""
    k, n = sums.guides, max(float(sums.cross[0, 0]), 1.0)
    mean = sums.cross[0] / n
    spread = sums.cross[1:] - n * mean[1 : k + 1, None] * mean[None, :]
    power = (sums.power - n * mean[k + 1 :].square()).clamp_min(1e-300)
    likeness = spread[compared][:, k + 1 :].square() / power
    weights = torch.zeros(compared.numel(), sums.power.numel(), dtype=torch.float64)
    weights[torch.arange(compared.numel()), likeness.argmax(1)] = 1.0
    return weights
