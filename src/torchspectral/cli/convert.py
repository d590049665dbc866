"""`torchspectral convert`: any product to COG, Zarr or ENVI, with everything kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from torchspectral.cli.options import (
    Bbox,
    Config,
    DryRun,
    Json,
    Mask,
    Out,
    OutPath,
    Overwrite,
    Scenes,
    SkipExisting,
    parse_bands,
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
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="Stored numbers: float32, or int16 for scaled integers.")
    ] = None,
    keep_geometry: Annotated[bool, typer.Option("--keep-geometry", help="Do not orthorectify a swath.")] = False,
    workers: Annotated[int, typer.Option("--workers", help="Processes (ENVI outputs).", min=1)] = 1,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a half-done output (ENVI; others start again).")
    ] = False,
    skip_existing: SkipExisting = False,
    dry_run: DryRun = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Convert products; stored integers stay integers where nothing is computed.

    Example: torchspectral convert scene.tif -o scene.zarr --bands good
    """
    from torchspectral.cli.batch import expand, outputs_for, run_batch
    from torchspectral.cli.show import print_json, progress_bar
    from torchspectral.cli.verb import remember_inputs
    from torchspectral.engine.convert import convert as run
    from torchspectral.errors import BadSettings

    suffix = "." + to.lower().lstrip(".")
    if suffix not in (".tif", ".zarr", ".hdr"):
        raise BadSettings(f"got --to {to!r}, expected tif, zarr or hdr")
    paths = expand(scenes)
    if dry_run:
        plan = {"bands": bands, "bbox": bbox, "resample": resample, "mask": mask, "dtype": dtype}
        for source, target in zip(paths, outputs_for(paths, output, suffix, into_folder=True), strict=True):
            print_json(_plan(source, target, plan, overwrite or resume))
        return

    def work(source: Path, target: OutPath) -> Any:
        with progress_bar(source.name) as progress:
            result = run(
                source,
                target,
                bands=parse_bands(bands),
                bbox=bbox,
                resample=resample,
                mask=mask,
                dtype=dtype,
                orthorectify=not keep_geometry,
                workers=workers,
                overwrite=overwrite,
                resume=resume,
                progress=progress,
            )
        remember_inputs(result, {"product": source}, {})
        return result

    run_batch(paths, output, suffix, work, skip_existing=skip_existing, as_json=as_json, into_folder=True)


def _plan(source: Path, target: Path, options: dict[str, Any], replace: bool) -> dict[str, Any]:
    """What would be written, with everything checked that costs no pixels."""
    from torchspectral.errors import OutputExists
    from torchspectral.io import open_product
    from torchspectral.io.masks import clear_mask
    from torchspectral.io.opening import band_indices
    from torchspectral.spectra import resample

    cube = open_product(source, bbox=options["bbox"])
    if options["mask"]:
        clear_mask(source if options["mask"] == "clear" else options["mask"])
    chosen = parse_bands(options["bands"])
    if "band" in cube.dims:
        cube = cube.isel(band=band_indices(cube, chosen))
    if options["resample"]:
        cube = resample(cube, options["resample"])
    if target.exists() and not replace:
        raise OutputExists(f"{target} exists: --overwrite replaces it, or choose another name")
    given = {name: value for name, value in options.items() if value is not None}
    return {"input": str(source), "output": str(target), "shape": list(cube.shape), "options": given}
