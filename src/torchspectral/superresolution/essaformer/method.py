"""ESSAformer on scenes of any size: with the sums of the whole scene, or tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from torchspectral.engine.method import Round, SceneInfo, Scope, Size, Source, State, Tile
from torchspectral.errors import BadSettings, BadWeights
from torchspectral.settings import Settings, setting
from torchspectral.superresolution.essaformer.attention import Sums
from torchspectral.superresolution.essaformer.network import PASSES, ESSAformerNetwork, reach
from torchspectral.superresolution.trained import TrainedNetwork, TrainedSettings, shape_of

PARTS = ("cross", "total", "square", "count")


class ESSAformerSettings(TrainedSettings):
    """Settings of ESSAformer."""

    attention: Literal["scene", "tile"] = setting(
        "scene",
        "scene: attention over all pixels of the scene, exact whatever the tiles, at three times the work; tile: over "
        "the pixels of each tile",
    )
    tile: int = setting(64, "side of a tile, with attention=tile", unit="pixel", ge=4)
    overlap: int = setting(8, "blended pixels that neighbouring tiles share, with attention=tile", unit="pixel", ge=0)
    residual: Literal["none", "bicubic"] = setting(
        "none", "what the network's output is added to; not in its weights, but in their card"
    )


class ESSAformer(TrainedNetwork):
    """Super-resolve with a trained ESSAformer.

    Each pass of attention sees the other pixels only through sums over them. With ``attention="scene"`` these are
    gathered over the valid pixels of the whole scene, one pass of the scene for each of the five passes of attention,
    and the result is that of the whole scene in one piece whatever the tiles are. With ``attention="tile"`` each tile
    is a scene of its own, as in the patches of the training; tiles are then blended.

    References
    ----------
    Zhang et al., "ESSAformer: efficient transformer for hyperspectral image super-resolution", ICCV 2023.
    """

    Settings: ClassVar[type[Settings]] = ESSAformerSettings
    name: ClassVar[str] = "essaformer"
    scope = Scope.LOCAL
    starts_from_state = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        s = self.settings
        self.halo = reach(s.scale)
        if s.attention == "tile":
            self.scope, self.halo = Scope.TILE, 0
            if s.overlap >= s.tile:
                raise BadSettings(f"got tiles of {s.tile} pixels that share {s.overlap}, expected larger tiles")
            self.tile, self.overlap = (s.tile, s.tile), s.overlap

    def prepare(self, info: SceneInfo) -> None:
        """Note the bands; nothing else depends on the scene."""
        super().prepare(info)

    @classmethod
    def arguments(cls, state: State, settings: Any) -> dict[str, Any]:
        """Bands, width and scale, read off the shapes."""
        dim, bands = shape_of(state, "conv_first.weight", 4, cls.name)[:2]
        scale, number = 1, 0
        while f"blockup.convupsample.{number}.weight" in state:
            wide = shape_of(state, f"blockup.convupsample.{number}.weight", 4, cls.name)[0]
            factor = round((wide / dim) ** 0.5)
            if factor**2 * dim != wide:
                raise BadWeights(
                    f"blockup.convupsample.{number} goes from {dim} to {wide} channels, expected 4 or 9 times"
                )
            scale, number = scale * factor, number + 2
        return {"bands": bands, "dim": dim, "scale": scale, "residual": settings.residual}

    @classmethod
    def network(cls, arguments: Mapping[str, Any]) -> nn.Module:
        """The network without weights."""
        return ESSAformerNetwork(**arguments)

    def fit(self, source: Source, seed: int, state: State | None) -> Iterator[Round]:
        """Gather the sums of each pass over the scene, with those of the passes before it."""
        known = dict(state or {})
        arguments = self.arguments(known, self.settings)
        self.check_fit(arguments, source.info.bands)
        if self.settings.attention == "tile":
            yield {k: v for k, v in known.items() if not k.startswith("statistics.")}, 1.0
            return
        for number in range(len(statistics_of(known)), PASSES):
            found: Sums = source.reduce(_PassSums(self, known), _merge)
            known |= {f"statistics.{number}.{name}": part for name, part in found.tensors().items()}
            yield dict(known), (number + 1) / PASSES
        yield known, 1.0

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Super-resolve a tile."""
        x = tile["cube"]
        network = self.module(state, x)
        sums = None
        if self.settings.attention == "scene":
            sums = [Sums(*(part.to(x.device) for part in one.tensors().values())) for one in statistics_of(state)]
        bands = int(network.bands)
        with torch.no_grad():
            if sums is None or x.shape[0] == 1:
                fine = network(self.grouped(x, bands), sums)
            else:  # the sums of a scene stand for one image, or for the groups of one
                fine = torch.cat([network(self.grouped(image[None], bands), sums) for image in x])
        fine = self.ungrouped(fine, x, bands)
        return {"cube": fine if self.scope is Scope.TILE else tile.core(fine)}

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of five feature maps of the published width on the fine grid, and input and output twice."""
        pixels = size.rows * size.cols * self.settings.scale**2 * 4
        need = pixels * (5 * 256 + 2 * size.bands)
        return {"fit": need, "apply": need}

    def figures(self, state: State) -> dict[str, Any]:
        """Number of weights, and over what the attention went."""
        s = self.settings
        if s.attention == "tile":
            return super().figures(state) | {"attention": f"over each tile of {s.tile} x {s.tile} pixels"}
        seen = int(state["statistics.1.count"][0])
        return super().figures(state) | {
            "attention": f"over all {seen} valid pixels of the scene, exact",
            "halo": self.halo,
        }


@dataclass(frozen=True)
class _PassSums:
    """Sums over a tile's core of the first pass whose sums are not known."""

    method: ESSAformer
    state: State

    def __call__(self, tile: Tile) -> Sums:
        x = tile["cube"]
        network = self.method.module(self.state, x)
        inner, window = tile.inner, tile.window
        rows, cols = inner.row - window.row, inner.col - window.col
        core = slice(rows, rows + inner.height), slice(cols, cols + inner.width)
        known = [Sums(*(part.to(x.device) for part in one.tensors().values())) for one in statistics_of(self.state)]
        with torch.no_grad():
            groups = self.method.grouped(x, network.bands)
            found: Sums = network.sums(groups, known, tile.valid[0, 0], core)
        return Sums(*(part.cpu() for part in found.tensors().values()))


def statistics_of(state: State) -> list[Sums]:
    """Sums of the passes that a state knows, in order."""
    found: list[Sums] = []
    while f"statistics.{len(found)}.cross" in state:
        found.append(Sums(*(state[f"statistics.{len(found)}.{part}"] for part in PARTS)))
    return found


def _merge(one: Sums, other: Sums) -> Sums:
    return one + other
