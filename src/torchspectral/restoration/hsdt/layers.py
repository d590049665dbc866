"""HSDT: convolutions, attention over bands, feed-forward layer, and the layers made of them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from torchspectral.restoration.volumes import (
    Ground,
    channels_last,
    chunks,
    from_rows,
    plain_mean,
    rows_of,
    spatial_conv,
    spectral_conv,
    upsample,
)

Attention = Literal["guided", "similarity"]
Convolution = Literal["parallel", "sequential", "single", "full"]
FeedForward = Literal["smffn", "ffn", "gate"]


class S3Conv(nn.Module):
    """Spectral-spatial separable convolution; all parts without bias.

    Parameters
    ----------
    inputs, outputs : int
    kind : {"parallel", "sequential"}
        The published form adds the spectral convolution of the input; the ablation puts it behind the spatial ones.
    """

    def __init__(self, inputs: int, outputs: int, kind: Literal["parallel", "sequential"] = "parallel") -> None:
        super().__init__()
        self.kind = kind
        self.dw_conv = nn.Sequential(
            nn.Conv3d(inputs, outputs, (1, 3, 3), padding=(0, 1, 1), bias=False),
            nn.LeakyReLU(0.01),
            nn.Conv3d(outputs, outputs, (1, 3, 3), padding=(0, 1, 1), bias=False),
            nn.LeakyReLU(0.01),
        )
        source = inputs if kind == "parallel" else outputs
        self.pw_conv = nn.Conv3d(source, outputs, (3, 1, 1), padding=(1, 0, 0), bias=False)

    def forward(
        self, x: torch.Tensor, gain: torch.Tensor | None = None, offset: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The convolution, times `gain` plus `offset` of each channel where given, (n, outputs, band, y, x)."""
        y = functional.leaky_relu(spatial_conv(x, self._weight(0)), 0.01, inplace=not torch.is_grad_enabled())
        y = functional.leaky_relu(spatial_conv(y, self._weight(2)), 0.01, inplace=not torch.is_grad_enabled())
        weight = self.pw_conv.weight if gain is None else self.pw_conv.weight * gain[:, None, None, None, None]
        if self.kind == "sequential":
            return spectral_conv(y, weight, offset)
        along = spectral_conv(x, weight, offset)
        if torch.is_grad_enabled():
            return along + (y if gain is None else y * gain[:, None, None, None])
        return along.add_(y) if gain is None else along.addcmul_(y, gain[:, None, None, None])

    def _weight(self, index: int) -> torch.Tensor:
        weight = self.dw_conv[index].weight
        assert isinstance(weight, torch.Tensor)
        return weight


class Convolved(nn.Conv3d):
    """A convolution without bias that takes the gain and offset of a batch norm into itself."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int, int] = (3, 3, 3), stride: int = 1) -> None:
        padding = (size[0] // 2, size[1] // 2, size[2] // 2)
        super().__init__(inputs, outputs, size, stride=(1, stride, stride), padding=padding, bias=False)

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, gain: torch.Tensor | None = None, offset: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The convolution, times `gain` plus `offset` of each channel where given."""
        weight = self.weight if gain is None else self.weight * gain[:, None, None, None, None]
        return channels_last(functional.conv3d(x, weight, offset, self.stride, self.padding))


class GSSA(nn.Module):
    """Guided spectral self-attention: bands are mixed by one matrix an image.

    The matrix comes from the spatial mean of each band: projected on a learned query for `bands` bands (guided), or
    compared with the means of the other bands (similarity), which works with any number of bands. Training draws one
    of the two at each call, so that both are learned.
    """

    def __init__(self, channels: int, bands: int, guided: bool = True) -> None:
        super().__init__()
        self.attn_proj = nn.Linear(channels, bands) if guided else None
        self.value_proj = nn.Linear(channels, channels, bias=False)
        self.fc = nn.Linear(channels, channels, bias=False)

    def weights(self, mean: torch.Tensor, attention: Attention) -> torch.Tensor:
        """Mixing matrices (n, band, band) from spatial means (n, band, channel)."""
        guided = attention == "guided" and self.attn_proj is not None
        if self.training and self.attn_proj is not None:
            guided = mean.shape[1] == self.attn_proj.out_features and bool(torch.rand(()) <= 0.5)
        if guided:
            assert self.attn_proj is not None
            logits = self.attn_proj(mean)
        else:
            logits = mean @ mean.transpose(1, 2)
        return torch.softmax(logits, dim=-1)

    def forward(self, x: torch.Tensor, attention: Attention = "guided", ground: Ground | None = None) -> torch.Tensor:
        """``x`` plus its bands mixed, (n, channel, band, y, x)."""
        n, _, d, h, w = x.shape
        mix = self.weights(ground.mean(x) if ground is not None else plain_mean(x), attention)
        # Value and output projections are linear and commute with the mixing of bands: one matrix does for both.
        both = self.fc.weight @ self.value_proj.weight
        last = channels_last(x).permute(0, 2, 3, 4, 1).reshape(n, d, -1)
        values = (last.view(-1, both.shape[1]) @ both.T).view(n, d, -1)
        out = torch.baddbmm(last, mix, values)
        return out.view(n, d, h, w, -1).permute(0, 4, 1, 2, 3)


