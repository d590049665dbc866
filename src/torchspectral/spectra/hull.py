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
    y = np.asarray(spectra, dtype=np.float64)
    n, bands = y.shape
    finite = np.isfinite(y)
    stack = np.zeros((n, bands), dtype=np.int32)  # indices of the hull's vertices so far
    depth = np.zeros(n, dtype=np.int32)
    for band in range(bands):
        active = np.flatnonzero(finite[:, band])
        _pop(x, y, stack, depth, band, active[depth[active] >= 2])
        stack[active, depth[active]] = band
        depth[active] += 1
    return _interpolate(x, y, stack, depth, finite)


def _pop(x: np.ndarray, y: np.ndarray, stack: np.ndarray, depth: np.ndarray, band: int, rows: np.ndarray) -> None:
    """Take vertices off the stacks of `rows` that lie on or below the line to the new band."""
    while rows.size:
        top, below = stack[rows, depth[rows] - 1], stack[rows, depth[rows] - 2]
        y0 = y[rows, below]
        turn = (x[top] - x[below]) * (y[rows, band] - y0) - (y[rows, top] - y0) * (x[band] - x[below])
        rows = rows[turn >= 0]
        depth[rows] -= 1
        rows = rows[depth[rows] >= 2]


def _interpolate(x: np.ndarray, y: np.ndarray, stack: np.ndarray, depth: np.ndarray, finite: np.ndarray) -> np.ndarray:
    n, bands = y.shape
    vertex = np.zeros((n, bands), dtype=bool)
    used = np.arange(bands)[None, :] < depth[:, None]
    rows = np.broadcast_to(np.arange(n)[:, None], (n, bands))
    vertex[rows[used], stack[used]] = True
    position = np.broadcast_to(np.arange(bands), (n, bands))
    left = np.maximum.accumulate(np.where(vertex, position, -1), axis=1)
    right = np.minimum.accumulate(np.where(vertex, position, bands)[:, ::-1], axis=1)[:, ::-1]
    inside = (left >= 0) & (right < bands) & finite
    left, right = np.where(inside, left, 0), np.where(inside, right, 0)
    y0, y1 = np.take_along_axis(y, left, axis=1), np.take_along_axis(y, right, axis=1)
    span = x[right] - x[left]
    part = np.where(span > 0, (x[None, :] - x[left]) / np.where(span > 0, span, 1.0), 0.0)
    hull = np.where(left == right, y0, y0 + part * (y1 - y0))
    return np.where(inside, np.maximum(hull, y), np.nan)
