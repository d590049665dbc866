"""`torchspectral convert`: any product to COG, Zarr or ENVI, with everything kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from torchspectral.cli.options import (
    Bbox,
    Config,
    DryRun,
    Json,
    Mask,
    Opening,
    Out,
    OutPath,
    Overwrite,
    Scenes,
    SkipExisting,
    parse_bands,
    parse_opening,
)


def convert(
    scenes: Scenes,
    output: Out,
    to: Annotated[
        str, typer.Option("--to", help="What to write into a folder: tif (COG), zarr or hdr (ENVI).")
    ] = "tif",
    bands: Annotated[str, typer.Option("--bands", help='"all", "good", or numbers from 1: 1-50,60.')] = "all",
    bbox: Bbox = None,
    resample: Annotated[
        str | None, typer.Option("--resample", help="Sensor whose bands to simulate, such as sentinel-2.")
    ] = None,
    mask: Mask = None,
    opening: Opening = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", help="Stored numbers: float32, float64, or scaled integers: uint8, int16, uint16, int32, uint32."
        ),
    ] = None,
    keep_geometry: Annotated[
        bool,
        typer.Option("--keep-geometry/--ortho", "--no-ortho", help="Leave a swath as the sensor saw it; or map it."),
    ] = False,
    crs: Annotated[str | None, typer.Option("--crs", help="CRS of the output, such as EPSG:32633.")] = None,
    resolution: Annotated[
        float | None, typer.Option("--resolution", help="Pixel size in units of the output CRS.")
    ] = None,
    resampling: Annotated[
        str | None,
        typer.Option("--resampling", help="To another grid by: nearest or bilinear.", show_default="nearest"),
    ] = None,
    mosaic: Annotated[bool, typer.Option("--mosaic", help="Lay all inputs together in one output.")] = False,
    rule: Annotated[
        str,
        typer.Option("--rule", help="Where tiles of a mosaic overlap: first, last, mean, min, max, median or center."),
    ] = "first",
    stac: Annotated[bool, typer.Option("--stac", help="Also write a STAC item, OUT.stac.json.")] = False,
    acquired: Annotated[
        str | None, typer.Option("--acquired", help="Time for the item, where the product has none (ISO 8601).")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes (ENVI outputs).", min=1)] = 1,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on: finished outputs of several are skipped, half-done ENVI is continued."),
    ] = False,
    skip_existing: SkipExisting = False,
    dry_run: DryRun = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Convert products; stored integers stay integers where nothing is computed.

    Example: torchspectral convert scene.tif -o scene.zarr --bands good
    """
    from torchspectral.cli.batch import Inputs, expand, outputs_for, run_batch
    from torchspectral.cli.show import print_json, progress_bar
    from torchspectral.cli.verb import remember_inputs
    from torchspectral.engine.convert import convert as run
    from torchspectral.errors import BadSettings
    from torchspectral.geo import crop
    from torchspectral.geo.grids import parse_crs

    suffix = "." + to.lower().lstrip(".")
    if suffix not in (".tif", ".zarr", ".hdr"):
        raise BadSettings(f"got --to {to!r}, expected tif, zarr or hdr")
    parse_crs(crs)
    if not mosaic and rule != "first":
        raise BadSettings(f"got --rule {rule} without --mosaic: it says what stands where tiles of a mosaic overlap")
    if not stac and acquired is not None:
        raise BadSettings("got --acquired without --stac: it is the time of a STAC item")
    given = parse_opening(opening)
    paths = expand(scenes)
    inputs = Inputs([Path("mosaic")]) if mosaic else paths

    def opened() -> Any:
        chosen = None if mask != "clear" else mask
        computed = resample is not None or dtype is not None
        return open_mosaic(
            paths,
            rule,
            resampling=resampling,
            crs=crs,
            resolution=resolution,
            mask=chosen,
            raw=not computed,
            opening=given,
        )

    if dry_run:
        plan: dict[str, Any] = {"bands": bands, "bbox": bbox, "resample": resample, "mask": mask, "dtype": dtype}
        moves: dict[str, Any] = {"crs": crs, "resolution": resolution, "resampling": resampling}
        if mosaic:
            plan |= {"rule": rule, "inputs": [str(p) for p in paths]}
            cube = opened() if bbox is None else crop(opened(), bbox)
            (target,) = outputs_for(inputs, output, suffix, into_folder=True)
            print_json(_plan(cube, paths[0], target, {**plan, **moves}, overwrite or resume))
            return
        for source, target in zip(paths, outputs_for(paths, output, suffix, into_folder=True), strict=True):
            cube = _on_map(source, bbox, keep_geometry, moves, given)
            print_json(_plan(cube, source, target, {**plan, **moves}, overwrite or resume))
        return

    def work(source: Path, target: OutPath) -> Any:
        moves: dict[str, Any] = (
            {} if mosaic else {"crs": crs, "resolution": resolution, "resampling": resampling or "nearest"}
        )
        with progress_bar("mosaic" if mosaic else source.name) as progress:
            result = run(
                opened() if mosaic else source,
                target,
                bands=parse_bands(bands),
                bbox=bbox,
                resample=resample,
                mask=None if mosaic and mask == "clear" else mask,
                opening=None if mosaic else given,
                dtype=dtype,
                orthorectify=not keep_geometry,
                stac=stac,
                acquired=acquired,
                workers=workers,
                overwrite=overwrite,
                resume=resume,
                progress=progress,
                **moves,
            )
        told: dict[str, Any] = {"mosaic": True, "rule": rule, "crs": crs, "resolution": resolution, "mask": mask}
        told = {k: v for k, v in {**told, "resampling": resampling}.items() if v is not None} if mosaic else {}
        told |= {"open": opening} if opening else {}
        remember_inputs(result, {"product": list(paths) if mosaic else source}, told)
        return result

    run_batch(
        inputs, output, suffix, work, skip_existing=skip_existing, resume=resume, as_json=as_json, into_folder=True
    )


