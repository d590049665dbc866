"""DeepShare: groups of bands and pseudo-colours through the same branches, then a trunk of their own.

At inference the last upsampling of the branches and the convolution after it, between which nothing happens, are
worked as the one linear map that they are (`joined_tail`), and groups go through the branches as one batch.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from torchspectral.errors import BadSettings
from torchspectral.superresolution.convolution import conv3
from torchspectral.superresolution.groups import gather_groups, mean_of_groups, starts_of

GROUPS_AT_ONCE = 3
"""Groups of an image that go through the branches together at inference: their maps are a quarter of the trunk's."""


class ResBlock(nn.Module):
    """Two 3 x 3 convolutions, a tenth of which is added."""

    def __init__(self, features: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.body = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1), nn.ReLU(True), nn.Conv2d(features, features, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add to a feature map."""
        layers: Any = self.body
        first, relu, second = layers
        return _added(x, conv3(relu(conv3(x, first)), second), self.share)


class ChannelAttention(nn.Module):
    """A gain for each channel from the means of all of them."""

    def __init__(self, features: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(features, features // reduction, 1),
            nn.ReLU(True),
            nn.Conv2d(features // reduction, features, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply a feature map by its gains."""
        gain = self.conv_du(x.mean((-2, -1), keepdim=True))
        return x * gain if torch.is_grad_enabled() else x.mul_(gain)


class ResAttentionBlock(nn.Module):
    """Two 1 x 1 convolutions and channel attention, a tenth of which is added."""

    def __init__(self, features: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.body = nn.Sequential(
            nn.Conv2d(features, features, 1),
            nn.ReLU(True),
            nn.Conv2d(features, features, 1),
            ChannelAttention(features),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add to a feature map."""
        return _added(x, self.body(x), self.share)


class SpatialSpectralBlock(nn.Module):
    """A spatial block, then a spectral one."""

    def __init__(self, features: int, share: float) -> None:
        super().__init__()
        self.spa = ResBlock(features, share)
        self.spc = ResAttentionBlock(features, share)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Both in turn."""
        out: torch.Tensor = self.spc(self.spa(x))
        return out


class SpatialSpectralNetwork(nn.Module):
    """Three blocks and the input."""

    def __init__(self, features: int, share: float) -> None:
        super().__init__()
        self.net1 = SpatialSpectralBlock(features, share)
        self.net2 = SpatialSpectralBlock(features, share)
        self.net3 = SpatialSpectralBlock(features, share)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add to a feature map."""
        return _added(x, self.net3(self.net2(self.net1(x))), 1.0)


class Branch(nn.Module):
    """Head, blocks, upsampling, and a tail where `outputs` is given."""

    def __init__(self, channels: int, features: int, scale: int, share: float, outputs: int = 0) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, features, 3, padding=1)
        self.body = SpatialSpectralNetwork(features, share)
        layers: list[nn.Module] = []
        for factor in steps_of(scale):
            layers += [nn.Conv2d(features, factor**2 * features, 3, padding=1), nn.PixelShuffle(factor)]
        self.upsample = nn.Sequential(*layers)
        if outputs:
            self.tail = nn.Conv2d(features, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Work on a batch, (n, channels, y, x)."""
        x = self.body(conv3(x, self.head))
        layers: list[Any] = list(self.upsample)
        tail = getattr(self, "tail", None)
        if tail is not None and len(layers) >= 2 and not torch.is_grad_enabled() and not _autocast(x):
            *layers, last, shuffle = layers
            x = _run(x, layers)
            return joined_tail(x, last, int(shuffle.upscale_factor), tail)
        x = _run(x, layers)
        return x if tail is None else conv3(x, tail)


class DeepShare(nn.Module):
    """The network; names of layers are those of the published checkpoints.

    Parameters
    ----------
    bands : int
        Spectral bands, at least `n_subs`.
    n_subs, n_ovls : int
        Bands in a group, and bands that neighbouring groups share. The RGB task needs groups of 8.
    n_feats : int
        Channels, at least 16.
    scale : int
        2, 4, 8, .. or 6.
    res_scale : float
        Share of a residual block that is added.

    Raises
    ------
    BadSettings

    References
    ----------
    Li, Dai, Konukoglu, Van Gool, "Hyperspectral image super-resolution with spectral mixup and heterogeneous datasets",
    arXiv 2101.07589 (2021).
    """

    def __init__(
        self,
        bands: int,
        n_subs: int = 8,
        n_ovls: int = 2,
        n_feats: int = 256,
        scale: int = 4,
        res_scale: float = 0.1,
    ) -> None:
        super().__init__()
        if n_feats < 16:
            raise BadSettings(f"got n_feats={n_feats}, expected at least 16: channel attention keeps a sixteenth")
        if scale < 2 or scale % 2:
            raise BadSettings(f"got scale {scale}, expected 2, 4, 6, 8 or another power of 2")
        starts = starts_of(bands, n_subs, n_ovls)
        steps_of(scale // 2)
        self.bands, self.n_subs, self.n_ovls, self.scale, self.starts = bands, n_subs, n_ovls, scale, starts
        self.branch1 = Branch(n_subs, n_feats, scale // 2, res_scale)
        self.branch2 = Branch(n_feats, n_feats, 2, res_scale, n_subs)
        self.trunk = Branch(bands, n_feats, 1, res_scale)
        self.skip_conv = nn.Conv2d(bands, n_feats, 3, padding=1)
        self.final = nn.Conv2d(n_feats, bands, 3, padding=1)
        self.trunk_RGB = Branch(n_subs, n_feats, 1, res_scale)
        self.skip_conv_RGB = nn.Conv2d(n_subs, n_feats, 3, padding=1)
        self.final_RGB = nn.Conv2d(n_feats, n_subs, 3, padding=1)

    def forward(
        self, x: torch.Tensor, lms: torch.Tensor, modality: Literal["spectral", "rgb"] = "spectral"
    ) -> torch.Tensor:
        """Super-resolve.

        Parameters
        ----------
        x : Tensor, shape (n, bands, y, x), or (n, n_subs, y, x) for "rgb"
            About 0..1.
        lms : Tensor, shape (n, as `x`, scale y, scale x)
            `x`, enlarged bicubically.
        modality : {"spectral", "rgb"}

        Returns
        -------
        Tensor of the shape of `lms`

        Raises
        ------
        BadSettings
            Another modality.
        """
        if modality == "spectral":
            n = x.shape[0]
            groups = gather_groups(_last(x), self.starts, self.n_subs)
            # Without a gradient as many groups at a time as take no more room than the trunk does.
            size = groups.shape[0] if torch.is_grad_enabled() else GROUPS_AT_ONCE * n
            made = torch.cat([self.branch2(self.branch1(part)) for part in groups.split(size)])
            whole = mean_of_groups(made, self.starts, self.bands, n)
            return self._end(whole, lms, self.trunk, self.skip_conv, self.final)
        if modality == "rgb":
            whole = self.branch2(self.branch1(_last(x)))
            return self._end(whole, lms, self.trunk_RGB, self.skip_conv_RGB, self.final_RGB)
        raise BadSettings(f"got modality {modality!r}, expected spectral or rgb")

    @staticmethod
    def _end(
        whole: torch.Tensor, lms: torch.Tensor, trunk: nn.Module, skip: nn.Conv2d, final: nn.Conv2d
    ) -> torch.Tensor:
        features = trunk(_last(whole))
        added = conv3(_last(lms), skip)
        out: torch.Tensor = conv3(features + added if torch.is_grad_enabled() else features.add_(added), final)
        return out


def joined_tail(x: torch.Tensor, up: nn.Conv2d, factor: int, tail: nn.Conv2d) -> torch.Tensor:
    """``tail(pixel_shuffle(up(x), factor))`` without the wide map in between.

    Each of the factor^2 x outputs values that belong to a coarse pixel is a linear function of the 5 x 5 coarse pixels
    around it: one convolution. Only at the border, where the tail sees zeros in place of upsampled values, it is not;
    these pixels are made the long way, from the coarse pixels within 2 of the border.

    Parameters
    ----------
    x : Tensor, shape (n, features, y, x)
    up : torch.nn.Conv2d
        3 x 3, to factor^2 times as many channels.
    factor : int
        At least 2.
    tail : torch.nn.Conv2d
        3 x 3.

    Returns
    -------
    Tensor, shape (n, outputs, factor y, factor x)
    """
    height, width = x.shape[-2:]
    if min(height, width) < 4:
        return conv3(F.pixel_shuffle(up(x), factor), tail)
    weight, bias = _joined(up, factor, tail)
    out = F.pixel_shuffle(F.conv2d(x, weight, bias, padding=2), factor)

    def long_way(part: torch.Tensor) -> torch.Tensor:
        return conv3(F.pixel_shuffle(conv3(part, up), factor), tail)

    # Three coarse lines suffice: the outermost fine line needs two of them upsampled, and these the third.
    out[..., 0, :] = long_way(x[..., :3, :])[..., 0, :]
    out[..., -1, :] = long_way(x[..., -3:, :])[..., -1, :]
    out[..., :, 0] = long_way(x[..., :, :3])[..., :, 0]
    out[..., :, -1] = long_way(x[..., :, -3:])[..., :, -1]
    return out


def _joined(up: nn.Conv2d, factor: int, tail: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (outputs factor^2, features, 5, 5) and bias of the joined convolution, in the order of a pixel shuffle."""
    features = up.weight.shape[1]
    outputs = tail.weight.shape[0]
    first = up.weight.view(-1, factor, factor, features, 3, 3)
    weight = up.weight.new_zeros(outputs, factor, factor, features, 5, 5)
    offset = up.weight.new_zeros(outputs, factor, factor)
    starts = up.bias.view(-1, factor, factor) if up.bias is not None else None
    for phase_y in range(factor):
        for phase_x in range(factor):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    (move_y, at_y), (move_x, at_x) = divmod(phase_y + dy, factor), divmod(phase_x + dx, factor)
                    taps = tail.weight[:, :, dy + 1, dx + 1]
                    part = torch.einsum("oc,cfyx->ofyx", taps, first[:, at_y, at_x])
                    rows, cols = slice(move_y + 1, move_y + 4), slice(move_x + 1, move_x + 4)
                    weight[:, phase_y, phase_x, :, rows, cols] += part
                    if starts is not None:
                        offset[:, phase_y, phase_x] += taps @ starts[:, at_y, at_x]
    if tail.bias is not None:
        offset += tail.bias[:, None, None]
    return weight.view(-1, features, 5, 5), offset.reshape(-1)


def steps_of(scale: int) -> list[int]:
    """Steps of an upsampling: 3, or twos.

    Raises
    ------
    BadSettings
    """
    if scale == 3:
        return [3]
    if scale < 1 or scale & (scale - 1):
        raise BadSettings(f"got a branch that enlarges {scale} times, expected 3 or a power of 2")
    return [2] * (scale.bit_length() - 1)


def _run(x: torch.Tensor, layers: list[nn.Module]) -> torch.Tensor:
    for layer in layers:
        x = conv3(x, layer) if isinstance(layer, nn.Conv2d) else _last(layer(x))
    return x


def _added(x: torch.Tensor, more: torch.Tensor, share: float) -> torch.Tensor:
    """``x + share * more``."""
    if torch.is_grad_enabled():
        return x + more * share
    return more.mul_(share).add_(x) if share != 1.0 else more.add_(x)


def _last(x: torch.Tensor) -> torch.Tensor:
    return x if torch.is_grad_enabled() else x.contiguous(memory_format=torch.channels_last)


def _autocast(x: torch.Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)
