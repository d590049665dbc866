"""`torchspectral superres`: a finer scene from the scene alone."""

from __future__ import annotations

from typing import Annotated

import typer

from torchspectral.cli.options import (
    Engine,
    Json,
    Out,
    Scenes,
    Settings,
    SkipExisting,
    Weights,
    with_engine,
)


@with_engine
def superres(
    scenes: Scenes,
    output: Out,
    *,
    settings: Settings = None,
    engine: Engine,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            help="Method; by default the one of the weights, and interpolation without.",
            show_default=False,
        ),
    ] = "",
    weights: Weights = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Degrade the result and compare it with the scene.")
    ] = True,
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Super-resolve a scene from itself alone.

    Example: torchspectral superres scene.tif -o fine.tif --set scale=4
    """
    from torchspectral.cli.verb import run_verb
    from torchspectral.settings import parse_pairs
    from torchspectral.superresolution.base import method_of
    from torchspectral.superresolution.base import superres as run

    chosen = method or method_of(weights)

    def call(cube, **options):  # type: ignore[no-untyped-def]
        given = parse_pairs(settings or [])
        return run(cube, method=chosen, settings=given, weights=weights, check=check, **options)

    run_verb(
        "superresolution",
        chosen,
        scenes,
        output,
        engine,
        call,
        as_json=as_json,
        skip_existing=skip_existing,
        weights=weights,
    )
