"""`torchspectral classify`: a class map of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Engine, Json, Method, Out, Scenes, Settings, SkipExisting, with_engine


@with_engine
def classify(
    scenes: Scenes,
    output: Out,
    *,
    settings: Settings = None,
    engine: Engine,
    library: Annotated[
        Path | None, typer.Option("--library", help="Reference spectra (.sli, CSV, ASD, text, or a folder).")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Class raster, polygons, points or CSV of pixels to learn the spectra from."),
    ] = None,
    field: Annotated[
        str | None, typer.Option("--field", help="Column of a vector or CSV that holds the classes.")
    ] = None,
    method: Method = "sam",
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Classify a scene by reference spectra or by labelled pixels.

    Example: torchspectral classify scene.tif --library minerals.sli -o classes.tif
    """
    from torchspectral.classification.base import classify as run
    from torchspectral.cli.verb import run_verb
    from torchspectral.io.labels import read_labels
    from torchspectral.io.libraries import read_library
    from torchspectral.settings import parse_pairs

    spectra = read_library(library) if library else None

    def call(cube, **options):  # type: ignore[no-untyped-def]
        classes = read_labels(labels, like=cube, field=field) if labels else None
        return run(
            cube,
            method=method,
            library=spectra,
            labels=classes,
            settings=parse_pairs(settings or []),
            **options,
        )

    run_verb(
        "classification",
        method,
        scenes,
        output,
        engine,
        call,
        as_json=as_json,
        skip_existing=skip_existing,
        inputs={"library": library, "labels": labels},
    )
