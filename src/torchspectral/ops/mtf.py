"""Kernels that imitate a sensor's modulation transfer function (MTF), and filtering with them.

References
----------
Aiazzi, Alparone, Baronti, Garzelli, Selva, "MTF-tailored multiscale fusion of high-resolution MS and Pan imagery",
Photogramm. Eng. Remote Sens. 72 (2006).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from torchspectral.errors import BadSettings
from torchspectral.ops.axis import AxisOperator, apply, correlation
from torchspectral.ops.interpolate import check_ratio, decimation_operator

HS_GAIN = 0.3
"""Amplitude at the Nyquist frequency of hyperspectral sensors where nothing better is known."""
PAN_GAIN = 0.15
"""The same of panchromatic sensors."""
_TOLERANCE = 1e-7


def kernel_size(ratio: float) -> int:
    """Side of a kernel in taps: 41 as in the literature, more above ratio 6, where 41 would cut the Gaussian off."""
    return max(41, 2 * int(np.ceil(10 * ratio / 3)) + 1)


@lru_cache(maxsize=64)
def mtf_kernel(
    ratio: float, gain: float = HS_GAIN, size: int | None = None, *, normalize: bool = False, gauss: bool = False
) -> np.ndarray:
    """Kernel of a Gaussian MTF by the window method, shape (size, size), read-only.

    Parameters
    ----------
    ratio : float
        Fine pixels per coarse pixel.
    gain : float
        Amplitude at the coarse Nyquist frequency, 0..1.
    size : int, optional
        Odd number of taps on each side; default `kernel_size`.
    normalize : bool
        Make the sum exactly 1. The benchmark does not: its kernels sum to 0.996..0.999, which dims every image.
    gauss : bool
        The low-pass of BT-H and of histogram equalisation in MTF-GLP: the width counts `size` samples, not one less.

    Raises
    ------
    BadSettings
        An argument outside its range.
    """
    if not 0 < gain < 1:
        raise BadSettings(f"got an MTF gain of {gain!r}, expected a number between 0 and 1")
    if not ratio >= 1:
        raise BadSettings(f"got ratio {ratio!r}, expected at least 1")
    size = kernel_size(ratio) if size is None else size
    if size < 3 or size % 2 == 0:
        raise BadSettings(f"got an MTF kernel of {size} taps, expected an odd number of at least 3")
    span = size if gauss else size - 1
    sigma = np.sqrt((span / (2 * ratio)) ** 2 / (-2 * np.log(gain)))
    axis = np.arange(size) - (size - 1) / 2
    response = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * sigma**2))
    response[response < np.finfo(np.float64).eps * response.max()] = 0
    response /= response.max()
    place = np.linspace(-1, 1, size)
    radius = np.hypot(place[:, None], place[None, :])
    window = np.interp(radius, place, np.kaiser(size, 0.5), right=0.0)
    window[radius > 1] = 0
    spatial = np.real(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(response))))
    kernel = (spatial * window).astype(np.float32).astype(np.float64)
    if normalize:
        kernel = kernel / kernel.sum()
    kernel.setflags(write=False)
    return kernel


def separable_terms(kernel: np.ndarray, tolerance: float = _TOLERANCE) -> list[tuple[np.ndarray, np.ndarray]]:
    """Column and row taps whose outer products sum to `kernel`, to `tolerance` of its absolute sum.

    The MTF kernels are products of a separable Gaussian and a nearly flat round window: a few terms are exact to
    rounding and many times cheaper than the square kernel.
    """
    left, values, right = np.linalg.svd(kernel)
    weight = values * np.abs(left).sum(0) * np.abs(right).sum(1)
    rest = weight[::-1].cumsum()[::-1]
    count = max(1, int((rest > tolerance * np.abs(kernel).sum()).sum()))
    return [(left[:, i] * values[i], right[i]) for i in range(count)]


@lru_cache(maxsize=64)
def _operators(
    rows: int,
    cols: int,
    ratio: float,
    gain: float,
    size: int | None,
    normalize: bool,
    gauss: bool,
    keep: int,
    border: str,
) -> tuple[tuple[AxisOperator, AxisOperator], ...]:
    kernel = mtf_kernel(ratio, gain, size, normalize=normalize, gauss=gauss)
    pairs = []
    for down, across in separable_terms(kernel):
        vertical, horizontal = correlation(rows, down, border), correlation(cols, across, border)
        if keep > 1:
            vertical = decimation_operator(rows, keep) @ vertical
            horizontal = decimation_operator(cols, keep) @ horizontal
        pairs.append((vertical, horizontal))
    return tuple(pairs)


def mtf_filter(
    image: torch.Tensor,
    ratio: int,
    gain: float = HS_GAIN,
    *,
    size: int | None = None,
    normalize: bool = False,
    gauss: bool = False,
    decimated: bool = False,
) -> torch.Tensor:
    """Low-pass an image with an MTF kernel; edges are replicated.

    Parameters
    ----------
    image : Tensor, shape (..., y, x)
        float32 or float64; every leading index is filtered alike.
    ratio, gain, size, normalize, gauss
        See `mtf_kernel`.
    decimated : bool
        Return only the pixels that `ops.interpolate.decimate` would pick, and compute no others.

    Returns
    -------
    Tensor, shape (..., y, x), or (..., y / ratio, x / ratio) where decimated
    """
    keep = check_ratio(ratio) if decimated else 1
    rows, cols = image.shape[-2:]
    pairs = _operators(rows, cols, float(ratio), float(gain), size, normalize, gauss, keep, "edge")
    out = apply(image, *pairs[0])
    for pair in pairs[1:]:
        out += apply(image, *pair)
    return out


def lp_filter_gauss(
    image: torch.Tensor, ratio: int, *, size: int | None = None, normalize: bool = False, decimated: bool = False
) -> torch.Tensor:
    """Gaussian low-pass of amplitude 0.3 at the coarse Nyquist frequency, for the PAN in BT-H and MTF-GLP-HPM."""
    return mtf_filter(image, ratio, 0.3, size=size, normalize=normalize, gauss=True, decimated=decimated)
