"""Noise of a scene from sums over its pixels, and the number of endmembers that stand above it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch

from torchspectral.errors import BadInput
from torchspectral.ops.gram import covariance, eigh_descending, gram_sums

RIDGE = 1e-9
"""Added to the Gram matrix, relative to its mean diagonal."""


def regression_noise(n: int, cross: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise by regressing each band on all the others, from the cross products alone.

    Parameters
    ----------
    n : int
        Pixels.
    cross : Tensor, shape (bands, bands)
        Sum of x x^T, float64.

    Returns
    -------
    transform : Tensor, shape (bands, bands)
        T with noise = T y for each pixel y; rows of constant-zero bands are zero.
    noise : Tensor, shape (bands, bands)
        Correlation of the noise, sum T y y^T T^T / n.

    Raises
    ------
    BadInput
        Fewer than two bands that are not zero.

    Notes
    -----
    With B = (S + r I)^-1 the regression coefficients of band i are -B[j, i] / B[i, i], so that all residuals at once
    are diag(B)^-1 B y: equal to solving band by band.

    References
    ----------
    Bioucas-Dias and Nascimento, "Hyperspectral subspace identification", IEEE TGRS 46(8), 2008, sec. III.
    """
    diagonal = cross.diagonal()
    live = (diagonal > 0).nonzero()[:, 0]
    if len(live) < 2:
        raise BadInput(f"got {len(live)} bands that are not zero, expected at least 2 to tell noise from signal")
    part = cross[live][:, live]
    inverse = torch.linalg.inv(part + RIDGE * part.diagonal().mean() * torch.eye(len(live), dtype=part.dtype))
    transform = torch.zeros_like(cross)
    transform[live[:, None], live[None, :]] = inverse / inverse.diagonal()[:, None]
    return transform, transform @ cross @ transform.T / max(n, 1)


def difference_sums(
    one: torch.Tensor, other: torch.Tensor, valid: torch.Tensor
) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Sums of the differences of neighbouring pixels.

    Parameters
    ----------
    one, other : Tensor, shape (bands, y, x)
        A pixel and its neighbour at the same place.
    valid : Tensor of bool, shape (y, x)
        Both are valid.

    Returns
    -------
    n, total, cross
        As `gram.gram_sums`.
    """
    return gram_sums((one - other)[:, valid])


def shift_noise(n: int, total: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """Noise covariance from the sums of neighbour differences: half of their covariance, (bands, bands).

    References
    ----------
    Green et al., "A transformation for ordering multispectral data in terms of image quality", IEEE TGRS 26(1), 1988.

    Raises
    ------
    BadInput
        No two valid neighbours.
    """
    if n < 2:
        raise BadInput("no two neighbouring pixels are both valid, expected at least 2 pairs to estimate the noise")
    return covariance(n, total, cross) / 2


@dataclass(frozen=True)
class HySime:
    """Signal subspace of a scene.

    Attributes
    ----------
    k : int
        Dimensions: an upper bound on the endmembers where noise is correlated between bands.
    basis : Tensor, shape (bands, k)
    cost : Tensor, shape (bands,)
        Gain of each direction, ascending; negative ones are kept.
    noise : Tensor, shape (bands,)
        Standard deviation of the noise of each band, in the data's units.
    """

    k: int
    basis: torch.Tensor
    cost: torch.Tensor
    noise: torch.Tensor


def hysime(n: int, cross: torch.Tensor) -> HySime:
    """Number of signal dimensions by minimum error.

    Parameters
    ----------
    n, cross : int, Tensor (bands, bands)
        Pixels and sum of x x^T.

    References
    ----------
    Bioucas-Dias and Nascimento, "Hyperspectral subspace identification", IEEE TGRS 46(8), 2008, algorithm 2.
    """
    bands = cross.shape[0]
    transform, noise = regression_noise(n, cross)
    keep = torch.eye(bands, dtype=cross.dtype) - transform
    signal = keep @ cross @ keep.T / n
    _, vectors = eigh_descending(signal)
    deviation = noise.diagonal().clamp_min(0).sqrt()
    level = torch.diag(noise.diagonal()) + torch.eye(bands, dtype=cross.dtype) * signal.diagonal().sum() / bands / 1e5
    cost = ((-cross / n + 2 * level) @ vectors * vectors).sum(0)
    order = torch.argsort(cost)
    k = int((cost < 0).sum())
    return HySime(k, vectors[:, order[:k]], cost[order], deviation)


def hfc(
    n: int,
    total: torch.Tensor,
    cross: torch.Tensor,
    false_alarm: tuple[float, ...] = (1e-3, 1e-4, 1e-5),
    noise: torch.Tensor | None = None,
) -> tuple[int, ...]:
    """Virtual dimensionality for each false-alarm probability.

    Parameters
    ----------
    n, total, cross : int, Tensor (bands,), Tensor (bands, bands)
        Sums over pixels.
    false_alarm : tuple of float
        Probabilities of taking noise for a dimension, 0..1.
    noise : Tensor, shape (bands,), optional
        Standard deviations; the data are whitened by them first (NWHFC).

    References
    ----------
    Chang and Du, "Estimation of number of spectrally distinct signal sources", IEEE TGRS 42(3), 2004.
    """
    correlation, spread = cross / n, covariance(n, total, cross)
    if noise is not None:
        live = noise > 0
        weight = 1 / noise[live]
        correlation, spread = (m[live][:, live] * torch.outer(weight, weight) for m in (correlation, spread))
    one, _ = eigh_descending(correlation)
    two, _ = eigh_descending(spread)
    sigma = (2 * (one**2 + two**2) / n).sqrt()
    return tuple(int((one - two > -NormalDist().inv_cdf(p) * sigma).sum()) for p in false_alarm)
