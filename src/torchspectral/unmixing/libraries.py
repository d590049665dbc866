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
    """The library at the cube's wavelengths; as it is where no resampling is asked for.

    Raises
    ------
    BadSettings, MissingMetadata, BandMismatch
    """
    if resampling is None:
        return library
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
