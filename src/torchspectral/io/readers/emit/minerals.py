"""EMIT L2B minerals: identifiers, band depths, and the names behind the identifiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from torchspectral.io.readers.base import StoredArray, as_layer
from torchspectral.io.readers.emit.product import EmitProduct
from torchspectral.io.readers.hdf5 import Hdf5Array, as_layers, is_numeric, texts, vector


def names(product: EmitProduct) -> list[str]:
    """Variables ``group_1_*`` and ``group_2_*`` of the file's pixels, identifiers before what belongs to them."""
    found = [n for n in product.nc.variables if n.startswith("group_") and product.file[n].ndim == 2]
    shape = product.file[product.variable].shape
    return sorted((n for n in found if product.file[n].shape == shape), key=lambda n: (n[:7], "mineral_id" not in n, n))


def stacked(product: EmitProduct) -> xr.DataArray:
    """All of them as float32 layers, (layer, y, x); the names of the minerals are attributes."""
    known = names(product)
    array = LayerStack([product.array(name) for name in known])
    return as_layers(array, known, product.variable, {**product.attributes(), **legend(product)})


def layer(product: EmitProduct, name: str, attrs: dict[str, Any]) -> xr.DataArray:
    """One of them, (y, x): identifiers as integers with their names, all else float32."""
    array: Hdf5Array = product.array(name)
    if "mineral_id" not in name:
        return as_layer(array, name, attrs)
    array.decode = array.stored.kind == "f"
    nodata = {} if array.decode else {"nodata": 0 if array.nodata is None else array.nodata}
    return as_layer(array, name, {**attrs, **legend(product), **nodata})


def legend(product: EmitProduct) -> dict[str, Any]:
    """``flag_values`` and ``flag_meanings`` from the group mineral_metadata; 0 is no mineral."""
    group = product.file.get("mineral_metadata")
    if not hasattr(group, "keys") or "name" not in group:
        return {}
    said = texts(group["name"], product.path)
    index = group.get("index")
    numbers = vector(index, product.path).astype(int) if is_numeric(index) else np.arange(1, len(said) + 1)
    if len(numbers) != len(said):
        numbers = np.arange(1, len(said) + 1)
    keep = {int(number): text for number, text in zip(numbers, said, strict=True) if number > 0}
    return {"flag_values": [0, *keep], "flag_meanings": ["none", *keep.values()]}


class LayerStack(StoredArray):
    """Several one-band arrays as the bands of one, decoded to float32 whatever their types."""

    def __init__(self, arrays: list[Hdf5Array]) -> None:
        self.arrays = arrays
        for array in arrays:
            array.decode = True
        first = arrays[0]
        super().__init__((len(arrays), *first.shape[1:]), np.float32, source=first.source)

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Physical values of a window."""
        wanted = np.arange(self.shape[0])[bands]
        return np.concatenate([self.arrays[int(n)]._window(slice(0, 1), rows, cols) for n in wanted])
