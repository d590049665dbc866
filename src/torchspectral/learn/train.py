"""`train`: from scenes to a set of weights with a card."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

from torchspectral.errors import BadSettings, Interrupted, JournalMismatch, UnknownName
from torchspectral.learn.patches import PatchStore, areas_of, build_store
from torchspectral.learn.recipe import Recipe
from torchspectral.learn.runs import BEST, LAST, Run
from torchspectral.learn.scenes import OpenedScene, open_scenes, read_block
from torchspectral.learn.splits import HELD_OUT, TRAIN
from torchspectral.log import Progress, Step, no_progress
from torchspectral.registry import load_target, room_of
from torchspectral.result import Report, Result

PRECISIONS = {
    "float32": "32", "32": "32", "float64": "64", "64": "64", "bf16": "bf16-mixed", "bf16-mixed": "bf16-mixed",
    "fp16": "16-mixed", "16-mixed": "16-mixed",
}  # fmt: skip
LARGEST_EVALUATION = 256 << 20
"""Bytes of the largest held-out area that is evaluated in one piece."""


def find_recipe(task: str, method: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a method, from ``torchspectral.<room>.training``.

    Raises
    ------
    UnknownName
        No such task, or the method is not trained.
    BadSettings, MissingDependency
    """
    room = room_of(task)
    try:
        make = load_target(f"torchspectral.{room}.training:recipe")
    except ModuleNotFoundError as error:
        if error.name != f"torchspectral.{room}.training":
            raise
        raise UnknownName(f"no method of {room} is trained: it fits on the scene, or takes weights of others") from None
    recipe: Recipe = make(method, settings)
    return recipe


