"""Degraded scenes as lazy arrays: any window is computed from the rows that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import sparse

from torchspectral.geo.lazy import LazyArray, read_window, split_rows
from torchspectral.ops.resize import bicubic_operator
from torchspectral.synth.blur import AlongAxes
from torchspectral.synth.draws import Draw, RowDraw
from torchspectral.synth.steps import Facts, Place, Planned, Shape, Step

GROUP_BYTES = 64 << 20
"""Float64 input of one group of bands [bytes]; a step takes a few times as much."""


@dataclass(frozen=True)
class Imresize(Step):
    """MATLAB's ``imresize``: bicubic with antialiasing; `zoom` is the output's pixels over the input's."""

    zoom: float

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """The two operators."""
        facts.chosen["zoom"] = self.zoom
        axes = []
        for size in shape[1:]:
            outputs = max(1, int(np.ceil(size * self.zoom - 1e-9)))
            axes.append(sparse.csr_matrix(bicubic_operator(size, outputs, self.zoom).matrix))
        return AlongAxes(axes[0], axes[1])


class DegradedCube(LazyArray):
    """(band, y, x), float32: a scene brought to 0..1, degraded, and brought back.

    Parameters
    ----------
    source : Variable, dims (band, y, x)
    planned : sequence of Planned
    gain, offset : float
        Working value = (value - offset) / gain.
    nodata : float or int or None
        Of an integer source.
    seed : int
    flags : bool
        Give the mask (uint8) instead of the values.
    working : bool
        Leave the values in the working scale.
    """

    def __init__(
        self,
        source: xr.Variable,
        planned: Sequence[Planned],
        *,
        gain: float,
        offset: float,
        nodata: float | int | None,
        seed: int,
        flags: bool = False,
        working: bool = False,
    ) -> None:
        self.source, self.planned = source, tuple(planned)
        self.shapes = [tuple(source.shape)]
        for step in self.planned:
            self.shapes.append(step.shape(self.shapes[-1]))  # type: ignore[arg-type]
        self.gain, self.offset, self.nodata = gain, offset, nodata
        self.seed, self.flags, self.working = seed, flags, working
        super().__init__(self.shapes[-1], np.uint8 if flags else np.float32)

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """Whole rows of some bands at a time."""
        bands, rows, cols = indices
        first, last = int(rows.min()), int(rows.max()) + 1
        spans = self._spans(first, last)
        step = max(1, GROUP_BYTES // (8 * self.shapes[0][2] * max(b - a for a, b in spans)))
        out = np.empty((bands.size, rows.size, cols.size), dtype=self.dtype)
        for start in range(0, bands.size, step):
            block = self._block(bands[start : start + step], spans)
            out[start : start + step] = block[:, (rows - first)[:, None], cols[None, :]]
        return out

    def _spans(self, first: int, last: int) -> list[tuple[int, int]]:
        """Rows of each stage, from the source's to the result's."""
        spans = [(first, last)]
        for step, shape in zip(reversed(self.planned), reversed(self.shapes[:-1]), strict=True):
            spans.insert(0, step.rows(*spans[0], shape))  # type: ignore[arg-type]
        return spans

    def _block(self, bands: np.ndarray, spans: list[tuple[int, int]]) -> np.ndarray:
        top, bottom = spans[0]
        values = read_window(self.source, bands, slice(top, bottom), slice(0, self.shapes[0][2]))
        block = values.astype(np.float64)
        if values.dtype.kind != "f" and self.nodata is not None:
            block[values == self.nodata] = np.nan
        block = (block - self.offset) / self.gain
        empty = np.isnan(block)
        mask = np.zeros(block.shape, dtype=np.uint8)
        for number, step in enumerate(self.planned):
            (low, high), keep = spans[number], spans[number + 1]
            draw = RowDraw(self.seed, number, bands, np.arange(low, high))
            place = Place(bands, low, self.shapes[number])  # type: ignore[arg-type]
            block = step.apply(block, place, draw, mask if mask.shape == block.shape else None, keep)
            if self.shapes[number + 1] == self.shapes[number]:
                cut = slice(keep[0] - low, keep[1] - low)
                empty, mask = empty[:, cut], mask[:, cut]
            else:
                empty, mask = np.isnan(block), np.zeros(block.shape, dtype=np.uint8)
        if self.flags:
            return np.where(empty, 0, mask)
        block = np.where(empty, np.nan, block)
        return block if self.working else block * self.gain + self.offset


def brightest(array: LazyArray, share: float) -> np.ndarray:
    """Mean of the brightest pixels of each band of a lazy array, streamed, shape (band,)."""
    bands, rows, cols = array.shape
    count = max(int(rows * cols * share), 1)
    top = np.full((bands, 0), -np.inf)
    for part in split_rows(rows, 8 * cols * bands, GROUP_BYTES):
        block = array.compute(np.arange(bands), np.arange(part.start, part.stop), np.arange(cols))
        flat = np.concatenate([top, np.where(np.isnan(block), -np.inf, block).reshape(bands, -1)], axis=1)
        top = np.partition(flat, -count, axis=1)[:, -count:] if flat.shape[1] > count else flat
    good = np.isfinite(top)
    return np.where(good, top, 0).sum(1) / np.maximum(good.sum(1), 1)


def value_range(array: LazyArray, bands: np.ndarray) -> tuple[float, float]:
    """Smallest and largest valid value of some bands of a lazy array, streamed; NaN where there is none."""
    low, high = np.inf, -np.inf
    _, rows, cols = array.shape
    for part in split_rows(rows, 8 * cols * len(bands), GROUP_BYTES):
        block = array.compute(bands, np.arange(part.start, part.stop), np.arange(cols))
        good = block[np.isfinite(block)]
        if good.size:
            low, high = min(low, float(good.min())), max(high, float(good.max()))
    return (low, high) if low <= high else (float("nan"), float("nan"))
