"""Cutting tiles from lazy cubes: window and halo, nodata, filling, scaling, tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy import ndimage

from torchspectral.engine.filling import fill_margin, fill_pixels, fill_spectra, missing_pixels
from torchspectral.engine.memory import frugal_reads
from torchspectral.engine.method import SceneInfo, Scope, Tile, Window
from torchspectral.engine.plan import Cut

if TYPE_CHECKING:
    import torch

    from torchspectral.engine.scratch import FileScratch, MemoryScratch


@dataclass
class RoleReader:
    """One raster role: where its values come from and how they become working values.

    Attributes
    ----------
    name : str
    data : xarray.Variable, dims (band, y, x) or (time, band, y, x)
        Lazy or in memory.
    bands : ndarray of int
        Which bands are handed over.
    ratio : int
        Pixels per lead pixel on each side.
    labels : bool
        Whether values are class numbers: kept as int64, nodata is 0, never filled or scaled.
    nodata : int, optional
        Stored value that stands for missing (integers).
    packing_scale, packing_offset : ndarray, shape (bands,), optional
        Of stored integers: physical = stored * scale + offset.
    gain, offset : ndarray, shape (bands,) or scalar
        Working scale: working = (physical - offset) / gain.
    wavelength : ndarray, shape (bands,)
    """

    name: str
    data: xr.Variable
    bands: np.ndarray
    ratio: int = 1
    labels: bool = False
    nodata: float | None = None
    packing_scale: np.ndarray | None = None
    packing_offset: np.ndarray | None = None
    gain: Any = 1.0
    offset: Any = 0.0
    wavelength: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.data.shape[-2], self.data.shape[-1]

    @property
    def timed(self) -> bool:
        """Whether it is a video."""
        return self.data.ndim == 4

    def physical(self, window: Window, dtype: Any, frame: int = 0) -> tuple[torch.Tensor, np.ndarray]:
        """Values of a window of the role's own grid, NaN where missing, and the same memory as an ndarray."""
        import torch

        rows, cols = window.slices
        key: tuple[Any, ...] = (as_slice(self.bands), rows, cols)
        with frugal_reads():
            stored = self.data[(frame, *key) if self.timed else key].values
        # Memory of torch's own making is aligned, so that kernels sum in the same order wherever the tile lies.
        kind = torch.int64 if self.labels else {4: torch.float32, 8: torch.float64}[np.dtype(dtype).itemsize]
        tensor = torch.empty(stored.shape, dtype=kind)
        values = tensor.numpy()
        missing = None
        if self.nodata is not None and stored.dtype.kind in "iu":
            missing = stored == self.nodata
        if self.labels:
            np.copyto(values, np.nan_to_num(stored, nan=0) if stored.dtype.kind == "f" else stored, casting="unsafe")
            if missing is not None:
                values[missing] = 0
            return tensor, values
        np.copyto(values, stored, casting="unsafe")
        if self.packing_scale is not None:
            values *= self.packing_scale[:, None, None].astype(values.dtype)
            values += self.packing_offset[:, None, None].astype(values.dtype)  # type: ignore[index]
        if missing is not None and missing.any():
            values[missing] = np.nan
        return tensor, values

    def to_working(self, values: np.ndarray) -> None:
        """Apply the working scale in place."""
        offset, gain = np.asarray(self.offset), np.asarray(self.gain)
        if offset.any():
            values -= _column(offset, values.dtype)
        if (gain != 1).any():
            values /= _column(gain, values.dtype)


@dataclass
class Loaded:
    """A tile as read, on the CPU, with what only the engine needs.

    Attributes
    ----------
    empty : list of ndarray of bool
        Core pixels of the lead without data.
    role_empty : dict of str to list of ndarray of bool
        The same of each raster role, on its own grid.
    near : dict of str to list of ndarray of bool
        Core pixels of a role that have data but lie within the reach of a hole; roles without such are left out.
    """

    cuts: tuple[Cut, ...]
    tile: Tile
    empty: list[np.ndarray]
    role_empty: dict[str, list[np.ndarray]]
    near: dict[str, list[np.ndarray]] = field(default_factory=dict)
    partial: int = 0
    nodata: int = 0
    frame: int = 0
    infinite: int = 0


