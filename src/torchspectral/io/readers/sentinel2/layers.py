"""Layers of Sentinel-2 scenes: flags, classification, atmosphere, angles, bands of each pixel size."""

from __future__ import annotations

import numpy as np
import xarray as xr

from torchspectral.geo.grids import place
from torchspectral.io.readers.base import StoredArray, as_cube, as_layer
from torchspectral.io.readers.sentinel2.scene import NATIVE, SATURATED, AnyArray, Raster, Scene
from torchspectral.io.readers.stacks import FlagArray, RepeatedArray, StackArray, on_zoom

CLASSES = [
    "no data", "saturated or defective", "dark area", "cloud shadow", "vegetation", "not vegetated", "water",
    "unclassified", "cloud medium probability", "cloud high probability", "thin cirrus", "snow or ice",
]  # fmt: skip
# Flag of the common vocabulary -> classes of the scene classification.
_OF_SCL: dict[str, tuple[int, ...]] = {
    "cloud": (8, 9), "cirrus": (10,), "shadow": (3,), "snow": (11,), "water": (6,), "nodata": (0,), "saturated": (1,),
}  # fmt: skip
# Flag -> band of MSK_CLASSI (baselines since 04.00), where there is no scene classification.
_OF_MASK = {"cloud": 1, "cirrus": 2, "snow": 3}
_MAPS = {
    "aot": ("AOT", "1"),
    "wvp": ("WVP", "cm"),
    "cloud_probability": ("CLDPRB", "%"),
    "snow_probability": ("SNWPRB", "%"),
}
# Quantification of the maps: aerosol optical thickness and water vapour are stored as thousandths.
_FACTOR = {"aot": 1e-3, "wvp": 1e-3}


def layer_names(scene: Scene) -> list[str]:
    """Layers whose files are there."""
    names: list[str] = []
    if "SCL" in scene.images:
        names += list(_OF_SCL)
    elif "CLASSI" in scene.images:
        names += list(_OF_MASK)
    if "saturated" not in names and any(scene.native(size) for size in NATIVE):
        names.append("saturated")
    names += ["scl"] if "SCL" in scene.images else []
    names += [name for name, (kind, _) in _MAPS.items() if kind in scene.images]
    names += sorted(scene.angles)
    return names + [f"bands_{size}m" for size in NATIVE if scene.native(size)]


def open_named_layer(scene: Scene, name: str, resolution: int) -> xr.DataArray:
    """One of `layer_names`; flags on the grid of the bands of `resolution` [m]."""
    if name in _OF_SCL:
        return _flag(scene, name, resolution)
    if name == "scl":
        attrs = {"flag_values": list(range(len(CLASSES))), "flag_meanings": list(CLASSES)}
        size, raster = _finest(scene, "SCL")
        array = StackArray([raster.handle], np.array([[0, 1]]), source=raster.source, decode=False)
        layer = as_layer(array, name, {**attrs, "source": [raster.source]})
        return place(layer, *scene.place(size, raster.handle.get()))
    if name in _MAPS:
        kind, unit = _MAPS[name]
        size, raster = _finest(scene, kind)
        factor = _FACTOR.get(name)
        array = StackArray(
            [raster.handle], np.array([[0, 1]]), source=raster.source, scale=factor or 1.0,
            nodata=raster.handle.get().nodata if factor else None, decode=factor is not None,
        )  # fmt: skip
        layer = as_layer(array, name, {"units": unit, "source": [raster.source]})
        return place(layer, *scene.place(size, raster.handle.get()))
    if name in scene.angles:
        angle = scene.angles[name]
        what = "mean over bands and detectors" if name.startswith("view") else "of the sun"
        layer = as_layer(angle.values, name, {"units": "degree", "long_name": what})
        return place(layer, angle.transform, angle.crs)
    size = int(name.removeprefix("bands_").removesuffix("m"))
    bands = scene.native(size)
    group = as_cube(scene.array(bands, size), quantity="reflectance").rename(band="layer")
    group = group.drop_vars([n for n in group.coords if n not in ("x", "y")]).assign_coords(layer=bands).rename(name)
    wave, _, _ = scene.wavelengths(bands)
    group.attrs = {
        "quantity": "reflectance", "units": "1", "wavelength": [float(w) for w in wave],
        "source": [scene.images[b][size].source for b in bands],
    }  # fmt: skip
    return place(group, *scene.place(size, scene.images[bands[0]][size].handle.get()))


def _finest(scene: Scene, kind: str) -> tuple[int, Raster]:
    size = min(scene.images[kind])
    return size, scene.images[kind][size]


def _flag(scene: Scene, name: str, resolution: int) -> xr.DataArray:
    """A flag on the grid of the bands of a pixel size."""
    bands = scene.native(resolution) or next(scene.native(size) for size in NATIVE if scene.native(size))
    size = resolution if scene.native(resolution) else next(s for s in NATIVE if scene.native(s))
    lead = scene.images[bands[0]][size]
    dataset = lead.handle.get()
    shape = dataset.height, dataset.width
    parts: list[StoredArray] = []
    notes: list[str] = []
    if "SCL" in scene.images:
        parts.append(_of_raster(scene.images["SCL"], size, shape, notes, equal=_OF_SCL[name]))
    elif "CLASSI" in scene.images and name in _OF_MASK:
        parts.append(_of_raster(scene.images["CLASSI"], size, shape, notes, band=_OF_MASK[name], bits=-1))
    if name == "saturated":
        handles = [scene.images[b][size].handle for b in bands]
        where = np.column_stack([np.arange(len(bands)), np.ones(len(bands), int)])
        parts.append(FlagArray(handles, where, equal=[SATURATED], source=lead.source))
        notes.append(f"any band of {size} m at {SATURATED}")
    array = parts[0] if len(parts) == 1 else AnyArray(parts)
    layer = as_layer(array, name, {"source": [lead.source], "history": notes})
    return place(layer, *scene.place(size, dataset))


def _of_raster(
    images: dict[int, Raster], size: int, shape: tuple[int, int], notes: list[str], *,
    equal: tuple[int, ...] = (), bits: int = 0, band: int = 1,
) -> StoredArray:  # fmt: skip
    """A flag of a classification, at the pixel size wanted or the finest there is."""
    own = size if size in images else min(images)
    raster = images[own]
    flag = FlagArray([raster.handle], np.array([[0, band]]), equal=equal, bits=bits, source=raster.source)
    fitted = on_zoom(flag, shape, raster.source.rsplit("/", 1)[-1])
    if fitted is not flag:
        repeated = isinstance(fitted, RepeatedArray)
        how = "each of its pixels stands for those inside it" if repeated else "set where any pixel inside is"
        notes.append(f"from the classification of {own} m: {how}")
    return fitted
