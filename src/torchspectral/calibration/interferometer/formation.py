"""Image formation: what a two-mirror cell lets through at each wavenumber.

Phase phi = 2 pi opd sigma - shift, with sigma in 1/um, the optical path difference in um and the shift in rad; R is the
reflectivity, g the gain. The number of waves W says how many reflections interfere: 0 stands for infinitely many.
"""

from __future__ import annotations

import numpy as np

from torchspectral.errors import BadSettings

Array = np.ndarray


def phase(opd: Array, wavenumber: Array, shift: Array | float = 0.0) -> Array:
    """Phase [rad], shape (I, K).

    Parameters
    ----------
    opd : ndarray, shape (I,), (I, 1) or (I, K)
        Optical path difference [um].
    wavenumber : ndarray, shape (K,)
        [1/um].
    shift : ndarray, shape (I,), (I, 1) or (I, K), or float
        [rad].
    """
    return 2 * np.pi * _column(opd) * np.asarray(wavenumber, dtype=np.float64) - _column(shift)


def transfer(
    phi: Array, reflectivity: Array | float, gain: Array | float, waves: int = 0, *, scaled: bool = True
) -> Array:
    """Transmittance of a cell in which `waves` waves interfere, shape of `phi`.

    Parameters
    ----------
    phi : ndarray, shape (I, K)
        Phase [rad].
    reflectivity, gain : ndarray, shape (I,), (I, 1) or (I, K), or float
    waves : int
        W: 0 Airy's function (infinitely many waves), 1 no interference, 2 two waves, ...
    scaled : bool
        Divide by the mean over the phase, so that the mean is the gain (as in all fitting); else the plain form.

    Notes
    -----
    Plain: W = 0: g / ((1 - R)^2 + 4 R sin^2(phi / 2)); 1: g; 2: g (1 + R^2 + 2 R cos phi);
    W >= 3: g (1 + R^(2 W) - 2 R^W cos(W phi)) / (1 + R^2 - 2 R cos phi). Scaled forms are these times 1 - R^2, 1,
    1 / (1 + R^2) and (1 - R^2) / (1 + R^(2 W)).

    Raises
    ------
    BadSettings
        A negative number of waves.

    References
    ----------
    Picone, Gousset, Dalla Mura, Ferrec, le Coarer, "Characterization of the parameters of interferometers in
    multi-aperture Fabry-Perot spectrometers", Optics Express 31(14), 2023.
    """
    r, g = _column(reflectivity), _column(gain)
    _check_waves(waves)
    if waves == 1:
        return np.broadcast_to(g, phi.shape).astype(np.float64)
    if waves == 2:
        value = 1 + r**2 + 2 * r * np.cos(phi)
        return g * (value / (1 + r**2) if scaled else value)
    if waves == 0:
        value = 1 / ((1 - r) ** 2 + 4 * r * np.sin(phi / 2) ** 2)
        return g * ((1 - r**2) * value if scaled else value)
    value = (1 + r ** (2 * waves) - 2 * r**waves * np.cos(waves * phi)) / (1 + r**2 - 2 * r * np.cos(phi))
    return g * (value * (1 - r**2) / (1 + r ** (2 * waves)) if scaled else value)


