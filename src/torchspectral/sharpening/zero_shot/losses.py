"""The two full-resolution losses: spectral, through the sensor's MTF, and structural, by local correlation with the PAN.

Both compare an image with data of the scene itself and need no truth.

References
----------
Ciotola, Vitale, Mazza, Poggi, Scarpa, "Pansharpening by convolutional neural networks in the full resolution framework",
IEEE TGRS (2022), eqs. 6-10.
Guarino, Ciotola, Vivone, Scarpa, "Band-wise hyperspectral image pansharpening using CNN model propagation", IEEE TGRS
(2023).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from torchspectral.errors import BadInput
from torchspectral.ops.axis import AxisOperator, apply, correlation, gather
from torchspectral.ops.mtf import mtf_kernel, separable_terms
from torchspectral.sharpening.zero_shot.correlation import LocalCorrelation, correlation_field


def loss_taps(ratio: int) -> int:
    """Side of the MTF kernel in the spectral loss: 61 taps at ratio 6, five coarse pixels on each side."""
    return 10 * ratio + 1


LOSS_BORDER = 5
"""Coarse pixels on each side that the spectral loss does not see."""


@lru_cache(maxsize=64)
def _view_operators(
    rows: int, cols: int, key: bytes, taps: int, ratio: int, place: tuple[int, int]
) -> tuple[tuple[AxisOperator, AxisOperator], ...]:
    kernel = np.frombuffer(key).reshape(taps, taps)

    def strided(size: int, weights: np.ndarray, first: int) -> AxisOperator:
        start = np.arange(first, size - taps + 1, ratio)
        return gather(start[:, None] + np.arange(taps)[None, :], weights, size, "edge")

    return tuple(
        (strided(rows, down, place[0]), strided(cols, across, place[1])) for down, across in separable_terms(kernel)
    )


class SensorView:
    """A fine image as the coarse sensor sees it, away from the edges: filtered, valid part, every R-th pixel.

    Only the pixels that are kept are computed.

    Parameters
    ----------
    kernel : ndarray, shape (taps, taps)
    ratio : int
    place : (int, int), optional
        First row and column that are kept of the valid part; default ``ratio // 2``.
    """

    def __init__(self, kernel: np.ndarray, ratio: int, place: tuple[int, int] | None = None) -> None:
        self.kernel = np.ascontiguousarray(kernel, dtype=np.float64)
        self.ratio, self.taps = ratio, kernel.shape[0]
        self.place = place if place is not None else (ratio // 2, ratio // 2)

    @classmethod
    def of(cls, ratio: int, gain: float, *, offset: int | None = None, normalize: bool = False) -> SensorView:
        """The view of R-PNN and rho-PNN: a window-method kernel of `loss_taps` taps.

        Parameters
        ----------
        ratio : int
        gain : float
            Amplitude of the sensor's MTF at Nyquist.
        offset : int, optional
            Of the pixels that are kept; default ``ratio // 2``, the interpolator's grid.
        normalize : bool
            Kernel of sum 1.
        """
        place = None if offset is None else (offset, offset)
        return cls(mtf_kernel(float(ratio), gain, loss_taps(ratio), normalize=normalize), ratio, place)

    @property
    def border(self) -> int:
        """Coarse pixels that are lost on each side."""
        return self.taps // 2 // self.ratio

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """(..., y, x) to (..., y', x'); differentiable.

        Raises
        ------
        BadInput
            The image is smaller than the kernel and its offset.
        """
        rows, cols = image.shape[-2:]
        least = self.taps + max(self.place)
        if min(rows, cols) < least:
            raise BadInput(
                f"got an image of {rows} x {cols} fine pixels, expected at least {least} x {least} for a spectral loss at "
                f"ratio {self.ratio}: work on a larger scene, or larger patches"
            )
        pairs = _view_operators(rows, cols, self.kernel.tobytes(), self.taps, self.ratio, self.place)
        out = apply(image, *pairs[0])
        for pair in pairs[1:]:
            out = out + apply(image, *pair)
        return out

    def crop(self, coarse: torch.Tensor) -> torch.Tensor:
        """The coarse pixels that the view of their fine image has."""
        cut = slice(self.border, -self.border or None)
        return coarse[..., cut, cut]


def spectral_loss(seen: torch.Tensor, coarse: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Mean absolute difference of a view of the output and the coarse image, cropped alike.

    Parameters
    ----------
    seen, coarse : Tensor, shape (n, band, y, x)
    weight : Tensor, shape (n, 1, y, x), optional
        1 where a pixel counts, 0 where it is nodata.

    Returns
    -------
    Tensor, scalar
    """
    return weighted_mean((seen - coarse).abs(), weight)


