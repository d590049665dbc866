"""Super-resolution with the network of spectral mixup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from torchspectral.engine.method import Scope, Size, State, Tile
from torchspectral.errors import BadSettings, BadWeights
from torchspectral.ops.resize import imresize
from torchspectral.settings import Settings, setting
from torchspectral.superresolution.spectral_mixup.network import DeepShare
from torchspectral.superresolution.trained import TrainedNetwork, TrainedSettings, shape_of


class SpectralMixupSettings(TrainedSettings):
    """Settings of spectral mixup's network."""

    n_ovls: int = setting(2, "bands that neighbouring groups of the network share; not in its weights", ge=0)
    res_scale: float = setting(0.1, "share of a residual block that is added; not in the weights", gt=0)
    tile: int = setting(64, "side of a tile", unit="pixel", ge=4)
    overlap: int = setting(8, "blended pixels that neighbouring tiles share", unit="pixel", ge=0)


class SpectralMixup(TrainedNetwork):
    """Super-resolve with a trained DeepShare, the network of spectral mixup.

    The network is local but for the means of its channel attention, which go over a tile: the result depends on the
    tiles, which are recorded.

    References
    ----------
    Li, Dai, Konukoglu, Van Gool, "Hyperspectral image super-resolution with spectral mixup and heterogeneous datasets",
    arXiv 2101.07589 (2021).
    """

    Settings: ClassVar[type[Settings]] = SpectralMixupSettings
    name: ClassVar[str] = "spectral-mixup"
    scope = Scope.TILE

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        s = self.settings
        if s.overlap >= s.tile:
            raise BadSettings(f"got tiles of {s.tile} pixels that share {s.overlap}, expected larger tiles")
        self.tile, self.overlap = (s.tile, s.tile), s.overlap
        self.needs_fit = True  # weights: there is nothing to fit on the scene

    @classmethod
    def arguments(cls, state: State, settings: Any) -> dict[str, Any]:
        """Bands, groups, width and scale, read off the shapes."""
        features, bands = shape_of(state, "skip_conv.weight", 4, cls.name)[:2]
        subs = shape_of(state, "branch1.head.weight", 4, cls.name)[1]
        scale, number = 2, 0
        while f"branch1.upsample.{number}.weight" in state:
            wide = shape_of(state, f"branch1.upsample.{number}.weight", 4, cls.name)[0]
            factor = round((wide / features) ** 0.5)
            if factor**2 * features != wide:
                raise BadWeights(
                    f"branch1.upsample.{number} goes from {features} to {wide} channels, expected 4 or 9 times"
                )
            scale, number = scale * factor, number + 2
        return {
            "bands": bands,
            "n_subs": subs,
            "n_ovls": settings.n_ovls,
            "n_feats": features,
            "scale": scale,
            "res_scale": settings.res_scale,
        }

    @classmethod
    def network(cls, arguments: Mapping[str, Any]) -> nn.Module:
        """The network without weights."""
        return DeepShare(**arguments)

    def optional(self, key: str) -> bool:
        """The RGB task's own layers are for the training alone."""
        return "_RGB." in key

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Super-resolve a whole tile."""
        x = tile["cube"]
        network = self.module(state, x)
        bands = int(network.bands)
        with torch.no_grad():
            part = self.grouped(x, bands)
            fine = network(part, imresize(part, self.settings.scale))
        return {"cube": self.ungrouped(fine, x, bands)}

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the groups of bands, five maps of the published width on the fine grid, input and output twice."""
        pixels = size.rows * size.cols * self.settings.scale**2 * 4
        groups = -(-size.bands // 6)
        return {"fit": 0, "apply": pixels * (5 * 256 + 256 * groups + 3 * size.bands)}
