"""Sharpening of tensors that are in memory: for notebooks, training loops and measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from torchspectral import registry
from torchspectral.engine.method import Gram, Method, SceneInfo, State, Tile, Window, is_fitted
from torchspectral.engine.scratch import MemoryScratch
from torchspectral.engine.shelf import Shelf
from torchspectral.errors import BadInput, GridMismatch


class WholeSource:
    """A scene in memory as one tile: what `Method.fit` streams over."""

    def __init__(self, tile: Tile) -> None:
        self.info = tile.info
        self._tile = tile

    def tiles(self) -> Iterator[Tile]:
        """The one tile."""
        yield self._tile

    def reduce(self, f: Callable[[Tile], Any], merge: Callable[[Any, Any], Any]) -> Any:
        """Apply `f` to it."""
        return f(self._tile)

    def gram(self) -> Gram:
        """Sums and cross products of the lead's valid pixels."""
        pixels = self._tile.core_pixels(self._tile.lead).double()
        peak = float(pixels.abs().max()) if pixels.numel() else 0.0
        return Gram(pixels.shape[1], pixels.sum(1), pixels @ pixels.T, peak)

    def sample(self, n: int) -> torch.Tensor:
        """Evenly spaced valid pixels."""
        pixels = self._tile.core_pixels(self._tile.lead)
        return pixels[:, :: max(1, -(-pixels.shape[1] // n))]

    def shelf(self, name: str, count: int, size: int) -> Shelf:
        """Vectors in memory."""
        return Shelf(MemoryScratch((1, count, size), np.float32))

    def whole(self, name: str) -> torch.Tensor:
        """A role."""
        return self._tile[name]

    def patches(self, n: int, size: int) -> Tile:
        """Patches are cut by the engine only."""
        raise BadInput("patches are drawn from scenes only: call sharpen with cubes")

    def map(self, name: str, f: Callable[[Tile], torch.Tensor]) -> None:
        """Keep the result as a role."""
        self._tile.data[name] = f(self._tile)


def fuse(
    hs: torch.Tensor,
    pan: torch.Tensor,
    method: str | Method = "gsa",
    settings: Mapping[str, Any] | None = None,
    *,
    state: State | None = None,
    upsampled: torch.Tensor | None = None,
    mtf: float = 0.0,
) -> torch.Tensor:
    """Sharpen tensors in one piece.

    Methods that divide by the scene's largest value do so here too; all else is in the method's working scale.

    Parameters
    ----------
    hs : Tensor, shape (band, y, x)
        Finite values, float32 or float64, on any device.
    pan : Tensor, shape (1, R * y, R * x)
    method : str or Method
        Name of a card of this room, or an instance.
    settings : mapping, optional
        Of the method.
    state : dict, optional
        Weights of a trained network, or what an earlier fit learned.
    upsampled : Tensor, shape (band, R * y, R * x), optional
        The interpolated image, where it was made elsewhere.
    mtf : float
        Gain of the hyperspectral sensor at Nyquist; 0: unknown.

    Returns
    -------
    Tensor, shape (band, R * y, R * x)

    Raises
    ------
    GridMismatch, BadInput, BadSettings, UnknownName
    """
    if hs.ndim != 3 or pan.ndim != 3 or pan.shape[0] != 1:
        raise GridMismatch(f"got shapes {tuple(hs.shape)} and {tuple(pan.shape)}, expected (band, y, x) and (1, y, x)")
    rows, cols = hs.shape[-2:]
    ratio = pan.shape[-1] // cols
    if tuple(pan.shape[-2:]) != (ratio * rows, ratio * cols):
        raise GridMismatch(
            f"got a PAN of {pan.shape[-2]} x {pan.shape[-1]} pixels over {rows} x {cols}, expected a whole ratio"
        )
    for name, image in (("cube", hs), ("pan", pan)):
        if not bool(torch.isfinite(image).all()):
            raise BadInput(f"the {name} has NaN or infinite values: fill them first, or call sharpen with cubes")
    made: Method = registry.create("sharpening", method, dict(settings or {})) if isinstance(method, str) else method
    unknown = np.full(hs.shape[0], np.nan)
    info = SceneInfo((rows, cols), unknown, unknown, ratio={"cube": 1, "pan": ratio}, mtf={"cube": mtf} if mtf else {})
    made.prepare(info)
    images = {"cube": hs, "pan": pan} | ({} if upsampled is None else {"upsampled": upsampled})
    peak = float(hs.max()) if made.scale.rule == "max" else 1.0
    peak = peak if peak > 0 else 1.0
    data = {name: image.to(hs)[None] if peak == 1 else image.to(hs)[None] / peak for name, image in images.items()}
    window = Window(0, 0, rows, cols)
    tile = Tile(data, window, window, torch.ones(1, 1, rows, cols, dtype=torch.bool, device=hs.device), info)
    if state is None and is_fitted(made):
        learned = made.fit(WholeSource(tile), 0, None)
        state = learned if isinstance(learned, dict) else [step for step, _ in learned][-1]
    fused = made.apply(tile, state or {})["cube"][0]
    return fused if peak == 1 else fused * peak
