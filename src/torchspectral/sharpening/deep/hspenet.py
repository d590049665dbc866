"""HSpeNet: dense connections between PAN detail and spectral features, and a skip from the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from torchspectral.engine.method import Size
from torchspectral.errors import BandMismatch
from torchspectral.sharpening.deep.trained import InterpolatedNetwork, layer

DENSE = 5
"""Layers whose outputs are all handed on."""


class HSpeNetNetwork(nn.Module):
    """The network; names of layers are those of the published weights.

    Parameters
    ----------
    bands : int
        Hyperspectral bands.
    features : int
        Channels of the spectral branch.
    growth : int
        Channels of the PAN branch and of each dense layer.

    References
    ----------
    He, Zhu, Li, Plaza, Chanussot, Yu, "Hyperspectral pansharpening based on deep spectral-fidelity networks",
    IEEE TNNLS (2020), "Spectral-fidelity convolutional neural networks for hyperspectral pansharpening", IEEE JSTARS
    13 (2020).
    """

    def __init__(self, bands: int, features: int = 64, growth: int = 16) -> None:
        super().__init__()
        if min(bands, features, growth) < 1:
            raise BandMismatch(f"got {bands} bands, {features} features and growth {growth}, expected at least 1 each")
        self.bands = bands
        self.conv1_2 = layer(1, growth, 3)
        self.conv2_2 = layer(growth, growth, 3)
        self.conv1_1 = layer(bands, features, 1)
        self.conv2_1 = layer(features, features, 1)
        for number in range(DENSE):
            self.add_module(f"conv{number + 3}", layer(features + growth * (number + 1), growth, 3))
        self.conv8 = layer(features + growth * (DENSE + 1), bands, 1)

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
        detail = pan - torch.relu(self.conv2_2(torch.relu(self.conv1_2(pan))))
        x = torch.cat([detail, torch.relu(self.conv2_1(torch.relu(self.conv1_1(upsampled))))], 1)
        for number in range(DENSE):
            x = torch.cat([x, torch.relu(self.get_submodule(f"conv{number + 3}")(x))], 1)
        out: torch.Tensor = self.conv8(x)
        return out + upsampled


class HSpeNet(InterpolatedNetwork):
    """Sharpen with a trained HSpeNet: interpolate, then add what the network predicts.

    Needs weights for exactly the bands of the scene, in order.
    """

    name: ClassVar[str] = "hspenet"
    network: ClassVar[type[nn.Module]] = HSpeNetNetwork
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {
        "bands": ("conv8.weight", 0),
        "features": ("conv1_1.weight", 0),
        "growth": ("conv1_2.weight", 0),
    }
    reach: ClassVar[int] = 2 + DENSE

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the interpolated tile, the growing features with their padded copies, and the output."""
        pixels = size.rows * size.cols * size.zoom**2
        return {"fit": 0, "apply": 4 * pixels * (3 * size.bands + 4 * 160)}
