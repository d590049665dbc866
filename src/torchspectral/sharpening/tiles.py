"""Cutting the part of a tile that a method must see."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torchspectral.engine.method import Tile, Window

if TYPE_CHECKING:
    import torch


def widened(tile: Tile, margin: int) -> Tile:
    """The same tile with a core that is larger by `margin` coarse pixels where the window allows."""
    window, inner = tile.window, tile.inner
    top, left = max(inner.row - margin, window.row), max(inner.col - margin, window.col)
    bottom = min(inner.row + inner.height + margin, window.row + window.height)
    right = min(inner.col + inner.width + margin, window.col + window.width)
    return replace(tile, inner=Window(top, left, bottom - top, right - left))


def inner_slices(tile: Tile, wide: Tile, ratio: int) -> tuple[slice, slice]:
    """Where the core of `tile` lies in a fine image of the core of `wide`."""
    top, left = (tile.inner.row - wide.inner.row) * ratio, (tile.inner.col - wide.inner.col) * ratio
    return slice(top, top + tile.inner.height * ratio), slice(left, left + tile.inner.width * ratio)


def narrowed(image: torch.Tensor, wide: Tile, tile: Tile) -> torch.Tensor:
    """The core of `tile` on the PAN's grid, cut out of an image of the core of `wide`."""
    rows, cols = inner_slices(tile, wide, image.shape[-1] // wide.inner.width)
    return image[..., rows, cols]
