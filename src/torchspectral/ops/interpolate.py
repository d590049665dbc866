"""The ideal interpolator of sharpening, and the matching decimation.

A low-resolution sample k lies at fine sample ``R * k + R // 2``; `decimate` picks exactly these.

References
----------
Aiazzi, Alparone, Baronti, Garzelli, "Context-driven fusion of high spatial and spectral resolution images based on
oversampled multiresolution analysis", IEEE TGRS 40 (2002), the 23-tap half-band filter.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from torchspectral.errors import BadSettings, GridMismatch
from torchspectral.ops.axis import AxisOperator, apply, gather, pick

# One side of the odd taps of the 23-tap half-band filter, times two; even taps are zero and the centre is one.
_HALF_BAND = 2 * np.array(
    [0.305334091185, -0.072698593239, 0.021809577942, -0.005192756653, 0.000807762146, -0.000060081482]
)
_SINC_REACH = 30


def check_ratio(ratio: int) -> int:
    """Return `ratio` if it is a whole number of at least 2.

    Raises
    ------
    BadSettings
        It is not.
    """
    if not isinstance(ratio, int | np.integer) or isinstance(ratio, bool) or ratio < 2:
        raise BadSettings(f"got ratio {ratio!r}, expected a whole number of at least 2")
    return int(ratio)


def _doubling(size: int, first: bool, border: str) -> AxisOperator:
    """x2 by the half-band filter: samples go to odd places in the first step, to even places later."""
    reach = len(_HALF_BAND)
    taps = np.concatenate([_HALF_BAND[::-1], _HALF_BAND])
    between = np.arange(size)[:, None] + np.arange(-reach, reach)[None, :] + (0 if first else 1)
    index = np.zeros((2 * size, 2 * reach), dtype=np.int64)
    weight = np.zeros((2 * size, 2 * reach))
    own = 1 if first else 0
    index[own::2, 0], weight[own::2, 0] = np.arange(size), 1.0
    index[1 - own :: 2], weight[1 - own :: 2] = between, taps
    index[own::2, 1:] = index[own::2, :1]
    return gather(index, weight, size, border)


def _odd(size: int, factor: int) -> AxisOperator:
    """x3, x5, ... by truncated sincs normalised to sum 1; symmetric border."""
    offsets = np.arange(-_SINC_REACH, _SINC_REACH + 1)
    index = np.zeros((factor * size, offsets.size), dtype=np.int64)
    weight = np.zeros((factor * size, offsets.size))
    middle = factor // 2
    for phase in range(factor):
        # The window of an output before the sample starts one sample earlier, so that it leans the way it points.
        places = offsets - 1 if phase < middle else offsets
        taps = np.sinc(places - (phase - middle) / factor)
        taps[np.abs(taps) < 1e-15] = 0.0
        index[phase::factor] = np.arange(size)[:, None] + places[None, :]
        weight[phase::factor] = taps / taps.sum()
    return gather(index, weight, size, "symmetric")


def steps_of(ratio: int) -> tuple[int, int]:
    """Odd factor and number of doublings of a ratio: 6 is (3, 1)."""
    odd, doublings = int(ratio), 0
    while odd % 2 == 0:
        odd, doublings = odd // 2, doublings + 1
    return odd, doublings


@lru_cache(maxsize=64)
def ideal_operator(size: int, ratio: int, border: str = "symmetric") -> AxisOperator:
    """Interpolator along one axis, (ratio * size, size).

    Parameters
    ----------
    size : int
        Low-resolution samples.
    ratio : int
        At least 2; its odd factor goes first (truncated sinc, 61 taps a phase), then doublings (23-tap half-band).
    border : {"symmetric", "wrap"}
        Of the doublings. "wrap" is what the benchmark's code does; sincs always extend symmetrically.
    """
    odd, doublings = steps_of(check_ratio(ratio))
    operator = _odd(size, odd) if odd > 1 else None
    for step in range(doublings):
        now = size if operator is None else operator.shape[0]
        doubled = _doubling(now, step == 0, border)
        operator = doubled if operator is None else doubled @ operator
    assert operator is not None
    return operator


def interpolation_halo(ratio: int) -> int:
    """Low-resolution pixels on each side that an output pixel depends on."""
    odd, doublings = steps_of(check_ratio(ratio))
    reach = float(_SINC_REACH + 1) if odd > 1 else 0.0
    scale = odd
    for _ in range(doublings):
        reach += (len(_HALF_BAND) + 1) / scale
        scale *= 2
    return int(np.ceil(reach))


def ideal_interp(image: torch.Tensor, ratio: int, *, border: str = "symmetric") -> torch.Tensor:
    """Interpolate by a whole ratio with the ideal interpolator.

    Parameters
    ----------
    image : Tensor, shape (..., y, x)
        float32 or float64, any device.
    ratio : int
        At least 2.
    border : {"symmetric", "wrap"}
        See `ideal_operator`.

    Returns
    -------
    Tensor, shape (..., ratio * y, ratio * x)
        The sample k of `image` stands unchanged at ``ratio * k + ratio // 2``.
    """
    rows = ideal_operator(image.shape[-2], ratio, border)
    cols = ideal_operator(image.shape[-1], ratio, border)
    return apply(image, rows, cols)


@lru_cache(maxsize=64)
def decimation_operator(size: int, ratio: int) -> AxisOperator:
    """Nearest-exact decimation along one axis, (size // ratio, size): picks ``ratio * k + ratio // 2``.

    Raises
    ------
    GridMismatch
        `size` is no multiple of `ratio`.
    """
    if size % check_ratio(ratio):
        raise GridMismatch(f"got {size} pixels to decimate by {ratio}, expected a multiple: crop the ragged edge first")
    return pick(size, ratio // 2, ratio)


def decimate(image: torch.Tensor, ratio: int) -> torch.Tensor:
    """Pick every `ratio`-th pixel at offset ``ratio // 2``: (..., y, x) to (..., y / ratio, x / ratio).

    Raises
    ------
    GridMismatch
        Rows or columns are no multiple of `ratio`.
    """
    for size in image.shape[-2:]:
        decimation_operator(size, ratio)
    return image[..., ratio // 2 :: ratio, ratio // 2 :: ratio]
