"""Non-local means on images whose noise has variance one."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def mirrored(images: torch.Tensor, margin: int) -> torch.Tensor:
    """Extend rows and columns by `margin` pixels, mirrored at the edge and again where the image is smaller."""
    out = images
    for axis in (-2, -1):
        size = out.shape[axis]
        index = (torch.arange(size + 2 * margin, device=images.device) - margin) % (2 * size)
        out = out.index_select(axis, torch.where(index < size, index, 2 * size - 1 - index))
    return out


def non_local_means(images: torch.Tensor, *, patch: int = 5, search: int = 8, strength: float = 0.6) -> torch.Tensor:
    """Average of the pixels around whose neighbourhoods look alike, each image by itself.

    Parameters
    ----------
    images : Tensor, shape (k, y, x)
        Noise of variance one.
    patch : int
        Side of a neighbourhood, odd [pixel].
    search : int
        Largest shift [pixel].
    strength : float
        h of the weights exp(-max(d - 2, 0) / h^2), d the mean squared difference of two neighbourhoods, which noise
        alone makes 2.

    Returns
    -------
    Tensor, shape (k, y, x)

    Notes
    -----
    A shift costs a subtraction and two running sums; each pair of pixels is compared once. A pixel depends on those at
    most ``search + patch // 2`` away.

    References
    ----------
    Buades, Coll and Morel, "A non-local algorithm for image denoising", CVPR 2005, with the distances of Darbon et al.,
    "Fast nonlocal filtering applied to electron cryomicroscopy", ISBI 2008.
    """
    height, width = images.shape[-2:]
    half = patch // 2
    wide = mirrored(images, search + half)
    inner = wide[:, half : half + height + 2 * search, half : half + width + 2 * search]
    total, weights = images.clone(), torch.ones_like(images)
    scale = -1.0 / max(strength, 1e-6) ** 2
    for down in range(search + 1):
        for right in range(-search if down else 1, search + 1):
            # Distances at all places whose pixel or whose partner lies in the image.
            top, left = search - down, search - max(right, 0)
            rows, cols = height + down, width + abs(right)
            one = wide[:, top : top + rows + 2 * half, left : left + cols + 2 * half]
            two = wide[:, top + down :, left + right :][:, : rows + 2 * half, : cols + 2 * half]
            square = (one - two).square_()[:, None]
            distance = F.avg_pool2d(F.avg_pool2d(square, (patch, 1), 1), (1, patch), 1)[:, 0]
            weight = distance.sub_(2).clamp_min_(0).mul_(scale).exp_()
            row, col = down, max(right, 0)
            here = weight[:, row : row + height, col : col + width]
            total.addcmul_(here, inner[:, search + down :, search + right :][:, :height, :width])
            weights.add_(here)
            back = weight[:, row - down : row - down + height, col - right : col - right + width]
            total.addcmul_(back, inner[:, search - down :, search - right :][:, :height, :width])
            weights.add_(back)
    return total / weights
