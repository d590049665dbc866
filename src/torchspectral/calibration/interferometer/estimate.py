"""First two steps: the gain from the flat field, then a sinusoid's path difference, phase and amplitude."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft

from torchspectral.calibration.interferometer.formation import phase, reflectivity_of, transfer
from torchspectral.calibration.interferometer.polynomials import coefficients_of, evaluate
from torchspectral.calibration.interferometer.recipes import Step
from torchspectral.errors import BadInput

UNEVEN = 0.01
"""Largest phase error [rad] at which uneven wavenumbers are still searched as an even grid."""
CHUNK = 1 << 22
"""Values of a work array."""


@dataclass(frozen=True)
class Estimate:
    """What the first two steps found.

    Attributes
    ----------
    opd, phase_shift, reflectivity : ndarray, shape (I,)
        [um], [rad] in 0..2 pi, 1.
    gain : ndarray, shape (I, degree + 1)
        Coefficients of the step's family on the raw wavenumber.
    amplitude : ndarray, shape (I,)
        Of the first harmonic, relative to the gain.
    at_edge : ndarray of bool, shape (I,)
        The best path difference is the first or the last of those that were allowed.
    unsearched : ndarray of bool, shape (I,)
        No path difference was allowed; the nearest that can be told was taken.
    """

    opd: np.ndarray
    phase_shift: np.ndarray
    reflectivity: np.ndarray
    gain: np.ndarray
    amplitude: np.ndarray
    at_edge: np.ndarray
    unsearched: np.ndarray


def fit_gain(
    signal: np.ndarray, wavenumber: np.ndarray, norm: np.ndarray | None, degree: int, family: str = "Polynomial"
) -> np.ndarray:
    """Gain of each interferometer: the flat field's shape times the mean of the signal.

    Parameters
    ----------
    signal : ndarray, shape (I, K)
    wavenumber : ndarray, shape (K,)
        [1/um].
    norm : ndarray, shape (I, K), optional
        Flat field; flat by default.

    Returns
    -------
    ndarray, shape (I, degree + 1)
        Coefficients of the family on the raw wavenumber.
    """
    level = signal.mean(axis=1, keepdims=True)
    if norm is None:
        shape = np.zeros((1, degree + 1))
        # Every family begins with the constant 1.
        shape[:, 0] = 1.0
        return shape * level
    mean = norm.mean(axis=1, keepdims=True)
    relative = np.divide(norm, mean, out=np.ones_like(norm, dtype=np.float64), where=mean != 0)
    if np.array_equal(relative, np.broadcast_to(relative[:1], relative.shape)):
        relative = relative[:1]
    return coefficients_of(relative, wavenumber, degree, family, None) * level


def highest_opd(wavenumber: np.ndarray) -> float:
    """Largest path difference that samples at these wavenumbers tell from smaller ones [um].

    Raises
    ------
    BadInput
        Fewer than three wavenumbers, or not ascending.
    """
    if wavenumber.size < 3 or not np.all(np.diff(wavenumber) > 0):
        raise BadInput(f"got {wavenumber.size} wavenumbers, expected at least 3 in ascending order [1/um]")
    return float(1 / (2 * np.mean(np.diff(wavenumber))))


def estimate(
    signal: np.ndarray,
    wavenumber: np.ndarray,
    norm: np.ndarray | None,
    nominal: np.ndarray | None,
    step: Step,
) -> Estimate:
    """Gain, path difference, phase shift and reflectivity of each interferometer.

    Parameters
    ----------
    signal : ndarray, shape (I, K)
        Response to K monochromatic lines.
    wavenumber : ndarray, shape (K,)
        Of the lines, ascending [1/um].
    norm : ndarray, shape (I, K), optional
        Flat field.
    nominal : ndarray, shape (I,), optional
        Path differences to search around [um]; everywhere by default.
    step : Step
        "ml": the peak of the periodogram, the maximum-likelihood estimate of a sinusoid. "es": the path difference
        and reflectivity whose spectrum is nearest to that of the data, then the phase, each tried exhaustively.
    """
    gain = fit_gain(signal, wavenumber, norm, step.degree("gain"), step.polynomial)
    level = evaluate(gain, wavenumber, step.polynomial)
    contrast = np.divide(signal, level, out=np.ones(signal.shape), where=level != 0) - 1
    limits = step.of("opd")
    top = highest_opd(wavenumber)
    grid = np.arange(limits.samples) / limits.samples
    allowed = np.broadcast_to(
        (grid > limits.relative_minimum) & (grid < limits.relative_maximum), (len(signal), grid.size)
    )
    if nominal is not None:
        allowed = allowed & (np.abs(grid - np.asarray(nominal, dtype=np.float64)[:, None] / top) < limits.relative_span)
    unsearched = np.asarray(~allowed.any(axis=1))
    if unsearched.any():
        allowed = np.where(
            unsearched[:, None], (grid > limits.relative_minimum) & (grid < limits.relative_maximum), allowed
        )
    if not allowed.any():
        raise BadInput(
            f"no path difference lies between {limits.relative_minimum:g} and {limits.relative_maximum:g} of {top:g} um: "
            "widen relative_minimum and relative_maximum"
        )
    if step.id == "es":
        place, reflectivity = _search(contrast, wavenumber, grid * top, allowed, step)
    else:
        place, reflectivity = _periodogram_peak(contrast, wavenumber, grid * top, allowed), None
    opd = grid[place] * top
    first, last = allowed.argmax(axis=1), allowed.shape[1] - 1 - allowed[:, ::-1].argmax(axis=1)
    wave = 2 * np.pi * opd[:, None] * wavenumber
    real, imaginary = (contrast * np.cos(wave)).sum(axis=1), (contrast * np.sin(wave)).sum(axis=1)
    amplitude = 2 / wavenumber.size * np.hypot(real, imaginary)
    shift = np.arctan2(imaginary, real) % (2 * np.pi)
    if reflectivity is None:
        reflectivity = reflectivity_of(amplitude, step.model)
    else:
        shift = _search_phase(contrast, wavenumber, opd, reflectivity, step)
    return Estimate(opd, shift, reflectivity, gain, amplitude, (place == first) | (place == last), unsearched)


def _periodogram_peak(
    contrast: np.ndarray, wavenumber: np.ndarray, opds: np.ndarray, allowed: np.ndarray
) -> np.ndarray:
    """Index of the allowed path difference at which the periodogram is largest, shape (I,)."""
    count, samples = wavenumber.size, opds.size
    even = wavenumber[0] + np.arange(count) * np.mean(np.diff(wavenumber))
    if 2 * np.pi * opds[-1] * np.abs(wavenumber - even).max() > UNEVEN or 2 * samples < count:
        power = np.concatenate([_direct(contrast[rows], wavenumber, opds) for rows in _rows(len(contrast), samples)])
        return np.asarray(np.where(allowed, power, -1.0).argmax(axis=1))
    place = np.empty(len(contrast), dtype=np.intp)
    for rows in _rows(len(contrast), samples):
        # On an even grid the path differences k / samples of the largest are frequencies of a padded transform.
        found = fft.rfft(contrast[rows], n=2 * samples, axis=1)[:, :samples]
        power = np.where(allowed[rows], found.real**2 + found.imag**2, -1.0)
        place[rows] = power.argmax(axis=1)
    return _refined(contrast, wavenumber, opds, allowed, place)


def _refined(
    contrast: np.ndarray, wavenumber: np.ndarray, opds: np.ndarray, allowed: np.ndarray, place: np.ndarray
) -> np.ndarray:
    """The best of a peak and its neighbours by the exact wavenumbers."""
    around = np.clip(place[:, None] + np.arange(-3, 4), 0, opds.size - 1)
    best = np.full(len(place), -np.inf)
    found = place.copy()
    for column in around.T:
        wave = 2 * np.pi * opds[column][:, None] * wavenumber
        power = (contrast * np.cos(wave)).sum(axis=1) ** 2 + (contrast * np.sin(wave)).sum(axis=1) ** 2
        power = np.where(np.take_along_axis(allowed, column[:, None], axis=1)[:, 0], power, -np.inf)
        better = power > best
        best, found = np.where(better, power, best), np.where(better, column, found)
    return found


def _direct(contrast: np.ndarray, wavenumber: np.ndarray, opds: np.ndarray) -> np.ndarray:
    power = np.empty((len(contrast), opds.size))
    step = max(1, CHUNK // wavenumber.size)
    for start in range(0, opds.size, step):
        wave = 2 * np.pi * wavenumber[:, None] * opds[None, start : start + step]
        power[:, start : start + step] = (contrast @ np.cos(wave)) ** 2 + (contrast @ np.sin(wave)) ** 2
    return power


def _rows(count: int, values: int) -> Iterator[slice]:
    step = max(1, CHUNK // max(values, 1))
    for start in range(0, count, step):
        yield slice(start, start + step)


def _search(
    contrast: np.ndarray, wavenumber: np.ndarray, opds: np.ndarray, allowed: np.ndarray, step: Step
) -> tuple[np.ndarray, np.ndarray]:
    """Path difference and reflectivity whose spectrum's moduli are nearest to those of the data.

    The candidates' spectra are made in blocks, so that the memory is constant; the work is candidates x wavenumbers.
    """
    limits = step.of("reflectivity")
    count = min(limits.samples, 100) if step.of("reflectivity").samples == 10_000 else limits.samples
    low, high = limits.relative_minimum, min(limits.relative_maximum, 0.99)
    candidates = np.linspace(low, high, count)
    moduli = np.abs(fft.rfft(contrast, axis=1))
    best = np.full(len(contrast), np.inf)
    place = np.zeros(len(contrast), dtype=np.intp)
    reflectivity = np.full(len(contrast), low)
    used = np.flatnonzero(allowed.any(axis=0))
    block = max(1, CHUNK // (wavenumber.size * 4))
    for r in candidates:
        for start in range(0, used.size, block):
            index = used[start : start + block]
            model = transfer(phase(opds[index], wavenumber), np.full(1, r), 1.0, step.model) - 1
            spectra = np.abs(fft.rfft(model, axis=1))
            distance = (moduli**2).sum(1)[:, None] - 2 * moduli @ spectra.T + (spectra**2).sum(1)[None, :]
            distance = np.where(allowed[:, index], distance, np.inf)
            at = distance.argmin(axis=1)
            value = distance[np.arange(len(at)), at]
            better = value < best
            best = np.where(better, value, best)
            place = np.where(better, index[at], place)
            reflectivity = np.where(better, r, reflectivity)
    return place, reflectivity


def _search_phase(
    contrast: np.ndarray, wavenumber: np.ndarray, opd: np.ndarray, reflectivity: np.ndarray, step: Step
) -> np.ndarray:
    """Phase shift of the nearest model, tried on a grid [rad]."""
    limits = step.of("phase_shift")
    count = 360 if limits.samples == 10_000 else limits.samples
    shifts = 2 * np.pi * np.arange(count) / count
    best = np.full(len(opd), np.inf)
    found = np.zeros(len(opd))
    for shift in shifts:
        model = transfer(phase(opd, wavenumber, float(shift)), reflectivity, 1.0, step.model) - 1
        distance = ((contrast - model) ** 2).sum(axis=1)
        better = distance < best
        best, found = np.where(better, distance, best), np.where(better, shift, found)
    return found
