"""Labels from class rasters: whole numbers with names and colours, on the pixels of a cube."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube, BadInput, MissingMetadata, UnknownName, closest
from torchspectral.io.labels.pixels import GROUND

LAYER_NAMES = ("labels", "gt", "groundtruth", "ground_truth", "classes", "map", "mask_train")
"""Layers that are taken as labels where a product has several, the first found."""

_KEPT = ("class_names", "class_colors", "source", "licence")


def read_class_raster(file: Path, layer: str | None = None) -> xr.DataArray:
    """Read a class raster on its own pixels: GeoTIFF, ENVI classification, Zarr or a MATLAB ground truth.

    Raises
    ------
    BadInput
        Fractions, negative or too large numbers, several bands.
    UnknownName, UnknownProduct, BrokenProduct
    """
    return _whole_numbers(_plane(file, layer), file)


def _plane(file: Path, layer: str | None) -> xr.DataArray:
    from torchspectral.io.opening import find_reader, list_layers, open_product

    known = list_layers(file)
    chosen = layer or next((n for want in LAYER_NAMES for n in known if n.lower() == want), None)
    if layer is not None and layer not in known:
        raise UnknownName(f"{file.name} has no layer {layer!r}: {closest(layer, known)}")
    if chosen is not None:
        reader, found = find_reader(file)
        plane = reader.open_layer(found, chosen)
        return plane.isel(layer=0, drop=True) if "layer" in plane.dims else plane
    try:
        opened = open_product(file, raw=True)
    except (BadCube, MissingMetadata) as error:
        raise BadInput(f"{file.name} holds no class raster: {error}") from None
    if not isinstance(opened, xr.DataArray) or opened.ndim != 3 or opened.shape[0] != 1:
        shape = getattr(opened, "shape", ())
        raise BadInput(f"{file.name} holds an array of shape {shape}, expected one band of class numbers")
    return opened.isel({opened.dims[0]: 0}, drop=True)


def _whole_numbers(plane: xr.DataArray, file: Path) -> xr.DataArray:
    values = np.asarray(plane.values)
    nodata = (plane.attrs.get("packing") or {}).get("nodata", plane.attrs.get("nodata"))
    if values.dtype.kind == "f":
        values = np.where(np.isfinite(values), values, 0)
    if nodata is not None:
        values = np.where(values == nodata, 0, values)
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise BadInput(f"{file.name} holds fractions, expected whole class numbers: is it a class raster?")
    least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if least < 0 or most > 65535:
        raise BadInput(f"{file.name} holds numbers from {least} to {most}, expected class numbers from 0 to 65535")
    out = xr.DataArray(
        values.astype(np.uint8 if most < 256 else np.uint16),
        dims=("y", "x"),
        coords={k: c.variable for k, c in plane.coords.items() if set(c.dims) <= {"y", "x"} and k in GROUND},
        name="labels",
        attrs={k: v for k, v in plane.attrs.items() if k in _KEPT},
    )
    out.attrs.setdefault("source", [str(file)])
    out.attrs["history"] = [f"labels of {file.name}"]
    return out
