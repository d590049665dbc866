"""`torchspectral classify`: a class map of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Engine, Json, Out, Scenes, Settings, SkipExisting, Weights, with_engine


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
    weights: Weights = None,
    later: Annotated[
        Path | None, typer.Option("--later", help="The same pixels at a later date, for weights that tell change.")
    ] = None,
    save_weights: Annotated[
        Path | None, typer.Option("--save-weights", help="File for what was learnt from --labels (svm and the like).")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-m", help="Method; by default that of the weights, else sam. See `torchspectral methods`."
        ),
    ] = None,
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Classify a scene by reference spectra, by labelled pixels, or by trained weights.

    Example: torchspectral classify scene.tif --library minerals.sli -o classes.tif

    Example: torchspectral classify scene.tif --weights runs/crops -o crops/
    """
    from torchspectral.classification.base import classify as run
    from torchspectral.cli.verb import run_verb
    from torchspectral.io import open_product
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
            weights=weights,
            later=open_product(later) if later else None,
            save_weights=save_weights,
            settings=parse_pairs(settings or []),
            **options,
        )

    run_verb(
        "classification",
        method or ("backbone" if weights else "sam"),
        scenes,
        output,
        engine,
        call,
        as_json=as_json,
        skip_existing=skip_existing,
        inputs={"library": library, "labels": labels, "later": later},
        weights=weights,
    )