def structural_loss(
    field: torch.Tensor, threshold: torch.Tensor | None = None, weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """1 - c, counted where it exceeds the threshold, and its plain mean for the record.

    Parameters
    ----------
    field : Tensor, shape (n, band, y, x)
        Local correlation with the PAN.
    threshold : Tensor of the same shape, optional
        What 1 - c is allowed; pixels below carry neither loss nor gradient. None: all count.
    weight : Tensor, shape (n, 1, y, x), optional

    Returns
    -------
    loss, plain : Tensor, scalars
        `plain` is detached.
    """
    distance = 1 - field.clamp_min(-1)
    plain = weighted_mean(distance.detach(), weight)
    if threshold is None:
        return weighted_mean(distance, weight), plain
    return weighted_mean(distance * (distance.detach() > threshold), weight), plain


def weighted_mean(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """Mean of the values whose weight is not 0; the plain mean without weights."""
    if weight is None:
        return values.mean()
    count = (weight.sum() * values.shape[1]).clamp_min(1)
    return (values * weight).sum() / count


@lru_cache(maxsize=32)
def _reflecting(rows: int, cols: int, key: bytes, taps: int) -> tuple[tuple[AxisOperator, AxisOperator], ...]:
    kernel = np.frombuffer(key).reshape(taps, taps)
    return tuple(
        (correlation(rows, down, "reflect"), correlation(cols, across, "reflect"))
        for down, across in separable_terms(kernel)
    )


def reflected_filter(image: torch.Tensor, kernel: np.ndarray) -> torch.Tensor:
    """Same-size filtering with reflected edges (the edge pixel is not repeated), float64.

    Parameters
    ----------
    image : Tensor, shape (..., y, x)
    kernel : ndarray, shape (taps, taps)
    """
    image = image.double()
    key = np.ascontiguousarray(kernel, dtype=np.float64).tobytes()
    pairs = _reflecting(*image.shape[-2:], key, kernel.shape[0])
    out = apply(image, *pairs[0])
    for pair in pairs[1:]:
        out = out + apply(image, *pair)
    return out


def correlation_threshold(
    upsampled: torch.Tensor, smooth_pan: torch.Tensor, half: int, *, clip_cross: bool = False
) -> torch.Tensor:
    """What the structural loss allows each pixel: 1 - c of the interpolated band and the PAN at the band's resolution.

    Parameters
    ----------
    upsampled : Tensor, shape (n, band, y, x)
    smooth_pan : Tensor, shape (n, 1, y, x)
        The PAN through the sensor's MTF, `reflected_filter`.
    half : int
        Half width of the window: three coarse pixels in R-PNN, two in Z-PNN.
    clip_cross : bool

    Returns
    -------
    Tensor, shape (n, band, y, x), float64
    """
    with torch.no_grad():
        return 1 - correlation_field(upsampled, smooth_pan.expand_as(upsampled), half, clip_cross=clip_cross)


__all__ = [
    "LOSS_BORDER",
    "LocalCorrelation",
    "SensorView",
    "correlation_field",
    "correlation_threshold",
    "loss_taps",
    "reflected_filter",
    "spectral_loss",
    "structural_loss",
    "weighted_mean",
]
