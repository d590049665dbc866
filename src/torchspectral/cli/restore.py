"""`torchspectral restore`: denoise a scene."""

from __future__ import annotations

from torchspectral.cli.options import (
    Engine,
    Json,
    Method,
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
    method: Method = "mnf",
    weights: Weights = None,
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Restore a noisy scene.

    Example: torchspectral restore scene.tif -o clean.tif --method mnf
    """
    from torchspectral.cli.verb import run_verb
    from torchspectral.restoration.base import restore as run
    from torchspectral.settings import parse_pairs

    def call(cube, **options):  # type: ignore[no-untyped-def]
        return run(cube, method=method, settings=parse_pairs(settings or []), weights=weights, **options)

    run_verb(
        "restoration",
        method,
        scenes,
        output,
        engine,
        call,
        as_json=as_json,
        skip_existing=skip_existing,
        weights=weights,
    )
