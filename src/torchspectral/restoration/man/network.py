"""MAN: the networks of both versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from torchspectral.errors import BadSettings, BandMismatch
from torchspectral.restoration.man.layers import MAB, MABv1, Skip
from torchspectral.restoration.volumes import Ground, channels_last, upsample


class _Encoder(nn.Module):
    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class _Decoder(nn.Module):
    """Layers and skips; the first skip is never used, but stands in the checkpoints."""

    def __init__(self, layers: Sequence[nn.Module], fusions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.fusions = nn.ModuleList(fusions)


class _UNet(nn.Module):
    """What both versions share: the way through encoder, skips and decoder."""

    encoder: _Encoder
    decoder: _Decoder

    def __init__(self, channels: int, half_layers: int, sampled: Sequence[int], in_channels: int) -> None:
        super().__init__()
        if min(channels, half_layers, in_channels) < 1 or channels % 2:
            raise BadSettings(
                f"got {channels} channels, {half_layers} layers and {in_channels} inputs, expected an even number of "
                "channels and at least 1 of each"
            )
        if any(not 0 <= k < half_layers for k in sampled):
            raise BadSettings(f"got sampled layers {tuple(sampled)}, expected numbers from 0 to {half_layers - 1}")
        self.in_channels, self.multiple = in_channels, 2 ** len(set(sampled))

    def check(self, x: torch.Tensor) -> None:
        """Hold the input's shape against what the network divides.

        Raises
        ------
        BandMismatch
        """
        if x.ndim != 5 or x.shape[1] != self.in_channels or any(s % self.multiple for s in x.shape[-2:]):
            raise BandMismatch(
                f"got a volume of shape {tuple(x.shape)}, expected (n, {self.in_channels}, bands, y, x) with y and x "
                f"multiples of {self.multiple}"
            )

    def body(self, first: torch.Tensor, ground: Ground | None) -> torch.Tensor:
        """Encoder and decoder, without the head's own skip."""
        kept, y = [], first
        for number, layer in enumerate(self.encoder.layers):
            y = layer(y, ground)
            if number < len(self.encoder.layers) - 1:
                kept.append(y)
        for number, (layer, fusion) in enumerate(zip(self.decoder.layers, self.decoder.fusions, strict=True)):
            y = layer(y if number == 0 else fusion(y, kept.pop()), ground)
        return y


def _levels(channels: int, half_layers: int, sampled: Sequence[int]) -> list[tuple[int, bool]]:
    """Width before each layer of the encoder, and whether the layer halves the image."""
    found, width = [], channels
    for k in range(half_layers):
        found.append((width, k in sampled))
        width *= 2 if k in sampled else 1
    return found


class MANNetwork(_UNet):
    """Mixed attention network, the published version (v2); names of layers are those of the authors' code.

    Any number of bands. Nothing in it looks at the whole image, but for the up-sampling between aligned corners.

    Parameters
    ----------
    channels : int
        Width at full resolution, even: 12 (S), 16 (M), 20 (L).
    half_layers : int
        Layers of the encoder, and of the decoder.
    sampled : sequence of int
        Layers of the encoder that halve rows and columns.
    in_channels : int
        The first channel is the image.

    References
    ----------
    Lai, Fu, "Mixed attention network for hyperspectral image denoising", arXiv 2301.11525 (2023).
    """

    def __init__(
        self, channels: int = 16, half_layers: int = 5, sampled: Sequence[int] = (1, 3), in_channels: int = 1
    ) -> None:
        super().__init__(channels, half_layers, sampled, in_channels)
        self.head = MAB(in_channels, channels, reverse=False)
        levels = _levels(channels, half_layers, sampled)
        down = [
            MAB(a, 2 * a if half else a, reverse=k % 2 == 0, scale="down" if half else "same")
            for k, (a, half) in enumerate(levels)
        ]
        up, fusions = [], []
        for k, (a, half) in enumerate(reversed(levels)):
            inner = 2 * a if half else a
            up.append(MAB(inner, a, reverse=k % 2 == 0, scale="up" if half else "same"))
            fusions.append(Skip(inner, "weight"))
        self.encoder, self.decoder = _Encoder(down), _Decoder(up, fusions)
        self.tail = nn.Conv3d(channels, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, ground: Ground | None = None) -> torch.Tensor:
        """Denoise.

        Parameters
        ----------
        x : Tensor, shape (n, in_channels, band, y, x)
            Values around 0..1; rows and columns multiples of `multiple`.
        ground : Ground, optional
            Where the tile lies in its scene.

        Returns
        -------
        Tensor, shape (n, 1, band, y, x)

        Raises
        ------
        BandMismatch
            Sides that cannot be halved.
        """
        self.check(x)
        first = self.head(channels_last(x), ground)
        out: torch.Tensor = self.tail(self.body(first, ground) + first) + x[:, :1]
        return out


