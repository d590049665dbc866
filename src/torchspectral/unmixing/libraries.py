"""A library on the bands of a scene: resampled where asked for, its gaps found before anything is cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from torchspectral.cube import good_bands
from torchspectral.errors import BadInput, BadSettings, BandMismatch, UnknownName, closest

Resampling = Literal["srf", "gaussian", "linear"]

LARGEST_REFLECTANCE = 1.5
"""Spectra that reach more are not reflectance from 0 to 1."""

APART = 10.0
"""Library and scene this many times apart do not have one unit."""

LOOK = 16
"""Half a side of the window of the scene that is looked at [pixel]."""


def check_library(library: Any) -> xr.DataArray:
    """Return a library if it is spectra with finite values.

    Raises
    ------
    BadInput
        Not spectra, empty, or a spectrum without any finite value.
    """
    if not isinstance(library, xr.DataArray) or library.dims != ("spectrum", "band"):
        got = getattr(library, "dims", type(library).__name__)
        raise BadInput(f"got {got} as library, expected a DataArray with dims (spectrum, band): see make_spectra")
    if 0 in library.shape:
        raise BadInput(f"got a library of shape {library.shape}, expected at least one spectrum and one band")
    empty = ~np.isfinite(np.asarray(library.values, dtype=np.float64)).any(axis=1)
    if empty.any():
        names = ", ".join(str(n) for n in np.asarray(library["spectrum"])[empty][:3])
        raise BadInput(f"{int(empty.sum())} spectra of the library have no values ({names}): drop them")
    return library


def on_bands(library: xr.DataArray, cube: xr.DataArray, resampling: Resampling | None) -> xr.DataArray:
    """The library at the cube's wavelengths; only put in the cube's order where no resampling is asked for.

    Raises
    ------
    BadSettings, MissingMetadata, BandMismatch
    """
    if resampling is None:
        return _in_order(library, cube)
    if resampling not in ("srf", "gaussian", "linear"):
        raise BadSettings(f"got resampling={resampling!r}, expected srf, gaussian or linear")
    from torchspectral.spectra import resample

    # Grating halves that overlap make wavelengths go back and forth, as in AVIRIS libraries.
    order = np.argsort(library["wavelength"].values, kind="stable")
    made = resample(library.isel(band=order), cube, method=resampling)
    return made.assign_coords({n: c for n, c in library.coords.items() if c.dims == ("spectrum",)})


def lies_on(library: xr.DataArray, cube: xr.DataArray) -> bool:
    """Whether the library has the cube's bands (to half a band)."""
    if library.sizes["band"] != cube.sizes["band"]:
        return library.sizes["band"] == good_bands(cube).size
    one, other = library["wavelength"].values, cube["wavelength"].values
    if not (np.isfinite(one).all() and np.isfinite(other).all()) or len(one) < 2:
        return True
    return float(np.abs(one - other).max()) <= max(0.5 * float(np.median(np.abs(np.diff(other)))), 0.5)


def _in_order(library: xr.DataArray, cube: xr.DataArray) -> xr.DataArray:
    """The library with its bands in the cube's order.

    Raises
    ------
    BandMismatch
        As many bands, but others.
    """
    one, other = (np.asarray(a["wavelength"].values, dtype=np.float64) for a in (library, cube))
    if one.size != other.size or lies_on(library, cube):
        return library
    order = np.empty(one.size, dtype=int)
    order[np.argsort(other, kind="stable")] = np.argsort(one, kind="stable")
    sorted_ = library.isel(band=order)
    if not lies_on(sorted_, cube):
        raise BandMismatch(
            f"library lies up to {np.abs(one - other).max():.1f} nm off the scene's bands, expected at most half a band: "
            "bring it to them with resampling='srf' (--resample-library srf)"
        )
    return sorted_


