"""Statistics of the training patches: mean, deviation and range of the values, streamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from torchspectral.learn.patches import PatchStore
from torchspectral.learn.splits import TRAIN

QUANTILE_VALUES = 1_000_000
LEAST_DEVIATION = 1e-6
"""Of a band that varies, as a share of its mean."""

Sample = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Statistics:
    """Of each band over valid pixels, in the data's unit.

    Attributes
    ----------
    mean, std : ndarray (bands,)
    values : tuple of float
        The quantiles of 0.1 and 99.9 percent of all bands together.
    pixels : int
        Number that was looked at.
    """

    mean: np.ndarray
    std: np.ndarray
    values: tuple[float, float]
    pixels: int

    @property
    def flat(self) -> np.ndarray:
        """Bands that do not vary, int (n,)."""
        least = LEAST_DEVIATION * np.maximum(np.abs(self.mean), 1e-12)
        return np.flatnonzero(~(self.std > least))


def band_statistics(
    store: PatchStore, role: str, bands: int, most: int, wanted: Callable[[Sample], bool] | None = None
) -> Statistics:
    """Statistics of the first bands of a role, over valid pixels of evenly thinned training patches, in float64.

    Parameters
    ----------
    store : PatchStore
    role : str
    bands : int
    most : int
        Patches that are read at most, before `wanted` passes over some.
    wanted : callable, optional
        Whether a sample counts.
    """
    count = store.count(TRAIN)
    index = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    each = max(QUANTILE_VALUES // len(index), 1)
    number, total, squares = 0, np.zeros(bands), np.zeros(bands)
    drawn: list[np.ndarray] = [np.zeros(0, np.float32)]
    for place in index:
        sample = store.sample(TRAIN, int(place))
        if wanted is not None and not wanted(sample):
            continue
        image = sample[role][:bands]
        seen = sample["valid"][0] > 0.5 if "valid" in sample else np.isfinite(image).all(0)
        pixels = image[:, seen].astype(np.float64)
        number += pixels.shape[1]
        total += pixels.sum(1)
        squares += np.square(pixels).sum(1)
        drawn.append(pixels.ravel()[:: max(pixels.size // each, 1)].astype(np.float32))
    mean = total / max(number, 1)
    std = np.sqrt(np.maximum(squares / max(number, 1) - mean**2, 0))
    values = np.concatenate(drawn)
    low, high = np.quantile(values, (0.001, 0.999)) if values.size else (0.0, 0.0)
    return Statistics(mean, std, (float(low), float(high)), number)
