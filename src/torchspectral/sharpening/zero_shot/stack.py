"""What the band-wise methods learn from: the whole scene, or patches of it, one band at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from torchspectral.engine.method import SceneInfo, Source, Tile
from torchspectral.engine.shelf import Shelf
from torchspectral.errors import BadInput, GridMismatch
from torchspectral.ops.interpolate import ideal_interp
from torchspectral.sharpening.zero_shot.losses import LOSS_BORDER

GROUP = 16
"""Bands that are read together: memory does not grow with the number of bands."""

Reader = Callable[[list[int]], torch.Tensor]

Networks = torch.Tensor | Shelf
"""One vector of weights a band, (bands, parameters)."""


class Stack:
    """One or more pieces of ground: their PAN, and their bands as they are asked for.

    Parameters
    ----------
    pan : Tensor, shape (n, 1, R * y, R * x)
    read : callable
        Numbers of bands to a tensor (n, k, y, x).
    bands : int
    wavelength : ndarray, shape (bands,)
        [nm]; NaN where unknown.
    valid : Tensor of bool, shape (n, 1, y, x), optional
        False where a pixel is nodata.
    fine : Tensor, shape (n, bands, R * y, R * x), optional
        The interpolated image, where it was made elsewhere.
    border : {"symmetric", "wrap"}
        Of the interpolator.
    shelf : callable, optional
        See `engine.method.Source.shelf`; a tensor in memory without it.

    Attributes
    ----------
    pieces : dict or None
        Patches as plain values, see `stack_of_pieces`; None for a whole scene.
    """

    pieces: Mapping[str, Any] | None = None

    def __init__(
        self,
        pan: torch.Tensor,
        read: Reader,
        bands: int,
        wavelength: np.ndarray,
        *,
        valid: torch.Tensor | None = None,
        fine: torch.Tensor | None = None,
        border: str = "symmetric",
        shelf: Callable[[str, int, int], Networks] | None = None,
    ) -> None:
        self.shelf = shelf or (lambda name, count, size: torch.zeros(count, size))
        self.pan, self.bands, self.wavelength = pan, bands, wavelength
        self._read, self._fine, self._border = read, fine, border
        self._order: list[int] = list(range(bands))
        self._held: dict[int, torch.Tensor] = {}
        probe = self.low(0)
        self.ratio = pan.shape[-1] // probe.shape[-1]
        if tuple(pan.shape[-2:]) != tuple(n * self.ratio for n in probe.shape[-2:]):
            raise GridMismatch(f"got a PAN of {tuple(pan.shape[-2:])} over {tuple(probe.shape[-2:])} pixels")
        if min(probe.shape[-2:]) < 2 * LOSS_BORDER + 1:
            raise BadInput(
                f"got {probe.shape[-2]} x {probe.shape[-1]} coarse pixels to learn from, expected at least "
                f"{2 * LOSS_BORDER + 1} on each side: take a larger scene, or larger patches"
            )
        whole = valid is None or bool(valid.all())
        self.valid = None if whole or valid is None else valid.to(probe)
        if self.valid is not None and not bool((self.valid > 0).any()):
            raise BadInput("the scene has no valid pixel to learn from: all are nodata or masked out")

    @property
    def fine_valid(self) -> torch.Tensor | None:
        """Weights on the fine grid."""
        if self.valid is None:
            return None
        return self.valid.repeat_interleave(self.ratio, -2).repeat_interleave(self.ratio, -1)

    def in_order(self, order: Sequence[int]) -> None:
        """Say in which order bands will be asked for, so that neighbours are read together."""
        self._order = list(order)

    def low(self, band: int) -> torch.Tensor:
        """A band on the coarse grid, (n, 1, y, x)."""
        if band not in self._held:
            place = self._order.index(band)
            group = self._order[place : place + GROUP]
            values = self._read(group)
            self._held = {number: values[:, k : k + 1] for k, number in enumerate(group)}
        return self._held[band]

    def up(self, band: int) -> torch.Tensor:
        """A band interpolated to the PAN's grid, (n, 1, R * y, R * x)."""
        if self._fine is not None:
            return self._fine[:, band : band + 1]
        return ideal_interp(self.low(band), self.ratio, border=self._border)

    def neighbour_correlation(self, order: Sequence[int]) -> np.ndarray:
        """Correlation of each band with the next of `order`, float64, (len(order) - 1,); 1 where one is constant."""
        keep = None if self.valid is None else (self.valid > 0).reshape(-1)
        found, before = [], None
        for band in order:
            values = self.low(band).reshape(-1).double()
            values = values if keep is None else values[keep]
            values = values - values.mean()
            if before is not None:
                scale = float(before.norm() * values.norm())
                found.append(float(before @ values) / scale if scale > 0 else 1.0)
            before = values
        return np.array(found)


