"""What a product is, without reading its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import is_packed
from torchspectral.geo.cropping import lonlat_bounds
from torchspectral.geo.grids import grid_of
from torchspectral.io.opening import find_reader, list_layers, open_product


def describe(path: str | Path, *, reader: str | None = None, **options: Any) -> dict[str, Any]:
    """Facts of a product as plain values that survive JSON.

    Parameters
    ----------
    **options
        As for `open_product`.

    Returns
    -------
    dict
        ``reader, kind`` (cube, spectra or layers), ``sensor, platform, level, product, quantity, units, shape``;
        ``bands`` (count, range and gaps of the wavelengths [nm], FWHM range, detectors), ``bad_bands`` (the product's
        numbers); ``grid`` (kind, CRS, EPSG, transform, resolution, bounds, lon/lat bounds); ``acquired``, angles;
        ``layers``; ``storage`` (stored type, block size, scale, offset, nodata, bytes on disk and decoded);
        ``source, history``. Keys without a value are left out.

    Raises
    ------
    TorchspectralError
        As `open_product`.
    """
    chosen, found = find_reader(path, reader)
    cube = open_product(found, reader=chosen.name, raw=True, **options)
    assert isinstance(cube, xr.DataArray)
    attrs = cube.attrs
    kind = {"spectrum": "spectra", "layer": "layers"}.get(str(cube.dims[0]), "cube")
    facts: dict[str, Any] = {
        "reader": chosen.name,
        "format": chosen.title,
        "kind": kind,
        **{key: attrs.get(key) for key in ("sensor", "platform", "level", "product", "quantity", "units")},
        "dims": list(cube.dims),
        "shape": list(cube.shape),
    }
    if "band" in cube.dims and not facts["sensor"]:
        facts["sensor"] = _sensor(cube)
    if "band" in cube.dims:
        facts |= {"bands": _bands(cube), "bad_bands": _bad(cube)}
    if kind == "layers":
        facts["names"] = [str(n) for n in cube["layer"].values]
    if kind != "spectra":
        facts["grid"] = _grid(cube)
        facts["layers"] = list_layers(found, reader=chosen.name)
    facts |= {
        key: attrs.get(key)
        for key in ("acquired", "sun_zenith", "sun_azimuth", "view_zenith", "class_names", "description")
    }
    facts["storage"] = _storage(cube, found)
    facts |= {"source": attrs.get("source"), "history": attrs.get("history")}
    return {key: _plain(value) for key, value in facts.items() if value is not None}


def _sensor(cube: xr.DataArray) -> str | None:
    from torchspectral.sensors import match

    found = match(cube)
    return f"{found.name} (by its wavelengths)" if found is not None else None


def _bands(cube: xr.DataArray) -> dict[str, Any]:
    found: dict[str, Any] = {"count": cube.sizes["band"]}
    wave = cube["wavelength"].values if "wavelength" in cube.coords else np.array([np.nan])
    known = np.isfinite(wave)
    if known.any():
        found["wavelength_nm"] = [float(np.nanmin(wave)), float(np.nanmax(wave))]
        steps = np.diff(wave[known])
        if steps.size:
            found["spacing_nm"] = float(np.median(np.abs(steps)))
            found["ascending"] = bool(np.all(steps > 0))
    if "fwhm" in cube.coords and np.isfinite(cube["fwhm"].values).any():
        width = cube["fwhm"].values
        found["fwhm_nm"] = [float(np.nanmin(width)), float(np.nanmax(width))]
    if "detector" in cube.coords:
        names = [n for n in dict.fromkeys(str(v) for v in cube["detector"].values) if n]
        if names:
            found["detectors"] = {n: int(np.sum(cube["detector"].values == n)) for n in names}
    if "name" in cube.coords:
        found["names"] = [str(n) for n in cube["name"].values]
    return found


def _bad(cube: xr.DataArray) -> list[int]:
    if "good" not in cube.coords:
        return []
    bad = ~cube["good"].values.astype(bool)
    numbers = cube["number"].values if "number" in cube.coords else np.arange(1, bad.size + 1)
    return [int(n) for n in numbers[bad]]


def _grid(cube: xr.DataArray) -> dict[str, Any]:
    grid = grid_of(cube)
    found: dict[str, Any] = {"kind": grid.kind, "rows": grid.height, "cols": grid.width}
    if grid.kind == "none":
        return found
    if grid.crs is not None:
        found |= {"crs": grid.crs.name, "epsg": grid.crs.to_epsg()}
    if grid.kind == "swath":
        glt = cube.attrs.get("glt")
        found["glt"] = None if glt is None else list(glt.shape) if hasattr(glt, "shape") else True
        return {k: v for k, v in found.items() if v is not None}
    found |= {
        "transform": [float(v) for v in grid.transform.to_gdal()],
        "resolution": list(grid.resolution),
        "bounds": list(grid.bounds),
    }
    degrees = lonlat_bounds(grid)
    if degrees is not None:
        found["lonlat_bounds"] = list(degrees)
    return {k: v for k, v in found.items() if v is not None}


def _storage(cube: xr.DataArray, path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"dtype": str(cube.encoding.get("dtype", cube.dtype))}
    chunks = cube.encoding.get("preferred_chunks")
    if chunks:
        found["blocks"] = [int(chunks[d]) for d in cube.dims if d in chunks]
    if is_packed(cube):
        packing = cube.attrs["packing"]
        for key in ("scale", "offset"):
            values = [float(v) for v in np.atleast_1d(packing[key])]
            found[key] = values[0] if len(set(values)) == 1 else values
        found["nodata"] = packing.get("nodata")
    elif "nodata" in cube.attrs:
        found["nodata"] = cube.attrs["nodata"]
    found["bytes_on_disk"] = _size(cube, path)
    found["bytes_decoded"] = int(np.prod(cube.shape, dtype=object)) * 4
    return {k: v for k, v in found.items() if v is not None}


def _size(cube: xr.DataArray, path: Path) -> int:
    files = {Path(p) for p in [cube.encoding.get("source"), *cube.attrs.get("source", []), path] if p}
    total = 0
    for file in files:
        if file.is_dir():
            total += sum(p.stat().st_size for p in file.rglob("*") if p.is_file())
        elif file.is_file() and not any(file.is_relative_to(other) for other in files if other.is_dir()):
            total += file.stat().st_size
    return total


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)
