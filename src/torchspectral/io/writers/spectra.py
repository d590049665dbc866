"""Spectra: CSV (a row a band, a column a spectrum) and ENVI spectral libraries."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube
from torchspectral.io.writers.base import tidy
from torchspectral.io.writers.envi import write_library

SUFFIXES = (".sli", ".csv")


def check_spectra(spectra: xr.DataArray) -> None:
    """Refuse what is no set of spectra.

    Raises
    ------
    BadCube
    """
    if spectra.dims != ("spectrum", "band") or 0 in spectra.shape or spectra.dtype.kind not in "iuf":
        raise BadCube(
            f"got spectra of dims {spectra.dims}, shape {spectra.shape} and type {spectra.dtype}, expected numbers "
            "with dims (spectrum, band)"
        )
    if "spectrum" not in spectra.coords:
        raise BadCube("got spectra without names, expected a coordinate 'spectrum': see make_spectra")


def write_spectra(spectra: xr.DataArray, folder: Path, path: Path) -> list[tuple[Path, Path]]:
    """Write into the staging folder by the suffix of `path`."""
    check_spectra(spectra)
    if path.suffix.lower() == ".sli":
        return write_library(spectra, folder, path)
    made = folder / path.name
    write_csv(spectra, made)
    return [(made, path)]


def write_csv(spectra: xr.DataArray, file: Path) -> None:
    """CSV with the columns ``wavelength_nm``, ``fwhm_nm`` and ``good`` where known, then one for each spectrum.

    Numbers are written in full, so that reading them back gives the same values; NaN is an empty field.
    """
    values = np.asarray(spectra.values)
    columns: list[tuple[str, list[str]]] = []
    for name in ("wavelength", "fwhm"):
        if name in spectra.coords and np.isfinite(spectra[name].values).any():
            columns.append((f"{name}_nm", _texts(np.asarray(spectra[name].values))))
    if not columns or columns[0][0] != "wavelength_nm":
        columns.insert(0, ("band", [str(n) for n in range(1, spectra.sizes["band"] + 1)]))
    if "good" in spectra.coords:
        columns.append(("good", ["1" if g else "0" for g in spectra["good"].values]))
    for name, spectrum in zip(spectra["spectrum"].values, values, strict=True):
        columns.append((tidy(name), _texts(spectrum)))
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow([name for name, _ in columns])
        writer.writerows(zip(*(texts for _, texts in columns), strict=True))


def _texts(values: np.ndarray) -> list[str]:
    if values.dtype.kind in "iu":
        return [str(int(v)) for v in values]
    # The shortest text that gives the same number of this type back.
    return ["" if np.isnan(v) else np.format_float_positional(v, unique=True, trim="-") for v in values]
