"""UPerNet: pyramid pooling on the coarsest map, a feature pyramid over all, and a fused prediction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import interpolate

from torchspectral.errors import BadInput, BadSettings
from torchspectral.learn.heads.linear import check_widths

SCALES = (1, 2, 3, 6)


class TokenPyramid(nn.Module):
    """Four maps of a transformer, all of one size, as a pyramid: 4 and 2 times finer, as they are, 2 times coarser.

    Parameters
    ----------
    features : int
        Channels of each map; they stay.

    References
    ----------
    Bao et al., "BEiT: BERT pre-training of image transformers", ICLR (2022), segmentation with UPerNet; Li et al.,
    "Exploring plain vision transformer backbones for object detection", ECCV (2022).
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.four = nn.Sequential(
            nn.ConvTranspose2d(features, features, 2, stride=2),
            nn.GroupNorm(1, features),
            nn.GELU(),
            nn.ConvTranspose2d(features, features, 2, stride=2),
        )
        self.two = nn.ConvTranspose2d(features, features, 2, stride=2)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (n, features, rows, cols) of four blocks, shallowest first, as a pyramid, finest first."""
        if len(maps) != 4:
            raise BadInput(f"got {len(maps)} maps, expected those of four blocks")
        coarse = maps[3]
        if min(coarse.shape[-2:]) > 1:
            coarse = nn.functional.max_pool2d(coarse, 2, ceil_mode=True)
        return [self.four(maps[0]), self.two(maps[1]), maps[2], coarse]


class UPerNetHead(nn.Module):
    """Unified perceptual parsing: logits of every pixel from maps of several sizes.

    The coarsest map is pooled to 1, 2, 3 and 6 cells (means), each brought to `width` channels and joined with the map
    by a 3x3 convolution; from there each finer map, brought to `width` channels by 1x1, takes the sum with the one
    above it, upsampled, and a 3x3 convolution. All are brought to the finest size, joined, fused by a 3x3 convolution,
    and classified by 1x1 after dropout. Each convolution but the last has batch normalisation and ReLU.

    Parameters
    ----------
    features : sequence of int
        Channels of the maps, finest first; at least one.
    classes : int
    width : int
        Channels in between (the paper: 512).
    dropout : float
        Of whole channels before the last layer, 0..1.
    scales : sequence of int
        Cells a side of the pooling.

    References
    ----------
    Xiao et al., "Unified perceptual parsing for scene understanding", ECCV (2018); Zhao et al., "Pyramid scene parsing
    network", CVPR (2017); Lin et al., "Feature pyramid networks for object detection", CVPR (2017).
    """

    def __init__(
        self,
        features: Sequence[int],
        classes: int,
        width: int = 512,
        dropout: float = 0.1,
        scales: Sequence[int] = SCALES,
    ) -> None:
        super().__init__()
        if not features or width < 1 or any(s < 1 for s in scales):
            raise BadSettings(f"got {features=}, {width=}, {scales=}, expected at least one map and positive numbers")
        for channels in features:
            check_widths(channels, classes)
        *finer, coarsest = features
        self.pooled = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), _layer(coarsest, width, 1)) for cells in scales
        )
        self.bottleneck = _layer(coarsest + len(scales) * width, width, 3)
        self.lateral = nn.ModuleList(_layer(channels, width, 1) for channels in finer)
        self.smooth = nn.ModuleList(_layer(width, width, 3) for _ in finer)
        self.fuse = _layer(len(features) * width, width, 3)
        self.drop = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[torch.Tensor], size: tuple[int, int] | None = None) -> torch.Tensor:
        """Logits (n, classes, rows, cols) of maps finest first, of the finest's size or resized bilinearly to `size`.

        Raises
        ------
        BadInput
            Not one map for each of `features`.
        """
        if len(maps) != len(self.lateral) + 1:
            raise BadInput(f"got {len(maps)} maps, expected {len(self.lateral) + 1}")
        last = maps[-1]
        levels = [
            self.bottleneck(torch.cat([last, *(_to(branch(last), last) for branch in self.pooled)], 1)),
        ]
        for lateral, x in zip(reversed(self.lateral), reversed(maps[:-1]), strict=True):
            levels.append(lateral(x) + _to(levels[-1], x))
        smoothed = [levels[0], *(s(x) for s, x in zip(reversed(self.smooth), levels[1:], strict=True))]
        finest = smoothed[-1]
        fused = self.fuse(torch.cat([_to(x, finest) for x in reversed(smoothed)], 1))
        logits = self.classify(self.drop(fused))
        if size is None or tuple(logits.shape[-2:]) == tuple(size):
            return logits
        return interpolate(logits, size=size, mode="bilinear", align_corners=False)


class _OverSpace(nn.BatchNorm2d):
    """Batch normalisation that passes on what a single value a channel cannot normalise (one image pooled to 1 x 1)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and x.numel() == x.shape[1]:
            shape = (1, -1, 1, 1)
            return x * self.weight.view(shape) + self.bias.view(shape)
        return super().forward(x)


def _layer(before: int, after: int, size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, size, padding=size // 2, bias=False), _OverSpace(after), nn.ReLU())


def _to(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    size = (int(like.shape[-2]), int(like.shape[-1]))
    return x if tuple(x.shape[-2:]) == size else interpolate(x, size=size, mode="bilinear", align_corners=False)


class LinearMapHead(nn.Module):
    """Linear classifier of every position: maps brought to the finest's size and joined, normalised, 1x1.

    Parameters
    ----------
    features : sequence of int
        Channels of the maps, finest first.
    classes : int
    """

    def __init__(self, features: Sequence[int], classes: int) -> None:
        super().__init__()
        check_widths(sum(features), classes)
        self.norm = nn.BatchNorm2d(sum(features), affine=False, eps=1e-6)
        self.linear = nn.Conv2d(sum(features), classes, 1)
        nn.init.normal_(self.linear.weight, std=0.01)
        if self.linear.bias is not None:
            nn.init.zeros_(self.linear.bias)

    def forward(self, maps: Sequence[torch.Tensor], size: tuple[int, int] | None = None) -> torch.Tensor:
        """Logits (n, classes, rows, cols), resized bilinearly to `size` where it is given."""
        joined = torch.cat([_to(x, maps[0]) for x in maps], 1)
        logits = self.linear(self.norm(joined))
        if size is None or tuple(logits.shape[-2:]) == tuple(size):
            return logits
        return interpolate(logits, size=size, mode="bilinear", align_corners=False)
