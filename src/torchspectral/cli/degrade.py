"""`torchspectral degrade`: a scene with known noise, stripes, blur, haze or gaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchspectral.cli.options import (
    Config,
    Json,
    Opening,
    Out,
    OutPath,
    Overwrite,
    Scenes,
    Seed,
    Settings,
    SkipExisting,
    parse_opening,
)


def degrade(
    scenes: Scenes,
    output: Out,
    *,
    settings: Settings = None,
    opening: Opening = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Degrade a scene as the restoration benchmarks do; a mask of the touched values is written beside it.

    Recipes (--set recipe=...): gaussian:50, gaussian:blind, noniid, stripe, deadline, impulse, mixture, icvl-mixture,
    poisson:10, blur:9, motion:15:45, sr:4, imresize:4, inpaint:0.8, bands:0.2, haze:0.5, mp-hsir:TASK; joined by +.

    Example: torchspectral degrade scene.tif --set recipe=icvl-mixture --seed 1 -o noisy.tif
    """
    from torchspectral.cli.batch import expand, outputs_for, run_batch
    from torchspectral.cli.show import progress_bar
    from torchspectral.cli.verb import as_target, refuse_input_as_output, remember_inputs
    from torchspectral.io import open_product
    from torchspectral.restoration.degradation import DegradeSettings, read_recipe
    from torchspectral.restoration.degradation import degrade as run
    from torchspectral.settings import parse_pairs

    given = parse_opening(opening)
    values = parse_pairs(settings or [])
    read_recipe(DegradeSettings.make(values).recipe)
    paths = expand(scenes)
    for source, target in zip(paths, outputs_for(paths, output, ".tif"), strict=True):
        refuse_input_as_output(target, [source])

    def work(source: Path, target: OutPath) -> Any:
        with progress_bar(source.name) as progress:
            result = run(
                open_product(source, **given),
                seed=seed,
                out=as_target(target),
                settings=values,
                overwrite=overwrite,
                progress=progress,
            )
        remember_inputs(result, {"cube": source}, {"open": opening} if opening else {})
        return result

    run_batch(paths, output, ".tif", work, skip_existing=skip_existing, as_json=as_json)
