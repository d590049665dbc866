"""Linear mixtures of smooth spectra over smooth maps, with texture and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from torchspectral.errors import BadSettings


@dataclass(frozen=True)
class SyntheticScene:
    """A scene and what it was made of.

    Attributes
    ----------
    values : ndarray, shape (band, y, x), float32
        Reflectance, noise included.
    clean : ndarray, shape (band, y, x), float32
        Without noise.
    abundances : ndarray, shape (material, y, x), float32
        Shares, 0..1, that sum to one.
    spectra : ndarray, shape (material, band), float32
    wavelength : ndarray, shape (band,)
        [nm].
    """

    values: np.ndarray
    clean: np.ndarray
    abundances: np.ndarray
    spectra: np.ndarray
    wavelength: np.ndarray


def mixed_scene(
    bands: int = 60,
    rows: int = 96,
    cols: int = 96,
    *,
    materials: int = 5,
    grain: float = 4.0,
    texture: float = 0.05,
    snr: float | None = 40.0,
    seed: int = 0,
) -> SyntheticScene:
    """Make a scene that mixes linearly.

    Parameters
    ----------
    bands, rows, cols, materials : int
    grain : float
        Size of the patches [pixel].
    texture : float
        Brightness varies by this share from pixel to pixel, alike in all bands.
    snr : float, optional
        White noise this far below the rms of the scene [dB]; None: no noise.
    seed : int

    Raises
    ------
    BadSettings
        A size below one.
    """
    for name, value in (("bands", bands), ("rows", rows), ("cols", cols), ("materials", materials)):
        if value < 1:
            raise BadSettings(f"got {name}={value}, expected at least 1")
    rng = np.random.default_rng(seed)
    wavelength = np.linspace(400.0, 2400.0, bands) if bands > 1 else np.array([550.0])
    spectra = material_spectra(wavelength, materials, rng)
    abundances = smooth_maps(materials, rows, cols, grain, rng)
    light = 1 + texture * rng.uniform(-1, 1, (1, rows, cols))
    clean = np.tensordot(spectra.T, abundances, axes=1) * light
    values = clean
    if snr is not None:
        values = clean + np.sqrt((clean**2).mean()) * 10 ** (-snr / 20) * rng.standard_normal(clean.shape)
    return SyntheticScene(_single(values), _single(clean), _single(abundances), _single(spectra), wavelength)


def low_rank_cube(bands: int = 64, rows: int = 128, cols: int = 128, *, rank: int = 5, seed: int = 7) -> np.ndarray:
    """Smooth spectra times waves with a sharp-edged box each, (band, y, x), float32, 0..1.

    The cube on which the restoration figures were measured: seed 7, 128 x 128 x 64, rank 5.

    Raises
    ------
    BadSettings
        A size below one.
    """
    if min(bands, rows, cols, rank) < 1:
        raise BadSettings(f"got {bands} x {rows} x {cols}, rank {rank}, expected at least 1 of each")
    rng = np.random.RandomState(seed)
    row, col = np.meshgrid(np.arange(rows) / rows, np.arange(cols) / cols, indexing="ij")
    place = np.linspace(0.0, 1.0, bands)
    cube = np.zeros((bands, rows, cols))
    for _ in range(rank):
        down, across, phase = rng.uniform(0.5, 3.0), rng.uniform(0.5, 3.0), rng.uniform(0, 2 * np.pi)
        amount = 0.5 + 0.5 * np.cos(2 * np.pi * (down * row + across * col) + phase)
        top, left, reach = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.3)
        amount = amount * np.where(np.maximum(np.abs(row - top), np.abs(col - left)) < reach, 1.6, 0.6)
        centre, width, level = rng.uniform(0, 1), rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.5)
        spectrum = level + (1 - level) * np.exp(-0.5 * ((place - centre) / width) ** 2)
        cube += spectrum[:, None, None] * amount
    cube -= cube.min()
    return _single(cube / max(float(cube.max()), 1e-12))


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)


def material_spectra(wavelength: np.ndarray, materials: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth reflectance spectra with absorption bands, shape (material, band), about 0.02..0.9."""
    place = (wavelength - 400.0) / 2000.0
    spectra = np.empty((materials, wavelength.size))
    for k in range(materials):
        level, slope, curve = rng.uniform(0.15, 0.6), rng.uniform(-0.2, 0.3), rng.uniform(-0.25, 0.25)
        spectrum = level + slope * (place - 0.5) + curve * np.cos(np.pi * (place + rng.uniform(0, 2)))
        for _ in range(rng.integers(1, 4)):
            centre, width, depth = rng.uniform(0, 1), rng.uniform(0.01, 0.08), rng.uniform(0.1, 0.5)
            spectrum = spectrum * (1 - depth * np.exp(-0.5 * ((place - centre) / width) ** 2))
        spectra[k] = np.clip(spectrum, 0.02, 0.9)
    return spectra


def smooth_maps(materials: int, rows: int, cols: int, grain: float, rng: np.random.Generator) -> np.ndarray:
    """Abundance maps that sum to one, shape (material, y, x); the sharper the larger the noise they are made from."""
    noise = ndimage.gaussian_filter(rng.standard_normal((materials, rows, cols)), (0, grain, grain), mode="wrap")
    noise = 3 * noise / max(float(noise.std()), 1e-12)
    shares = np.exp(noise - noise.max(0, keepdims=True))
    total: np.ndarray = shares / shares.sum(0, keepdims=True)
    return total