def derivatives(phi: Array, r: Array, waves: int) -> tuple[Array, Array | float, Array | float]:
    """The scaled transmittance for gain 1, and its derivatives by the phase and by the reflectivity.

    Parameters
    ----------
    phi, r : ndarray, shape (I, K)

    Returns
    -------
    value : ndarray, shape (I, K)
    by_phase, by_reflectivity : ndarray, shape (I, K), or 0.0 where nothing depends on them
    """
    _check_waves(waves)
    if waves == 1:
        return np.ones_like(phi), 0.0, 0.0
    cosine, sine = np.cos(phi), np.sin(phi)
    square = r * r
    if waves == 2:
        whole = 1 / (1 + square)
        twice = 2 * whole
        return 1 + r * cosine * twice, -r * sine * twice, cosine * (1 - square) * whole * twice
    below = 1 / (1 + square - 2 * r * cosine)
    above = 1 - square
    if waves == 0:
        value = above * below
        return value, -2 * r * sine * value * below, -2 * (r + (r - cosine) * value) * below
    power = r ** (waves - 1)
    last = power * r
    scale = above / (1 + last**2)
    by_scale = -2 * (r + waves * above * last * power / (1 + last**2)) / (1 + last**2)
    top = 1 + last**2 - 2 * last * np.cos(waves * phi)
    top_by_phase = 2 * waves * last * np.sin(waves * phi)
    top_by_r = 2 * waves * power * (last - np.cos(waves * phi))
    ratio = top * below
    by_phase = scale * below * (top_by_phase - ratio * 2 * r * sine)
    by_r = by_scale * ratio + scale * below * (top_by_r - ratio * 2 * (r - cosine))
    return scale * ratio, by_phase, by_r


def first_harmonic(reflectivity: Array, waves: int) -> Array:
    """Amplitude of cos(phi) in the transmittance, relative to its mean."""
    r = np.asarray(reflectivity, dtype=np.float64)
    _check_waves(waves)
    if waves == 1:
        return np.zeros_like(r)
    if waves == 2:
        return 2 * r / (1 + r**2)
    if waves == 0:
        return 2 * r
    return 2 * r * (1 - r ** (2 * waves - 2)) / (1 - r ** (2 * waves))


def reflectivity_of(amplitude: Array, waves: int = 2) -> Array:
    """Reflectivity in 0..1 whose first harmonic has an amplitude: the inverse of `first_harmonic`.

    Amplitudes above what the model can reach give the largest reflectivity it can have.
    """
    a = np.asarray(amplitude, dtype=np.float64)
    _check_waves(waves)
    if waves == 1:
        return np.zeros_like(a)
    if waves == 2:
        a = np.clip(a, 0, 1)
        return a / (1 + np.sqrt(1 - a**2))
    if waves == 0:
        return np.clip(a / 2, 0, 0.99)
    low, high = np.zeros_like(a), np.full_like(a, 0.99)
    for _ in range(60):
        middle = (low + high) / 2
        below = first_harmonic(middle, waves) < a
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def fabry_perot(
    phi: Array,
    transmittance: Array | float = 1.0,
    reflectivity: Array | float = 0.0,
    order: int = 0,
    *,
    correct_transmittance: bool = True,
) -> Array:
    """Fabry-Perot interferometer in the words of inverspyctrometry, shape of `phi`.

    Parameters
    ----------
    order : int
        0: Airy's function; N >= 1: its cosine series cut after N terms, which is another thing than N waves.
    correct_transmittance : bool
        Gain T (1 - R^2), which keeps the mean over the phase at T; else T^2.

    References
    ----------
    Jouni, Picone, Dalla Mura, "Reconstruction of spectra from interferograms in multiple-beam interference
    spectroscopy" (2024).
    """
    t, r = _column(transmittance), _column(reflectivity)
    _check_waves(order)
    gain = t * (1 - r**2) if correct_transmittance else t**2
    if order == 0:
        return gain / (1 + r**2 - 2 * r * np.cos(phi))
    series = np.ones(phi.shape)
    for n in range(1, order):
        series = series + 2 * r**n * np.cos(n * phi)
    return gain / (1 - r**2) * series


def michelson(phi: Array, transmittance: Array | float = 1.0) -> Array:
    """Michelson interferometer: 2 T (1 + cos phi), shape of `phi`."""
    return 2 * _column(transmittance) * (1 + np.cos(phi))


def _check_waves(waves: int) -> None:
    if waves < 0:
        raise BadSettings(f"got {waves} waves, expected 0 (infinitely many), 1, 2 or more")


def _column(value: Array | float) -> Array:
    array = np.asarray(value, dtype=np.float64)
    return array[:, None] if array.ndim == 1 else array