class _Transposed(nn.ConvTranspose3d):
    """A transposed convolution of stride 1 with its own weights, computed as the plain convolution that it equals."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        weight = self.weight.transpose(0, 1).flip(2, 3, 4)
        return nn.functional.conv3d(x, weight, self.bias, padding=1)


class _LayerV1(nn.Module):
    """Convolution and block of the first version; a layer that doubles the image does so first."""

    def __init__(self, conv: nn.Module, channels: int, reverse: bool, up: bool = False) -> None:
        super().__init__()
        self.conv = conv
        self.attn = MABv1(channels, reverse)
        self.up: Callable[[torch.Tensor, Ground | None], torch.Tensor] | None = upsample if up else None

    def forward(self, x: torch.Tensor, ground: Ground | None = None) -> torch.Tensor:
        x = self.conv(x if self.up is None else self.up(x, ground))
        out: torch.Tensor = self.attn(x, ground)
        return out


class MANv1Network(_UNet):
    """The first version of MAN, whose weights were released; names of layers are those of the checkpoints.

    Any number of bands. Its channel attention looks at the whole image.

    Parameters
    ----------
    channels : int
        Width at full resolution, even: 8 (S), 12 (M), 16 (MAN and deep), 24 (B).
    half_layers : int
        Layers of the encoder, and of the decoder: 5, 7 for deep.
    sampled : sequence of int
        Layers of the encoder that halve rows and columns: (1, 3), for deep (1, 3, 5).
    in_channels : int
        The first channel is the image.

    References
    ----------
    Lai, Fu, "Mixed attention network for hyperspectral image denoising", arXiv 2301.11525 (2023).
    """

    def __init__(
        self, channels: int = 16, half_layers: int = 5, sampled: Sequence[int] = (1, 3), in_channels: int = 1
    ) -> None:
        super().__init__(channels, half_layers, sampled, in_channels)
        self.head = nn.Sequential(
            nn.Conv3d(in_channels, channels, 3, padding=1, bias=False), MABv1(channels, both=True)
        )
        levels = _levels(channels, half_layers, sampled)
        down = []
        for k, (a, half) in enumerate(levels):
            b = 2 * a if half else a
            stride = (1, 2, 2) if half else 1
            down.append(_LayerV1(nn.Conv3d(a, b, 3, stride=stride, padding=1, bias=False), b, reverse=k % 2 == 1))
        up, fusions = [], []
        for k, (a, half) in reversed(list(enumerate(levels))):
            inner = 2 * a if half else a
            conv = nn.Conv3d(inner, a, 3, padding=1, bias=False) if half else _Transposed(inner, a)
            up.append(_LayerV1(conv, a, reverse=k % 2 == 0, up=half))
            fusions.append(Skip(inner, "conv_weight"))
        self.encoder, self.decoder = _Encoder(down), _Decoder(up, fusions)
        self.tail = nn.Sequential(_Transposed(channels, 1, bias=True), MABv1(1, both=True))

    def forward(self, x: torch.Tensor, ground: Ground | None = None) -> torch.Tensor:
        """Denoise; see `MANNetwork.forward`."""
        self.check(x)
        first = self.head[1](self.head[0](channels_last(x)), ground)
        last = self.tail[0](self.body(first, ground) + first)
        out: torch.Tensor = self.tail[1](last, ground) + x[:, :1]
        return out
