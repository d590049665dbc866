"""How unmixing is scored: angles of endmembers, errors of abundances, and the assignment that pairs them.

Plain numpy on small arrays; pixels are columns. Papers differ in units and in how they pair estimates with truth, and
so do their tables: every score here says which it used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from torchspectral.errors import BadInput, BandMismatch, GridMismatch

Array = NDArray[np.float64]
Matching = Literal["angle", "abundance", "none"]


def angle_matrix(estimate: Any, truth: Any) -> Array:
    """Spectral angles [rad] between the spectra (spectrum, band) of two sets, (p, q); NaN for zero spectra."""
    one, other = _spectra(estimate), _spectra(truth)
    if one.shape[1] != other.shape[1]:
        raise BandMismatch(f"got spectra of {one.shape[1]} and {other.shape[1]} bands, expected the same bands")
    keep = np.isfinite(one).all(0) & np.isfinite(other).all(0)
    one, other = one[:, keep], other[:, keep]
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (one @ other.T) / np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1))
    return np.arccos(np.clip(cosine, -1, 1))


def abundance_distances(estimate: Any, truth: Any) -> Array:
    """Euclidean distances between the abundance maps (material, pixel) of two sets, (p, q)."""
    one, other = _maps(estimate), _maps(truth)
    return np.stack([np.linalg.norm(other - row, axis=1) for row in one])


def mean_angle(estimate: Any, truth: Any, *, degrees: bool = False) -> float:
    """Mean spectral angle of paired spectra (spectrum, band)."""
    angle = float(np.nanmean(np.diagonal(angle_matrix(estimate, truth))))
    return float(np.degrees(angle)) if degrees else angle


def rmse(estimate: Any, truth: Any) -> float:
    """Root mean square difference over all finite entries, in the inputs' units (some papers multiply by 100)."""
    return float(np.sqrt(np.nanmean((np.asarray(estimate, float) - np.asarray(truth, float)) ** 2)))


def reconstruction_snr(estimate: Any, truth: Any) -> float:
    """Signal-to-reconstruction error 20 log10(|A| / |A - A_hat|) [dB]; inf where they are equal."""
    one, other = np.asarray(estimate, float), np.asarray(truth, float)
    keep = np.isfinite(one) & np.isfinite(other)
    error = np.linalg.norm((one - other)[keep])
    return float(20 * np.log10(np.linalg.norm(other[keep]) / error)) if error else float("inf")


def reconstruction_error(pixels: Any, endmembers: Any, abundances: Any) -> float:
    """Root mean square of Y - E A over bands and pixels, for Y (band, pixel), E (material, band), A."""
    residual = _maps(pixels) - _spectra(endmembers).T @ _maps(abundances)
    return float(np.sqrt(np.nanmean(residual**2)))


def match(cost: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of least total cost (Hungarian): indices of rows and of the columns they are paired with, by column."""
    from scipy.optimize import linear_sum_assignment

    rows, cols = linear_sum_assignment(np.nan_to_num(cost, nan=np.pi, posinf=1e12))
    order = np.argsort(cols)
    return rows[order], cols[order]


@dataclass(frozen=True)
class UnmixingScore:
    """Scores of one estimate.

    Attributes
    ----------
    matched_by : str
    pairs : list of (int, int)
        Estimated and true material of each pair.
    angle : dict of str to float
        Spectral angle by true material [rad].
    rmse : dict of str to float
        Abundance error by true material, after the estimated abundances of a pixel were divided by their sum.
    figures : dict of str to float
        ``mean_angle`` [rad], ``rmse`` (over all entries), ``mean_rmse`` (mean of the materials), ``rmse_as_given``,
        ``sre`` [dB], and ``re`` where pixels were given.
    unmatched : dict of str to list of int
        Materials without a partner: "estimated", "true".
    """

    matched_by: str
    pairs: list[tuple[int, int]]
    angle: dict[str, float]
    rmse: dict[str, float]
    figures: dict[str, float]
    unmatched: dict[str, list[int]] = field(default_factory=dict)


def score(
    endmembers: Any,
    abundances: Any,
    true_endmembers: Any,
    true_abundances: Any,
    *,
    pixels: Any = None,
    matching: Matching = "angle",
    names: Any = None,
) -> UnmixingScore:
    """Score an estimate against the truth.

    Parameters
    ----------
    endmembers, true_endmembers : array_like or DataArray, shape (material, band)
    abundances, true_abundances : array_like or DataArray, shape (material, pixel) or (material, y, x)
    pixels : array_like, shape (band, pixel) or (band, y, x), optional
        The scene, for the reconstruction error.
    matching : {"angle", "abundance", "none"}
        Pair by spectral angle, by Euclidean distance of the abundance maps, or as given.
    names : sequence of str, optional
        Of the true materials.

    Raises
    ------
    BadInput, BandMismatch, GridMismatch
        Sizes that do not fit each other.
    """
    e, e_true, a, a_true = (
        _spectra(endmembers), _spectra(true_endmembers), _maps(abundances), _maps(true_abundances)
    )  # fmt: skip
    if len(e) != len(a) or len(e_true) != len(a_true):
        raise BadInput(
            f"got {len(e)} endmembers with {len(a)} abundance maps and {len(e_true)} true ones with {len(a_true)}, "
            "expected one map for each endmember"
        )
    if a.shape[1] != a_true.shape[1]:
        raise GridMismatch(f"got abundances of {a.shape[1]} pixels, expected {a_true.shape[1]} as the true ones")
    angles = angle_matrix(e, e_true)
    if matching == "none":
        rows = cols = np.arange(min(len(e), len(e_true)))
    else:
        rows, cols = match(angles if matching == "angle" else abundance_distances(a, a_true))
    labels = [str(n) for n in names] if names is not None else [f"material {i + 1}" for i in range(len(e_true))]
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = a / a.sum(0)
    one, two = scaled[rows], a_true[cols]
    by_angle = {labels[c]: float(angles[r, c]) for r, c in zip(rows, cols, strict=True)}
    by_rmse = {labels[c]: rmse(scaled[r], a_true[c]) for r, c in zip(rows, cols, strict=True)}
    figures = {
        "mean_angle": float(np.nanmean(list(by_angle.values()))),
        "rmse": rmse(one, two),
        "mean_rmse": float(np.nanmean(list(by_rmse.values()))),
        "rmse_as_given": rmse(a[rows], two),
        "sre": reconstruction_snr(one, two),
    }
    if pixels is not None:
        figures["re"] = reconstruction_error(pixels, e, a)
    return UnmixingScore(
        matched_by=matching,
        pairs=[(int(r), int(c)) for r, c in zip(rows, cols, strict=True)],
        angle=by_angle,
        rmse=by_rmse,
        figures=figures,
        unmatched={
            "estimated": sorted(set(range(len(e))) - {int(r) for r in rows}),
            "true": sorted(set(range(len(e_true))) - {int(c) for c in cols}),
        },
    )


def _spectra(values: Any) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise BadInput(f"got spectra of shape {array.shape}, expected (spectrum, band)")
    return array


def _maps(values: Any) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (2, 3):
        raise BadInput(f"got maps of shape {array.shape}, expected (material, pixel) or (material, y, x)")
    return array.reshape(len(array), -1)
