"""AVIRIS-3 and AVIRIS-5 netCDF-4: reflectance, its uncertainty, radiance, observation parameters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import with_history
from torchspectral.errors import BandMismatch, BrokenProduct, MissingMetadata, UnknownName, closest
from torchspectral.io.readers.base import Reader, as_cube, as_layer
from torchspectral.io.readers.facts import Values, band_facts, guess_quantity
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.hdf5 import (
    Hdf5Array,
    as_layers,
    is_hdf5,
    is_numeric,
    open_file,
    text_attribute,
    vector,
)
from torchspectral.io.readers.netcdf import Ground, NetcdfFile

# Group of a cube -> what it holds; the variable has the name of the group, or is the only 3-D one in it.
_CUBES = {
    "reflectance": "reflectance",
    "radiance": "radiance",
    "reflectance_uncertainty": "uncertainty",
    "uncertainty": "uncertainty",
}
_ANGLES = "observation_parameters"
_TABLE = "geolocation_lookup_table"
_EASTING = ("easting", "x", "lon", "longitude")
_NORTHING = ("northing", "y", "lat", "latitude")
# Names of ours for the observation parameters whose stored names say the same.
_NAMES = {
    "to_sensor_azimuth": "sensor_azimuth", "to_sensor_zenith": "sensor_zenith", "to_sun_azimuth": "sun_azimuth",
    "to_sun_zenith": "sun_zenith", "solar_phase": "phase", "cosine_of_solar_incidence": "cosine_i", "elev": "elevation",
}  # fmt: skip
_FLIGHT = re.compile(r"(?i)^(?P<line>(AV[35]\d{8}t\d{6}(_\d{3})?)|(ang\d{8}t\d{6}(_\d{3})?))")


class AvirisProduct:
    """An open file: which cube it holds, its axes and its bands.

    Raises
    ------
    BrokenProduct
        No group of AVIRIS-3.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nc = NetcdfFile(path)
        self.kind, self.cube = _find(self.nc.file)
        if not self.kind:
            raise BrokenProduct(
                f"{path.name} has no group {', '.join(_CUBES)} with a cube and its wavelength, nor {_ANGLES}; its groups "
                f"are {', '.join(list(self.nc.file)[:10]) or 'none'}"
            )

    def centres(self) -> tuple[np.ndarray, str]:
        """Wavelengths as stated, and their units.

        Raises
        ------
        MissingMetadata
        """
        place = self.nc.near(self.cube, ("wavelength", "wavelengths"))
        if not place:
            raise MissingMetadata(
                f"{self.path.name} has no wavelength in {self.cube.rsplit('/', 1)[0]}: give wavelength="
            )
        item = self.nc.file[place]
        return vector(item, self.path), text_attribute(item, "units")

    def axes(self) -> tuple[tuple[int, int, int], tuple[str, str] | None]:
        """Which axis is band, y, x, and the coordinates of rows and columns where the dimensions do not name them.

        The names of the dimensions decide; without them the lengths of wavelength, northing and easting do.

        Raises
        ------
        BandMismatch, BrokenProduct
        """
        item = self.nc.file[self.cube]
        names = [name.lower() for name in self.nc.dims(self.cube)]
        count = self.centres()[0].size
        band = next((n for n, name in enumerate(names) if name in ("wavelength", "wavelengths", "band", "bands")), -1)
        if band < 0:
            fits = [axis for axis in range(3) if item.shape[axis] == count]
            band = fits[0] if fits else 0
        if item.shape[band] != count:
            raise BandMismatch(
                f"{self.path.name}: {self.cube} has shape {item.shape}, none of whose axes has the {count} bands of "
                "wavelength"
            )
        first, second = (axis for axis in range(3) if axis != band)
        if names[first] and names[second]:
            turned = names[first] in (*_EASTING, "sample", "samples", "crosstrack") or names[second] in (
                *_NORTHING,
                "line",
                "lines",
                "downtrack",
            )
            return ((band, second, first) if turned else (band, first, second)), None
        north, east = (self.nc.near(self.cube, names) for names in (_NORTHING, _EASTING))
        sizes = [self.nc.file[place].size if place else -1 for place in (north, east)]
        if [item.shape[first], item.shape[second]] == sizes:
            return (band, first, second), (north, east)
        if [item.shape[second], item.shape[first]] == sizes:
            return (band, second, first), (north, east)
        return (band, first, second), None

    def ground(self) -> Ground:
        """Where the cube's pixels lie; coordinates and grid mapping are looked for in the root, too."""
        axes, coordinates = self.axes()
        if coordinates is not None:
            coordinates = (coordinates[0].rsplit("/", 1)[-1], coordinates[1].rsplit("/", 1)[-1])
        return self.nc.ground(self.cube, *axes[1:], coordinates)

    def place(self, value: xr.DataArray, ground: Ground) -> xr.DataArray:
        """A value of the cube's pixels where they lie, with the lookup table of a swath."""
        return self.nc.place(value, ground, _lookup(self.nc) if ground.lon else None)

    def attributes(self) -> dict[str, Any]:
        """Attributes of the cube."""
        found = self.nc.attributes(product=self.path.stem)
        said = f"{found.get('sensor', '')} {self.path.name}".lower()
        five = "aviris-5" in said or "av5" in said
        found["sensor"] = "AVIRIS-5" if five else "AVIRIS-NG" if "ang2" in said or "-ng" in said else "AVIRIS-3"
        return found


