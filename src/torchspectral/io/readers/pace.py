"""PACE OCI L1B (reflectance at the top of the atmosphere) and L2 (Rrs, surface reflectance), netCDF-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadSettings, BandMismatch, BrokenProduct, MissingMetadata, UnknownName, closest
from torchspectral.io.readers.base import Reader, as_cube, as_layer
from torchspectral.io.readers.detectors import bands_by_overlap
from torchspectral.io.readers.facts import band_facts
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.hdf5 import (
    FlagArray,
    Hdf5Array,
    as_layers,
    is_hdf5,
    is_numeric,
    open_file,
    text_attribute,
    vector,
)
from torchspectral.io.readers.netcdf import Ground, NetcdfFile

OVERLAPS = ("wavelength", "detector", "blue", "red")
DETECTORS = ("blue", "red", "SWIR")
_DATA, _PARAMETERS = "observation_data", "sensor_band_parameters"
_L2, _PLACES = "geophysical_data", {"L1B": "geolocation_data", "L2": "navigation_data"}
_CUBES = ("Rrs", "rhos", "rhot", "Rrs_unc", "rhos_unc")
_NAMES = {"height": "elevation", "solar_azimuth": "sun_azimuth", "solar_zenith": "sun_zenith"}
# Flags of Level 2 that the common vocabulary knows, by their names in flag_meanings.
_FLAGS = {"cloud": "CLDICE", "saturated": "HILT"}


class PaceProduct:
    """An open file: its level, its data, and where its pixels lie.

    Raises
    ------
    BrokenProduct
        Neither L1B nor L2 of OCI.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nc = NetcdfFile(path)
        self.level = level_of(self.nc.file)
        if not self.level:
            raise BrokenProduct(
                f"{path.name} has neither {_DATA}/rhot_blue (L1B) nor {_L2} with Rrs over wavelength_3d (L2); its groups "
                f"are {', '.join(list(self.nc.file)[:10]) or 'none'}"
            )

    def vector(self, name: str) -> np.ndarray | None:
        """A vector of band facts; None where it is absent."""
        item = self.nc.file.get(f"{_PARAMETERS}/{name}")
        return None if item is None else vector(item, self.path)

    def ground(self, shape: tuple[int, int]) -> Ground:
        """Longitudes and latitudes of the pixels."""
        group = _PLACES[self.level]
        places = [f"{group}/{name}" for name in ("longitude", "latitude")]
        if all(p in self.nc.variables and self.nc.file[p].shape == shape for p in places):
            return Ground(lon=places[0], lat=places[1])
        return Ground(notes=(f"no {group}/longitude and latitude of {shape} pixels: the pixels are placed nowhere",))

    def planes(self) -> dict[str, str]:
        """2-D variables beside the data: name -> place."""
        group = _PLACES[self.level]
        folders = (group,) if self.level == "L1B" else (group, _L2)
        found = {}
        for place, item in self.nc.variables.items():
            folder, _, last = place.rpartition("/")
            if folder in folders and item.ndim == 2 and last not in ("longitude", "latitude"):
                found[_NAMES.get(last, last)] = place
        return found


