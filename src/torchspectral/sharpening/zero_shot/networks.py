"""The networks that are adapted on the scene; names of layers are those of the published weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from torchspectral.errors import BadSettings

SCOPE = 6
"""Pixels that R-PNN's valid convolutions lose on each side."""


class RPNNNetwork(nn.Module):
    """R-PNN: one band and the PAN to the sharp band, valid convolutions (43 473 parameters).

    Parameters
    ----------
    features : sequence of two int
        Channels of the two hidden layers.
    kernels : sequence of three int
        Odd sides of the kernels.

    References
    ----------
    Guarino, Ciotola, Vivone, Scarpa, IEEE TGRS (2023), table I.
    """

    padding: int | str = 0

    def __init__(self, features: Sequence[int] = (48, 32), kernels: Sequence[int] = (7, 5, 3)) -> None:
        super().__init__()
        _check_kernels(kernels)
        self.scope = sum(k // 2 for k in kernels)
        mode: Literal["zeros", "reflect"] = "zeros" if self.padding == 0 else "reflect"
        (first, second), (a, b, c) = features, kernels
        self.conv1 = nn.Conv2d(2, first, a, padding=self.padding, padding_mode=mode)
        self.conv2 = nn.Conv2d(first, second, b, padding=self.padding, padding_mode=mode)
        self.conv3 = nn.Conv2d(second, 1, c, padding=self.padding, padding_mode=mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict the sharp band.

        Parameters
        ----------
        x : Tensor, shape (n, 2, y, x)
            Interpolated band and PAN.

        Returns
        -------
        Tensor, shape (n, 1, y - 2 scope, x - 2 scope)
        """
        out: torch.Tensor = self._layers(x) + x[:, :1, self.scope : -self.scope, self.scope : -self.scope]
        return out

    def _layers(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(x))
        out: torch.Tensor = self.conv3(torch.relu(self.conv2(x)))
        return out


class RhoPNNNetwork(RPNNNetwork):
    """rho-PNN: as R-PNN with larger kernels and reflected borders, same size (80 849 parameters).

    References
    ----------
    Guarino, Ciotola, Vivone, Poggi, Scarpa, IEEE TGRS 63 (2025).
    """

    padding = "same"

    def __init__(self, features: Sequence[int] = (48, 32), kernels: Sequence[int] = (7, 7, 5)) -> None:
        super().__init__(features, kernels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 2, y, x) to (n, 1, y, x)."""
        return self._layers(x) + x[:, :1]


class PNN(nn.Module):
    """The network of A-PNN and Z-PNN: all bands and the PAN, valid convolutions.

    Parameters
    ----------
    bands : int
    kernels : sequence of three int
        (9, 5, 5), or (5, 5, 5) for Ikonos.

    References
    ----------
    Scarpa, Vitale, Cozzolino, "Target-adaptive CNN-based pansharpening", IEEE TGRS 56 (2018).
    """

    def __init__(self, bands: int, kernels: Sequence[int] = (9, 5, 5)) -> None:
        super().__init__()
        _check_kernels(kernels)
        self.bands, self.scope = bands, sum(k // 2 for k in kernels)
        self.conv1 = nn.Conv2d(bands + 1, 48, kernels[0])
        self.conv2 = nn.Conv2d(48, 32, kernels[1])
        self.conv3 = nn.Conv2d(32, bands, kernels[2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, bands + 1, y, x), the PAN last, to (n, bands, y - 2 scope, x - 2 scope)."""
        s = self.scope
        y = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        out: torch.Tensor = self.conv3(y) + x[:, :-1, s:-s, s:-s]
        return out


class PanNet(nn.Module):
    """PanNet: residual blocks on high-passed images.

    Parameters
    ----------
    bands, ratio : int

    References
    ----------
    Yang, Fu, Hu, Huang, Ding, Paisley, "PanNet: a deep network architecture for pan-sharpening", ICCV (2017).
    """

    def __init__(self, bands: int, ratio: int = 4) -> None:
        super().__init__()
        self.bands, self.ratio, self.scope = bands, ratio, 0
        self.dephtconv_ms = _box(bands)
        self.dephtconv_pan = _box(1)
        self.Conv2d_transpose = nn.ConvTranspose2d(
            bands, bands, 2 * ratio, ratio, padding=(ratio + 1) // 2, output_padding=ratio % 2, bias=False
        )
        self.Conv = nn.Conv2d(bands + 1, 32, 3, padding=1)
        for number in range(1, 9):
            setattr(self, f"Conv_{number}", nn.Conv2d(32, 32, 3, padding=1))
        self.Conv_9 = nn.Conv2d(32, bands, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, bands + 1, y, x), the PAN last, to (n, bands, y, x); y and x are multiples of the ratio."""
        offset = self.ratio // 2
        ms, pan = x[:, :-1], x[:, -1:]
        coarse = ms[:, :, offset :: self.ratio, offset :: self.ratio]
        coarse = coarse - self.dephtconv_ms(coarse)
        y = torch.cat([self.Conv2d_transpose(coarse), pan - self.dephtconv_pan(pan)], dim=1)
        y = torch.relu(self.Conv(y))
        for number in range(1, 9, 2):
            inner = torch.relu(getattr(self, f"Conv_{number}")(y))
            y = getattr(self, f"Conv_{number + 1}")(inner) + y
        out: torch.Tensor = self.Conv_9(y) + ms
        return out


class DRPNN(nn.Module):
    """DRPNN: eleven layers with one skip of the input.

    Parameters
    ----------
    bands : int

    References
    ----------
    Wei, Yuan, Shen, Zhang, "Boosting the accuracy of multispectral image pansharpening by learning a deep residual
    network", IEEE GRSL 14 (2017).
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands, self.scope = bands, 0
        for number in range(1, 10):
            layer = nn.Conv2d(bands + 1 if number == 1 else 64, 64, 7, padding=3)
            setattr(self, f"Conv_{number}", layer)
        self.Conv_10 = nn.Conv2d(64, bands + 1, 7, padding=3)
        self.Conv_11 = nn.Conv2d(bands + 1, bands, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, bands + 1, y, x), the PAN last, to (n, bands, y, x)."""
        y = x
        for number in range(1, 10):
            y = torch.relu(getattr(self, f"Conv_{number}")(y))
        out: torch.Tensor = self.Conv_11(torch.relu(self.Conv_10(y) + x))
        return out


def _box(channels: int) -> nn.Conv2d:
    """A fixed 5 x 5 mean of each channel with repeated edges; its weight is part of the published files."""
    layer = nn.Conv2d(channels, channels, 5, padding=2, padding_mode="replicate", groups=channels, bias=False)
    nn.init.constant_(layer.weight, 1 / 25)
    layer.requires_grad_(False)
    return layer


def _check_kernels(kernels: Sequence[int]) -> None:
    if len(kernels) != 3 or any(k < 1 or k % 2 == 0 for k in kernels):
        raise BadSettings(f"got kernels of {list(kernels)} pixels, expected three odd numbers")
