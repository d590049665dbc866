"""Looking for extreme pixels, in memory or in a streamed scene, by the same code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch

from torchspectral.engine.method import Source, Tile
from torchspectral.ops.gram import CHUNK
from torchspectral.ops.vca import Extreme

TIE = 1e-10
"""Scores that differ by less, relatively, are equal: the earlier pixel is taken, however the scene was cut."""

Score = Callable[[torch.Tensor], torch.Tensor]
"""Pixels (bands, n) to numbers (n,), not negative; picklable."""


class Pixels(Protocol):
    """Where extreme pixels are looked for."""

    def farthest(self, score: Score) -> Extreme | None:
        """The pixel of the largest score, its spectrum with it; of equals the first. None where there are none."""
        ...


class HeldPixels:
    """Pixels in memory.

    Parameters
    ----------
    pixels : Tensor, shape (bands, n)
    index : Tensor of int64, shape (n,), optional
        Scene index of each; 0, 1, ... by default.
    """

    def __init__(self, pixels: torch.Tensor, index: torch.Tensor | None = None) -> None:
        self.pixels = pixels
        self.index = torch.arange(pixels.shape[1], device=pixels.device) if index is None else index

    def farthest(self, score: Score) -> Extreme | None:
        """See `Pixels`."""
        return _best(self.pixels, self.index, score)


class StreamedPixels:
    """Pixels of a scene; each question costs one pass."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def farthest(self, score: Score) -> Extreme | None:
        """See `Pixels`."""
        found: Extreme | None = self.source.reduce(partial(_best_of_tile, score=score), farther)
        return found


def _best(pixels: torch.Tensor, index: torch.Tensor, score: Score) -> Extreme | None:
    best: Extreme | None = None
    for start in range(0, pixels.shape[1], CHUNK):
        part = pixels[:, start : start + CHUNK].to(torch.float64)
        scores = score(part)
        top = float(scores.max())
        near = (scores >= top - TIE * abs(top)).nonzero()[:, 0]
        here = index[start : start + CHUNK]
        at = int(near[here[near].argmin()])
        found = Extreme(float(scores[at]), int(here[at]), part.new_zeros(0), part[:, at].cpu())
        best = farther(best, found)
    return best


def _best_of_tile(tile: Tile, score: Score) -> Extreme | None:
    return _best(tile.core_pixels("cube"), core_index(tile), score)


def farther(one: Extreme | None, other: Extreme | None) -> Extreme | None:
    """The farther of two, where there are any."""
    if one is None or other is None:
        return other if one is None else one
    return one.farther(other)


def core_index(tile: Tile) -> torch.Tensor:
    """Row-major scene index of each valid core pixel."""
    keep = tile.core(tile.valid)[0, 0]
    inner, cols = tile.inner, tile.info.shape[1]
    rows = torch.arange(inner.row, inner.row + inner.height, device=keep.device)
    columns = torch.arange(inner.col, inner.col + inner.width, device=keep.device)
    return (rows[:, None] * cols + columns[None, :])[keep]


def spectra_at(source: Source, wanted: list[int]) -> torch.Tensor:
    """Spectra (pixel, bands), float64, of pixels by their scene index; one pass."""
    found = source.reduce(partial(_pick, wanted=tuple(sorted(set(wanted)))), _united)
    return torch.stack([found[w] for w in wanted])


def _pick(tile: Tile, wanted: tuple[int, ...]) -> dict[int, torch.Tensor]:
    index, pixels = core_index(tile).cpu(), tile.core_pixels("cube")
    return {w: pixels[:, int(at)].to("cpu", torch.float64) for w in wanted for at in (index == w).nonzero()[:, 0]}


def _united(one: dict[int, torch.Tensor], other: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    return {**one, **other}


def collect(source: Source, project: Callable[[torch.Tensor], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of every valid pixel, (d, n), and its scene index (n,); one pass, held in memory."""
    parts: list[Any] = source.reduce(partial(_numbers, project=project), _joined)
    return torch.cat([p for p, _ in parts], dim=1), torch.cat([i for _, i in parts])


def _numbers(tile: Tile, project: Callable[[torch.Tensor], torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(project(tile.core_pixels("cube")).cpu(), core_index(tile).cpu())]


def _joined(one: list[Any], other: list[Any]) -> list[Any]:
    return [*one, *other]


def as_is(pixels: torch.Tensor) -> torch.Tensor:
    """The pixels themselves."""
    return pixels
