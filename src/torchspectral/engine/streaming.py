"""Streaming a lazy cube into a flat file, block by block, journaled; numpy only, no torch."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from torchspectral.engine.executor import Stage, Workers
from torchspectral.engine.interrupting import stoppable
from torchspectral.engine.journal import Journal, fingerprint, outlasts
from torchspectral.engine.memory import frugal_reads
from torchspectral.engine.method import Window
from torchspectral.engine.plan import cut_scene
from torchspectral.engine.scratch import FileScratch, Workspace
from torchspectral.errors import BadCube, BadSettings, BrokenProduct
from torchspectral.io.raw import RawArray, RawBackend, output_failed
from torchspectral.log import Progress, Step, no_progress
from torchspectral.result import Report

BLOCK_BYTES = 16 << 20
"""Stored values of one block [bytes]."""

RUN_BYTES = 64 << 20
"""Bytes of one run where a file is copied as it is."""

LARGEST_BLOCK = 128 << 20
"""Most that a block grows to, so as to hold whole chunks of the source [bytes]."""


@dataclass
class CopyStage:
    """Read windows of a variable and write them into a scratch file."""

    source: xr.Variable
    target: FileScratch

    def read(self, item: tuple[int, Window]) -> tuple[int, Window, np.ndarray]:
        """Values of a window."""
        rows, cols = item[1].slices
        with frugal_reads():
            return (*item, np.asarray(self.source[:, rows, cols].values))

    def compute(self, loaded: tuple[int, Window, np.ndarray]) -> tuple[int, Window, np.ndarray]:
        """Nothing: what has to be computed is computed where the lazy cube is read."""
        return loaded

    def write(self, done: tuple[int, Window, np.ndarray]) -> int:
        """Store the block; returns its number."""
        number, window, block = done
        self.target.write(window.row, window.col, block)
        return number


@dataclass
class BytesStage:
    """Copy runs of bytes from file to file, inside the kernel where it can."""

    source: RawArray
    target: FileScratch
    run: int

    def read(self, item: int) -> int:
        """Nothing: source and target are files."""
        return item

    def compute(self, loaded: int) -> int:
        """Nothing."""
        return loaded

    def write(self, done: int) -> int:
        """Copy run number `done`; returns its number."""
        start = done * self.run
        copy_bytes(self.source, self.target, start, min(self.run, self.source.nbytes - start))
        return done


def copy_bytes(source: RawArray, target: RawArray, start: int, count: int) -> None:
    """Copy bytes of the values of one raw array to the same place of another of the same layout.

    Raises
    ------
    BrokenProduct, OutputFailed
    """
    here, there = source._open(), target._open()
    done = 0
    while done < count:
        at = start + done
        try:
            moved = _move(here, there, min(count - done, 1 << 30), source.offset + at, target.offset + at)
        except OSError as error:
            raise output_failed(target.path, error) from error
        if moved == 0:
            raise BrokenProduct(f"{source.path} ended at byte {source.offset + at}: it was cut short while open")
        done += moved


def _move(here: int, there: int, count: int, read_at: int, write_at: int) -> int:
    try:
        return os.copy_file_range(here, there, count, read_at, write_at)
    except (OSError, AttributeError) as error:
        # Not every pair of file systems can; a full disk is told as what it is.
        if getattr(error, "errno", errno.ENOSYS) not in (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP):
            raise
    block = os.pread(here, min(count, 4 << 20), read_at)
    return os.pwrite(there, block, write_at)


def stream(
    cube: xr.DataArray,
    out: str | Path,
    *,
    key: Mapping[str, Any] | None = None,
    interleave: str | None = None,
    workers: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    report: Report | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Write a lazy cube or layers as an ENVI product; a killed call goes on with `resume`.

    Parameters
    ----------
    cube : DataArray, dims (band or layer, y, x)
        Values are written as they are read, stored integers as stored integers.
    out : path
        ``.hdr`` or ``.img``.
    key : mapping, optional
        Plain values that the result depends on beside the cube's files, history and coordinates.
    interleave : {"bsq", "bil", "bip"}, optional
        Order of the values in the file; by default the one in which the source hands them out.
    workers : int
        Processes that read, compute and write blocks.

    Returns
    -------
    Path
        What to open.

    Raises
    ------
    BadCube, BadSettings
        Not three dimensions; an unknown interleave.
    OutputExists, OutputFailed, JournalMismatch, Interrupted
    """
    import torchspectral
    from torchspectral.io.writers.envi import adopt

    if cube.ndim != 3:
        raise BadCube(f"got dims {cube.dims}, expected (band, y, x) or (layer, y, x)")
    if interleave not in (None, "bsq", "bil", "bip"):
        raise BadSettings(f"got interleave={interleave!r}, expected bsq, bil or bip")
    path = Path(out)
    if path.suffix.lower() in (".bsq", ".bil", ".bip"):
        interleave = path.suffix.lower()[1:]
    started = time.perf_counter()
    facts = {
        "input": fingerprint(cube),
        "output": str(path),
        "interleave": interleave,
        "torchspectral": torchspectral.__version__,
        **(key or {}),
    }
    journal = Journal(path, facts, resume=resume, overwrite=overwrite)
    pool = Workers(workers)
    keep = False
    try:
        with stoppable(path):
            raw = _copy(cube, journal, interleave or _interleave(cube.variable), pool, progress)
        raw.close()
        if report is not None:
            report.seconds["write"] = round(time.perf_counter() - started, 3)
        made: Path = adopt(raw, cube, path, overwrite=overwrite, report=report)
    except BaseException as error:
        keep = outlasts(error, bool(journal.lines))
        raise
    finally:
        pool.close()
        journal.close(keep=keep)
    return made


