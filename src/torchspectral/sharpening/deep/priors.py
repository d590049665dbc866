"""Networks that are an image prior by themselves: DIP and DHP, and the band weights that make a PAN of an image."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from torchspectral.errors import BandMismatch

LEVELS = 5
SMALLEST_CANVAS = 34
"""Pixels: on anything smaller the deepest level has a single one, which a reflected border cannot extend."""


def lanczos(factor: int, phase: float, support: int = 2) -> np.ndarray:
    """Taps of a Lanczos window for decimation, normalised to sum 1.

    Parameters
    ----------
    factor : int
        Of the decimation.
    phase : {0, 0.5}
        0: an odd number of taps around a sample; 0.5: an even number around the middle between two.
    support : int
        Lobes.

    References
    ----------
    Duchon, "Lanczos filtering in one and two dimensions", J. Appl. Meteorol. 18 (1979).
    """
    count = 2 * support * factor + (1 if phase == 0 else 0)
    place = (np.arange(count) - (count - 1) / 2) / factor
    taps = np.sinc(place) * np.sinc(place / support)
    return taps / taps.sum()


def _conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    if size == 1:
        return nn.Conv2d(inputs, outputs, 1, stride)
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, padding_mode="reflect")


class _Strided(nn.Module):
    """Down block of DIP: a strided layer, then one at the new size."""

    def __init__(self, inputs: int, channels: int, slope: float) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, channels, stride=2)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.bn1(self.conv1(x)), self.slope)
        return F.leaky_relu(self.bn2(self.conv2(x)), self.slope)


class _LanczosFilter(nn.Module):
    """Lanczos decimation by 2 whose every output channel is the decimated sum of all input channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = lanczos(2, 0.0)
        self.downsampler = nn.Conv2d(channels, channels, taps.size, 2, bias=False)
        self.downsampler.weight.requires_grad_(False)
        plane = torch.from_numpy(np.outer(taps, taps)).to(self.downsampler.weight.dtype)
        self.downsampler.weight.copy_(plane.expand_as(self.downsampler.weight))
        self.one_plane = True
        self.register_load_state_dict_post_hook(_LanczosFilter._look)

    def _look(self, _: object) -> None:
        """Loaded filters may have planes of their own."""
        weight = self.downsampler.weight
        self.one_plane = bool((weight == weight[:1, :1]).all())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.downsampler.weight
        reach = weight.shape[-1] // 2
        if self.one_plane:  # the same numbers with one channel's work
            x = F.pad(x.sum(1, keepdim=True), (reach,) * 4, mode="replicate")
            return F.conv2d(x, weight[:1, :1], stride=2).expand(-1, weight.shape[0], -1, -1)
        return self.downsampler(F.pad(x, (reach,) * 4, mode="replicate"))


class _Decimated(nn.Module):
    """Down block of DHP: the Lanczos filter, then a layer at the new size."""

    def __init__(self, channels: int, slope: float) -> None:
        super().__init__()
        self.dw = _LanczosFilter(channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.bn1(self.dw(x)), self.slope)
        return F.leaky_relu(self.bn2(self.conv2(x)), self.slope)


class _Skip(nn.Module):
    def __init__(self, channels: int, skip: int, slope: float) -> None:
        super().__init__()
        self.conv1 = _conv(channels, skip, 1)
        self.bn1 = nn.BatchNorm2d(skip)
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(self.bn1(self.conv1(x)), self.slope)


