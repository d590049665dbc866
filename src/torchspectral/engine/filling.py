"""Filling of missing values in a tile, so that methods see numbers everywhere; exact under tiling.

A pixel whose bands are all missing is *nodata*: it is filled from the nearest pixel that has data, does not count in
`fit`, and comes back NaN. A pixel that misses some bands is filled along its own spectrum and counts.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from torchspectral.engine.method import Scope


def fill_margin(halo: int) -> int:
    """How far beyond the halo the nearest valid pixel of any filled pixel that matters can lie [pixel]."""
    return math.ceil(halo * math.sqrt(2)) - halo + 1 if halo else 0


def missing_pixels(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodata (all bands missing), partial (some missing) and infinite (some infinite) masks of (band, y, x) values, (y, x).

    Infinite values count as missing, and are set to NaN.
    """
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    if count.min() == values.shape[0]:
        none = np.zeros(values.shape[1:], dtype=bool)
        return none, none, none
    missing = count < values.shape[0]
    infinite = np.zeros_like(missing)
    infinite[missing] = np.isinf(values[:, missing]).any(axis=0)
    values[~finite] = np.nan
    nodata = count == 0
    return nodata, missing & ~nodata, infinite


def fill_spectra(values: np.ndarray, partial: np.ndarray, wavelength: np.ndarray) -> None:
    """Interpolate missing bands of the marked pixels along the spectrum, in place; ends take the nearest band."""
    if not partial.any():
        return
    spectra = values[:, partial]
    bands = spectra.shape[0]
    place = wavelength if np.isfinite(wavelength).all() else np.arange(bands, dtype=np.float64)
    known = np.isfinite(spectra)
    number = np.arange(bands)[:, None]
    below = np.maximum.accumulate(np.where(known, number, -1), axis=0)
    above = np.minimum.accumulate(np.where(known, number, bands)[::-1], axis=0)[::-1]
    low, high = np.where(below < 0, above, below), np.where(above >= bands, below, above)
    v0, v1 = np.take_along_axis(spectra, low, axis=0), np.take_along_axis(spectra, high, axis=0)
    gap = place[high] - place[low]
    share = np.where(gap != 0, (place[:, None] - place[low]) / np.where(gap != 0, gap, 1.0), 0.0)
    values[:, partial] = np.where(known, spectra, v0 + (v1 - v0) * share.astype(values.dtype))


def fill_pixels(values: np.ndarray, nodata: np.ndarray, scope: Scope) -> None:
    """Fill nodata pixels from the nearest pixel that has data, in place; zeros where none has.

    Pixel scope takes any pixel (its results there are thrown away), column scope the nearest of the same column.
    """
    if not nodata.any():
        return
    if nodata.all():
        values[:] = 0
        return
    if scope is Scope.PIXEL:
        row, col = np.unravel_index(int(np.argmin(nodata)), nodata.shape)
        values[:, nodata] = values[:, row, col, None]
        return
    # Columns lie so far apart that another one is taken only where the whole column is empty.
    sampling = (1.0, float(4 * max(nodata.shape))) if scope is Scope.COLUMN else (1.0, 1.0)
    rows, cols = ndimage.distance_transform_edt(nodata, sampling, return_distances=False, return_indices=True)
    values[:, nodata] = values[:, rows[nodata], cols[nodata]]
