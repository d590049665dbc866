"""Spectral resampling as a matrix: weights of the input bands in each target band, and how much they cover.

The input spectrum is taken as piecewise linear between the centres of its good bands and integrated with the target
band's response. So constant and linear spectra come out exact whatever the spacing, and a target narrower than the
input's sampling becomes linear interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube, BadSettings, BandMismatch, MissingMetadata
from torchspectral.spectra.bands import Bands, bands_of, target_bands

METHODS = ("srf", "gaussian", "linear")
_POINTS = 401  # of the integration over each response; 1 / 100 of its FWHM
_COARSE = 0.5  # of the input's FWHM: narrower target bands than this are not resolved


@dataclass(frozen=True, eq=False)
class Coverage:
    """How well the good input bands cover each target band.

    Attributes
    ----------
    wavelength, fwhm : ndarray, shape (targets,)
        Of the target bands [nm].
    share : ndarray, shape (targets,)
        Part of the target's response that good input bands see, 0..1.
    good : ndarray of bool, shape (targets,)
        Whether `share` reaches the threshold; other target bands come back NaN.
    resolved : ndarray of bool, shape (targets,)
        False where the target band is less than half as wide as the input band there: the value is a coarser one.
    threshold : float
    method : str
    names : tuple of str
        Names of the target bands, where the target is a sensor.
    """

    wavelength: np.ndarray
    fwhm: np.ndarray
    share: np.ndarray
    good: np.ndarray
    resolved: np.ndarray
    threshold: float
    method: str
    names: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Sentences on what is not covered or not resolved, for reports."""
        coarse = np.count_nonzero(self.good & ~self.resolved)
        bands = "1 target band is" if coarse == 1 else f"{coarse} target bands are"
        note = [f"{bands} narrower than the input resolves: values there are those of coarser bands"]
        return (note if coarse else []) + [
            f"target band {self._label(i)} left empty: good input bands cover {100 * self.share[i]:.0f} % of its "
            f"response, {100 * self.threshold:.0f} % are needed"
            for i in map(int, np.flatnonzero(~self.good))
        ]

    def summary(self) -> str:
        """One line for the whole."""
        missing = np.flatnonzero(~self.good)
        text = f"{self.good.sum()} of {self.good.size} target bands covered (method {self.method})"
        if missing.size:
            shown = ", ".join(self._label(int(i)) for i in missing[:6])
            text += f"; left empty: {shown}{' ...' if missing.size > 6 else ''}"
        coarse = np.count_nonzero(self.good & ~self.resolved)
        text += f"; {coarse} narrower than the input resolves" if coarse else ""
        return text

    def rows(self) -> list[dict[str, Any]]:
        """One row a target band, for tables."""
        return [
            {
                "band": self.names[i] if self.names else str(i + 1),
                "wavelength": float(self.wavelength[i]),
                "fwhm": float(self.fwhm[i]),
                "coverage": float(self.share[i]),
                "good": bool(self.good[i]),
            }
            for i in range(self.good.size)
        ]

    def _label(self, i: int) -> str:
        centre = f"{self.wavelength[i]:.0f} nm"
        return f"{self.names[i]} ({centre})" if self.names else centre


