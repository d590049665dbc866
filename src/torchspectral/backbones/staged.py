"""Backbones of four stages in the layout of torchvision's ResNets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from torchspectral.backbones.base import Backbone, check_image
from torchspectral.backbones.checkpointing import run_stages

STAGES = ("layer1", "layer2", "layer3", "layer4")
WIDTHS_50 = (256, 512, 1024, 2048)
"""Channels that the stages of a ResNet-50 hand out."""


class StagedBackbone(Backbone):
    """A stem and four stages; the feature is the mean of the last map.

    Attributes
    ----------
    trunk : Module
        Holds ``layer1`` to ``layer4``, and the stem: ``conv1``, ``bn1``, ``act1`` and ``maxpool``.
    """

    _checkpointing = False

    @property
    def trunk(self) -> Any:
        """By default the backbone itself."""
        return self

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """What the first stage sees of an image."""
        trunk = self.trunk
        return trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(x))))

    def forward(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Mean of the last map, (n, dim)."""
        return self.forward_features(x, wavelengths)

    def forward_features(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Mean of the last map, (n, dim)."""
        return self.feature_maps(x, wavelengths, (-1,))[0].mean((2, 3))

    def feature_maps(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None = None, layers: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        """Outputs of the stages, finest first; see `Backbone`."""
        check_image(x)
        self.bands.check(x.shape[1], wavelengths)
        stages = [getattr(self.trunk, stage) for stage in STAGES]
        return run_stages(stages, self.stem(x), layers, self._checkpointing)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass."""
        self._checkpointing = enable