class SMFFN(nn.Module):
    """Self-modulated feed-forward layer on channels; no residual.

    Parameters
    ----------
    channels, hidden : int
    kind : {"smffn", "ffn", "gate"}
        The published sum of both branches, or one of them (ablations).
    """

    def __init__(self, channels: int, hidden: int, kind: FeedForward = "smffn") -> None:
        super().__init__()
        self.kind = kind
        if kind != "gate":
            self.w_1 = nn.Linear(channels, hidden)
            self.w_2 = nn.Linear(hidden, channels)
        if kind != "ffn":
            self.w_3 = nn.Linear(channels, 2 * channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Volume of the same shape; without gradients the rows go through in pieces that stay in the cache."""
        rows = rows_of(x)
        if torch.is_grad_enabled():
            return from_rows(self.rows(rows), x)
        out = torch.empty_like(rows)
        for part in chunks(len(rows), False):
            out[part] = self.rows(rows[part])
        return from_rows(out, x)

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """The layer on rows (voxel, channel)."""
        if self.kind == "ffn":
            out: torch.Tensor = self.w_2(functional.gelu(self.w_1(x)))
            return out
        value, gate = self.w_3(x).chunk(2, dim=-1)
        gated = value * torch.sigmoid(gate)
        if self.kind == "gate":
            return gated
        more = functional.gelu(self.w_1(x)), self.w_2.weight.T
        if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
            return torch.addmm(gated + self.w_2.bias, *more)
        return gated.add_(self.w_2.bias).addmm_(*more)


class TransformerBlock(nn.Module):
    """Attention over bands, then the feed-forward layer."""

    def __init__(self, channels: int, bands: int, *, guided: bool = True, feed_forward: FeedForward = "smffn") -> None:
        super().__init__()
        self.attn = GSSA(channels, bands, guided)
        self.ffn = SMFFN(channels, 2 * channels, feed_forward)

    def forward(self, x: torch.Tensor, attention: Attention = "guided", ground: Ground | None = None) -> torch.Tensor:
        """Volume of the same shape, (n, channel, band, y, x)."""
        out: torch.Tensor = self.ffn(self.attn(x, attention, ground))
        return out


class Layer(nn.Module):
    """Convolution, batch norm and transformer block; may halve or double rows and columns.

    Parameters
    ----------
    inputs, outputs, bands : int
    scale : {"same", "down", "up"}
    convolution, feed_forward, guided, blocks
        See `HSDTNetwork`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bands: int,
        scale: Literal["same", "down", "up"] = "same",
        *,
        convolution: Convolution = "parallel",
        feed_forward: FeedForward = "smffn",
        guided: bool = True,
        blocks: bool = True,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.conv: nn.Module
        if scale != "same" or convolution == "full":
            self.conv = Convolved(inputs, outputs, stride=2 if scale == "down" else 1)
        elif convolution == "single":
            self.conv = Convolved(inputs, outputs, (1, 3, 3))
        else:
            self.conv = S3Conv(inputs, outputs, convolution)
        if blocks:
            self.bn = nn.BatchNorm3d(outputs)
            self.attn = TransformerBlock(outputs, bands, guided=guided, feed_forward=feed_forward)
        self.blocks = blocks

    def forward(self, x: torch.Tensor, attention: Attention = "guided", ground: Ground | None = None) -> torch.Tensor:
        """Volume (n, outputs, band, y', x')."""
        if self.scale == "up":
            x = upsample(x, ground)
        if not self.blocks:
            return torch.tanh(self.conv(x))
        if self.training:
            x = self.bn(self.conv(x))
        else:
            running, mean, bn = self.bn.running_var, self.bn.running_mean, self.bn
            assert running is not None and mean is not None
            gain = bn.weight * torch.rsqrt(running + bn.eps)
            x = self.conv(x, gain, bn.bias - mean * gain)
        out: torch.Tensor = self.attn(x, attention, ground)
        return out
