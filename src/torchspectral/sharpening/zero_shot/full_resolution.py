"""The losses of Z-PNN for images of several bands, each with its own MTF and its own place on the PAN's grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from torchspectral.sharpening.zero_shot.correlation import LocalCorrelation
from torchspectral.sharpening.zero_shot.losses import (
    SensorView,
    correlation_threshold,
    loss_taps,
    reflected_filter,
    spectral_loss,
    structural_loss,
)
from torchspectral.sharpening.zero_shot.multispectral import smooth_kernel


class Views:
    """Several bands as the sensor sees each of them.

    Parameters
    ----------
    gains : sequence of float
        MTF gain of each band.
    ratio : int
    places : sequence of (int, int)
        First row and column that are kept of each band.
    """

    def __init__(self, gains: Sequence[float], ratio: int, places: Sequence[tuple[int, int]]) -> None:
        self.views = [
            SensorView(smooth_kernel(ratio, gain), ratio, place) for gain, place in zip(gains, places, strict=True)
        ]

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """(n, bands, y, x) to (n, bands, y', x'), cropped to what all bands have."""
        groups: dict[Any, list[int]] = {}
        for band, view in enumerate(self.views):
            groups.setdefault((view.kernel.tobytes(), view.place), []).append(band)
        parts: dict[int, torch.Tensor] = {}
        for bands in groups.values():
            seen = self.views[bands[0]](image[:, bands])
            parts |= {band: seen[:, k : k + 1] for k, band in enumerate(bands)}
        rows = min(p.shape[-2] for p in parts.values())
        cols = min(p.shape[-1] for p in parts.values())
        return torch.cat([parts[band][..., :rows, :cols] for band in range(len(self.views))], dim=1)


class FullResolution:
    """Spectral and structural loss of a network's output.

    Parameters
    ----------
    up : Tensor, shape (n, bands, y, x)
        The interpolated image.
    pan : Tensor, shape (n, 1, y, x)
    ratio : int
    gains : sequence of float
    places : sequence of (int, int)
        See `Views`; the image itself is sampled at ``ratio // 2``.
    scope : int
        Pixels that the network loses on each side.
    valid : Tensor, shape (n, 1, y / R, x / R), optional
        Weights of coarse pixels.
    exact : bool
        Local correlation in float64, as the authors.
    """

    def __init__(
        self,
        up: torch.Tensor,
        pan: torch.Tensor,
        ratio: int,
        gains: Sequence[float],
        places: Sequence[tuple[int, int]],
        scope: int,
        valid: torch.Tensor | None = None,
        *,
        exact: bool = False,
    ) -> None:
        self.bands = up.shape[1]
        self.views = Views(gains, ratio, places)
        kernel = smooth_kernel(ratio, gains[0])
        smooth = reflected_filter(pan, kernel)
        cut = slice(scope, -scope or None)
        threshold = correlation_threshold(up, smooth, 2 * ratio)
        self.threshold = threshold[..., cut, cut]
        self.up, self.pan = up[..., cut, cut], pan[..., cut, cut]
        dtype = torch.float64 if exact else torch.float32
        self.field = LocalCorrelation(self.pan, -(-ratio // 2), dtype=dtype)
        border = loss_taps(ratio) // 2
        sampled = slice(border + ratio // 2, -border or None, ratio)
        target = self.up[..., sampled, sampled]
        self.fine_weight = self.weight = None
        with torch.no_grad():
            rows, cols = self.views(self.up).shape[-2:]
        rows, cols = min(rows, target.shape[-2]), min(cols, target.shape[-1])
        self.target = target[..., :rows, :cols]
        if valid is not None:
            fine = valid.repeat_interleave(ratio, -2).repeat_interleave(ratio, -1)[..., cut, cut]
            self.fine_weight, self.weight = fine, fine[..., sampled, sampled][..., :rows, :cols]

    def seen(self, out: torch.Tensor) -> torch.Tensor:
        """The sensor's view of an output, on the target's pixels."""
        rows, cols = self.target.shape[-2:]
        return self.views(out)[..., :rows, :cols]

    def __call__(self, out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Spectral loss, structural loss, and the structural loss without threshold (detached)."""
        spectral = spectral_loss(self.seen(out), self.target, self.weight)
        structural, plain = structural_loss(self.field(out), self.threshold, self.fine_weight)
        return spectral, structural, plain

    def reference(self) -> float:
        """Spectral loss of the interpolated image."""
        with torch.no_grad():
            return float(spectral_loss(self.seen(self.up), self.target, self.weight))
