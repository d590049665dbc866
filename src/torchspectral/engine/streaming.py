"""Streaming a lazy cube into a flat file, block by block, journaled; numpy only, no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.engine.executor import Workers
from torchspectral.engine.interrupting import stoppable
from torchspectral.engine.journal import Journal, fingerprint
from torchspectral.engine.method import Window
from torchspectral.engine.plan import cut_scene
from torchspectral.engine.scratch import FileScratch, Workspace
from torchspectral.errors import BadCube, BadSettings, OutputFailed, TorchspectralError
from torchspectral.log import Progress, Step, no_progress
from torchspectral.result import Report

BLOCK_BYTES = 16 << 20
"""Stored values of one block [bytes]."""

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
        return (*item, np.asarray(self.source[:, rows, cols].values))

    def compute(self, loaded: tuple[int, Window, np.ndarray]) -> tuple[int, Window, np.ndarray]:
        """Nothing: what has to be computed is computed where the lazy cube is read."""
        return loaded

    def write(self, done: tuple[int, Window, np.ndarray]) -> int:
        """Store the block; returns its number."""
        number, window, block = done
        self.target.write(window.row, window.col, block)
        return number


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
    except OutputFailed:
        keep = bool(journal.lines)
        raise
    except TorchspectralError as error:
        keep = getattr(error, "keeps", False)
        raise
    except BaseException:
        keep = True
        raise
    finally:
        pool.close()
        journal.close(keep=keep)
    return made


def _copy(cube: xr.DataArray, journal: Journal, interleave: str, pool: Workers, progress: Progress) -> FileScratch:
    variable = cube.variable
    windows = _windows(cube)
    workspace = Workspace(journal.folder)
    target = workspace.array("values", variable.shape, variable.dtype, reuse=journal.resumed, interleave=interleave)
    assert isinstance(target, FileScratch)
    done = set(journal.blocks("copy"))
    todo = [(n, window) for n, window in enumerate(windows) if n not in done]
    for number in pool.run(CopyStage(variable, target), todo):
        done.add(number)
        journal.add("block", stage="copy", block=number)
        progress(Step("convert", len(done) / len(windows)))
    return target


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
