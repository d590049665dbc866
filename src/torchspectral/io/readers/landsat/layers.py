"""Layers of Landsat products: flags of the quality bands, temperatures, PAN, angles."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import MissingMetadata
from torchspectral.io.readers.base import as_layer
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.landsat.metadata import Band, LandsatProduct
from torchspectral.io.readers.odl import number_in
from torchspectral.io.readers.stacks import FlagArray, StackArray, ground_of, raster_layer

PIXEL, SATURATION = "FILE_NAME_QUALITY_L1_PIXEL", "FILE_NAME_QUALITY_L1_RADIOMETRIC_SATURATION"
# Flag of the common vocabulary -> bits of QA_PIXEL (Collection 2).
_PIXEL_BITS = {
    "cloud": 1 << 1 | 1 << 3, "cirrus": 1 << 2, "shadow": 1 << 4, "snow": 1 << 5, "water": 1 << 7, "nodata": 1 << 0,
}  # fmt: skip
_PIXEL_MEANINGS = ["fill", "dilated cloud", "cirrus", "cloud", "cloud shadow", "snow", "clear", "water"]
# A bit a band (of nine); above them lie dropped pixels and terrain occlusion, which are no saturation.
_SATURATED_BITS = 0x1FF
# Layer -> key of its file, factor and unit.
_SCALED: dict[str, tuple[str, float, str]] = {
    "emissivity": ("FILE_NAME_EMISSIVITY", 1e-4, "1"),
    "emissivity_deviation": ("FILE_NAME_EMISSIVITY_STDEV", 1e-4, "1"),
    "transmittance": ("FILE_NAME_ATMOSPHERIC_TRANSMITTANCE", 1e-4, "1"),
    "thermal_radiance": ("FILE_NAME_THERMAL_RADIANCE", 1e-3, "W m-2 sr-1 um-1"),
    "upwelled_radiance": ("FILE_NAME_UPWELL_RADIANCE", 1e-3, "W m-2 sr-1 um-1"),
    "downwelled_radiance": ("FILE_NAME_DOWNWELL_RADIANCE", 1e-3, "W m-2 sr-1 um-1"),
    "cloud_distance": ("FILE_NAME_CLOUD_DISTANCE", 1e-2, "km"),
    "temperature_uncertainty": ("FILE_NAME_QUALITY_L2_SURFACE_TEMPERATURE", 1e-2, "K"),
    "view_zenith": ("FILE_NAME_ANGLE_SENSOR_ZENITH_BAND_4", 1e-2, "degree"),
    "view_azimuth": ("FILE_NAME_ANGLE_SENSOR_AZIMUTH_BAND_4", 1e-2, "degree"),
    "sun_zenith": ("FILE_NAME_ANGLE_SOLAR_ZENITH_BAND_4", 1e-2, "degree"),
    "sun_azimuth": ("FILE_NAME_ANGLE_SOLAR_AZIMUTH_BAND_4", 1e-2, "degree"),
}
_STORED = {"qa_pixel": PIXEL, "qa_radsat": SATURATION, "qa_aerosol": "FILE_NAME_QUALITY_L2_AEROSOL"}
_MISSING = -9999.0


class BrightnessArray(StackArray):
    """Brightness temperature [K] of a thermal band, K2 / ln(K1 / L + 1) with L its radiance; float32, shape (1, y, x)."""

    def __init__(
        self, handle: Handle, *, mult: float, add: float, k1: float, k2: float, fill: float, **more: Any
    ) -> None:
        super().__init__([handle], np.array([[0, 1]]), stored=np.float32, **more)
        self.mult, self.add, self.k1, self.k2, self.fill = mult, add, k1, k2, fill

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Temperatures of a window, NaN where the band has nodata."""
        from rasterio.windows import Window

        window = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
        counts = self.handles[0].get().read(indexes=[1], window=window)
        radiance = counts.astype(np.float64) * self.mult + self.add
        with np.errstate(divide="ignore", invalid="ignore"):
            kelvin = np.where(radiance > 0, self.k2 / np.log(self.k1 / radiance + 1), np.nan)
        kelvin[counts == self.fill] = np.nan
        return kelvin.astype(np.float32)


def layer_names(product: LandsatProduct) -> list[str]:
    """Layers whose files are there."""
    names = []
    if product.file(PIXEL):
        names += [n for n in _PIXEL_BITS if n != "cirrus" or product.sensor.startswith("OLI")]
    if product.file(SATURATION):
        names.append("saturated")
    names += [name for name, key in _STORED.items() if product.file(key)]
    if _temperature_key(product):
        names.append("surface_temperature")
    names += [name for name, (key, _, _) in _SCALED.items() if product.file(key)]
    if not product.surface:
        if any(b.label == "8" and b.file for b in product.bands()) and not product.sensor.startswith("MSS"):
            names.append("pan")
        for band in _thermal(product):
            if product.coefficients(band.label, "radiance") is not None:
                names.append(f"thermal_{band.label.lower()}")
                if _constants(product, band) is not None:
                    names.append(f"brightness_temperature_{band.label.lower()}")
    return names


