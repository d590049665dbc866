"""AVIRIS-Classic, AVIRIS-NG and AVIRIS-3 in ENVI files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from torchspectral.cube import pick_bands
from torchspectral.errors import BadSettings, BandMismatch, BrokenProduct, UnknownName, closest
from torchspectral.geo.grids import place, place_swath
from torchspectral.io.readers.aviris.flight import (
    Flight,
    flight_name,
    gain_file,
    has_image,
    image_of,
    kind_of,
    read_flight,
)
from torchspectral.io.readers.aviris.geometry import FlightGLT, igm_crs, positions
from torchspectral.io.readers.base import Reader, as_cube, decode_values
from torchspectral.io.readers.envi.header import EnviHeader, crs_of, find_header, looks_like_header, transform_of
from torchspectral.io.readers.envi.reader import (
    OTHER_FILES,
    EnviArray,
    attributes_of,
    facts_of,
    files_of,
    part_of,
    raw_array,
    values_of,
)
from torchspectral.io.readers.facts import Values, read_options
from torchspectral.io.safety import read_text

NODATA = -9999
OLD_NODATA = -50
"""What reflectance of AVIRIS-Classic holds in every band of pixels without data, where it does not hold -9999."""

CORRECTIONS = ("none", "apply", "undo")
OVERLAPS = ("product", "wavelength")
OBS = (
    "path_length", "sensor_azimuth", "sensor_zenith", "sun_azimuth", "sun_zenith", "phase", "slope", "aspect", "cos_i",
    "utc_time", "earth_sun_distance",
)  # fmt: skip
"""Layers of an ``_obs`` file: path length [m], angles [deg], slope and aspect as stored, cosine, hours, AU."""

_LOC = {"loc": ("longitude", "latitude", "elevation"), "igm": ("easting", "northing", "elevation")}
_STACKS = ("uncertainty", "h2o")
_TO_SI = 10.0  # uW cm-2 nm-1 sr-1 to W m-2 um-1 sr-1
_STRIPE = 16 << 20
MOST_BANDS = 4096


class AvirisArray(EnviArray):
    """Pixels of an image; with `empty` a pixel that holds that number in every band is nodata."""

    def __init__(self, header: EnviHeader, data: Path, part: str = "", empty: int | None = None, **more: Any) -> None:
        super().__init__(raw_array(header, data), part, **more)
        self.empty = empty

    def _window(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        out = super()._window(bands, rows, cols)
        if self.empty is None or not self.decode:
            return out
        stored = np.full((self.shape[0], 1, 1), self.empty, dtype=self.stored)
        looks = decode_values(stored, self.scale, self.offset, self.nodata, dtype=self.dtype)[bands]
        maybe = np.all(out == looks, axis=0)
        # Only where the bands at hand all look empty the others are asked.
        step = max(1, _STRIPE // (self.shape[0] * max(1, cols.stop - cols.start) * self.stored.itemsize))
        for first in range(0, maybe.shape[0], step):
            part = slice(first, min(first + step, maybe.shape[0]))
            if maybe[part].any():
                whole = self.read(slice(0, self.shape[0]), slice(rows.start + part.start, rows.start + part.stop), cols)
                gone = maybe[part] & np.all(whole == self.empty, axis=0)
                np.copyto(out[:, part], np.nan, where=gone)
        return out


class AvirisReader(Reader):
    """Reader of AVIRIS flight lines; takes an image, its header, or the folder of one flight line."""

    name = "aviris"
    title = "AVIRIS-Classic, -NG, -3 (ENVI)"
    patterns = ("ang*_rfl*", "ang*_corr*", "ang*_rdn*", "f*_rfl*", "f*_rdn*", "AV3*_rfl*", "AV3*_rdn*", "AV3*_RFL*")
    options = ("wavelength", "wavelength_units", "quantity", "scale", "nodata", "overlap", "correction")
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By the names of flight lines, and ENVI headers that we did not write."""
        if path.is_dir():
            return 0.9 if has_image(path) else 0.0
        if not flight_name(path) or not kind_of(path) or path.suffix.lower() in OTHER_FILES:
            return 0.0
        header = path if path.suffix.lower() == ".hdr" else find_header(path)
        if header is None or not looks_like_header(header):
            return 0.0
        text = read_text(header)
        return 0.0 if "torchspectral" in text or "spectral library" in text.lower() else 0.95

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open an image as a lazy cube: reflectance, radiance, or what else the flight line has as dn.

        Reflectance in integers without a stated scale is stored / 10000; radiance is converted from uW cm-2 nm-1 sr-1
        (integers by their ``.gain`` file). An image without map coordinates is a swath by its ``_loc`` or ``_igm``
        file, with the lookup table of its ``_glt`` file.

        Parameters
        ----------
        overlap : {"product", "wavelength"}
            Bands in the product's order, in which the wavelengths of overlapping detectors step back (default), or
            sorted by wavelength.
        correction : {"none", "apply", "undo"}
            What to do with the correction factors that headers of AVIRIS-Classic reflectance state: leave the values
            as they are (default), multiply by them, or divide by them. The factors stand in the band coordinate
            ``correction_factor``.

        Raises
        ------
        BrokenProduct, ProductNotFound, BandMismatch, MissingMetadata, BadSettings
        """
        given = read_options(options)
        overlap, correction = options.get("overlap", "product"), options.get("correction", "none")
        for name, value, known in (("overlap", overlap, OVERLAPS), ("correction", correction, CORRECTIONS)):
            if value not in known:
                raise BadSettings(f"got {name}={value!r}, expected one of {', '.join(known)}")
        flight = read_flight(path)
        image = image_of(path, flight)
        header, data = files_of(image)
        kind = kind_of(image)
        facts = facts_of(header, given)
        values, empty = _values(header, data, kind, flight, given)
        factors = _factors(header)
        if factors is None and correction != "none":
            raise BadSettings(f"correction={correction!r}: {header.path.name} states no correction factors")
        if factors is not None and correction != "none":
            change = factors if correction == "apply" else 1.0 / factors
            values = replace(values, scale=values.scale * change, offset=values.offset * change)
            values.notes.append(
                f"values {'multiplied' if correction == 'apply' else 'divided'} by the correction factors"
            )
        array = AvirisArray(
            header, data, part_of(header, None), empty, scale=values.scale, offset=values.offset, nodata=values.nodata
        )
        attrs = {**attributes_of(header, data), "sensor": flight.sensor, "product": flight.name}
        if flight.acquired:
            attrs.setdefault("acquired", flight.acquired)
        if kind in ("rfl", "rdn"):
            attrs["level"] = "L2" if kind == "rfl" else "L1B"
        detector, steps = _detectors(facts.wavelength, flight)
        cube = as_cube(array, quantity=values.quantity, raw=raw, attrs=attrs, detector=detector, **facts.coords())
        if facts.names is not None:
            cube = cube.assign_coords(name=("band", facts.names))
        if factors is not None:
            cube = cube.assign_coords(correction_factor=("band", factors))
        cube, where = on_ground(cube, header, flight)
        cube.attrs["history"] = [
            f"opened {data.name} ({flight.sensor}, {kind or 'image'})", *facts.notes, *values.notes, *steps, *where
        ]  # fmt: skip
        if overlap == "wavelength":
            cube = pick_bands(cube, np.argsort(facts.wavelength, kind="stable"))
            cube.attrs = {**cube.attrs, "history": [*cube.attrs["history"], "bands sorted by wavelength"]}
        return cube

    def layers(self, path: Path) -> list[str]:
        """Angles of the ``_obs`` file, positions of ``_loc`` or ``_igm``, uncertainty and water, as far as they exist."""
        flight = read_flight(path)
        header, _ = files_of(image_of(path, flight))
        return list(_layers(flight, header))

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """One layer, (y, x), on the image's pixels or on those of its own file; ``obs``, ``uncertainty`` and ``h2o``
        have several: (layer, y, x).
        """
        flight = read_flight(path)
        header, _ = files_of(image_of(path, flight))
        known = _layers(flight, header)
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, list(known))}")
        return known[name]()


def _layers(flight: Flight, image: EnviHeader) -> dict[str, Callable[[], xr.DataArray]]:
    """What opens each layer; a companion that promises more bands than any has is damaged and left out."""
    found: dict[str, Callable[[], xr.DataArray]] = {}

    def companion(kind: str) -> EnviHeader | None:
        file = flight.companion(kind, image, match=False)
        return file if file is not None and file.shape[0] <= MOST_BANDS else None

    obs = companion("obs")
    if obs is not None:
        names = OBS[: obs.shape[0]]
        found |= {name: _opener(flight, image, obs, name, n) for n, name in enumerate(names)}
        found["obs"] = _opener(
            flight, image, obs, "obs", None, (*names, *(str(n + 1) for n in range(11, obs.shape[0])))
        )
    for kind, names in _LOC.items():
        place_file = companion(kind)
        if place_file is not None:
            for n, name in enumerate(names[: place_file.shape[0]]):
                found.setdefault(name, _opener(flight, image, place_file, name, n))
    for kind in _STACKS:
        stack = companion(kind)
        if stack is not None:
            labels = stack.items("band names")
            labels = labels if len(labels) == stack.shape[0] else [f"band_{n + 1}" for n in range(stack.shape[0])]
            found[kind] = _opener(flight, image, stack, kind, None, tuple(labels))
    return found


def _opener(
    flight: Flight, image: EnviHeader, file: EnviHeader, name: str, band: int | None, labels: tuple[str, ...] = ()
) -> Callable[[], xr.DataArray]:
    return lambda: _open_layer(flight, image, file, name, band, labels)


def _open_layer(
    flight: Flight, image: EnviHeader, file: EnviHeader, name: str, band: int | None, labels: tuple[str, ...]
) -> xr.DataArray:
    header, data = files_of(file.path)
    numbers = header.numbers("data ignore value")
    array = EnviArray(raw_array(header, data), nodata=float(numbers[0]) if numbers.size else NODATA)
    # Positions and times need more digits than float32 has.
    array.precise = array.stored == np.float64
    variable = xr.Variable(("layer", "y", "x"), indexing.LazilyIndexedArray(array))
    own = transform_of(header)
    if own is None and header.shape[1:] != image.shape[1:]:
        raise BrokenProduct(
            f"{header.path.name} has {header.shape[1]} x {header.shape[2]} pixels, expected {image.shape[1]} x "
            f"{image.shape[2]} as {image.path.name}: it belongs to another image"
        )
    if band is not None:
        layer = xr.DataArray(variable[band], name=name)
    else:
        layer = xr.DataArray(variable, coords={"layer": list(labels)}, name=name)
    layer.attrs["source"] = [str(data)]
    if header.shape[1:] == image.shape[1:]:
        return on_ground(layer, image, flight)[0]
    return place(layer, own, crs_of(header))


def on_ground(value: xr.DataArray, header: EnviHeader, flight: Flight) -> tuple[xr.DataArray, list[str]]:
    """A cube or layer on its map, or on its swath by the positions of the flight line; and lines for the history."""
    transform = transform_of(header)
    if transform is not None:
        return place(value, transform, crs_of(header)), []
    table = flight.companion("glt", header, match=False)
    for kind in ("loc", "igm"):
        file = flight.companion(kind, header)
        if file is None:
            continue
        crs = igm_crs(file, table) if kind == "igm" else None
        if kind == "igm" and crs is None:
            return place(value, None), [f"{file.path.name} does not say in which CRS it counts: not placed"]
        found = positions(file, crs)
        if found is None:
            continue
        lon, lat = (indexing.LazilyIndexedArray(p) for p in found)
        lines = [f"positions from {file.path.name}"]
        glt = None
        if table is not None and transform_of(table) is not None:
            glt = FlightGLT(table.path, (header.shape[1], header.shape[2]))
            lines.append(f"lookup table from {table.path.name}")
        return place_swath(value, lon, lat, glt), lines
    lines = ["no _loc or _igm file beside it: the pixels are placed nowhere"] if kind_of(header.path) else []
    return place(value, None), lines


def _values(
    header: EnviHeader, data: Path, kind: str, flight: Flight, given: dict[str, Any]
) -> tuple[Values, int | None]:
    """What the numbers mean, and the number that fills pixels without data in all bands."""
    bands = header.shape[0]
    values = values_of(header, data, bands, given)
    whole = header.dtype.kind in "iu"
    scaled = bool(np.any(values.scale != 1.0) or np.any(values.offset != 0.0))
    notes = list(values.notes)
    scale, offset, quantity, nodata = values.scale, values.offset, values.quantity, values.nodata
    if not {"quantity", "scale"} & set(given) and kind in ("rfl", "rdn"):
        unsure = quantity == "dn"
        if unsure:
            notes = [line for line in notes if not line.startswith("the file does not say what")]
        if kind == "rfl" and quantity != "radiance":
            if whole and not scaled:
                scale = np.full(bands, 1e-4)
                notes.append("reflectance = stored / 10000, as AVIRIS reflectance in integers has it")
            quantity = "reflectance"
        elif unsure:
            scale, offset, quantity = _radiance(data, flight, scale, offset, whole and not scaled, notes)
    if nodata is None:
        nodata = NODATA
        notes.append("nodata -9999, as AVIRIS products have it (the header does not say)")
    old = kind == "rfl" and flight.sensor == "AVIRIS-Classic" and nodata != OLD_NODATA and "nodata" not in given
    if old:
        notes.append(f"{OLD_NODATA} in all bands is nodata too")
    found = replace(values, scale=scale, offset=offset, quantity=quantity, nodata=nodata, notes=notes)
    return found, OLD_NODATA if old else None


def _radiance(
    data: Path, flight: Flight, scale: np.ndarray, offset: np.ndarray, counts: bool, notes: list[str]
) -> tuple[np.ndarray, np.ndarray, str]:
    if not counts:
        notes.append("radiance in uW cm-2 nm-1 sr-1, as AVIRIS products have it, times 10")
        return scale * _TO_SI, offset * _TO_SI, "radiance"
    file = gain_file(data, flight)
    if file is None:
        notes.append("radiance in integers, but no .gain file beside it: taken as dn")
        return scale, offset, "dn"
    notes.append(f"radiance = stored / gain of {file.name}, in uW cm-2 nm-1 sr-1, times 10")
    return _TO_SI / read_gains(file, scale.size), offset, "radiance"


def read_gains(file: Path, bands: int) -> np.ndarray:
    """First number of each line of a ``.gain`` file: counts for each uW cm-2 nm-1 sr-1, shape (bands,).

    Raises
    ------
    BrokenProduct, BandMismatch
    """
    lines = [line.split() for line in read_text(file).splitlines() if line.strip()]
    try:
        gains = np.array([float(words[0]) for words in lines])
    except ValueError:
        raise BrokenProduct(f"{file.name} is no gain file, expected a number at the start of each line") from None
    if gains.size != bands:
        raise BandMismatch(f"{file.name} has {gains.size} gains for {bands} bands, expected one a band")
    if not np.all(np.isfinite(gains) & (gains > 0)):
        raise BrokenProduct(f"{file.name} has gains that are not positive")
    return gains


def _factors(header: EnviHeader) -> np.ndarray | None:
    """Correction factors of the header, one a band."""
    found = header.numbers("correction factors")
    if not found.size:
        return None
    if found.size != header.shape[0]:
        raise BandMismatch(f"{header.path.name} has {found.size} correction factors for {header.shape[0]} bands")
    if not np.all(np.isfinite(found) & (found != 0)):
        raise BrokenProduct(f"{header.path.name} has correction factors that are zero or no numbers")
    return found


def _detectors(wavelength: np.ndarray, flight: Flight) -> tuple[list[str] | None, list[str]]:
    """Detector of each band of AVIRIS-Classic, A to D: a new one begins where the wavelengths step back."""
    back = np.flatnonzero(np.diff(wavelength) <= 0) + 1
    lines = [f"wavelengths step back before band {', '.join(str(n + 1) for n in back[:6])}"] if back.size else []
    if flight.sensor != "AVIRIS-Classic" or not 1 <= back.size <= 3:
        return None, lines
    return ["ABCD"[int(n)] for n in np.searchsorted(back, np.arange(wavelength.size), side="right")], lines
