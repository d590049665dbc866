"""Lines with known gains for the tests and the benchmark of gain calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io
import xarray as xr

import torchspectral as ts

WELL_LINKED = (0, 3, 7, 12, 20, 29, 36)


def jasper(samples: Path) -> tuple[np.ndarray, np.ndarray]:
    """Jasper Ridge, (198, 100, 100) in 0..1, and its wavelengths [nm]."""
    folder = samples / "unmixing" / "jasper"
    stored = scipy.io.loadmat(folder / "jasperRidge2_R198.mat")
    centres = scipy.io.loadmat(folder / "AVIRIS_wavelengths.mat")["AVIRIS_wavlen"].ravel()
    image = (stored["Y"].astype(float) / 5437).reshape(198, 100, 100).transpose(0, 2, 1)
    return image, centres[stored["SlectBands"].ravel() - 1]


def jasper_library(samples: Path) -> np.ndarray:
    """The bundle of 529 spectra of the scene, (529, 198)."""
    found = scipy.io.loadmat(samples / "unmixing" / "libraries" / "spectral_library_jasperRidge.mat")["A"]
    return found.T


def texture(bands: int, rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """A made scene, (bands, rows, cols), around 1."""
    random = np.random.default_rng(seed)
    base = np.cumsum(np.cumsum(random.normal(size=(rows, cols)), 0), 1)
    base = 1 + 0.4 * (base - base.mean()) / base.std() / 3 + 0.1 * random.normal(size=(rows, cols))
    return np.clip(base, 0.2, None)[None] * random.uniform(0.5, 1.5, (bands, 1, 1))


def lines(
    scene: np.ndarray, shifts: Sequence[int], detectors: int, snr: float = 40, spread: float = 0.05, seed: int = 0
) -> tuple[list[xr.DataArray], np.ndarray]:
    """Lines of `detectors` columns that start at the shifts, with gains (bands, detectors) of a spread and noise."""
    random = np.random.RandomState(seed)
    gains = 1 + spread * random.randn(len(scene), detectors)
    made = []
    for shift in shifts:
        y = gains[:, None] * scene[:, :, shift : shift + detectors]
        power = np.sqrt((y**2).mean((1, 2), keepdims=True))
        made.append(ts.make_cube(y + power * 10 ** (-snr / 20) * random.randn(*y.shape), quantity="dn"))
    return made, gains


def left(gain: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square error of gains after the best scale of each band [percent]."""
    both = gain * truth
    both = both / np.nanmean(both, axis=1, keepdims=True)
    return float(100 * np.sqrt(np.nanmean((both - 1) ** 2)))
