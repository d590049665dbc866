"""The control of rho-PNN: iterations a band, the switch of the structural loss, and its weight.

References
----------
Guarino, Ciotola, Vivone, Poggi, Scarpa, "Zero-shot hyperspectral pansharpening using hysteresis-based tuning for
spectral quality control", IEEE TGRS 63 (2025), arXiv 2505.16658.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

HALVINGS = 8
"""The weight of the structural loss is halved at most to this part."""


class Hysteresis:
    """Switch that turns the structural loss on below the low limit of the spectral loss, and off above the high one.

    Parameters
    ----------
    reference : float
        m_b, spectral loss of the interpolated band.
    gamma : float
        High limit in units of `reference`.
    gamma_low : float
        Low limit in units of the high one.
    """

    def __init__(self, reference: float, gamma: float, gamma_low: float) -> None:
        self.low, self.high = gamma * gamma_low * reference, gamma * reference
        self.on = False

    def update(self, spectral: float) -> bool:
        """Whether the structural loss counts, given the spectral loss now; between the limits nothing changes."""
        if spectral < self.low:
            self.on = True
        elif spectral > self.high:
            self.on = False
        return self.on


def adaptive_iterations(correlation: Sequence[float] | np.ndarray, base: int, eta: float) -> list[int]:
    """Most iterations of each band: more where a band differs from the one before.

    Beside `base` for each, ``eta * (B - 1) * base`` iterations are shared out in proportion to 1 - correlation.

    Parameters
    ----------
    correlation : sequence of float, length B - 1
        Of neighbouring bands in the order of the sweep.
    base : int
        Least number, N1.
    eta : float

    Returns
    -------
    list of int, length B
        The first band gets as many as the second; one band alone, and bands that are all alike, get the mean.
    """
    apart = 1.0 - np.asarray(correlation, dtype=np.float64)
    mean = int(base * (1 + eta))
    total = float(apart.sum())
    if apart.size == 0 or not total > 0:
        return [mean] * (apart.size + 1)
    share = np.maximum(eta * apart.size * base * apart / total, 0.0)
    counts = [base + int(extra) for extra in share]
    return [counts[0], *counts]


def adapt_beta(
    beta: float,
    tolerance: float,
    spectral: float,
    trial: Callable[[float], float],
) -> float:
    """Weight of the structural loss that two trial steps bear: the largest of beta, beta/2, beta/4, else beta/8.

    Parameters
    ----------
    beta : float
        beta_0.
    tolerance : float
        epsilon: by which factor the spectral loss may grow.
    spectral : float
        Spectral loss now.
    trial : callable
        Weight to the spectral loss after two steps from here; leaves nothing changed.
    """
    least = beta / HALVINGS
    while trial(beta) > spectral * tolerance:
        beta /= 2
        if beta <= least:
            return least
    return beta
