"""Several inputs: one result each, one JSON line each, failures told at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchspectral.cli.options import OutPath
from torchspectral.cli.show import finite, print_json
from torchspectral.errors import BadSettings, Interrupted, OutputFailed, ProductNotFound, TorchspectralError


class Inputs(list[Path]):
    """Products that have been found already; `expand` leaves them alone."""


def expand(inputs: Sequence[Path]) -> Inputs:
    """Products among files, folders, .txt lists and STAC item collections; a folder that is itself a product stays one.

    Of several inputs, as a shell expands ``out/scene*``, the files that we wrote beside outputs are passed over.

    Raises
    ------
    ProductNotFound
        A path or a listed path does not exist, or a folder holds no product.
    BadSettings
        A list names nothing.
    UnsafeInput, BadSettings, BrokenProduct
        A STAC item collection whose hrefs lead elsewhere, or that is damaged.
    """
    if isinstance(inputs, Inputs):
        return inputs
    found = Inputs()
    for path in _without_sidecars(inputs):
        if not path.exists():
            raise ProductNotFound(f"{path} does not exist: check the path")
        if path.suffix.lower() in (".txt", ".lst") and path.is_file():
            found += _listed(path)
        else:
            found += _products(path)
    return found


def _without_sidecars(inputs: Sequence[Path]) -> Sequence[Path]:
    """Inputs without what stands beside outputs of ours, which is said; a single one is taken at its word."""
    beside = [path for path in inputs if _beside(path)]
    if len(inputs) == 1 or not beside:
        return inputs
    if len(beside) == len(inputs):
        raise ProductNotFound(f"{beside[0]} and the others only tell of products, expected the products themselves")
    import typer

    more = f" and {len(beside) - 1} more" if len(beside) > 1 else ""
    typer.echo(f"passed over {beside[0].name}{more}: written beside products, no products", err=True)
    return [path for path in inputs if path not in beside]


def _products(path: Path) -> list[Path]:
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() in (".json", ".geojson"):
        return _items(path)
    return [path]


def _items(path: Path) -> list[Path]:
    """Products of an item collection; of an item only where no reader opens the item itself."""
    from torchspectral.io import is_product
    from torchspectral.io.item_collections import products_of, read_items

    items = read_items(path)
    if items is None or (len(items) == 1 and is_product(path)):
        return [path]
    return products_of(path)


def _listed(path: Path) -> list[Path]:
    from torchspectral.io import is_product

    if is_product(path):
        return [path]
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise BadSettings(f"{path} is not a text list of paths: expected one path a line") from None
    listed = [(path.parent / line) for line in lines if line and not line.startswith("#")]
    if not listed:
        raise BadSettings(f"{path} lists no product, expected one path a line")
    missing = [p for p in listed if not p.exists()]
    if missing:
        raise ProductNotFound(
            f"{path} lists {missing[0]}, which does not exist ({len(missing)} of {len(listed)} missing)"
        )
    return [product for p in listed for product in _products(p)]


def _in_folder(path: Path) -> list[Path]:
    from torchspectral.io import is_product

    if is_product(path):
        return [path]
    inside = [p for p in sorted(path.iterdir()) if not p.name.startswith(".") and not _beside(p) and is_product(p)]
    if not inside:
        raise ProductNotFound(
            f"{path} is no product and holds none: `torchspectral methods io` lists what can be opened"
        )
    return inside


def _beside(path: Path) -> bool:
    """Whether a file stands beside an output of ours, as its report or its item: the output is the product."""
    if path.name.endswith(".run.yaml"):
        return path.is_file()
    name = path.name.removesuffix(".stac.json")
    return name != path.name and path.with_name(name).exists()


def is_folder(out: OutPath) -> bool:
    """Whether an output is a folder: typed with a slash at its end, or there already and no Zarr store."""
    return out.folder or (out.is_dir() and out.suffix != ".zarr")


def outputs_for(inputs: Sequence[Path], out: OutPath, suffix: str, *, into_folder: bool = False) -> list[OutPath]:
    """Output of each input: `out` itself for one, ``out/STEM.suffix`` for several; without a suffix, a folder each.

    Inputs of the same name in different folders get the name of their folder in front, ``out/FOLDER_STEM.suffix``.
    With `into_folder` a single input too gets its own file in `out` where that is a folder (verbs that make one
    value; for the others the folder itself is the output).

    Raises
    ------
    BadSettings
        Several inputs and an output that looks like one file, or inputs that no name tells apart.
    """
    if len(inputs) == 1 and not (into_folder and is_folder(out)):
        return [out]
    if len(inputs) > 1 and out.suffix and not is_folder(out):
        raise BadSettings(
            f"got {len(inputs)} inputs and one output file {out}: expected a folder, such as -o {out.stem}/"
        )
    names = [OutPath(Path(out) / f"{stem}{suffix}") for stem in _stems(inputs)]
    for name in names:
        name.folder = not suffix
    return names


def _stems(inputs: Sequence[Path]) -> list[str]:
    """A name for each input; never two that only differ by case."""
    stems = [_stem(path) for path in inputs]
    for above in (1, 2):
        often = _often(stems)
        if not often:
            return stems
        stems = [
            "_".join([*path.resolve().parts[-1 - above : -1], _stem(path)]) if stem.lower() in often else stem
            for path, stem in zip(inputs, stems, strict=True)
        ]
    often = _often(stems)
    if often:
        same = [str(p) for p, stem in zip(inputs, stems, strict=True) if stem.lower() in often]
        raise BadSettings(
            f"{' and '.join(same[:2])} have the same name and would write the same output {_stem(Path(same[0]))}: run "
            "them apart"
        )
    return stems


def _often(stems: Sequence[str]) -> set[str]:
    return {stem for stem, count in Counter(s.lower() for s in stems).items() if count > 1}


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
    resume: bool = False,
    as_json: bool = False,
    into_folder: bool = False,
) -> None:
    """Call `work(input, output)` for each input; one failure does not stop the others.

    With `resume` several inputs go on where they were stopped: finished outputs are skipped, as with `skip_existing`.

    Raises
    ------
    TorchspectralError
        At the end, when some failed; with one input, its own error.
    Interrupted
        Stopped by the user; what is finished stays.
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

    def one(number: int) -> dict[str, Any]:
        line = {"input": str(paths[number]), "output": str(targets[number])}
        if (skip_existing or resume) and _is_done(targets[number]):
            return {**line, "status": "skipped"}
        report = work(paths[number], targets[number]).report.as_dict()
        return {**line, "status": "done", "report": report}

    with _folder(out):
        each(paths, one, lambda number: {"input": str(paths[number]), "output": str(targets[number])})


