"""`torchspectral convert`: any product to COG, Zarr or ENVI, with everything kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from torchspectral.cli.options import Bbox, Config, DryRun, Out, Overwrite, Scenes, SkipExisting, parse_bands


def convert(
    scenes: Scenes,
    output: Out,
    to: Annotated[str, typer.Option("--to", help="Suffix for several inputs: tif, zarr or hdr.")] = "tif",
    bands: Annotated[str, typer.Option("--bands", help='"all", "good", or numbers from 1: 1-50,60.')] = "all",
    bbox: Bbox = None,
    resample: Annotated[
        str | None, typer.Option("--resample", help="Sensor whose bands to simulate, such as sentinel-2.")
    ] = None,
    mask: Annotated[
        str | None, typer.Option("--mask", help='"clear" (the product\'s own flags) or a mask file.')
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32, or int16 for scaled integers.")] = None,
    keep_geometry: Annotated[bool, typer.Option("--keep-geometry", help="Do not orthorectify a swath.")] = False,
    workers: Annotated[int, typer.Option("--workers", help="Processes.", min=1)] = 1,
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a half-done output.")] = False,
    skip_existing: SkipExisting = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Convert products; stored integers stay integers where nothing is computed.

    Example: torchspectral convert enmap.zip -o scene.tif --bands good --mask clear
    """
    from torchspectral.cli.batch import expand, outputs_for, run_batch
    from torchspectral.cli.show import progress_bar
    from torchspectral.engine.convert import convert as run

    suffix = "." + to.lstrip(".")
    if dry_run:
        for source, target in zip(paths := expand(scenes), outputs_for(paths, output, suffix), strict=True):
            typer.echo(f"{source} -> {target}: bands {bands}, " + ", ".join(
                f"{name} {value}" for name, value in (("bbox", bbox), ("resample", resample), ("mask", mask), ("dtype", dtype)) if value
            ))  # fmt: skip
        return

    def work(source: Path, target: Path) -> Any:
        with progress_bar(source.name) as progress:
            return run(
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

    run_batch(scenes, output, suffix, work, skip_existing=skip_existing)
