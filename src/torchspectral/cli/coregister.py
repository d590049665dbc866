"""`torchspectral coregister`: shift a scene onto a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Json, Opening, Out, Overwrite, parse_bands, parse_opening


def coregister(
    moving: Annotated[Path, typer.Argument(help="Scene to shift.", show_default=False)],
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
    as_json: Json = False,
) -> None:
    """Estimate the shift by phase correlation and write the scene with its georeference moved.

    Example: torchspectral coregister scene.tif reference.tif -o shifted.tif
    """
    from torchspectral.cli.show import print_result
    from torchspectral.cli.verb import refuse_input_as_output
    from torchspectral.errors import BadSettings
    from torchspectral.geo import coregister as run
    from torchspectral.io import open_product, save

    refuse_input_as_output(output, [moving, reference])
    chosen = []
    for name, text in (("--bands", bands), ("--reference-bands", reference_bands)):
        numbers = parse_bands(text) if text is not None else None
        if isinstance(numbers, str):
            raise BadSettings(f"got {name} {text!r}, expected numbers from 1 such as 30-35")
        chosen.append(numbers)
    result = run(
        open_product(moving, **parse_opening(opening)),
        open_product(reference, **parse_opening(reference_opening)),
        bands=chosen[0],
        reference_bands=chosen[1],
        max_shift=max_shift,
        resample=resample,
    )
    told = {"open": opening, "open_reference": reference_opening}
    result.report.options |= {name: pairs for name, pairs in told.items() if pairs}
    path = save(result.primary, output, overwrite=overwrite, report=result.report)
    result.paths[next(iter(result))] = str(path)
    print_result(result, as_json)
