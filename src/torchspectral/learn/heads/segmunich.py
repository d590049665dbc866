"""Heads of SpectralGPT for segmentation (SegMunich) and change (OSCD): a pyramid from one map, pooled and fused."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from torchspectral.errors import BadInput

LEVELS = ((512, 256, 8), (512, 512, 4), (1024, 1024, 2), (2048, 2048, 1))  # middle and last channels, upsampling
WIDTH = 256


def _fuse(before: int, dropout: float, groups: int = 16) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, WIDTH, 1), nn.GroupNorm(groups, WIDTH), nn.GELU(), nn.Dropout(dropout))


def _resized(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(x, size, mode="bilinear", align_corners=True)


class PyramidPooling(nn.Module):
    """Maxima over grids of 1, 2, 3 and 6 cells beside the map itself, fused."""

    def __init__(self, channels: int, dropout: float, bins: tuple[int, ...] = (1, 2, 3, 6)) -> None:
        super().__init__()
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveMaxPool2d(cells), nn.Conv2d(channels, WIDTH, 1)) for cells in bins
        )
        self.final = _fuse(channels + len(bins) * WIDTH, dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fused map (n, 256, rows, cols)."""
        pooled = [_resized(branch(x), (x.shape[-2], x.shape[-1])) for branch in self.psp_modules]
        return self.final(torch.cat([*pooled, x], dim=1))


class PyramidDecoder(nn.Module):
    """Top-down fusion of four maps, coarsest first pooled; names as in the published files."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        finest, fine, coarse, coarsest = (last for _, last, _ in LEVELS)
        self.PPMHead = PyramidPooling(coarsest, dropout)
        self.Conv_fuse1, self.Conv_fuse1_ = _fuse(coarse, dropout), _fuse(WIDTH, dropout)
        self.Conv_fuse2, self.Conv_fuse2_ = _fuse(fine, dropout), _fuse(WIDTH, dropout)
        self.Conv_fuse3, self.Conv_fuse3_ = _fuse(finest, dropout), _fuse(WIDTH, dropout)
        self.fuse_all = _fuse(4 * WIDTH, dropout)
        self.conv_x1 = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Fused map of the finest size from maps finest first."""
        finest, fine, coarse, coarsest = maps
        first = self.PPMHead(coarsest)
        second = self.Conv_fuse1_(self.conv_x1(_to(first, coarse)) + self.Conv_fuse1(coarse))
        third = self.Conv_fuse2_(_to(second, fine) + self.Conv_fuse2(fine))
        fourth = self.Conv_fuse3_(_to(third, finest) + self.Conv_fuse3(finest))
        return self.fuse_all(torch.cat([_to(level, finest) for level in (first, second, third, fourth)], dim=1))


def _to(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return _resized(x, (like.shape[-2], like.shape[-1]))


class SegMunichHead(nn.Module):
    """Classes of every pixel from the maps of each group of bands.

    Parameters
    ----------
    dim : int
        Channels of a map.
    groups : int
        Maps of groups of bands, which a linear layer joins.
    num_classes : int
        13 for SegMunich.
    dropout : float

    References
    ----------
    Hong et al., "SpectralGPT", IEEE TPAMI 46(8) (2024); pyramid pooling: Zhao et al., CVPR (2017).
    """

    def __init__(self, dim: int = 768, groups: int = 4, num_classes: int = 13, dropout: float = 0.5) -> None:
        super().__init__()
        self.groups = groups
        self.cls_seg = nn.Sequential(nn.Conv2d(WIDTH, num_classes, 3, padding=1))
        self.decoder = PyramidDecoder(dropout)
        self.conv0, self.conv1, self.conv2, self.conv3 = (_branch(dim, *level, dropout) for level in LEVELS)
        self.fc = nn.Sequential(nn.Linear(groups, 1))

    def join(self, maps: torch.Tensor) -> torch.Tensor:
        """One map (n, dim, rows, cols) from those of the groups (n, groups, dim, rows, cols).

        Raises
        ------
        BadInput
        """
        if maps.ndim != 5 or maps.shape[1] != self.groups:
            raise BadInput(
                f"got maps of shape {tuple(maps.shape)}, expected (images, {self.groups} groups, channels, rows, columns)"
            )
        return self.fc(maps.movedim(1, -1)).squeeze(-1)

    def decode(self, joined: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes, 8 rows, 8 cols) from one map."""
        return self.cls_seg(
            self.decoder([branch(joined) for branch in (self.conv0, self.conv1, self.conv2, self.conv3)])
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes, 8 rows, 8 cols) from maps (n, groups, dim, rows, cols), taken before the last norm."""
        return self.decode(self.join(maps))


class OSCDHead(SegMunichHead):
    """Change between two dates: the same head on the difference of their joined maps.

    Parameters
    ----------
    dim, groups, dropout
        See `SegMunichHead`.
    num_classes : int
        2: unchanged, changed.
    """

    def __init__(self, dim: int = 768, groups: int = 4, num_classes: int = 2, dropout: float = 0.5) -> None:
        super().__init__(dim, groups, num_classes, dropout)

    def forward(self, maps: torch.Tensor, later: torch.Tensor | None = None) -> torch.Tensor:
        """Logarithms of probabilities (n, classes, 8 rows, 8 cols) from the maps of the first and the second date."""
        if later is None:
            raise BadInput("got maps of one date, expected those of two")
        return self.decode(self.join(maps) - self.join(later)).log_softmax(dim=1)


def change_class_weights(changed: int, pixels: int, modifier: float = 10.0) -> torch.Tensor:
    """Weights of unchanged and changed pixels in the loss, as the published code has them.

    Parameters
    ----------
    changed, pixels : int
        Changed pixels of the training set, and all.
    modifier : float
        How much more a missed change costs.

    Returns
    -------
    Tensor (2,)

    Raises
    ------
    BadInput
    """
    if not 0 <= changed <= pixels or pixels < 1:
        raise BadInput(f"got {changed} changed of {pixels} pixels, expected a part of at least 1")
    return torch.tensor([modifier * 2 * changed / pixels, 2 * (pixels - changed) / pixels])


def _branch(dim: int, middle: int, last: int, upsampling: int, dropout: float) -> nn.Sequential:
    parts: list[nn.Module] = [nn.Conv2d(dim, middle, 1), nn.GroupNorm(32, middle), nn.GELU()]
    if upsampling > 1:
        parts.append(nn.ConvTranspose2d(middle, last, upsampling, stride=upsampling))
    return nn.Sequential(*parts, nn.Dropout(dropout))
