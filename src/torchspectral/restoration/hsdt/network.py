"""HSDT: the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from torchspectral.errors import BadSettings, BandMismatch
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
        return torch.addmm(gated + self.w_2.bias, functional.gelu(self.w_1(x)), self.w_2.weight.T)


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


class _Stack(nn.Module):
    """A list of layers under the name that the checkpoints have."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class HSDTNetwork(nn.Module):
    """Hybrid spectral denoising transformer; names of layers are those of the published checkpoints.

    Parameters
    ----------
    bands : int
        Bands of the learned query. Other numbers of bands go through with ``attention="similarity"``.
    channels : int
        Width at full resolution: 8 (S), 16 (M and L).
    half_layers : int
        Layers of the encoder, and of the decoder: 5 (S and M), 7 (L).
    sampled : sequence of int
        Layers of the encoder that halve rows and columns: (1, 3), for L (1, 3, 5).
    in_channels : int
        1, or 2 for the plug-and-play denoiser: image and map of the noise level.
    convolution : {"parallel", "sequential", "single", "full"}
        Convolution of layers that keep the size: the published one, or the ablations: spectral after spatial, one
        spatial convolution, a full 3-D one.
    feed_forward : {"smffn", "ffn", "gate"}
        The published layer, or one branch of it (ablations).
    guided : bool
        False: no learned query, similarity alone (ablation).
    blocks : bool
        False: tanh in place of batch norm and transformer blocks (the paper's baseline).

    References
    ----------
    Lai, Yan, Fu, "Hybrid spectral denoising transformer with guided attention", ICCV (2023), arXiv 2303.09040.
    """

    def __init__(
        self,
        bands: int = 31,
        channels: int = 16,
        half_layers: int = 5,
        sampled: Sequence[int] = (1, 3),
        in_channels: int = 1,
        convolution: Convolution = "parallel",
        feed_forward: FeedForward = "smffn",
        guided: bool = True,
        blocks: bool = True,
    ) -> None:
        super().__init__()
        if min(bands, channels, half_layers, in_channels) < 1:
            raise BadSettings(
                f"got {bands} bands, {channels} channels, {half_layers} layers, expected at least 1 of each"
            )
        if any(not 0 <= k < half_layers for k in sampled):
            raise BadSettings(f"got sampled layers {tuple(sampled)}, expected numbers from 0 to {half_layers - 1}")
        self.bands, self.in_channels, self.guided, self.blocks = bands, in_channels, guided and blocks, blocks
        self.multiple = 2 ** len(set(sampled))

        def made(a: int, b: int, scale: Literal["same", "down", "up"] = "same") -> Layer:
            return Layer(
                a, b, bands, scale, convolution=convolution, feed_forward=feed_forward, guided=guided, blocks=blocks
            )

        self.head = made(in_channels, channels)
        down, width = [], channels
        for k in range(half_layers):
            down.append(made(width, 2 * width, "down") if k in sampled else made(width, width))
            width *= 2 if k in sampled else 1
        up = []
        for k in reversed(range(half_layers)):
            up.append(made(width, width // 2, "up") if k in sampled else made(width, width))
            width //= 2 if k in sampled else 1
        self.encoder, self.decoder = _Stack(down), _Stack(up)
        self.tail = nn.Conv3d(channels, 1, 3, padding=1)
        self._initialise()

    def _initialise(self) -> None:
        """The authors' first weights: xavier for convolutions, nearly nothing for linear layers."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.xavier_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1e-3)
            if isinstance(module, nn.Conv3d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor, attention: Attention = "guided", ground: Ground | None = None) -> torch.Tensor:
        """Denoise.

        Parameters
        ----------
        x : Tensor, shape (n, in_channels, band, y, x)
            Values around 0..1; rows and columns multiples of `multiple`.
        attention : {"guided", "similarity"}
            Without training; similarity takes any number of bands.
        ground : Ground, optional
            Where the tile lies in its scene.

        Returns
        -------
        Tensor, shape (n, 1, band, y, x)

        Raises
        ------
        BandMismatch
            Guided attention for another number of bands, or sides that cannot be halved.
        """
        if x.ndim != 5 or x.shape[1] != self.in_channels or any(s % self.multiple for s in x.shape[-2:]):
            raise BandMismatch(
                f"got a volume of shape {tuple(x.shape)}, expected (n, {self.in_channels}, bands, y, x) with y and x "
                f"multiples of {self.multiple}"
            )
        if self.guided and attention == "guided" and not self.training and x.shape[2] != self.bands:
            raise BandMismatch(
                f"guided attention was built for {self.bands} bands and the volume has {x.shape[2]}: use "
                "attention='similarity', or windows of bands"
            )
        first = self.head(channels_last(x), attention, ground)
        kept, y = [first], first
        for number, layer in enumerate(self.encoder.layers):
            y = layer(y, attention, ground)
            if number < len(self.encoder.layers) - 1:
                kept.append(y)
        for number, layer in enumerate(self.decoder.layers):
            y = layer(y if number == 0 else y + kept.pop(), attention, ground)
        out: torch.Tensor = self.tail(y + kept.pop()) + x[:, :1]
        return out


class HSDTSSRNetwork(HSDTNetwork):
    """HSDT for spectral reconstruction: RGB to a cube.

    Parameters
    ----------
    bands, channels, half_layers, sampled
        See `HSDTNetwork`.
    colours : int
        Bands of the image.
    """

    def __init__(
        self,
        bands: int = 31,
        channels: int = 16,
        half_layers: int = 5,
        sampled: Sequence[int] = (1, 3),
        colours: int = 3,
    ) -> None:
        super().__init__(bands, channels, half_layers, sampled)
        self.proj = nn.Conv2d(colours, bands, 1, bias=False)

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, attention: Attention = "guided", ground: Ground | None = None
    ) -> torch.Tensor:
        """Reconstruct a cube.

        Parameters
        ----------
        x : Tensor, shape (n, colours, y, x)
            Any size without training: zeros are added below and to the right up to the next multiple of 8, a whole 8
            where it is one already, as published, and cut off again.

        Returns
        -------
        Tensor, shape (n, bands, y, x)
        """
        h, w = x.shape[-2:]
        if not self.training:
            x = functional.pad(x, (0, (w // 8 + 1) * 8 - w, 0, (h // 8 + 1) * 8 - h))
        cube = functional.leaky_relu(self.proj(x), 0.01)
        out = super().forward(cube.unsqueeze(1), attention, ground)[:, 0]
        return out[..., :h, :w]