def each(
    paths: Sequence[Path],
    one: Callable[[int], dict[str, Any] | None],
    named: Callable[[int], dict[str, Any]],
    say: Callable[[dict[str, Any]], None] = print_json,
) -> None:
    """Run `one(number)` for each path and `say` the line that it gives, if any; `named` starts that of a failure.

    Raises
    ------
    TorchspectralError
        At the end, when some failed.
    Interrupted
        Stopped by the user.
    """
    failed: list[str] = []
    started, number = time.monotonic(), 0
    try:
        for number, path in enumerate(paths):
            _tell(number, len(paths), path, len(failed), started)
            line = _guarded(one, named, number)
            if line is not None:
                if line.get("status") == "failed":
                    failed.append(str(path))
                say(finite(line))
    except (KeyboardInterrupt, Interrupted) as stop:
        said = f" ({stop})" if str(stop) else ""
        raise Interrupted(
            f"stopped at {paths[number].name}{said}: {number - len(failed)} of {len(paths)} inputs are finished and "
            "kept; the same command with --skip-existing goes on"
        ) from None
    if failed:
        raise TorchspectralError(
            f"{len(failed)} of {len(paths)} inputs failed: {', '.join(failed[:5])}{' ...' if len(failed) > 5 else ''}"
        )


def _guarded(
    one: Callable[[int], dict[str, Any] | None], named: Callable[[int], dict[str, Any]], number: int
) -> dict[str, Any] | None:
    """What `one` gives, or the line of its failure."""
    try:
        return one(number)
    except (Interrupted, BrokenPipeError):
        raise
    except TorchspectralError as error:
        said = f"{type(error).__name__}: {error}"
    except Exception as error:  # one bad granule must not cost the night's other hundred
        from torchspectral.cli.app import refused_by_system

        said = refused_by_system(error) or (
            f"this is a bug in torchspectral: {type(error).__name__}: {error} (run it alone with --debug)"
        )
    return {**named(number), "status": "failed", "error": said}


def _tell(number: int, count: int, path: Path, failed: int, started: float) -> None:
    """A line over all inputs, on a terminal."""
    import sys

    if not sys.stderr.isatty():
        return
    import typer

    left = ""
    if number:
        minutes = (time.monotonic() - started) / number * (count - number) / 60
        left = f", about {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"
    typer.echo(f"[{number + 1}/{count}{f', {failed} failed' if failed else ''}{left}] {path.name}", err=True)


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


def _is_done(target: OutPath) -> bool:
    """Whether an output stands; a folder of all values does once it holds a report."""
    if is_folder(target):
        return target.is_dir() and any(target.glob("*.run.yaml"))
    return target.exists()
