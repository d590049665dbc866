"""Any netCDF-4 or HDF5 file that holds a cube: CF conventions, data in groups, and one variable a band."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube, BrokenProduct, MissingMetadata, TooLarge, UnknownName, UnsafeInput, closest
from torchspectral.io.readers.base import LIBRARY_ERRORS, Reader, as_cube, as_layer
from torchspectral.io.readers.cf_netcdf.cubes import (
    ONE_BAND,
    Candidate,
    axis_option,
    candidates,
    choose,
    pair_of,
    undecided,
    wave_place,
)
from torchspectral.io.readers.facts import BandFacts, Values, band_facts, guess_quantity, read_options
from torchspectral.io.readers.hdf5 import (
    as_layers,
    attribute,
    is_hdf5,
    is_numeric,
    plain,
    text_attribute,
    texts,
    vector,
)
from torchspectral.io.readers.netcdf import Ground, NetcdfFile

_WIDTHS = ("fwhm", "FWHM", "bandwidth", "bandwidths", "band_width", "full_width_half_max", "bandpass")
_GOOD = ("good", "good_wavelengths", "bbl", "good_bands")


class CfReader(Reader):
    """Reader of cubes in netCDF-4 and HDF5 files of any writer."""

    name = "cf-netcdf"
    title = "netCDF-4 or HDF5 with a cube (CF conventions)"
    patterns = ("*.nc", "*.nc4", "*.h5", "*.hdf5")
    options = ("key", "band_axis", "wavelength", "wavelength_units", "quantity", "scale", "nodata")
    layer_options = ("key", "band_axis")
    evidence = "miniature-only"

    def recognise(self, path: Path) -> float:
        """A file with a variable that can be a cube; one that cannot be looked into safely, so that `open` says why."""
        if not is_hdf5(path) or path.suffix.lower() == ".mat":
            return 0.0
        try:
            file = NetcdfFile(path)
            return 0.4 if candidates(file) or undecided(file) else 0.0
        except (UnsafeInput, TooLarge, BrokenProduct):
            return 0.1
        except LIBRARY_ERRORS:
            return 0.1

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open the one cube of the file, or the variable ``key``.

        Scale, offset and _FillValue are applied, the quantity is found by units and names. Rows stored from south to
        north are turned. Variables of one band each (rhos_443, rhos_490, ...) are stacked, their key is what stands
        before the wavelength.

        Parameters
        ----------
        key : str
            The variable, with its group where that is needed.
        band_axis : {0, 1, 2}
            Which axis counts bands, where neither names of dimensions nor wavelengths tell.
        wavelength, wavelength_units, quantity, scale, nodata
            What the file does not state.

        Raises
        ------
        MissingMetadata
            Several cubes, or no telling which axis counts bands: the message lists the choices.
        UnknownName, BadCube, BandMismatch, BrokenProduct, TooLarge
        """
        given = read_options(options)
        file = NetcdfFile(path)
        chosen = choose(file, options.get("key"), axis_option(options))
        ground = file.ground(chosen.first, *chosen.axes[1:])
        array = file.array(chosen.places, chosen.axes, ground)
        bands = array.shape[0]
        facts = _bands(file, chosen, bands, given)
        values = _values(file, chosen, array, given)
        array.set_meaning(values.scale, values.offset, values.nodata)
        attrs = file.attributes()
        if values.quantity == "reflectance" and _per_steradian(file, chosen):
            attrs["units"] = "sr-1"
            values.notes.append("remote sensing reflectance Rrs [sr-1]: pi times it is water-leaving reflectance")
        what = chosen.first if len(chosen.places) == 1 else f"{len(chosen.places)} variables {chosen.key}_*"
        others = [c.key for c in candidates(file) if c.key != chosen.key]
        more = (
            [f"also in the file: {', '.join(others[:8])} (key= opens them)"]
            if others and not options.get("key")
            else []
        )
        attrs["history"] = [f"opened {what} of {path.name} (netCDF)", *more, *facts.notes, *values.notes, *ground.notes]
        cube = as_cube(array, quantity=values.quantity, raw=raw, attrs=attrs, **facts.coords())
        return file.place(cube, ground)

    def layers(self, path: Path) -> list[str]:
        """Other variables on the cube's pixels."""
        file = NetcdfFile(path)
        try:
            chosen = choose(file, None, None)
        except (MissingMetadata, BadCube):
            return []
        return sorted(_layers(file, chosen))

    def open_layer(self, path: Path, name: str, **options: Any) -> xr.DataArray:
        """One of them, (y, x), or (layer, y, x) with a band axis: physical values; flags and classes as stored."""
        file = NetcdfFile(path)
        cube = choose(file, options.get("key"), axis_option(options))
        known = _layers(file, cube)
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, sorted(known))}")
        layer = known[name]
        ground = file.ground(cube.first, *cube.axes[1:])
        return file.place(open_plane(file, layer, name, ground), ground)


