"""SoftCon's ResNet-50: torchvision's layout with a first convolution for the bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import timm
import torch

from torchspectral.backbones.base import Backbone, KeyMap, check_image
from torchspectral.backbones.checkpointing import run_stages
from torchspectral.backbones.softcon.bands import Modality, in_steps, softcon_bands
from torchspectral.backbones.softcon.vision import FirstLayer, inflate

STAGES = ("layer1", "layer2", "layer3", "layer4")


class SoftConResNet50(Backbone):
    """ResNet-50 for 13 bands of Sentinel-2 or VV and VH of Sentinel-1; the feature has 2048 values.

    Parameters
    ----------
    modality : {"sentinel-2", "sentinel-1"}

    References
    ----------
    Wang, Albrecht, Zhu, "Multi-label guided soft contrastive learning for efficient Earth observation pretraining",
    IEEE TGRS (2024).
    """

    key_map: ClassVar[KeyMap] = KeyMap(
        prefixes=("module.", "model.", "backbone.", "encoder.", "base_encoder.", "encoder_q."),
    )

    conv1: Any
    bn1: Any
    act1: Any
    maxpool: Any

    def __init__(self, modality: Modality = "sentinel-2") -> None:
        super().__init__()
        self.bands, self.modality = softcon_bands(modality), modality
        made = timm.create_model("resnet50", pretrained=False, in_chans=self.bands.count, num_classes=0)
        for name in ("conv1", "bn1", "act1", "maxpool", *STAGES):
            setattr(self, name, getattr(made, name))
        self.dim, self.map_dims, self.stride = 2048, (256, 512, 1024, 2048), 32
        self._checkpointing = False

    def as_input(
        self,
        x: torch.Tensor,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        valid: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Two standard deviations about the mean as 0..1, in 256 steps; see `bands.in_steps`."""
        seen = x if valid is None else torch.where(valid, x, torch.nan)
        return in_steps(seen, mean, std, self.modality)

    def forward(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Mean of the last map, (n, 2048)."""
        return self.forward_features(x, wavelengths)

    def forward_features(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Mean of the last map, (n, 2048)."""
        return self.feature_maps(x, wavelengths, (-1,))[0].mean((2, 3))

    def feature_maps(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None = None, layers: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        """Outputs of the stages (256, 512, 1024 and 2048 channels)."""
        check_image(x)
        self.bands.check(x.shape[1], wavelengths)
        stem = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        return run_stages([getattr(self, stage) for stage in STAGES], stem, layers, self._checkpointing)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass."""
        self._checkpointing = enable

    def load_vision(self, state: dict[str, Any], first: FirstLayer = "random", *, where: str = "state") -> None:
        """Start from a vision model of the same layout (DINO, three channels); see `SoftConViT.load_vision`.

        Raises
        ------
        BadWeights
        """
        self.load_matched(inflate(state, "conv1.weight", self.conv1.weight, self.bands.names, first), where=where)
