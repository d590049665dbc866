"""Collaborative filtering: groups of alike patches are thinned out together in a transform domain."""

from __future__ import annotations

import math

import torch

CHUNK = 1 << 24
"""Values of patches that are worked on at a time."""


def dct_matrix(n: int, like: torch.Tensor) -> torch.Tensor:
    """Orthonormal type-II cosine transform, shape (n, n)."""
    i = torch.arange(n, dtype=torch.float64, device=like.device)
    matrix = torch.cos(math.pi * (2 * i + 1) * i[:, None] / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like.dtype)


def collaborative_filter(
    images: torch.Tensor,
    groups: torch.Tensor,
    *,
    patch: int = 8,
    threshold: float = 3.2,
    guide: torch.Tensor | None = None,
) -> torch.Tensor:
    """Denoise images with noise of variance one.

    Parameters
    ----------
    images : Tensor, shape (k, y, x)
    groups : Tensor of int64, shape (references, count)
        Patches that belong together, from `block_matching.match_patches`; the same for all images.
    patch : int
        Side of a patch [pixel].
    threshold : float
        Coefficients of a group below this many standard deviations of the noise are dropped (first pass).
    guide : Tensor, shape (k, y, x), optional
        Result of a first pass: coefficients are then weighed by its power against that of the noise (empirical Wiener
        filter) instead of dropped.

    Returns
    -------
    Tensor, shape (k, y, x)
        Average of all patches that cover a pixel, weighed by how few coefficients a group needed.

    References
    ----------
    Dabov, Foi, Katkovnik and Egiazarian, "Image denoising by sparse 3-D transform-domain collaborative filtering", IEEE
    TIP 16(8), 2007.
    """
    k, height, width = images.shape
    count = groups.shape[1]
    side = torch.arange(patch, device=images.device)
    inner = (side[:, None] * width + side).reshape(-1)
    one = dct_matrix(patch, images)
    plane, across = torch.kron(one, one), dct_matrix(count, images)
    window = torch.kaiser_window(patch, periodic=False, beta=2.0, dtype=images.dtype, device=images.device)
    window = torch.outer(window, window).reshape(-1)
    # Sums in float64 do not depend on the order of the groups once they are float32 again: a tile equals the scene.
    total = images.new_zeros(k, height * width, dtype=torch.float64)
    weights = torch.zeros_like(total)
    for part in groups.split(max(1, CHUNK // (count * patch * patch))):
        index = part[:, :, None] + inner
        flat = index.reshape(-1)
        for image in range(k):
            spectrum = across @ (images[image].reshape(-1)[index] @ plane.T)
            if guide is None:
                kept = spectrum.abs() > threshold
                spectrum = spectrum * kept
                weight = 1 / kept.sum((1, 2)).clamp_min(1).to(images.dtype)
            else:
                power = (across @ (guide[image].reshape(-1)[index] @ plane.T)).square()
                power = power / (power + 1)
                spectrum = spectrum * power
                weight = 1 / power.square().sum((1, 2)).clamp_min(1e-6)
            weighted = weight[:, None, None] * window
            patches = (across.T @ spectrum) @ plane
            total[image].index_add_(0, flat, (patches * weighted).reshape(-1).double())
            weights[image].index_add_(0, flat, weighted.expand_as(patches).reshape(-1).double())
    return (total / weights).to(images.dtype).reshape(k, height, width)
