"""EMIT products: radiance, reflectance, observations, masks, minerals, methane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import with_history
from torchspectral.errors import BrokenProduct, UnknownName, closest
from torchspectral.io.readers.base import Reader, as_cube, as_layer
from torchspectral.io.readers.emit import minerals
from torchspectral.io.readers.emit.files import COMPANIONS, GASES, Companion, companions, gas_of, kind_of
from torchspectral.io.readers.emit.product import BANDS, AnyBit, EmitProduct, PackedBits
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.hdf5 import FlagArray, Hdf5Array, as_layers, is_hdf5, open_file

# Bands of the observation file, in its order: name and units.
OBSERVATIONS = (
    ("path_length", "m"), ("sensor_azimuth", "deg"), ("sensor_zenith", "deg"), ("sun_azimuth", "deg"),
    ("sun_zenith", "deg"), ("phase", "deg"), ("slope", "deg"), ("aspect", "deg"), ("cosine_i", "1"), ("utc_time", "h"),
    ("earth_sun_distance", "AU"),
)  # fmt: skip
# Bands of the mask file, in its order.
MASKS = (
    ("cloud", "1"), ("cirrus", "1"), ("water", "1"), ("spacecraft", "1"), ("dilated_cloud", "1"), ("aod550", "1"),
    ("water_vapour", "g cm-2"), ("aggregate", "1"),
)  # fmt: skip
_DATA = ("aod550", "water_vapour")
_FLAGS = ("cloud", "cirrus", "water", "spacecraft", "dilated_cloud", "aggregate", "nodata")
_BITS = ("interpolated", "interpolated_bands")


class EmitReader(Reader):
    """Reader of EMIT L1B, L2A and L2B."""

    name = "emit"
    title = "EMIT L1B RAD, OBS; L2A RFL, RFLUNCERT, MASK; L2B MIN, MINUNCERT, CH4, CO2"
    patterns = ("EMIT_L1B_*.nc", "EMIT_L2A_*.nc", "EMIT_L2B_*")
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By the variables and the group ``location``; gas maps by TIFF and name."""
        if gas_of(path):
            return 0.97
        if not is_hdf5(path):
            return 0.0
        return 0.95 if kind_of(Handle(open_file, path).get()) else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open a product on its swath, with longitudes, latitudes and the lookup table.

        RAD is radiance (W m-2 sr-1 um-1), RFL reflectance, RFLUNCERT the uncertainty of it; all others open as layers
        (layer, y, x): observation parameters, masks as stored, mineral identifiers and band depths, gas maps.

        Raises
        ------
        BrokenProduct, MissingMetadata, BandMismatch
        """
        gas = gas_of(path)
        if gas:
            return _gas(path, gas)
        product = EmitProduct(path)
        lines = [f"opened {path.name} (EMIT {product.level} {product.title})"]
        if product.kind == "MIN" or product.kind == "MINUNCERT":
            value = minerals.stacked(product)
        elif product.kind in ("OBS", "MASK"):
            value = _named(product)
        else:
            value = self._cube(product, raw, lines)
        value, notes = product.on_ground(value)
        beside = companions(path, product.kind)
        return with_history(value, [*lines, *notes, *_told(path, product.kind, beside)])

    def _cube(self, product: EmitProduct, raw: bool, lines: list[str]) -> xr.DataArray:
        array = product.array(product.variable)
        count = array.shape[0]
        facts = product.bands(count)
        lines += facts.notes
        quantity = "reflectance"
        if product.kind == "RAD":
            values = product.radiance(count)
            quantity = values.quantity
            array.set_meaning(values.scale, values.offset, array.nodata)
            lines += values.notes
        cube = as_cube(array, quantity=quantity, raw=raw, attrs=product.attributes(), **facts.coords())
        if product.kind == "RFLUNCERT":
            cube.name = product.variable
            cube.attrs["description"] = "uncertainty of reflectance, one standard deviation"
        return cube

    def layers(self, path: Path) -> list[str]:
        """``elevation`` and, from the file itself or the companions beside it, uncertainty, angles, flags, minerals."""
        if gas_of(path):
            return []
        return sorted(_layers(EmitProduct(path)))

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """One layer, on the swath.

        ``cloud`` is the cloud or the dilated cloud flag, ``nodata`` the fill value or the spacecraft in view;
        ``interpolated_bands`` says for each band whether it was interpolated, ``interpolated`` whether any was.
        ``mask`` holds all bands of the mask file as stored; ``aod550`` and ``water_vapour`` are its data bands.
        """
        product = EmitProduct(path)
        known = _layers(product)
        if name not in known:
            missing = [c.pattern for c in companions(path, product.kind) if c.path is None]
            more = f"; not found beside it: {', '.join(missing)}" if missing else ""
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, sorted(known))}{more}")
        source = known[name]
        holder = product if source == product.kind else _companion(product, source)
        return product.on_ground(_layer(holder, name, product))[0]


def _layers(product: EmitProduct) -> dict[str, str]:
    """Layers of a product and its companions: name -> product that holds it."""
    found: dict[str, str] = {}
    kinds = [product.kind, *(c.kind for c in companions(product.path, product.kind) if c.path is not None)]
    for kind in kinds:
        holder = product if kind == product.kind else _companion(product, kind)
        found |= {name: kind for name in _own(holder, product.kind) if name not in found}
    return found


def _own(holder: EmitProduct, asked: str) -> list[str]:
    """Layers that one file holds, for the product `asked`."""
    own = ["elevation"] if holder.kind == asked and "location/elev" in holder.nc.variables else []
    if holder.kind == "RFLUNCERT" and asked != "RFLUNCERT":
        own.append("uncertainty")
    elif holder.kind == "OBS":
        own += [name for name, _ in OBSERVATIONS[: holder.array("obs").shape[0]]]
    elif holder.kind == "MASK":
        own += [*_FLAGS, *_DATA, *(["mask"] if asked != "MASK" else [])]
        own += _BITS if "band_mask" in holder.nc.variables else ()
    elif holder.kind in ("MIN", "MINUNCERT"):
        own += minerals.names(holder)
    return own


def _companion(product: EmitProduct, kind: str) -> EmitProduct:
    """A companion beside a product, of the same pixels.

    Raises
    ------
    BrokenProduct
    """
    path = next((c.path for c in companions(product.path, product.kind) if c.kind == kind), None)
    if path is None:
        raise BrokenProduct(f"the {kind} file beside {product.path.name} is gone")
    found = EmitProduct(path, kind)
    if found.shape != product.shape:
        raise BrokenProduct(
            f"{path.name} has {found.shape} pixels, expected {product.shape} as {product.path.name} beside it"
        )
    return found


def _layer(holder: EmitProduct, name: str, product: EmitProduct) -> xr.DataArray:
    """One layer of a file, not yet on the ground."""
    attrs: dict[str, Any] = {"source": [str(holder.path)]}
    if name == "elevation":
        return as_layer(holder.elevation(), name, {**attrs, "units": "m"})
    if name == "uncertainty":
        array = holder.array(holder.variable)
        numbers = [str(n + 1) for n in range(array.shape[0])]
        return as_layers(array, numbers, name, {**attrs, "units": "1"})
    if holder.kind == "OBS":
        index = [n for n, _ in OBSERVATIONS].index(name)
        return as_layer(_band(holder, index), name, {**attrs, "units": OBSERVATIONS[index][1]})
    if holder.kind in ("MIN", "MINUNCERT"):
        return minerals.layer(holder, name, attrs)
    if name == "mask":
        return _named(holder)
    if name in _BITS:
        bands = product.array(product.variable).shape[0] if product.kind in ("RAD", "RFL") else BANDS
        bits = PackedBits(holder.nc.array(["band_mask"], holder.axes("band_mask")), bands)
        if name == "interpolated":
            return as_layer(AnyBit(bits), name, attrs)
        return as_layers(bits, [str(n + 1) for n in range(bands)], name, attrs)
    order = [n for n, _ in MASKS]
    if name in _DATA:
        index = order.index(name)
        return as_layer(_band(holder, index), name, {**attrs, "units": MASKS[index][1]})
    which = {"cloud": ("cloud", "dilated_cloud"), "nodata": ("spacecraft",)}.get(name, (name,))
    flag = FlagArray(holder.array("mask"), [order.index(n) for n in which], missing=name == "nodata")
    return as_layer(flag, name, attrs)


def _band(holder: EmitProduct, index: int) -> Hdf5Array:
    """One band of the main variable."""
    whole = holder.array(holder.variable)
    array = Hdf5Array(holder.nc.handle, whole.places, whole.axes, [(0, index)])
    array.set_meaning(whole.scale[index], whole.offset[index], whole.nodata)
    return array


def _named(product: EmitProduct) -> xr.DataArray:
    """Observations or masks as layers, (layer, y, x), NaN for nodata."""
    array = product.array(product.variable)
    known = OBSERVATIONS if product.kind == "OBS" else MASKS
    count = array.shape[0]
    if count != len(known):
        raise BrokenProduct(f"{product.path.name}: {product.variable} has {count} bands, expected {len(known)}")
    said = product.names(count)
    attrs = {**product.attributes(), "layer_units": [units for _, units in known]}
    if said:
        attrs["layer_titles"] = said
    return as_layers(array, [name for name, _ in known], product.variable, attrs)


def _gas(path: Path, kind: str) -> xr.DataArray:
    """A gas map, which the GeoTIFF reader opens, with its name and units."""
    from torchspectral.io.readers.geotiff import GeoTiffReader

    cube = GeoTiffReader().open(path, raw=False)
    name, title, units = GASES[kind]
    if cube.sizes["band"] != 1:
        raise BrokenProduct(f"{path.name} has {cube.sizes['band']} bands, expected one: {title}")
    ground = {key: c.variable for key, c in cube.coords.items() if set(c.dims) <= {"y", "x"}}
    data = xr.Variable(("layer", "y", "x"), cube.variable._data)
    layer = xr.DataArray(data, coords={"layer": np.array([name]), **ground}, name=name)
    kept = {k: cube.attrs[k] for k in ("source", "acquired", "nodata") if k in cube.attrs}
    layer.attrs = {**kept, "sensor": "EMIT", "platform": "ISS", "level": "L2B", "product": path.stem, "units": units}
    layer.attrs["history"] = [f"opened {path.name} (EMIT L2B {title}, {units})"]
    layer.encoding = dict(cube.encoding)
    return layer


def _told(path: Path, kind: str, beside: list[Companion]) -> list[str]:
    """Which companions were looked for."""
    if not beside:
        wanted = COMPANIONS.get(kind, ())
        return [f"its name tells no companions ({', '.join(wanted)})"] if wanted else []
    there = [c.kind for c in beside if c.path is not None]
    missing = [c.pattern for c in beside if c.path is None]
    lines = [f"beside it: {', '.join(there)}"] if there else []
    return [*lines, f"looked for and not found beside it: {', '.join(missing)}"] if missing else lines
