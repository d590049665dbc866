"""`torchspectral unmix`: endmembers and their abundances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import (
    Engine,
    Json,
    Method,
    Out,
    Scenes,
    Settings,
    SkipExisting,
    Weights,
    parse_count,
    with_engine,
)


@with_engine
def unmix(
    scenes: Scenes,
    output: Out,
    *,
    settings: Settings = None,
    engine: Engine,
    k: Annotated[
        str | None, typer.Option("-k", "--endmembers-count", help='Number of endmembers, or "auto" (an upper bound).')
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option("--library", "--endmembers", help="Spectra (.sli or CSV) in place of extracted ones."),
    ] = None,
    class_column: Annotated[
        str | None,
        typer.Option("--class-column", help="Column of the library's table that names classes, for sma and mesma."),
    ] = None,
    polygons: Annotated[
        Path | None,
        typer.Option(
            "--polygons", help="Drawn areas whose spectra label the scene: polygons, points, CSV, class raster."
        ),
    ] = None,
    field: Annotated[str | None, typer.Option("--field", help="Column of the polygons that holds the classes.")] = None,
    resample_library: Annotated[
        str | None,
        typer.Option("--resample-library", help="Bring the library to the scene's bands: srf, gaussian or linear."),
    ] = None,
    drop_uncovered: Annotated[
        bool, typer.Option("--drop-uncovered", help="Leave out bands that the library does not cover.")
    ] = False,
    uncertainty: Annotated[
        Path | None, typer.Option("--uncertainty", help="Uncertainty of the scene, for Monte-Carlo draws.")
    ] = None,
    ignore: Annotated[
        str | None, typer.Option("--ignore", help="Wavelength regions [nm] to leave out: 0,440,1310,1490.")
    ] = None,
    names_from: Annotated[
        Path | None, typer.Option("--names-from", help="Library whose names the endmembers take (none is bundled).")
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Draw maps, spectra and a page into an output folder.")
    ] = True,
    method: Method = "vca-fcls",
    weights: Weights = None,
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Unmix a scene: endmembers (.sli, CSV), abundance maps, residual, pictures and a page.

    --method label is the ground-truth labelling of benchmark scenes: spectra of a table or of drawn areas, FCLS
    abundances, angles, condition number, and a record of every choice (labels.json).

    Example: torchspectral unmix scene.tif -k 5 -o unmixed/
    Example: torchspectral unmix scene.tif --endmembers e.csv --method label -o labelled/
    """
    from torchspectral.cli.verb import run_verb
    from torchspectral.io import open_product
    from torchspectral.io.labels import read_labels
    from torchspectral.io.libraries import read_library
    from torchspectral.settings import parse_pairs
    from torchspectral.unmixing.base import DEFAULT
    from torchspectral.unmixing.base import unmix as run
    from torchspectral.unmixing.libraries import parse_regions, with_classes

    spectra = with_classes(library, class_column) if library else None
    named = read_library(names_from) if names_from else None
    regions, count = parse_regions(ignore), parse_count(k)

    def call(cube, **options):  # type: ignore[no-untyped-def]
        doubt = open_product(uncertainty) if uncertainty else None
        if doubt is not None and engine.bbox is not None:
            from torchspectral.geo import crop

            doubt = crop(doubt, engine.bbox)
        drawn = read_labels(polygons, like=cube, field=field) if polygons else None
        return run(
            cube,
            count,
            method=method,
            labels=drawn,
            pictures=pictures,
            library=spectra,
            uncertainty=doubt,
            resampling=resample_library,  # type: ignore[arg-type]
            uncovered="drop" if drop_uncovered else "refuse",
            ignore=regions,
            names_from=named,
            weights=weights,
            settings=parse_pairs(settings or []),
            **options,
        )

    run_verb(
        "unmixing",
        method if method != DEFAULT else "label" if polygons else "fcls" if spectra is not None else method,
        scenes,
        output,
        engine,
        call,
        as_json=as_json,
        skip_existing=skip_existing,
        inputs={"library": library, "polygons": polygons, "uncertainty": uncertainty, "names_from": names_from},
        suffix="",
        weights=weights,
    )