def open_mosaic(
    paths: Sequence[Path],
    rule: str,
    *,
    resampling: str | None = None,
    crs: str | None = None,
    resolution: float | None = None,
    mask: str | None = None,
    raw: bool = True,
    opening: Mapping[str, Any] | None = None,
) -> Any:
    """The products on one grid, lazily; as stored where nothing is computed and all are stored alike.

    Raises
    ------
    GridMismatch, BandMismatch, BadSettings
        As `geo.mosaic`.
    """
    from torchspectral.cube import is_packed
    from torchspectral.geo import mosaic
    from torchspectral.io import open_product
    from torchspectral.io.masks import apply_mask, clear_mask

    given = dict(opening or {})
    raw = raw and rule in ("first", "last", "center") and resampling in (None, "nearest")
    cubes = [open_product(path, raw=raw, **given) for path in paths]
    if raw and len({str(c.attrs["packing"]) if is_packed(c) else "" for c in cubes}) > 1:
        cubes = [open_product(path, **given) for path in paths]
    if mask is not None:
        cubes = [apply_mask(cube, clear_mask(path, opening=given)[0]) for cube, path in zip(cubes, paths, strict=True)]
    return mosaic(cubes, rule, resampling=resampling, crs=crs, resolution=resolution)


def _on_map(source: Path, bbox: Any, keep_geometry: bool, moves: dict[str, Any], opening: Mapping[str, Any]) -> Any:
    """The product where it will lie, for a plan."""
    from torchspectral.geo import grid_of, to_map
    from torchspectral.io import open_product

    cube = open_product(source, bbox=bbox, **opening)
    if keep_geometry and grid_of(cube).kind == "swath":
        return cube
    given = {name: value for name, value in moves.items() if value is not None}
    return to_map(cube, **given) if given else cube


def _plan(cube: Any, source: Path, target: Path, options: dict[str, Any], replace: bool) -> dict[str, Any]:
    """What would be written, with everything checked that costs no pixels."""
    from torchspectral.cli.verb import refuse_existing
    from torchspectral.io.masks import clear_mask
    from torchspectral.io.opening import band_indices
    from torchspectral.spectra import resample

    if options["mask"]:
        clear_mask(source if options["mask"] == "clear" else options["mask"])
    chosen = parse_bands(options["bands"])
    if "band" in cube.dims:
        cube = cube.isel(band=band_indices(cube, chosen))
    if options["resample"]:
        cube = resample(cube, options["resample"])
    refuse_existing(target, replace=replace)
    given = {name: value for name, value in options.items() if value is not None}
    return {"input": str(source), "output": str(target), "shape": list(cube.shape), "options": given}
