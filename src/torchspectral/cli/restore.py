"""`torchspectral restore`: denoise a scene."""

from __future__ import annotations

from pathlib import Path
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
def restore(
    scenes: Scenes,
    output: Out,
    *,
    settings: Settings = None,
    engine: Engine,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-m", help="Method; without one the scene's noise is estimated and a method is chosen."
        ),
    ] = None,
    weights: Weights = None,
    residual: Annotated[
        Path | None, typer.Option("--residual", help="File for what was removed; of several scenes, a folder.")
    ] = None,
    weak_target: Annotated[
        bool, typer.Option("--weak-target", help="Test how much of a rare, weak target the restoration keeps.")
    ] = False,
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Restore a noisy scene; what was removed is accounted for.

    Example: torchspectral restore scene.tif -o clean.tif --residual removed.tif
    """
    from torchspectral.cli.batch import expand
    from torchspectral.cli.verb import refuse_input_as_output, run_verb
    from torchspectral.restoration.base import restore as run
    from torchspectral.settings import parse_pairs

    if residual is not None:
        refuse_input_as_output(residual, expand(scenes))
    several = len(expand(scenes)) > 1

    def call(cube, **options):  # type: ignore[no-untyped-def]
        removed = residual
        if residual is not None and several:
            removed = residual / f"{Path(str(options['out']).rstrip('/')).stem}.tif"
            residual.mkdir(parents=True, exist_ok=True)
        return run(
            cube,
            method=method,
            settings=parse_pairs(settings or []),
            weights=weights,
            residual=removed,
            weak_target=True if weak_target else None,
            **options,
        )

    run_verb(
        "restoration",
        method or "fast-eigen",
        scenes,
        output,
        engine,
        call,
        as_json=as_json,
        skip_existing=skip_existing,
        weights=weights,
    )
