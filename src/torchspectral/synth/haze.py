"""Haze of thin cirrus: a map of it, and what it does to each band.

References
----------
Wu et al., "MP-HSIR: a multi-prompt framework for universal hyperspectral image restoration", arXiv 2503.09131 (2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from torchspectral.errors import MissingMetadata
from torchspectral.synth.draws import Draw
from torchspectral.synth.gaps import one_of
from torchspectral.synth.steps import Facts, Place, Planned, Shape, Step

LIGHT_SHARE = 0.01 / 100
"""Share of a band's pixels, the brightest, whose mean is the light of the haze."""


def cirrus_map(rows: int, cols: int, rng: np.random.Generator, octaves: int = 5) -> np.ndarray:
    """Smooth fractal noise in 0..1, shape (rows, cols): a stand-in for a measured cirrus band."""
    total = np.zeros((rows, cols))
    for octave in range(octaves):
        size = [min(n, 2 + 2 ** (octave + 1)) for n in (rows, cols)]
        total += 0.5**octave * resized(rng.random(size), rows, cols, order=3)
    total -= total.min()
    return total / max(float(total.max()), 1e-12)


def resized(image: np.ndarray, rows: int, cols: int, *, order: int = 1, first: int = 0, last: int = -1) -> np.ndarray:
    """Rows first..last-1 of an image brought to (rows, cols), pixel centres over pixel centres, edges repeated."""
    last = rows if last < 0 else last
    if image.shape == (rows, cols):
        return image[first:last]
    down = (np.arange(first, last) + 0.5) * image.shape[0] / rows - 0.5
    across = (np.arange(cols) + 0.5) * image.shape[1] / cols - 0.5
    places = np.broadcast_arrays(down[:, None], across[None, :])
    return np.asarray(ndimage.map_coordinates(image, np.stack(places), order=order, mode="nearest"))


def brightest_mean(bands: np.ndarray, share: float = LIGHT_SHARE) -> np.ndarray:
    """Mean of the brightest ``max(int(share * pixels), 1)`` valid pixels of each band, shape (bands,)."""
    flat = bands.reshape(bands.shape[0], -1)
    count = max(int(flat.shape[1] * share), 1)
    low = np.where(np.isnan(flat), -np.inf, flat)
    top = np.partition(low, flat.shape[1] - count, axis=1)[:, -count:]
    good = np.isfinite(top)
    return np.where(good, top, 0).sum(1) / np.maximum(good.sum(1), 1)


@dataclass(frozen=True)
class Haze(Step):
    """Haze of one of some strengths (omega): ``y = x t + A (1 - t)``, with t of each band from its wavelength.

    ``t_b = exp((wavelength_0 / wavelength_b)^gamma ln(1 - omega h))``; h is the cirrus map, A the band's brightest
    pixels. Without a map one is generated.
    """

    strengths: tuple[float, ...] = (0.5, 0.75, 1.0)
    gamma: float = 1.0

    def plan(self, shape: Shape, draw: Draw, facts: Facts) -> Planned:
        """Choose strength and map.

        Raises
        ------
        MissingMetadata
            The bands' wavelengths are not known.
        """
        if facts.wavelength is None or not np.isfinite(facts.wavelength).all():
            raise MissingMetadata("haze depends on the wavelength, and not all bands have one: set the coordinate [nm]")
        wave = np.asarray(facts.wavelength, dtype=np.float64)
        facts.chosen["omega"] = omega = one_of(self.strengths, draw)
        cirrus = facts.cirrus
        if cirrus is None:
            rng = np.random.default_rng(draw.integers(0, 2**31 - 1, 2))
            cirrus = cirrus_map(min(shape[1], 256), min(shape[2], 256), rng)
        light = facts.light(LIGHT_SHARE)
        facts.bands["light"] = light
        return _Haze(np.asarray(cirrus, dtype=np.float64), omega, (wave.min() / wave) ** self.gamma, light)


@dataclass
class _Haze(Planned):
    cirrus: np.ndarray
    omega: float
    power: np.ndarray
    light: np.ndarray

    def apply(self, block: Any, place: Place, draw: Draw, mask: np.ndarray | None, keep: tuple[int, int]) -> Any:
        h = resized(self.cirrus, *place.shape[1:], first=place.row, last=place.row + block.shape[1])
        clear = np.log(np.maximum(1 - self.omega * h, 1e-10))
        t = np.exp(self.power[place.bands][:, None, None] * clear[None])
        t, light = draw.array(t, block), draw.array(self.light[place.bands], block)[:, None, None]
        return block * t + light * (1 - t)
