"""The interpolated hyperspectral image of one tile, and sums over it, without holding more than must be held.

All methods of this room start from M, the hyperspectral image brought to the PAN's grid by the ideal interpolator A.
M is linear in the low-resolution pixels, so most sums over it need no interpolated band at all:
``sum W P M_b = <A^T (W P), m_b>`` and, where every pixel is valid, ``sum M_a M_b = <m_a, A^T A m_b>``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch

from torchspectral.engine.method import Tile
from torchspectral.ops.axis import AxisOperator, apply
from torchspectral.ops.interpolate import ideal_operator

STRIP = 64
"""Fine rows that are interpolated at a time in float64 where a tile has holes."""

GROUP = 8
"""Bands that are worked on at a time: what is held beside the image itself stays small."""


@lru_cache(maxsize=128)
def _core_operator(size: int, ratio: int, border: str, start: int, length: int) -> AxisOperator:
    """Rows of the interpolator that make the core."""
    whole = ideal_operator(size, ratio, border)
    return AxisOperator(whole.matrix[start * ratio : (start + length) * ratio])


@lru_cache(maxsize=128)
def _normal_operator(size: int, ratio: int, border: str, start: int, length: int) -> AxisOperator:
    """A^T A of the core, (size, size)."""
    matrix = _core_operator(size, ratio, border, start, length).matrix
    return AxisOperator(matrix.T @ matrix)


@lru_cache(maxsize=128)
def _adjoint_operator(size: int, ratio: int, border: str, start: int, length: int) -> AxisOperator:
    return _core_operator(size, ratio, border, start, length).adjoint()


def band_groups(image: torch.Tensor) -> Iterator[slice]:
    """Some bands after the other of an image (n, band, y, x)."""
    return (slice(first, first + GROUP) for first in range(0, image.shape[1], GROUP))


class Upsampled:
    """M of a tile's core, and sums over its valid pixels.

    Parameters
    ----------
    tile : Tile
        With the roles ``cube`` and ``pan``; where it has a role ``upsampled`` (an image on the PAN's grid), that is M.
    border : {"symmetric", "wrap"}
        Of the interpolator, see `ops.interpolate.ideal_operator`.
    """

    def __init__(self, tile: Tile, border: str) -> None:
        self.tile = tile
        self.low = tile["cube"]
        self.ratio = tile["pan"].shape[-1] // tile.window.width
        self.given = tile.core("upsampled") if "upsampled" in tile else None
        window, inner = tile.window, tile.inner
        self._rows = (window.height, self.ratio, border, inner.row - window.row, inner.height)
        self._cols = (window.width, self.ratio, border, inner.col - window.col, inner.width)
        self.pan = tile.core("pan")
        low_valid = tile.core(tile.valid)
        self.whole = bool(low_valid.all())
        self.low_valid = low_valid

    @property
    def valid(self) -> torch.Tensor:
        """Valid core pixels on the fine grid, bool (n, 1, y, x)."""
        return self.low_valid.repeat_interleave(self.ratio, -2).repeat_interleave(self.ratio, -1)

    @property
    def count(self) -> int:
        """Number of valid fine pixels."""
        return int(self.low_valid.sum()) * self.ratio**2

    def interpolate(self, low: torch.Tensor) -> torch.Tensor:
        """Core of the interpolation of any image on the lead grid, (n, band, y, x)."""
        return apply(low, _core_operator(*self._rows), _core_operator(*self._cols))

    def image(self) -> torch.Tensor:
        """M, (n, band, y, x), in the dtype of the cube; a tensor of its own, which may be changed in place."""
        if self.given is not None:
            return self.given.clone()
        image = self.low.new_empty(*self.low.shape[:2], *self.pan.shape[-2:])
        for some in band_groups(image):
            image[:, some] = self.interpolate(self.low[:, some])
        return image

    def combine(self, weights: torch.Tensor) -> torch.Tensor:
        """``sum_b weights_b M_b`` as (n, 1, y, x), in the dtype of `weights`; one band is interpolated."""
        source = self.low if self.given is None else self.given
        mixed = torch.einsum("b,nbyx->nyx", weights, source.to(weights.dtype))[:, None]
        return self.interpolate(mixed) if self.given is None else mixed

    def masked(self, fine: torch.Tensor) -> torch.Tensor:
        """Float64 copy of a fine core image with invalid pixels zero."""
        fine = fine.double()
        return fine if self.whole else torch.where(self.valid, fine, 0.0)

    def dot(self, fine: torch.Tensor) -> torch.Tensor:
        """``sum M_b * fine`` over valid pixels, (band,), float64; `fine` is a core image (n, 1, y, x)."""
        weight = self.masked(fine)
        if self.given is not None:
            return torch.einsum("nbyx,nyx->b", self.given.double(), weight[:, 0])
        back = apply(weight, _adjoint_operator(*self._rows), _adjoint_operator(*self._cols))
        return torch.einsum("nbyx,nyx->b", self.low.double(), back[:, 0])

    def total(self) -> torch.Tensor:
        """Sum of each band of M over valid pixels, (band,), float64."""
        return self.dot(torch.ones_like(self.pan))

    def power(self) -> torch.Tensor:
        """Sum of squares of each band of M over valid pixels, (band,), float64."""
        if self.given is None and self.whole:
            low = self.low.double()
            return (low * apply(low, _normal_operator(*self._rows), _normal_operator(*self._cols))).sum((0, 2, 3))
        return sum((strip.square().sum(1) for strip in self._strips()), start=self._zeros())

    def gram(self) -> torch.Tensor:
        """Cross products of the bands of M over valid pixels, (band, band), float64."""
        if self.given is None and self.whole:
            low = self.low.double()
            normal = apply(low, _normal_operator(*self._rows), _normal_operator(*self._cols))
            gram = low.movedim(1, 0).flatten(1) @ normal.movedim(1, 0).flatten(1).T
            return (gram + gram.T) / 2
        return sum((strip @ strip.T for strip in self._strips()), start=self._zeros()[:, None])

    def _zeros(self) -> torch.Tensor:
        return torch.zeros(self.low.shape[1], dtype=torch.float64, device=self.low.device)

    def _strips(self) -> Iterator[torch.Tensor]:
        """Valid pixels of M in float64, (band, pixel), some rows at a time."""
        given = self.given
        if given is None:
            wide = _core_operator(*self._cols).cols(self.low.double())
            matrix = _core_operator(*self._rows).matrix
        keep = self.valid
        for top in range(0, keep.shape[-2], STRIP):
            if given is not None:
                strip = given[..., top : top + STRIP, :].double()
            else:
                strip = AxisOperator(matrix[top : top + STRIP]).rows(wide)
            mask = keep[:, 0, top : top + STRIP].reshape(-1)
            yield strip.movedim(1, 0).flatten(1)[:, mask]
