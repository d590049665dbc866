"""`torchspectral embed`: a vector for each cell of a scene."""

from __future__ import annotations

from typing import Annotated

import typer

from torchspectral.cli.options import Engine, Json, Out, Scenes, Settings, SkipExisting, with_engine


@with_engine
def embed(
    scenes: Scenes,
    output: Out,
    *,
    settings: Settings = None,
    engine: Engine,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", "-b", help="Encoder, such as spec-vit-s; by default that of the weights."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="A run, a file or a name; by default the only weights of the backbone on this machine.",
        ),
    ] = None,
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Turn a scene into vectors by a trained encoder, one for each cell, georeferenced.

    With a folder as output: embedding.tif, components.csv (their principal components) and preview.png. --align resamples
    a scene of another sensor to the bands of the weights by spectral response. --set what=pooled window=64 stride=32 gives
    a vector for each window, --set grid=pixels a vector for each pixel, --set initial=random untrained ones to compare with.

    Example: torchspectral embed scene.tif --backbone spec-vit-s --weights runs/dino -o emb.tif

    Example: torchspectral embed scene.tif --weights runs/dino --align -o embedded/
    """
    from torchspectral.cli.verb import run_verb
    from torchspectral.embedding.base import METHOD, ROOM
    from torchspectral.embedding.base import embed as run
    from torchspectral.settings import parse_pairs

    def call(cube, **options):  # type: ignore[no-untyped-def]
        return run(cube, backbone=backbone, weights=weights, settings=parse_pairs(settings or []), **options)

    run_verb(
        ROOM,
        METHOD,
        scenes,
        output,
        engine,
        call,
        as_json=as_json,
        skip_existing=skip_existing,
        weights=weights,
    )