def check_units(library: xr.DataArray, cube: xr.DataArray) -> None:
    """Refuse a library in percent or scaled integers for reflectance, and one of reflectance for larger numbers.

    What the file calls its values is not believed: DN that were taken for reflectance are still DN. One window in the
    middle of the scene is read to be sure.

    Raises
    ------
    BadInput
    """
    quantity = cube.attrs.get("quantity")
    top = float(np.nanmedian(np.nanmax(np.abs(np.asarray(library.values, dtype=np.float64)), axis=1)))
    if quantity == "radiance" or top <= 0:
        return
    middle = tuple(slice(max(n // 2 - LOOK, 0), n // 2 + LOOK) for n in cube.shape[1:])
    pixels = np.abs(np.asarray(cube[(slice(None), *middle)].values, dtype=np.float64))
    pixels = pixels[np.isfinite(pixels)]
    typical = float(np.quantile(pixels, 0.9)) if pixels.size else 0.0
    low, high = sorted((top, typical))
    if not (0 < low <= LARGEST_REFLECTANCE < high and high > APART * low):
        return
    raise BadInput(
        f"the library's spectra reach {top:.4g} (median) and the scene, {quantity}, about {typical:.4g}: expected one unit; "
        "divide one of them, or set a normalisation where the method has one"
    )


def below_zero(spectra: xr.DataArray | None) -> list[str]:
    """One sentence about endmembers with values below zero, none where there are none."""
    if spectra is None:
        return []
    count = (np.asarray(spectra.values) < 0).sum(1)
    names = [f"{name} ({n})" for name, n in zip(spectra["spectrum"].values, count, strict=True) if n]
    if not names:
        return []
    said = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return [f"{int(count.sum())} values of the endmembers are below zero: {said}"]


def chosen_bands(cube: xr.DataArray, bands: Any, ignore: Sequence[tuple[float, float]]) -> np.ndarray:
    """Bands that will be used: those asked for, less those in ignored regions [nm]."""
    if isinstance(bands, str):
        chosen = good_bands(cube) if bands == "good" else np.arange(cube.sizes["band"])
    else:
        chosen = np.asarray(list(bands))
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
    wavelength = np.asarray(cube["wavelength"].values, dtype=np.float64)
    for first, last in ignore:
        chosen = chosen[~((wavelength[chosen] >= first) & (wavelength[chosen] <= last))]
    if not chosen.size:
        raise BandMismatch("no band is left outside the ignored regions, expected at least 2: ignore less")
    return chosen


def check_coverage(library: xr.DataArray, cube: xr.DataArray, chosen: np.ndarray, *, drop: bool) -> np.ndarray:
    """The chosen bands that all spectra cover.

    Raises
    ------
    BandMismatch
        Bands that no spectrum covers, and `drop` was not asked for or nothing would be left.
    BadInput
        Some spectra have holes.
    """
    if library.sizes["band"] != cube.sizes["band"]:
        return chosen
    missing = ~np.isfinite(np.asarray(library.values, dtype=np.float64)[:, chosen]).all(0)
    if not missing.any():
        return chosen
    wavelength = np.asarray(cube["wavelength"].values, dtype=np.float64)
    lost = chosen[missing]
    if drop and not missing.all():
        return chosen[~missing]
    holes = ", ".join(
        f"{wavelength[part[0]]:.0f}-{wavelength[part[-1]]:.0f}"
        for part in np.split(lost, np.flatnonzero(np.diff(lost) != 1) + 1)[:4]
    )
    everywhere = not np.isfinite(np.asarray(library.values, dtype=np.float64)[:, lost]).any()
    raise (BandMismatch if everywhere else BadInput)(
        f"the library has missing values in {lost.size} of the {chosen.size} bands that are used ({holes} nm): leave "
        "those bands out with uncovered='drop' (--drop-uncovered) or bands=, or drop the spectra that lack them"
    )


def as_regions(value: Any) -> list[tuple[float, float]]:
    """Regions from a flat list 0,440,1310,1490 or from pairs.

    Raises
    ------
    BadSettings
    """
    flat = [float(v) for part in value for v in (part if isinstance(part, (list, tuple)) else [part])]
    if len(flat) % 2:
        raise BadSettings(f"got {len(flat)} wavelengths as regions, expected pairs: 0,440,1310,1490")
    return list(zip(flat[::2], flat[1::2], strict=True))


def parse_regions(text: str | None) -> list[tuple[float, float]]:
    """Regions of a command line, "0,440,1310,1490" or "0-440,1310-1490".

    Raises
    ------
    BadSettings
    """
    if not text:
        return []
    try:
        return as_regions([float(part) for part in text.replace("-", ",").split(",")])
    except ValueError:
        raise BadSettings(f"cannot read the regions {text!r}, expected nm such as 0,440,1310,1490") from None


def with_classes(path: Path, column: str | None) -> xr.DataArray:
    """A library, with the classes that a column of its table names.

    Raises
    ------
    UnknownName
        No such column.
    """
    from torchspectral.io.libraries import read_library, read_samples

    if column is None:
        return read_library(path)
    spectra, table = read_samples(path)
    if column not in table.columns:
        raise UnknownName(f"{path.name} has no column {column!r}: {closest(column, [str(c) for c in table.columns])}")
    return spectra.assign_coords({"class": ("spectrum", [str(c) for c in table[column]])})
