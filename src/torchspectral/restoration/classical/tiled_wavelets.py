"""Wavelet transforms of tiles that equal the transform of the scene, and sums over their coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from torchspectral.engine.method import Tile
from torchspectral.restoration.classical.wavelets import Bands, analyse, synthesise

SAMPLE = 128
"""Rows and columns of finest coefficients, evenly over the scene, from which noise is told."""


@dataclass(frozen=True)
class Pyramid:
    """Coefficients of images: all sub-bands in one list, the coarse one first, then the finest details upwards.

    Attributes
    ----------
    subbands : list of Tensor, each (..., y, x)
    margin : tuple of int
        Pixels by which rows and columns were extended before the first.
    size : tuple of int
        Rows and columns of the images.
    """

    subbands: list[torch.Tensor]
    margin: tuple[int, int]
    size: tuple[int, int]

    def core(self, tile: Tile, number: int) -> torch.Tensor:
        """Coefficients of sub-band `number` that a tile answers for, flattened to (..., n)."""
        step = 2 ** self.level(number)
        cuts = []
        for margin, start, offset, size in (
            (self.margin[0], tile.inner.row, tile.window.row, tile.inner.height),
            (self.margin[1], tile.inner.col, tile.window.col, tile.inner.width),
        ):
            first = (start - offset + margin) // step
            cuts.append(slice(first, first + max(1, -(-size // step))))
        return self.subbands[number][..., cuts[0], cuts[1]]

    def level(self, number: int) -> int:
        """Level of a sub-band, 1 the finest."""
        return (len(self.subbands) - 1) // 3 if number == 0 else (number + 2) // 3

    def with_subbands(self, subbands: list[torch.Tensor]) -> Pyramid:
        """The same places with other coefficients."""
        return replace(self, subbands=subbands)


class TiledWavelets:
    """Daubechies wavelets on mirrored images.

    Parameters
    ----------
    moments : int
        Vanishing moments: 2 `moments` taps.
    levels : int

    Attributes
    ----------
    multiple : int
        Of the origin of tiles [pixel].
    halo : int
        How far the coefficients and the images that come back look [pixel].
    """

    def __init__(self, moments: int, levels: int) -> None:
        self.moments, self.levels = moments, levels
        self.multiple = 2**levels
        reach = (2 * moments - 1) * (self.multiple - 1)
        self.halo = -(-reach // self.multiple) * self.multiple

    def analyse(self, images: torch.Tensor) -> Pyramid:
        """Coefficients of images (..., y, x)."""
        size = (images.shape[-2], images.shape[-1])
        margins = []
        for axis in (-2, -1):
            images, margin = self._extended(images, axis)
            margins.append(margin)
        coarse, details = analyse(images, self.moments, self.levels)
        return Pyramid([coarse, *(d for three in details for d in three)], (margins[0], margins[1]), size)

    def _extended(self, images: torch.Tensor, axis: int) -> tuple[torch.Tensor, int]:
        """Mirror at both ends: a whole period of the mirrored signal where that is less than a margin on each side."""
        size = images.shape[axis]
        if 2 * size % self.multiple == 0 and size <= 2 * self.halo:
            margin, total = 0, 2 * size
        else:
            margin = self.halo
            total = 2 * margin + size
            total += -total % self.multiple
        index = (torch.arange(total, device=images.device) - margin) % (2 * size)
        return images.index_select(axis, torch.where(index < size, index, 2 * size - 1 - index)), margin

    def synthesise(self, pyramid: Pyramid) -> torch.Tensor:
        """Images (..., y, x) from their coefficients."""
        coarse, flat = pyramid.subbands[0], pyramid.subbands[1:]
        details: Bands = [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]
        out = synthesise(coarse, details, self.moments)
        (top, left), (height, width) = pyramid.margin, pyramid.size
        return out[..., top : top + height, left : left + width]


def extended_pixels(wavelets: TiledWavelets, rows: int, cols: int) -> int:
    """Pixels of an image once it is mirrored, at most."""
    sides = [max(min(2 * n, n + 2 * wavelets.halo), n) + 2 * wavelets.multiple for n in (rows, cols)]
    odd = [n + 2 * wavelets.halo + wavelets.multiple for n in (rows, cols)]
    return max(sides[0], odd[0]) * max(sides[1], odd[1])


def finest_sample(tile: Tile, pyramid: Pyramid) -> torch.Tensor:
    """Absolute finest diagonal details of a tile at places that are the same however the scene is cut, (k, n)."""
    stride = [max(1, n // (2 * SAMPLE)) for n in tile.info.shape]
    finest = pyramid.core(tile, 3)
    top, left = (-(start // 2) % s for start, s in zip((tile.inner.row, tile.inner.col), stride, strict=True))
    return finest[..., top :: stride[0], left :: stride[1]].abs().reshape(len(finest), -1).cpu()


def threshold_grid(n: int, count: int, most: float | None = None) -> torch.Tensor:
    """Thresholds from zero to `most`, by default sqrt(2 log n), of coefficients whose noise has variance one."""
    return torch.linspace(0, math.sqrt(2 * math.log(max(n, 2))) if most is None else most, count, dtype=torch.float64)


def risk_sums(coefficients: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Stein's estimate of the summed squared error of soft thresholding, noise of variance one.

    Parameters
    ----------
    coefficients : Tensor, shape (k, ...)
    grid : Tensor, shape (t,)
        Thresholds.

    Returns
    -------
    Tensor, shape (k, t), float64
        Sums add up over tiles.

    References
    ----------
    Donoho and Johnstone, "Adapting to unknown smoothness via wavelet shrinkage", JASA 90 (1995), eq. 11.
    """
    size = coefficients.reshape(len(coefficients), -1).abs()
    n = size.shape[1]
    found = []
    for level in grid.tolist():
        below = (size <= level).sum(1)
        found.append(n - 2.0 * below + size.clamp_max(level).square().sum(1, dtype=torch.float64))
    return torch.stack(found, 1).cpu()


def soft(values: torch.Tensor, limit: torch.Tensor | float) -> torch.Tensor:
    """Soft thresholding."""
    return values.sign() * (values.abs() - limit).clamp_min(0)
