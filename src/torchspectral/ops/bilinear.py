"""Bilinear reduction with antialiasing, and enlargement, by a whole ratio."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from torchspectral.ops.axis import AxisOperator, apply, gather
from torchspectral.ops.interpolate import check_ratio


@lru_cache(maxsize=64)
def _reduction(size: int, ratio: int) -> AxisOperator:
    """Triangle of half width `ratio` around each coarse pixel's centre; what lies outside the image has no weight."""
    outputs = size // ratio
    centre = (np.arange(outputs) + 0.5) * ratio - 0.5
    index = np.floor(centre - ratio).astype(np.int64)[:, None] + np.arange(2 * ratio + 2)
    weight = np.clip(1 - np.abs(index - centre[:, None]) / ratio, 0, None)
    weight[(index < 0) | (index >= size)] = 0
    return gather(index, weight / weight.sum(1, keepdims=True), size, "edge")


@lru_cache(maxsize=64)
def _enlargement(size: int, ratio: int) -> AxisOperator:
    place = np.clip((np.arange(size * ratio) + 0.5) / ratio - 0.5, 0, size - 1)
    first = np.floor(place).astype(np.int64)
    share = place - first
    return gather(np.stack([first, first + 1], 1), np.stack([1 - share, share], 1), size, "edge")


def bilinear_reduce(image: torch.Tensor, ratio: int) -> torch.Tensor:
    """(..., R * y, R * x) to (..., y, x), antialiased: as torch's ``interpolate(mode="bilinear", antialias=True)``."""
    rows, cols = (_reduction(size, check_ratio(ratio)) for size in image.shape[-2:])
    return apply(image, rows, cols)


def bilinear_enlarge(image: torch.Tensor, ratio: int) -> torch.Tensor:
    """(..., y, x) to (..., R * y, R * x), pixel areas aligned, edges repeated."""
    rows, cols = (_enlargement(size, check_ratio(ratio)) for size in image.shape[-2:])
    return apply(image, rows, cols)