def _copy(cube: xr.DataArray, journal: Journal, interleave: str, pool: Workers, progress: Progress) -> FileScratch:
    variable = cube.variable
    workspace = Workspace(journal.folder)
    target = workspace.array("values", variable.shape, variable.dtype, reuse=journal.resumed, interleave=interleave)
    assert isinstance(target, FileScratch)
    twin = file_behind(variable)
    stage: Stage
    items: list[Any]
    if twin is not None and twin.interleave == interleave:
        stage, name = BytesStage(twin, target, RUN_BYTES), "bytes"
        items = list(range(-(-twin.nbytes // RUN_BYTES)))
    else:
        stage, name = CopyStage(variable, target), "copy"
        items = list(enumerate(_windows(cube)))
    done = set(journal.blocks(name))
    todo = [item for number, item in enumerate(items) if number not in done]
    for number in pool.run(stage, todo):
        done.add(number)
        journal.add("block", stage=name, block=number)
        progress(Step("convert", len(done) / len(items)))
    return target


def file_behind(variable: xr.Variable) -> RawArray | None:
    """The flat file whose values a lazy variable hands out as they are stored, all of them; None where it does more."""
    data = variable._data
    if not isinstance(data, indexing.LazilyIndexedArray) or isinstance(variable._data, np.ndarray):
        return None
    array = data.array
    raw = array.raw if isinstance(array, RawBackend) else getattr(array, "raw", None)
    if not isinstance(raw, RawArray) or raw.shape != variable.shape or raw.dtype != variable.dtype:
        return None
    if not isinstance(array, RawBackend) and (getattr(array, "decode", True) or getattr(array, "part", "")):
        return None
    whole = all(
        isinstance(k, slice) and k.indices(n) == (0, n, 1) for k, n in zip(data.key.tuple, raw.shape, strict=True)
    )
    return raw if whole and raw.byteorder == "<" else None


def _windows(cube: xr.DataArray) -> list[Window]:
    """Strips of whole rows, or runs of the source's own chunks where those are tall."""
    bands, rows, cols = cube.shape
    row_bytes = bands * cols * cube.dtype.itemsize
    height = max(1, BLOCK_BYTES // row_bytes)
    width = cols
    chunks = cube.encoding.get("preferred_chunks") or {}
    tall = min(int(chunks.get("y", 1)), rows)
    if tall > 1:
        height = -(-height // tall) * tall
        wide = min(int(chunks.get("x", cols)), cols)
        while height * width * bands * cube.dtype.itemsize > LARGEST_BLOCK and (height > tall or width > wide):
            if height > tall:
                height = max(tall, height // 2 // tall * tall)
            else:
                width = max(wide, -(-width // 2 // wide) * wide)
    return [cut.inner for cut in cut_scene((rows, cols), (height, width))]


def _interleave(variable: xr.Variable) -> str:
    """Layout in which blocks of the variable come: writing them in the same one costs no rearranging."""
    rows, cols = (slice(0, min(2, n)) for n in variable.shape[1:])
    block = np.asarray(variable[:, rows, cols].values)
    if min(block.shape) < 2:
        return "bsq"
    order = tuple(int(n) for n in np.argsort(block.strides)[::-1])
    known: dict[tuple[int, ...], str] = {(0, 1, 2): "bsq", (1, 0, 2): "bil", (1, 2, 0): "bip"}
    return known.get(order, "bsq")