def spectral_matrix(
    source: xr.DataArray | Bands, to: Any, *, method: str = "srf", min_coverage: float = 0.9
) -> tuple[np.ndarray, Coverage]:
    """Weights that turn the bands of `source` into those of `to`.

    Parameters
    ----------
    source : DataArray or Bands
        Cube or spectra (only coordinates are looked at) or band facts. Bands not marked good get weight 0.
    to : Sensor, str, DataArray, Bands, array_like or (array_like, array_like)
        As in `resample`.
    method : {"srf", "gaussian", "linear"}
        "srf": the target sensor's measured or flat-topped response; Gaussian where it has only centre and width.
        "gaussian": Gaussian of the target's centre and FWHM, narrowed in quadrature by the input's own FWHM, so that
        the result has the target's resolution and not a coarser one.
        "linear": interpolation at the target's centres.
    min_coverage : float
        Least share of a target's response that good input bands must see, 0..1; below, the row is NaN.

    Returns
    -------
    weights : ndarray, shape (targets, bands), float64
        Rows sum to 1, or are NaN where the target is not covered.
    coverage : Coverage

    Raises
    ------
    MissingMetadata
        The source has no wavelengths.
    BandMismatch
        The source has no good band, or covers none of the target bands.
    BadSettings
        Unknown method, or `min_coverage` outside (0, 1].

    References
    ----------
    R. Richter, D. Schlaepfer, "Geo-atmospheric processing of airborne imaging spectrometry data. Part 2", Int. J.
    Remote Sensing 23 (2002) 2631-2649, eq. 4 (band values as response-weighted means).
    """
    if method not in METHODS:
        raise BadSettings(f"got method {method!r}, expected one of {', '.join(METHODS)}")
    if not 0 < min_coverage <= 1:
        raise BadSettings(f"got min_coverage={min_coverage!r}, expected a share above 0 and at most 1")
    have, want = bands_of(source), target_bands(to)
    if not np.isfinite(have.wavelength).any():
        raise MissingMetadata("the input has no wavelengths: set them with .assign_coords(wavelength=('band', [nm]))")
    use = np.flatnonzero(have.good & np.isfinite(have.wavelength))
    if use.size == 0:
        raise BandMismatch("the input has no good band with a wavelength: nothing to resample from")
    widths = have.widths
    centres = want.wavelength
    own = _nearest_width(have, use, centres)
    fwhm = np.where(np.isfinite(want.fwhm), want.fwhm, np.where(np.isfinite(want.spacing), want.spacing, own))
    grid, response = _responses(want, fwhm, method)
    covered = _covered(have.wavelength[use], widths[use], fwhm, grid)
    total = response.sum(axis=1)
    share = (response * covered).sum(axis=1) / np.where(total > 0, total, 1.0)
    kernel_grid, kernel = (grid, response) if _shaped(want, method) else _narrowed(centres, fwhm, own, method)
    seen = covered if kernel_grid is grid else _covered(have.wavelength[use], widths[use], fwhm, kernel_grid)
    if method == "linear":
        share = seen[:, 0].astype(np.float64)
    weights = np.zeros((want.count, have.count))
    weights[:, use] = _integrate(have.wavelength[use], kernel_grid, kernel * seen)
    sums = weights.sum(axis=1)
    good = (share >= min_coverage - 1e-9) & (sums > 0)
    if not good.any():
        wave = have.wavelength[use]
        raise BandMismatch(
            f"good input bands ({wave.min():.0f}-{wave.max():.0f} nm) cover none of the {want.count} target bands "
            f"({centres.min():.0f}-{centres.max():.0f} nm) to {100 * min_coverage:.0f} %: "
            "choose another target or min_coverage"
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = np.where(good[:, None], weights / sums[:, None], np.nan)
    names = tuple(getattr(want.sensor, "names", ()))
    resolved = fwhm >= _COARSE * own
    return weights, Coverage(centres, fwhm, share, good, resolved, min_coverage, method, names)


def apply_matrix(block: np.ndarray, weights: np.ndarray, *, min_valid: float = 0.9) -> np.ndarray:
    """Resample a block of pixels.

    Parameters
    ----------
    block : ndarray, shape (..., band, y, x)
        NaN where nodata.
    weights : ndarray, shape (targets, band)
        From `spectral_matrix`; rows of NaN give NaN.
    min_valid : float
        Least share of a row's weight that must fall on finite values of a pixel, else its result is NaN; what is
        missing below that is made up by the other bands.

    Returns
    -------
    ndarray, shape (..., targets, y, x)
        float64 for float64 input, else float32.

    Raises
    ------
    BadCube
        The block has another number of bands than the weights.
    """
    if block.ndim < 3 or block.shape[-3] != weights.shape[1]:
        raise BadCube(f"got a block of shape {block.shape}, expected (..., {weights.shape[1]}, y, x) as the weights")
    dtype = np.float64 if block.dtype == np.float64 else np.float32
    empty = ~np.isfinite(weights).all(axis=1)
    use = np.flatnonzero((np.nan_to_num(weights) != 0).any(axis=0))
    matrix = np.nan_to_num(weights[:, use]).astype(dtype)
    lead, (rows, cols) = block.shape[:-3], block.shape[-2:]
    values = block[..., use, :, :].astype(dtype, copy=False).reshape(*lead, use.size, rows * cols)
    finite = np.isfinite(values)
    if finite.all():
        out = matrix @ values
    else:
        share = matrix @ finite.astype(dtype)
        out = matrix @ np.where(finite, values, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            out = np.where(share >= min_valid, out / share, np.nan).astype(dtype)
    out[..., empty, :] = np.nan
    return out.reshape(*lead, weights.shape[0], rows, cols)


def _nearest_width(have: Bands, use: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """FWHM of the input at the target's centres; 0 where the input says nothing, its spacing counts then."""
    nearest = use[np.abs(have.wavelength[use][None, :] - centres[:, None]).argmin(axis=1)]
    return np.nan_to_num(have.widths[nearest], nan=1.0)


def _shaped(want: Bands, method: str) -> bool:
    return method == "srf" and want.sensor is not None and getattr(want.sensor, "shape", "gaussian") != "gaussian"


def _responses(want: Bands, fwhm: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths and response of each target band, both of shape (targets, points)."""
    steps = np.linspace(-2.0, 2.0, _POINTS)
    if _shaped(want, method):
        edges = np.array([want.sensor.support_of(i) for i in range(want.count)])
        grid = edges[:, :1] + (edges[:, 1:] - edges[:, :1]) * np.linspace(0, 1, _POINTS)
        return grid, np.stack([want.sensor.response_of(i, grid[i]) for i in range(want.count)])
    grid = want.wavelength[:, None] + steps * fwhm[:, None]
    return grid, np.broadcast_to(np.exp2(-((2 * steps) ** 2)), grid.shape)


def _narrowed(centres: np.ndarray, fwhm: np.ndarray, own: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Kernel that brings the input's resolution to the target's: a Gaussian, or a point where that is not possible."""
    if method == "linear":
        return centres[:, None], np.ones((centres.size, 1))
    steps = np.linspace(-2.0, 2.0, _POINTS)
    width = np.sqrt(np.clip(fwhm**2 - own**2, 0.0, None))
    grid = centres[:, None] + steps * width[:, None]
    return grid, np.broadcast_to(np.exp2(-((2 * steps) ** 2)), grid.shape)


def _covered(wavelength: np.ndarray, widths: np.ndarray, fwhm: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Whether some input band sees each wavelength of `grid` (targets, points), bool of the same shape.

    A band sees its own FWHM, and beyond it a quarter of its own or of the target's, whichever is less: so a band covers
    itself at the end of the spectrum, and a broad band does not stand for narrow ones outside of it.
    """
    known = np.nan_to_num(widths, nan=float(np.nanmax(widths)) if np.isfinite(widths).any() else 1.0)
    out = np.zeros(grid.shape, dtype=bool)
    for row, (width, points) in enumerate(zip(fwhm, grid, strict=True)):
        reach = known / 2 + np.minimum(known, width) / 4 + 1e-9
        order = np.argsort(wavelength - reach)
        low, high = (wavelength - reach)[order], np.maximum.accumulate((wavelength + reach)[order])
        at = np.searchsorted(low, points, side="right") - 1
        out[row] = (at >= 0) & (points <= high[np.clip(at, 0, None)])
    return out


def _integrate(wavelength: np.ndarray, grid: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Weights (targets, bands) of the piecewise linear input under each kernel; constant beyond the outermost bands."""
    unique, inverse, counts = np.unique(wavelength, return_inverse=True, return_counts=True)
    out = np.zeros((grid.shape[0], unique.size))
    rows = np.broadcast_to(np.arange(grid.shape[0])[:, None], grid.shape)
    if unique.size == 1:
        out[:, 0] = kernel.sum(axis=1)
    else:
        left = np.clip(np.searchsorted(unique, grid, side="right") - 1, 0, unique.size - 2)
        part = np.clip((grid - unique[left]) / (unique[left + 1] - unique[left]), 0.0, 1.0)
        np.add.at(out, (rows, left), kernel * (1 - part))
        np.add.at(out, (rows, left + 1), kernel * part)
    return out[:, inverse] / counts[inverse]
