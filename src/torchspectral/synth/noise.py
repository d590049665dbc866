"""Noise of the restoration benchmarks: Gaussian, per-band Gaussian, stripes, dead lines, impulses, Poisson.

Standard deviations are in 8-bit units, 50 is 50 / 255 of the working scale. Nothing is clipped.

References
----------
Wei, Fu, Huang, "3-D quasi-recurrent neural network for hyperspectral image denoising", IEEE TNNLS 32 (2021), sec. IV.
Lai, Chen, Fu, "Hybrid spectral denoising transformer with guided attention", ICCV 2023. Wu et al., MP-HSIR, 2025.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np

from torchspectral.errors import BadInput
from torchspectral.synth.draws import Draw
from torchspectral.synth.steps import IMPULSE, REMOVED, STRIPE, Facts, Place, Planned, Shape, Step

SIGMAS = (10.0, 30.0, 50.0, 70.0)
RATIOS = (0.1, 0.3, 0.5, 0.7)
COLUMNS = (0.05, 0.15)
"""Share of the columns that stripes and dead lines take."""


@dataclass(frozen=True)
class Gaussian(Step):
    """White noise of one standard deviation, given, or uniform between two limits."""

    low: float
    high: float

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose the standard deviation."""
        sigma = self.low
        if self.high > self.low:
            sigma = self.low + (self.high - self.low) * float(draw.host_uniform(1)[0])
        facts.chosen["sigma"] = sigma
        facts.bands["sigma"] = np.full(shape[0], sigma / 255)
        return _AddNormal(facts.bands["sigma"])


@dataclass(frozen=True)
class BandGaussian(Step):
    """White noise whose standard deviation is one of some levels in each band."""

    levels: tuple[float, ...] = SIGMAS

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose a level for each band."""
        levels = np.array(self.levels) / 255
        facts.bands["sigma"] = levels[draw.integers(0, len(levels), shape[0])]
        return _AddNormal(facts.bands["sigma"])


@dataclass
class _AddNormal(Planned):
    sigma: np.ndarray

    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        sigma = draw.array(self.sigma[place.bands], block)
        return block + draw.normal(tuple(block.shape)) * sigma[:, None, None]


class Share(Step):
    """Put the bands into a random order; the steps that follow take theirs from its front."""

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Draw the order."""
        facts.order = draw.permutation(shape[0])
        return _Nothing()


class _Nothing(Planned):
    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        return block


def take(facts: Facts, bands: int, share: float, draw: Draw) -> np.ndarray:
    """The next ``floor(share * bands)`` bands of the order."""
    order = facts.order if facts.order is not None else draw.permutation(bands)
    count = floor(share * bands)
    facts.order = order[count:]
    return np.asarray(order[:count])


def column_limits(cols: int, rule: str, kind: str) -> tuple[int, int]:
    """Least and largest + 1 number of columns.

    Parameters
    ----------
    cols : int
    rule : {"python", "matlab"}
        The training code excludes the upper end and rounds stripes down; the MATLAB test sets round up and include it.
    kind : {"stripe", "deadline"}

    Raises
    ------
    BadInput
        The image is too narrow for the range to hold a number.
    """
    if rule == "matlab":
        low, high = ceil(COLUMNS[0] * cols), ceil(COLUMNS[1] * cols) + 1
    else:
        whole = floor if kind == "stripe" else ceil
        low, high = int(whole(COLUMNS[0] * cols)), int(whole(COLUMNS[1] * cols))
    if high <= low:
        raise BadInput(
            f"an image of {cols} columns is too narrow: the published rule asks for {low} to {high - 1} columns of "
            f"{kind}s; take one of at least 20 columns, or the rule of the MATLAB test sets (NAME:matlab)"
        )
    return low, high


