"""DARN: residual blocks with attention over channels and pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import nn

from torchspectral.errors import BandMismatch
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.deep.prior_fit import PriorPlan
from torchspectral.sharpening.deep.prior_method import PriorNetwork, PriorSettings

BLOCKS = 4


class _Attention(nn.Module):
    """Residual block whose change is weighted by channel and by pixel."""

    def __init__(self, features: int) -> None:
        super().__init__()
        inner = max(features // 16, 1)
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.conv3 = nn.Conv2d(features, inner, 1)
        self.conv4 = nn.Conv2d(inner, features, 1)
        self.conv5 = nn.Conv2d(features, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = self.conv2(torch.relu(self.conv1(x)))
        channels = torch.sigmoid(self.conv4(torch.relu(self.conv3(change.mean((-2, -1), keepdim=True)))))
        pixels = torch.sigmoid(self.conv5(change))
        out: torch.Tensor = change * channels + change * pixels + x
        return out


class DARNNetwork(nn.Module):
    """The network; names of layers are those of the published weights.

    The published code hands its two arguments over in the other order than it declares them: the PAN comes first in
    the concatenation, and what the network predicts is added to the PAN, not to the prior. The weights were trained
    so, and so it is here.

    Parameters
    ----------
    bands : int
        Hyperspectral bands.
    features : int
        Channels of the residual blocks.

    References
    ----------
    Zheng, Li, Li, Guo, Wu, Chanussot, "Hyperspectral pansharpening using deep prior and dual attention residual
    network", IEEE TGRS 58 (2020).
    """

    def __init__(self, bands: int, features: int = 64) -> None:
        super().__init__()
        if bands < 1 or features < 1:
            raise BandMismatch(f"got {bands} bands and {features} features, expected at least 1 of each")
        self.bands = bands
        self.FEN = nn.Conv2d(bands + 1, features, 3, padding=1)
        for number in range(1, BLOCKS + 1):
            self.add_module(f"CSA{number}", _Attention(features))
        self.RRN = nn.Conv2d(features, bands, 3, padding=1)

    def forward(self, pan: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """Predict the sharp image.

        Parameters
        ----------
        pan : Tensor, shape (n, 1, y, x)
        prior : Tensor, shape (n, bands, y, x)
            Sharp image drawn by the deep prior, in the same scale.

        Returns
        -------
        Tensor, shape (n, bands, y, x)
        """
        x = self.FEN(torch.cat([pan, prior], 1))
        for number in range(1, BLOCKS + 1):
            x = self.get_submodule(f"CSA{number}")(x)
        out: torch.Tensor = self.RRN(x)
        return out + pan


class DHPDARNSettings(PriorSettings):
    """Settings of DHP-DARN."""

    iterations: int = setting(10_000, "optimiser steps of the prior, on each scene", ge=1)
    learning_rate: float = setting(1e-2, "learning rate of the prior", gt=0)
    mtf_gain: float = setting(
        0.0, "amplitude of the sensor's MTF at Nyquist; 0: the sensor's own, 0.3 where unknown", ge=0, lt=1
    )
    compat: Literal["", "authors-code"] = setting("", "'authors-code': unnormalised MTF kernels")


class DHPDARN(PriorNetwork):
    """Draw a deep hyperspectral prior of the scene, then add the PAN and what a trained DARN predicts from both.

    Needs weights for exactly the bands of the scene, in order.
    """

    Settings: ClassVar[type[Settings]] = DHPDARNSettings
    name: ClassVar[str] = "dhp-darn"
    network: ClassVar[type[nn.Module]] = DARNNetwork
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {"bands": ("RRN.weight", 0), "features": ("FEN.weight", 0)}

    def plan(self) -> PriorPlan:
        """DHP, held against the coarse image only."""
        s = self.settings
        return PriorPlan(
            "dhp",
            s.iterations,
            s.learning_rate,
            channels=s.channels,
            mtf_gain=s.mtf_gain or self.known_mtf,
            as_authors=bool(s.compat),
        )
