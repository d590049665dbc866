"""Spec. ResNet-50: the spectral adapter before a ResNet-50 without stem, plain and dilated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import timm
import torch
from timm.models.resnet import Bottleneck
from torch import nn

from torchspectral.backbones.base import KeyMap
from torchspectral.backbones.spectralearth.adapter import CHANNELS, SpectralAdapter
from torchspectral.backbones.spectralearth.bands import BandList, enmap_bands
from torchspectral.backbones.spectralearth.keys import PREFIXES
from torchspectral.backbones.staged import STAGES, WIDTHS_50, StagedBackbone
from torchspectral.errors import BadSettings

DILATIONS = (1, 2, 4, 8)
"""Of the 3x3 convolutions of each stage, where the stage is dilated instead of strided."""


class SpecResNet50(StagedBackbone):
    """Spec. ResNet-50 for any number of bands from 75; 24.2 M parameters.

    The first block of the first stage takes the adapter's 128 channels through 256 to 256 with stride 2; all other
    blocks are those of timm's ResNet-50. There is no stem and no pooling before the last map: stride 16.

    Parameters
    ----------
    num_classes : int
        Outputs of ``resnet.fc``; 0: `forward` returns the feature.
    dilated : sequence of 4 bool
        Stages that keep their resolution: stride 1, and 3x3 convolutions with dilation 1, 2, 4, 8. All four: maps as
        large as the image, of 2048 channels (134 MB an image of 128 x 128 pixels in float32).
    band_list : {"enmap-202", "enmap-202-csv"}
        Which 202 bands ``bands`` declares; see `spectralearth.bands`.

    References
    ----------
    Braham et al., "SpectralEarth: Training Hyperspectral Foundation Models at Scale", IEEE JSTARS (2025).
    """

    key_map: ClassVar[KeyMap] = KeyMap(prefixes=PREFIXES, optional=(r"resnet\.fc\..*", r".*num_batches_tracked"))

    resnet: Any

    def __init__(
        self,
        num_classes: int = 0,
        dilated: Sequence[bool] = (False, False, False, False),
        band_list: BandList = "enmap-202",
    ) -> None:
        super().__init__()
        if len(dilated) != len(STAGES):
            raise BadSettings(f"dilated has {len(dilated)} values, expected one for each of the {len(STAGES)} stages")
        self.spectral_adapter = SpectralAdapter()
        self.resnet = _without_stem(num_classes)
        for stage, dilation, keep in zip(STAGES, DILATIONS, dilated, strict=True):
            if keep:
                _dilate(getattr(self.resnet, stage), dilation)
        self.bands = enmap_bands(band_list)
        self.dim, self.map_dims = WIDTHS_50[-1], WIDTHS_50
        self.stride = 2 ** sum(not keep for keep in dilated)

    @property
    def trunk(self) -> Any:
        """The stages and the classifier."""
        return self.resnet

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """The spectral adapter."""
        return self.spectral_adapter(x)

    def forward(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Class logits (n, num_classes), or the feature where there are no classes."""
        return self.resnet.fc(self.forward_features(x, wavelengths))


def _without_stem(num_classes: int) -> nn.Module:
    full: Any = timm.create_model("resnet50", pretrained=False, num_classes=num_classes)
    shortcut = nn.Sequential(nn.Conv2d(CHANNELS, WIDTHS_50[0], 1, 2, bias=False), nn.BatchNorm2d(WIDTHS_50[0]))
    first = Bottleneck(CHANNELS, 64, stride=2, downsample=shortcut, base_width=256)
    for module in first.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    resnet = nn.Module()
    resnet.layer1 = nn.Sequential(first, *list(full.layer1)[1:])
    resnet.layer2, resnet.layer3, resnet.layer4, resnet.fc = full.layer2, full.layer3, full.layer4, full.fc
    return resnet


def _dilate(stage: nn.Module, dilation: int) -> None:
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)
