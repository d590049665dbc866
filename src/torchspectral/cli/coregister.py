"""`torchspectral coregister`: shift scenes onto a reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from torchspectral.cli.options import (
    Json,
    Opening,
    Out,
    OutPath,
    Overwrite,
    Scenes,
    SkipExisting,
    parse_bands,
    parse_opening,
)


def coregister(
    moving: Scenes,
    reference: Annotated[
        Path, typer.Argument(help="Scene that stays: any sensor, PAN, CRS and pixel size.", show_default=False)
    ],
    output: Out,
    bands: Annotated[str | None, typer.Option("--bands", help="Bands of the scene to compare, numbers from 1.")] = None,
    reference_bands: Annotated[
        str | None, typer.Option("--reference-bands", help="Bands of the reference to compare, numbers from 1.")
    ] = None,
    max_shift: Annotated[
        float | None, typer.Option("--max-shift", help="Largest shift searched for, in the scene's pixels.")
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Also resample the values back onto the pixels that the scene had.")
    ] = False,
    opening: Opening = None,
    reference_opening: Annotated[
        list[str] | None,
        typer.Option("--open-reference", help="The same for the reference, KEY=VALUE; repeat for more."),
    ] = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Estimate the shift by phase correlation and write the scene with its georeference moved.

    The last path is the reference; several scenes are each shifted onto it: coregister a.tif b.tif pan.tif -o shifted/

    Example: torchspectral coregister scene.tif reference.tif -o shifted.tif
    """
    from torchspectral.cli.batch import expand, outputs_for, run_batch
    from torchspectral.cli.verb import refuse_existing, refuse_input_as_output
    from torchspectral.errors import BadSettings
    from torchspectral.geo import coregister as run
    from torchspectral.io import open_product, save

    paths = expand(moving)
    for source, target in zip(paths, outputs_for(paths, output, ".tif", into_folder=True), strict=True):
        refuse_input_as_output(target, [source, reference])
    chosen = []
    for name, text in (("--bands", bands), ("--reference-bands", reference_bands)):
        numbers = parse_bands(text) if text is not None else None
        if isinstance(numbers, str):
            raise BadSettings(f"got {name} {text!r}, expected numbers from 1 such as 30-35")
        chosen.append(numbers)
    told = {"open": opening, "open_reference": reference_opening}

    def work(source: Path, target: OutPath) -> Any:
        refuse_existing(target, replace=overwrite)
        cube = open_product(source, **parse_opening(opening))
        fixed = open_product(reference, **parse_opening(reference_opening))
        check_numbers(cube, chosen[0], "--bands")
        check_numbers(fixed, chosen[1], "--reference-bands")
        result = run(cube, fixed, bands=chosen[0], reference_bands=chosen[1], max_shift=max_shift, resample=resample)
        result.report.options |= {name: pairs for name, pairs in told.items() if pairs}
        make_folder(target)
        path = save(result.primary, target, overwrite=overwrite, report=result.report)
        result.paths[next(iter(result))] = str(path)
        return result

    run_batch(paths, output, ".tif", work, skip_existing=skip_existing, as_json=as_json, into_folder=True)


def check_numbers(image: Any, bands: Sequence[int] | None, option: str) -> None:
    """Refuse numbers of bands that an image does not have, counted from 1 as they were given.

    Raises
    ------
    BandMismatch
    """
    from torchspectral.errors import BandMismatch

    wrong = [band + 1 for band in bands or () if band >= image.shape[0]]
    if wrong:
        raise BandMismatch(f"got {option} {', '.join(map(str, wrong))}, expected numbers from 1 to {image.shape[0]}")


def make_folder(target: Path) -> None:
    """Make the folder that an output goes to.

    Raises
    ------
    OutputFailed
    """
    from torchspectral.errors import OutputFailed

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"cannot make the folder {target.parent}: {error.strerror or error}") from None