def train(
    task: str,
    method: str,
    data: Any,
    *,
    out: Path | str,
    settings: Mapping[str, Any] | None = None,
    opening: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    precision: str | None = None,
    store: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    name: str = "",
    card: Mapping[str, Any] | None = None,
    progress: Progress = no_progress,
) -> Result:
    """Train a network and keep it as weights.

    Parameters
    ----------
    task : str
        Verb or room: "sharpen".
    method : str
        A method of the room that is trained.
    data : path, cube, or a list of these
        Scenes, folders of scenes, ``.txt`` lists; see `learn.open_scenes`.
    out : path
        The run folder; see `learn.runs`. It can be given as ``weights=`` once it is finished.
    settings : mapping, optional
        Fields of the recipe's settings (patch, batch, learning_rate, split, ...).
    opening : mapping, optional
        Options of the reader (``ts.open``) for data that are given as paths.
    epochs, steps : int, optional
        Passes over the training patches, or optimiser steps; one of them, in place of the setting `steps`.
    seed : int
        Split, patches, initial weights, order, augmentation.
    device : {"auto", "cpu", "cuda", "cuda:N"}
    devices : int
        Processes with a device each; the batch is shared among them.
    precision : {"float32", "bf16", "fp16", "float64"}, optional
        In place of the setting of that name.
    store : path, optional
        Patch store to share between runs; by default ``patches.zarr`` in the run folder.
    resume : bool
        Go on from the last checkpoint; everything else must be as it was, but `device`.
    overwrite : bool
        Begin again where a run is.
    name : str
        Name of the weights; by default the model and the folder's name.
    card : mapping, optional
        Fields of the weights' card that only you know: licence, attribution, source, commercial, command.
    progress : callable

    Returns
    -------
    Result
        ``network`` (torch.nn.Module with the best weights; of a pretraining the encoder), ``curves`` (pandas.DataFrame);
        paths ``run``, ``weights``.

    Raises
    ------
    UnknownName, BadSettings, BadInput, BandMismatch, ProductNotFound, UnknownProduct, OutputExists, JournalMismatch
    Interrupted
        SIGINT or SIGTERM; the message has the command that goes on.
    MissingDependency
        The extra ``train`` is not installed.

    Examples
    --------
    >>> import torchspectral as ts
    >>> ts.train("sharpen", "hyperpnn", "scenes/", out="run")  # doctest: +SKIP
    >>> ts.sharpen(hs, pan, method="hyperpnn", weights="run")  # doctest: +SKIP
    """
    begun = perf_counter()
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadSettings(f"got seed={seed!r}, expected a whole number from 0")
    if settings is not None and not isinstance(settings, Mapping):
        raise BadSettings(f"got settings of type {type(settings).__name__}, expected a mapping of names to values")
    run = Run(out)
    values = _settings(settings, epochs, steps, precision)
    if resume and (run.path / "run.yaml").is_file():
        values = {**(run.facts().get("settings") or {}), **values}
    recipe = find_recipe(task, method, values)
    scenes = recipe.attach(
        open_scenes(
            data,
            recipe.layers,
            opening,
            broken=recipe.settings.broken,
            sensor=recipe.settings.sensor,
            progress=progress,
        )
    )
    recipe.prepare([scene.scene for scene in scenes])
    going_on = run.start(resume=resume, overwrite=overwrite)
    facts = _facts(task, recipe, scenes, seed, device, devices, out)
    by_epochs = epochs is not None or (steps is None and "steps" not in values and recipe.default_epochs > 0)
    if going_on:
        run.check_same(facts, ("task", "method", "seed", "scenes"))
        _same_settings(run, recipe, steps_known=not by_epochs)
    elif by_epochs:  # the number of steps follows from the patches, which are not cut yet
        told = {name: value for name, value in facts["settings"].items() if name != "steps"}
        run.write_facts({**facts, "settings": told})
    else:
        run.write_facts(facts)
    try:
        patches = build_store(Path(store) if store else run.patches, recipe, scenes, seed=seed, progress=progress)
        recipe.study(patches)
    except BaseException:
        if not going_on:
            run.discard()
        raise
    if by_epochs:
        patches_in_all = (epochs or recipe.default_epochs) * patches.count(TRAIN)
        steps = max(-(-patches_in_all // recipe.settings.batch), 1)
        recipe.settings = recipe.settings.model_copy(update={"steps": steps})
    if going_on:
        _same_settings(run, recipe)
    begun_with = (run.facts().get("settings") or {}).get("steps")
    facts |= {
        "command": _command(task, recipe, scenes, seed, out),
        "settings": recipe.settings.model_dump(mode="json"),
        "patches": {part: patches.count(part) for part in (TRAIN, HELD_OUT)},
        "patches_with_nodata": patches.attrs["dropped"],
        "split": patches.attrs["leakage"],
    }
    if not going_on or begun_with != recipe.settings.steps:
        run.write_facts(facts)
    cut = perf_counter()
    _train(recipe, patches, run, facts, seed, device, devices, progress)
    trained = perf_counter()
    from torchspectral.learn.loop import own_random_numbers

    with own_random_numbers():
        network, made = finish(
            recipe, patches, run, scenes, name=name, fields=card or {}, command=facts["command"], progress=progress
        )
    report = Report(
        method=f"{recipe.room}/{recipe.method} training",
        settings=facts["settings"],
        figures={name: value for name, value in run.metrics().items() if name != "split"},
        notes=[patches.attrs["leakage"], *recipe.advice(run.path)],
        seconds={"patches": cut - begun, "train": trained - cut, "evaluate": perf_counter() - trained},
        weights=made.name,
        licence=made.licence,
        seed=seed,
        device=device,
    )
    import pandas as pd  # type: ignore[import-untyped]

    curves = pd.DataFrame(run.curves())
    return Result({"network": network, "curves": curves}, report, {"run": str(run.path), "weights": str(run.weights)})


def _settings(
    settings: Mapping[str, Any] | None, epochs: int | None, steps: int | None, precision: str | None
) -> dict[str, Any]:
    values = dict(settings or {})
    if epochs is not None and steps is not None:
        raise BadSettings(f"got epochs={epochs} and steps={steps}, expected one of them")
    for word, number in (("epochs", epochs), ("steps", steps)):
        if number is not None and number < 1:
            raise BadSettings(f"got {word}={number}, expected at least 1")
    if steps is not None:
        values["steps"] = steps
    if precision is not None:
        if precision not in PRECISIONS:
            raise BadSettings(f"got precision {precision!r}, expected one of float32, bf16, fp16, float64")
        if "precision" not in values or PRECISIONS[precision] != "32":
            values["precision"] = PRECISIONS[precision]
    return values


def _facts(
    task: str, recipe: Recipe, scenes: list[OpenedScene], seed: int, device: str, devices: int, out: Path | str
) -> dict[str, Any]:
    model, constructor = recipe.exported_as()
    versions = {"python": platform.python_version()}
    for package in ("torchspectral", "torch", "lightning", "numpy", "zarr"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            from torchspectral import __version__

            versions[package] = __version__ if package == "torchspectral" else "absent"
    return {
        "task": task,
        "room": recipe.room,
        "method": recipe.method,
        "model": model,
        "constructor": constructor,
        "scenes": [
            {"name": s.name, "bands": s.cube.sizes["band"], "shape": list(s.shape), "fingerprint": s.fingerprint}
            for s in scenes
        ],
        "seed": seed,
        "settings": recipe.settings.model_dump(mode="json"),
        "device": device,
        "devices": devices,
        "command": _command(task, recipe, scenes, seed, out),
        "versions": versions,
    }


def _command(task: str, recipe: Recipe, scenes: list[OpenedScene], seed: int, out: Path | str) -> str:
    """What repeats the run: a command line, or a call where the scenes were handed over in memory."""
    values = recipe.settings.model_dump(mode="json")
    changed = {
        name: values[name]
        for name, field in type(recipe.settings).model_fields.items()
        if values[name] != field.default
    }
    if any(scene.in_memory for scene in scenes):
        return f"ts.train({task!r}, {recipe.method!r}, CUBES, out={str(out)!r}, seed={seed}, settings={changed!r})"
    words = ["torchspectral", "train", task, "--method", recipe.method]
    for scene in scenes:
        words += ["--data", scene.name]
    opening = next((scene.opening for scene in scenes if scene.opening), {})
    for option, pairs in (("--set", changed), ("--open", opening)):
        for name, value in pairs.items():
            words += [option, f"{name}={value}"]
    words += ["--seed", str(seed), "-o", str(out)]
    return " ".join(shlex.quote(word) for word in words)


def resume_command(command: str) -> str:
    """What goes on with a run that `command` began."""
    return f"{command[:-1]}, resume=True)" if command.startswith("ts.train(") else f"{command} --resume"


def _same_settings(run: Run, recipe: Recipe, *, steps_known: bool = True) -> None:
    """Hold the settings against those that the run was begun with, but for what cannot matter and a longer run."""
    free = {"checkpoint_every", "loader_workers", "cache", "monitor_every", "monitor_samples"}
    begun = run.facts().get("settings") or {}
    if recipe.open_ended or not steps_known or "steps" not in begun:  # stopped before they were known
        free.add("steps")
    before = {k: v for k, v in begun.items() if k not in free}
    now = {k: v for k, v in recipe.settings.model_dump(mode="json").items() if k not in free}
    for field in {**before, **now}:
        if before.get(field) != now.get(field):
            raise JournalMismatch(
                f"{run.path} was begun with {field}={before.get(field)!r}, now {field}={now.get(field)!r}: resume with "
                "the same, or begin a new run"
            )


def _train(
    recipe: Recipe,
    patches: PatchStore,
    run: Run,
    facts: Mapping[str, Any],
    seed: int,
    device: str,
    devices: int,
    progress: Progress,
) -> None:
    from torchspectral.learn.loop import train_network

    try:
        train_network(
            recipe,
            patches,
            run,
            seed=seed,
            device=device,
            devices=devices,
            progress=progress,
            resume_command=resume_command(facts["command"]),
        )
    except Interrupted:
        run.plot()
        raise


def finish(
    recipe: Recipe,
    patches: PatchStore,
    run: Run,
    scenes: list[OpenedScene],
    *,
    name: str,
    fields: Mapping[str, Any],
    command: str,
    progress: Progress,
) -> tuple[Any, Any]:
    """Evaluate the best checkpoint (or the last) on the held-out ground and export it with its card."""
    from torchspectral.weights.card import make_card, slug

    best = run.load_checkpoint(BEST) if recipe.exports == "best" else None
    chosen = best or run.load_checkpoint(LAST)
    assert chosen is not None
    network = recipe.build()
    network.load_state_dict(chosen["model"])
    network.eval()
    progress(Step("evaluate", 0.0))
    ground = evaluate_ground(recipe, network, patches, scenes) if recipe.exports == "best" else {}
    metrics = {
        "step": chosen["step"],
        "held_out_patches": dict(chosen.get("figures", {})),
        "held_out_ground": ground,
        "speed": run.speed(),
        "split": patches.attrs["leakage"],
    }
    run.write_metrics(metrics)
    run.plot()
    network = recipe.exported(network).eval()
    model, constructor = recipe.exported_as()
    known = {
        "name": name or f"{model}.{slug(run.path.resolve().name).replace('.', '-')}",
        "model": model,
        "constructor": constructor,
        "licence": "of whoever trained it",
        "trained_on": "; ".join(Path(s.name).name for s in scenes),
        "metrics": {k: v for k, v in metrics.items() if v and k != "speed"},
        "command": command,
        **recipe.card(),
        **fields,
    }
    card = make_card(known, where=str(run.path))
    run.export(network.state_dict(), card)
    recipe.illustrate(run.path)
    progress(Step("evaluate", 1.0))
    return network, card


def evaluate_ground(recipe: Recipe, network: Any, patches: PatchStore, scenes: list[OpenedScene]) -> dict[str, float]:
    """Figures over the held-out areas, each cut out of its scene before anything is made of it; mean over pixels.

    Empty for a random split, which holds out no ground.
    """
    totals: dict[str, float] = {}
    pixels = 0
    m = max(recipe.multiple, 1)
    for area in areas_of(patches):
        if area.part != HELD_OUT:
            continue
        bands = scenes[area.scene].cube.sizes["band"]
        side = max(int((LARGEST_EVALUATION / (4 * bands)) ** 0.5), recipe.settings.patch) // m * m
        for window in area.tiles(side, m, recipe.settings.patch):
            block = read_block(scenes[area.scene].scene, window)
            for key, value in recipe.evaluate(network, block).items():
                totals[key] = totals.get(key, 0.0) + float(value) * window.height * window.width
            pixels += window.height * window.width
    means = {key: total / pixels for key, total in totals.items()} if pixels else {}
    return recipe.pooled(means, network)
