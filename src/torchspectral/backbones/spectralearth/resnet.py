"""Spec. ResNet-50: the spectral adapter before a ResNet-50 without stem, plain and dilated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import timm
import torch
from timm.models.resnet import Bottleneck
from torch import nn

from torchspectral.backbones.base import Backbone, KeyMap, check_image
from torchspectral.backbones.checkpointing import run_stages
from torchspectral.backbones.spectralearth.adapter import CHANNELS, SpectralAdapter
from torchspectral.backbones.spectralearth.bands import BandList, enmap_bands
from torchspectral.backbones.spectralearth.keys import PREFIXES
from torchspectral.errors import BadSettings

STAGES = ("layer1", "layer2", "layer3", "layer4")
WIDTHS = (256, 512, 1024, 2048)
DILATIONS = (1, 2, 4, 8)
"""Of the 3x3 convolutions of each stage, where the stage is dilated instead of strided."""


class SpecResNet50(Backbone):
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
        self.dim, self.map_dims = WIDTHS[-1], WIDTHS
        self.stride = 2 ** sum(not keep for keep in dilated)
        self._checkpointing = False

    def forward(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Class logits (n, num_classes), or the feature where there are no classes."""
        return self.resnet.fc(self.forward_features(x, wavelengths))

    def forward_features(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Mean of the last map, (n, 2048)."""
        return self.feature_maps(x, wavelengths, (-1,))[0].mean((2, 3))

    def feature_maps(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None = None, layers: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        """Outputs of the stages (256, 512, 1024 and 2048 channels)."""
        check_image(x)
        self.bands.check(x.shape[1], wavelengths)
        stages = [getattr(self.resnet, stage) for stage in STAGES]
        return run_stages(stages, self.spectral_adapter(x), layers, self._checkpointing)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass."""
        self._checkpointing = enable


def _without_stem(num_classes: int) -> nn.Module:
    full: Any = timm.create_model("resnet50", pretrained=False, num_classes=num_classes)
    shortcut = nn.Sequential(nn.Conv2d(CHANNELS, WIDTHS[0], 1, 2, bias=False), nn.BatchNorm2d(WIDTHS[0]))
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
