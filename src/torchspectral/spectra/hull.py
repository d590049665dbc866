"""Upper convex hulls of many spectra at once."""

from __future__ import annotations

import numpy as np


def upper_hull(wavelength: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """Upper convex hull (continuum) of each spectrum, by a monotone chain that runs over all spectra together.

    Parameters
    ----------
    wavelength : ndarray, shape (bands,)
        Strictly or weakly ascending.
    spectra : ndarray, shape (n, bands)
        NaN where a band is missing; a spectrum's hull runs from its first to its last finite band.

    Returns
    -------
    ndarray, shape (n, bands), float64
        Hull at every band, NaN outside the finite bands. Never below the spectrum.

    References
    ----------
    A. M. Andrew, "Another efficient algorithm for convex hulls in two dimensions", Inf. Process. Lett. 9 (1979) 216.
    R. N. Clark, T. L. Roush, "Reflectance spectroscopy", J. Geophys. Res. 89 (1984) 6329-6340.
    """
    x = np.asarray(wavelength, dtype=np.float64)
    y = np.ascontiguousarray(np.asarray(spectra, dtype=np.float64).T)
    with np.errstate(invalid="ignore", divide="ignore"):
        before, slope, last = _chain(x, y)
        return _interpolate(x, y, before, slope, last).T


def _chain(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices of the hulls, linked backwards.

    Returns
    -------
    before : ndarray of int, shape (bands, n)
        For a band that is a vertex: the vertex before it, -1 for the first.
    slope : ndarray, shape (bands, n)
        Of the hull between these two.
    last : ndarray of int, shape (n,)
        Last vertex, -1 where a spectrum has no finite band.
    """
    bands, n = y.shape
    before = np.full((bands, n), -1, dtype=np.int32)
    slope = np.full((bands, n), np.inf)
    top = np.full(n, -1, dtype=np.int32)
    top_x, top_y = np.zeros(n), np.zeros(n)
    top_slope, top_before = np.full(n, np.inf), np.full(n, -1, dtype=np.int32)
    for band in range(bands):
        here = np.isfinite(y[band])
        rise = _rise(x[band] - top_x, y[band] - top_y)
        rows = np.flatnonzero(here & (top_before >= 0) & (rise >= top_slope))
        # A vertex on or below the line from the one before it to the new band is none.
        while rows.size:
            top[rows] = back = top_before[rows]
            top_x[rows], top_y[rows] = x[back], y[back, rows]
            top_slope[rows], top_before[rows] = slope[back, rows], before[back, rows]
            rise[rows] = _rise(x[band] - x[back], y[band, rows] - top_y[rows])
            rows = rows[(top_before[rows] >= 0) & (rise[rows] >= top_slope[rows])]
        np.copyto(before[band], top, where=here)
        np.copyto(slope[band], rise, where=here & (top >= 0))
        np.copyto(top_before, top, where=here)
        np.copyto(top_slope, slope[band], where=here)
        np.copyto(top, band, where=here)
        np.copyto(top_x, x[band], where=here)
        np.copyto(top_y, y[band], where=here)
    return before, slope, top


def _rise(run: np.ndarray, rise: np.ndarray) -> np.ndarray:
    """Slope; endless where two bands have one wavelength and the later is not lower."""
    out = rise / run
    return np.where((run == 0) & (rise == 0), np.inf, out)


def _interpolate(x: np.ndarray, y: np.ndarray, before: np.ndarray, slope: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Hull at every band, (bands, n), walking the vertices back from the last."""
    bands, n = y.shape
    out = np.empty((bands, n))
    ahead = last.copy()
    right_x, right_y, fall = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan)
    for band in range(bands - 1, -1, -1):
        out[band] = right_y - fall * (right_x - x[band])
        rows = np.flatnonzero(ahead == band)
        out[band, rows] = right_y[rows] = y[band, rows]
        right_x[rows] = x[band]
        ahead[rows] = before[band, rows]
        fall[rows] = np.where(before[band, rows] >= 0, slope[band, rows], np.nan)
    return np.where(np.isfinite(y), np.maximum(out, y), np.nan)
