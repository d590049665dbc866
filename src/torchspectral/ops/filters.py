"""The a trous low-pass of the spline pyramid, as the sharpening benchmark applies it.

References
----------
Nunez, Otazu, Fors, Prades, Pala, Arbiol, "Multiresolution-based image fusion with additive wavelet decomposition",
IEEE TGRS 37 (1999). The benchmark does not dilate the filter between levels; neither does this.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from torchspectral.ops.axis import AxisOperator, apply, gather
from torchspectral.ops.interpolate import check_ratio, decimation_operator

_SPLINE = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


def atrous_levels(ratio: int) -> int:
    """Levels of the pyramid: ceil(log2 ratio)."""
    return int(np.ceil(np.log2(check_ratio(ratio))))


def atrous_reach(ratio: int) -> int:
    """Pixels on each side that an output pixel depends on."""
    return 4 * atrous_levels(ratio)


@lru_cache(maxsize=64)
def atrous_operator(size: int, ratio: int, decimated: bool = False) -> AxisOperator:
    """Low-pass along one axis, (size, size), or (size / ratio, size) where decimated."""
    operator: AxisOperator | None = None
    now = size
    for _ in range(atrous_levels(ratio)):  # each level extends by 4 on both sides and filters: the signal grows by 4
        index = np.arange(now + 4)[:, None] - 4 + np.arange(5)[None, :]
        step = gather(index, _SPLINE, now, "symmetric")
        operator = step if operator is None else step @ operator
        now += 4
    for _ in range(atrous_levels(ratio)):
        index = np.arange(now - 4)[:, None] + np.arange(5)[None, :]
        assert operator is not None
        operator = gather(index, _SPLINE, now, "edge") @ operator
        now -= 4
    assert operator is not None
    return decimation_operator(size, ratio) @ operator if decimated else operator


def atrous_lowpass(image: torch.Tensor, ratio: int, *, decimated: bool = False) -> torch.Tensor:
    """A trous low-pass of an image, alone or followed by decimation ("LPfilterPlusDec").

    Parameters
    ----------
    image : Tensor, shape (..., y, x)
    ratio : int
        Sets the number of levels.
    decimated : bool
        Keep only the pixels at offset ``ratio // 2``.

    Returns
    -------
    Tensor, shape (..., y, x), or (..., y / ratio, x / ratio)
    """
    rows, cols = image.shape[-2:]
    return apply(image, atrous_operator(rows, ratio, decimated), atrous_operator(cols, ratio, decimated))