class PaceReader(Reader):
    """Reader of PACE OCI."""

    name = "pace"
    title = "PACE OCI L1B and L2 (AOP, SFREFL)"
    patterns = ("PACE_OCI*.L1B*.nc", "PACE_OCI*.L2*.nc")
    options = ("overlap", "key")
    layer_options = options
    evidence = "miniature-only"

    def recognise(self, path: Path) -> float:
        """By the groups and variables."""
        if not is_hdf5(path):
            return 0.0
        return 0.95 if level_of(Handle(open_file, path).get()) else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open reflectance at the top of the atmosphere (L1B), or Rrs [sr-1] or surface reflectance (L2), as a swath.

        Parameters
        ----------
        overlap : {"wavelength", "detector", "blue", "red"}
            L1B: all bands of the blue, red and SWIR detectors sorted by wavelength (default); all, detector after
            detector; all of blue and the red bands beyond its last; all of red and the blue bands before its first.
        key : str
            L2: the cube, where the file has several (Rrs, rhos, Rrs_unc).

        Raises
        ------
        BrokenProduct, MissingMetadata, BandMismatch, BadSettings, UnknownName
        """
        product = PaceProduct(path)
        if product.level == "L1B":
            if options.get("key") is not None:
                raise BadSettings(f"got key={options['key']!r}: only L2 files have several cubes")
            return _level1(product, raw, _overlap(options))
        if "overlap" in options:
            raise BadSettings(f"got overlap={options['overlap']!r}: the bands of {path.name} (L2) do not overlap")
        return _level2(product, raw, options.get("key"))

    def layers(self, path: Path) -> list[str]:
        """Angles, height and flags; ``cloud`` and ``saturated`` of L2, ``water`` of L1B, from the flags that say so."""
        product = PaceProduct(path)
        return sorted({*product.planes(), *_flags(product), *_qualities(product)})

    def open_layer(self, path: Path, name: str, **options: Any) -> xr.DataArray:
        """One of them, (y, x); ``quality`` of L1B is (layer, y, x), in the order of the cube's bands."""
        product = PaceProduct(path)
        known = product.planes()
        flags = _flags(product)
        if name in flags:
            place, bits = flags[name]
            source = product.nc.plane(place, (0, 1))
            value = as_layer(FlagArray(source, bits=bits), name)
            return product.nc.place(value, product.ground(value.shape))  # type: ignore[arg-type]
        if name == "quality" and _qualities(product):
            array, numbers, _ = _stack(product, "qual", _overlap(options))
            array.decode = False
            value = as_layers(array, [str(n) for n in numbers], name)
            return product.nc.place(value, product.ground(array.shape[1:]))  # type: ignore[arg-type]
        if name not in known:
            names = sorted({*known, *flags, *_qualities(product)})
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, names)}")
        from torchspectral.io.readers.cf_netcdf.cubes import Candidate
        from torchspectral.io.readers.cf_netcdf.reader import open_plane

        value = open_plane(product.nc, Candidate(name, (known[name],), (-1, 0, 1)), name)
        return product.nc.place(value, product.ground(value.shape))  # type: ignore[arg-type]


def level_of(file: Any) -> str:
    """L1B, L2 or "" where an open file is neither."""
    if any(is_numeric(file.get(f"{_DATA}/rhot_{name}")) for name in DETECTORS):
        return "L1B"
    if is_numeric(file.get(f"{_PARAMETERS}/wavelength_3d")) and any(
        is_numeric(file.get(f"{_L2}/{name}")) for name in _CUBES
    ):
        return "L2"
    return ""


def _overlap(options: dict[str, Any]) -> str:
    overlap = options.get("overlap", "wavelength")
    if overlap not in OVERLAPS:
        raise BadSettings(f"got overlap={overlap!r}, expected one of {', '.join(OVERLAPS)}")
    return str(overlap)


def _order(wavelength: np.ndarray, detector: np.ndarray, overlap: str) -> tuple[np.ndarray, str]:
    """Bands to take; only blue and red overlap, SWIR bands come last unless all are sorted."""
    if overlap == "wavelength":
        return bands_by_overlap(wavelength, list(detector), overlap)
    pair = np.flatnonzero(detector != "SWIR")
    names = np.where(detector[pair] == "blue", "vnir", "swir")
    rule = {"blue": "vnir", "red": "swir"}.get(overlap, overlap)
    chosen, _ = bands_by_overlap(wavelength[pair], list(names), rule)
    dropped = pair.size - chosen.size
    other = {"blue": "red", "red": "blue"}.get(overlap)
    note = (
        "bands of blue, red and SWIR in turn" if other is None else f"{dropped} {other} bands inside {overlap} left out"
    )
    return np.concatenate([pair[chosen], np.flatnonzero(detector == "SWIR")]), note


def _stack(product: PaceProduct, prefix: str, overlap: str) -> tuple[Hdf5Array, np.ndarray, dict[str, Any]]:
    """Bands of the three detectors as one array, their numbers (blue, red, SWIR counted on), and their facts.

    Raises
    ------
    MissingMetadata, BandMismatch, BrokenProduct
    """
    places: list[str] = []
    detector: list[str] = []
    where: list[tuple[int, int]] = []
    wave: list[np.ndarray] = []
    axes: tuple[int, int, int] | None = None
    widths: list[np.ndarray] = []
    for name in DETECTORS:
        place = f"{_DATA}/{prefix}_{name}"
        if place not in product.nc.variables:
            continue
        centres = product.vector(f"{name}_wavelength")
        if centres is None:
            raise MissingMetadata(
                f"{product.path.name} has no {_PARAMETERS}/{name}_wavelength, the centres of its bands"
            )
        here = _band_axis(product, place, centres.size)
        if axes is not None and here != axes:
            raise BrokenProduct(f"{product.path.name}: {place} has its axes in another order than {places[0]}")
        axes = here
        width = product.vector(f"{name}_bandpass")
        widths.append(width if width is not None and width.size == centres.size else np.full(centres.size, np.nan))
        where += [(len(places), band) for band in range(centres.size)]
        places.append(place)
        wave.append(centres)
        detector += [name] * centres.size
    assert axes is not None
    wavelength, kinds = np.concatenate(wave), np.array(detector)
    order, note = _order(wavelength, kinds, overlap)
    array = product.nc.array(places, axes)
    packed = Hdf5Array(product.nc.handle, places, axes, np.asarray(where)[order], unsigned=array.unsigned)
    packed.set_meaning(array.scale[order], array.offset[order], array.nodata)
    facts = {
        "wavelength": wavelength[order],
        "fwhm": np.concatenate(widths)[order],
        "detector": [str(d) for d in kinds[order]],
        "note": note,
    }
    return packed, order + 1, facts


