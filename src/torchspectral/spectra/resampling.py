"""Resampling of cubes and spectra to the bands of another sensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube
from torchspectral.errors import BadCube
from torchspectral.spectra.bands import target_bands
from torchspectral.spectra.lazy import map_pixels
from torchspectral.spectra.matrix import Coverage, apply_matrix, spectral_matrix


@dataclass(frozen=True, eq=False)
class MatrixFunction:
    """`apply_matrix` as a block function that reads only bands with weight."""

    weights: np.ndarray
    min_valid: float = 0.9
    dtype: Any = np.float32

    @property
    def reads(self) -> np.ndarray:
        """Input bands with a weight."""
        used = np.flatnonzero((np.nan_to_num(self.weights) != 0).any(axis=0))
        return used if used.size else np.array([0])

    @property
    def size(self) -> int:
        """Number of target bands."""
        return self.weights.shape[0]

    def take(self, bands: np.ndarray) -> MatrixFunction:
        """Only some of the target bands."""
        return MatrixFunction(self.weights[bands], self.min_valid, self.dtype)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Resampled values, (..., targets, y, x)."""
        return apply_matrix(block, self.weights[:, self.reads], min_valid=self.min_valid)


def resample(
    cube: xr.DataArray, to: Any, *, method: str = "srf", min_coverage: float = 0.9, min_valid: float = 0.9
) -> xr.DataArray:
    """Resample a cube, video or spectra to other bands; a lazy cube stays lazy.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x), (time, band, y, x) or (spectrum, band)
        With coordinate ``wavelength`` [nm]; only bands marked ``good`` are used.
    to : Sensor, str, DataArray, array_like or (array_like, array_like)
        A sensor or its name, a cube or library whose bands to take, wavelengths [nm], or wavelengths and FWHM [nm].
    method : {"srf", "gaussian", "linear"}
        See `spectral_matrix`.
    min_coverage : float
        Least share of a target band's response that good input bands must see, 0..1. Bands below come back NaN with
        ``good`` False.
    min_valid : float
        Least share of a target band's weight that must fall on finite values of a pixel, else NaN.

    Returns
    -------
    DataArray
        float32 (float64 for float64 in memory), with the target's ``wavelength``, ``fwhm``, ``good`` and, as
        coordinate ``coverage``, the share of each band's response that was seen.

    Raises
    ------
    BadCube, MissingMetadata, BandMismatch, BadSettings, UnknownName

    Examples
    --------
    >>> import numpy as np, torchspectral as ts
    >>> cube = ts.make_cube(np.ones((200, 2, 2)), wavelength=np.linspace(400, 2500, 200), quantity="reflectance")
    >>> ts.resample(cube, "sentinel-2a").sizes["band"]
    13
    """
    if isinstance(cube, xr.DataArray) and cube.dims == ("spectrum", "band"):
        return _resample_spectra(cube, to, method, min_coverage, min_valid)
    cube = check_cube(cube)
    target = target_bands(to)
    weights, coverage = spectral_matrix(cube, target, method=method, min_coverage=min_coverage)
    dtype = np.float64 if cube.dtype == np.float64 else np.float32
    variable = map_pixels(cube, MatrixFunction(weights, min_valid, dtype))
    out = xr.DataArray(variable, coords=_coords(cube, coverage), name=cube.name)
    out.attrs = _attrs(cube, to, target, coverage)
    out.encoding = {key: value for key, value in cube.encoding.items() if key == "grid_mapping"}
    return out


def _resample_spectra(
    spectra: xr.DataArray, to: Any, method: str, min_coverage: float, min_valid: float
) -> xr.DataArray:
    if spectra.dtype.kind not in "iuf":
        raise BadCube(f"got spectra of type {spectra.dtype}, expected real numbers")
    target = target_bands(to)
    weights, coverage = spectral_matrix(spectra, target, method=method, min_coverage=min_coverage)
    values = apply_matrix(np.asarray(spectra.values, dtype=np.float64).T[:, :, None], weights, min_valid=min_valid)
    out = xr.DataArray(
        values[:, :, 0].T, dims=("spectrum", "band"), coords=_coords(spectra, coverage), name=spectra.name
    )
    out.attrs = _attrs(spectra, to, target, coverage)
    return out


def _coords(source: xr.DataArray, coverage: Coverage) -> dict[str, Any]:
    coords: dict[str, Any] = {str(name): c for name, c in source.coords.items() if "band" not in c.dims}
    count = coverage.good.size
    coords["wavelength"] = ("band", np.array(coverage.wavelength))
    coords["fwhm"] = ("band", np.array(coverage.fwhm))
    coords["good"] = ("band", coverage.good)
    coords["number"] = ("band", np.arange(1, count + 1))
    coords["detector"] = ("band", np.full(count, "", dtype=np.str_))
    coords["coverage"] = ("band", coverage.share)
    return coords


def _attrs(source: xr.DataArray, to: Any, target: Any, coverage: Coverage) -> dict[str, Any]:
    attrs = {key: value for key, value in source.attrs.items() if key not in ("nodata", "sensor", "platform")}
    if source.attrs.get("sensor"):
        attrs["resampled_from"] = source.attrs["sensor"]
    name = target.name or (to.attrs.get("sensor", "") if isinstance(to, xr.DataArray) else "")
    if name:
        attrs["sensor"] = name
    line = f"resampled {source.sizes['band']} bands to {name or 'given wavelengths'}: {coverage.summary()}"
    attrs["history"] = [*source.attrs.get("history", []), line]
    return attrs
