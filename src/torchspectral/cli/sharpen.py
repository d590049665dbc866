"""`torchspectral sharpen`: fuse a hyperspectral image with a finer one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Engine, Json, Method, Out, Scene, Settings, Weights, with_engine


@with_engine
def sharpen(
    scene: Scene,
    output: Out,
    *,
    settings: Settings = None,
    engine: Engine,
    pan: Annotated[
        Path | None, typer.Argument(help="PAN image; left out where the product has one.", show_default=False)
    ] = None,
    method: Method = "gsa",
    weights: Weights = None,
    as_json: Json = False,
) -> None:
    """Sharpen a hyperspectral image with a panchromatic one.

    Example: torchspectral sharpen hs.tif pan.tif -o sharp.tif --method gsa
    """
    from torchspectral.cli.verb import open_pan, run_verb
    from torchspectral.settings import parse_pairs
    from torchspectral.sharpening.base import sharpen as run

    def call(cube, **options):  # type: ignore[no-untyped-def]
        finer = open_pan(scene, pan, engine)
        return run(cube, finer, method=method, settings=parse_pairs(settings or []), weights=weights, **options)

    run_verb("sharpening", method, [scene], output, engine, call, as_json=as_json, inputs={"pan": pan}, weights=weights)
