"""`torchspectral train`: fit a network and keep it as weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from torchspectral.cli.options import Config, Json, Opening, Out, Overwrite, Seed, Settings, parse_opening


def train(
    task: Annotated[str, typer.Argument(help="Verb to train for, such as sharpen, or pretrain.", show_default=False)],
    output: Out,
    data: Annotated[
        list[Path],
        typer.Option(
            "--data",
            help="Scenes, folders of scenes, .txt lists, or patch sets; to restore also NAME:SPLIT:FOLDER of a known data "
            "set, or generated; repeat for more.",
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="Method; see `torchspectral methods`. To classify: backbone by default."),
    ] = None,
    *,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="To classify: encoder; see `torchspectral weights list`.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="To classify: file, run or name of the encoder's weights.")
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            "--labels", help="To classify: polygons, points, class raster or CSV; one for all scenes, or one for each."
        ),
    ] = None,
    field: Annotated[
        str | None, typer.Option("--field", help="To classify: column of a vector or CSV that holds the classes.")
    ] = None,
    settings: Settings = None,
    opening: Opening = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="Passes over the data, in place of the setting steps.", min=1),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Optimiser steps, in place of epochs.", min=1)] = None,
    seed: Seed = 0,
    device: Annotated[str, typer.Option("--device", help="Where to compute: auto, cpu, cuda or cuda:N.")] = "auto",
    devices: Annotated[
        int, typer.Option("--devices", help="Processes with a device each; a batch is shared among them.", min=1)
    ] = 1,
    precision: Annotated[
        str, typer.Option("--precision", help="Numbers to train with: float32, bf16, or fp16 on an accelerator.")
    ] = "float32",
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", help="Patch store to share between runs; by default in the run folder.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            "--name", help="Name of the weights, FAMILY.TAG; by default that of the folder.", show_default=False
        ),
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with this run.")] = False,
    overwrite: Overwrite = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Train a network; the run folder holds weights, curves and metrics, and can be resumed.

    Example: torchspectral train sharpen --method hyperpnn --data scenes/ -o runs/hyperpnn

    Example: torchspectral train pretrain --method spectralearth-dino --data patches/ --set backbone=spec-vit-s -o runs/dino

    Example: torchspectral train classify --backbone spec-vit-s --weights FILE --data scene.tif --labels fields.gpkg -o runs/crops
    """
    from torchspectral.cli.show import print_result, progress_bar
    from torchspectral.learn.train import train as run
    from torchspectral.settings import parse_pairs

    own = {
        "backbone": backbone,
        "initial": weights,
        "labels": [str(path) for path in labels] if labels else None,
        "field": field,
    }
    own = {name: value for name, value in own.items() if value is not None}
    chosen = _method(task, method, own)
    with progress_bar("train") as progress:
        result = run(
            task,
            chosen,
            _scenes(task, data, seed, parse_opening(opening)),
            out=output,
            settings={**own, **parse_pairs(settings or [])},
            opening=parse_opening(opening),
            epochs=epochs,
            steps=steps,
            seed=seed,
            device=device,
            devices=devices,
            precision=precision,
            store=store,
            name=name,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    print_result(result, as_json)


def _method(task: str, method: str | None, own: dict[str, Any]) -> str:
    """The method, which has a default for one task; options of that task alone are refused elsewhere."""
    from torchspectral.errors import BadSettings

    classifies = task in ("classify", "classification")
    if own and not classifies:
        word = {"initial": "weights"}.get(next(iter(own)), next(iter(own)))
        raise BadSettings(f"got --{word} for {task}, expected it for `train classify` only")
    if method is None and not classifies:
        raise BadSettings(f"got no --method, which is needed to train for {task}: see `torchspectral methods`")
    return method or "backbone"


def _scenes(task: str, data: list[Path], seed: int, opening: dict[str, Any]) -> list[Any]:
    """Products, patch sets as they are, and the cubes of data sets that restoration knows by name."""
    from torchspectral.cli.batch import expand
    from torchspectral.learn.patch_sets.opening import of_path

    sets = [path for path in data if "layout" in opening or of_path(path)]
    rest = [path for path in data if path not in sets]
    if task not in ("restore", "restoration") or not rest:
        return [*sets, *(expand(rest) if rest else [])]
    from torchspectral.restoration.data import training_data

    found: list[Any] = [*sets]
    for scene in training_data([str(path) for path in rest], seed):
        found += expand([scene]) if isinstance(scene, Path) else [scene]
    return found
