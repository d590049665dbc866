"""netCDF-4 through h5py: dimensions, groups, packing and grid mappings of the CF conventions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError

from torchspectral.errors import BrokenProduct
from torchspectral.geo.grids import parse_crs, place, place_swath
from torchspectral.io.readers.facts import iso_time
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.hdf5 import (
    Hdf5Array,
    StoredGLT,
    as_plane,
    attribute,
    is_numeric,
    open_file,
    plain,
    text_attribute,
    vector,
)

BAND_DIMS = (
    "band",
    "bands",
    "wavelength",
    "wavelengths",
    "wavelength_3d",
    "wl",
    "lambda",
    "channel",
    "channels",
    "spectral",
)
Y_DIMS = (
    "y", "lat", "latitude", "northing", "row", "rows", "line", "lines", "downtrack", "scans", "number_of_lines",
    "number_of_scans", "nlines", "along_track",
)  # fmt: skip
X_DIMS = (
    "x", "lon", "longitude", "easting", "col", "cols", "column", "columns", "sample", "samples", "crosstrack",
    "pixels", "pixels_per_line", "ccd_pixels", "npixels", "across_track",
)  # fmt: skip
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"
_MOST_STEPS = 10_000_000
_DEFAULT_FILL = {"f4": 9.969209968386869e36, "f8": 9.969209968386869e36}
_LON = ("lon", "longitude", "lons", "longitudes")
_LAT = ("lat", "latitude", "lats", "latitudes")


@dataclass(frozen=True)
class Packing:
    """What stored numbers mean: physical = stored * scale + offset; `notes` are lines for the history."""

    scale: float
    offset: float
    nodata: float | int | None
    unsigned: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ground:
    """Where the pixels of a variable lie: on a map, on a swath, or nowhere.

    Attributes
    ----------
    transform, crs
        Of a map grid, rows and columns already as the array hands them out.
    lon, lat : str
        Variables of a swath; "" without.
    flipped : tuple of bool
        Whether rows (stored south first) and columns (stored east first) have to be turned.
    notes : tuple of str
    """

    transform: Affine | None = None
    crs: Any = None
    lon: str = ""
    lat: str = ""
    flipped: tuple[bool, bool] = (False, False)
    notes: tuple[str, ...] = ()


class NetcdfFile:
    """An open file and its numeric variables.

    Attributes
    ----------
    variables : dict of str to h5py.Dataset
        Place without the leading slash -> dataset, in the order of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = Handle(open_file, path)
        self.file = self.handle.get()
        self.variables: dict[str, Any] = {}
        self.file.visititems(self._note)

    def _note(self, name: str, item: Any) -> None:
        if is_numeric(item) and not _only_dimension(item):
            self.variables[name] = item

    def get(self, place: str) -> Any:
        """A dataset or group; None where it is absent."""
        return self.file.get(place) if place else self.file

    def dims(self, place: str) -> list[str]:
        """Names of the dimensions of a variable; "" where the file does not name one."""
        item = self.file[place]
        if item.ndim == 1 and text_attribute(item, "CLASS") == "DIMENSION_SCALE":
            return [place.rsplit("/", 1)[-1]]
        return [_dim_name(item, axis) for axis in range(item.ndim)]

    def near(self, place: str, names: Iterable[str]) -> str:
        """The first of some variables in the group of `place` or in those above it; "" where there is none."""
        wanted = list(names)
        group = place.rsplit("/", 1)[0] if "/" in place else ""
        while True:
            for name in wanted:
                full = f"{group}/{name}".lstrip("/")
                if full in self.file and hasattr(self.file[full], "dtype"):
                    return full
            if not group:
                return ""
            group = group.rsplit("/", 1)[0] if "/" in group else ""

    def packing(self, place: str) -> Packing:
        """Scale, offset and nodata by the CF attributes of a variable.

        Raises
        ------
        BrokenProduct
            An attribute is no number.
        """
        item = self.file[place]
        scale, offset = (self._number(item, name) for name in ("scale_factor", "add_offset"))
        nodata = self._number(item, "_FillValue")
        nodata = self._number(item, "missing_value") if nodata is None else nodata
        notes = []
        default = _DEFAULT_FILL.get(item.dtype.str[1:])
        if nodata is None and default is not None and item.fillvalue is not None:
            # netCDF fills what was never written by this value, though no attribute says so.
            filled = np.isclose(float(item.fillvalue), default, rtol=1e-6)
            nodata = float(item.dtype.type(default)) if filled else None
        unsigned = str(attribute(item, "_Unsigned")).lower() == "true" and item.dtype.kind == "i"
        if unsigned and nodata is not None and nodata < 0:
            nodata = nodata + 2.0 ** (8 * item.dtype.itemsize)
        if nodata is not None and np.isnan(nodata):
            nodata = None
        if scale is not None or offset is not None:
            notes.append(f"value = stored * {scale or 1.0:g} + {offset or 0.0:g} (scale_factor, add_offset)")
        if item.dtype.kind in "iu" and nodata is not None and float(nodata).is_integer():
            nodata = int(nodata)
        return Packing(1.0 if scale is None else scale, offset or 0.0, nodata, unsigned, tuple(notes))

    def _number(self, item: Any, name: str) -> float | None:
        value = attribute(item, name)
        if value is None:
            return None
        try:
            number = float(np.asarray(value).reshape(-1)[0])
        except (TypeError, ValueError, IndexError):
            raise BrokenProduct(f"{self.path.name}: {item.name} has {name}={value!r}, expected a number") from None
        if name == "scale_factor" and not (np.isfinite(number) and number != 0):
            raise BrokenProduct(f"{self.path.name}: {item.name} has scale_factor={number:g}, expected a number but 0")
        return number

    def array(self, places: Sequence[str], axes: tuple[int, int, int], ground: Ground | None = None) -> Hdf5Array:
        """Lazy (band, y, x) array with the packing of its variables.

        Raises
        ------
        BrokenProduct
            The variables have different nodata values.
        """
        packings = [self.packing(place) for place in places]
        if len({(p.nodata, p.unsigned) for p in packings}) > 1:
            raise BrokenProduct(f"{self.path.name}: {places[0]} and its sisters have different _FillValue")
        array = Hdf5Array(
            self.handle,
            places,
            axes,
            flipped=ground.flipped if ground is not None else (False, False),
            unsigned=packings[0].unsigned,
        )
        each = [packings[int(number)] for number in array.where[:, 0]]
        array.set_meaning([p.scale for p in each], [p.offset for p in each], packings[0].nodata)
        return array

    def plane(self, place: str, axes: tuple[int, int], ground: Ground | None = None) -> Hdf5Array:
        """A 2-D variable as a lazy array of one band, float64 where it is stored so."""
        array = self.array([place], (-1, *axes), ground)
        array.precise = array.stored.itemsize == 8 or array.scaled
        return array

    def ground(self, place: str, y: int, x: int, coordinates: tuple[str, str] | None = None) -> Ground:
        """Where the pixels of a variable lie, by its grid mapping, 1-D coordinates, or 2-D longitudes and latitudes.

        Parameters
        ----------
        y, x : int
            Its axes.
        coordinates : tuple of str, optional
            Names of the coordinates of rows and columns, where the dimensions do not give them.
        """
        item = self.file[place]
        shape = (int(item.shape[y]), int(item.shape[x]))
        names = self.dims(place)
        if coordinates is not None:
            names[y], names[x] = coordinates
        crs, stated, note = self._mapping(place)
        steps = [self._steps(place, names[axis], size) for axis, size in zip((y, x), shape, strict=True)]
        degrees = names[y].lower() in _LAT or self._is_degrees(place, names[y])
        if all(s is not None for s in steps):
            return _regular(steps, stated, crs, degrees, shape, note)  # type: ignore[arg-type]
        lon, lat = self.positions(place, shape)
        if lon and lat:
            return Ground(lon=lon, lat=lat, notes=(f"positions from {lat} and {lon}",))
        if stated is not None:
            return Ground(stated, crs, notes=note)
        uneven = any(s is None and self._coordinate(place, names[a]) for s, a in zip(steps, (y, x), strict=True))
        why = "its coordinates are not evenly spaced" if uneven else "no coordinates found"
        return Ground(notes=(f"{why}: the pixels are placed nowhere",))

    def positions(self, place: str, shape: tuple[int, int]) -> tuple[str, str]:
        """Variables with the longitude and latitude of each pixel, nearest group first; "" where there are none."""
        group = place.rsplit("/", 1)[0] if "/" in place else ""
        fits: dict[str, list[str]] = {"lon": [], "lat": []}
        for name, item in self.variables.items():
            if tuple(item.shape) != shape or len(item.shape) != 2:
                continue
            last = name.rsplit("/", 1)[-1].lower()
            kind = text_attribute(item, "standard_name").lower()
            if last in _LON or kind == "longitude":
                fits["lon"].append(name)
            elif last in _LAT or kind == "latitude":
                fits["lat"].append(name)
        if not (fits["lon"] and fits["lat"]):
            return "", ""
        found = [min(fits[k], key=lambda n: (not n.startswith(f"{group}/"), n.count("/"))) for k in ("lon", "lat")]
        return found[0], found[1]

    def place(self, value: xr.DataArray, ground: Ground, glt: Any = None) -> xr.DataArray:
        """A cube or layers where they lie."""
        if not ground.lon:
            return place(value, ground.transform, ground.crs)
        lon, lat = (as_plane(self.plane(name, (0, 1))) for name in (ground.lon, ground.lat))
        return place_swath(value, lon, lat, glt)

    def glt(self, places: tuple[str, str], geotransform: Any, crs: Any) -> StoredGLT | None:
        """Lookup table from two variables (columns, rows) and GDAL's six numbers; None where one is absent.

        Raises
        ------
        BrokenProduct
        """
        if not all(place and place in self.file for place in places) or crs is None:
            return None
        transform = affine_of(geotransform)
        if transform is None:
            return None
        return StoredGLT(self.handle, places, transform, crs)

    def attributes(self, **fixed: Any) -> dict[str, Any]:
        """Attributes of a cube from the global ones; `fixed` win."""
        found: dict[str, Any] = {"source": [str(self.path)]}
        for name, keys in (
            ("sensor", ("sensor", "instrument")),
            ("platform", ("platform",)),
            ("level", ("processing_level",)),
            ("product", ("product_name", "granule_id")),
            ("title", ("title",)),
        ):
            text = text_attribute(self.file, *keys)
            if text:
                found[name] = text
        time = iso_time(text_attribute(self.file, "time_coverage_start", "acquired", "isodate", "acquisition_time"))
        if time:
            found["acquired"] = time
        for angle, words in (
            ("sun_zenith", ("sun_zenith", "sza", "THETAS")),
            ("sun_azimuth", ("sun_azimuth", "saa", "PHIS")),
            ("view_zenith", ("view_zenith", "vza", "THETAV")),
        ):
            value = attribute(self.file, *words)
            if isinstance(value, (int, float)) and np.isfinite(value):
                found[angle] = float(value)
        return found | fixed

    def _mapping(self, place: str) -> tuple[CRS | None, Affine | None, tuple[str, ...]]:
        """CRS and GeoTransform of the grid mapping, and lines for the history."""
        stated = text_attribute(self.file[place], "grid_mapping")
        words = re.findall(r"[\w.\-]+", stated.split(":")[0])
        found = self.near(place, [*words[:1], "spatial_ref", "crs", "transverse_mercator"])
        if not found:
            own = text_attribute(self.file, "crs_wkt", "spatial_ref", "proj4_string")
            return _parsed(own), affine_of(attribute(self.file, "GeoTransform")), ()
        item = self.file[found]
        crs = _parsed(text_attribute(item, "crs_wkt", "spatial_ref"))
        if crs is None and "grid_mapping_name" in item.attrs:
            facts = {k: _listed(plain(item.attrs[k])) for k in item.attrs if k not in _NOT_CF}
            try:
                crs = CRS.from_cf(facts)
            except (CRSError, KeyError, TypeError, ValueError):
                return None, None, (f"the grid mapping {found} is not understood: no CRS",)
        code = attribute(item, "epsg_code", "spatial_epsg")
        digits = re.sub(r"\D", "", str(code or ""))
        if crs is None and digits:
            crs = _parsed(f"EPSG:{int(digits)}")
        return crs, affine_of(attribute(item, "GeoTransform", "geotransform")), ()

    def _coordinate(self, place: str, dim: str) -> str:
        """The 1-D variable of a dimension; "" where it has none."""
        name = self.near(place, [dim]) if dim else ""
        return name if name in self.variables and self.file[name].ndim == 1 else ""

    def _is_degrees(self, place: str, dim: str) -> bool:
        name = self._coordinate(place, dim)
        return bool(name) and text_attribute(self.file[name], "units").lower().startswith(("degrees_n", "degree_n"))

    def _steps(self, place: str, dim: str, size: int) -> tuple[float, float] | None:
        """First value and step of an evenly spaced coordinate; None where there is none or it is uneven."""
        name = self._coordinate(place, dim)
        if not name or size < 2 or size > _MOST_STEPS or self.file[name].shape != (size,):
            return None
        packing = self.packing(name)
        values = vector(self.file[name], self.path) * packing.scale + packing.offset
        values = values * _metres(text_attribute(self.file[name], "units"))
        step = (values[-1] - values[0]) / (size - 1)
        if not np.isfinite(step) or step == 0:
            return None
        # Coordinates in single precision wander around their line, by far less than a pixel.
        if np.abs(values - (values[0] + step * np.arange(size))).max() > 0.1 * abs(step):
            return None
        return float(values[0]), float(step)


