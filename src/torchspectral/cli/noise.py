"""`torchspectral noise`: the noise of a scene, band by band."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Json, Opening, Overwrite, Scene, parse_opening


def noise(
    scene: Scene,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Table (.csv) or figure (.png) of the bands.", show_default=False),
    ] = None,
    opening: Opening = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Estimate the noise, SNR and stripes of each band; find dead bands and columns.

    Example: torchspectral noise scene.tif -o noise.csv
    """
    from torchspectral.cli.show import facts, finite, print_json, progress_bar
    from torchspectral.io import open_product
    from torchspectral.restoration.noise import noise as estimate
    from torchspectral.restoration.noise import write

    cube = open_product(scene, **parse_opening(opening))
    with progress_bar(scene.name) as progress:
        found = estimate(cube, progress=progress)
    path = write(found, output, overwrite=overwrite) if output is not None else None
    figures = dict(found.report.figures)
    if path is not None:
        figures["output"] = str(path)
    if as_json:
        print_json(finite(figures | {"bands": found["bands"].to_dict("records"), "notes": found.report.notes}))
        return
    facts({k: ", ".join(map(str, v)) or "none" if isinstance(v, list) else v for k, v in figures.items()})
