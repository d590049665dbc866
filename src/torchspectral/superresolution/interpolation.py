"""Interpolation of every band, or of the scene's principal components: the line that every network must beat."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from torchspectral.engine.method import Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BadSettings
from torchspectral.ops.axis import AxisOperator, apply, gather
from torchspectral.ops.resize import bicubic_operator
from torchspectral.settings import Settings, setting

HALO = {"nearest": 0, "bilinear": 1, "bicubic": 2, "lanczos": 3}


class InterpolationSettings(Settings):
    """Settings of the interpolation."""

    scale: int = setting(4, "output pixels for each of the scene's, on each side", ge=2, le=64)
    kernel: Literal["bicubic", "lanczos", "bilinear", "nearest"] = setting(
        "bicubic", "bicubic is MATLAB's imresize (a = -0.5), lanczos has three lobes"
    )
    components: int = setting(0, "principal components that are interpolated in place of the bands; 0: the bands", ge=0)


class Interpolation(Method):
    """Enlarge each band by a kernel, footprints kept: the corner of the scene stays where it is.

    With `components`, the scene is described by its first principal components, these are interpolated, and what the
    others held, mostly noise, is gone.

    References
    ----------
    Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29 (1981).
    """

    Settings: ClassVar[type[Settings]] = InterpolationSettings
    scope = Scope.LOCAL

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.halo = HALO[self.settings.kernel]
        self.outputs = (Output("cube", zoom=self.settings.scale),)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Mean and components of the scene, where components are interpolated."""
        if not self.settings.components:
            return {}
        gram = source.gram()
        kept = self.settings.components
        if kept > gram.total.numel():
            raise BadSettings(f"got components={kept} for {gram.total.numel()} bands, expected at most as many")
        power, vectors = torch.linalg.eigh(gram.covariance)
        share = float(power[-kept:].clamp_min(0).sum() / power.clamp_min(0).sum().clamp_min(1e-300))
        return {"mean": gram.mean, "basis": vectors[:, -kept:].flip(1), "variance": share}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Interpolate the core of a tile."""
        x = tile["cube"]
        if "basis" not in state:
            return {"cube": self._core(x, tile)}
        basis, mean = state["basis"].to(x), state["mean"].to(x)
        scores = torch.einsum("bk,nbyx->nkyx", basis, x - mean[:, None, None])
        return {"cube": torch.einsum("bk,nkyx->nbyx", basis, self._core(scores, tile)) + mean[:, None, None]}

    def _core(self, image: torch.Tensor, tile: Tile) -> torch.Tensor:
        s = self.settings
        fine = apply(
            image,
            axis_operator(image.shape[-2], s.scale, s.kernel),
            axis_operator(image.shape[-1], s.scale, s.kernel),
        )
        return tile.core(fine)

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the tile once more and of the enlarged one twice."""
        pixels = size.rows * size.cols * size.bands * 4
        return {"fit": 2 * pixels, "apply": pixels * (1 + 2 * self.settings.scale**2)}

    def figures(self, state: State) -> dict[str, Any]:
        """Share of the variance that the components hold."""
        return {"variance_kept": state["variance"]} if "variance" in state else {}


@lru_cache(maxsize=64)
def axis_operator(size: int, scale: int, kernel: str) -> AxisOperator:
    """Interpolation along one axis, (scale size, size); symmetric border.

    Parameters
    ----------
    size, scale : int
    kernel : {"bicubic", "lanczos", "bilinear", "nearest"}
    """
    if kernel == "bicubic":
        return bicubic_operator(size, size * scale, float(scale))
    place = (np.arange(size * scale) + 0.5) / scale - 0.5
    if kernel == "nearest":
        return gather(np.floor(place + 0.5).astype(np.int64)[:, None], np.ones(1), size, "edge")
    half = HALO[kernel]
    index = np.floor(place).astype(np.int64)[:, None] + np.arange(1 - half, half + 1)[None, :]
    gap = np.abs(place[:, None] - index)
    weight = 1 - gap if kernel == "bilinear" else np.sinc(gap) * np.sinc(gap / half) * (gap < half)
    return gather(index, weight / weight.sum(1, keepdims=True), size, "symmetric")
