"""Sub-pixel image shifts by phase correlation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import shift as ndimage_shift
from scipy.ndimage import spline_filter

_ROUNDS = 6


@dataclass(frozen=True)
class Shift:
    """Shift of one image against another.

    Attributes
    ----------
    rows, cols : float
        Where the content of the reference lies in the moving image: ``moving[r + rows, c + cols] = reference[r, c]``
        [pixels].
    quality : float
        Height of the normalised peak, 0..1; 1 for the same image.
    contrast : float
        Peak over the root mean square of the correlation surface.
    second : float
        Highest value away from the peak over the peak, 0..1.
    """

    rows: float
    cols: float
    quality: float
    contrast: float
    second: float


def phase_shift(
    moving: np.ndarray,
    reference: np.ndarray,
    *,
    upsample: int = 20,
    max_shift: float | None = None,
    cutoff: float = 0.35,
) -> Shift:
    """Shift between two images of one size by phase correlation with an upsampled peak.

    Parameters
    ----------
    moving, reference : ndarray, shape (rows, cols)
        NaN where unknown: such pixels count as the mean.
    upsample : int
        The peak is located to 1 / `upsample` pixel, by a matrix DFT around the whole-pixel peak.
    max_shift : float, optional
        Largest shift searched for, in pixels; by default a quarter of the smaller side.
    cutoff : float
        Highest spatial frequency used, cycles/pixel (0.5 is Nyquist): above it sensors differ in blur and aliasing.

    References
    ----------
    Kuglin and Hines 1975 (phase correlation); Guizar-Sicairos, Thurman and Fienup 2008, Optics Letters 33:156
    (upsampled matrix DFT).
    """
    shape = moving.shape
    taper = np.hanning(shape[0] + 2)[1:-1, None] * np.hanning(shape[1] + 2)[None, 1:-1]
    spectra = []
    known = np.isfinite(moving) & np.isfinite(reference)
    for image in (moving, reference):
        mean = image[known].mean() if known.any() else 0.0
        spectra.append(fft.fft2(np.where(known, image - mean, 0.0) * taper))
    cross = spectra[0] * np.conj(spectra[1])
    fr, fc = fft.fftfreq(shape[0]), fft.fftfreq(shape[1])
    radius = np.hypot(fr[:, None], fc[None, :])
    size = np.abs(cross)
    # Frequencies where an image holds nothing but rounding have a phase of chance.
    weight = ((radius <= cutoff) & (radius > 0) & (size > 1e-12 * max(float(size.max()), 1e-300))).astype(np.float64)
    total = float(weight.sum())
    if total == 0:
        return Shift(0.0, 0.0, 0.0, 0.0, 1.0)
    unit = np.where(weight > 0, cross / np.where(size > 0, size, 1.0), 0)
    surface = fft.ifft2(unit).real * (unit.size / total)
    reach = min(shape) / 4 if max_shift is None else max_shift
    rows, cols = np.rint(fr * shape[0]), np.rint(fc * shape[1])
    allowed = (np.abs(rows)[:, None] <= reach) & (np.abs(cols)[None, :] <= reach)
    at = np.unravel_index(int(np.argmax(np.where(allowed, surface, -np.inf))), shape)
    row, col = float(rows[at[0]]), float(cols[at[1]])
    rms = float(np.sqrt(np.mean(surface**2)))
    apart = allowed & ((np.abs(rows - row)[:, None] > 3) | (np.abs(cols - col)[None, :] > 3))
    second = float(surface[apart].max()) if apart.any() else 0.0
    fine = np.arange(-upsample, upsample + 1) / upsample
    left = np.exp(2j * np.pi * (row + fine)[:, None] * fr[None, :])
    right = np.exp(2j * np.pi * fc[:, None] * (col + fine)[None, :])
    zoomed = (left @ unit @ right).real / total
    best = np.unravel_index(int(np.argmax(zoomed)), zoomed.shape)
    peak = float(zoomed[best])
    return Shift(
        row + float(fine[best[0]]),
        col + float(fine[best[1]]),
        max(0.0, min(1.0, peak)),
        peak / rms if rms > 0 else 0.0,
        max(0.0, second / peak) if peak > 0 else 1.0,
    )


def refined_shift(
    moving: np.ndarray,
    reference: np.ndarray,
    *,
    upsample: int = 20,
    max_shift: float | None = None,
    cutoff: float = 0.35,
) -> Shift:
    """As `phase_shift`, repeated until the windows show the same ground.

    Under a fixed taper a shift comes out too small, and a large one leaves little in common. So the windows are cut
    anew after the whole-pixel part, the reference is moved by what is left, and the rest is measured until it is gone.
    """
    first = phase_shift(moving, reference, upsample=upsample, max_shift=max_shift, cutoff=cutoff)
    row, col = round(first.rows), round(first.cols)
    rows, cols = moving.shape
    if rows - abs(row) < 16 or cols - abs(col) < 16:
        return first
    a = moving[max(0, row) : rows + min(0, row), max(0, col) : cols + min(0, col)]
    b = reference[max(0, -row) : rows - max(0, row), max(0, -col) : cols - max(0, col)]
    known = np.isfinite(b)
    if not known.any():
        return first
    smooth = spline_filter(np.where(known, b, b[known].mean()), order=3, mode="mirror")
    blank = (~known).astype(np.float32)
    left = np.zeros(2)
    rest = first
    for _ in range(_ROUNDS):
        there = ndimage_shift(smooth, left, order=3, mode="mirror", prefilter=False)
        there[ndimage_shift(blank, left, order=1, mode="nearest") > 1e-3] = np.nan
        rest = phase_shift(a, there, upsample=upsample, max_shift=3, cutoff=cutoff)
        left += (rest.rows, rest.cols)
        if max(abs(rest.rows), abs(rest.cols)) < 0.5 / upsample or max(abs(left)) > 3:
            break
    if max(abs(left)) > 3:
        return first
    return Shift(row + float(left[0]), col + float(left[1]), rest.quality, rest.contrast, first.second)