@dataclass
class Scene:
    """All inputs of a run as the tiles are cut from them; picklable.

    Attributes
    ----------
    roles : dict of str to RoleReader
        Raster roles, the lead first.
    spectra : dict of str to ndarray, shape (spectrum, band)
        In the working scale.
    keep : Variable of bool, dims (y, x), optional
        False where a mask takes pixels out.
    mapped : dict of str to scratch array
        Arrays on the lead grid that `fit` wrote.
    """

    roles: dict[str, RoleReader]
    spectra: dict[str, np.ndarray]
    info: SceneInfo
    scope: Scope
    halo: int = 0
    fill: str = "nearest"
    dtype: str = "float32"
    keep: xr.Variable | None = None
    mapped: dict[str, MemoryScratch | FileScratch] = field(default_factory=dict)

    @property
    def lead(self) -> RoleReader:
        """The leading role."""
        return next(iter(self.roles.values()))

    def only(self, names: Sequence[str]) -> Scene:
        """The same scene without the roles that are not named."""
        return replace(
            self,
            roles={n: r for n, r in self.roles.items() if n in names},
            spectra={n: s for n, s in self.spectra.items() if n in names},
        )

    def load(self, cuts: Sequence[Cut], frame: int = 0, reach: int = 0) -> Loaded:
        """Read a batch of tiles of the same shape; pixels within `reach` lead pixels of a hole are told too."""
        import torch

        parts = [self._load(cut, frame, reach) for cut in cuts]
        first = parts[0]
        if len(parts) == 1:
            return first
        names = [n for n in first.tile.data if n not in self.spectra]
        data = {n: torch.cat([p.tile.data[n] for p in parts]) for n in names}
        data |= {n: first.tile.data[n] for n in self.spectra}
        tile = replace(first.tile, data=data, valid=torch.cat([p.tile.valid for p in parts]))
        return Loaded(
            tuple(cuts),
            tile,
            [p.empty[0] for p in parts],
            {n: [p.role_empty[n][0] for p in parts] for n in first.role_empty},
            _stacked(parts),
            sum(p.partial for p in parts),
            sum(p.nodata for p in parts),
            frame,
            sum(p.infinite for p in parts),
        )

    def _load(self, cut: Cut, frame: int, reach: int) -> Loaded:
        import torch

        data: dict[str, torch.Tensor] = {}
        role_empty: dict[str, list[np.ndarray]] = {}
        near: dict[str, list[np.ndarray]] = {}
        partial = infinite = 0
        core = _inside(cut.inner, cut.window)
        for name, role in self.roles.items():
            tensor, empty, mended, endless = self._role(role, cut.window, frame)
            data[name] = tensor[None]
            if empty is not None:
                scaled = tuple(slice(s.start * role.ratio, s.stop * role.ratio) for s in core)
                role_empty[name] = [empty[scaled]]
                if reach and empty.any():
                    grown = ndimage.maximum_filter(empty, 2 * reach * role.ratio + 1, mode="constant")
                    near[name] = [(grown & ~empty)[scaled]]
                if role is self.lead:
                    whole = empty
                    partial, infinite = int(mended[scaled].sum()), int(endless[scaled].sum())
        for name, array in self.mapped.items():
            rows, cols = cut.window.slices
            data[name] = torch.from_numpy(np.array(array.read(rows, cols)))[None]
        for name, spectra in self.spectra.items():
            data[name] = torch.from_numpy(np.array(spectra))
        valid = torch.from_numpy(~whole)[None, None]
        tile = Tile(data, cut.window, cut.inner, valid, self.info)
        empty_core = whole[core]
        nodata = int(empty_core.sum())
        return Loaded((cut,), tile, [empty_core], role_empty, near, partial, nodata, frame, infinite)

    def _role(
        self, role: RoleReader, window: Window, frame: int
    ) -> tuple[torch.Tensor, np.ndarray | None, np.ndarray, np.ndarray]:
        """Working values of a window (in lead pixels), its nodata pixels, those that were mended, those with infinities."""
        here = window.times(role.ratio)
        tensor, values = role.physical(here, self.dtype, frame)
        if role.labels:
            none = np.empty((0, 0), dtype=bool)
            return tensor, None, none, none
        if role is self.lead and self.keep is not None:
            values[:, ~self.keep[window.slices].values.astype(bool)] = np.nan
        nodata, partial, infinite = missing_pixels(values)
        if partial.any() and self.fill != "none":
            fill_spectra(values, partial, role.wavelength)
        if nodata.any() and self.fill != "none":
            if self.fill == "zero":
                values[:, nodata] = 0
            elif (margin := fill_margin(self.halo)) and self.scope is Scope.LOCAL:
                self._fill_from_around(role, window, frame, margin, values, nodata)
            else:
                fill_pixels(values, nodata, self.scope)
        role.to_working(values)
        return tensor, nodata, partial, infinite

    def _fill_from_around(
        self, role: RoleReader, window: Window, frame: int, margin: int, values: np.ndarray, nodata: np.ndarray
    ) -> None:
        """Fill as if the whole scene were there: look for the nearest valid pixel beyond the tile too."""
        rows, cols = self.info.shape
        top, left = max(window.row - margin, 0), max(window.col - margin, 0)
        bottom, right = min(window.row + window.height + margin, rows), min(window.col + window.width + margin, cols)
        wider = Window(top, left, bottom - top, right - left)
        _, around = role.physical(wider.times(role.ratio), self.dtype, frame)
        if role is self.lead and self.keep is not None:
            around[:, ~self.keep[wider.slices].values.astype(bool)] = np.nan
        empty, partial, _ = missing_pixels(around)
        fill_spectra(around, partial, role.wavelength)
        fill_pixels(around, empty, self.scope)
        inside = tuple(slice(s.start * role.ratio, s.stop * role.ratio) for s in _inside(window, wider))
        values[:, nodata] = around[(slice(None), *inside)][:, nodata]