def open_plane(file: NetcdfFile, layer: Candidate, name: str, ground: Ground | None = None) -> xr.DataArray:
    """A variable as a layer, not yet on the ground: floats and scaled integers decoded, other integers as stored."""
    array = file.array(layer.places, layer.axes, ground)
    item = file.file[layer.first]
    array.decode = array.stored.kind == "f" or array.scaled
    facts: dict[str, Any] = {} if array.decode or array.nodata is None else {"nodata": array.nodata}
    for key in ("flag_values", "flag_masks"):
        if key in item.attrs:
            facts[key] = [int(v) for v in np.atleast_1d(item.attrs[key])]
    for key in ("flag_meanings", "units", "long_name"):
        text = text_attribute(item, key)
        facts |= {key: text} if text else {}
    if layer.axes[0] < 0 and len(layer.places) == 1:
        return as_layer(array, name, facts)
    return as_layers(array, [str(n + 1) for n in range(array.shape[0])], name, facts)


def _bands(file: NetcdfFile, chosen: Candidate, bands: int, given: Mapping[str, Any]) -> BandFacts:
    """Wavelengths, widths and good bands."""
    searched = "variables named wavelength, the band dimension, attributes and the option wavelength="
    wave: Any = ()
    width: Any = ()
    good: Any = ()
    units = ""
    names: list[str] = []
    if chosen.axes[0] >= 0:
        place = wave_place(file, chosen)
        if place:
            item = file.file[place]
            wave, units = vector(item, file.path), text_attribute(item, "units", "Units")
        width = _vector_near(file, place or chosen.first, _WIDTHS, bands)
        good = _vector_near(file, place or chosen.first, _GOOD, bands)
        names = _band_names(file, chosen, bands)
        if not place:
            stated = _attribute_list(file, chosen.first, ("wavelengths", "wavelength", "band_wavelengths"), bands)
            wave = stated if stated is not None else ()
    elif len(chosen.places) > 1:
        items = [file.file[place] for place in chosen.places]
        said = [attribute(item, "wavelength", "wave_nm", "radiation_wavelength") for item in items]
        matches = [ONE_BAND.match(place.rsplit("/", 1)[-1]) for place in chosen.places]
        if all(isinstance(value, (int, float)) for value in said):
            wave, units = (
                said,
                text_attribute(items[0], "wavelength_unit", "wavelength_units", "radiation_wavelength_unit"),
            )
        else:
            wave, units = [float(m["wave"]) for m in matches if m], "nm"
        widths = [attribute(item, "width", "bandwidth", "fwhm") for item in items]
        width = widths if all(isinstance(value, (int, float)) for value in widths) else ()
    return band_facts(
        bands,
        file.path.name,
        wavelength=wave,
        units=units,
        fwhm=width,
        good=good,
        names=names,
        given=given,
        searched=searched,
    )


def _vector_near(file: NetcdfFile, place: str, names: Sequence[str], bands: int) -> Any:
    found = file.near(place, names)
    return vector(file.file[found], file.path) if found and file.file[found].shape == (bands,) else ()


