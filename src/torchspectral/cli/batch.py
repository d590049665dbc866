"""Several inputs: one result each, one JSON line each, failures told at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchspectral.cli.options import OutPath
from torchspectral.cli.show import finite, print_json
from torchspectral.errors import BadSettings, OutputFailed, ProductNotFound, TorchspectralError


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


def is_folder(out: OutPath) -> bool:
    """Whether an output is a folder: typed with a slash at its end, or there already and no Zarr store."""
    return out.folder or (out.is_dir() and out.suffix != ".zarr")


def outputs_for(inputs: Sequence[Path], out: OutPath, suffix: str, *, into_folder: bool = False) -> list[OutPath]:
    """Output of each input: `out` itself for one, ``out/STEM.suffix`` for several; without a suffix, a folder each.

    With `into_folder` a single input too gets its own file in `out` where that is a folder (verbs that make one
    value; for the others the folder itself is the output).

    Raises
    ------
    BadSettings
        Several inputs and an output that looks like one file, or two inputs of the same name.
    """
    if len(inputs) == 1 and not (into_folder and is_folder(out)):
        return [out]
    if len(inputs) > 1 and out.suffix and not is_folder(out):
        raise BadSettings(
            f"got {len(inputs)} inputs and one output file {out}: expected a folder, such as -o {out.stem}/"
        )
    names = [OutPath(Path(out) / f"{_stem(p)}{suffix}") for p in inputs]
    for name in names:
        name.folder = not suffix
    if len(set(names)) < len(names):
        raise BadSettings("two inputs have the same name and would write the same output: run them apart")
    return names


def _stem(path: Path) -> str:
    """Name of a product without its suffix; a folder's whole name, which may well have dots in it."""
    return path.name if path.is_dir() and path.suffix != ".zarr" else path.stem


def run_batch(
    inputs: Sequence[Path],
    out: OutPath,
    suffix: str,
    work: Callable[[Path, OutPath], Any],
    *,
    skip_existing: bool = False,
    as_json: bool = False,
    into_folder: bool = False,
) -> None:
    """Call `work(input, output)` for each input; one failure does not stop the others.

    Raises
    ------
    TorchspectralError
        At the end, when some failed; with one input, its own error.
    """
    from torchspectral.cli.show import print_result

    paths = expand(inputs)
    targets = outputs_for(paths, out, suffix, into_folder=into_folder)
    if len(paths) == 1:
        if skip_existing and _is_done(targets[0]):
            print_json({"input": str(paths[0]), "output": str(targets[0]), "status": "skipped"})
            return
        with _folder(out if targets[0] != out else None):
            print_result(work(paths[0], targets[0]), as_json)
        return
    with _folder(out):
        failed = _each(paths, targets, work, skip_existing)
    if failed:
        raise TorchspectralError(
            f"{len(failed)} of {len(paths)} inputs failed: {', '.join(failed[:5])}{' ...' if len(failed) > 5 else ''}"
        )


@contextmanager
def _folder(out: Path | None) -> Iterator[None]:
    """Make the folder of the outputs, and take it away again where nothing came to lie in it."""
    made = out is not None and not out.exists()
    if out is not None and made:
        try:
            out.mkdir(parents=True)
        except OSError as error:
            raise OutputFailed(f"cannot make the folder {out}: {error.strerror or error}") from None
    try:
        yield
    finally:
        if out is not None and made and not any(out.iterdir()):
            out.rmdir()


def _each(
    paths: Sequence[Path], targets: Sequence[OutPath], work: Callable[[Path, OutPath], Any], skip_existing: bool
) -> list[str]:
    """Run all; returns the inputs that failed."""
    failed: list[str] = []
    for path, target in zip(paths, targets, strict=True):
        line: dict[str, Any] = {"input": str(path), "output": str(target)}
        if skip_existing and _is_done(target):
            print_json({**line, "status": "skipped"})
            continue
        try:
            result = work(path, target)
            print_json(finite({**line, "status": "done", "report": result.report.as_dict()}))
        except TorchspectralError as error:
            failed.append(str(path))
            print_json({**line, "status": "failed", "error": f"{type(error).__name__}: {error}"})
    return failed


def _is_done(target: OutPath) -> bool:
    """Whether an output stands; a folder of all values does once it holds a report."""
    if is_folder(target):
        return target.is_dir() and any(target.glob("*.run.yaml"))
    return target.exists()