def _stacked(parts: Sequence[Loaded]) -> dict[str, list[np.ndarray]]:
    """Pixels near holes of each tile of a batch, roles that have none anywhere left out."""
    names = dict.fromkeys(name for p in parts for name in p.near)
    return {n: [p.near[n][0] if n in p.near else np.zeros_like(p.role_empty[n][0]) for p in parts] for n in names}


def move(tile: Tile, device: torch.device) -> Tile:
    """The tile on a device."""
    if device.type == "cpu":
        return tile
    return replace(
        tile,
        data={name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in tile.data.items()},
        valid=tile.valid.to(device),
    )


def whole_role(scene: Scene, name: str) -> torch.Tensor:
    """A role in one piece, filled and scaled, (1, band, y, x)."""
    import torch

    if name in scene.mapped:
        everything = scene.mapped[name].read(slice(None), slice(None))
        return torch.from_numpy(np.array(everything))[None]
    rows, cols = scene.info.shape
    tensor, *_ = scene._role(scene.roles[name], Window(0, 0, rows, cols), 0)
    return tensor[None]


def as_slice(index: np.ndarray) -> slice | np.ndarray:
    """An index array as a slice where it counts up by one, so that readers see a window."""
    if index.size and bool(np.all(np.diff(index) == 1)):
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _inside(inner: Window, outer: Window) -> tuple[slice, slice]:
    top, left = inner.row - outer.row, inner.col - outer.col
    return slice(top, top + inner.height), slice(left, left + inner.width)


def _column(numbers: np.ndarray, dtype: Any) -> np.ndarray:
    return numbers.astype(dtype).reshape(-1, 1, 1) if numbers.ndim else numbers.astype(dtype)
