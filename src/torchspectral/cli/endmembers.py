"""`torchspectral endmembers`: the purest spectra of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import (
    Bands,
    Bbox,
    Config,
    Engine,
    Json,
    Mask,
    Opening,
    Out,
    Overwrite,
    Scene,
    Seed,
    Settings,
    parse_count,
)


def endmembers(
    scene: Scene,
    output: Out,
    k: Annotated[str, typer.Option("-k", help='Number of endmembers, or "auto".')] = "auto",
    method: Annotated[
        str, typer.Option("--method", "-m", help="Method; see `torchspectral methods unmixing`.")
    ] = "vca",
    polygons: Annotated[
        Path | None,
        typer.Option("--polygons", help="Polygons, points or a class raster: one endmember a class, the mean of it."),
    ] = None,
    field: Annotated[str | None, typer.Option("--field", help="Column of the polygons that holds the classes.")] = None,
    ignore: Annotated[
        str | None, typer.Option("--ignore", help="Wavelength regions [nm] to leave out: 0,440,1310,1490.")
    ] = None,
    names_from: Annotated[
        Path | None, typer.Option("--names-from", help="Library whose names the endmembers take (none is bundled).")
    ] = None,
    settings: Settings = None,
    bands: Bands = "good",
    bbox: Bbox = None,
    mask: Mask = None,
    opening: Opening = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Extract endmembers and write them as an ENVI library (.sli) or CSV.

    -k auto counts signal dimensions and reports what HySime, HFC, NWHFC and the elbow say: upper bounds on real scenes.

    Example: torchspectral endmembers scene.tif -k 5 -o endmembers.csv
    """
    from torchspectral import registry
    from torchspectral.cli.show import print_result, progress_bar
    from torchspectral.cli.verb import as_target, prepare, refuse_input_as_output, remember
    from torchspectral.io.labels import read_labels
    from torchspectral.io.libraries import read_library
    from torchspectral.settings import parse_pairs
    from torchspectral.unmixing.base import endmembers as run
    from torchspectral.unmixing.libraries import parse_regions

    count = parse_count(k)
    values = parse_pairs(settings or [])
    count = values.pop("k", "auto") if k == "auto" else count
    engine = Engine(bands=bands, bbox=bbox, mask=mask, opening=opening, seed=seed, overwrite=overwrite)
    given = {role: path for role, path in (("polygons", polygons), ("names_from", names_from)) if path}
    refuse_input_as_output(output, [scene, *given.values()])
    registry.load_target(registry.card("unmixing", "polygons" if polygons else method).target)
    cube = prepare(scene, engine)
    with progress_bar(scene.name) as progress:
        result = run(
            cube,
            count,
            method=method,
            labels=read_labels(polygons, like=cube, field=field) if polygons else None,
            ignore=parse_regions(ignore),
            names_from=read_library(names_from) if names_from else None,
            settings=values,
            out=as_target(output),
            progress=progress,
            **engine.as_options(),
        )
    remember(result, {"cube": scene, **given}, engine)
    print_result(result, as_json)
