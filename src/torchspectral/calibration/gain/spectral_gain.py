"""Gains of the bands from spectra that the scene is known to be made of: model (c) with a prior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchspectral.errors import BadInput

FALL = 0.02
"""Least share by which the held-out residual must fall."""

ABOVE = 0.05
"""Most by which it may lie above that of the best prior."""


@dataclass(frozen=True)
class Candidate:
    """One choice of basis size and prior, and the held-out residual over that of gains of 1."""

    k: int
    ridge: float
    gain: np.ndarray
    ratio: float


@dataclass(frozen=True)
class SpectralGain:
    """Gains of the bands.

    Attributes
    ----------
    gain, error : ndarray, shape (bands,)
    k, ridge : int, float
        Chosen on held-out pixels.
    before, after : float
        Held-out residual, relative to the values, with gains of 1 and with these.
    undetermined : int
        Directions over bands that the prior holds at 1: eigenvalues of G below lambda.
    weakest : ndarray, shape (bands,)
        Share of each band, 0..1, in these directions.
    table : list of dict
        All choices that were tried.
    """

    gain: np.ndarray
    error: np.ndarray
    k: int
    ridge: float
    before: float
    after: float
    undetermined: int
    weakest: np.ndarray
    table: list[dict[str, Any]]


def ripple(gain: np.ndarray, wavelength: np.ndarray, degree: int) -> np.ndarray:
    """1 plus what of gain - 1 is no polynomial of wavelength: smooth gains cannot be told from smooth spectra."""
    if degree < 0:
        return gain
    known = np.isfinite(wavelength).all() and np.ptp(wavelength) > 0
    at = wavelength if known else np.arange(len(gain), dtype=np.float64)
    x = 2 * (at - at.min()) / max(np.ptp(at), 1e-12) - 1
    smooth = np.linalg.qr(np.polynomial.legendre.legvander(x, min(degree, len(gain) - 1)))[0]
    away = gain - 1
    out: np.ndarray = 1 + away - smooth @ (smooth.T @ away)
    return out


def solve_spectral(
    used: np.ndarray,
    held: np.ndarray,
    library: np.ndarray,
    wavelength: np.ndarray,
    *,
    sizes: list[int],
    ridges: list[float],
    degree: int = 3,
) -> SpectralGain:
    """Gains from two sums over pixels, the second held out.

    Parameters
    ----------
    used, held : ndarray, shape (bands, bands)
        Sums of y y^T.
    library : ndarray, shape (spectra, bands)
    sizes, ridges : list
        Basis sizes k and priors lambda (times trace(G) / bands) to choose from.
    degree : int
        Of the polynomial of wavelength that is projected off; -1: none.

    Raises
    ------
    BadInput
        Bases as large as the bands, or gains that do not lower the held-out residual as they should: nothing is
        worth writing then.
    """
    bands = len(used)
    sizes = sorted({int(k) for k in sizes})
    if not sizes or sizes[0] < 1 or sizes[-1] >= bands or sizes[-1] > len(library):
        raise BadInput(
            f"got basis sizes {sizes} for {bands} bands and a library of {len(library)} spectra, expected fewer than both"
        )
    basis = np.linalg.svd(library.T, full_matrices=False)[0]
    common = _off(basis[:, : sizes[-1]])
    one = np.ones(bands)
    before = _residual(one, held, common)
    if before <= 0:
        raise BadInput("the held-out pixels are explained exactly by the library: there is no ripple to find")
    tried = [_try(used, held, basis, wavelength, k, r, degree, common, before) for k in sizes for r in ridges]
    best = min(tried, key=lambda c: c.ratio)
    # What a sound prior reaches with the same basis: the measure for priors that were asked for.
    sound = min(_try(used, held, basis, wavelength, best.k, r, degree, common, before).ratio for r in (0.01, 0.03, 0.1))
    _guard(best, sound)
    form = _off(basis[:, : best.k]) * used
    values, vectors = np.linalg.eigh(form)
    level = max(best.ridge * np.trace(form) / bands, 1e-300)
    weak = values < level
    after = best.ratio * before
    # The ridge's own bias and noise are of the size of what the prior lets through of the residual.
    variance = float(best.gain @ form @ best.gain) / bands
    error = np.sqrt(variance * np.einsum("ij,j->i", vectors**2, values.clip(0) / (values.clip(0) + level) ** 2))
    table = [{"k": c.k, "ridge": c.ridge, "held_out": round(c.ratio, 4)} for c in tried]
    return SpectralGain(
        best.gain, error, best.k, best.ridge, math.sqrt(before), math.sqrt(after), int(weak.sum()),
        (vectors[:, weak] ** 2).sum(1), table,
    )  # fmt: skip


def _try(
    used: np.ndarray, held: np.ndarray, basis: np.ndarray, wavelength: np.ndarray, k: int, relative: float, degree: int,
    common: np.ndarray, before: float,
) -> Candidate:  # fmt: skip
    bands = len(used)
    form = _off(basis[:, :k]) * used
    one = np.ones(bands)
    level = relative * np.trace(form) / bands
    try:
        gain = np.linalg.solve(form + level * np.eye(bands), (level or 1.0) * one)
    except np.linalg.LinAlgError:
        gain = np.full(bands, np.nan)
    if relative == 0:
        gain = gain / gain.mean()
    gain = ripple(gain, wavelength, degree)
    ratio = _residual(gain, held, common) / before
    return Candidate(k, float(relative), gain, ratio if np.isfinite(ratio) else math.inf)


def _guard(best: Candidate, sound: float) -> None:
    if not best.ratio < 1 - FALL:
        raise BadInput(
            f"no gains written: on held-out pixels they leave {100 * best.ratio:.0f} % of the residual, expected clearly "
            "less than 100 %; the library does not describe the scene, or there is no ripple"
        )
    if best.ratio > (1 + ABOVE) * sound:
        raise BadInput(
            f"no gains written: with ridge={best.ridge:g} they leave {100 * best.ratio:.0f} % of the held-out residual, a "
            f"sound prior {100 * sound:.0f} %: the gains follow what the library cannot describe; choose ridge from 0.01"
        )
    if not (best.gain > 0).all():
        raise BadInput("no gains written: some are not positive; the library does not describe the scene")


def _off(basis: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.eye(len(basis)) - basis @ basis.T
    return out


def _residual(gain: np.ndarray, cross: np.ndarray, off: np.ndarray) -> float:
    """Energy of what the basis does not explain over that of all, with gains."""
    with np.errstate(invalid="ignore", over="ignore"):
        return float(gain @ (off * cross) @ gain) / float(gain**2 @ cross.diagonal())
