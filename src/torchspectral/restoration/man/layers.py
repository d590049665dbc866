"""MAN: recurrence along the bands, the layers around it, skips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from torchspectral.restoration.volumes import Ground, channels_last, plain_mean, upsample

BLOCK = 1 << 20
"""Values of one intermediate of a block of pixels that stays in the cache."""


def recur(candidate: torch.Tensor, gate: torch.Tensor, backward: bool) -> torch.Tensor:
    """``h_t = f_t h_(t-1) + (1 - f_t) z_t`` along the bands from zero, or from the last band to the first.

    Parameters
    ----------
    candidate, gate : Tensor, shape (n, band, ...)
        z and f, f in 0..1. Without gradients z is overwritten by the result.
    """
    z, f = candidate.unbind(1), gate.unbind(1)
    order = range(len(z) - 1, -1, -1) if backward else range(len(z))
    if torch.is_grad_enabled() and (candidate.requires_grad or gate.requires_grad):
        states: list[torch.Tensor] = []
        for band in order:
            before = states[-1] if states else torch.zeros_like(z[band])
            states.append(torch.lerp(z[band], before, f[band]))
        return torch.stack(states[::-1] if backward else states, dim=1)
    last: torch.Tensor | None = None
    for band in order:
        if last is None:
            z[band].mul_(1 - f[band])
        else:
            torch.lerp(z[band], last, f[band], out=z[band])
        last = z[band]
    return candidate


def blockwise(x: torch.Tensor, apply: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Apply a function that works pixel by pixel, all bands of a pixel together, in blocks of pixels.

    Parameters
    ----------
    x : Tensor, shape (n, channel, band, y, x)
    apply : callable
        Of a tensor (n, band, pixel, channel); returns one of the same shape.
    """
    n, c, d, h, w = x.shape
    pixels = channels_last(x).permute(0, 2, 3, 4, 1).reshape(n, d, h * w, c)
    if torch.is_grad_enabled():
        return apply(pixels).view(n, d, h, w, c).permute(0, 4, 1, 2, 3)
    out = torch.empty_like(pixels)
    for part in _pixel_blocks(h * w, n * d * c, x.device.type):
        out[:, :, part] = apply(pixels[:, :, part].contiguous())
    return out.view(n, d, h, w, c).permute(0, 4, 1, 2, 3)


