"""Band facts: what spectral computations need to know of a cube, a library, a sensor or a list of wavelengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube, BandMismatch, MissingMetadata


@dataclass(frozen=True, eq=False)
class Bands:
    """Centres, widths and flags of some bands.

    Attributes
    ----------
    wavelength, fwhm : ndarray, shape (bands,)
        [nm]; NaN where unknown.
    good : ndarray of bool, shape (bands,)
    sensor : Any
        The `torchspectral.sensors.Sensor` that they are of, or None.
    name : str
        For messages and histories.
    """

    wavelength: np.ndarray
    fwhm: np.ndarray
    good: np.ndarray
    sensor: Any = None
    name: str = ""

    @property
    def count(self) -> int:
        """Number of bands."""
        return int(self.wavelength.size)

    @property
    def spacing(self) -> np.ndarray:
        """Distance to the neighbours in wavelength [nm], mean of both sides, shape (bands,); NaN for one band."""
        return local_spacing(self.wavelength)

    @property
    def widths(self) -> np.ndarray:
        """FWHM [nm]; the spacing where it is unknown."""
        return np.where(np.isfinite(self.fwhm) & (self.fwhm > 0), self.fwhm, self.spacing)


def local_spacing(wavelength: np.ndarray) -> np.ndarray:
    """Mean distance of each wavelength to its two neighbours in order of wavelength; NaN where there are none."""
    wavelength = np.asarray(wavelength, dtype=np.float64)
    out = np.full(wavelength.shape, np.nan)
    known = np.flatnonzero(np.isfinite(wavelength))
    unique, inverse = np.unique(wavelength[known], return_inverse=True)
    if unique.size > 1:
        gaps = np.diff(unique)
        both = np.stack([np.append(gaps, np.nan), np.insert(gaps, 0, np.nan)])
        out[known] = np.nanmean(both, axis=0)[inverse]
    return out


def bands_of(value: xr.DataArray | Bands, *, what: str = "cube") -> Bands:
    """Band facts of a cube or of spectra; reads coordinates only.

    Raises
    ------
    BadCube
        No ``band`` dimension.
    MissingMetadata
        No wavelengths.
    """
    if isinstance(value, Bands):
        return value
    if not isinstance(value, xr.DataArray) or "band" not in value.dims:
        got = f"dims {value.dims}" if isinstance(value, xr.DataArray) else type(value).__name__
        raise BadCube(f"got {got} as {what}, expected a DataArray with a dimension 'band'")
    bands = value.sizes["band"]
    wavelength = _coordinate(value, "wavelength", bands)
    if not np.isfinite(wavelength).any():
        raise MissingMetadata(
            f"the {what} has no wavelengths: set them with .assign_coords(wavelength=('band', values in nm))"
        )
    good = np.asarray(value["good"].values, dtype=bool) if "good" in value.coords else np.ones(bands, dtype=bool)
    return Bands(
        wavelength,
        _coordinate(value, "fwhm", bands),
        good & np.isfinite(wavelength),
        name=value.attrs.get("sensor", ""),
    )


def _coordinate(value: xr.DataArray, name: str, bands: int) -> np.ndarray:
    if name not in value.coords:
        return np.full(bands, np.nan)
    return np.asarray(value[name].values, dtype=np.float64).reshape(bands)


def target_bands(to: Any) -> Bands:
    """Bands to resample to.

    Parameters
    ----------
    to : Sensor, str, DataArray, Bands, array_like or (array_like, array_like)
        A sensor or its name, a cube or spectra whose bands to take, wavelengths [nm], or wavelengths and FWHM [nm].

    Raises
    ------
    UnknownName, BadCube, BandMismatch, MissingMetadata
    """
    if isinstance(to, Bands):
        return to
    if isinstance(to, str):
        from torchspectral.sensors import get

        to = get(to)
    if hasattr(to, "response_of") and hasattr(to, "wavelength"):
        return Bands(to.wavelength, to.fwhm, np.ones(to.wavelength.size, dtype=bool), sensor=to, name=to.name)
    if isinstance(to, xr.DataArray):
        bands = bands_of(to, what="target")
        return Bands(bands.wavelength, bands.fwhm, np.ones(bands.count, dtype=bool), name=bands.name)
    wavelength, fwhm = _pair(to)
    if wavelength.ndim != 1 or wavelength.size == 0 or fwhm.shape != wavelength.shape:
        raise BandMismatch(
            f"got target wavelengths of shape {wavelength.shape}, FWHM of shape {fwhm.shape}: expected two equal lists"
        )
    if not np.isfinite(wavelength).all() or wavelength.min() < 100 or wavelength.max() > 100_000:
        raise BandMismatch("target wavelengths must be nanometres between 100 and 100000: convert the units")
    if (fwhm <= 0).any():
        raise BandMismatch(f"got a target FWHM of {np.nanmin(fwhm):g} nm, expected positive widths")
    return Bands(wavelength, fwhm, np.ones(wavelength.size, dtype=bool))


def _pair(to: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        if isinstance(to, tuple) and len(to) == 2 and isinstance(to[0], Sequence | np.ndarray):
            wavelength = np.atleast_1d(np.asarray(to[0], dtype=np.float64))
            fwhm = np.asarray(to[1], dtype=np.float64)
            return wavelength, np.broadcast_to(fwhm, wavelength.shape) if fwhm.ndim == 0 else fwhm
        wavelength = np.atleast_1d(np.asarray(to, dtype=np.float64))
    except (TypeError, ValueError):
        raise BandMismatch(
            f"got {type(to).__name__} as target, expected a sensor, a cube, wavelengths [nm] or (wavelengths, fwhm)"
        ) from None
    return wavelength, np.full(wavelength.shape, np.nan)
