"""The journal: what of an output is done, so that a killed run goes on where it stopped.

Beside an output ``OUT`` stands ``.OUT.partial/`` while it is made: ``key.json`` (what the run depends on),
``journal.jsonl`` (one line for each block or round that is done, appended after its data was written), the scratch
arrays, and the state of the last round of `fit`. A line that was cut short by a kill is ignored. What survives is the
death of the process at any moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.engine.paths import sources_of
from torchspectral.errors import BrokenProduct, JournalMismatch, OutputExists, OutputFailed, TorchspectralError
from torchspectral.io.raw import output_failed


def partial_folder(out: Path) -> Path:
    """Folder of the half-done output."""
    return out.parent / f".{out.name}.partial"


class Journal:
    """Record of one run in its folder.

    Parameters
    ----------
    out : Path
        The output; the folder stands beside it.
    key : mapping
        Plain values that the result depends on.
    resume, overwrite : bool
        What to do with a half-done output.

    Raises
    ------
    OutputExists
        A half-done output stands there and neither was asked for, or another process is writing it.
    JournalMismatch
        The half-done output depends on other values; the message names them.
    OutputFailed
        The folder cannot be made.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False) -> None:
        self.folder = partial_folder(out)
        self.resumed = False
        self.lines: list[dict[str, Any]] = []
        plain = json.loads(json.dumps(key, sort_keys=True, default=str))
        stands = self.folder.is_dir()
        if stands and not (resume or overwrite):
            raise OutputExists(
                f"a half-done output stands in {self.folder}: resume=True (--resume) goes on with it, "
                "overwrite=True (--overwrite) starts anew"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise output_failed(out, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise OutputExists(f"another process is writing {out}: wait for it, or choose another name") from None
        if stands:
            self._take_over(plain, resume)
        if not self.resumed:
            write_atomically(self.folder / "key.json", json.dumps(plain, indent=1).encode())
        self._file = (self.folder / "journal.jsonl").open("ab")

    def _take_over(self, key: dict[str, Any], resume: bool) -> None:
        before = None
        with contextlib.suppress(OSError, ValueError):
            before = json.loads((self.folder / "key.json").read_text())
        if resume and before is not None:
            if before != key:
                names = sorted(k for k in before.keys() | key.keys() if before.get(k) != key.get(k))
                self._lock.close()
                raise JournalMismatch(
                    f"the half-done output in {self.folder} was made with another {', '.join(names)}: call it as "
                    "before, or overwrite=True (--overwrite) starts anew"
                )
            self.lines = _read_lines(self.folder / "journal.jsonl")
            self.resumed = True
            return
        for old in self.folder.iterdir():
            if old.name != "lock":
                shutil.rmtree(old) if old.is_dir() else old.unlink()

    def add(self, kind: str, **values: Any) -> None:
        """Append a line; call it after the data that it speaks of was written."""
        line = {"kind": kind, **values}
        self.lines.append(line)
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise output_failed(self.folder, error) from error

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All lines of a kind, in order."""
        return [line for line in self.lines if line["kind"] == kind]

    def blocks(self, stage: str) -> dict[int, dict[str, Any]]:
        """Lines of the blocks of a stage that are done, by block number."""
        return {line["block"]: line for line in self.of("block") if line["stage"] == stage}

    def close(self, *, keep: bool) -> None:
        """Close the files; without `keep` the folder goes."""
        with contextlib.suppress(OSError):
            self._file.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def outlasts(error: BaseException, progress: bool) -> bool:
    """Whether a half-done output stays on disk after an error.

    It does after an interruption and after errors that nobody foresaw; where memory, the output or the product failed,
    if anything was done; else what was asked for cannot be done, and it goes.

    Parameters
    ----------
    progress : bool
        Anything stands in the journal.
    """
    if isinstance(error, (MemoryError, OutputFailed, BrokenProduct)):
        return progress
    return not isinstance(error, TorchspectralError) or getattr(error, "keeps", False)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Lines that were written whole; the file is cut after the last of them."""
    if not path.exists():
        return []
    found, good = [], 0
    data = path.read_bytes()
    for line in data.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            found.append(json.loads(line))
        except ValueError:
            break
        good += len(line)
    if good < len(data):
        os.truncate(path, good)
    return found


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that appears under its name only when it is whole.

    Raises
    ------
    OutputFailed
    """
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise output_failed(path, error) from error


def fingerprint(value: Any) -> dict[str, Any]:
    """What identifies an input: its files (path, size, time) and coordinates, or a digest of its values.

    Parameters
    ----------
    value : DataArray
        Lazy ones with ``attrs["source"]`` are known by their files, history and coordinates; all others are read.
    """
    if not isinstance(value, xr.DataArray):
        return {"values": hashlib.blake2b(repr(value).encode(), digest_size=16).hexdigest()}
    facts: dict[str, Any] = {"shape": list(value.shape), "dtype": str(value.dtype)}
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(str(n) for n in value.coords):
        coordinate = value.coords[name]
        digest.update(name.encode())
        if coordinate.variable._in_memory:
            kind = "S" if coordinate.dtype.kind in "UO" else coordinate.dtype
            digest.update(np.ascontiguousarray(coordinate.values.astype(kind)).tobytes())
        if name == "spatial_ref":
            digest.update(json.dumps(dict(coordinate.attrs), sort_keys=True, default=str).encode())
    facts["coordinates"] = digest.hexdigest()
    facts["attrs"] = hashlib.blake2b(
        json.dumps({k: v for k, v in value.attrs.items() if k != "glt"}, sort_keys=True, default=str).encode(),
        digest_size=16,
    ).hexdigest()
    files = [Path(s) for s in sources_of(value)]
    if not value.variable._in_memory and files and all(f.exists() for f in files):
        facts["files"] = [[str(f.resolve()), *_size_and_time(f)] for f in files]
        facts["some values"] = _glance(value.variable)
    else:
        facts["values"] = _digest(value.variable)
    return facts


def _glance(variable: xr.Variable) -> str:
    """Digest of a few lines: what was done to a lazy array (masks, say) does not show in its files."""
    digest = hashlib.blake2b(digest_size=16)
    *leading, rows, _ = variable.shape
    picks: list[Any] = [sorted({0, n // 2, n - 1}) for n in leading]
    for row in sorted({rows // 4, rows // 2, 3 * rows // 4}):
        block = variable[(*picks, slice(row, row + 1), slice(None))].values
        digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()


def _size_and_time(path: Path) -> tuple[int, int]:
    if path.is_dir():
        inside = [p.stat() for p in path.rglob("*") if p.is_file()]
        return sum(s.st_size for s in inside), max((s.st_mtime_ns for s in inside), default=0)
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _digest(variable: xr.Variable) -> str:
    digest = hashlib.blake2b(digest_size=16)
    if variable.ndim < 2:
        digest.update(np.ascontiguousarray(variable.values).tobytes())
        return digest.hexdigest()
    row_bytes = max(1, variable.dtype.itemsize * variable.size // variable.shape[-2])
    step = max(1, (64 << 20) // row_bytes)
    for row in range(0, variable.shape[-2], step):
        digest.update(np.ascontiguousarray(variable[..., row : row + step, :].values).tobytes())
    return digest.hexdigest()
