"""HyperKite: an encoder that makes the image larger instead of smaller, and a residual on the deep prior."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from torchspectral.errors import BandMismatch

SLOPE = 0.2
REACH = 6
"""Pixels that the layers look over an edge; those at 2, 4 and 8 times the size count a half, quarter and eighth."""


class KiteNetwork(nn.Module):
    """The network; names of layers are those of the published weights.

    Parameters
    ----------
    bands : int
        Hyperspectral bands.
    features : int
        Channels of the first level; twice and four times as many on the next.

    References
    ----------
    Bandara, Valanarasu, Patel, "Hyperspectral pansharpening based on improved deep image prior and residual
    reconstruction", IEEE TGRS 60 (2022).
    """

    def __init__(self, bands: int, features: int = 32) -> None:
        super().__init__()
        if bands < 1 or features < 1:
            raise BandMismatch(f"got {bands} bands and {features} features, expected at least 1 of each")
        f = features

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")

        self.bands = bands
        self.encoder1, self.ebn1 = conv(bands + 1, f), nn.BatchNorm2d(f)
        self.encoder2, self.ebn2 = conv(f, 2 * f), nn.BatchNorm2d(2 * f)
        self.encoder3, self.ebn3 = conv(2 * f, 4 * f), nn.BatchNorm2d(4 * f)
        self.endec_conv, self.endec_bn = conv(4 * f, 4 * f), nn.BatchNorm2d(4 * f)
        self.decoder1, self.dbn1 = conv(8 * f, 2 * f), nn.BatchNorm2d(2 * f)
        self.decoder2, self.dbn2 = conv(4 * f, f), nn.BatchNorm2d(f)
        self.decoder3, self.dbn3 = conv(2 * f, bands), nn.BatchNorm2d(bands)
        self.final_conv = nn.Conv2d(bands, bands, 1)

    def forward(self, pan: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """Predict the sharp image.

        Parameters
        ----------
        pan : Tensor, shape (n, 1, y, x)
        prior : Tensor, shape (n, bands, y, x)
            Sharp image drawn by the deep prior, in the same scale; at least 2 pixels on each side.

        Returns
        -------
        Tensor, shape (n, bands, y, x)
        """

        def act(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
            return F.leaky_relu(norm(x), SLOPE)

        def twice(x: torch.Tensor) -> torch.Tensor:
            return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

        def half(x: torch.Tensor) -> torch.Tensor:
            return F.max_pool2d(x, 2)

        t1 = act(self.ebn1, self.encoder1(torch.cat([pan, prior], 1)))
        t2 = act(self.ebn2, self.encoder2(twice(t1)))
        t3 = act(self.ebn3, self.encoder3(twice(t2)))
        x = act(self.endec_bn, self.endec_conv(twice(t3)))
        x = act(self.dbn1, self.decoder1(torch.cat([half(x), t3], 1)))
        x = act(self.dbn2, self.decoder2(torch.cat([half(x), t2], 1)))
        x = act(self.dbn3, self.decoder3(torch.cat([half(x), t1], 1)))
        out: torch.Tensor = self.final_conv(x)
        return out + prior
