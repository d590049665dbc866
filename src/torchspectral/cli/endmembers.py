"""`torchspectral endmembers`: the purest spectra of a scene."""

from __future__ import annotations

from typing import Annotated

import typer

from torchspectral.cli.options import (
    Bands,
    Bbox,
    Config,
    Engine,
    Json,
    Mask,
    Out,
    Overwrite,
    Scene,
    Seed,
    Settings,
)


def endmembers(
    scene: Scene,
    output: Out,
    k: Annotated[str, typer.Option("-k", help='Number of endmembers, or "auto".')] = "auto",
    method: Annotated[
        str, typer.Option("--method", "-m", help="Method; see `torchspectral methods unmixing`.")
    ] = "vca",
    settings: Settings = None,
    bands: Bands = "good",
    bbox: Bbox = None,
    mask: Mask = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Extract endmembers and write them as an ENVI library (.sli) or CSV.

    Example: torchspectral endmembers scene.tif -k 5 -o endmembers.csv
    """
    from torchspectral import registry
    from torchspectral.cli.show import print_result, progress_bar
    from torchspectral.cli.verb import as_target, prepare, refuse_input_as_output, remember
    from torchspectral.errors import BadSettings
    from torchspectral.settings import parse_pairs
    from torchspectral.unmixing.base import endmembers as run

    if k != "auto" and not k.isdigit():
        raise BadSettings(f'got -k {k!r}, expected a whole number or "auto"')
    values = parse_pairs(settings or [])
    count = values.pop("k", "auto") if k == "auto" else int(k)
    engine = Engine(bands=bands, bbox=bbox, mask=mask, seed=seed, overwrite=overwrite)
    refuse_input_as_output(output, [scene])
    registry.load_target(registry.card("unmixing", method).target)
    with progress_bar(scene.name) as progress:
        result = run(
            prepare(scene, engine),
            count,
            method=method,
            settings=values,
            out=as_target(output),
            progress=progress,
            **engine.as_options(),
        )
    remember(result, {"cube": scene}, engine)
    print_result(result, as_json)
