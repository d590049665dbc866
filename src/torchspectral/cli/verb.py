"""What every verb that runs a method over scenes does the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torchspectral.cli.options import Engine


def run_verb(
    room: str,
    method: str,
    scenes: Sequence[Path],
    output: Path,
    engine: Engine,
    call: Callable[..., Any],
    *,
    as_json: bool = False,
    skip_existing: bool = False,
    inputs: Mapping[str, Any] | None = None,
) -> None:
    """Open each scene, cut and mask it, and hand it to `call(cube, out=..., progress=..., **engine options)`.

    Raises
    ------
    TorchspectralError
        Whatever is wrong with the inputs, the method's name or the output.
    """
    from torchspectral import registry
    from torchspectral.cli.batch import expand, outputs_for, run_batch
    from torchspectral.cli.show import print_json, print_result, progress_bar

    card = registry.card(room, method)
    paths = expand(scenes)
    if engine.dry_run:
        for source, target in zip(paths, outputs_for(paths, output, ".tif"), strict=True):
            print_json(_plan(card, source, target, engine, inputs or {}))
        return

    def work(source: Path, target: Path) -> Any:
        cube = prepare(source, engine)
        with progress_bar(source.name) as progress:
            return call(cube, out=as_target(output, target), progress=progress, **engine.as_options())

    if len(paths) == 1 and not skip_existing:
        print_result(work(paths[0], outputs_for(paths, output, "")[0]), as_json)
        return
    run_batch(paths, output, ".tif", work, skip_existing=skip_existing)


def as_target(output: Path, target: Path) -> Path | str:
    """The output as the engine takes it: a trailing slash, or no suffix, means a folder of all values."""
    return f"{target}/" if not target.suffix else target


def prepare(source: Path, engine: Engine) -> Any:
    """Open a scene with the window and mask of the common options."""
    from torchspectral.io import open_product
    from torchspectral.io.masks import apply_mask, clear_mask

    cube = open_product(source)
    if engine.mask is not None:
        flags = clear_mask(source) if engine.mask == "clear" else clear_mask(engine.mask)
        cube = apply_mask(cube, flags[0])
    if engine.bbox is not None:
        from torchspectral.geo import crop

        cube = crop(cube, engine.bbox)
    return cube


def _plan(card: Any, source: Path, target: Path, engine: Engine, inputs: Mapping[str, Any]) -> dict[str, Any]:
    from torchspectral.io import describe

    known = describe(source)
    return {
        "method": f"{card.room}/{card.name}",
        "input": str(source),
        "roles": {role: str(path) for role, path in inputs.items() if path},
        "shape": known.get("shape"),
        "output": str(target),
        "scope": card.scope,
        "cost": card.cost,
        "options": {k: v for k, v in engine.as_options().items() if v not in (None, False)},
    }
