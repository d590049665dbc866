"""`torchspectral unmix`: endmembers and their abundances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Engine, Json, Method, Out, Scenes, Settings, SkipExisting, with_engine


@with_engine
def unmix(
    scenes: Scenes,
    output: Out,
    *,
    settings: Settings = None,
    engine: Engine,
    k: Annotated[int | None, typer.Option("-k", "--endmembers-count", help="Number of endmembers.", min=1)] = None,
    library: Annotated[
        Path | None,
        typer.Option("--library", "--endmembers", help="Spectra (.sli or CSV) in place of extracted ones."),
    ] = None,
    method: Method = "vca-fcls",
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Unmix a scene: endmembers (.sli, CSV), abundance maps and residual.

    Example: torchspectral unmix scene.tif -k 5 -o unmixed/
    """
    from torchspectral.cli.verb import run_verb
    from torchspectral.io.libraries import read_library
    from torchspectral.settings import parse_pairs
    from torchspectral.unmixing.base import DEFAULT
    from torchspectral.unmixing.base import unmix as run

    spectra = read_library(library) if library else None

    def call(cube, **options):  # type: ignore[no-untyped-def]
        return run(cube, k, method=method, library=spectra, settings=parse_pairs(settings or []), **options)

    run_verb(
        "unmixing",
        "fcls" if spectra is not None and method == DEFAULT else method,
        scenes,
        output,
        engine,
        call,
        as_json=as_json,
        skip_existing=skip_existing,
        inputs={"library": library},
        suffix="",
    )
