"""Bicubic resizing that agrees with MATLAB's ``imresize``."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from torchspectral.errors import BadSettings
from torchspectral.ops.axis import AxisOperator, apply, gather


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return near * (x <= 1) + far * ((x > 1) & (x <= 2))


@lru_cache(maxsize=64)
def bicubic_operator(size: int, outputs: int, scale: float, antialias: bool = True) -> AxisOperator:
    """Bicubic resampling along one axis, (outputs, size)."""
    shrink = min(scale, 1.0) if antialias else 1.0
    width = 4.0 / shrink
    centre = (np.arange(outputs) + 0.5) / scale - 0.5
    first = np.floor(centre - width / 2).astype(np.int64)
    index = first[:, None] + np.arange(int(np.ceil(width)) + 2)[None, :]
    weight = shrink * cubic(shrink * (centre[:, None] - index))
    weight /= weight.sum(axis=1, keepdims=True)
    return gather(index, weight, size, "symmetric")


def imresize(image: torch.Tensor, scale: float, *, antialias: bool = True) -> torch.Tensor:
    """Resize by a factor with MATLAB's bicubic kernel (a = -0.5), antialiased when shrinking, symmetric border.

    Parameters
    ----------
    image : Tensor, shape (..., y, x)
    scale : float
        Output size over input size; the output has ``ceil(scale * size)`` pixels, as MATLAB's.
    antialias : bool
        Widen the kernel when shrinking.

    Raises
    ------
    BadSettings
        `scale` is not positive and finite.
    """
    if not np.isfinite(scale) or scale <= 0:
        raise BadSettings(f"got a resize factor of {scale!r}, expected a positive number")
    rows, cols = (max(1, int(np.ceil(size * scale - 1e-9))) for size in image.shape[-2:])
    return apply(
        image,
        bicubic_operator(image.shape[-2], rows, float(scale), antialias),
        bicubic_operator(image.shape[-1], cols, float(scale), antialias),
    )
