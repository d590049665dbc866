"""Losses of the unmixing networks, as their papers write them."""

from __future__ import annotations

import torch
from torch.nn import functional

PYRAMID = (0.05, 0.25, 0.4, 0.25, 0.05)
_NEARLY_ONE = 1.0 - 1e-7


def paired_angles(one: torch.Tensor, other: torch.Tensor, dim: int) -> torch.Tensor:
    """Spectral angles [rad] between the spectra of two tensors along an axis; shape without that axis.

    Cosines are kept a rounding below one, where the arccosine has no slope.
    """
    cosine = functional.cosine_similarity(one, other, dim=dim, eps=1e-8)
    return torch.acos(cosine.clamp(-_NEARLY_ONE, _NEARLY_ONE))


def weighted_mean(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Mean of (n, c, y, x) over the pixels that `weight` (n, 1, y, x) counts; all where it is None."""
    if weight is None:
        return values.mean()
    return (values * weight).sum() / (weight.sum() * values.shape[1]).clamp_min(1)


def edge_loss(fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """How far the edges of abundances at two scales differ: mean of sqrt(d^2 + 1e-6).

    Parameters
    ----------
    fine : Tensor, shape (n, k, y, x)
    coarse : Tensor, shape (n, k, ceil(y / 2), ceil(x / 2))

    References
    ----------
    Yu, Ma, Mei, Fan, Huang, Li, "Multi-stage convolutional autoencoder network for hyperspectral unmixing" (2022).
    """
    pooled = functional.avg_pool2d(fine, 2, ceil_mode=True)
    difference = _edges(pooled) - _edges(coarse)
    return (difference.square() + 1e-6).sqrt().mean()


def _edges(x: torch.Tensor) -> torch.Tensor:
    """What a Gaussian pyramid's next level cannot hold."""
    low = _blurred(x)
    holes = torch.zeros_like(low)
    holes[:, :, ::2, ::2] = 4.0 * low[:, :, ::2, ::2]
    return x - _blurred(holes)


def _blurred(x: torch.Tensor) -> torch.Tensor:
    taps = x.new_tensor(PYRAMID)
    channels = x.shape[1]
    padded = functional.pad(x, (2, 2, 2, 2), mode="replicate")
    rows = functional.conv2d(padded, taps.view(1, 1, 5, 1).expand(channels, 1, 5, 1), groups=channels)
    return functional.conv2d(rows, taps.view(1, 1, 1, 5).expand(channels, 1, 1, 5), groups=channels)
