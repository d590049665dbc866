"""SoftCon's ResNet-50: torchvision's layout with a first convolution for the bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import timm
import torch

from torchspectral.backbones.base import KeyMap
from torchspectral.backbones.softcon.bands import Modality, in_steps, softcon_bands
from torchspectral.backbones.softcon.vision import FirstLayer, inflate
from torchspectral.backbones.staged import STAGES, WIDTHS_50, StagedBackbone


class SoftConResNet50(StagedBackbone):
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
        self.dim, self.map_dims, self.stride = WIDTHS_50[-1], WIDTHS_50, 32

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

    def load_vision(self, state: dict[str, Any], first: FirstLayer = "random", *, where: str = "state") -> None:
        """Start from a vision model of the same layout (DINO, three channels); see `SoftConViT.load_vision`.

        Raises
        ------
        BadWeights
        """
        self.load_matched(inflate(state, "conv1.weight", self.conv1.weight, self.bands.names, first), where=where)