def _pixel_blocks(pixels: int, depth: int, device: str) -> Iterator[slice]:
    step = max(1, (BLOCK if device == "cpu" else 64 * BLOCK) // depth)
    for start in range(0, pixels, step):
        yield slice(start, min(start + step, pixels))


def matrix(layer: nn.Conv3d) -> torch.Tensor:
    """Weight of a 1 x 1 x 1 convolution as a matrix (in, out)."""
    return layer.weight[:, :, 0, 0, 0].T


def point(inputs: int, outputs: int, bias: bool = True) -> nn.Conv3d:
    """1 x 1 x 1 convolution."""
    return nn.Conv3d(inputs, outputs, 1, bias=bias)


def linear(x: torch.Tensor, layer: nn.Conv3d) -> torch.Tensor:
    """A 1 x 1 x 1 convolution on a tensor with the channels last."""
    return functional.linear(x, layer.weight[:, :, 0, 0, 0], layer.bias)


class MLP(nn.Module):
    """Two pixel-wise layers with a tanh between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.w_1 = point(channels, channels)
        self.w_2 = point(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tensor with the channels last, (..., channel)."""
        hidden = linear(x, self.w_1)
        return linear(hidden.tanh() if torch.is_grad_enabled() else hidden.tanh_(), self.w_2)


def squashed(x: torch.Tensor, kind: Literal["tanh", "sigmoid"]) -> torch.Tensor:
    """Tanh or sigmoid, in place without gradients."""
    if torch.is_grad_enabled():
        return torch.tanh(x) if kind == "tanh" else torch.sigmoid(x)
    return x.tanh_() if kind == "tanh" else x.sigmoid_()


class MHRSA(nn.Module):
    """Recurrence along the bands, half of the channels in each direction.

    Parameters
    ----------
    channels : int
        Even.
    reverse : bool
        The first half runs from the last band to the first.
    """

    def __init__(self, channels: int, reverse: bool) -> None:
        super().__init__()
        self.ffn1 = MLP(channels)
        self.ffn2 = MLP(channels)
        self.reverse = reverse

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of pixels (n, band, pixel, channel)."""
        # The first layers of both are one product on the same pixels.
        one, two = self.ffn1.w_1, self.ffn2.w_1
        assert one.bias is not None and two.bias is not None
        weight = torch.cat([one.weight, two.weight])[:, :, 0, 0, 0]
        hidden = squashed(functional.linear(x, weight, torch.cat([one.bias, two.bias])), "tanh")
        left, right = hidden.chunk(2, dim=-1)
        z, f = squashed(linear(left, self.ffn1.w_2), "tanh"), squashed(linear(right, self.ffn2.w_2), "sigmoid")
        half = x.shape[-1] // 2
        first = recur(z[..., :half], f[..., :half], self.reverse)
        second = recur(z[..., half:], f[..., half:], not self.reverse)
        return torch.cat([first, second], dim=-1) if torch.is_grad_enabled() else z


class PSCA(nn.Module):
    """Progressive channel attention, pixel by pixel."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.w_1 = point(channels, hidden, bias=False)
        self.w_2 = point(hidden, channels, bias=False)
        self.w_3 = point(channels, channels, bias=False)
        nn.init.zeros_(self.w_3.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of pixels (n, band, pixel, channel)."""
        u = torch.addcmul(x, linear(x, self.w_3), x)
        return linear(functional.gelu(linear(u, self.w_1)), self.w_2)


class UpConv(nn.Module):
    """Twice the rows and columns, then a convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor, ground: Ground | None = None) -> torch.Tensor:
        """Volume (n, outputs, band, 2 y, 2 x)."""
        out: torch.Tensor = self.conv3d(upsample(x, ground))
        return out


class MAB(nn.Module):
    """Mixed attention block: convolution, recurrence along bands, channel attention.

    Parameters
    ----------
    inputs, outputs : int
    scale : {"same", "down", "up"}
    reverse : bool
        See `MHRSA`.
    """

    def __init__(self, inputs: int, outputs: int, reverse: bool, scale: Literal["same", "down", "up"] = "same") -> None:
        super().__init__()
        self.scale = scale
        stride = (1, 2, 2) if scale == "down" else 1
        self.conv: nn.Module = (
            UpConv(inputs, outputs)
            if scale == "up"
            else nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        )
        self.inter_sa = MHRSA(outputs, reverse)
        self.intra_sa = PSCA(outputs, 2 * outputs)

    def forward(self, x: torch.Tensor, ground: Ground | None = None) -> torch.Tensor:
        """Volume (n, outputs, band, y', x')."""
        x = self.conv(x, ground) if self.scale == "up" else self.conv(x)
        return blockwise(x, lambda pixels: self.intra_sa(self.inter_sa(pixels)))


class Skip(nn.Module):
    """Attentive skip connection: a weight for each value mixes the decoder with the encoder.

    Parameters
    ----------
    channels : int
    name : str
        Of the layers in the checkpoints: "weight" (v2, leaky) or "conv_weight" (v1, tanh).
    """

    def __init__(self, channels: int, name: Literal["weight", "conv_weight"]) -> None:
        super().__init__()
        between: nn.Module = nn.LeakyReLU(0.01) if name == "weight" else nn.Tanh()
        self.name = name
        self.add_module(
            name, nn.Sequential(point(2 * channels, channels), between, nn.Conv3d(channels, channels, 3, padding=1))
        )

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``(1 - w) x + w y`` of two volumes (n, channel, band, y, x)."""
        first, between, last = self.get_submodule(self.name).children()
        assert isinstance(first, nn.Conv3d)
        # The joined volume is never made: its layer is the sum of one on each part.
        channels = x.shape[1]
        left = channels_last(x).permute(0, 2, 3, 4, 1)
        right = channels_last(y).permute(0, 2, 3, 4, 1)
        weight = first.weight[:, :, 0, 0, 0]
        joined = functional.linear(left, weight[:, :channels], first.bias)
        rows, more = joined.reshape(-1, weight.shape[0]), (right.reshape(-1, channels), weight[:, channels:].T)
        kept = torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type)
        rows = torch.addmm(rows, *more) if kept else rows.addmm_(*more)
        joined = rows.view(joined.shape)
        share = last(between(joined.permute(0, 4, 1, 2, 3)))
        return torch.lerp(x, y, squashed(share, "sigmoid"))


class SCA(nn.Module):
    """Channels weighed by the mean over bands and pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sca = nn.Sequential(nn.AdaptiveAvgPool3d(1), point(channels, channels))

    def forward(self, x: torch.Tensor, ground: Ground | None = None) -> torch.Tensor:
        """Volume of the same shape, (n, channel, band, y, x)."""
        mean = (ground.mean(x) if ground is not None else plain_mean(x)).mean(1)
        layer = self.sca[1]
        assert isinstance(layer, nn.Conv3d)
        gain = torch.sigmoid(linear(mean, layer))[:, :, None, None, None]
        return x * gain if torch.is_grad_enabled() else x.mul_(gain)


class MABv1(nn.Module):
    """First version of the block: one direction, and a channel attention over the whole image.

    Parameters
    ----------
    channels : int
    reverse : bool
        From the last band to the first.
    both : bool
        One set of candidates with a gate for each direction; the results are added.
    """

    def __init__(self, channels: int, reverse: bool = False, both: bool = False) -> None:
        super().__init__()
        self.sca = SCA(channels)
        self.ffn_f = MLP(channels)
        self.ffn_w = MLP(channels)
        if both:
            self.ffn_w2 = MLP(channels)
        self.reverse, self.both = reverse, both

    def forward(self, x: torch.Tensor, ground: Ground | None = None) -> torch.Tensor:
        """Volume of the same shape, (n, channel, band, y, x)."""
        out: torch.Tensor = self.sca(blockwise(x, self.pixels), ground)
        return out

    def pixels(self, x: torch.Tensor) -> torch.Tensor:
        """Recurrence of pixels (n, band, pixel, channel)."""
        z = squashed(self.ffn_f(x), "tanh")
        if not self.both:
            return recur(z, squashed(self.ffn_w(x), "sigmoid"), self.reverse)
        there = recur(z.clone(), squashed(self.ffn_w(x), "sigmoid"), False)
        return there + recur(z, squashed(self.ffn_w2(x), "sigmoid"), True)
