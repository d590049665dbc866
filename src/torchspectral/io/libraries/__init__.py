"""Spectral libraries: ENVI ``.sli``, CSV in both orientations, spectrometers' files, and folders of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from torchspectral.errors import BadInput, BrokenProduct, ProductNotFound, UnknownProduct

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".tsv")


def read_library(path: str | Path) -> xr.DataArray:
    """Read spectra.

    Parameters
    ----------
    path : path
        An ENVI spectral library (.sli, or its header); text with commas, semicolons or tabs in either orientation: a
        row a band (first column wavelength, optional columns fwhm and good, then a column a spectrum; what `save`
        writes), or a row a spectrum (wavelengths in the header, other columns about the spectrum, as EcoSIS has it);
        a spectrometer's file (ASD binary, SVC .sig, ECOSTRESS or USGS text, plain columns); or a folder of such
        files, all on the same bands. Lines of CSV that begin with # are comments.

    Returns
    -------
    DataArray, shape (spectrum, band)
        Wavelengths in nm; text that counts in micrometres is converted, which the history says. Spectra from CSV
        are taken as reflectance where no value exceeds 2, else as dn.

    Raises
    ------
    ProductNotFound, BrokenProduct, UnknownProduct
    MissingMetadata
        No wavelengths.
    BadInput
        The files of a folder have different bands.
    """
    file = Path(path)
    if not file.exists():
        raise ProductNotFound(f"{file} does not exist: expected a spectral library (.sli, CSV, ASD, text) or a folder")
    if file.is_dir():
        return _folder(file)
    if file.suffix.lower() in TABLES or (file.suffix.lower() == ".txt" and not _is_spectrum(file)):
        from torchspectral.io.libraries.text import read_table

        return read_table(file)[0]
    from torchspectral.io.opening import open_product

    found = open_product(file)
    if not isinstance(found, xr.DataArray) or found.dims != ("spectrum", "band"):
        raise BrokenProduct(f"{file.name} is no spectral library, expected ENVI .sli, CSV, ASD, SVC or text")
    return found.load()


def read_samples(path: str | Path) -> tuple[xr.DataArray, pd.DataFrame]:
    """Read spectra with what is told about each: EcoSIS tables, or a library with its CSV of attributes.

    Parameters
    ----------
    path : path
        CSV of a row a spectrum with further columns (species, traits, date), or a library ``NAME.sli`` beside a
        ``NAME.csv`` with a row a spectrum.

    Returns
    -------
    spectra : DataArray, shape (spectrum, band)
    table : DataFrame
        A row a spectrum in the same order, indexed by its name; no columns where nothing is told.

    Raises
    ------
    ProductNotFound, BrokenProduct, MissingMetadata
    BrokenProduct
        Also where the table beside a library has another number of rows.
    """
    import pandas as pd

    from torchspectral.io.libraries.text import columns_of, read_table

    file = Path(path)
    if not file.exists():
        raise ProductNotFound(f"{file} does not exist: expected a table of spectra, or a library")
    if file.suffix.lower() in (*TABLES, ".txt"):
        return read_table(file)
    spectra = read_library(file)
    names = pd.Index(spectra["spectrum"].values, name="spectrum")
    beside = file.with_suffix(".csv")
    if not beside.is_file():
        return spectra, pd.DataFrame(index=names)
    table = columns_of(beside)
    if len(table) != len(names):
        raise BrokenProduct(f"{beside.name} has {len(table)} rows, expected {len(names)} as {file.name} has spectra")
    return spectra, table.set_index(names)


def _is_spectrum(file: Path) -> bool:
    from torchspectral.io.readers.field_spectra import FieldSpectraReader

    return FieldSpectraReader().recognise(file) > 0


def _folder(folder: Path) -> xr.DataArray:
    found: list[tuple[str, xr.DataArray]] = []
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or file.is_dir() or file.suffix.lower() == ".hdr":
            continue
        try:
            found.append((file.name, read_library(file)))
        except (UnknownProduct, BrokenProduct) as error:
            if _is_spectrum(file):
                raise BrokenProduct(f"{file.name} cannot be read: {error}") from error
    if not found:
        raise ProductNotFound(f"{folder} holds no spectra: expected .sli, .csv, .asd, .sig or text files")
    first_name, first = found[0]
    for name, spectra in found:
        same = spectra.sizes["band"] == first.sizes["band"] and np.allclose(
            spectra["wavelength"], first["wavelength"], atol=1e-3, equal_nan=True
        )
        if not same or spectra.attrs.get("quantity") != first.attrs.get("quantity"):
            raise BadInput(
                f"{name} has {_told(spectra)} and {first_name} has {_told(first)}, expected the same in a folder: "
                "read them apart and resample them with torchspectral.spectra.resample"
            )
    values = np.concatenate([s.values for _, s in found])
    from torchspectral.cube import make_spectra
    from torchspectral.io.libraries.text import unique

    names = unique([str(n) for _, s in found for n in s["spectrum"].values])
    history = [f"read {len(found)} files of {folder.name}", *first.attrs.get("history", [])[1:]]
    attrs = {**first.attrs, "source": [str(folder)], "history": history}
    return make_spectra(values, names, wavelength=first["wavelength"].values, fwhm=first["fwhm"].values, attrs=attrs)


def _told(spectra: xr.DataArray) -> str:
    wave = spectra["wavelength"].values
    return f"{wave.size} bands of {spectra.attrs.get('quantity')} from {np.nanmin(wave):g} to {np.nanmax(wave):g} nm"
