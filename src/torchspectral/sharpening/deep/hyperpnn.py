"""HyperPNN: a convolutional network between a spectral encoder and a spectral decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from torchspectral.engine.method import Size
from torchspectral.errors import BandMismatch
from torchspectral.sharpening.deep.trained import InterpolatedNetwork, layer


class HyperPNNNetwork(nn.Module):
    """The network; names of layers are those of the published weights.

    Parameters
    ----------
    bands : int
        Hyperspectral bands.
    features : int
        Channels between encoder and decoder.

    References
    ----------
    He, Zhu, Li, Plaza, Chanussot, Li, "HyperPNN: hyperspectral pansharpening via spectrally predictive convolutional
    neural networks", IEEE JSTARS 12 (2019).
    """

    def __init__(self, bands: int, features: int = 64) -> None:
        super().__init__()
        if bands < 1 or features < 1:
            raise BandMismatch(f"got {bands} bands and {features} features, expected at least 1 of each")
        self.bands = bands
        self.conv1 = layer(bands, features, 1)
        self.conv2 = layer(features, features, 1)
        self.conv3 = layer(features + 1, features, 3)
        self.conv4 = layer(features, features, 3)
        self.conv5 = layer(features, features, 3)
        self.conv6 = layer(features, features, 1)
        self.conv7 = layer(features, bands, 1)

    def forward(self, pan: torch.Tensor, upsampled: torch.Tensor) -> torch.Tensor:
        """Predict the sharp image.

        Parameters
        ----------
        pan : Tensor, shape (n, 1, y, x)
        upsampled : Tensor, shape (n, bands, y, x)
            Interpolated hyperspectral image in the same scale; at least 2 pixels on each side.

        Returns
        -------
        Tensor, shape (n, bands, y, x)
        """
        x = torch.relu(self.conv2(torch.relu(self.conv1(upsampled))))
        y = torch.cat([pan, x], dim=1)
        for convolution in (self.conv3, self.conv4, self.conv5):
            y = torch.relu(convolution(y))
        y = torch.relu(self.conv6(x + y))
        out: torch.Tensor = self.conv7(y)
        return out


class HyperPNN(InterpolatedNetwork):
    """Sharpen with a trained HyperPNN: interpolate, then predict.

    Needs weights for exactly the bands of the scene, in order.
    """

    name: ClassVar[str] = "hyperpnn"
    network: ClassVar[type[nn.Module]] = HyperPNNNetwork
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {"bands": ("conv1.weight", 1), "features": ("conv1.weight", 0)}
    reach: ClassVar[int] = 3

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the interpolated tile, five feature maps with their padded copies, and the output."""
        pixels = size.rows * size.cols * size.zoom**2
        return {"fit": 0, "apply": 4 * pixels * (3 * size.bands + 5 * 64)}
