"""Losses of spectral mixup's network.

References
----------
Li, Dai, Konukoglu, Van Gool, arXiv 2101.07589 (2021); the weights are those of the authors' code.
"""

from __future__ import annotations

import torch

TV_WEIGHT = 1e-3


def tv_spatial(image: torch.Tensor, weight: float = TV_WEIGHT) -> torch.Tensor:
    """Mean squared difference of neighbouring rows, plus that of columns; a line of pixels has none across it.

    Parameters
    ----------
    image : Tensor, shape (n, bands, y, x)
    weight : float
    """
    return weight * (_mean_square(image, -2) + _mean_square(image, -1))


def tv_spectral(image: torch.Tensor, weight: float = TV_WEIGHT) -> torch.Tensor:
    """Twice the mean squared difference of neighbouring bands.

    Parameters
    ----------
    image : Tensor, shape (n, bands, y, x)
    weight : float
    """
    return weight * 2 * _mean_square(image, -3)


def _mean_square(image: torch.Tensor, dim: int) -> torch.Tensor:
    gaps = image.diff(dim=dim).square()
    return gaps.mean() if gaps.numel() else gaps.sum()


def hybrid_loss(image: torch.Tensor, truth: torch.Tensor, weight: float = TV_WEIGHT) -> torch.Tensor:
    """Mean absolute difference plus both variations of `image`.

    Parameters
    ----------
    image, truth : Tensor, shape (n, bands, y, x)
    weight : float
        Of the variations.
    """
    return (image - truth).abs().mean() + tv_spatial(image, weight) + tv_spectral(image, weight)
