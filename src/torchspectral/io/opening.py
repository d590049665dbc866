"""Opening products: which reader, which errors, and the options that all readers share."""

from __future__ import annotations

import fnmatch
import importlib.util
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml
from pydantic import BaseModel, ConfigDict, Field

from torchspectral.cube import outside_bands, pick_bands
from torchspectral.errors import (
    BadSettings,
    BrokenProduct,
    GridMismatch,
    MissingDependency,
    TooLarge,
    TorchspectralError,
    UnknownName,
    UnknownProduct,
    closest,
)
from torchspectral.io.readers.base import LIBRARY_ERRORS, Reader
from torchspectral.io.safety import existing_path, refuse_unsafe
from torchspectral.log import get_logger

SHARED_OPTIONS = ("bands", "bbox", "window", "wavelength", "wavelength_units")
"""Options of `open_product` that work for every reader."""


class ReaderCard(BaseModel):
    """What is known of a reader without importing it.

    Attributes
    ----------
    name, title : str
    target : str
        ``module:Class``.
    patterns : list of str
        File names it expects.
    evidence : str
        "seen-real" or "miniature-only".
    needs : list of str
        Modules it imports.
    signature : list of str
        First bytes of its files (hex).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    target: str
    title: str
    patterns: list[str]
    evidence: str
    needs: list[str] = Field(default_factory=list)
    signature: list[str] = Field(default_factory=list)


@lru_cache(maxsize=1)
def _cards() -> dict[str, ReaderCard]:
    text = resources.files("torchspectral.io.readers").joinpath("cards.yaml").read_text(encoding="utf-8")
    found = {row["name"]: ReaderCard(**row) for row in yaml.safe_load(text)}
    for entry in metadata.entry_points(group="torchspectral.readers"):
        try:
            cls = entry.load()
            if not (isinstance(cls, type) and issubclass(cls, Reader) and cls.name):
                raise TypeError(f"{entry.value} is no torchspectral.io.Reader with a name")
            if cls.name in found:
                raise ValueError(f"a reader named {cls.name!r} exists already")
            found[cls.name] = ReaderCard(
                name=cls.name,
                target=f"{cls.__module__}:{cls.__qualname__}",
                title=cls.title or cls.name,
                patterns=list(cls.patterns),
                evidence=cls.evidence,
            )
        except Exception as error:  # a broken plugin must not break opening
            get_logger("io").warning("reader plugin %s skipped: %s", entry.name, error)
    return found


def reader_cards() -> list[dict[str, Any]]:
    """Every reader, ours and those of plugins, as plain rows: name, title, patterns, evidence, needs."""
    return [card.model_dump(exclude={"target", "signature"}) for card in _cards().values()]


@lru_cache(maxsize=64)
def _load(name: str) -> Reader | MissingDependency:
    """The reader, or why it cannot be imported."""
    card = _cards()[name]
    module, _, attribute = card.target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)()
    except ImportError as error:
        missing = (error.name or str(error)).split(".")[0]
        return MissingDependency(
            f"the {name} reader needs {missing}, which is not installed: pip install {missing}", name=missing
        )


def get_reader(name: str) -> Reader:
    """A reader by name.

    Raises
    ------
    UnknownName, MissingDependency
    """
    if name not in _cards():
        raise UnknownName(f"no reader {name!r}: {closest(str(name), tuple(_cards()))}")
    found = _load(name)
    if isinstance(found, MissingDependency):
        raise found
    return found


def find_reader(path: str | Path, reader: str | None = None) -> tuple[Reader, Path]:
    """The reader that is surest about a product's content, and the checked path.

    Raises
    ------
    ProductNotFound
        Nothing lies at `path`.
    UnknownProduct
        No reader recognises it; the message lists what was tried.
    UnsafeInput
        It is of a kind that is never opened, see `io.safety.refuse_unsafe`.
    MissingDependency
        The reader that would open it needs a library that is not installed.
    """
    found = existing_path(path)
    if reader is not None:
        return get_reader(reader), found
    best, surest = None, 0.0
    tried: list[str] = []
    for candidate, missing in _candidates(found):
        if candidate is None:
            tried.append(missing)
            continue
        try:
            sure = float(candidate.recognise(found))
        except PermissionError:
            raise BrokenProduct(f"{found} cannot be read: permission denied") from None
        except (TorchspectralError, *LIBRARY_ERRORS) as error:
            get_logger("io").debug("%s could not look at %s: %s", candidate.name, found, error)
            sure = 0.0
        tried.append(candidate.name)
        if sure > surest:
            best, surest = candidate, sure
    if best is not None:
        return best, found
    for card in _cards().values():
        problem = _load(card.name)
        if isinstance(problem, MissingDependency) and _looks_like(card, found):
            raise problem
    refuse_unsafe(found)
    raise UnknownProduct(_unknown(found, tried))


def _candidates(path: Path) -> Iterator[tuple[Reader | None, str]]:
    for name in _cards():
        found = _load(name)
        if isinstance(found, Reader):
            yield found, ""
        else:
            yield None, f"{name} (its library is missing)"


def _looks_like(card: ReaderCard, path: Path) -> bool:
    if any(fnmatch.fnmatch(path.name.lower(), pattern.lower()) for pattern in card.patterns):
        return True
    if not path.is_file() or not card.signature:
        return False
    try:
        with path.open("rb") as file:
            start = file.read(16).hex()
    except OSError:
        return False
    return any(start.startswith(signature) for signature in card.signature)


def _unknown(path: Path, tried: Sequence[str]) -> str:
    what = "folder" if path.is_dir() else "file"
    text = f"no reader recognises the {what} {path.name}: tried {', '.join(tried)}"
    near = [c for c in _cards().values() if _looks_like(c, path)]
    if path.is_file() and path.stat().st_size == 0:
        return f"{text}; the file is empty"
    start = _first_bytes(path)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return (
            f"{text}; it is an HDF5 file ({_inside(path)}), but none of the layouts that are known holds a cube in it"
        )
    if start[:3] == b"CDF":
        return f"{text}; it is a netCDF-3 file: make a netCDF-4 file of it (nccopy -k nc4 {path.name} OUT.nc)"
    if start.startswith(b"\x0e\x03\x13\x01"):
        return f"{text}; it is an HDF4 file, which is not supported: convert it to HDF5 or GeoTIFF"
    if any(c.name == "envi" for c in near):
        return f"{text}; a flat binary file needs its ENVI header {path.stem}.hdr beside it"
    if path.suffix.lower() in (".nc", ".nc4", ".h5", ".hdf5", ".he5"):
        return f"{text}; its name is that of an HDF5 or netCDF file, but it does not start as one"
    if near:
        return f"{text}; its name is that of {near[0].title}, but its content is not"
    return f"{text}; `torchspectral methods io` lists what can be opened"


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        return b""


def _inside(path: Path) -> str:
    """Names at the root of an HDF5 file."""
    from torchspectral.io.safety import open_hdf5

    try:
        with open_hdf5(path) as file:
            names = sorted(file)
    except (TorchspectralError, *LIBRARY_ERRORS):
        return "unreadable"
    more = f", ... ({len(names)})" if len(names) > 8 else ""
    return f"with {', '.join(names[:8])}{more}" if names else "empty"


def is_product(path: str | Path) -> bool:
    """Whether a reader recognises `path` as a product of its own; False for the data file beside an ENVI header."""
    from torchspectral.io.readers.envi.header import find_header

    try:
        reader, found = find_reader(path)
    except TorchspectralError:
        return False
    if reader.name == "envi" and found.suffix.lower() != ".hdr":
        return find_header(found) is None
    return True


def open_product(
    path: str | Path, *, layers: Sequence[str] | str = (), reader: str | None = None, raw: bool = False, **options: Any
) -> xr.DataArray | xr.Dataset:
    """Open a product as a lazy cube; the content decides which reader does it.

    Parameters
    ----------
    path : str or Path
        File, header or folder.
    layers : sequence of str
        Names among `list_layers` to open too; then a Dataset is returned.
    reader : str, optional
        Name of the reader, where the content should not decide.
    raw : bool
        Hand out the stored numbers, with ``attrs["packing"]`` where they stand for a physical quantity.
    bands : optional
        "good", "all", 0-based indices, a slice, or wavelengths [nm] as floats (the nearest bands).
    bbox : (west, south, east, north), optional
        In the scene's CRS (lon/lat for swaths): the smallest window that holds the box.
    window : (row, col, height, width), optional
        In pixels.
    wavelength : sequence of float, optional
        Centres of all bands, where the product does not state them; nm unless `wavelength_units` says otherwise.
    wavelength_units : str, optional
        Units of the product's wavelengths, or of `wavelength`: nm, um or wavenumber.
    **options
        What the reader takes besides: ``quantity``, ``scale``, ``nodata`` for files that do not say what their values
        are, ``key`` (MATLAB, Zarr), ``overlap`` (sensors with two detectors), ...

    Returns
    -------
    DataArray or Dataset
        The cube (see `torchspectral.cube`), or spectra where the file is a library, or layers where our writer saved
        layers. With `layers` a Dataset: ``cube`` and each layer, with dims of its own (``y_pan``, ``x_pan``) where it
        lies on another grid.

    Raises
    ------
    ProductNotFound, UnknownProduct, MissingDependency
        Nothing there; no reader knows it; the reader's library is missing.
    BrokenProduct, UnsafeInput, TooLarge
        Truncated or inconsistent; asks for what hostile files ask for; promises more than is allowed.
    BadSettings, UnknownName, GridMismatch, BandMismatch, MissingMetadata
        An option does not exist or does not fit.
    """
    chosen, found = find_reader(path, reader)
    names = [layers] if isinstance(layers, str) else list(layers)
    own = _split(chosen, options)
    value = _call(chosen, found, lambda: chosen.open(found, raw=raw, **own))
    value = _state_wavelengths(value, chosen, options)
    if names:
        known = _call(chosen, found, lambda: chosen.layers(found))
        for name in names:
            if name not in known:
                raise UnknownName(f"{found.name} has no layer {name!r}: {closest(str(name), known)}")
    cube = _window_of(_bands_of(value, options.get("bands")), options)
    if not names:
        return cube
    from torchspectral.io.layers import combine

    more = {name: value for name, value in own.items() if name in chosen.layer_options}
    opened = {name: _call(chosen, found, lambda n=name: chosen.open_layer(found, n, **more)) for name in names}
    return combine(cube, value, opened)


def list_layers(path: str | Path, *, reader: str | None = None) -> list[str]:
    """Names of what a product has beside its cube (pan, mask, labels, angles, ...), for ``layers=`` of `open_product`.

    Raises
    ------
    ProductNotFound, UnknownProduct, MissingDependency, BrokenProduct
    """
    chosen, found = find_reader(path, reader)
    return list(_call(chosen, found, lambda: chosen.layers(found)))


def _call(reader: Reader, path: Path, work: Any) -> Any:
    """Run a reader; what its library raises on a damaged file becomes `BrokenProduct`."""
    try:
        return work()
    except TorchspectralError:
        raise
    except PermissionError:
        raise BrokenProduct(f"{path} cannot be read: permission denied") from None
    except MemoryError:
        raise TooLarge(f"{path.name} asks for more than the memory that is left") from None
    except LIBRARY_ERRORS as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise BrokenProduct(f"{path.name} cannot be read as {reader.title}: {text}") from error


def _split(reader: Reader, options: dict[str, Any]) -> dict[str, Any]:
    """Options for the reader itself.

    Raises
    ------
    BadSettings
    """
    known = tuple(dict.fromkeys((*reader.options, *SHARED_OPTIONS)))
    for name in options:
        if name not in known:
            raise BadSettings(f"the {reader.name} reader has no option {name!r}: {closest(name, known)}")
    return {name: value for name, value in options.items() if name in reader.options and value is not None}


def _state_wavelengths(value: xr.DataArray, reader: Reader, options: dict[str, Any]) -> xr.DataArray:
    """Wavelengths given by the user, where the reader does not take them itself."""
    given, units = options.get("wavelength"), options.get("wavelength_units")
    if given is not None and "wavelength" not in reader.options:
        from torchspectral.io.readers.wavelengths import given_wavelengths

        nanometres = given_wavelengths(given, value.sizes["band"], units)
        return value.assign_coords(wavelength=("band", nanometres), fwhm=("band", np.full(nanometres.size, np.nan)))
    if units is not None and given is None and "wavelength_units" not in reader.options:
        raise BadSettings(f"wavelength_units={units!r}: {reader.title} states its own units")
    return value


def _bands_of(value: xr.DataArray, bands: Any) -> xr.DataArray:
    if bands is None or (isinstance(bands, str) and bands == "all"):
        return value
    if "band" not in value.dims:
        raise BadSettings(f"got bands={str(bands)[:40]!r}, but the file holds layers: select them by name")
    return pick_bands(value, band_indices(value, bands))


def band_indices(value: xr.DataArray, bands: Any) -> Any:
    """Indices of a choice of bands: "good", "all", indices, a slice, or wavelengths [nm] as floats.

    Raises
    ------
    BadSettings, BandMismatch, MissingMetadata
    """
    count = value.sizes["band"]
    if isinstance(bands, str):
        if bands == "all":
            return slice(None)
        if bands == "good":
            return np.flatnonzero(value["good"].values) if "good" in value.coords else np.arange(count)
        raise BadSettings(f"got bands={bands!r}, expected 'good', 'all', indices from 0, or wavelengths as floats")
    if isinstance(bands, slice):
        indices = np.arange(count)[bands]
    else:
        array = np.atleast_1d(np.asarray(bands))
        if array.dtype.kind == "f" and array.size:
            return _nearest(value, array)
        if array.dtype.kind == "b":
            array = np.flatnonzero(array) if array.size == count else np.array([], dtype=int)
        if array.size and (array.dtype.kind not in "iu" or array.ndim != 1):
            raise BadSettings(f"got bands={str(bands)[:60]}, expected 'good', 'all', indices from 0, or wavelengths")
        indices = array.astype(np.int64)
    if indices.size == 0:
        raise BadSettings(f"bands={str(bands)[:60]} selects none of the {count} bands")
    if problem := outside_bands(indices, count):
        raise BadSettings(problem)
    return indices


def _nearest(value: xr.DataArray, wanted: np.ndarray) -> np.ndarray:
    from torchspectral.errors import BandMismatch, MissingMetadata

    wave = value["wavelength"].values
    if not np.isfinite(wave).any():
        raise MissingMetadata("bands are asked for by wavelength but the product states none: give wavelength=")
    low, high = np.nanmin(wave), np.nanmax(wave)
    outside = wanted[(wanted < low - 20) | (wanted > high + 20) | ~np.isfinite(wanted)]
    if outside.size:
        raise BandMismatch(f"got wavelength {outside[0]:g} nm, the bands lie between {low:g} and {high:g} nm")
    return np.array([int(np.nanargmin(np.abs(wave - w))) for w in wanted])


def _window_of(value: xr.DataArray, options: dict[str, Any]) -> xr.DataArray:
    bbox, window = options.get("bbox"), options.get("window")
    if bbox is None and window is None:
        return value
    if "y" not in value.dims:
        raise GridMismatch("spectra have no pixels: leave out bbox and window")
    if bbox is not None and window is not None:
        raise BadSettings("got both bbox and window, expected one of them")
    from torchspectral.geo import crop
    from torchspectral.geo import window as cut

    if bbox is not None:
        return crop(value, bbox)
    try:
        row, col, height, width = (int(v) for v in window or ())
    except (TypeError, ValueError):
        raise BadSettings(f"got window={str(window)[:60]}, expected row, col, height, width in pixels") from None
    return cut(value, row, col, height, width)