def open_named_layer(product: LandsatProduct, name: str) -> xr.DataArray:
    """One of `layer_names`, (y, x), on its own grid."""
    members = product.members
    if name in _PIXEL_BITS:
        return _flag(product, PIXEL, name, _PIXEL_BITS[name])
    if name == "saturated":
        return _flag(product, SATURATION, name, _SATURATED_BITS)
    if name in _STORED:
        file = product.file(_STORED[name])
        attrs: dict[str, Any] = {}
        if name == "qa_pixel":
            attrs = {"flag_masks": [1 << i for i in range(8)], "flag_meanings": list(_PIXEL_MEANINGS)}
        return raster_layer(members.handle(file), name, members.source(file), attrs)
    if name in _SCALED:
        key, factor, unit = _SCALED[name]
        file = product.file(key)
        handle = members.handle(file)
        stated = handle.get().nodata
        return raster_layer(
            handle, name, members.source(file), {"units": unit}, scale=factor,
            nodata=_MISSING if stated is None else stated, decode=True,
        )  # fmt: skip
    if name == "surface_temperature":
        return _surface_temperature(product)
    if name == "pan":
        return _physical(product, next(b for b in product.bands() if b.label == "8"), name)
    band = next(b for b in _thermal(product) if name.endswith(f"_{b.label.lower()}"))
    return _physical(product, band, name) if name.startswith("thermal_") else _brightness(product, band, name)


def _flag(product: LandsatProduct, key: str, name: str, bits: int) -> xr.DataArray:
    file = product.file(key)
    handle, source = product.members.handle(file), product.members.source(file)
    layer = as_layer(FlagArray([handle], np.array([[0, 1]]), bits=bits, source=source), name, {"source": [source]})
    return ground_of(layer, handle.get())


def _temperature_key(product: LandsatProduct) -> str:
    found = (k for k in product.contents if k.startswith("FILE_NAME_BAND_ST_B") and product.file(k))
    return next(found, "") if product.surface else ""


def _surface_temperature(product: LandsatProduct) -> xr.DataArray:
    key = _temperature_key(product)
    label, group = key.removeprefix("FILE_NAME_BAND_"), "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS"
    scale = number_in(product.groups, group, f"TEMPERATURE_MULT_BAND_{label}")
    offset = number_in(product.groups, group, f"TEMPERATURE_ADD_BAND_{label}")
    if scale is None or offset is None:
        raise MissingMetadata(
            f"{product.mtl} has no TEMPERATURE_MULT_BAND_{label} in {group}: open the file as GeoTIFF"
        )
    file = product.file(key)
    return raster_layer(
        product.members.handle(file), "surface_temperature", product.members.source(file),
        {"units": "K", "long_name": f"surface temperature ({label})"},
        scale=scale, offset=offset, nodata=0, decode=True,
    )  # fmt: skip


def _thermal(product: LandsatProduct) -> list[Band]:
    return [b for b in product.bands() if b.thermal and b.file]


def _physical(product: LandsatProduct, band: Band, name: str) -> xr.DataArray:
    """PAN in the cube's quantity, or a thermal band as radiance."""
    found, quantity = None, "radiance"
    for quantity in ("reflectance", "radiance"):
        found = product.coefficients(band.label, quantity)
        if found is not None:
            break
    if found is None:
        raise MissingMetadata(f"{product.mtl} has no coefficients of band {band.label}: open the file as GeoTIFF")
    handle = product.members.handle(band.file)
    stated = handle.get().nodata
    units = "1" if quantity == "reflectance" else "W m-2 sr-1 um-1"
    return raster_layer(
        handle, name, product.members.source(band.file), {"quantity": quantity, "units": units},
        scale=found.scale, offset=found.offset, nodata=0 if stated is None else stated, decode=True,
    )  # fmt: skip


def _constants(product: LandsatProduct, band: Band) -> tuple[float, float] | None:
    for group in ("LEVEL1_THERMAL_CONSTANTS", "TIRS_THERMAL_CONSTANTS", "THERMAL_CONSTANTS"):
        k1, k2 = (number_in(product.groups, group, f"{k}_CONSTANT_BAND_{band.label}") for k in ("K1", "K2"))
        if k1 is not None and k2 is not None:
            return k1, k2
    return None


def _brightness(product: LandsatProduct, band: Band, name: str) -> xr.DataArray:
    handle, source = product.members.handle(band.file), product.members.source(band.file)
    found, constants = product.coefficients(band.label, "radiance"), _constants(product, band)
    assert found is not None and constants is not None
    stated = handle.get().nodata
    array = BrightnessArray(
        handle, mult=found.scale, add=found.offset, k1=constants[0], k2=constants[1],
        fill=0 if stated is None else float(stated), source=source,
    )  # fmt: skip
    attrs = {"units": "K", "long_name": "brightness temperature at the sensor", "source": [source]}
    return ground_of(as_layer(array, name, attrs), handle.get())