class _Up(nn.Module):
    """Up block: two layers, then twice the size. DIP has a norm before and a 1 x 1 layer behind, DHP has neither."""

    def __init__(self, inputs: int, channels: int, slope: float, full: bool) -> None:
        super().__init__()
        if full:
            self.bn0 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv(inputs, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        if full:
            self.conv1x = _conv(channels, channels, 1)
            self.bn1x = nn.BatchNorm2d(channels)
        self.slope, self.full = slope, full

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.full:
            x = self.bn0(x)
        x = F.leaky_relu(self.bn1(self.conv1(x)), self.slope)
        x = F.leaky_relu(self.bn2(self.conv2(x)), self.slope)
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return F.leaky_relu(self.bn1x(self.conv1x(x)), self.slope) if self.full else x


def _same_size(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut both to the smaller of the two, around the centre."""
    rows, cols = min(a.shape[-2], b.shape[-2]), min(a.shape[-1], b.shape[-1])

    def cut(x: torch.Tensor) -> torch.Tensor:
        top, left = (x.shape[-2] - rows) // 2, (x.shape[-1] - cols) // 2
        return x[..., top : top + rows, left : left + cols]

    return cut(a), cut(b)


class _Hourglass(nn.Module):
    """Five levels down and up again, with thin skips taken behind each step down."""

    def _build(self, outputs: int, channels: int, skip: int, slope: float, full: bool) -> None:
        for level in range(1, LEVELS + 1):
            self.add_module(f"skip_{level}", _Skip(channels, skip, slope))
            self.add_module(f"up_{level}", _Up(channels + skip, channels, slope, full))
        self.final_conv = _conv(channels, outputs, 1)

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level in range(1, LEVELS + 1):
            x = self.get_submodule(f"down_{level}")(x)
            skips.append(self.get_submodule(f"skip_{level}")(x))
        for level in range(LEVELS, 0, -1):
            x = self.get_submodule(f"up_{LEVELS + 1 - level}")(torch.cat(_same_size(x, skips[level - 1]), 1))
        return self.final_conv(x)


class DIPNetwork(_Hourglass):
    """Deep image prior: an hourglass that draws an image out of noise.

    Parameters
    ----------
    bands : int
        Of the image that it draws.
    inputs : int
        Channels of noise.
    channels, skip : int
        Of the levels and of the skips between them.

    References
    ----------
    Ulyanov, Vedaldi, Lempitsky, "Deep image prior", CVPR (2018); with these sizes in Bandara, Valanarasu, Patel,
    "Hyperspectral pansharpening based on improved deep image prior and residual reconstruction", IEEE TGRS 60 (2022).
    """

    def __init__(self, bands: int, inputs: int = 32, channels: int = 128, skip: int = 4) -> None:
        super().__init__()
        _check(bands, inputs, channels, skip)
        for level in range(1, LEVELS + 1):
            self.add_module(f"down_{level}", _Strided(inputs if level == 1 else channels, channels, 0.02))
        self._build(bands, channels, skip, 0.02, full=True)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Draw the image: (n, inputs, y, x) to (n, bands, 2 ceil(y / 2), 2 ceil(x / 2)), at least 34 pixels a side."""
        return self._run(noise)


class DHPNetwork(_Hourglass):
    """Deep hyperspectral prior: as DIP, with Lanczos filters for the strided layers.

    The filters sum over the channels, as in the published layout; they are fixed.

    Parameters
    ----------
    bands : int
        Of the input and of the image that it draws.
    channels, skip : int

    References
    ----------
    Zheng, Li, Li, Guo, Wu, Chanussot, "Hyperspectral pansharpening using deep prior and dual attention residual
    network", IEEE TGRS 58 (2020).
    """

    def __init__(self, bands: int, channels: int = 128, skip: int = 4) -> None:
        super().__init__()
        _check(bands, channels, skip)
        self.conv1 = _conv(bands, channels)
        for level in range(1, LEVELS + 1):
            self.add_module(f"down_{level}", _Decimated(channels, 0.01))
        self._build(bands, channels, skip, 0.01, full=False)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Draw the image: (n, bands, y, x) to (n, bands, 2 ceil(y / 2), 2 ceil(x / 2)), at least 34 pixels a side."""
        return self._run(self.conv1(noise))


class PanPrediction(nn.Module):
    """A PAN as the weighted sum of an image's bands, with weights that follow from the image's mean spectrum.

    Parameters
    ----------
    bands : int
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        _check(bands)
        self.conv1 = nn.Conv2d(bands, max(bands // 2, 1), 1)
        self.conv2 = nn.Conv2d(max(bands // 2, 1), bands, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predict: (n, bands, y, x) to (n, 1, y, x)."""
        mean = image.mean((-2, -1), keepdim=True)
        weights = torch.softmax(self.conv2(torch.relu(self.conv1(mean))), 1)
        return (weights * image).sum(1, keepdim=True)


def _check(*counts: int) -> None:
    if min(counts) < 1:
        raise BandMismatch(f"got {counts} bands and channels, expected at least 1 of each")
