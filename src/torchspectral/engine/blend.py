"""Blending of overlapping tiles: linear ramps over the overlap, weights normalised at each pixel, in tile order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from torchspectral.engine.method import Window
from torchspectral.engine.plan import Cut, cells
from torchspectral.engine.scratch import FileScratch, MemoryScratch


def ramp(length: int, overlap: int, starts: bool, ends: bool) -> np.ndarray:
    """Weights along one side of a tile, shape (length,).

    Parameters
    ----------
    overlap : int
        Pixels shared with a neighbour.
    starts, ends : bool
        Whether the tile begins or ends at the scene's edge, where no neighbour is.
    """
    weights = np.ones(length, dtype=np.float64)
    climb = (np.arange(overlap) + 1.0) / (overlap + 1.0)
    n = min(overlap, length)
    if not starts:
        weights[:n] = np.minimum(weights[:n], climb[:n])
    if not ends:
        weights[length - n :] = np.minimum(weights[length - n :], climb[:n][::-1])
    return weights


def tile_weights(cut: Cut, overlap: int, zoom: int, shape: tuple[int, int], step: int = 1) -> np.ndarray:
    """Weights of a tile's pixels, (y, x), on the output's grid."""
    w = cut.window
    shared = cells(overlap, zoom, step)
    down = ramp(cells(w.height, zoom, step), shared, w.row == 0, w.row + w.height == shape[0])
    across = ramp(cells(w.width, zoom, step), shared, w.col == 0, w.col + w.width == shape[1])
    return down[:, None] * across[None, :]


@dataclass
class BlendStage:
    """Blend the slots of overlapping tiles into an output, block by block.

    Attributes
    ----------
    cuts : tuple of Cut
        The overlapping tiles; slot `index` starts at row ``index * tile_rows * zoom / step`` of `slots`.
    shape : tuple of int
        Rows and columns of the lead.
    """

    cuts: tuple[Cut, ...]
    slots: MemoryScratch | FileScratch
    target: MemoryScratch | FileScratch
    tile_rows: int
    overlap: int
    zoom: int
    shape: tuple[int, int]
    step: int = 1
    _rows: dict[int, list[Cut]] = field(default_factory=dict, repr=False)

    def read(self, item: tuple[int, Window]) -> tuple[int, Window, list[tuple[Window, np.ndarray, np.ndarray]]]:
        """Parts of all tiles that touch the block (lead pixels), their weights and values."""
        index, block = item
        parts = []
        for cut in self._near(block):
            w = cut.window
            top, bottom = max(w.row, block.row), min(w.row + w.height, block.row + block.height)
            left, right = max(w.col, block.col), min(w.col + w.width, block.col + block.width)
            rows = slice(self._cells(top - w.row), self._cells(bottom - w.row))
            cols = slice(self._cells(left - w.col), self._cells(right - w.col))
            base = cut.index * self._cells(self.tile_rows)
            values = self.slots.read(slice(base + rows.start, base + rows.stop), cols)
            weights = tile_weights(cut, self.overlap, self.zoom, self.shape, self.step)[rows, cols]
            parts.append((Window(top, left, bottom - top, right - left), weights, values))
        return index, block, parts

    def _cells(self, pixels: int) -> int:
        return cells(pixels, self.zoom, self.step)

    def _near(self, block: Window) -> list[Cut]:
        """Tiles that touch a block, in order."""
        if not self._rows:
            for cut in self.cuts:
                self._rows.setdefault(cut.window.row, []).append(cut)
        found = []
        for row, cuts in self._rows.items():
            if row < block.row + block.height and row + cuts[0].window.height > block.row:
                for cut in cuts:
                    w = cut.window
                    if w.col < block.col + block.width and w.col + w.width > block.col:
                        found.append(cut)
        return found

    def compute(
        self, loaded: tuple[int, Window, list[tuple[Window, np.ndarray, np.ndarray]]]
    ) -> tuple[int, Window, np.ndarray]:
        """Weighted mean of floats; of class numbers the one with the largest weight."""
        index, block, parts = loaded
        bands = self.target.shape[0]
        size = (self._cells(block.height), self._cells(block.width))
        kind = np.dtype(self.target.dtype)
        total = np.zeros(size, dtype=np.float64)
        out = np.zeros((bands, *size), dtype=np.float64 if kind.kind == "f" else kind)
        for part, weights, values in parts:
            top, left = part.row - block.row, part.col - block.col
            rows = slice(self._cells(top), self._cells(top + part.height))
            cols = slice(self._cells(left), self._cells(left + part.width))
            if kind.kind == "f":
                out[:, rows, cols] += weights * values
                total[rows, cols] += weights
            else:
                better = weights > total[rows, cols]
                out[:, rows, cols] = np.where(better, values, out[:, rows, cols])
                total[rows, cols] = np.where(better, weights, total[rows, cols])
        if kind.kind == "f":
            out /= total
        return index, block, out.astype(kind)

    def write(self, done: tuple[int, Window, np.ndarray]) -> int:
        """Store the block."""
        index, block, values = done
        self.target.write(self._cells(block.row), self._cells(block.col), values)
        return index


def blend_blocks(cuts: tuple[Cut, ...]) -> list[tuple[int, Window]]:
    """Numbered blocks of the output: the tiles without what the next ones overlap."""
    rows = sorted({c.window.row for c in cuts})
    cols = sorted({c.window.col for c in cuts})
    bottom = max(c.window.row + c.window.height for c in cuts)
    right = max(c.window.col + c.window.width for c in cuts)
    found: list[tuple[int, Window]] = []
    for row, row_end in zip(rows, [*rows[1:], bottom], strict=True):
        for col, col_end in zip(cols, [*cols[1:], right], strict=True):
            found.append((len(found), Window(row, col, row_end - row, col_end - col)))
    return found
