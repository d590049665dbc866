"""Heads that give classes of pixels from one feature map."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import interpolate

from torchspectral.errors import BadSettings
from torchspectral.learn.heads.linear import check_widths


class ConvHead(nn.Module):
    """Doubles the size of a token map until it has the image's: upsampling and convolution by turns.

    Each of the log2(patch) steps is bilinear upsampling and a 3x3 convolution, with batch normalisation and ReLU but
    for the last; widths are 128, 64, .. and the classes.

    Parameters
    ----------
    features : int
        Channels of the map.
    classes : int
    patch : int
        Pixels a side of a token, a power of 2 above 1.
    width : int
        Channels after the first step.

    References
    ----------
    Braham et al., "SpectralEarth: Training Hyperspectral Foundation Models at Scale", IEEE JSTARS (2025).
    """

    def __init__(self, features: int, classes: int, patch: int = 4, width: int = 128) -> None:
        super().__init__()
        check_widths(features, classes)
        if patch < 2 or patch & (patch - 1):
            raise BadSettings(f"patch={patch}, expected a power of 2 above 1: the head doubles the size in each step")
        steps = patch.bit_length() - 1
        widths = [features, *(max(width >> i, 1) for i in range(steps - 1)), classes]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            layers += [_double(), nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.segmentation_conv = nn.Sequential(*layers, _double(), nn.Conv2d(widths[-2], classes, 3, padding=1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes, rows * patch, cols * patch) of a map (n, features, rows, cols)."""
        return self.segmentation_conv(features)


def _double() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)


class FCNHead(nn.Sequential):
    """3x3 convolution to 256 channels, batch normalisation, ReLU, 1x1 convolution to the classes.

    Parameters
    ----------
    features : int
        Channels of the map.
    classes : int
    width : int
        Channels between.

    References
    ----------
    Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation", CVPR (2015).
    """

    def __init__(self, features: int = 2048, classes: int = 2, width: int = 256) -> None:
        check_widths(features, classes)
        super().__init__(
            nn.Conv2d(features, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, features: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
        """Logits (n, classes, rows, cols) of a map, resized bilinearly to `size` where it is given."""
        logits = super().forward(features)
        if size is None or tuple(logits.shape[-2:]) == tuple(size):
            return logits
        return interpolate(logits, size=size, mode="bilinear", align_corners=False)
