"""`torchspectral score`: an output against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Json, Opening, parse_opening


def score(
    output: Annotated[Path, typer.Argument(help="What a method made.", show_default=False)],
    truth: Annotated[Path, typer.Argument(help="The truth.", show_default=False)],
    ratio: Annotated[int, typer.Option("--ratio", help="Resolution ratio of a sharpening (for ERGAS).", min=1)] = 1,
    crop: Annotated[int, typer.Option("--crop", help="Pixels to leave out at each edge.", min=0)] = 0,
    opening: Opening = None,
    truth_opening: Annotated[
        list[str] | None, typer.Option("--open-truth", help="The same for the truth, KEY=VALUE; repeat for more.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two cubes: ERGAS, SAM, Q2n, PSNR, SSIM, RMSE and the figures of each band.

    Example: torchspectral score sharp.tif pair/truth.tif --ratio 4
    """
    from torchspectral.cli.show import facts, finite, print_json
    from torchspectral.io import open_product
    from torchspectral.metrics.score import score as compare

    made, wanted = parse_opening(opening), parse_opening(truth_opening)
    result = compare(open_product(output, **made), open_product(truth, **wanted), ratio=ratio, crop=crop)
    figures = result.report.figures
    if as_json:
        print_json(finite(figures))
    else:
        facts({k: v for k, v in figures.items() if isinstance(v, int | float | str)})
