"""`torchspectral diagnose`: what a representation has learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Json, Opening, Out, Overwrite, Seed, Settings, parse_opening


def diagnose(
    source: Annotated[
        Path,
        typer.Argument(
            help="Embeddings (layer file, .npz, .npy, .csv) or the folder of a training run.", show_default=False
        ),
    ],
    output: Out,
    *,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Class raster, polygons, points or CSV; or one label a sample (.npy, .csv)."),
    ] = None,
    field: Annotated[str | None, typer.Option("--field", help="Column that holds the classes.")] = None,
    spectra: Annotated[
        Path | None, typer.Option("--spectra", help="The scene that the embeddings were made of, on the same pixels.")
    ] = None,
    settings: Settings = None,
    opening: Opening = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say what embeddings have learnt: entropy, information about labels and input, ranks, probes, collapse.

    Writes a folder: report.html with the words, numbers.json, curves.csv, samples.csv (the pixels that were drawn).

    Example: torchspectral diagnose embeddings.tif --spectra scene.tif -o report/
    """
    from torchspectral.cli.show import finite, print_json, progress_bar
    from torchspectral.diagnosis.base import diagnose as run
    from torchspectral.errors import BadSettings
    from torchspectral.io import open_product
    from torchspectral.settings import parse_pairs

    given = parse_opening(opening)
    if given and spectra is None:
        raise BadSettings("got --open without --spectra, expected the scene that it opens")
    with progress_bar(source.name) as progress:
        found = run(
            source,
            labels=labels,
            field=field,
            spectra=open_product(spectra, **given) if spectra and given else spectra,
            settings=parse_pairs(settings or []),
            out=output,
            seed=seed,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        print_json(
            finite(
                {
                    "outputs": found.paths,
                    "numbers": found["numbers"],
                    "alarms": found["alarms"],
                    "words": found["words"],
                    "notes": found.report.notes,
                }
            )
        )
        return
    for name, path in found.paths.items():
        typer.echo(f"{name}: {path}")
    for sentence in found["alarms"]:
        typer.echo(f"ALARM: {sentence}")
    for sentence in [*found["words"], *found.report.notes]:
        typer.echo(f"  {sentence}")
