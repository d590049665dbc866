"""Spectral indices of cubes, videos and spectra, by wavelength."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube, make_layers
from torchspectral.errors import BadCube, BandMismatch, UnknownName, closest
from torchspectral.spectra.bands import Bands, bands_of
from torchspectral.spectra.index_table import INDICES, Index
from torchspectral.spectra.lazy import map_pixels


def list_indices() -> list[Index]:
    """All indices of the table."""
    return list(INDICES)


def find_index(name: str) -> Index:
    """Index by name; case does not matter.

    Raises
    ------
    UnknownName
        No such index; the message has the closest names.
    """
    for index in INDICES:
        if index.name == str(name).upper():
            return index
    raise UnknownName(f"no spectral index {str(name)!r}: {closest(str(name).upper(), [i.name for i in INDICES])}")


@dataclass(frozen=True, eq=False)
class IndexFunction:
    """An index as a block function of the bands that it needs."""

    names: tuple[str, ...]
    bands: tuple[tuple[int, ...], ...]
    dtype: Any = np.float32

    @property
    def reads(self) -> np.ndarray:
        """Input bands of all indices."""
        return np.unique(np.concatenate([np.asarray(b) for b in self.bands]))

    @property
    def size(self) -> int:
        """Number of indices."""
        return len(self.names)

    def take(self, bands: np.ndarray) -> IndexFunction:
        """Only some of the indices."""
        return replace(self, names=tuple(self.names[i] for i in bands), bands=tuple(self.bands[i] for i in bands))

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Index values, (..., indices, y, x); NaN where the formula divides by zero or meets nodata."""
        where = {int(band): position for position, band in enumerate(self.reads)}
        out = np.empty((*block.shape[:-3], self.size, *block.shape[-2:]), dtype=self.dtype)
        with np.errstate(all="ignore"):
            for position, (name, bands) in enumerate(zip(self.names, self.bands, strict=True)):
                values = find_index(name).compute(*(block[..., where[b], :, :].astype(np.float64) for b in bands))
                out[..., position, :, :] = np.where(np.isfinite(values), values, np.nan)
        return out


def spectral_index(cube: xr.DataArray, *names: str, tolerance: float | None = None) -> xr.DataArray:
    """Compute spectral indices; only the bands that they need are read, a lazy cube stays lazy.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x) or (spectrum, band)
        Reflectance (0..1) for formulas with constants; ratios also take other quantities.
    *names : str
        As in `list_indices`; case does not matter.
    tolerance : float, optional
        How far a band's centre may lie from the index's wavelength [nm], instead of the index's own.

    Returns
    -------
    DataArray, dims (layer, y, x), or (layer, spectrum) for spectra
        float32, one layer an index; ``attrs["bands"]`` says which band centres [nm] were taken.

    Raises
    ------
    UnknownName
        No such index, or none named.
    BandMismatch
        No good band is near enough to one of the wavelengths.
    BadCube
        The formula needs reflectance and the cube is something else.
    """
    if not names:
        raise UnknownName(f"no spectral index named: give one or more of {', '.join(i.name for i in INDICES)}")
    if isinstance(cube, xr.DataArray) and cube.dims == ("spectrum", "band"):
        quantity = cube.attrs.get("quantity", "reflectance")
        function, taken = _function(bands_of(cube), names, tolerance, quantity)
        block = cube.values.T[function.reads][:, :, None]
        out = xr.DataArray(
            function(block)[:, :, 0],
            dims=("layer", "spectrum"),
            coords={"layer": list(function.names), "spectrum": cube["spectrum"].values},
            name="indices",
        )
        out.attrs["bands"] = taken
        return out
    cube = check_cube(cube)
    if "time" in cube.dims:
        raise BadCube("got a video, expected a cube (band, y, x): take one frame with .isel(time=n)")
    function, taken = _function(bands_of(cube), names, tolerance, cube.attrs["quantity"])
    values = map_pixels(cube, function)
    layers = xr.Variable(("layer", "y", "x"), values._data)
    attrs = {
        "bands": taken,
        "units": ", ".join(find_index(n).unit for n in function.names),
        "history": [*cube.attrs.get("history", []), f"spectral indices {', '.join(function.names)}"],
    }
    attrs |= {key: cube.attrs[key] for key in ("sensor", "acquired", "source") if key in cube.attrs}
    return make_layers(layers, function.names, like=cube, attrs=attrs, name="indices")


def _function(
    bands: Bands, names: tuple[str, ...], tolerance: float | None, quantity: str
) -> tuple[IndexFunction, dict[str, dict[str, float]]]:
    chosen, taken = [], {}
    for name in names:
        index = find_index(name)
        if index.reflectance and quantity != "reflectance":
            raise BadCube(f"{index.name} has constants for reflectance (0..1), got {quantity}: convert the cube first")
        picks = [_nearest(bands, index, symbol, nm, tolerance) for symbol, nm in index.bands.items()]
        chosen.append((index.name, tuple(picks)))
        taken[index.name] = {s: float(bands.wavelength[i]) for s, i in zip(index.bands, picks, strict=True)}
    return IndexFunction(tuple(n for n, _ in chosen), tuple(b for _, b in chosen)), taken


def _nearest(bands: Bands, index: Index, symbol: str, nm: float, tolerance: float | None) -> int:
    """Good band nearest to a wavelength."""
    good = np.flatnonzero(bands.good)
    if good.size == 0:
        raise BandMismatch(f"{index.name} needs a band at {nm:g} nm, the input has no good band")
    best = int(good[np.abs(bands.wavelength[good] - nm).argmin()])
    distance = abs(float(bands.wavelength[best]) - nm)
    width = float(bands.fwhm[best]) if np.isfinite(bands.fwhm[best]) else 0.0
    allowed = tolerance if tolerance is not None else max(index.tolerance, width / 2)
    if distance > allowed:
        raise BandMismatch(
            f"{index.name} needs a band at {nm:g} nm ({symbol}), the nearest good one lies at "
            f"{bands.wavelength[best]:.1f} nm, {distance:.1f} nm away with "
            f"{allowed:g} nm allowed: give tolerance= if that is near enough"
        )
    return best
