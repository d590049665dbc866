"""What a tile of guided fusion shows: its ratio, where its guides are seen, and which are seen together."""

from __future__ import annotations

import torch

from torchspectral.engine.method import Tile


def ratio_of(tile: Tile) -> int:
    """How many times finer the guides are."""
    return int(tile["guides"].shape[-1] // tile.window.width)


def window_shape(tile: Tile) -> tuple[int, int]:
    """Coarse rows and columns of the window."""
    return tile.window.height, tile.window.width


def seen_of(tile: Tile, core: bool = False) -> torch.Tensor:
    """Where each guide is seen, bool, in the shape of the guides."""
    guides = tile.core("guides") if core else tile["guides"]
    if "guide_valid" not in tile:
        return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=guides.device).expand(guides.shape)
    mask = tile.core("guide_valid") if core else tile["guide_valid"]
    return (mask > 0.5).expand(guides.shape)


def core_spans(tile: Tile) -> list[slice]:
    """Rows and columns of the core among the window's fine pixels."""
    ratio = ratio_of(tile)
    starts = (tile.inner.row - tile.window.row) * ratio, (tile.inner.col - tile.window.col) * ratio
    return [slice(a, a + n * ratio) for a, n in zip(starts, (tile.inner.height, tile.inner.width), strict=True)]


def patterns(valid: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Sets of guides that are seen together, (K,), and at which pixels."""
    codes, which = torch.unique(valid, dim=1, return_inverse=True)
    return [(codes[:, i], (which == i).nonzero()[:, 0]) for i in range(codes.shape[1])]
