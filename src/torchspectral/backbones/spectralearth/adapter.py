"""The spectral adapter: any number of bands becomes 128 channels, pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from torchspectral.backbones.base import check_image
from torchspectral.backbones.spectralearth.bands import enmap_bands
from torchspectral.backbones.spectralearth.blocked import adapt

CHANNELS = 128
BLOCKS = ((1, 32, 7, 5), (32, 64, 7, 5), (64, CHANNELS, 5, 3))
"""Input and output channels, kernel and stride of each convolution along the spectral axis; padding is 1."""
PIXELS = 256
"""Pixels that go through all blocks at once on the CPU: their intermediate values stay in the cache."""


class SpectralAdapter(nn.Sequential):
    """Three convolutions along the spectral axis, each with batch normalisation and ReLU, then the spectral mean.

    Layers and keys are those of the published network (`nn.Conv3d` with kernels (k, 1, 1)). In evaluation, on the CPU
    and where no gradient is wanted, the same numbers (to about 1e-6) come from matrix products over blocks of pixels
    with the normalisation folded into the weights. In training on the CPU, outputs, gradients and running statistics come
    from matrix products too (`blocked.adapt`), in a fraction of the memory.

    References
    ----------
    Braham et al., "SpectralEarth: Training Hyperspectral Foundation Models at Scale", IEEE JSTARS (2025).

    Examples
    --------
    >>> SpectralAdapter()(torch.zeros(1, 202, 4, 4)).shape
    torch.Size([1, 128, 4, 4])
    """

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for before, after, kernel, stride in BLOCKS:
            convolution = nn.Conv3d(before, after, (kernel, 1, 1), (stride, 1, 1), (1, 0, 0))
            layers += [convolution, nn.BatchNorm3d(after), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool3d((1, None, None)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adapt the bands.

        Parameters
        ----------
        x : Tensor (n, bands, y, x)
            At least 75 bands, standardised.

        Returns
        -------
        Tensor (n, 128, y, x)

        Raises
        ------
        BandMismatch, BadInput
        """
        check_image(x)
        enmap_bands().check(x.shape[1])
        if self._can_block(x):
            return self._blocked(x)
        if self._can_train_in_blocks(x):
            return adapt(x, list(self))
        return super().forward(x.unsqueeze(1)).squeeze(2)

    def _can_block(self, x: torch.Tensor) -> bool:
        if self.training or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return False
        wanted = torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.parameters()))
        return not wanted and x.dtype == self[0].weight.dtype and x.dtype in (torch.float32, torch.float64)

    def _can_train_in_blocks(self, x: torch.Tensor) -> bool:
        # Other norms (synchronised over processes, or frozen) have statistics of their own.
        plain = all(type(self[i]) is nn.BatchNorm3d and self[i].training for i in range(1, 3 * len(BLOCKS), 3))
        if not plain or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return False
        return x.dtype == self[0].weight.dtype and x.dtype in (torch.float32, torch.float64)

    def _folded(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Weight (outputs, kernel * inputs), inputs fastest, and bias (outputs, 1) of each block, normalisation in."""
        for i in range(0, 3 * len(BLOCKS), 3):
            convolution: Any = self[i]
            norm: Any = self[i + 1]
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            weight = convolution.weight[..., 0, 0] * scale[:, None, None]
            bias = (convolution.bias - norm.running_mean) * scale + norm.bias
            yield weight.transpose(1, 2).flatten(1).contiguous(), bias[:, None]

    @torch.no_grad()
    def _blocked(self, x: torch.Tensor) -> torch.Tensor:
        images, bands, rows, cols = x.shape
        folded, flat = list(self._folded()), x.reshape(images, bands, rows * cols)
        result = x.new_empty(images, CHANNELS, rows * cols)
        for low in range(0, rows * cols, PIXELS):
            high = min(low + PIXELS, rows * cols)
            steps = _buffers(x, bands, high - low)
            for image in range(images):
                steps[0][1:-1, 0] = flat[image, :, low:high]
                for (weight, bias), source, target, (_, _, kernel, stride) in zip(
                    folded, steps[:-1], steps[1:], BLOCKS, strict=True
                ):
                    inside = target[1:-1]
                    _convolve(source, weight, bias, kernel, stride, inside)
                torch.mean(inside, 0, out=result[image, :, low:high])
        return result.view(images, CHANNELS, rows, cols)


def _buffers(x: torch.Tensor, bands: int, pixels: int) -> list[torch.Tensor]:
    """Input and outputs of the blocks, (length + 2, channels, pixels), the padding rows zero."""
    buffers, length = [x.new_zeros(bands + 2, 1, pixels)], bands
    for _, channels, kernel, stride in BLOCKS:
        length = (length + 2 - kernel) // stride + 1
        buffers.append(x.new_zeros(length + 2, channels, pixels))
    return buffers


def _convolve(
    source: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, kernel: int, stride: int, out: torch.Tensor
) -> None:
    """One convolution with ReLU as a batch of products: a window's rows are contiguous."""
    _, channels, pixels = source.shape
    length = out.shape[0]
    windows = source.as_strided(
        (length, kernel * channels, pixels), (stride * channels * pixels, pixels, 1), source.storage_offset()
    )
    torch.baddbmm(bias.expand(length, -1, pixels), weight.expand(length, -1, -1), windows, out=out)
    out.relu_()
