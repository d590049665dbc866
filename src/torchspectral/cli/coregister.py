"""`torchspectral coregister`: shift a scene onto a reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Json, Out, Overwrite


def coregister(
    moving: Annotated[Path, typer.Argument(help="Scene to shift.", show_default=False)],
    reference: Annotated[Path, typer.Argument(help="Scene that stays.", show_default=False)],
    output: Out,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Estimate the shift by phase correlation and write the scene with its georeference moved.

    Example: torchspectral coregister scene.tif reference.tif -o shifted.tif
    """
    from torchspectral.cli.show import print_result
    from torchspectral.cli.verb import refuse_input_as_output
    from torchspectral.geo import coregister as run
    from torchspectral.io import open_product, save

    refuse_input_as_output(output, [moving, reference])
    result = run(open_product(moving), open_product(reference))
    path = save(result.primary, output, overwrite=overwrite, report=result.report)
    result.paths[next(iter(result))] = str(path)
    print_result(result, as_json)
