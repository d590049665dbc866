"""Arrays and facts of one EMIT netCDF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BandMismatch, BrokenProduct, MissingMetadata
from torchspectral.geo.grids import place, place_swath
from torchspectral.io.readers.base import StoredArray
from torchspectral.io.readers.emit.files import KINDS, kind_of
from torchspectral.io.readers.facts import BandFacts, Values, band_facts, guess_quantity
from torchspectral.io.readers.hdf5 import Hdf5Array, as_plane, attribute, text_attribute, texts, vector
from torchspectral.io.readers.netcdf import NetcdfFile

NODATA = -9999.0
BANDS = 285
_DIMS = {"band": ("bands", "band", "wavelengths"), "y": ("downtrack",), "x": ("crosstrack",)}
_PARAMETERS = "sensor_band_parameters"


class EmitProduct:
    """An open file: which product it is, where its arrays lie and what its attributes say.

    Raises
    ------
    BrokenProduct
        None of EMIT's netCDF products.
    """

    def __init__(self, path: Path, kind: str = "") -> None:
        self.path = path
        self.nc = NetcdfFile(path)
        self.file = self.nc.file
        self.kind = kind_of(self.file)
        if not self.kind or (kind and self.kind != kind):
            wanted = KINDS[kind][1] if kind else ", ".join(variable for _, variable, _ in KINDS.values())
            raise BrokenProduct(
                f"{path.name} is {'EMIT ' + self.kind if self.kind else 'no EMIT product'}, expected a file with the "
                f"variable {wanted} and the group location"
            )
        self.level, self.variable, self.title = KINDS[self.kind]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        item = self.file[self.variable]
        _, y, x = self.axes(self.variable)
        return int(item.shape[y]), int(item.shape[x])

    def axes(self, place_: str) -> tuple[int, int, int]:
        """Which axis of a variable is band (-1 without), y, x: by the names of its dimensions, else downtrack first.

        Raises
        ------
        BrokenProduct
        """
        item = self.file[place_]
        if item.ndim not in (2, 3):
            raise BrokenProduct(
                f"{self.path.name}: {place_} has shape {item.shape}, expected (downtrack, crosstrack, bands)"
            )
        names = [name.lower() for name in self.nc.dims(place_)]
        found = [next((n for n, name in enumerate(names) if name in _DIMS[axis]), -1) for axis in ("band", "y", "x")]
        if found[1] < 0 or found[2] < 0:
            return (2 if item.ndim == 3 else -1), 0, 1
        if item.ndim == 3 and found[0] < 0:
            found[0] = 3 - found[1] - found[2]
        return found[0], found[1], found[2]

    def array(self, place_: str) -> Hdf5Array:
        """Lazy (band, y, x) array of a variable, -9999 where it does not say what stands for nodata."""
        array = self.nc.array([place_], self.axes(place_))
        if array.nodata is None and array.stored.kind == "f":
            array.set_meaning(array.scale, array.offset, NODATA)
        return array

    def bands(self, count: int) -> BandFacts:
        """Wavelengths, widths and good bands.

        Raises
        ------
        MissingMetadata, BandMismatch
        """
        stated = self.file.get(f"{_PARAMETERS}/wavelengths")
        if stated is None:
            raise MissingMetadata(
                f"{self.path.name} has no {_PARAMETERS}/wavelengths, which holds the centres of its bands: give wavelength="
            )
        width, good = (self.file.get(f"{_PARAMETERS}/{name}") for name in ("fwhm", "good_wavelengths"))
        return band_facts(
            count,
            self.path.name,
            wavelength=vector(stated, self.path),
            units=text_attribute(stated, "units"),
            fwhm=() if width is None else vector(width, self.path),
            good=() if good is None else vector(good, self.path),
        )

    def names(self, count: int) -> list[str]:
        """Names of the bands of observations or masks as the file states them; empty where it does not."""
        for name in ("observation_bands", "mask_bands"):
            item = self.file.get(f"{_PARAMETERS}/{name}")
            if item is not None:
                found = texts(item, self.path)
                if len(found) != count:
                    raise BandMismatch(f"{self.path.name}: {name} names {len(found)} bands, the data have {count}")
                return found
        return []

    def radiance(self, count: int) -> Values:
        """Factor from the units of the file, uW cm-2 sr-1 nm-1, to W m-2 sr-1 um-1."""
        words = text_attribute(self.file[self.variable], "units")
        packing = self.nc.packing(self.variable)
        values = Values(np.full(count, packing.scale), np.full(count, packing.offset), packing.nodata)
        if not words:
            words = "uW/cm^2/sr/nm"
            values.notes.append("radiance without units taken as uW cm-2 sr-1 nm-1, as the product is defined")
        found = guess_quantity(values, words=words, floats=True)
        if found.quantity != "radiance":
            raise BrokenProduct(f"{self.path.name}: radiance is stated in {words!r}, expected uW/cm^2/SR/nm")
        return found

    def on_ground(self, value: xr.DataArray) -> tuple[xr.DataArray, list[str]]:
        """A cube or layers on the swath with its lookup table, and lines for the history.

        Raises
        ------
        BrokenProduct
            Positions of another size.
        """
        if not all(name in self.nc.variables for name in ("location/lon", "location/lat")):
            return place(value, None), ["no location/lon and lat: the pixels are placed nowhere"]
        planes = []
        for name in ("location/lon", "location/lat"):
            array = self._located(name)
            if array.shape[1:] != value.shape[-2:]:
                raise BrokenProduct(
                    f"{self.path.name}: {name} has {array.shape[1:]} pixels, expected {value.shape[-2:]} as {self.variable}"
                )
            planes.append(as_plane(array))
        glt = self.nc.glt(
            ("location/glt_x", "location/glt_y"),
            attribute(self.file, "geotransform"),
            text_attribute(self.file, "spatial_ref") or "EPSG:4326",
        )
        notes = [] if glt is not None else ["no lookup table (location/glt_x, glt_y, geotransform)"]
        return place_swath(value, planes[0], planes[1], glt), notes

    def _located(self, name: str) -> Hdf5Array:
        array = self.nc.plane(name, self.axes(name)[1:])
        if array.nodata is None:
            array.set_meaning(array.scale, array.offset, NODATA)
        return array

    def elevation(self) -> Hdf5Array:
        """Height of the pixels [m]."""
        return self._located("location/elev")

    def attributes(self) -> dict[str, Any]:
        """Attributes of the cube."""
        found = self.nc.attributes(sensor="EMIT", platform="ISS", level=self.level, product=self.path.stem)
        version = text_attribute(self.file, "software_build_version")
        line = text_attribute(self.file, "flight_line")
        return found | ({"revision": version} if version else {}) | ({"flight_line": line} if line else {})


class PackedBits(StoredArray):
    """Bits of packed bytes as (band, y, x) of 0 and 1; the first band is the highest bit of the first byte.

    Parameters
    ----------
    packed : StoredArray, shape (bytes, y, x)
    bands : int
        How many bits count.
    """

    def __init__(self, packed: StoredArray, bands: int) -> None:
        self.packed = packed
        if packed.stored != np.uint8 or 8 * packed.shape[0] < bands:
            raise BrokenProduct(
                f"{Path(packed.source).name}: band_mask has {packed.shape[0]} values of {packed.stored}, expected bytes "
                f"for {bands} bands"
            )
        super().__init__((bands, *packed.shape[1:]), np.uint8, source=packed.source, decode=False)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Flags of a window."""
        wanted = np.arange(self.shape[0])[bands]
        low, high = int(wanted.min()) // 8, int(wanted.max()) // 8 + 1
        block = self.packed.read(slice(low, high), rows, cols)
        shifts = (7 - wanted % 8).astype(np.uint8)
        return (block[wanted // 8 - low] >> shifts[:, None, None]) & np.uint8(1)


class AnyBit(StoredArray):
    """True where any bit of packed bytes is set; shape (1, y, x)."""

    def __init__(self, bits: PackedBits) -> None:
        self.bits = bits
        super().__init__((1, *bits.shape[1:]), bool, source=bits.source, decode=False)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """The flag in a window; padding bits do not count."""
        count = self.bits.shape[0]
        block = self.bits.packed.read(slice(0, -(-count // 8)), rows, cols)
        if count % 8:
            block = np.array(block)
            block[-1] &= np.uint8((0xFF << (8 - count % 8)) & 0xFF)
        return np.asarray(block.any(axis=0))[None]
