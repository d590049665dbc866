"""Gains of columns inside one band: from homogeneous targets (model c), and the baselines of the field."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from torchspectral.errors import BadInput

AGREE = 0.8
"""Least correlation of the gains from the two halves of the lines."""


def smooth_basis(width: int, terms: int) -> np.ndarray:
    """The first cosines of the DCT-II, orthonormal, shape (width, terms)."""
    at = (np.arange(width)[:, None] + 0.5) * np.arange(terms)[None, :] * np.pi / width
    basis = np.cos(at)
    out: np.ndarray = basis / np.linalg.norm(basis, axis=0)
    return out


@dataclass(frozen=True)
class FlatGain:
    """Column gains of one band.

    Attributes
    ----------
    gain, error : ndarray, shape (x,)
    before, after : float
        Residual of the second half of the lines with gains of 1, and with those of the first half.
    agreement : float
        Correlation of the gains of both halves.
    undetermined : int
        Directions over columns that stay 1.
    """

    gain: np.ndarray
    error: np.ndarray
    before: float
    after: float
    agreement: float
    undetermined: int


def solve_flat(first: np.ndarray, second: np.ndarray, terms: int, ridge: float) -> FlatGain:
    """Column gains from lines of a homogeneous target.

    Every line is a smooth curve across track (the first `terms` cosines); what repeats beside it is gain. Smooth
    gains are not determined by it, and stay 1.

    Parameters
    ----------
    first, second : ndarray, shape (x, x)
        Sums of y y^T over both halves of the lines.

    Raises
    ------
    BadInput
        Too few columns, or a target that is not homogeneous: its halves give different gains.
    """
    width = len(first)
    if width < terms + 2:
        raise BadInput(f"got {width} columns and {terms} smooth terms, expected at least {terms + 2} columns")
    basis = smooth_basis(width, terms)
    off = np.eye(width) - basis @ basis.T
    whole = first + second
    if not float(np.trace(whole)) > 0 or _left(np.ones(width), whole, off) < 1e-20:
        raise BadInput("the lines are smooth across track to rounding, or empty: there is nothing to calibrate with")
    one, other, gain = (_flat_gain(c, off, basis, ridge) for c in (first, second, first + second))
    before, after = (_left(g, second, off) for g in (np.ones(width), one))
    agreement = float(np.corrcoef(one, other)[0, 1]) if np.ptp(one) > 0 and np.ptp(other) > 0 else 0.0
    if not (agreement >= AGREE and after < before and (gain > 0).all()):
        raise BadInput(
            f"no gains written: those of the first and the second half of the lines correlate by {agreement:.2f}, expected "
            f"at least {AGREE}: the target is not homogeneous (desert, snow, cloud, Spectralon), or has no stripes; lines "
            "that overlap with different shifts need no such target (method overlap)"
        )
    form = off * (first + second)
    level = ridge * np.trace(form) / width
    values, vectors = np.linalg.eigh(form)
    variance = float(gain @ form @ gain) / width
    error = np.sqrt(variance * (vectors**2 @ (values.clip(0) / (values.clip(0) + level) ** 2)))
    return FlatGain(gain, error, math.sqrt(before), math.sqrt(after), agreement, int((values < level).sum()))


def _flat_gain(cross: np.ndarray, off: np.ndarray, basis: np.ndarray, ridge: float) -> np.ndarray:
    form = off * cross
    width = len(form)
    level = ridge * np.trace(form) / width
    away = np.linalg.solve(form + level * np.eye(width), np.full(width, level)) - 1
    out: np.ndarray = 1 + away - basis @ (basis.T @ away)
    return out


def _left(gain: np.ndarray, cross: np.ndarray, off: np.ndarray) -> float:
    return max(float(gain @ (off * cross) @ gain) / float(gain**2 @ cross.diagonal()), 0.0)


def moment_matching(mean: np.ndarray, deviation: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Column moment matching, the baseline: gain and offset (..., x) that give every column the same mean.

    Parameters
    ----------
    mean : ndarray, shape (..., x)
    deviation : ndarray, shape (..., x), optional
        Standard deviations: these are made equal too, by gain and offset; without them by the gain alone.

    References
    ----------
    Gadallah, Csillag and Smith, "Destriping multisensor imagery with moment matching", Int. J. Remote Sensing 21(12),
    2000.
    """
    centre = np.nanmean(mean, axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        if deviation is None:
            gain = centre / mean
            return np.where(np.isfinite(gain), gain, np.nan), np.where(np.isfinite(gain), 0.0, np.nan)
        gain = np.nanmean(deviation, axis=-1, keepdims=True) / deviation
    gain = np.where(np.isfinite(gain), gain, np.nan)
    return gain, centre - gain * mean


def polynomial_flat_field(mean: np.ndarray, degree: int) -> np.ndarray:
    """Low-order polynomial flat field, a baseline: the fitted polynomial of the column means over them, (..., x)."""
    width = mean.shape[-1]
    if degree + 2 > width:
        raise BadInput(f"got {width} columns for a polynomial of degree {degree}, expected at least {degree + 2}")
    at = np.polynomial.legendre.legvander(np.linspace(-1, 1, width), degree)
    out = np.full(mean.shape, np.nan)
    for index in np.ndindex(mean.shape[:-1]):
        row = mean[index]
        good = np.isfinite(row) & (row != 0)
        if good.sum() > degree + 1:
            curve = at @ np.linalg.lstsq(at[good], row[good], rcond=None)[0]
            out[index][good] = curve[good] / row[good]
    return out


def histogram_quantiles(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles of each column, (levels, x), of one band's values (y, x); NaN left out."""
    found: np.ndarray = np.nanquantile(values, levels, axis=0)
    return found


def histogram_gain(quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset (x,) that carry the quantiles of each column (levels, x) best onto their mean over columns."""
    reference = np.nanmean(quantiles, axis=1)
    centre, middle = quantiles.mean(0), reference.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = ((quantiles - centre) * (reference - middle)[:, None]).sum(0) / ((quantiles - centre) ** 2).sum(0)
    gain = np.where(np.isfinite(gain), gain, np.nan)
    return gain, middle - gain * centre


def match_histograms(values: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Histogram matching in full: every column's values carried through its quantiles onto their mean, (y, x)."""
    reference = np.nanmean(quantiles, axis=1)
    columns = [np.interp(values[:, j], quantiles[:, j], reference) for j in range(values.shape[1])]
    return np.stack(columns, axis=1)
