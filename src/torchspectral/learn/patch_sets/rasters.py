"""Raster files of patches: what is in them, and what their numbers are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.errors import BadInput, BrokenProduct, TorchspectralError
from torchspectral.io.readers.base import LIBRARY_ERRORS
from torchspectral.io.safety import check_raster, check_read, open_raster
from torchspectral.learn.patch_sets.entries import Probed

TIFF = (".tif", ".tiff")
Cut = tuple[slice, slice]
"""Rows and columns of a file."""


@dataclass(frozen=True)
class Bands:
    """What the stored numbers of a kind of patch are: value = stored * scale + offset.

    Attributes
    ----------
    wavelength, fwhm : ndarray, shape (bands,)
        [nm]; NaN where nothing says.
    good : ndarray of bool, shape (bands,)
    names : tuple of str
    quantity : str
    scale, offset : float or ndarray, shape (bands,)
    nodata : float, optional
    sensor : str
        "" where unknown.
    """

    wavelength: np.ndarray
    fwhm: np.ndarray
    good: np.ndarray
    quantity: str = "dn"
    scale: Any = 1.0
    offset: Any = 0.0
    nodata: float | None = None
    sensor: str = ""
    names: tuple[str, ...] = ()


@lru_cache(maxsize=256)
def _short_crs(wkt: str) -> str:
    from rasterio.crs import CRS

    return str(CRS.from_wkt(wkt).to_string())


def probe_raster(path: Path, drivers: tuple[str, ...] = ("GTiff",)) -> Probed:
    """Facts of a raster file.

    Raises
    ------
    BrokenProduct, TooLarge
    """
    from torchspectral.io.readers.geotiff import check_whole

    try:
        with open_raster(path, drivers) as data:
            check_raster(data)
            if "GTiff" in drivers:
                check_whole(data, path)
            kinds = set(data.dtypes)
            if len(kinds) > 1 or np.dtype(data.dtypes[0]).kind not in "iuf":
                raise BrokenProduct(f"{path.name} holds values of type {', '.join(sorted(kinds))}, expected real ones")
            facts = [data.count, data.dtypes[0], data.nodata, *sorted(set(data.scales)), *sorted(set(data.offsets))]
            facts += [data.descriptions[0], data.descriptions[-1], _wave(data.tags(1)), _wave(data.tags(data.count))]
            key = "|".join("" if f is None else str(f) for f in facts)
            box: tuple[float, ...] = ()
            crs = ""
            if data.crs is not None and not data.transform.is_identity:
                box, crs = tuple(float(v) for v in data.bounds), _short_crs(data.crs.to_wkt())
            return Probed(data.count, data.height, data.width, data.dtypes[0], key, box, crs)
    except TorchspectralError:
        raise
    except LIBRARY_ERRORS as error:
        raise BrokenProduct(f"{path.name} cannot be opened: {' '.join(str(error).split())[:160]}") from None


def _wave(tags: Mapping[str, str]) -> str:
    return next((value for key, value in tags.items() if key.lower() in ("wavelength", "wl")), "")


def read_raster(
    path: Path,
    cut: Cut | None = None,
    size: tuple[int, int] | None = None,
    drivers: tuple[str, ...] = ("GTiff",),
    shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """Stored numbers (band, y, x) of a raster file.

    Parameters
    ----------
    cut : (slice, slice), optional
        Rows and columns to read.
    size : (rows, columns), optional
        What the whole file must have.
    shape : (rows, columns), optional
        Resampled to this, bilinearly.

    Raises
    ------
    BrokenProduct
        It cannot be read.
    BadInput
        Another size, or a cut outside of the file.
    """
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    try:
        with open_raster(path, drivers) as data:
            check_raster(data)
            have = data.height, data.width
            if size is not None and have != size:
                raise BadInput(f"{path.name} has {have[0]} x {have[1]} pixels, expected {size[0]} x {size[1]}")
            rows, cols = cut or (slice(0, have[0]), slice(0, have[1]))
            if rows.stop > have[0] or cols.stop > have[1]:
                raise BadInput(f"{path.name} has {have[0]} x {have[1]} pixels, too few for row {rows.stop}")
            check_read((data.count, rows.stop - rows.start, cols.stop - cols.start), data.dtypes[0], path)
            window = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
            if shape is not None and shape != have:
                values = data.read(out_shape=(data.count, *shape), resampling=Resampling.bilinear, window=window)
            else:
                values = data.read(window=window) if cut is not None else data.read()
            return np.asarray(values)
    except TorchspectralError:
        raise
    except LIBRARY_ERRORS as error:
        text = " ".join(str(error).split())[:160] or type(error).__name__
        raise BrokenProduct(f"{path.name} cannot be read: {text}") from None


def describe_raster(path: Path) -> Bands:
    """What a GeoTIFF says of its bands."""
    from torchspectral import io

    cube = io.open_product(path, raw=True)
    packing = cube.attrs.get("packing") or {}
    scale, offset = (np.asarray(packing.get(key, [default])) for key, default in (("scale", 1.0), ("offset", 0.0)))
    wave, width = (np.asarray(cube[name].values, dtype=np.float64) for name in ("wavelength", "fwhm"))
    good = np.asarray(cube["good"].values, dtype=bool)
    nodata = packing.get("nodata", cube.attrs.get("nodata"))
    names = tuple(str(n) for n in cube["name"].values) if "name" in cube.coords else ()
    return Bands(
        wave,
        width,
        good,
        str(cube.attrs.get("quantity", "dn")),
        float(scale[0]) if scale.size == 1 else scale,
        float(offset[0]) if offset.size == 1 else offset,
        nodata,
        names=names,
    )


def unknown_bands(count: int, **more: Any) -> Bands:
    """Bands of which nothing is known but their number."""
    nothing = np.full(count, np.nan)
    return Bands(nothing, nothing.copy(), np.ones(count, dtype=bool), **more)


def sensor_bands(sensor: str, names: list[str] | None = None, **more: Any) -> Bands:
    """Bands of a sensor of the catalogue, all or those of some names in their order."""
    from torchspectral import sensors

    found = sensors.get(sensor)
    order = [found.names.index(name) for name in names] if names else list(range(found.bands))
    return Bands(
        found.wavelength[order].astype(np.float64),
        found.fwhm[order].astype(np.float64),
        np.ones(len(order), dtype=bool),
        sensor=found.name,
        names=tuple(found.names[i] for i in order),
        **more,
    )
