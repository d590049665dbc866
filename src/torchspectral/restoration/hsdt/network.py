"""HSDT: the networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from torchspectral.errors import BadSettings, BandMismatch
from torchspectral.restoration.hsdt.layers import Attention, Convolution, FeedForward, Layer
from torchspectral.restoration.volumes import Ground, channels_last, initialise


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
        initialise(self, "xavier")

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
