"""`run`: the only way from a scene to a method and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.engine.interrupting import stoppable
from torchspectral.engine.memory import PeakMemory
from torchspectral.engine.method import Method, Output
from torchspectral.engine.paths import check_free, plan_paths
from torchspectral.errors import (
    BadInput,
    BadSettings,
    TooLarge,
    TorchspectralError,
    closest,
)
from torchspectral.log import Progress, get_logger, no_progress
from torchspectral.result import Report, Result

log = get_logger("engine")


@dataclass(frozen=True)
class Review:
    """What a caller measures on the values of a run before any of them is written.

    Attributes
    ----------
    look : callable
        ``look(values, report)``: the values by name, rasters lazy and readable, and the report, to which it adds figures
        and notes, so that the files say them too. Returns further values by name, or None.
    outputs : tuple of Output
        The further values, so that a folder of all values holds them; they come after the method's own.
    """

    look: Callable[[Mapping[str, Any], Report], Mapping[str, Any] | None]
    outputs: tuple[Output, ...] = ()


@dataclass(frozen=True)
class RunOptions:
    """How a method is run; none of it belongs to the method.

    Attributes
    ----------
    bands : {"good", "all"} or sequence of int
        Bands of the lead that the method sees (indices from 0); the others come back NaN.
    mask : DataArray, path or "clear", optional
        Boolean (y, x) on the lead's grid, a mask file, or the product's own flags; only pixels where it is True are
        worked on, the others count as nodata.
    seed : int
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    workers : int
        Processes; 1 is this process alone.
    cluster : str or distributed.Client, optional
        Address of a Dask scheduler, or "local".
    tile : (int, int), optional
        Rows and columns of a tile in lead pixels; by default the method's, or fixed by bands and scope.
    batch : int
        Tiles of equal shape that `apply` gets at once.
    overwrite, resume : bool
        What to do with an existing or a half-done output.
    max_memory : int or str, optional
        Bytes that a scene held at once may take ("4GB"); what is free by default.
    resample : bool
        Put roles that do not fit onto the lead's grid instead of refusing them.
    dtype : str, optional
        Of the file's values: "float32" (default), "float64", or scaled integers: "uint8", "int16", "uint16", "int32", "uint32".
    """

    bands: str | Sequence[int] = "good"
    mask: Any = None
    seed: int = 0
    device: str = "auto"
    workers: int = 1
    cluster: Any = None
    tile: tuple[int, int] | None = None
    batch: int = 1
    overwrite: bool = False
    resume: bool = False
    max_memory: int | str | None = None
    resample: bool = False
    dtype: str | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "batch", "seed", "tile"):
            if isinstance(getattr(self, name), Integral):
                object.__setattr__(self, name, int(getattr(self, name)))
        if isinstance(self.tile, int):
            object.__setattr__(self, "tile", (self.tile, self.tile))
        if self.tile is not None:
            tile = list(self.tile) if isinstance(self.tile, Iterable) else []
            if len(tile) != 2 or any(not isinstance(n, Integral) or n < 1 for n in tile):
                raise BadSettings(f"got tile={self.tile!r}, expected rows and columns, both positive")
            object.__setattr__(self, "tile", (int(tile[0]), int(tile[1])))
        if not isinstance(self.bands, str):
            bands = list(self.bands) if isinstance(self.bands, Iterable) else [None]
            if not all(isinstance(n, (Integral, np.bool_)) for n in bands):
                raise BadSettings(f"got bands={self.bands!r}, expected 'good', 'all' or a list of band indices from 0")
            object.__setattr__(self, "bands", bands)
        _check_dtype(self.dtype)
        for name in ("workers", "batch"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise BadSettings(f"got {name}={getattr(self, name)!r}, expected a whole number from 1")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise BadSettings(f"got seed={self.seed!r}, expected a whole number from 0")

    def changed(self) -> dict[str, Any]:
        """Options that are not the default, as plain values; without those that do not touch the result."""
        found: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("seed", "overwrite", "resume", "mask") or value is None:
                continue
            if isinstance(value, (str, bool, int, float)):
                if value != f.default:
                    found[f.name] = value
            elif hasattr(value, "__iter__"):
                found[f.name] = [int(v) for v in value]
            else:
                found[f.name] = str(value)
        return found

    @classmethod
    def make(cls, values: Mapping[str, Any] | None = None, /, **more: Any) -> RunOptions:
        """Build from keywords.

        Raises
        ------
        BadSettings
            An unknown option or a bad value.
        """
        given = {**(values or {}), **more}
        known = tuple(f.name for f in fields(cls))
        for name in given:
            if name not in known:
                raise BadSettings(f"unknown option {name!r}: {closest(name, known)}")
        return cls(**given)


def _check_dtype(dtype: Any) -> None:
    """Refuse a type that no file takes before the work is done, not after."""
    if dtype is None:
        return
    from torchspectral.io.writers.encoding import check_dtype

    check_dtype(dtype)


def run(
    method: Method,
    inputs: Mapping[str, Any],
    *,
    out: str | Path | Mapping[str, Path] | None = None,
    options: RunOptions | None = None,
    state: Any = None,
    progress: Progress = no_progress,
    review: Review | None = None,
) -> Result:
    """Run a method over a scene of any size.

    Parameters
    ----------
    method : Method
    inputs : dict of role to DataArray
        Lazy or in memory; the method's first role leads.
    out : path, "DIR/" or mapping of output name to path, optional
        A file takes the primary value, a folder all of them. Without it all values are returned in memory.
    options : RunOptions, optional
    state : State or Weights, optional
        What the method learned before: `fit` is skipped, or starts from it where ``method.starts_from_state`` is set.
    progress : callable
    review : Review, optional
        Gets values and report when the method is done and before they are written: measures, and adds what the caller
        knows, so that the files say it too.

    Returns
    -------
    Result
        Values by output name: lazy and opened from the written files where `out` was given, else in memory.

    Raises
    ------
    BadCube, BadInput, BandMismatch, GridMismatch, UnknownName
        The inputs do not fit the method or each other.
    BadSettings
        Options that make no sense here.
    TooLarge
        The work must hold more at once than there is memory; said before it starts.
    OutputExists, OutputFailed, JournalMismatch
        See `engine.journal`.
    Interrupted
        Stopped by Ctrl-C or SIGTERM with `out` given; `resume` goes on.
    """
    import torchspectral
    from torchspectral.engine.job import Job
    from torchspectral.engine.journal import outlasts

    if not isinstance(method, Method):
        raise BadSettings(f"got {method!r} as method, expected an instance: see torchspectral.create_method")
    if not isinstance(inputs, Mapping):
        raise BadInput(f"got {type(inputs).__name__} as inputs, expected a mapping of roles to cubes")
    if options is not None and not isinstance(options, RunOptions):
        options = RunOptions.make(options)
    options = options or RunOptions()
    report = Report(
        method=method_name(method),
        settings=_settings_of(method),
        seed=options.seed,
        options=options.changed(),
        version=torchspectral.__version__,
    )
    paths = plan_paths(out, (*method.outputs, *(review.outputs if review is not None else ())))
    if paths is not None:
        check_free(paths, inputs.values(), overwrite=options.overwrite)
    started = time.perf_counter()
    with PeakMemory() as memory:
        job = Job(method, inputs, paths, options, state, progress, report, review)
        keep = False
        try:
            with stoppable(paths.base if paths is not None else None):
                values = job.do()
        except BaseException as error:
            said = _in_words(error)
            keep = outlasts(said, job.has_progress)
            if said is error:
                raise
            raise said from error
        finally:
            job.close(keep=keep)
    report.peak_memory = memory.peak
    report.seconds["total"] = round(time.perf_counter() - started, 3)
    return Result(values, report, {n: str(p) for n, p in paths.files.items() if n in values} if paths else {})


def method_name(method: Method) -> str:
    """``room/name`` of a registered method, else the class's name."""
    from torchspectral.registry import cards

    cls = type(method)
    target = f"{cls.__module__}:{cls.__qualname__}"
    for card in cards().values():
        if card.target == target:
            return f"{card.room}/{card.name}"
    return cls.__name__


def _settings_of(method: Method) -> dict[str, Any]:
    settings: dict[str, Any] = method.settings.model_dump()
    return settings


def _in_words(error: BaseException) -> BaseException:
    """What the library says of an error of memory or of linear algebra; others are handed back."""
    import torch

    if isinstance(error, TorchspectralError):
        return error
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return TooLarge(f"memory ran out ({_one_line(error)}): use smaller tiles (tile=), fewer workers or a window")
    if isinstance(error, torch.linalg.LinAlgError):
        return BadInput(
            f"the scene's bands cannot be told apart ({_one_line(error)}): leave constant or repeated bands out"
        )
    return error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