def _band_names(file: NetcdfFile, chosen: Candidate, bands: int) -> list[str]:
    """Texts of the band dimension."""
    dim = file.dims(chosen.first)[chosen.axes[0]]
    for name in (dim, "band_names", "bands", "band_name"):
        place = file.near(chosen.first, [name]) if name else ""
        item = file.file[place] if place else None
        if item is not None and not is_numeric(item) and getattr(item, "shape", ()) == (bands,):
            return texts(item, file.path)
    return []


def _attribute_list(file: NetcdfFile, place: str, names: Sequence[str], bands: int) -> np.ndarray | None:
    """Numbers of an attribute of the variable or the file, where there is one a band."""
    for item in (file.file[place], file.file):
        for name in names:
            if name not in item.attrs:
                continue
            value = plain(item.attrs[name])
            try:
                words = re.split(r"[,\s;]+", value.strip("[](){} ")) if isinstance(value, str) else value
                numbers = np.asarray([float(v) for v in np.atleast_1d(words)])
            except (TypeError, ValueError):
                continue
            if numbers.size == bands:
                return numbers
    return None


def _values(file: NetcdfFile, chosen: Candidate, array: Any, given: Mapping[str, Any]) -> Values:
    """Scale, offset, nodata and quantity."""
    item = file.file[chosen.first]
    packing = file.packing(chosen.first)
    last = chosen.key.rsplit("/", 1)[-1]
    units = text_attribute(item, "units", "Units")
    words = " ".join([units, *(text_attribute(item, k) for k in ("standard_name", "long_name"))])
    quantity = (
        "reflectance" if re.fullmatch(r"(?i)(rrs|rhos|rhow|rhot|rho|toa_reflectance|boa_reflectance)", last) else ""
    )
    notes = list(packing.notes)
    if quantity:
        notes.append(f"taken as reflectance by the name {last}")
    percent = units.strip().lower() in ("%", "percent")
    scale, offset = array.scale, array.offset
    if percent and "scale" not in given:
        scale, offset = scale * 0.01, offset * 0.01
        notes.append("percent times 0.01")
    known = "reflectance" if quantity or "reflectance" in last.lower() else ""
    floats = array.stored.kind == "f" or array.scaled
    values = Values(scale, offset, array.nodata, known if floats or "scale" in given else "", notes)
    return guess_quantity(values, words=words, hints=last, floats=floats, given=given)


def _per_steradian(file: NetcdfFile, chosen: Candidate) -> bool:
    units = text_attribute(file.file[chosen.first], "units").lower().replace("^", "").replace(" ", "")
    return units in ("sr-1", "1/sr") or chosen.key.rsplit("/", 1)[-1].lower() == "rrs"


def _layers(file: NetcdfFile, cube: Candidate) -> dict[str, Candidate]:
    """Other variables on the cube's pixels: name -> variable."""
    shape = tuple(int(file.file[cube.first].shape[axis]) for axis in cube.axes[1:])
    ground = file.ground(cube.first, *cube.axes[1:])
    taken = {*cube.places, ground.lon, ground.lat}
    found: dict[str, Candidate] = {}
    stacked = {place for c in candidates(file) if len(c.places) > 1 for place in c.places}
    for other in candidates(file):
        size = tuple(int(file.file[other.first].shape[axis]) for axis in other.axes[1:])
        if other.key != cube.key and size == shape:
            found[other.key] = other
    for place, item in file.variables.items():
        if item.ndim != 2 or place in taken or place in stacked:
            continue
        y, x = pair_of(file.dims(place))
        if (item.shape[y], item.shape[x]) == shape:
            found[place] = Candidate(place, (place,), (-1, y, x))
    short = [key.rsplit("/", 1)[-1] for key in found]
    return {
        (key.rsplit("/", 1)[-1] if short.count(key.rsplit("/", 1)[-1]) == 1 else key): value
        for key, value in found.items()
    }
