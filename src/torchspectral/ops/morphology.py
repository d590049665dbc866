"""Morphology with the 3 x 3 cross, and the half-gradient pyramid that sharpening builds on it.

References
----------
Restaino, Vivone, Dalla Mura, Chanussot, "Fusion of multispectral and panchromatic images based on morphological
operators", IEEE TIP 25 (2016).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from torchspectral.ops.axis import AxisOperator, apply, gather
from torchspectral.ops.filters import atrous_levels


def dilate(image: torch.Tensor) -> torch.Tensor:
    """Largest value of each pixel's 3 x 3 cross; neighbours outside the image do not count, (n, band, y, x)."""
    pool = torch.nn.functional.max_pool2d
    return torch.maximum(pool(image, (3, 1), 1, (1, 0)), pool(image, (1, 3), 1, (0, 1)))


def erode(image: torch.Tensor) -> torch.Tensor:
    """Smallest value of each pixel's 3 x 3 cross, (n, band, y, x)."""
    return -dilate(-image)


def half_gradient(image: torch.Tensor) -> torch.Tensor:
    """Image less half the difference of its inner and outer gradients: the mean of dilation and erosion."""
    return (dilate(image) + erode(image)) / 2


def pyramid_steps(ratio: int) -> int:
    """Halvings of the half-gradient pyramid: ceil(log2 ratio)."""
    return atrous_levels(ratio)


@lru_cache(maxsize=64)
def _bilinear_up(size: int, outputs: int, scale: float) -> AxisOperator:
    """Bilinear enlargement along one axis, pixel areas aligned, edges repeated."""
    place = (np.arange(outputs) + 0.5) / scale - 0.5
    place = np.clip(place, 0, size - 1)
    first = np.floor(place).astype(np.int64)
    share = place - first
    return gather(np.stack([first, first + 1], 1), np.stack([1 - share, share], 1), size, "edge")


def half_gradient_lowpass(image: torch.Tensor, ratio: int, *, stretch: bool = False) -> torch.Tensor:
    """Coarsest level of the half-gradient pyramid, brought back to full size.

    Each step filters and keeps every other pixel, from the second one on in the first step and from the first one on
    later. The way back is bilinear.

    Parameters
    ----------
    image : Tensor, shape (n, band, y, x)
    ratio : int
        Sets the number of steps.
    stretch : bool
        Enlarge each level by the quotient of the recorded sizes, as the benchmark does, instead of by exactly 2: the
        two differ where a size is odd, and only a factor of 2 is the same for tiles and for the whole.

    Returns
    -------
    Tensor, shape of `image`
        Commutes with ``a * image + c`` for a >= 0.
    """
    sizes = [tuple(image.shape[-2:])]
    level = image
    for step in range(pyramid_steps(ratio)):
        start = 1 if step == 0 and min(level.shape[-2:]) > 1 else 0
        level = half_gradient(level)[..., start::2, start::2]
        sizes.append(tuple(level.shape[-2:]))
    for small, large in zip(sizes[:0:-1], sizes[-2::-1], strict=True):
        pairs = [(a, b, b / a if stretch else 2.0) for a, b in zip(small, large, strict=True)]
        level = apply(level, _bilinear_up(*pairs[0]), _bilinear_up(*pairs[1]))
    return level
