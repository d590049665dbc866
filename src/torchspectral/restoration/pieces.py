"""Parts of a tile that go through a network on volumes one after the other: where they lie in the scene."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchspectral.engine.method import Window
from torchspectral.restoration.volumes import Ground, pad_to


@dataclass(frozen=True)
class Piece:
    """A part of a tile: what goes through the network, and what is kept of it; windows of the scene."""

    tile: Window
    window: Window
    inner: Window

    def cut(self, x: torch.Tensor) -> torch.Tensor:
        """The part of the tile's tensor."""
        top, left = self.window.row - self.tile.row, self.window.col - self.tile.col
        return x[..., top : top + self.window.height, left : left + self.window.width]

    def padded(self, x: torch.Tensor, multiple: int) -> torch.Tensor:
        """The volume (n, 1, band, y, x), extended at the scene's edge to what the network divides."""
        return pad_to(x, multiple)[:, None]

    def core(self, x: torch.Tensor) -> torch.Tensor:
        """What is kept of the network's output."""
        top, left = self.inner.row - self.window.row, self.inner.col - self.window.col
        return x[..., top : top + self.inner.height, left : left + self.inner.width]

    def ground(self, multiple: int, shape: tuple[int, int], means: list[torch.Tensor] | None) -> Ground:
        """Where the part lies; the padding at the scene's edge belongs to the part that ends there."""
        height, width = (-(-n // multiple) * multiple for n in shape)
        w, i = self.window, self.inner
        rows = slice(i.row - w.row, (height if i.row + i.height == shape[0] else i.row + i.height) - w.row)
        cols = slice(i.col - w.col, (width if i.col + i.width == shape[1] else i.col + i.width) - w.col)
        size = (-(-w.height // multiple) * multiple, -(-w.width // multiple) * multiple)
        return Ground(w.row, w.col, height, width, (rows, cols), size, means)


def around(core: Window, halo: int, limit: Window, multiple: int) -> Window:
    """A window wider by the halo, rounded up to the multiple, within a limit."""
    margin = -(-halo // multiple) * multiple
    top, left = max(core.row - margin, limit.row), max(core.col - margin, limit.col)
    bottom = min(core.row + core.height + margin, limit.row + limit.height)
    right = min(core.col + core.width + margin, limit.col + limit.width)
    return Window(top, left, bottom - top, right - left)
