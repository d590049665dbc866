"""`convert`: any product to COG, Zarr or ENVI, cut, masked, resampled, packed; no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube, good_bands, outside_bands, pick_bands
from torchspectral.engine.memory import PeakMemory
from torchspectral.engine.paths import Paths, check_free, is_envi, sources_of
from torchspectral.engine.streaming import stream
from torchspectral.errors import BadCube, BadSettings, BandMismatch
from torchspectral.geo import grid_of
from torchspectral.log import Progress, no_progress
from torchspectral.result import Report, Result

_LINES = 12  # more are too many for a report


def convert(
    product: str | Path | xr.DataArray,
    out: str | Path,
    *,
    bbox: Sequence[float] | None = None,
    bands: str | Sequence[int] = "all",
    resample: Any = None,
    mask: Any = None,
    dtype: str | None = None,
    orthorectify: bool = True,
    crs: Any = None,
    resolution: float | None = None,
    resampling: str = "nearest",
    stac: bool | str = False,
    acquired: str | None = None,
    opening: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    workers: int = 1,
    report: Report | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Convert a product, keeping all that is known of it.

    Where nothing is computed (cuts of bands and of a window are no computation), stored integers stay the integers
    they are, with their scale and offset.

    Parameters
    ----------
    product : path or DataArray
    out : path
        ``.tif`` (COG), ``.zarr``, ``.hdr`` or ``.img`` (ENVI).
    bbox : (west, south, east, north), optional
        Box in the scene's CRS.
    bands : {"all", "good"} or sequence of int
        Bands to keep, indices from 0.
    resample : Sensor, str or wavelengths, optional
        Bands to simulate by spectral response.
    mask : {"clear"}, path or DataArray, optional
        The product's own flags, a mask file, or a boolean array (True is kept); what is masked becomes nodata.
    dtype : str, optional
        "float32", or "int16" for scaled integers.
    orthorectify : bool
        Put a swath onto a map grid.
    crs, resolution, resampling : optional
        Grid of the output and how values get there, see `io.save`; "bilinear" computes, and so gives float32.
    stac : bool or {"1.0.0", "1.1.0"}
        Also write a STAC item, ``OUT.stac.json``.
    acquired : str, optional
        Time for the item, where the product does not state it.
    opening : mapping, optional
        Options of the product's reader, as for `io.open_product`; for paths.
    overwrite, resume : bool
        What to do with an existing or a half-done output. ENVI outputs go on block by block; COG and Zarr, which are
        written in one pass by their libraries, start again.
    workers : int
        Processes that read and compute (ENVI outputs).
    **options
        Of the writer, see `io.save`.

    Returns
    -------
    Result
        ``cube``: lazy, opened from the written file.

    Raises
    ------
    ProductNotFound, UnknownProduct, BrokenProduct
        The product cannot be opened.
    GridMismatch, BandMismatch, BadSettings
        The box lies outside, bands do not exist, the sensor is not covered.
    OutputExists, OutputFailed, JournalMismatch, Interrupted
    """
    path = Path(out)
    done = report or Report()
    done = replace(done, method="convert", version=_version(), inputs={"product": _name_of(product)})
    done.options = _given(bbox=bbox, bands=bands, resample=resample, mask=mask, dtype=dtype, orthorectify=orthorectify)
    moves = {"crs": crs, "resolution": resolution, "resampling": resampling}
    done.options |= _given(
        **moves, stac=stac, acquired=acquired, open=[f"{k}={v}" for k, v in (opening or {}).items()] or None
    )
    started = time.perf_counter()
    with PeakMemory() as memory:
        cube = _opened(product, raw=resample is None and dtype is None and resampling == "nearest", opening=opening)
        check_free(Paths(path, {"cube": path}), [cube], overwrite=overwrite or resume)
        # Before the cut: a mask lies on the grid of the product.
        if mask is not None:
            cube = _masked(cube, mask, product, done, opening)
        cube = _cut(cube, bbox, bands, done)
        if resample is not None:
            cube = _resampled(cube, resample, done)
        done.history = list(cube.attrs.get("history", []))
        if crs is None and resolution is None and _streams(cube, path, dtype, orthorectify):
            if stac:
                from torchspectral.io.saving import check_item, save_item

                check_item(cube, path, stac, acquired, overwrite=overwrite or resume)
            written = stream(
                cube,
                path,
                key=dict(done.options),
                workers=workers,
                overwrite=overwrite,
                resume=resume,
                report=done,
                progress=progress,
                interleave=_interleave(options),
            )
            if stac:
                save_item(cube, path, stac, acquired)
        else:
            extra = {**options, **moves, "stac": stac, "acquired": acquired}
            written = _saved(cube, path, dtype, orthorectify, overwrite, done, progress, extra)
    done.peak_memory = memory.peak
    done.seconds["total"] = round(time.perf_counter() - started, 3)
    from torchspectral.io import open_product

    paths = {"cube": str(path), **({"stac": f"{path}.stac.json"} if stac else {})}
    return Result({"cube": open_product(written)}, done, paths)


