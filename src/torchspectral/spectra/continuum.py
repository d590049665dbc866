"""Continuum removal and absorption features of cubes and spectra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube, make_layers, with_history
from torchspectral.errors import BadCube, BadSettings, BandMismatch
from torchspectral.spectra.bands import bands_of
from torchspectral.spectra.hull import upper_hull
from torchspectral.spectra.lazy import map_pixels

MODES = ("divide", "subtract", "continuum")
FEATURES = ("depth", "position", "area")
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class ContinuumFunction:
    """Continuum removal as a block function; `order` lists the used bands by ascending wavelength."""

    wavelength: np.ndarray
    order: np.ndarray
    bands: int
    mode: str
    keep: np.ndarray
    dtype: Any = np.float32

    @property
    def reads(self) -> np.ndarray:
        """Bands under the hull."""
        return self.order

    @property
    def size(self) -> int:
        """Bands of the result."""
        return self.keep.size

    def take(self, bands: np.ndarray) -> ContinuumFunction:
        """Only some of the result's bands; the hull still needs all."""
        return ContinuumFunction(self.wavelength, self.order, self.bands, self.mode, self.keep[bands], self.dtype)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Values (..., band, y, x), NaN at bands that were not used."""
        spectra = _as_rows(block)
        out = np.full((spectra.shape[0], self.bands), np.nan)
        for top in range(0, spectra.shape[0], _ROWS_AT_ONCE):
            rows = spectra[top : top + _ROWS_AT_ONCE]
            out[top : top + _ROWS_AT_ONCE, self.order] = _removed(self.wavelength, rows, self.mode)
        return _from_rows(out[:, self.keep], block.shape).astype(self.dtype)


@dataclass(frozen=True, eq=False)
class FeatureFunction:
    """Depth, position and area of the deepest absorption as a block function."""

    wavelength: np.ndarray
    order: np.ndarray
    keep: tuple[str, ...] = FEATURES
    dtype: Any = np.float32

    @property
    def reads(self) -> np.ndarray:
        """Bands of the window."""
        return self.order

    @property
    def size(self) -> int:
        """Number of features."""
        return len(self.keep)

    def take(self, bands: np.ndarray) -> FeatureFunction:
        """Only some of the features."""
        return FeatureFunction(self.wavelength, self.order, tuple(self.keep[i] for i in bands), self.dtype)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Values (..., feature, y, x)."""
        spectra = _as_rows(block)
        out = np.full((spectra.shape[0], len(self.keep)), np.nan)
        for top in range(0, spectra.shape[0], _ROWS_AT_ONCE):
            depth = 1 - _removed(self.wavelength, spectra[top : top + _ROWS_AT_ONCE], "divide")
            known = np.isfinite(depth).any(axis=1)
            filled = np.where(np.isfinite(depth), depth, -np.inf)
            area = np.trapezoid(np.nan_to_num(depth), self.wavelength, axis=1)
            values = {"depth": filled.max(axis=1), "position": self.wavelength[filled.argmax(axis=1)], "area": area}
            for i, name in enumerate(self.keep):
                out[top : top + _ROWS_AT_ONCE, i] = np.where(known, values[name], np.nan)
        return _from_rows(out, block.shape).astype(self.dtype)


def remove_continuum(
    cube: xr.DataArray, *, low: float | None = None, high: float | None = None, mode: str = "divide"
) -> xr.DataArray:
    """Remove the continuum, the upper convex hull of each spectrum; a lazy cube stays lazy.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x), (time, band, y, x) or (spectrum, band)
        Only bands marked good are used; missing values of single pixels are left out of their hull.
    low, high : float, optional
        Wavelengths between which to work [nm]; other bands come back NaN. All by default.
    mode : {"divide", "subtract", "continuum"}
        spectrum / hull (1 where the spectrum touches its hull; NaN where the hull is not positive), spectrum - hull,
        or the hull itself.

    Returns
    -------
    DataArray
        float32, bands as the input.

    Raises
    ------
    BadSettings
        Unknown mode or `low` not below `high`.
    BandMismatch
        Fewer than three good bands in the range.
    """
    if mode not in MODES:
        raise BadSettings(f"got mode {mode!r}, expected one of {', '.join(MODES)}")
    is_spectra = isinstance(cube, xr.DataArray) and cube.dims == ("spectrum", "band")
    cube = cube if is_spectra else check_cube(cube)
    wavelength, order = _window(cube, low, high)
    bands = cube.sizes["band"]
    function = ContinuumFunction(wavelength, order, bands, mode, np.arange(bands))
    line = f"continuum removed ({mode}) between {wavelength[0]:.0f} and {wavelength[-1]:.0f} nm"
    if is_spectra:
        values = function(cube.values.T[order][:, :, None])[:, :, 0].T
        return with_history(cube.copy(data=values), line)
    out = xr.DataArray(map_pixels(cube, function), coords=cube.coords, name=cube.name, attrs=cube.attrs)
    used = np.zeros(bands, dtype=bool)
    used[order] = True
    out = with_history(out.assign_coords(good=("band", used)), line)
    out.attrs.pop("nodata", None)
    return out


def absorption(cube: xr.DataArray, low: float, high: float) -> xr.DataArray:
    """Depth, position and area of the absorption feature between two wavelengths, under the local continuum.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
    low, high : float
        Shoulders of the feature [nm].

    Returns
    -------
    DataArray, dims (layer, y, x)
        "depth" (1 - spectrum / hull at its deepest, 0..1), "position" [nm] of that band, "area" [nm] of the depth.

    Raises
    ------
    BadCube, BadSettings, BandMismatch
    """
    cube = check_cube(cube)
    if "time" in cube.dims:
        raise BadCube("got a video, expected a cube (band, y, x): take one frame with .isel(time=n)")
    wavelength, order = _window(cube, low, high)
    values = map_pixels(cube, FeatureFunction(wavelength, order))
    line = f"absorption feature between {low:g} and {high:g} nm"
    attrs = {"units": "1, nm, nm", "history": [*cube.attrs.get("history", []), line]}
    return make_layers(
        xr.Variable(("layer", "y", "x"), values._data), FEATURES, like=cube, attrs=attrs, name="absorption"
    )


def _window(cube: xr.DataArray, low: float | None, high: float | None) -> tuple[np.ndarray, np.ndarray]:
    bands = bands_of(cube)
    first, last = -np.inf if low is None else low, np.inf if high is None else high
    if not first < last:
        raise BadSettings(f"got low={low} and high={high} nm, expected low below high")
    inside = np.flatnonzero(bands.good & (bands.wavelength >= first) & (bands.wavelength <= last))
    order = inside[np.argsort(bands.wavelength[inside], kind="stable")]
    if order.size < 3:
        raise BandMismatch(
            f"got {order.size} good bands between {first:g} and {last:g} nm, a continuum needs three or more"
        )
    return bands.wavelength[order], order


def _removed(wavelength: np.ndarray, spectra: np.ndarray, mode: str) -> np.ndarray:
    hull = upper_hull(wavelength, spectra)
    if mode == "continuum":
        return hull
    if mode == "subtract":
        return spectra - hull
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(hull > 0, spectra / hull, np.nan)


def _as_rows(block: np.ndarray) -> np.ndarray:
    return np.moveaxis(block, -3, -1).reshape(-1, block.shape[-3]).astype(np.float64)


def _from_rows(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.moveaxis(rows.reshape(*shape[:-3], *shape[-2:], rows.shape[1]), -1, -3)
