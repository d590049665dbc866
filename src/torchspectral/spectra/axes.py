"""What every drawing of spectra shares: the band axis, its gaps, labels and colours."""

from __future__ import annotations

import numpy as np
import xarray as xr

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d1f")
"""Okabe and Ito's colour-blind-safe palette, its yellow darkened so that it reads on white."""

_DETECTORS = 5  # steps back in wavelength that still look like overlapping detectors
_DENSE = 30  # bands; with fewer, gaps between bands are nothing unusual


def band_axis(value: xr.DataArray) -> tuple[np.ndarray, str]:
    """Wavelengths [nm], or band numbers where they are unknown, and the axis label."""
    if "wavelength" in value.coords and np.isfinite(value["wavelength"].values).all():
        return np.asarray(value["wavelength"].values, dtype=np.float64), "wavelength [nm]"
    return np.arange(1, value.sizes["band"] + 1, dtype=np.float64), "band"


def value_label(value: xr.DataArray) -> str:
    """Quantity and unit for an axis."""
    quantity, unit = str(value.attrs.get("quantity", "value")), str(value.attrs.get("units", "1"))
    return quantity if unit in ("1", "") else f"{quantity} [{unit}]"


def with_gaps(x: np.ndarray, values: np.ndarray, good: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Points of a line over the band axis, broken where bands are bad or far apart and where a new detector starts.

    Parameters
    ----------
    x : ndarray, shape (bands,)
    values : ndarray, shape (bands,) or (bands, n)
    good : ndarray of bool, shape (bands,), optional

    Returns
    -------
    x, values : ndarray
        With NaN between points that no line should join: a step back in wavelength (overlapping detectors), or one
        above five times the median, from 30 bands on. Bands in no order at all are sorted.
    """
    x, values = np.asarray(x, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if good is not None:
        values = np.where(np.reshape(good, (-1,) + (1,) * (values.ndim - 1)), values, np.nan)
    if np.count_nonzero(np.diff(x) < 0) > _DETECTORS:
        order = np.argsort(x, kind="stable")
        x, values = x[order], values[order]
    steps = np.diff(x)
    far = 5 * np.median(np.abs(steps)) if x.size >= _DENSE else np.inf
    breaks = np.flatnonzero((steps < 0) | (steps > far)) + 1
    return np.insert(x, breaks, x[breaks - 1]), np.insert(values, breaks, np.nan, axis=0)
