"""`torchspectral endmembers`: the purest spectra of a scene."""

from __future__ import annotations

from typing import Annotated

import typer

from torchspectral.cli.options import Json, Out, Overwrite, Scene, Seed


def endmembers(
    scene: Scene,
    output: Out,
    k: Annotated[str, typer.Option("-k", help='Number of endmembers, or "auto".')] = "auto",
    method: Annotated[str, typer.Option("--method", "-m", help="vca.")] = "vca",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Extract endmembers and write them as an ENVI library (.sli) or CSV.

    Example: torchspectral endmembers scene.tif -k 5 -o endmembers.csv
    """
    from torchspectral.cli.show import print_result
    from torchspectral.errors import BadSettings
    from torchspectral.io import open_product
    from torchspectral.unmixing.base import endmembers as run

    if k != "auto" and not k.isdigit():
        raise BadSettings(f'got -k {k!r}, expected a whole number or "auto"')
    result = run(
        open_product(scene),
        k if k == "auto" else int(k),
        method=method,
        seed=seed,
        out=output,
        overwrite=overwrite,
    )
    print_result(result, as_json)
