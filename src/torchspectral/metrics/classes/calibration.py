"""Whether probabilities mean what they say."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from torchspectral.errors import BadInput, BadSettings


class Calibration:
    """Expected calibration error of the largest probability.

    Parameters
    ----------
    bins : int
        Of equal width over 0..1.

    References
    ----------
    Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI (2015).
    """

    def __init__(self, bins: int = 15) -> None:
        if bins < 1:
            raise BadSettings(f"got {bins} bins, expected at least 1")
        self.count, self.confidence, self.hits = (np.zeros(bins) for _ in range(3))

    def update(self, probability: Any, right: Any) -> Self:
        """Add the largest probability of each point, 0..1, and whether its class was right."""
        p, hit = np.asarray(probability, dtype=np.float64).ravel(), np.asarray(right, dtype=np.float64).ravel()
        if p.shape != hit.shape or (p.size and not (p.min() >= 0 and p.max() <= 1 + 1e-6)):
            raise BadInput("expected one probability between 0 and 1, and one outcome, for each point")
        bins = len(self.count)
        place = np.minimum((p * bins).astype(int), bins - 1)
        for total, values in ((self.count, np.ones_like(p)), (self.confidence, p), (self.hits, hit)):
            total += np.bincount(place, values, minlength=bins)
        return self

    def merge(self, other: Calibration) -> Self:
        """Take in the sums of another."""
        self.count += other.count
        self.confidence += other.confidence
        self.hits += other.hits
        return self

    def compute(self) -> float:
        """Mean over the points of |confidence - accuracy| of their bin, 0..1."""
        if not self.count.sum():
            raise BadInput("no labelled point was compared: nothing to measure")
        return float(np.abs(self.confidence - self.hits).sum() / self.count.sum())
