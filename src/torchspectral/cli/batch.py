"""Several inputs: one result each, one JSON line each, failures told at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torchspectral.cli.show import finite, print_json
from torchspectral.errors import BadSettings, ProductNotFound, TorchspectralError


def expand(inputs: Sequence[Path]) -> list[Path]:
    """Products among files, folders and .txt lists; a folder that is itself a product stays one.

    Raises
    ------
    ProductNotFound
        A path or a listed path does not exist, or a folder holds no product.
    """
    found: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise ProductNotFound(f"{path} does not exist: check the path")
        if path.suffix.lower() in (".txt", ".lst") and path.is_file():
            found += _listed(path)
        elif path.is_dir():
            found += _in_folder(path)
        else:
            found.append(path)
    return found


def _listed(path: Path) -> list[Path]:
    from torchspectral.io import is_product

    if is_product(path):
        return [path]
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise BadSettings(f"{path} is not a text list of paths: expected one path a line") from None
    listed = [(path.parent / line) for line in lines if line and not line.startswith("#")]
    missing = [p for p in listed if not p.exists()]
    if missing:
        raise ProductNotFound(
            f"{path} lists {missing[0]}, which does not exist ({len(missing)} of {len(listed)} missing)"
        )
    return listed


def _in_folder(path: Path) -> list[Path]:
    from torchspectral.io import is_product

    if is_product(path):
        return [path]
    inside = [p for p in sorted(path.iterdir()) if not p.name.startswith(".") and is_product(p)]
    if not inside:
        raise ProductNotFound(
            f"{path} is no product and holds none: `torchspectral methods io` lists what can be opened"
        )
    return inside


def outputs_for(inputs: Sequence[Path], out: Path, suffix: str) -> list[Path]:
    """Output of each input: `out` itself for one, ``out/STEM.suffix`` for several.

    Raises
    ------
    BadSettings
        Several inputs and an output that looks like one file, or two inputs of the same name.
    """
    if len(inputs) == 1:
        return [out / f"{inputs[0].stem}{suffix}" if out.is_dir() and suffix and out.suffix != suffix else out]
    if out.suffix and not out.is_dir():
        raise BadSettings(
            f"got {len(inputs)} inputs and one output file {out}: expected a folder, such as -o {out.stem}/"
        )
    names = [out / f"{p.stem}{suffix}" for p in inputs]
    if len(set(names)) < len(names):
        raise BadSettings("two inputs have the same name and would write the same output: run them apart")
    return names


def run_batch(
    inputs: Sequence[Path],
    out: Path,
    suffix: str,
    work: Callable[[Path, Path], Any],
    *,
    skip_existing: bool = False,
) -> None:
    """Call `work(input, output)` for each input; one failure does not stop the others.

    Raises
    ------
    TorchspectralError
        At the end, when some failed; with one input, its own error.
    """
    from torchspectral.cli.show import print_result

    paths = expand(inputs)
    targets = outputs_for(paths, out, suffix)
    if len(paths) == 1:
        if skip_existing and targets[0].exists():
            return
        print_result(work(paths[0], targets[0]))
        return
    out.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    for path, target in zip(paths, targets, strict=True):
        line: dict[str, Any] = {"input": str(path), "output": str(target)}
        if skip_existing and target.exists():
            print_json({**line, "status": "skipped"})
            continue
        try:
            result = work(path, target)
            print_json(finite({**line, "status": "done", "report": result.report.as_dict()}))
        except TorchspectralError as error:
            failed.append(str(path))
            print_json({**line, "status": "failed", "error": f"{type(error).__name__}: {error}"})
    if failed:
        raise TorchspectralError(
            f"{len(failed)} of {len(paths)} inputs failed: {', '.join(failed[:5])}{' ...' if len(failed) > 5 else ''}"
        )
