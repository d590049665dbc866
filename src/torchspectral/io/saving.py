"""Save cubes, layers, spectra and tables: by suffix, streaming, and under their name only when they are complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube, with_history
from torchspectral.errors import BadCube, BadSettings, OutputExists, OutputFailed, closest
from torchspectral.geo import footprint, to_map
from torchspectral.geo.grids import grid_of, place
from torchspectral.io.raw import RawArray
from torchspectral.io.writers import cog, envi, spectra, tables, zarr_store
from torchspectral.io.writers import stac as item_writer
from torchspectral.io.writers.base import Raster, output_path, put_in_place, staged
from torchspectral.io.writers.encoding import choose_encoding
from torchspectral.io.writers.run_yaml import run_path, write_run
from torchspectral.log import Progress, get_logger, no_progress
from torchspectral.settings import Settings

RASTER = (*cog.SUFFIXES, ".zarr", *envi.SUFFIXES)
SUFFIXES = (*RASTER, *spectra.SUFFIXES, *tables.SUFFIXES)


def save(
    value: Any,
    path: str | Path,
    *,
    dtype: Any = None,
    overwrite: bool = False,
    orthorectify: bool = True,
    crs: Any = None,
    resolution: float | None = None,
    resampling: str = "nearest",
    stac: bool | str = False,
    acquired: str | None = None,
    report: Any = None,
    progress: Progress | None = None,
    raw: RawArray | None = None,
    **options: Any,
) -> Path:
    """Write a value; the suffix says how.

    Parameters
    ----------
    value : DataArray, DataFrame or GeoDataFrame
        A cube (band, y, x), layers (layer, y, x) or one layer (y, x), lazy or not: .tif (cloud-optimised GeoTIFF),
        .zarr, .hdr or .img (ENVI). Spectra (spectrum, band): .sli (ENVI library), .csv. A table: .csv, .gpkg,
        .geojson. Lazy values are read block by block: memory does not grow with the scene.
    path : path
        Nothing stands under this name before the output is complete.
    dtype : str, optional
        Type on disk. Integers for float values are scaled integers (see `choose_encoding`); the default changes
        nothing, and packed cubes keep their stored integers.
    overwrite : bool
        Replace what is there; never the product that the value comes from.
    orthorectify : bool
        Put swaths onto a map grid. Else Zarr keeps ``lon``, ``lat`` and the lookup table, while GeoTIFF and ENVI hold
        the pixels as the sensor saw them, placed nowhere, which the history says.
    crs : optional
        CRS of the output; by default the value's own, of swaths that of the lookup table or their UTM zone.
    resolution : float, optional
        Pixel size in units of that CRS.
    resampling : {"nearest", "bilinear", ...}
        How values get to another grid, see `geo.to_map`.
    stac : bool or {"1.0.0", "1.1.0"}
        Also write a STAC item, ``OUT.stac.json``; True: of the newest version.
    acquired : str, optional
        Time of the acquisition (ISO 8601) for the item, where the value does not have it.
    report : Report, optional
        Written beside as ``OUT.run.yaml``; it is told what was scaled, clipped or moved.
    progress : callable, optional
        Gets `Step`s.
    raw : RawArray, optional
        Flat file that holds the values already; they are read from there, and GeoTIFF needs no scratch copy.
    **options
        Of the format: `CogOptions`, `ZarrOptions`, `EnviOptions`.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputExists
        The output exists and `overwrite` is False.
    OutputFailed
        Disk full, no such folder, the output is the input, ...
    BadSettings
        Unknown suffix, option or dtype.
    BadCube
        The value is nothing that can be written so.
    MissingMetadata
        A STAC item is asked for and nothing says when the scene was acquired.
    GridMismatch
        The value has no place in the CRS, or lies nowhere.

    Notes
    -----
    Nothing is left behind by a call that fails: the output is made in a hidden folder beside its place.
    """
    target = output_path(path)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadSettings(
            f"cannot tell how to write {target.name!r}: expected one of {', '.join(sorted(set(SUFFIXES)))}"
        )
    told = progress or no_progress
    asked = {k: v for k, v in (("crs", crs), ("resolution", resolution), ("stac", stac)) if v not in (None, False)}
    if tables.is_table(value):
        _allow(suffix, tables.SUFFIXES, "a table", target)
        _refuse({**options, **asked}, dtype, raw, "a table")
        return _publish(target, [target], overwrite, report, lambda folder: tables.write_table(value, folder, target))
    if not isinstance(value, xr.DataArray):
        raise BadCube(
            f"got {type(value).__name__} to write as {target.name}, expected a cube, layers, spectra (DataArray) or a "
            "table; of a Dataset or Result take one value"
        )
    if "spectrum" in value.dims:
        _allow(suffix, spectra.SUFFIXES, "spectra", target)
        _refuse({**options, **asked}, dtype, raw, "spectra")
        targets = [target, target.with_suffix(".hdr")] if suffix == ".sli" else [target]
        check_not_source(value, targets)
        return _publish(target, targets, overwrite, report, lambda f: spectra.write_spectra(value, f, target))
    _allow(suffix, RASTER, "a cube or layers", target)
    checked = _options(suffix, options)
    array = _raster_value(value, raw)
    targets = [target] if suffix not in envi.SUFFIXES else list(envi.pair(target))
    check_not_source(value, targets)
    outline = None
    if stac:
        check_item(array, target, stac, acquired, overwrite=overwrite)
        # Of a swath, the ground that it saw, not the box around it.
        outline = footprint(array)
        targets = [*targets, item_writer.item_path(target)]
    notes: list[str] = []
    array = _on_ground(array, suffix, orthorectify, notes, crs=crs, resolution=resolution, resampling=resampling)

    def write(folder: Path) -> list[tuple[Path, Path]]:
        encoding = choose_encoding(array, dtype, checked.nodata, _types(suffix))
        raster = Raster(array, encoding, grid_of(array))
        if suffix in cog.SUFFIXES:
            same = raw if raw is not None and array.shape == raw.shape and not notes else None
            made = cog.write_cog(raster, folder, target, checked, told, same)
        elif suffix == ".zarr":
            made = zarr_store.write_zarr(raster, folder, target, checked, told)
        else:
            made = envi.write_envi(raster, folder, target, checked, told)
        if stac:
            item = item_writer.make_item(
                target, array, encoding, geometry=outline, acquired=acquired, version=stac, run=report is not None
            )
            item_writer.write_item(folder / "output.stac.json", item)
        _tell(encoding, array, target, report, notes)
        return made

    return _publish(target, targets, overwrite, report, write)


def check_item(
    value: xr.DataArray, target: Path, stac: bool | str, acquired: str | None = None, *, overwrite: bool = False
) -> None:
    """Check before the work that a STAC item can be written beside an output.

    Raises
    ------
    OutputExists, MissingMetadata, BadSettings
    """
    item_writer.check_version(stac)
    item_writer.times(value, acquired)
    path = item_writer.item_path(target)
    if path.exists() and not overwrite:
        raise OutputExists(f"{path} exists: choose another name or ask to overwrite")


def save_item(value: xr.DataArray, target: str | Path, stac: bool | str = True, acquired: str | None = None) -> Path:
    """Write the STAC item of an output that stands already and holds `value` as it is; returns its path.

    Raises
    ------
    MissingMetadata, BadSettings
    """
    path = item_writer.item_path(target)
    encoding = choose_encoding(value, None, None, _types(Path(target).suffix.lower()))
    has_run = run_path(target).exists()
    item = item_writer.make_item(target, value, encoding, acquired=acquired, version=stac, run=has_run)
    with staged([path], True) as folder:
        item_writer.write_item(folder / path.name, item)
        put_in_place(folder / path.name, path)
    return path


def _types(suffix: str) -> tuple[str, ...]:
    if suffix in cog.SUFFIXES:
        return tuple(cog.DTYPES)
    return zarr_store.DTYPES if suffix == ".zarr" else tuple(envi.DATA_TYPES)


def _publish(
    target: Path,
    targets: list[Path],
    overwrite: bool,
    report: Any,
    write: Callable[[Path], list[tuple[Path, Path]]],
) -> Path:
    with staged(targets, overwrite) as folder:
        made = write(folder)
        run = folder / "output.run.yaml"
        if report is not None:
            write_run(run, report, target)
        if target.suffix.lower() in envi.SUFFIXES:
            envi.place_pair(made, envi.pair(target)[0])
        else:
            for source, place_ in made:
                put_in_place(source, place_)
        if report is not None:
            put_in_place(run, run_path(target))
        item = folder / "output.stac.json"
        if item.exists():
            put_in_place(item, item_writer.item_path(target))
        else:
            # What stood there told of the output that has just been replaced.
            item_writer.item_path(target).unlink(missing_ok=True)
    return target


def _allow(suffix: str, allowed: tuple[str, ...], what: str, target: Path) -> None:
    if suffix not in allowed:
        raise BadSettings(f"cannot write {what} as {target.name}: expected {', '.join(allowed)}")


def _refuse(options: dict[str, Any], dtype: Any, raw: Any, what: str) -> None:
    given = [*options, *(["dtype"] if dtype is not None else []), *(["raw"] if raw is not None else [])]
    if given:
        raise BadSettings(f"got option {given[0]!r} for {what}, which has none")


def _options(suffix: str, options: dict[str, Any]) -> Any:
    if suffix in cog.SUFFIXES:
        kind: type[Settings] = cog.CogOptions
    else:
        kind = zarr_store.ZarrOptions if suffix == ".zarr" else envi.EnviOptions
    for name in options:
        if name not in kind.model_fields:
            raise BadSettings(f"unknown option {name!r} for {suffix}: {closest(name, tuple(kind.model_fields))}")
    return kind.make(options)


def _raster_value(value: xr.DataArray, raw: RawArray | None) -> xr.DataArray:
    """The value as (band, y, x) or (layer, y, x)."""
    if value.dims == ("y", "x"):
        name = str(value.name or "layer")
        value = value.expand_dims({"layer": [name]})
    if "time" in value.dims:
        raise BadCube(f"got a video of dims {value.dims}, expected (band, y, x): save each frame, video.isel(time=n)")
    if value.dims == ("layer", "y", "x"):
        if 0 in value.shape or value.dtype.kind not in "biuf":
            raise BadCube(f"got layers of shape {value.shape} and type {value.dtype}, expected real numbers")
        if "layer" not in value.coords:
            value = value.assign_coords(layer=[f"layer {n + 1}" for n in range(value.sizes["layer"])])
        if value.dtype.kind == "b":
            value = value.astype(np.uint8)
    else:
        value = check_cube(value)
    if raw is not None:
        if raw.shape != value.shape or raw.dtype != value.dtype:
            raise BadCube(f"raw holds {raw.shape} {raw.dtype}, expected {value.shape} {value.dtype} as the value")
        value = value.copy(data=raw.lazy(value.dims)._data)  # type: ignore[arg-type]
    return value


def _on_ground(
    value: xr.DataArray,
    suffix: str,
    orthorectify: bool,
    notes: list[str],
    *,
    crs: Any,
    resolution: float | None,
    resampling: str,
) -> xr.DataArray:
    """On the map grid that is asked for; swaths on one, or said to be on none."""
    is_swath = grid_of(value).kind == "swath"
    if orthorectify or not is_swath:
        out = to_map(value, crs=crs, resolution=resolution, resampling=resampling)
        if out is not value:
            notes.append(out.attrs["history"][-1])
        return out
    if crs is not None or resolution is not None:
        raise BadSettings("got a CRS or a pixel size for a swath that shall stay as it is: orthorectify it")
    if suffix == ".zarr":
        return value
    note = f"written in sensor geometry: {suffix} keeps no longitude and latitude of each pixel"
    notes.append(note)
    get_logger("io").warning(note)
    out = place(value, None)
    out.attrs = {k: v for k, v in out.attrs.items() if k != "glt"}
    return with_history(out, note)


def _tell(encoding: Any, value: xr.DataArray, target: Path, report: Any, notes: list[str]) -> None:
    logger = get_logger("io")
    if encoding.note:
        logger.info("%s: %s", target.name, encoding.note)
    if encoding.clipped:
        lost = (
            f"{encoding.clipped} of {value.size} values lay outside the range of {encoding.stored} and were set to "
            "its nearest end"
        )
        logger.warning("%s: %s", target.name, lost)
        notes = [*notes, lost]
    if report is None or not hasattr(report, "notes"):
        return
    if encoding.note:
        report.scaled.append(encoding.note)
    report.notes.extend(note for note in notes if note not in report.notes)


def check_not_source(value: xr.DataArray, targets: list[Path]) -> None:
    """Refuse an output that is the product which the value is read from.

    Raises
    ------
    OutputFailed
    """
    from torchspectral.io.readers.envi.header import find_header

    sources = {source for source in _sources(value) if source.exists()}
    # A header is as much the product as its data, whatever the data file of the output is called.
    sources |= {header for source in sources if source.is_file() and (header := find_header(source)) is not None}
    for target in targets:
        if not target.exists():
            continue
        for source in sources:
            if source.samefile(target):
                raise OutputFailed(f"{target} is the input itself: choose another name for the output")


def _sources(value: xr.DataArray) -> list[Path]:
    stated = value.attrs.get("source") or []
    found = [stated] if isinstance(stated, str) else list(stated)
    if isinstance(value.encoding.get("source"), str):
        found.append(value.encoding["source"])
    # What a lazy array reads from, below xarray's own wrappers and ours.
    pending, seen = [value.variable._data], 0
    while pending and seen < 200:
        part = pending.pop()
        seen += 1
        for name in ("array", "source", "raw", "path", "variable", "_data", "sources", "parts"):
            inner = getattr(part, name, None) if not isinstance(part, (np.ndarray, str, Path)) else None
            if isinstance(inner, (str, Path)):
                found.append(str(inner))
            elif isinstance(inner, (list, tuple)):
                pending += list(inner)[:64]
            elif inner is not None and not callable(inner):
                pending.append(inner)
    return [Path(s) for s in found if isinstance(s, (str, Path)) and str(s)]
