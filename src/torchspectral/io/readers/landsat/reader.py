"""Landsat Level 1 and Level 2 products (USGS): MTL file and one GeoTIFF a band."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadSettings, BrokenProduct, MissingMetadata, TorchspectralError, UnknownName, closest
from torchspectral.io.readers.base import Reader, as_cube
from torchspectral.io.readers.landsat.layers import layer_names, open_named_layer
from torchspectral.io.readers.landsat.metadata import MTL, Band, LandsatProduct
from torchspectral.io.readers.members import members_of
from torchspectral.io.readers.stac.item import read_item
from torchspectral.io.readers.stacks import StackArray, check_alike, ground_of

QUANTITIES = ("reflectance", "radiance")
FILL = 0


class LandsatReader(Reader):
    """Reader of Landsat products; takes the folder, the MTL file, or the STAC item beside it."""

    name = "landsat"
    title = "Landsat Level 1 and Level 2"
    patterns = ("L*_MTL.txt", "L*_MTL.json")
    options = ("quantity",)
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By the MTL file and what it names."""
        if path.is_dir():
            found = members_of(path).match(MTL)
            return 0.95 if any(_is_mtl(path / name) for name, _ in found) else 0.0
        if re.fullmatch(MTL, path.name, re.IGNORECASE) or path.name.upper().endswith("MTL.TXT"):
            return 0.95 if _is_mtl(path) else 0.0
        return 0.97 if path.suffix.lower() == ".json" and _mtl_of_item(path) is not None else 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open the bands of the main grid as one lazy cube, sorted by wavelength.

        Level 2: surface reflectance. Level 1: top-of-atmosphere reflectance (divided by the sine of the sun's elevation)
        where the MTL has its coefficients, else radiance. ``number`` is the product's band number. Thermal bands are part
        of the cube where the quantity is radiance, since the product then says what they are; else they are layers, as
        are the panchromatic band and those of another pixel size.

        Parameters
        ----------
        quantity : {"reflectance", "radiance"}
            Of Level 1 products that say both.

        Raises
        ------
        BrokenProduct, MissingMetadata, BadSettings, UnsafeInput
        """
        product = LandsatProduct(_mtl_of_item(path) or path)
        wanted = options.get("quantity")
        if wanted is not None and wanted not in QUANTITIES:
            raise BadSettings(f"got quantity={wanted!r}, expected reflectance or radiance (raw=True hands out DN)")
        quantity, bands = chosen_bands(product, wanted)
        here = [b for b in bands if b.file]
        if not here:
            raise BrokenProduct(
                f"none of the band files that {product.mtl} names is beside it: expected {_name(product, bands[0])}"
            )
        here = _main_grid(product, here)
        here.sort(key=lambda b: (math.isnan(b.wavelength), b.wavelength))
        handles = [product.members.handle(b.file) for b in here]
        check_alike(handles, [b.file for b in here])
        found = [product.coefficients(b.label, quantity) for b in here]
        scale = np.array([c.scale for c in found if c is not None])
        offset = np.array([c.offset for c in found if c is not None])
        nodata, note = nodata_of(handles[0].get())
        where = np.column_stack([np.arange(len(here)), np.ones(len(here), int)])
        source = [product.members.source(product.mtl), *(product.members.source(b.file) for b in here)]
        array = StackArray(handles, where, source=source[1], scale=scale, offset=offset, nodata=nodata)
        missing = [b.label for b in bands if not b.file]
        history = [
            f"opened {product.name} ({product.spacecraft} {product.sensor} {product.level})",
            f"value = DN * {quantity.upper()}_MULT + {quantity.upper()}_ADD of the MTL"
            + ("" if quantity == "radiance" or product.surface else ", divided by sin(sun elevation)"),
            note,
            "wavelengths: nominal band edges of the sensor, the product states none",
        ]
        if missing:
            history.append(f"bands without a file beside the MTL left out: {', '.join(missing)}")
        attrs = {**product.attributes(), "source": source, "history": history}
        cube = as_cube(
            array,
            quantity=quantity,
            raw=raw,
            attrs=attrs,
            wavelength=[b.wavelength for b in here],
            fwhm=[b.fwhm for b in here],
            number=[b.number for b in here],
        )
        cube = cube.assign_coords(name=("band", [f"B{b.label}" for b in here]))
        return ground_of(cube, handles[0].get())

    def layers(self, path: Path) -> list[str]:
        """Flags in the common vocabulary, the quality bands themselves, temperatures, PAN and angles that are there."""
        return layer_names(LandsatProduct(_mtl_of_item(path) or path))

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """One layer on its own grid; physical ones are float32 with NaN."""
        product = LandsatProduct(_mtl_of_item(path) or path)
        known = layer_names(product)
        if name not in known:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, known)}")
        return open_named_layer(product, name)


def chosen_bands(product: LandsatProduct, wanted: str | None) -> tuple[str, list[Band]]:
    """Quantity of the cube and the bands that have it (without the panchromatic one).

    Raises
    ------
    MissingMetadata
        No band has coefficients of the quantity.
    """
    bands = [b for b in product.bands() if not (b.label == "8" and not product.sensor.startswith("MSS"))]
    for quantity in [wanted] if wanted else QUANTITIES:
        found = [b for b in bands if product.coefficients(b.label, quantity) is not None]
        if found:
            return quantity, found
    raise MissingMetadata(
        f"{product.mtl} has no {wanted or 'reflectance or radiance'} coefficients for its bands: "
        + ("Level 2 is surface reflectance only" if product.surface else "open the files as GeoTIFF for their DN")
    )


def nodata_of(dataset: Any) -> tuple[float, str]:
    """What stands for nodata in a band, and a line for the history."""
    if dataset.nodata is not None:
        return float(dataset.nodata), f"nodata {dataset.nodata:g} (as the files say)"
    return float(FILL), f"nodata {FILL} (fill of all Landsat products; the files say none)"


def _main_grid(product: LandsatProduct, bands: list[Band]) -> list[Band]:
    """Bands of the size of the first reflective one."""
    lead = next((b for b in bands if not b.thermal), bands[0])
    first = product.members.handle(lead.file).get()
    size = first.height, first.width
    return [b for b in bands if (d := product.members.handle(b.file).get()) and (d.height, d.width) == size]


def _name(product: LandsatProduct, band: Band) -> str:
    return product.contents.get(f"FILE_NAME_BAND_{band.label}", "")


def _is_mtl(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(1 << 16)
    return b"LANDSAT" in start and b"METADATA_FILE" in start and b"SPACECRAFT_ID" in start


def _mtl_of_item(path: Path) -> Path | None:
    """The MTL file beside a STAC item of a Landsat product; None where there is none."""
    if path.suffix.lower() != ".json" or re.fullmatch(MTL, path.name, re.IGNORECASE) or not path.is_file():
        return None
    try:
        item = read_item(path)
    except TorchspectralError:
        return None
    if not isinstance(item.get("id"), str):
        return None
    stem = re.sub(r"_(SR|ST|TOA)$", "", item["id"])
    if not re.fullmatch(r"L[A-Z]\w+", stem):
        return None
    return next((p for s in ("txt", "json") if (p := path.parent / f"{stem}_MTL.{s}").is_file()), None)
