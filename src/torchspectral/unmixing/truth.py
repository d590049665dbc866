"""Whether abundances lie on a scene as they should: Y = E A, tried for both orders of the pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torchspectral.errors import BandMismatch, GridMismatch

FAR = 0.3
"""Residual, as a share of the signal, above which spectra and abundances do not explain a scene."""
CLEAR = 2.0
"""Ratio of the two orders' residuals below which neither is clearly the right one."""
SAMPLE = 40_000
"""Pixels that the residuals are measured on, evenly drawn."""
ORDERS = ("columns", "rows")


@dataclass(frozen=True)
class Fit:
    """How well two orders of the pixels explain a scene.

    Attributes
    ----------
    order : str
        "columns" or "rows", the one that was taken.
    residuals : dict of str to float
        |Y - s E A| / |Y| of each order that is possible, with the best scale s.
    scale : float
        s of the order that was taken: the scene's values in units of the endmembers'.
    warnings : list of str
    """

    order: str
    residuals: dict[str, float]
    scale: float
    warnings: list[str] = field(default_factory=list)


def pick_order(
    pixels: dict[str, np.ndarray], spectra: Any, abundances: dict[str, np.ndarray], *, forced: str | None = None
) -> Fit:
    """Choose the order of the pixels under which spectra and abundances explain a scene.

    Parameters
    ----------
    pixels : dict of order to array_like (band, y, x)
        The scene; the same image under both keys where its order is known.
    spectra : array_like, shape (material, band)
    abundances : dict of order to array_like (material, y, x)
        Likewise; an order may be missing where it is impossible.
    forced : {"columns", "rows"}, optional
        Take this order; the warnings still say what the residuals tell.

    Raises
    ------
    BandMismatch, GridMismatch
    """
    e = np.asarray(spectra, dtype=np.float64)
    residuals: dict[str, float] = {}
    scales: dict[str, float] = {}
    for order in ORDERS:
        if order not in pixels or order not in abundances:
            continue
        y, a = pixels[order], abundances[order]
        if y.shape[0] != e.shape[1] or a.shape[0] != e.shape[0]:
            raise BandMismatch(
                f"got spectra of {e.shape[0]} materials and {e.shape[1]} bands, expected {a.shape[0]} as the abundances "
                f"and {y.shape[0]} as the scene"
            )
        if y.shape[1:] != a.shape[1:]:
            raise GridMismatch(f"got abundances of {a.shape[1:]} pixels, expected {y.shape[1:]} as the scene")
        residuals[order], scales[order] = _residual(y, e, a)
    best = min(residuals, key=lambda order: residuals[order])
    order = forced or best
    if order not in residuals:
        raise GridMismatch(f"the pixels cannot be taken by {order}: rows and columns do not fit the scene then")
    warnings = []
    if forced and residuals[best] * CLEAR < residuals[forced]:
        warnings.append(
            f"pixels were taken by {forced} as asked, with a residual of {residuals[forced]:.3g} of the signal, but by "
            f"{best} it is {residuals[best]:.3g}: are the abundance maps transposed?"
        )
    if residuals[order] > FAR:
        warnings.append(
            f"spectra and abundances leave {residuals[order]:.3g} of the signal (above {FAR:g}): are they of this scene, "
            "or the maps transposed?"
        )
    if len(residuals) == 2 and min(residuals.values()) * CLEAR > max(residuals.values()):
        warnings.append(
            "both orders of the pixels explain the scene about as well ("
            + ", ".join(f"{name} {value:.3g}" for name, value in residuals.items())
            + "): check that the maps are not transposed"
        )
    return Fit(order, residuals, scales[order], warnings)


def _residual(y: np.ndarray, e: np.ndarray, a: np.ndarray) -> tuple[float, float]:
    flat, shares = y.reshape(len(y), -1), a.reshape(len(a), -1)
    step = max(1, flat.shape[1] // SAMPLE)
    values, model = flat[:, ::step].astype(np.float64), e.T @ shares[:, ::step].astype(np.float64)
    known = np.isfinite(values) & np.isfinite(model)
    values, model = np.where(known, values, 0), np.where(known, model, 0)
    power, own = float((model**2).sum()), float((values**2).sum())
    scale = float((values * model).sum()) / power if power > 0 else 0.0
    left = float(((values - scale * model) ** 2).sum())
    return float(np.sqrt(left / own)) if own > 0 else float("inf"), scale
