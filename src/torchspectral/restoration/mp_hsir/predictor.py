"""Which degradations an image has: a residual network of fast Fourier convolutions, beside MP-HSIR.

Features come in two parts, a local and a global one. The global part of a layer looks at the whole image, through
1 x 1 convolutions of its spectrum and of the spectrum of its four quarters.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from torchspectral.errors import BadSettings, BandMismatch

SIDE = 256
"""Rows and columns that every image is brought to."""
DEPTHS = (2, 2, 2, 2)
SHARES = ((0.0, 0.5), (0.5, 0.5), (0.5, 0.5), (0.5, 0.0))
"""Share of the channels that are global, before and after each of the four stages."""

Parts = tuple[torch.Tensor, torch.Tensor | None]
"""Local and global features, (n, channel, y, x)."""


class FourierUnit(nn.Module):
    """A 1 x 1 convolution of the spectrum: real parts of all channels, then imaginary ones.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_layer = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(2 * channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (n, channel, y, x) to the same."""
        spectrum = torch.fft.rfft2(x.float(), norm="ortho")
        both = torch.cat([spectrum.real, spectrum.imag], dim=1)
        real, imaginary = functional.relu(self.bn(self.conv_layer(both))).float().chunk(2, dim=1)
        return torch.fft.irfft2(torch.complex(real, imaginary), s=x.shape[-2:], norm="ortho").to(x.dtype)


class SpectralTransform(nn.Module):
    """Global features to global ones: half the channels through the spectra of the image and of its quarters.

    Parameters
    ----------
    inputs, outputs : int
    stride : {1, 2}
        2 averages 2 x 2 pixels first.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.downsample = nn.AvgPool2d(2) if stride == 2 else nn.Identity()
        self.conv1 = nn.Sequential(nn.Conv2d(inputs, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(True))
        self.fu = FourierUnit(half)
        self.lfu = FourierUnit(half)
        self.conv2 = nn.Conv2d(half, outputs, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (n, inputs, y, x) to (n, outputs, y / stride, x / stride); even sides."""
        y: torch.Tensor = self.conv1(self.downsample(x))
        quarter = y[:, : y.shape[1] // 4]
        quarter = torch.cat(quarter.chunk(2, dim=-2), dim=1)
        quarter = torch.cat(quarter.chunk(2, dim=-1), dim=1)
        out: torch.Tensor = self.conv2(y + self.fu(y) + self.lfu(quarter).tile(1, 1, 2, 2))
        return out


class FastFourierConvolution(nn.Module):
    """Convolutions within and between the parts, each output part with a batch norm, and a ReLU where asked for.

    Parameters
    ----------
    inputs, outputs : int
    shares : (float, float)
        Of global channels, before and after.
    size : {1, 3}
    stride : {1, 2}
    active : bool
    """

    def __init__(
        self, inputs: int, outputs: int, shares: tuple[float, float], size: int, stride: int, active: bool
    ) -> None:
        super().__init__()
        into, made = int(inputs * shares[0]), int(outputs * shares[1])

        def conv(a: int, b: int) -> nn.Module | None:
            return nn.Conv2d(a, b, size, stride, size // 2, bias=False) if a and b else None

        self.convl2l = conv(inputs - into, outputs - made)
        self.convl2g = conv(inputs - into, made)
        self.convg2l = conv(into, outputs - made)
        self.convg2g = SpectralTransform(into, made, stride) if into and made else None
        self.bn_l = nn.BatchNorm2d(outputs - made)
        self.bn_g = nn.BatchNorm2d(made) if made else None
        self.active = active

    def forward(self, parts: Parts) -> Parts:
        """Both parts."""
        near, far = parts
        local = self.bn_l(_sum(self.convl2l, near, self.convg2l, far))
        broad = None if self.bn_g is None else self.bn_g(_sum(self.convl2g, near, self.convg2g, far))
        if not self.active:
            return local, broad
        return functional.relu(local), None if broad is None else functional.relu(broad)


def _sum(one: nn.Module | None, near: torch.Tensor, other: nn.Module | None, far: torch.Tensor | None) -> torch.Tensor:
    assert one is not None
    out: torch.Tensor = one(near)
    return out if other is None else out + other(far)


class Block(nn.Module):
    """Two convolutions and what comes in, through a convolution of its own in the first block of a stage."""

    def __init__(self, inputs: int, outputs: int, shares: tuple[float, float], stride: int, first: bool) -> None:
        super().__init__()
        later = (shares[1], shares[1])
        before = shares if first else later
        self.conv1 = FastFourierConvolution(inputs, outputs, before, 3, stride, True)
        self.conv2 = FastFourierConvolution(outputs, outputs, later, 3, 1, False)
        self.downsample = FastFourierConvolution(inputs, outputs, before, 1, stride, False) if first else None

    def forward(self, parts: Parts) -> Parts:
        """Both parts."""
        kept = parts if self.downsample is None else self.downsample(parts)
        local, broad = self.conv2(self.conv1(parts))
        local = functional.relu(local + kept[0])
        return local, None if broad is None else functional.relu(broad + kept[1])


class DegradationPredictor(nn.Module):
    """Logits of the degradations of an image; several may be there at once.

    Parameters
    ----------
    bands : int
    tasks : int
        Outputs: the tasks of MP-HSIR but lost bands, which the values themselves tell; 5 for natural scenes, 6 with haze.
    width : int
        Channels of the first stage: 64 for 31 bands, 128 for 100 bands; a multiple of 16.

    References
    ----------
    Wu et al., "MP-HSIR: a multi-prompt framework for universal hyperspectral image restoration", arXiv 2503.09131
    (2025), appendix. Chi, Jiang, Mu, "Fast Fourier convolution", NeurIPS 2020.
    """

    def __init__(self, bands: int = 31, tasks: int = 5, width: int = 64) -> None:
        super().__init__()
        if min(bands, tasks) < 1 or width < 16 or width % 16:
            raise BadSettings(
                f"got {bands} bands, {tasks} tasks and width={width}, expected at least 1 and 1, and a multiple of 16"
            )
        self.bands = bands
        self.conv1 = nn.Conv2d(bands, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for number, (depth, shares) in enumerate(zip(DEPTHS, SHARES, strict=True), start=1):
            outputs, stride = width * 2 ** (number - 1), 1 if number == 1 else 2
            blocks = [
                Block(inputs if k == 0 else outputs, outputs, shares, stride if k == 0 else 1, k == 0)
                for k in range(depth)
            ]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            inputs = outputs
        self.fc = nn.Linear(inputs, tasks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, tasks) of images (n, band, y, x) in 0..1 of any size.

        Raises
        ------
        BandMismatch
        """
        if x.ndim != 4 or x.shape[1] != self.bands:
            raise BandMismatch(f"got images of shape {tuple(x.shape)}, expected (n, {self.bands}, y, x)")
        x = functional.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
        y = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        parts: Parts = (y, None)
        for number in range(1, len(DEPTHS) + 1):
            for block in self.get_submodule(f"layer{number}").children():
                parts = block(parts)
        out: torch.Tensor = self.fc(parts[0].mean((-2, -1)))
        return out
