"""Orthonormal wavelets of Daubechies on images of any size, and the shrinkage rules that go with them."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

Bands = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


@lru_cache(maxsize=16)
def daubechies(moments: int) -> tuple[float, ...]:
    """Low-pass of the wavelet with that many vanishing moments: 2 `moments` taps with sum sqrt(2).

    References
    ----------
    Daubechies, "Ten lectures on wavelets", SIAM (1992), ch. 6.
    """
    roots = np.roots([math.comb(moments - 1 + k, k) for k in reversed(range(moments))])
    taps = np.array([1.0 + 0j])
    for root in roots:
        # y = (2 - z - 1/z) / 4: of each pair of solutions the one inside the unit circle is of least phase.
        half = 1 - 2 * root
        z = half + np.sqrt(half * half - 1 + 0j)
        taps = np.convolve(taps, [1, -(z if abs(z) < 1 else 1 / z)])
    for _ in range(moments):
        taps = np.convolve(taps, [1, 1])
    real = taps.real
    return tuple(float(v) for v in real * math.sqrt(2) / real.sum())


def _split(x: torch.Tensor, low: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Low and high half along an axis, periodic."""
    taps = len(low)
    sign = torch.tensor([(-1.0) ** k for k in range(taps)], dtype=low.dtype, device=low.device)
    kernel = torch.stack([low, low.flip(0) * sign])[:, None]
    moved = x.movedim(axis, -1)
    flat = moved.reshape(-1, 1, moved.shape[-1])
    index = torch.arange(flat.shape[-1] + taps - 2, device=x.device) % flat.shape[-1]
    out = F.conv1d(flat[..., index], kernel, stride=2)
    pieces = out.reshape(*moved.shape[:-1], 2, -1).movedim(-1, axis - 1 if axis < 0 else axis)
    first, second = pieces.unbind(-1)
    return first, second


def _join(first: torch.Tensor, second: torch.Tensor, low: torch.Tensor, axis: int) -> torch.Tensor:
    taps = len(low)
    sign = torch.tensor([(-1.0) ** k for k in range(taps)], dtype=low.dtype, device=low.device)
    kernel = torch.stack([low, low.flip(0) * sign])[:, None]
    pair = torch.stack([first.movedim(axis, -1), second.movedim(axis, -1)], -2)
    lead, n = pair.shape[:-2], 2 * pair.shape[-1]
    long = F.conv_transpose1d(pair.reshape(-1, 2, pair.shape[-1]), kernel, stride=2)[:, 0]
    out = long[:, :n].clone()
    for start in range(n, long.shape[-1], n):
        piece = long[:, start : start + n]
        out[:, : piece.shape[-1]] += piece
    return out.reshape(*lead, n).movedim(-1, axis)


def analyse(images: torch.Tensor, moments: int, levels: int) -> tuple[torch.Tensor, Bands]:
    """Coarse image and, finest first, the details (across, along, both) of each level.

    Parameters
    ----------
    images : Tensor, shape (..., y, x)
        Sides that 2^levels divides.
    """
    low = images.new_tensor(daubechies(moments))
    details: Bands = []
    for _ in range(levels):
        top, bottom = _split(images, low, -2)
        images, across = _split(top, low, -1)
        along, both = _split(bottom, low, -1)
        details.append((across, along, both))
    return images, details


def synthesise(coarse: torch.Tensor, details: Bands, moments: int) -> torch.Tensor:
    """The reverse of `analyse`."""
    low = coarse.new_tensor(daubechies(moments))
    for across, along, both in reversed(details):
        coarse = _join(_join(coarse, across, low, -1), _join(along, both, low, -1), low, -2)
    return coarse


def sure_shrink(
    coefficients: torch.Tensor, levels: int = 15, most: float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft thresholding, noise of variance one, at the threshold of least estimated risk.

    Parameters
    ----------
    coefficients : Tensor, shape (k, n)
        One threshold a row.
    levels : int
        Thresholds that are tried, from zero.
    most : float, optional
        The largest; by default sqrt(2 log n).

    Returns
    -------
    shrunk : Tensor, shape (k, n)
    risk : Tensor, shape (k,)
        Stein's estimate of the summed squared error.

    References
    ----------
    Donoho and Johnstone, "Adapting to unknown smoothness via wavelet shrinkage", JASA 90 (1995).
    """
    n = coefficients.shape[1]
    top = math.sqrt(2 * math.log(max(n, 2))) if most is None else most
    size = coefficients.abs()
    best_risk = torch.full((len(size),), math.inf, dtype=size.dtype, device=size.device)
    best = torch.zeros_like(best_risk)
    for level in torch.linspace(0, top, levels).tolist():
        risk = n - 2.0 * (size <= level).sum(1) + size.clamp_max(level).square().sum(1)
        better = risk < best_risk
        best_risk, best = torch.where(better, risk, best_risk), torch.where(better, level, best)
    return coefficients.sign() * (size - best[:, None]).clamp_min(0), best_risk
