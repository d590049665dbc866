"""Where the values of a run are written: one file, a folder of all, or a file for each name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from torchspectral.engine.method import Output
from torchspectral.errors import BadSettings, OutputExists, OutputFailed, UnknownName, closest
from torchspectral.io.writers.base import output_path

SUFFIX = {"cube": ".tif", "layers": ".tif", "spectra": ".sli", "table": ".csv"}


@dataclass(frozen=True)
class Paths:
    """Files of a run.

    Attributes
    ----------
    base : Path
        What the journal stands beside.
    files : dict of str to Path
        File of each value that is written.
    folder : bool
        Whether all values go into one folder.
    """

    base: Path
    files: dict[str, Path]
    folder: bool = False


def plan_paths(out: Any, outputs: Sequence[Output]) -> Paths | None:
    """Read ``out=``: None, a file (the primary value), a folder (all values) or a mapping of names to files.

    A trailing slash, or no suffix, means a folder.

    Raises
    ------
    BadSettings, UnknownName
    """
    if out is None:
        return None
    names = {output.name: output for output in outputs}
    if isinstance(out, Mapping):
        for name in out:
            if name not in names:
                raise UnknownName(f"the method has no output {name!r}: {closest(str(name), tuple(names))}")
        if not out:
            raise BadSettings("got an empty mapping as out, expected at least one output's file")
        files = {name: output_path(path) for name, path in out.items()}
        for name, path in files.items():
            _check_suffix(path, names[name].kind)
        return Paths(next(iter(files.values())), files)
    text = str(out)
    if not text.strip():
        raise BadSettings("got an empty name as out, expected a file, or a folder that ends in '/'")
    path = output_path(out)
    if text.endswith(("/", "\\")) or not path.suffix or (path.is_dir() and path.suffix.lower() != ".zarr"):
        return Paths(path, {n: path / f"{n}{SUFFIX[o.kind]}" for n, o in names.items()}, folder=True)
    first = outputs[0]
    _check_suffix(path, first.kind)
    return Paths(path, {first.name: path})


def _check_suffix(path: Path, kind: str) -> None:
    """Refuse a name that nothing can be written under before the work is done, not after."""
    from torchspectral.io import saving

    known = {"spectra": saving.spectra.SUFFIXES, "table": saving.tables.SUFFIXES}.get(kind, saving.RASTER)
    if path.suffix.lower() not in known:
        raise BadSettings(
            f"cannot tell how to write {kind} as {path.name!r}: expected one of {', '.join(dict.fromkeys(known))}"
        )


def check_free(paths: Paths, inputs: Iterable[Any], *, overwrite: bool) -> None:
    """Refuse to write over what exists or over an input.

    Raises
    ------
    OutputExists
    OutputFailed
        An output is one of the inputs, or lies in a folder that cannot be.
    """
    sources = [Path(s) for value in inputs for s in sources_of(value)]
    for path in paths.files.values():
        refuse_source(path, sources)
        for file in files_of(path):
            if file.exists() and not overwrite:
                raise OutputExists(f"{file} exists: overwrite=True (--overwrite) replaces it, or choose another name")
        for parent in path.parents:
            if parent.exists():
                if not parent.is_dir():
                    raise OutputFailed(f"cannot write {path}: {parent} is a file, expected a folder")
                break


def refuse_source(target: Path, sources: Iterable[Path]) -> None:
    """Refuse an output of which a file is a file of an input: ENVI's headers and data stand for each other.

    Raises
    ------
    OutputFailed
    """
    from torchspectral.io.readers.envi.header import find_header

    written = {_identity(file) for file in files_of(target)}
    for source in sources:
        header = find_header(source) if source.is_file() else None
        if written & {_identity(file) for file in (*files_of(source), *([header] if header else []))}:
            raise OutputFailed(f"the output {target} is one of the inputs: choose another name")


def _identity(path: Path) -> Any:
    """The file itself, whatever links lead to it."""
    try:
        facts = path.stat()
    except OSError:
        return path.resolve()
    return facts.st_dev, facts.st_ino


def is_envi(path: Path) -> bool:
    """Whether a path names an ENVI image by its suffix."""
    from torchspectral.io.writers.envi import SUFFIXES

    return path.suffix.lower() in SUFFIXES


def files_of(path: Path) -> tuple[Path, ...]:
    """Files that stand for an output: two for ENVI images."""
    if not is_envi(path):
        return (path,)
    from torchspectral.io.writers.envi import pair

    return pair(path)


def sources_of(value: Any) -> list[str]:
    """Files that an input was opened from: the one that it is read from, and those that its history names."""
    if not isinstance(value, xr.DataArray):
        return []
    stated = value.attrs.get("source") or []
    found = [stated] if isinstance(stated, str) else [str(s) for s in stated]
    own = value.encoding.get("source")
    return [str(own), *(s for s in found if s != str(own))] if own else found