def stack_of(
    source: Source,
    *,
    wavelength: np.ndarray | None = None,
    patches: int = 0,
    patch: int = 0,
    border: str = "symmetric",
) -> Stack:
    """The stack of a scene.

    Parameters
    ----------
    source : Source
    wavelength : ndarray, optional
        Instead of the scene's.
    patches, patch : int
        Number and side [coarse pixel] of the patches to learn from; 0: the whole scene.
    border : str

    Raises
    ------
    TooLarge
        The PAN of the whole scene does not fit.
    """
    info: SceneInfo = source.info
    centres = np.asarray(info.wavelength if wavelength is None else wavelength, dtype=np.float64)
    if patches:
        return stack_of_pieces(_draw(source, patches, min(patch, *info.shape)), centres, source.shelf, border=border)
    pan = source.whole("pan")
    fine = source.whole("upsampled") if _has(source, "upsampled") else None
    valid = valid_pixels(source)

    def read(bands: list[int]) -> torch.Tensor:
        parts = source.reduce(partial(_pick, bands), _join)
        return _assemble(parts, info.shape, len(bands))[None].to(pan)

    return Stack(pan, read, info.bands, centres, valid=valid, fine=fine, border=border, shelf=source.shelf)


def _draw(source: Source, count: int, side: int) -> dict[str, Any]:
    """Patches of a scene, one after the other, so that all bands of one are held at most; see `stack_of_pieces`."""
    bands = source.info.bands
    cube = source.shelf("pieces", count * bands, side * side)
    pan, valid = [], []
    for number in range(count):
        tile = source.patches(1, side)
        cube[number * bands : (number + 1) * bands] = tile["cube"][0].flatten(1)
        pan.append(tile["pan"])
        valid.append(tile.valid)
    return {"cube": cube, "pan": torch.cat(pan), "valid": torch.cat(valid)}


def stack_of_pieces(
    pieces: Mapping[str, Any],
    wavelength: np.ndarray,
    shelf: Callable[[str, int, int], Networks],
    *,
    border: str = "symmetric",
) -> Stack:
    """The stack of patches that were drawn before: a resumed adaptation goes on with the same.

    Parameters
    ----------
    pieces : mapping
        ``cube``, a row a patch and band, ``pan`` (n, 1, R * y, R * x) and ``valid`` (n, 1, y, x).
    wavelength : ndarray, shape (bands,)
    shelf : callable
    border : str
    """
    cube, pan, valid = pieces["cube"], pieces["pan"], pieces["valid"]
    count, bands = len(pan), len(wavelength)

    def read(wanted: list[int]) -> torch.Tensor:
        rows = [cube[number * bands + band] for number in range(count) for band in wanted]
        return torch.stack(rows).reshape(count, len(wanted), *valid.shape[-2:]).to(pan)

    stack = Stack(pan, read, bands, wavelength, valid=valid, border=border, shelf=shelf)
    stack.pieces = pieces
    return stack


def valid_pixels(source: Source) -> torch.Tensor:
    """Valid pixels of a whole scene, bool (1, 1, y, x), on the CPU."""
    return _assemble(source.reduce(_valid, _join), source.info.shape, 1)[None] > 0


def _has(source: Source, role: str) -> bool:
    """Whether an in-memory source carries a role beside the declared ones."""
    tile = getattr(source, "_tile", None)
    return tile is not None and role in tile


def _pick(bands: list[int], tile: Tile) -> list[Any]:
    return [((tile.inner.row, tile.inner.col), tile.core("cube")[0, bands])]


def _valid(tile: Tile) -> list[Any]:
    return [((tile.inner.row, tile.inner.col), tile.core(tile.valid)[0].to(torch.float32))]


def _join(left: list[Any], right: list[Any]) -> list[Any]:
    left.extend(right)
    return left


def _assemble(parts: list[Any], shape: tuple[int, int], bands: int) -> torch.Tensor:
    out = torch.empty((bands, *shape), dtype=parts[0][1].dtype)
    for (row, col), block in parts:
        out[:, row : row + block.shape[-2], col : col + block.shape[-1]] = block
    return out
