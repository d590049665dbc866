"""NEON AOP reflectance and radiance (HDF5), flight lines and mosaic tiles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine

from torchspectral.errors import BadCube, BandMismatch, BrokenProduct, MissingMetadata, UnknownName, closest
from torchspectral.geo.grids import place
from torchspectral.io.readers.base import Reader, as_cube, as_layer
from torchspectral.io.readers.envi.header import EnviHeader, crs_of, transform_of
from torchspectral.io.readers.facts import Values, band_facts, guess_quantity
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.hdf5 import (
    Hdf5Array,
    as_layers,
    attribute,
    is_hdf5,
    is_numeric,
    open_file,
    plain,
    text_attribute,
    vector,
)

_KINDS = ("Reflectance", "Radiance")
_UNITS = "microwatts/cm^2/nm/sr"
# Names of ours for the layers whose stored names differ from file to file.
_NAMES = {
    "to_sensor_azimuth_angle": "sensor_azimuth",
    "to_sensor_zenith_angle": "sensor_zenith",
    "smooth_surface_elevation": "elevation",
}


class NeonProduct:
    """One site of a file: where its arrays lie and what its attributes say.

    Raises
    ------
    BrokenProduct
        No NEON file.
    MissingMetadata
        Several sites and no choice among them.
    UnknownName
    """

    def __init__(self, path: Path, key: Any = None) -> None:
        self.path = path
        self.handle = Handle(open_file, path)
        self.file = self.handle.get()
        found = sites(self.file)
        if not found:
            raise BrokenProduct(
                f"{path.name} has no /SITE/Reflectance/Reflectance_Data or /SITE/Radiance/Radiance_Data; its groups are "
                f"{', '.join(list(self.file)[:10]) or 'none'}"
            )
        names = list(found)
        if key is not None and str(key) not in found:
            raise UnknownName(f"{path.name} has no site {key!r}: {closest(str(key), names)}")
        if key is None and len(names) > 1:
            raise MissingMetadata(f"{path.name} holds {len(names)} sites: give key= (one of {', '.join(names)})")
        self.name = str(key) if key is not None else names[0]
        self.site, self.kind, self.data = found[self.name]
        self.group = self.file[self.site][self.kind]

    def get(self, below: str) -> Any:
        """An object below ``Metadata``; None where it is absent."""
        return self.group.get(f"Metadata/{below}")

    def axes(self, bands: int) -> tuple[int, int, int]:
        """Which axis is band, y, x: by the labels of the dimensions, else by the number of wavelengths.

        Raises
        ------
        BandMismatch
        """
        dataset = self.file[self.data]
        labels = [w.strip().lower() for w in text_attribute(dataset, "Dimension_Labels").split(",")]
        band = next((n for n, w in enumerate(labels) if w.startswith(("wavelength", "band"))), -1)
        if len(labels) != 3 or band < 0:
            fits = [axis for axis in (2, 0, 1) if dataset.shape[axis] == bands]
            band = fits[0] if fits else 2
        if dataset.shape[band] != bands:
            raise BandMismatch(
                f"{self.path.name}: {self.data} has shape {dataset.shape}, none of whose axes has the {bands} bands that "
                "Spectral_Data/Wavelength states"
            )
        y, x = (axis for axis in range(3) if axis != band)
        return band, y, x

    def ground(self) -> tuple[Affine | None, Any, list[str]]:
        """Transform (Map_Info counts outer corners), CRS and lines for the history."""
        item = self.get("Coordinate_System/Map_Info")
        if item is None:
            return None, None, ["no Coordinate_System/Map_Info: the pixels are placed nowhere"]
        header = EnviHeader(self.path, {"map info": str(plain(item[()])).strip("{} ")})
        code = self.get("Coordinate_System/EPSG Code")
        digits = re.sub(r"\D", "", str(plain(code[()]))) if code is not None else ""
        crs = int(digits) if digits and int(digits) > 0 else crs_of(header)
        return transform_of(header), crs, []

    def layers(self) -> dict[str, str]:
        """Layers on the cube's pixels: name -> dataset."""
        shape = self.file[self.data].shape
        sizes = {(shape[a], shape[b]) for a in range(3) for b in range(3) if a < b}
        found = {}
        for below in ("", "Ancillary_Imagery"):
            group = self.get(below) if below else self.group.get("Metadata")
            for key in group if group is not None and hasattr(group, "keys") else ():
                item = group.get(key)
                if is_numeric(item) and item.ndim in (2, 3) and tuple(item.shape[:2]) in sizes:
                    plain_name = re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_")
                    found[_NAMES.get(plain_name, plain_name)] = item.name
        return found

    def attributes(self) -> dict[str, Any]:
        """Attributes of the cube."""
        found: dict[str, Any] = {
            "sensor": "NEON",
            "platform": "NEON AOP",
            "level": self.kind,
            "product": self.path.stem,
            "site": self.name,
            "source": [str(self.path)],
        }
        for name, below in (("sun_zenith", "Solar_Zenith_Angle"), ("sun_azimuth", "Solar_Azimuth_Angle")):
            angles = self._logged(below)
            if len(angles) == 1:
                found[name] = angles[0]
        return found

    def _logged(self, name: str) -> list[float]:
        """Numbers of that name in the logs: one for a flight line, one each for the lines of a tile."""
        logs = self.get("Logs")
        if logs is None or not hasattr(logs, "keys"):
            return []
        items = [logs.get(name), *(logs[key].get(name) for key in logs if hasattr(logs.get(key), "keys"))]
        values = [float(item[()].reshape(-1)[0]) for item in items if is_numeric(item) and item.size == 1]
        return sorted({v for v in values if np.isfinite(v) and v > -9999})


