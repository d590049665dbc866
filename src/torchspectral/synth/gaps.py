"""Missing values: single elements, and whole bands.

References
----------
Wu et al., "MP-HSIR: a multi-prompt framework for universal hyperspectral image restoration", arXiv 2503.09131 (2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from torchspectral.synth.draws import Draw
from torchspectral.synth.steps import REMOVED, Facts, Place, Planned, Shape, Step


def one_of(levels: tuple[float, ...], draw: Draw) -> float:
    """One of some levels; the only one without a draw."""
    return float(levels[0] if len(levels) == 1 else levels[int(draw.integers(0, len(levels), 1)[0])])


@dataclass(frozen=True)
class MissingElements(Step):
    """Each element (band, row, column) is set to zero with probability `ratios` (one of them is drawn)."""

    ratios: tuple[float, ...] = (0.7, 0.8, 0.9)

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose the ratio."""
        facts.chosen["missing"] = one_of(self.ratios, draw)
        return _MissingElements(facts.chosen["missing"])


@dataclass
class _MissingElements(Planned):
    ratio: float
    flags = True

    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        lost = draw.chance(self.ratio, tuple(block.shape), range(block.shape[0]))
        if mask is not None:
            mask |= (REMOVED * np.asarray(lost)).astype(np.uint8)
        return draw.where(lost, 0.0, block)


@dataclass(frozen=True)
class MissingBands(Step):
    """``int(ratio * bands)`` bands are set to zero."""

    ratios: tuple[float, ...] = (0.1, 0.2, 0.3)

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose the bands."""
        ratio = one_of(self.ratios, draw)
        lost = np.zeros(shape[0], dtype=bool)
        lost[draw.permutation(shape[0])[: int(ratio * shape[0])]] = True
        facts.chosen["missing"], facts.bands["lost"] = ratio, lost
        return _MissingBands(lost)


@dataclass
class _MissingBands(Planned):
    lost: np.ndarray
    flags = True

    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        lost = self.lost[place.bands]
        if mask is not None:
            mask |= (REMOVED * lost).astype(np.uint8)[:, None, None]
        return draw.where(draw.array(lost, block)[:, None, None], 0.0, block)
