"""HyperKite: an encoder that makes the image larger instead of smaller, and a residual on the deep prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional as F

from torchspectral.engine.method import Size
from torchspectral.errors import BandMismatch
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.deep.prior_fit import PriorPlan
from torchspectral.sharpening.deep.prior_method import PriorNetwork, PriorSettings
from torchspectral.sharpening.deep.trained import Loaded

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


class DIPHyperKiteSettings(PriorSettings):
    """Settings of DIP-HyperKite."""

    drop: int = setting(1300, "step after which the prior's learning rate is a tenth; 0: never", ge=0)
    pan_weight: float = setting(0.6, "weight of the PAN in the prior's loss", ge=0)
    block: int = setting(100, "side of the pieces that HyperKite works on", unit="PAN pixel", ge=16)
    compat: Literal["", "authors-code"] = setting(
        "", "'authors-code': pieces without overlap (seams), and a prior half a PAN pixel off at even ratios"
    )


class DIPHyperKite(PriorNetwork):
    """Draw a deep image prior of the scene, then add the residual that a trained HyperKite predicts.

    HyperKite works on pieces of the scene at up to eight times the PAN's resolution. Pieces overlap by the reach of
    its layers, so that the result is that of the whole image. Needs weights for exactly the bands of the scene, in
    order.
    """

    Settings: ClassVar[type[Settings]] = DIPHyperKiteSettings
    name: ClassVar[str] = "dip-hyperkite"
    network: ClassVar[type[nn.Module]] = KiteNetwork
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {
        "bands": ("final_conv.weight", 0),
        "features": ("encoder1.weight", 0),
    }

    def plan(self) -> PriorPlan:
        """DIP, held against the coarse image and the PAN."""
        s = self.settings
        return PriorPlan(
            "dip",
            s.iterations,
            s.learning_rate,
            drop=s.drop,
            pan_weight=s.pan_weight,
            channels=s.channels,
            as_authors=bool(s.compat),
        )

    def correct(self, network: Loaded, pan: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """Piece by piece; a piece at the right or bottom edge is not narrower than half of the others."""
        out = torch.empty_like(prior)
        margin = 0 if self.settings.compat else REACH
        rows, cols = pan.shape[-2:]
        for top, bottom in pieces(rows, self.settings.block):
            for left, right in pieces(cols, self.settings.block):
                up, down = max(top - margin, 0), min(bottom + margin, rows)
                west, east = max(left - margin, 0), min(right + margin, cols)
                part = network(pan[..., up:down, west:east], prior[..., up:down, west:east])
                out[..., top:bottom, left:right] = part[..., top - up : bottom - up, left - west : right - west]
        return out

    def memory(self, size: Size) -> dict[str, int]:
        """As for every prior, and HyperKite's features of one piece: 8 x 8 times its pixels, 640 values each."""
        piece = (1.5 * self.settings.block + 2 * REACH) ** 2
        rows, cols = size.rows * size.zoom, size.cols * size.zoom
        needs = super().memory(size)
        return needs | {"apply": needs["apply"] + int(4 * 64 * 640 * min(piece, rows * cols))}


def pieces(size: int, side: int) -> list[tuple[int, int]]:
    """Intervals of `side` that cover 0..size; a remainder below half a side joins the last."""
    edges = list(range(0, size, side))
    if len(edges) > 1 and size - edges[-1] < side / 2:
        edges.pop()
    return list(zip(edges, [*edges[1:], size], strict=True))
