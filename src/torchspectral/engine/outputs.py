"""What a method returns, block by block: checked, turned back to physical values, and put where it belongs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from torchspectral.engine.device import one_thread
from torchspectral.engine.method import Method, Output, Scope, State
from torchspectral.engine.plan import Cut, cells
from torchspectral.engine.reading import Loaded, Scene, move
from torchspectral.engine.scaling import undo
from torchspectral.engine.scratch import FileScratch, MemoryScratch
from torchspectral.engine.states import to_device
from torchspectral.errors import BadInput

if TYPE_CHECKING:
    import torch

COLUMNS = ("col", "x", "x0", "x1", "xmin", "xmax")
ROWS = ("row", "y", "y0", "y1", "ymin", "ymax")
"""Columns of tables that are positions in pixels of the tile: the engine moves them to pixels of the scene."""


def integer_nodata(dtype: Any) -> int:
    """Value that stands for nodata in integer outputs: the smallest of a signed type, the largest of an unsigned."""
    info = np.iinfo(dtype)
    return int(info.min if info.kind == "i" else info.max)


@dataclass
class Target:
    """Where the blocks of one raster output go.

    Attributes
    ----------
    output : Output
    zoom : int
        Pixels per lead pixel on each side.
    bands : int
        Bands or layers that are written.
    place : ndarray of int, optional
        Where the method's bands lie among them (the others are NaN).
    gain, offset : scalar or ndarray
        Of the lead, to undo the working scale.
    array : scratch array, optional
    slots : bool
        Whether tiles overlap and are written each to its own place, to be blended afterwards.
    """

    output: Output
    zoom: int
    bands: int
    place: np.ndarray | None = None
    gain: Any = 1.0
    offset: Any = 0.0
    array: MemoryScratch | FileScratch | None = None
    slots: bool = False

    @property
    def step(self) -> int:
        """Lead pixels per output pixel on each side, where the output is coarser."""
        return 1 if self.output.grid else self.output.step

    def cells(self, pixels: int) -> int:
        """Output pixels that so many lead pixels fill, the last one perhaps in part."""
        return cells(pixels, self.zoom, self.step)

    @property
    def name(self) -> str:
        """Of the output."""
        return self.output.name

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""
        return np.dtype(self.output.dtype)

    def block(self, tensor: torch.Tensor, empty: np.ndarray, method_bands: int) -> np.ndarray:
        """Values as written, (band, y, x), from the core of what the method returned.

        Parameters
        ----------
        empty : ndarray of bool, shape (y, x)
            Output pixels without data.
        """
        values = tensor.detach().cpu().numpy()
        if self.output.undo_scale and values.dtype.kind == "f":
            values = undo(values, self.gain, self.offset, 0)
        kind = self.dtype
        if kind.kind in "iu":
            nodata = integer_nodata(kind)
            info = np.iinfo(kind)
            whole = np.where(np.isfinite(values), np.rint(values), nodata) if values.dtype.kind == "f" else values
            out = np.clip(whole, info.min, info.max).astype(kind)
            out[:, empty] = nodata
            missing: float = nodata
        else:
            out = values.astype(kind)
            out[:, empty] = np.nan
            missing = np.nan
        if self.place is None or out.shape[0] == self.bands:
            return out
        spread = np.full((self.bands, *out.shape[1:]), missing, dtype=kind)
        spread[self.place] = out
        return spread


@dataclass
class Done:
    """Blocks and table rows of one batch of tiles, ready to be stored."""

    cuts: tuple[Cut, ...]
    blocks: dict[str, list[np.ndarray]] = field(default_factory=dict)
    tables: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    partial: int = 0
    nodata: int = 0
    infinite: int = 0
    frame: int = 0
    valid: dict[str, int] = field(default_factory=dict)
    near: dict[str, int] = field(default_factory=dict)
    state: State | None = None


@dataclass
class ApplyStage:
    """Run `apply` on batches of tiles and write what it returns."""

    method: Method
    scene: Scene
    state: State
    targets: list[Target]
    tables: list[str]
    device: str
    seed: int
    tile: tuple[int, int]
    threads: bool = False
    _here: State | None = None

    def read(self, item: Any) -> Loaded:
        """Read a batch of cuts."""
        return self.scene.load(item, reach=self.method.hole_reach)

    def compute(self, loaded: Loaded) -> Done:
        """Call `apply`."""
        outputs = self.call(loaded, self.state)
        return self.collect(loaded, outputs)

    def call(self, loaded: Loaded, state: State) -> Any:
        """What the method returns for a batch; {} where there is no valid pixel at all."""
        import contextlib

        import torch

        device = torch.device(self.device)
        frames = self.method.scope is Scope.FRAMES
        if not bool(loaded.tile.valid.any()) and not frames and self.scene.fill != "none":
            return {}
        if state is self.state:
            if self._here is None:
                self._here = to_device(self.state, device)
            state = self._here
        cores = contextlib.nullcontext() if self.threads else one_thread()
        cuda = [device.index or 0] if device.type == "cuda" else []
        with cores, torch.no_grad(), torch.random.fork_rng(devices=cuda):
            torch.manual_seed((self.seed * 1_000_003 + loaded.cuts[0].index + 7919 * loaded.frame) % (1 << 63))
            return self.method.apply(move(loaded.tile, device), state)

    def collect(self, loaded: Loaded, outputs: Mapping[str, Any]) -> Done:
        """Cut the cores out of the outputs and turn them into blocks."""
        valid = {name: sum(int((~e).sum()) for e in empty) for name, empty in loaded.role_empty.items()}
        done = Done(loaded.cuts, partial=loaded.partial, nodata=loaded.nodata, frame=loaded.frame, valid=valid)
        done.infinite = loaded.infinite
        done.near = {name: sum(int(n.sum()) for n in near) for name, near in loaded.near.items()}
        for target in self.targets:
            done.blocks[target.name] = [self._block(target, loaded, outputs, n) for n in range(len(loaded.cuts))]
        for name in self.tables:
            rows = outputs.get(name)
            if rows is not None:
                done.tables[name] = _moved(rows, loaded, timed=self.method.scope is Scope.FRAMES)
        return done

    def _block(self, target: Target, loaded: Loaded, outputs: Mapping[str, Any], n: int) -> np.ndarray:
        cut = loaded.cuts[n]
        empty = _on_cells(_without(loaded.empty, self.scene.lead.name, loaded, n), target.zoom, target.step)
        role = loaded.role_empty.get(target.output.grid)
        if role is not None:
            empty = empty | _without(role, target.output.grid, loaded, n)
        height, width = target.cells(cut.inner.height), target.cells(cut.inner.width)
        if not outputs:
            missing: float = integer_nodata(target.dtype) if target.dtype.kind in "iu" else np.nan
            return np.full((target.bands, height, width), missing, dtype=target.dtype)
        if target.name not in outputs:
            raise KeyError(f"apply of {type(self.method).__name__} returned no {target.name!r}, but it is declared")
        tensor = raster_of(outputs[target.name])[n]
        if tensor.shape[-2:] != (height, width):
            whole = (target.cells(cut.window.height), target.cells(cut.window.width))
            if tensor.shape[-2:] != whole:
                raise ValueError(
                    f"{type(self.method).__name__} returned {target.name} of {tuple(tensor.shape[-2:])} pixels, "
                    f"expected the core's {(height, width)} or the tile's {whole}"
                )
            top = target.cells(cut.inner.row - cut.window.row)
            left = target.cells(cut.inner.col - cut.window.col)
            tensor = tensor[..., top : top + height, left : left + width]
        expected = target.bands if target.place is None else len(target.place)
        if tensor.shape[0] not in (expected, target.bands):
            raise ValueError(
                f"{type(self.method).__name__} returned {tensor.shape[0]} bands of {target.name}, expected {expected}"
            )
        return target.block(tensor, empty, expected)

    def write(self, done: Done) -> Done:
        """Store the blocks that lie in scratch arrays."""
        for target in self.targets:
            assert target.array is not None
            for cut, block in zip(done.cuts, done.blocks.pop(target.name), strict=True):
                if target.slots:
                    target.array.write(cut.index * target.cells(self.tile[0]), 0, block)
                elif self.method.scope is Scope.FRAMES and target.array.shape[0] != target.bands:
                    _write_bands(target.array, done.frame * target.bands, block)
                else:
                    target.array.write(target.cells(cut.inner.row), target.cells(cut.inner.col), block)
        return done


def _write_bands(array: MemoryScratch | FileScratch, band: int, block: np.ndarray) -> None:
    if isinstance(array, MemoryScratch):
        array.values[band : band + block.shape[0]] = block
    else:
        array.write(0, 0, block, band)


def raster_of(value: Any) -> torch.Tensor:
    """An output tensor as (n, band, y, x)."""
    if value.ndim == 2:
        return value[None, None]
    if value.ndim == 3:
        return value[None]
    if value.ndim != 4:
        raise ValueError(f"got an output of shape {tuple(value.shape)}, expected (n, band, y, x)")
    return value


def _without(empty: list[np.ndarray], role: str, loaded: Loaded, n: int) -> np.ndarray:
    """Pixels of a role that have no data, or lie too near to such."""
    near = loaded.near.get(role)
    return empty[n] if near is None else empty[n] | near[n]


def _on_cells(mask: np.ndarray, zoom: int, step: int = 1) -> np.ndarray:
    """A mask on the output's pixels; of coarser ones, where it holds for all that they cover."""
    if zoom > 1:
        mask = np.repeat(np.repeat(mask, zoom, 0), zoom, 1)
    if step == 1:
        return mask
    rows, cols = (-n % step for n in mask.shape)
    whole = np.pad(mask, ((0, rows), (0, cols)), constant_values=True)
    return np.all(whole.reshape(whole.shape[0] // step, step, -1, step), axis=(1, 3))


def _moved(rows: Mapping[str, Any], loaded: Loaded, *, timed: bool) -> dict[str, list[Any]]:
    """Table rows with positions in scene pixels."""
    columns: dict[str, list[Any]] = {}
    window = loaded.cuts[0].window
    for name, values in rows.items():
        listed = values.tolist() if hasattr(values, "tolist") else list(values)
        shift = window.row if name in ROWS else window.col if name in COLUMNS else 0
        columns[name] = [value + shift for value in listed] if shift else listed
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"got table columns of {sorted(lengths)} rows, expected as many in each")
    if timed and columns and "frame" not in columns:
        columns = {"frame": [loaded.frame] * lengths.pop(), **columns}
    return columns


def joined(parts: Sequence[Mapping[str, list[Any]]]) -> Any:
    """One table from the parts of all tiles, in order."""
    import pandas as pd  # type: ignore[import-untyped]

    names: list[str] = []
    for part in parts:
        names += [name for name in part if name not in names]
    return pd.DataFrame({name: [value for part in parts for value in part.get(name, [])] for name in names})


def check_something(nodata: int, pixels: int) -> None:
    """Refuse a scene without any data.

    Raises
    ------
    BadInput
    """
    if nodata >= pixels:
        raise BadInput("all pixels of the scene are nodata or masked out: nothing to work on")


def check_roles(valid: Mapping[str, int]) -> None:
    """Refuse an input without any data where the scene lies.

    Raises
    ------
    BadInput
    """
    for role, count in valid.items():
        if not count:
            raise BadInput(f"all pixels of the input {role} are nodata where the scene lies: give one that covers it")