class AvirisNetcdfReader(Reader):
    """Reader of AVIRIS-3 and -5 netCDF products."""

    name = "aviris-netcdf"
    title = "AVIRIS-3 and -5 netCDF: RFL, UNC, RDN, OBS"
    patterns = ("AV3*.nc", "AV5*.nc", "*_RFL_ORT.nc", "*_UNC_ORT.nc")
    evidence = "miniature-only"

    def recognise(self, path: Path) -> float:
        """By the groups ``reflectance/reflectance`` and the like, each with its wavelength."""
        if not is_hdf5(path):
            return 0.0
        kind, _ = _find(Handle(open_file, path).get())
        return 0.9 if kind else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open reflectance (0..1), its uncertainty, or radiance (W m-2 sr-1 um-1); observations open as layers.

        Raises
        ------
        BrokenProduct, BandMismatch, MissingMetadata
        """
        product = AvirisProduct(path)
        if product.kind == "observations":
            return _observations(product)
        axes, _ = product.axes()
        ground = product.ground()
        array = product.nc.array([product.cube], axes, ground)
        packing = product.nc.packing(product.cube)
        if array.nodata is None and array.stored.kind == "f":
            array.set_meaning(array.scale, array.offset, -9999.0)
        bands = array.shape[0]
        wave, units = product.centres()
        extra = {name: product.nc.near(product.cube, names) for name, names in _BAND_FACTS.items()}
        known = {name: vector(product.nc.file[place], path) for name, place in extra.items() if place}
        facts = band_facts(
            bands, path.name, wavelength=wave, units=units, fwhm=known.get("fwhm", ()), good=known.get("good", ())
        )
        values = Values(array.scale, array.offset, array.nodata, "reflectance", list(packing.notes))
        if product.kind == "radiance":
            values = _radiance(product, values)
            array.set_meaning(values.scale, values.offset, values.nodata)
        lines = [f"opened {product.cube} of {path.name} (AVIRIS netCDF)", *facts.notes, *values.notes, *ground.notes]
        attrs = product.attributes()
        if product.kind == "uncertainty":
            attrs["description"] = "uncertainty of reflectance, one standard deviation"
        else:
            lines += _told(path)
        attrs["history"] = lines
        cube = as_cube(array, quantity=values.quantity, raw=raw, attrs=attrs, **facts.coords())
        if product.kind == "uncertainty":
            cube.name = "reflectance_uncertainty"
        return product.place(cube, ground)

    def layers(self, path: Path) -> list[str]:
        """Angles and heights of the file; ``uncertainty`` and angles from the UNC and OBS files beside it."""
        return sorted(_layers(AvirisProduct(path)))

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """One of them, (y, x); ``uncertainty`` is (layer, y, x), a layer a band."""
        product = AvirisProduct(path)
        known = _layers(product)
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, sorted(known))}")
        holder, place = known[name]
        if name == "uncertainty" and holder.kind == "uncertainty":
            axes, _ = holder.axes()
            ground = holder.ground()
            array = holder.nc.array([place], axes, ground)
            return holder.place(as_layers(array, [str(n + 1) for n in range(array.shape[0])], name), ground)
        ground = holder.nc.ground(place, 0, 1)
        return holder.place(as_layer(_plane(holder, place, ground), name, _units(holder, place)), ground)


_BAND_FACTS = {"fwhm": ("fwhm", "FWHM"), "good": ("good_wavelengths", "good_bands")}


def _find(file: Any) -> tuple[str, str]:
    """What a file holds and where its cube, or a first parameter, lies."""
    for group, kind in _CUBES.items():
        inner = file.get(group)
        if not hasattr(inner, "keys") or not any(name in inner for name in ("wavelength", "wavelengths")):
            continue
        cubes = [name for name in inner if is_numeric(inner.get(name)) and inner[name].ndim == 3]
        chosen = group if group in cubes else cubes[0] if len(cubes) == 1 else ""
        if chosen:
            return kind, f"{group}/{chosen}"
    inner = file.get(_ANGLES)
    if hasattr(inner, "keys"):
        planes = [name for name in inner if is_numeric(inner.get(name)) and inner[name].ndim == 2]
        if planes:
            return "observations", f"{_ANGLES}/{planes[0]}"
    return "", ""


def _radiance(product: AvirisProduct, values: Values) -> Values:
    """Radiance in W m-2 sr-1 um-1 by the stated units.

    Raises
    ------
    BrokenProduct
    """
    words = text_attribute(product.nc.file[product.cube], "units")
    low = words.lower().replace("μ", "u").replace("µ", "u")
    values.quantity = ""
    if not words:
        words = "uW/cm2/nm/sr"
        values.notes.append("radiance without units taken as uW cm-2 nm-1 sr-1, as the product is defined")
    elif re.search(r"\b(uw|microwatts?)\b", low) and "cm" in low:
        words = "uW/cm2/nm/sr"
    found = guess_quantity(values, words=words, floats=True)
    if found.quantity != "radiance":
        raise BrokenProduct(f"{product.path.name}: radiance is stated in {words!r}, expected uW nm-1 cm-2 sr-1")
    return found


def _plane(product: AvirisProduct, place: str, ground: Ground) -> Hdf5Array:
    array = product.nc.plane(place, (0, 1), ground)
    if array.nodata is None and array.stored.kind == "f":
        array.set_meaning(array.scale, array.offset, -9999.0)
    return array


def _units(product: AvirisProduct, place: str) -> dict[str, Any]:
    units = text_attribute(product.nc.file[place], "units")
    return {"source": [str(product.path)], **({"units": units} if units else {})}


def _parameters(product: AvirisProduct) -> dict[str, str]:
    """Observation parameters of one file: name -> variable."""
    shape = None
    found = {}
    for place, item in product.nc.variables.items():
        folder, _, last = place.rpartition("/")
        if folder == _ANGLES and item.ndim == 2 and (shape is None or item.shape == shape):
            shape = item.shape
            found[_NAMES.get(last.lower(), last.lower())] = place
    for place, item in product.nc.variables.items():
        last = place.rsplit("/", 1)[-1].lower()
        if last in ("elev", "elevation") and item.shape == shape:
            found.setdefault("elevation", place)
    return found


def _observations(product: AvirisProduct) -> xr.DataArray:
    """All observation parameters as layers, (layer, y, x)."""
    known = _parameters(product)
    places = list(known.values())
    ground = product.nc.ground(places[0], 0, 1)
    kinds = {product.nc.file[place].dtype.str for place in places}
    if len(kinds) > 1:
        raise BrokenProduct(
            f"{product.path.name}: {_ANGLES} mixes types ({', '.join(sorted(kinds))}): open them one by one"
        )
    array = product.nc.array(places, (-1, 0, 1), ground)
    if array.nodata is None:
        array.set_meaning(array.scale, array.offset, -9999.0)
    attrs = {**product.attributes(), "layer_units": [text_attribute(product.nc.file[p], "units") for p in places]}
    value = product.place(as_layers(array, list(known), "obs", attrs), ground)
    return with_history(value, [f"opened {_ANGLES} of {product.path.name} (AVIRIS netCDF)", *ground.notes])


def _layers(product: AvirisProduct) -> dict[str, tuple[AvirisProduct, str]]:
    """Layers of a file and its companions of the same pixels: name -> file and variable."""
    found = {name: (product, place) for name, place in _parameters(product).items()}
    if product.kind in ("observations", "uncertainty"):
        return found
    axes, _ = product.axes()
    size = tuple(int(product.nc.file[product.cube].shape[a]) for a in axes[1:])
    for path in companions(product.path).values():
        if path is None:
            continue
        other = AvirisProduct(path)
        if other.kind == "uncertainty":
            axes, _ = other.axes()
            if tuple(int(other.nc.file[other.cube].shape[a]) for a in axes[1:]) == size:
                found["uncertainty"] = (other, other.cube)
        elif other.kind == "observations" and other.nc.file[other.cube].shape == size:
            found |= {name: (other, place) for name, place in _parameters(other).items() if name not in found}
    return found


def companions(path: Path) -> dict[str, Path | None]:
    """UNC and OBS files of the same flight line beside a product; the one named most alike where there are several."""
    line = _FLIGHT.match(path.name)
    found: dict[str, Path | None] = {"UNC": None, "OBS": None}
    if line is None:
        return found
    tail = "_ORT" if "_ORT" in path.stem.upper() else ""
    for word in found:
        fits = [
            p
            for p in sorted(path.parent.iterdir())
            if p.name.lower().startswith(line["line"].lower())
            and p.suffix.lower() == ".nc"
            and p.stem.upper().endswith(f"_{word}{tail}")
        ]
        exact = re.sub(r"(?i)_(RFL|RDN)(?=(_ORT)?\.nc$)", f"_{word}", path.name)
        found[word] = next((p for p in fits if p.name.lower() == exact.lower()), fits[0] if fits else None)
    return found


def _told(path: Path) -> list[str]:
    beside = companions(path)
    there = [p.name for p in beside.values() if p is not None]
    missing = [word for word, p in beside.items() if p is None]
    return [
        *([f"beside it: {', '.join(there)}"] if there else []),
        *([f"looked for and not found beside it: {', '.join(f'*_{w}*.nc' for w in missing)}"] if missing else []),
    ]


def _lookup(nc: NetcdfFile) -> Any:
    """Lookup table of a file in sensor geometry: its tables lie on the coordinates of their own dimensions."""
    group = nc.file.get(_TABLE)
    if not hasattr(group, "keys"):
        return None
    for column, row in (("glt_x", "glt_y"), ("sample", "line")):
        places = (f"{_TABLE}/{column}", f"{_TABLE}/{row}")
        if all(place in nc.variables and nc.file[place].ndim == 2 for place in places):
            ground = nc.ground(places[0], 0, 1)
            if ground.transform is None or ground.crs is None or any(ground.flipped):
                return None
            return nc.glt(places, ground.transform.to_gdal(), ground.crs)
    return None
