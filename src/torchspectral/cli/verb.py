"""What every verb that runs a method over scenes does the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchspectral.cli.options import Engine, OutPath, parse_opening


def run_verb(
    room: str,
    method: str,
    scenes: Sequence[Path],
    output: OutPath,
    engine: Engine,
    call: Callable[..., Any],
    *,
    as_json: bool = False,
    skip_existing: bool = False,
    inputs: Mapping[str, Any] | None = None,
    suffix: str = ".tif",
    weights: str | None = None,
) -> None:
    """Open each scene, cut and mask it, and hand it to `call(cube, out=..., progress=..., **engine options)`.

    `suffix` is that of each output where there are several inputs; "" gives each a folder of all values.

    Raises
    ------
    TorchspectralError
        Whatever is wrong with the inputs, the method's name or the output.
    """
    from torchspectral import registry
    from torchspectral.cli.batch import expand, outputs_for, run_batch
    from torchspectral.cli.show import finite, print_json, progress_bar

    card = registry.card(room, method)
    paths = expand(scenes)
    given = {role: Path(path) for role, path in (inputs or {}).items() if path}
    targets = outputs_for(paths, output, suffix)
    for source, target in zip(paths, targets, strict=True):
        refuse_input_as_output(target, [source, *given.values()])
    if engine.dry_run:
        for source, target in zip(paths, targets, strict=True):
            print_json(finite(_plan(card, source, target, engine, given)))
        return
    registry.load_target(card.target)  # what is not installed is said before anything is read

    def work(source: Path, target: OutPath) -> Any:
        cube = prepare(source, engine)
        with progress_bar(source.name) as progress:
            result = call(cube, out=as_target(target), progress=progress, **engine.as_options())
        remember(result, {"cube": source, **given}, engine, weights)
        return result

    run_batch(paths, output, suffix, work, skip_existing=skip_existing, resume=engine.resume, as_json=as_json)


def refuse_input_as_output(target: Path, sources: Sequence[Path]) -> None:
    """Refuse to write over what is being read.

    Raises
    ------
    OutputFailed
    """
    from torchspectral.engine.paths import refuse_source

    refuse_source(target, sources)


def remember(result: Any, inputs: Mapping[str, Path], engine: Engine, weights: str | None = None) -> None:
    """Tell the report, and the ``OUT.run.yaml`` files, what the verb itself did: which files, which cut and mask."""
    done: dict[str, Any] = {"bbox": list(engine.bbox) if engine.bbox else None, "mask": _mask_word(engine)}
    done["open"] = engine.opening or None
    if weights is not None:
        done["weights"] = str(Path(weights).resolve()) if Path(weights).exists() else weights
    remember_inputs(result, inputs, {name: value for name, value in done.items() if value is not None})


def remember_inputs(result: Any, inputs: Mapping[str, Path | list[Path]], options: Mapping[str, Any]) -> None:
    """Write the files that were opened, and options, into the report and the ``OUT.run.yaml`` files."""
    files = {
        role: [str(p.resolve()) for p in path] if isinstance(path, list) else str(path.resolve())
        for role, path in inputs.items()
    }
    result.report.inputs = {**result.report.inputs, **files}
    result.report.options = {**result.report.options, **options}

    def add(known: dict[str, Any]) -> None:
        known["inputs"] = {**known.get("inputs", {}), **files}
        if options:
            known["options"] = {**(known.get("options") or {}), **options}

    change_run_files(result.paths.values(), add)


def change_run_files(outputs: Iterable[str | Path], change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the ``OUT.run.yaml`` files beside outputs say, whole or not at all."""
    import yaml

    from torchspectral.io.writers.run_yaml import run_path
    from torchspectral.report.files import write_whole

    for path in {run_path(p) for p in outputs}:
        if path.is_file():
            known = yaml.safe_load(path.read_text(encoding="utf-8"))
            change(known)
            write_whole(path, yaml.safe_dump(known, sort_keys=False, allow_unicode=True, width=110).encode())


def refuse_existing(target: Path, *, replace: bool) -> None:
    """Refuse an output that is there, before anything is read.

    Raises
    ------
    OutputExists
    """
    from torchspectral.errors import OutputExists

    if target.exists() and not replace:
        raise OutputExists(f"{target} exists: --overwrite replaces it, or choose another name")


def _mask_word(engine: Engine) -> str | None:
    return engine.mask if engine.mask in (None, "clear") else str(Path(engine.mask).resolve())


def as_target(target: OutPath) -> Path | str:
    """The output as the engine takes it: a trailing slash, or no suffix, means a folder of all values."""
    return f"{target}/" if target.folder or not target.suffix else target


def prepare(source: Path, engine: Engine) -> Any:
    """Open a scene with the window and mask of the common options."""
    from torchspectral.io import open_product
    from torchspectral.io.masks import apply_mask, clear_mask

    given = parse_opening(engine.opening)
    cube = open_product(source, **given)
    if engine.mask is not None:
        flags = clear_mask(source, opening=given) if engine.mask == "clear" else clear_mask(engine.mask)
        cube = apply_mask(cube, flags[0])
    if engine.bbox is not None:
        from torchspectral.geo import crop

        cube = crop(cube, engine.bbox)
    return cube


def _plan(card: Any, source: Path, target: OutPath, engine: Engine, inputs: Mapping[str, Path]) -> dict[str, Any]:
    """What a run would do, with everything checked that costs no pixels."""
    from torchspectral.errors import ProductNotFound

    cube = prepare(source, engine)
    for role, path in inputs.items():
        if not path.exists():
            raise ProductNotFound(f"{path} (the {role}) does not exist: check the path")
    refuse_existing(target, replace=target.is_dir() or engine.overwrite or engine.resume)
    return {
        "method": f"{card.room}/{card.name}",
        "input": str(source),
        "roles": {role: str(path) for role, path in inputs.items()},
        "shape": list(cube.shape),
        "output": str(target),
        "scope": card.scope,
        "cost": card.cost,
        "open": parse_opening(engine.opening),
        "options": {k: v for k, v in engine.as_options().items() if v not in (None, False)},
    }