def _counts(draw: Draw, cols: int, rule: str, kind: str, bands: int) -> np.ndarray:
    return draw.integers(*column_limits(cols, rule, kind), bands) if bands else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Stripes(Step):
    """Subtract a number within +-0.25 from some columns of a share of the bands."""

    share: float = 1 / 3
    rule: str = "python"
    amplitude: float = 0.25

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose bands, columns and values."""
        bands, _, cols = shape
        chosen = take(facts, bands, self.share, draw)
        offset = np.zeros((bands, cols))
        hit = np.zeros((bands, cols), dtype=bool)
        counts = _counts(draw, cols, self.rule, "stripe", len(chosen))
        for band, count in zip(chosen, counts, strict=True):
            places = draw.permutation(cols)[:count]
            offset[band, places] = draw.host_uniform(len(places)) * (2 * self.amplitude) - self.amplitude
            hit[band, places] = True
        facts.bands["stripes"] = hit.sum(1)
        return _Stripes(offset, hit)


@dataclass
class _Stripes(Planned):
    offset: np.ndarray
    hit: np.ndarray
    flags = True

    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        if mask is not None:
            mask |= (STRIPE * self.hit[place.bands]).astype(np.uint8)[:, None, :]
        return block - draw.array(self.offset[place.bands], block)[:, None, :]


@dataclass(frozen=True)
class DeadLines(Step):
    """Set some columns of a share of the bands to zero."""

    share: float = 1 / 3
    rule: str = "python"

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose bands and columns."""
        bands, _, cols = shape
        chosen = take(facts, bands, self.share, draw)
        hit = np.zeros((bands, cols), dtype=bool)
        counts = _counts(draw, cols, self.rule, "deadline", len(chosen))
        for band, count in zip(chosen, counts, strict=True):
            hit[band, draw.permutation(cols)[:count]] = True
        facts.bands["dead_lines"] = hit.sum(1)
        return _DeadLines(hit)


@dataclass
class _DeadLines(Planned):
    hit: np.ndarray
    flags = True

    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        hit = self.hit[place.bands]
        if mask is not None:
            mask |= (REMOVED * hit).astype(np.uint8)[:, None, :]
        return draw.where(draw.array(hit, block)[:, None, :], 0.0, block)


@dataclass(frozen=True)
class Impulses(Step):
    """Replace a share of the values of a share of the bands by one or zero, half each.

    With ``each=False`` one ratio holds for the cube, as MP-HSIR has it; else each band draws its own.
    """

    share: float = 1 / 3
    ratios: tuple[float, ...] = RATIOS
    each: bool = True

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose bands and ratios."""
        chosen = take(facts, shape[0], self.share, draw)
        ratios = np.array(self.ratios)
        amount = np.zeros(shape[0])
        if self.each:
            amount[chosen] = ratios[draw.integers(0, len(ratios), len(chosen))]
        else:
            amount[chosen] = ratios[draw.integers(0, len(ratios), 1)]
        facts.bands["impulses"] = amount
        return _Impulses(chosen, amount)


@dataclass
class _Impulses(Planned):
    chosen: np.ndarray
    amount: np.ndarray
    flags = True

    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        out = block.copy() if isinstance(block, np.ndarray) else block.clone()
        size = tuple(block.shape)
        for band, at in place.positions(self.chosen):
            hit = draw.chance(float(self.amount[band]), size, [at], part=0)[0]
            salt = draw.chance(0.5, size, [at], part=1)[0]
            out[at] = draw.where(hit & salt, 1.0, draw.where(hit & ~salt, 0.0, out[at]))
            if mask is not None:
                mask[at] |= (IMPULSE * np.asarray(hit)).astype(np.uint8)
        return out


@dataclass(frozen=True)
class Poisson(Step):
    """Photon noise: Poisson counts of ``peak`` photons at the working value 1; values are clipped to 0..1 first."""

    peak: float = 10.0

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Nothing to choose."""
        facts.chosen["peak"] = self.peak
        return _Poisson(self.peak)


@dataclass
class _Poisson(Planned):
    peak: float

    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        empty = block != block  # NaN
        light = draw.where(empty, 0.0, block).clip(0, 1) * self.peak
        return draw.where(empty, float("nan"), draw.poisson(light) / self.peak)


@dataclass(frozen=True)
class OneOf(Step):
    """One of some steps (or none: None), drawn for each cube."""

    steps: tuple[Step | None, ...]
    names: tuple[str, ...]

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose the step and plan it."""
        number = int(draw.integers(0, len(self.steps), 1)[0])
        facts.chosen["kind"] = self.names[number]
        step = self.steps[number]
        return step.plan(shape, draw, facts) if step is not None else _Nothing()