def sites(file: Any) -> dict[str, tuple[str, str, str]]:
    """Cubes of an open file: site (with the kind, where it has both) -> group, kind, dataset."""
    found = []
    for site in file:
        group = file.get(site)
        for kind in _KINDS:
            inner = group.get(kind) if hasattr(group, "keys") else None
            data = inner.get(f"{kind}_Data") if inner is not None and hasattr(inner, "keys") else None
            if data is not None and is_numeric(data) and data.ndim == 3:
                found.append((str(site), kind, data.name))
    many = {site for site, _, _ in found if sum(s == site for s, _, _ in found) > 1}
    return {(f"{s}/{kind}" if s in many else s): (s, kind, data) for s, kind, data in found}


class NeonReader(Reader):
    """Reader of NEON AOP files."""

    name = "neon"
    title = "NEON AOP reflectance and radiance (HDF5)"
    patterns = ("NEON_D??_*.h5",)
    options = ("key",)
    layer_options = options
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By the groups ``/SITE/Reflectance/Reflectance_Data``."""
        if not is_hdf5(path):
            return 0.0
        return 0.95 if sites(Handle(open_file, path).get()) else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open reflectance (0..1; negative values are values) or radiance of one site.

        Bands inside ``Band_Window_1_Nanometers`` and ``Band_Window_2_Nanometers`` are marked bad.

        Parameters
        ----------
        key : str
            The site, where the file holds several.

        Raises
        ------
        MissingMetadata, UnknownName, BandMismatch, BrokenProduct
        """
        product = NeonProduct(path, options.get("key"))
        dataset = product.file[product.data]
        centres = product.get("Spectral_Data/Wavelength")
        if centres is None:
            raise MissingMetadata(
                f"{path.name} has no {product.site}/{product.kind}/Metadata/Spectral_Data/Wavelength, which holds the "
                "centres of its bands"
            )
        stated = vector(centres, path)
        width = product.get("Spectral_Data/FWHM")
        axes = product.axes(stated.size)
        facts = band_facts(
            stated.size,
            path.name,
            wavelength=stated,
            units=text_attribute(centres, "Units", "units") or text_attribute(product.group, "Wavelength_Units"),
            fwhm=() if width is None else vector(width, path),
        )
        values = _values(dataset, product.kind, stated.size)
        array = Hdf5Array(
            product.handle, [product.data], axes, scale=values.scale, offset=values.offset, nodata=values.nodata
        )
        good, windows = _outside_windows(product, facts.wavelength)
        attrs = product.attributes()
        transform, crs, notes = product.ground()
        attrs["history"] = [
            f"opened {product.kind} of {product.name} in {path.name} (NEON AOP)",
            *facts.notes,
            *values.notes,
            *windows,
            *notes,
        ]
        coords = {**facts.coords(), "good": facts.good & good}
        return place(as_cube(array, quantity=values.quantity, raw=raw, attrs=attrs, **coords), transform, crs)

    def layers(self, path: Path) -> list[str]:
        """Ancillary imagery (aerosol optical depth, cast shadow, slope, ...) and angles, where the file has them."""
        found = sites(Handle(open_file, path).get())
        names = [set(NeonProduct(path, key).layers()) for key in found]
        return sorted(set.union(*names)) if names else []

    def open_layer(self, path: Path, name: str, **options: Any) -> xr.DataArray:
        """One of them, (y, x) or (layer, y, x): physical values where the file states a scale or nodata."""
        product = NeonProduct(path, options.get("key"))
        known = product.layers()
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, sorted(known))}")
        item = product.file[known[name]]
        factor, nodata = _number(item, "Scale_Factor"), _number(item, "Data_Ignore_Value")
        array = Hdf5Array(
            product.handle,
            [known[name]],
            (2, 0, 1) if item.ndim == 3 else (-1, 0, 1),
            scale=1.0 / factor if factor else 1.0,
            nodata=nodata,
        )
        array.decode = array.stored.kind == "f" or array.scaled
        facts: dict[str, Any] = {}
        if array.nodata is not None and not array.decode:
            facts["nodata"] = array.nodata
        units = text_attribute(item, "Units", "units")
        facts |= {"units": units} if units else {}
        transform, crs, _ = product.ground()
        if item.ndim == 2:
            return place(as_layer(array, name, facts), transform, crs)
        return place(as_layers(array, [str(n + 1) for n in range(item.shape[2])], name, facts), transform, crs)