def _opened(product: Any, *, raw: bool, opening: Mapping[str, Any] | None) -> xr.DataArray:
    if isinstance(product, xr.DataArray):
        return product if "layer" in product.dims else check_cube(product)
    from torchspectral.io import open_product

    opened = open_product(product, raw=raw, **(opening or {}))
    if not isinstance(opened, xr.DataArray) or opened.ndim < 3:
        raise BadCube(f"{product} holds no image, expected a product with bands, rows and columns")
    return opened


def _cut(cube: xr.DataArray, bbox: Any, bands: str | Sequence[int], report: Report) -> xr.DataArray:
    if bbox is not None:
        from torchspectral.geo import crop

        cube = crop(cube, bbox)
    if isinstance(bands, str) and bands == "all":
        return cube
    if "band" not in cube.dims:
        raise BadSettings("got bands= for layers, expected a cube")
    if isinstance(bands, str) and bands != "good":
        raise BadSettings(f"got bands={bands!r}, expected 'all', 'good' or a list of band indices from 0")
    count = cube.sizes["band"]
    index = good_bands(cube) if isinstance(bands, str) else np.asarray(list(bands), dtype=np.int64)
    if index.size == 0:
        raise BandMismatch(f"none of the {count} bands was chosen or marked good, expected at least one")
    if problem := outside_bands(index, count):
        raise BandMismatch(problem)
    if index.size < count:
        report.dropped.append(f"{count - index.size} of {count} bands")
    return pick_bands(cube, index)


def _masked(
    cube: xr.DataArray, mask: Any, product: Any, report: Report, opening: Mapping[str, Any] | None
) -> xr.DataArray:
    from torchspectral.io.masks import apply_mask, clear_mask

    if isinstance(mask, str) and mask == "clear" and isinstance(product, xr.DataArray):
        raise BadSettings("got mask='clear' with an opened cube, expected a product's path, or a mask array")
    if isinstance(mask, (str, Path)):
        mask, flags = clear_mask(product, opening=opening) if mask == "clear" else clear_mask(mask)
        report.notes.append(f"pixels with {', '.join(flags)} are nodata" if flags else "masked pixels are nodata")
    else:
        report.notes.append("pixels where the mask is False are nodata")
    return apply_mask(cube, mask)


def _resampled(cube: xr.DataArray, to: Any, report: Report) -> xr.DataArray:
    from torchspectral.spectra import resample, spectral_matrix

    out = resample(cube, to)
    given, made = cube.sizes["band"], out.sizes["band"]
    report.resampled.append(f"{given} band{'s' * (given != 1)} to {made} by spectral response")
    lines = spectral_matrix(cube, to)[1].lines()
    report.notes += lines[:_LINES] + ([f"and {len(lines) - _LINES} more such bands"] if len(lines) > _LINES else [])
    return out


def _streams(cube: xr.DataArray, path: Path, dtype: str | None, orthorectify: bool) -> bool:
    """Whether blocks go straight into an ENVI file."""
    if not is_envi(path) or cube.ndim != 3 or dtype is not None:
        return False
    return not (orthorectify and grid_of(cube).kind == "swath")


def _interleave(options: Mapping[str, Any]) -> str | None:
    for name in options:
        if name != "interleave":
            raise BadSettings(f"unknown option {name!r} of ENVI outputs, expected interleave")
    return options.get("interleave")


def _saved(
    cube: xr.DataArray,
    path: Path,
    dtype: str | None,
    orthorectify: bool,
    overwrite: bool,
    report: Report,
    progress: Progress,
    options: Mapping[str, Any],
) -> Path:
    from torchspectral.io import save

    written = save(
        cube,
        path,
        dtype=dtype,
        orthorectify=orthorectify,
        overwrite=overwrite,
        report=report,
        progress=progress,
        **options,
    )
    return Path(written)


def _name_of(product: Any) -> str:
    if not isinstance(product, xr.DataArray):
        return str(product)
    return ", ".join(sources_of(product)) or f"array of shape {product.shape}"


def _given(**options: Any) -> dict[str, Any]:
    defaults = {"bands": "all", "orthorectify": True, "resampling": "nearest", "stac": False}
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, (str, bool, int, float)):
            if value != defaults.get(name):
                found[name] = value
        elif isinstance(value, (list, tuple, np.ndarray)):
            found[name] = np.asarray(value).tolist()
        elif value is not None:
            found[name] = str(getattr(value, "name", None) or type(value).__name__)
    return found


def _version() -> str:
    import torchspectral

    return torchspectral.__version__