def _band_axis(product: PaceProduct, place: str, count: int) -> tuple[int, int, int]:
    """Which axis counts bands: the one named so, else the one of that length; lines before pixels."""
    item = product.nc.file[place]
    names = product.nc.dims(place)
    band = next((n for n, name in enumerate(names) if "band" in name or "wavelength" in name), -1)
    if band < 0:
        band = next((axis for axis in range(item.ndim) if item.shape[axis] == count), 0)
    if item.ndim != 3 or item.shape[band] != count:
        raise BandMismatch(f"{product.path.name}: {place} has shape {item.shape}, its wavelengths are {count}")
    first, second = (axis for axis in range(3) if axis != band)
    return band, first, second


def _level1(product: PaceProduct, raw: bool, overlap: str) -> xr.DataArray:
    array, numbers, facts = _stack(product, "rhot", overlap)
    bands = band_facts(len(numbers), product.path.name, wavelength=facts["wavelength"], units="nm", fwhm=facts["fwhm"])
    ground = product.ground((array.shape[1], array.shape[2]))
    attrs = product.nc.attributes(sensor="PACE OCI", platform="PACE", level="L1B")
    attrs["history"] = [
        f"opened {product.path.name} (PACE OCI L1B, reflectance at the top of the atmosphere)",
        facts["note"],
        *product.nc.packing(array.places[0]).notes,
        *ground.notes,
    ]
    cube = as_cube(
        array,
        quantity="reflectance",
        raw=raw,
        attrs=attrs,
        number=numbers,
        detector=facts["detector"],
        **bands.coords(),
    )
    return product.nc.place(cube, ground)


def _level2(product: PaceProduct, raw: bool, key: Any) -> xr.DataArray:
    known = [name for name in _CUBES if is_numeric(product.nc.file.get(f"{_L2}/{name}"))]
    if key is not None and key not in known:
        raise UnknownName(f"{product.path.name} has no cube {key!r}: {closest(str(key), known)}")
    name = str(key) if key is not None else known[0]
    place = f"{_L2}/{name}"
    centres = product.vector("wavelength_3d")
    assert centres is not None
    axes = _band_axis(product, place, centres.size)
    array = product.nc.array([place], axes)
    bands = band_facts(centres.size, product.path.name, wavelength=centres, units="nm")
    ground = product.ground((array.shape[1], array.shape[2]))
    attrs = product.nc.attributes(sensor="PACE OCI", platform="PACE", level="L2")
    lines = [f"opened {name} of {product.path.name} (PACE OCI L2)", *product.nc.packing(place).notes]
    if name.startswith("Rrs"):
        attrs["units"] = "sr-1"
        lines.append("remote sensing reflectance Rrs [sr-1]: pi times it is water-leaving reflectance")
    attrs["history"] = [*lines, *ground.notes]
    return product.nc.place(as_cube(array, quantity="reflectance", raw=raw, attrs=attrs, **bands.coords()), ground)


def _flags(product: PaceProduct) -> dict[str, tuple[str, int | None]]:
    """Flags of the vocabulary: name -> variable and bits (None: not 0)."""
    if product.level == "L1B":
        place = f"{_PLACES['L1B']}/watermask"
        return {"water": (place, None)} if place in product.nc.variables else {}
    place = f"{_L2}/l2_flags"
    if place not in product.nc.variables:
        return {}
    item = product.nc.file[place]
    meanings = text_attribute(item, "flag_meanings").split()
    masks = np.atleast_1d(item.attrs["flag_masks"]) if "flag_masks" in item.attrs else np.array([])
    if len(meanings) != len(masks):
        return {}
    bits = {word.upper(): int(mask) for word, mask in zip(meanings, masks, strict=True)}
    return {name: (place, bits[word]) for name, word in _FLAGS.items() if word in bits}


def _qualities(product: PaceProduct) -> list[str]:
    places = [f"{_DATA}/qual_{name}" for name in DETECTORS if f"{_DATA}/rhot_{name}" in product.nc.variables]
    there = product.level == "L1B" and all(place in product.nc.variables for place in places)
    return ["quality"] if there else []