def _number(item: Any, name: str) -> float | None:
    value = attribute(item, name)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _values(dataset: Any, kind: str, bands: int) -> Values:
    """Scale, nodata and quantity of the data; reflectance is divided by its factor.

    Raises
    ------
    MissingMetadata, BadCube
    """
    factor, nodata = _number(dataset, "Scale_Factor"), _number(dataset, "Data_Ignore_Value")
    if factor is not None and not (np.isfinite(factor) and factor > 0):
        raise BadCube(f"{dataset.name} states Scale_Factor {factor:g}, expected a positive number")
    if factor is None and kind == "Reflectance" and dataset.dtype.kind in "iu":
        raise MissingMetadata(f"{dataset.name} has no attribute Scale_Factor, by which its integers are divided")
    notes = [] if factor in (None, 1.0) else [f"value = stored / {factor:g} (Scale_Factor)"]
    values = Values(np.full(bands, 1.0 / (factor or 1.0)), np.zeros(bands), nodata, "", notes)
    if kind == "Reflectance":
        values.quantity = "reflectance"
        return values
    words = text_attribute(dataset, "Units", "units")
    if not words:
        words = _UNITS
        values.notes.append(f"radiance without units taken as {_UNITS}")
    return guess_quantity(values, words=words, floats=dataset.dtype.kind == "f")


def _outside_windows(product: NeonProduct, wavelength: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Which bands lie outside the bad band windows, and lines for the history."""
    good, notes = np.ones(wavelength.size, dtype=bool), []
    for item in (product.group, product.file[product.data]):
        for number in (1, 2):
            window = _pair(item.attrs, f"Band_Window_{number}_Nanometers")
            if window is not None:
                with np.errstate(invalid="ignore"):
                    good &= ~((wavelength >= window[0]) & (wavelength <= window[1]))
                notes.append(f"bands of {window[0]:g}-{window[1]:g} nm marked bad (Band_Window_{number}_Nanometers)")
    return good, notes


def _pair(attrs: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    if name not in attrs:
        return None
    value = plain(attrs[name])
    words = re.findall(r"-?\d+(?:\.\d+)?", value) if isinstance(value, str) else np.asarray(value).reshape(-1)
    return (float(words[0]), float(words[1])) if len(words) == 2 else None