_NOT_CF = {"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "crs_wkt", "spatial_ref", "GeoTransform"}


def _only_dimension(item: Any) -> bool:
    return text_attribute(item, "NAME").startswith(_NO_VARIABLE)


def _dim_name(item: Any, axis: int) -> str:
    try:
        scales = item.dims[axis]
        return str(scales[0].name).rsplit("/", 1)[-1] if len(scales) else str(scales.label)
    except (KeyError, ValueError, RuntimeError, OSError, AttributeError, TypeError):
        return ""


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _parsed(text: Any) -> CRS | None:
    if not text:
        return None
    from torchspectral.errors import GridMismatch

    try:
        return parse_crs(text)
    except GridMismatch:
        return None


def _metres(units: str) -> float:
    return 1000.0 if units.strip().lower() in ("km", "kilometer", "kilometers", "kilometre", "kilometres") else 1.0


def affine_of(value: Any) -> Affine | None:
    """Transform from GDAL's six numbers, as text or array; None where they are not six, or make no pixels."""
    if value is None:
        return None
    try:
        words = value.replace(",", " ").split() if isinstance(value, str) else np.asarray(value).reshape(-1)
        numbers = [float(v) for v in words]
    except (TypeError, ValueError):
        return None
    if len(numbers) != 6 or not np.all(np.isfinite(numbers)):
        return None
    transform = Affine.from_gdal(*numbers)
    return transform if transform.determinant != 0 else None


def _regular(
    steps: Sequence[tuple[float, float]],
    stated: Affine | None,
    crs: CRS | None,
    degrees: bool,
    shape: tuple[int, int],
    notes: tuple[str, ...],
) -> Ground:
    """Grid of evenly spaced pixel centres; a GeoTransform counts where it agrees with them or is rotated."""
    (y0, dy), (x0, dx) = steps
    lines = list(notes)
    flipped = (dy > 0, dx < 0)
    if stated is not None and (stated.b != 0 or stated.d != 0):
        return Ground(stated, crs, notes=tuple(lines))
    if flipped[0]:
        y0, dy = y0 + (shape[0] - 1) * dy, -dy
        lines.append("rows turned: they are stored from south to north")
    if flipped[1]:
        x0, dx = x0 + (shape[1] - 1) * dx, -dx
        lines.append("columns turned: they are stored from east to west")
    transform = Affine(dx, 0.0, x0 - dx / 2, 0.0, dy, y0 - dy / 2)
    if stated is not None and not any(flipped):
        near = abs(stated.c - transform.c) < 1e-3 * abs(dx) and abs(stated.f - transform.f) < 1e-3 * abs(dy)
        same = abs(stated.a - dx) < 1e-3 * abs(dx) and abs(stated.e - dy) < 1e-3 * abs(dy)
        if near and same:
            transform = stated
        else:
            lines.append("the GeoTransform contradicts the coordinates of the pixels, which count")
    if crs is None and degrees:
        crs = parse_crs(4326)
    if crs is None and abs(dx) == 1 and abs(dy) == 1:
        # Plain pixel numbers.
        return Ground(flipped=(False, False), notes=tuple(notes))
    return Ground(transform, crs, flipped=flipped, notes=tuple(lines))
