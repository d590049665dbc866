"""The cross-spectral benchmark: which bands models see in training and in tests, and transfer to other sensors."""

from __future__ import annotations

from typing import Literal

import numpy as np

from torchspectral.errors import BadSettings, BandMismatch

SENTINEL2_WAVELENGTHS = (
    442.7, 492.4, 559.8, 664.6, 704.1, 740.5, 782.8, 832.8, 864.7, 945.1, 1373.5, 1613.7, 2202.4,
)  # fmt: skip
"""Of the first paper's pretraining [nm]."""
RADAR_WAVELENGTHS = (5500.0, 5700.0)
"""What stands for Sentinel-1 VV and VH in it [nm]."""
BANDS = 202
_VNIR = 101  # bands before the shortwave ones

Protocol = Literal["c120-vn+", "c120-sw+", "c82", "c202"]
NAMES = {"id": "c120-vn+", "ood_a": "c120-sw+", "ood_complement": "c82", "ood_full": "c202"}
"""The benchmark's own names of its sets of bands."""


def protocol_bands(name: str) -> np.ndarray:
    """Indices into the 202 EnMAP bands (from 0, in order of wavelength) of a set of the benchmark.

    Parameters
    ----------
    name : str
        "c120-vn+" (80 visible and near-infrared, 40 shortwave: training), "c120-sw+" (40 and 80), "c82" (those that
        training has not seen), "c202" (all); or "id", "ood_a", "ood_complement", "ood_full".

    Returns
    -------
    ndarray of int

    Raises
    ------
    BadSettings

    References
    ----------
    "LESSViT: Robust Hyperspectral Representation Learning under Spectral Configuration Shift", arXiv 2605.18541.
    """
    which = NAMES.get(name.lower(), name.lower())
    if which == "c120-vn+":
        return _spread(80, 40)
    if which == "c120-sw+":
        return _spread(40, 80)
    if which == "c82":
        return np.setdiff1d(np.arange(BANDS), _spread(80, 40))
    if which == "c202":
        return np.arange(BANDS)
    raise BadSettings(f"got band set {name!r}, expected one of c120-vn+, c120-sw+, c82, c202 or {', '.join(NAMES)}")


def _spread(visible: int, shortwave: int) -> np.ndarray:
    first, last = np.linspace(0, _VNIR - 1, visible), np.linspace(_VNIR, BANDS - 1, shortwave)
    return np.concatenate([np.round(first), np.round(last)]).astype(int)  # numpy rounds halves to even


def transfer_sensor(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Centres and widths [nm] of a sensor of the transfer tests.

    Parameters
    ----------
    name : {"prisma_like", "sentinel2_like", "eo1h_like", "desis_like"}
        Evenly spaced, as wide as they are apart: PRISMA 400-2500 nm by 12, EO-1 Hyperion 400-2500 by 10, DESIS 400-1000
        by 2.55; and the bands of Sentinel-2 with their own widths.

    Raises
    ------
    BadSettings
    """
    if name == "sentinel2_like":
        from torchspectral.sensors import get

        sensor = get("sentinel-2a")
        return np.array(sensor.wavelength, dtype=np.float64), np.array(sensor.fwhm, dtype=np.float64)
    ranges = {
        "prisma_like": (400.0, 2500.0, 12.0),
        "eo1h_like": (400.0, 2500.0, 10.0),
        "desis_like": (400.0, 1000.0, 2.55),
    }
    if name not in ranges:
        raise BadSettings(f"got sensor {name!r}, expected one of {', '.join([*ranges, 'sentinel2_like'])}")
    low, high, step = ranges[name]
    centres = low + step * np.arange(int((high - low) / step + 1e-9) + 1)
    return centres, np.full(centres.size, step)


def transfer_matrix(
    source: np.ndarray, centres: np.ndarray, fwhm: np.ndarray, *, least: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian responses of the transfer tests, as the benchmark defines them.

    Not for mapping scenes: `spectra.resample` integrates between bands and says what it does not cover.

    Parameters
    ----------
    source : ndarray (bands,)
        Centres of the input bands [nm].
    centres, fwhm : ndarray (targets,)
        Of the sensor [nm].
    least : float
        Responses below count as 0.

    Returns
    -------
    weights : ndarray (supported targets, bands)
        Rows sum to 1.
    supported : ndarray of int
        Targets that some input band lies in; the others are left out.

    Raises
    ------
    BandMismatch
        No target has an input band.
    """
    source, centres, fwhm = (np.asarray(values, dtype=np.float64) for values in (source, centres, fwhm))
    sigma = fwhm / 2.355
    weights = np.exp(-0.5 * ((source[None] - centres[:, None]) / sigma[:, None]) ** 2)
    weights[weights < least] = 0.0
    supported = np.flatnonzero(weights.sum(1) > 0)
    if supported.size == 0:
        raise BandMismatch(
            f"no band of the sensor ({centres.min():.0f}-{centres.max():.0f} nm) holds an input band "
            f"({source.min():.0f}-{source.max():.0f} nm): choose another sensor"
        )
    weights = weights[supported]
    return weights / weights.sum(1, keepdims=True), supported
