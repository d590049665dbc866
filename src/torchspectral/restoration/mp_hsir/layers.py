"""MP-HSIR: layers that several parts share. Features are (n, y, x, channel) in memory, which every layer likes best."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

HALVES = (torch.float16, torch.bfloat16)


def pointwise(x: torch.Tensor, convolution: nn.Conv2d) -> torch.Tensor:
    """A 1 x 1 convolution of (n, y, x, channel)."""
    return functional.linear(x, convolution.weight[:, :, 0, 0], convolution.bias)


def convolved(x: torch.Tensor, convolution: nn.Module) -> torch.Tensor:
    """A convolution of (n, y, x, channel)."""
    out: torch.Tensor = convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return out


class ChannelNorm(nn.Module):
    """Layer norm over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (n, y, x, channel)."""
        out: torch.Tensor = self.body(x)
        return out


class DropPath(nn.Module):
    """Leave a residual branch out for some samples while training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branch, zero for a share `rate` of the samples and the rest made up for it."""
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * (x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep) / keep)


class ConvolvedFeedForward(nn.Module):
    """Gated feed-forward network with a depth-wise convolution; GELU on the first half gates the second."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (n, y, x, channel) to the same."""
        gate, value = convolved(pointwise(x, self.project_in), self.dwconv).chunk(2, dim=-1)
        return pointwise(functional.gelu(gate) * value, self.project_out)


def channel_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, temperature: torch.Tensor, project_out: nn.Conv2d
) -> torch.Tensor:
    """Attention between channels, projected.

    Normalising queries and keys along pixels divides their small product by the norms, and the output projection is a
    matrix on the attention's matrix: no full-size intermediate but the products themselves.

    Parameters
    ----------
    q, k, v : Tensor, shape (n, pixel, channel)
        `k` and `v` may have n = 1.
    temperature : Tensor, shape (heads, 1, 1)
    project_out : Conv2d
        1 x 1, without bias.

    Returns
    -------
    Tensor, shape (n, pixel, channel)
    """
    heads, channels = temperature.shape[0], q.shape[-1]
    width = channels // heads
    if q.dtype in HALVES or torch.is_autocast_enabled(q.device.type):  # sums of products would overflow
        q, k = functional.normalize(q, dim=1), functional.normalize(k, dim=1)
        norms = None
    else:
        sizes = [(t * t).sum(dim=1).clamp_min(1e-24).sqrt() for t in (q, k)]
        norms = sizes[0].view(-1, heads, width, 1) * sizes[1].view(-1, heads, 1, width)
    n = max(q.shape[0], k.shape[0])
    cuts = [slice(h * width, (h + 1) * width) for h in range(heads)]
    keys = k.expand(n, -1, -1)
    gram = torch.stack([q[..., cut].transpose(1, 2) @ keys[..., cut] for cut in cuts], dim=1)
    if norms is not None:
        gram = gram / norms
    attention = torch.softmax(gram * temperature, dim=-1)
    out = project_out.weight.view(channels, heads, width).transpose(0, 1)
    mixed = (out.to(attention.dtype) @ attention).transpose(1, 2).reshape(n, channels, channels)
    return v @ mixed.transpose(1, 2).to(v.dtype)


class ChannelAttention(nn.Module):
    """Self-attention between channels, with the pixels as features."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (n, y, x, channel) to the same."""
        n, rows, cols, channels = x.shape
        qkv = convolved(pointwise(x, self.qkv), self.qkv_dwconv).reshape(n, rows * cols, 3 * channels)
        q, k, v = qkv.chunk(3, dim=-1)
        return channel_attention(q, k, v, self.temperature, self.project_out).view(n, rows, cols, channels)


class CrossAttention(nn.Module):
    """Attention of one map's channels to another's."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.kv = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.kv_dwconv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels, bias=False)
        self.q = nn.Conv2d(channels, channels, 1, bias=False)
        self.q_dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Queries from `x` (n, y, x, channel), keys and values from `other` (1 or n, y, x, channel)."""
        n, rows, cols, channels = x.shape
        kv = convolved(pointwise(other, self.kv), self.kv_dwconv).reshape(other.shape[0], rows * cols, 2 * channels)
        q = convolved(pointwise(x, self.q), self.q_dwconv).reshape(n, rows * cols, channels)
        k, v = kv.chunk(2, dim=-1)
        return channel_attention(q, k, v, self.temperature, self.project_out).view(n, rows, cols, channels)


class Downsample(nn.Module):
    """Half the size, twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (n, y, x, channel) to (n, y/2, x/2, 2 channel)."""
        return convolved(x, self.body).contiguous()


class Upsample(nn.Module):
    """Twice the size, half the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False), nn.PixelShuffle(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (n, y, x, channel) to (n, 2 y, 2 x, channel/2)."""
        return convolved(x, self.body).contiguous()
