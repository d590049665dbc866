"""3 x 3 convolution at inference: Winograd's minimal filtering on the CPU, the library's own everywhere else.

References
----------
Lavin, Gray, "Fast algorithms for convolutional neural networks", CVPR 2016: F(2 x 2, 3 x 3), 16 products for 4 outputs
in place of 36, with factors of 0, 1 and 1/2 alone, so that rounding stays that of the direct sum.
"""

from __future__ import annotations

import torch
from torch import nn

LEAST_CHANNELS = 128
"""Fewer channels than this, and transforming costs what the smaller products save."""

LEAST_PIXELS = 2048
"""Fewer pixels (of a batch) than this, and transforming the weights costs too much."""

STRIP_BYTES = 8 << 20
"""Transformed values worked on at a time: they stay in the processor's cache."""


def conv3(
    x: torch.Tensor, layer: nn.Conv2d, above: int = 0, below: int = 0, kernels: torch.Tensor | None = None
) -> torch.Tensor:
    """A 3 x 3 convolution of unchanged size with zeros outside, as ``layer(x)`` up to rounding.

    Parameters
    ----------
    x : Tensor, shape (n, channel, y, x)
        Any memory layout; channels last is fastest.
    layer : torch.nn.Conv2d
        3 x 3, padding 1, stride 1.
    above, below : {0, 1}
        First and last rows of `x` that are there as neighbours only: the output lacks them.
    kernels : Tensor, optional
        ``transformed(layer.weight)``, where many parts of an image follow each other.

    Returns
    -------
    Tensor, shape (n, outputs, y - above - below, x)
    """
    if torch.is_grad_enabled() or not fits(x, layer.weight):
        out: torch.Tensor = layer(x)
        return out[..., above : out.shape[-2] - below, :]
    return minimal_filtering(x, transformed(layer.weight) if kernels is None else kernels, layer.bias, above, below)


def fits(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether Winograd's way is the faster one for this image and these weights."""
    outputs, channels = weight.shape[:2]
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and min(outputs, channels) >= LEAST_CHANNELS
        and x.shape[0] * x.shape[-2] * x.shape[-1] >= LEAST_PIXELS
        and not torch.is_autocast_enabled("cpu")
    )


def minimal_filtering(
    x: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor | None, above: int = 0, below: int = 0
) -> torch.Tensor:
    """F(2 x 2, 3 x 3) in strips of rows; needs no gradient.

    Parameters
    ----------
    x : Tensor, shape (n, channel, y, x)
    kernels : Tensor, shape (16, outputs, channel)
        See `transformed`.
    bias : Tensor, shape (outputs,), optional
    above, below : {0, 1}
        See `conv3`.

    Returns
    -------
    Tensor, shape (n, outputs, y - above - below, x)
        Channels last in memory.
    """
    n, channels, height, width = x.shape
    outputs, height = kernels.shape[1], height - above - below
    rows, cols = -(-height // 2), -(-width // 2)
    out = x.new_empty(n, 2 * rows, 2 * cols, outputs)
    strip = max(1, min(rows, STRIP_BYTES // (64 * (channels + outputs) * cols)))
    room = _Room(x, strip, cols, channels, outputs)
    for image, result in zip(x.permute(0, 2, 3, 1), out, strict=True):
        for top in range(0, rows, strip):
            count = min(strip, rows - top)
            target = result[2 * top : 2 * (top + count)]
            room.products(
                room.window(image, 2 * top + above, count), kernels, bias, target.view(count, 2, cols, 2, outputs)
            )
    return out[:, :height, :width].permute(0, 3, 1, 2)


def transformed(weight: torch.Tensor) -> torch.Tensor:
    """Kernels in the transformed domain, (16, outputs, channel)."""
    outputs, channels = weight.shape[:2]
    g = weight.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    return (torch.kron(g, g) @ weight.reshape(-1, 9).T).view(16, outputs, channels)


class _Room:
    """Memory of one strip, used again and again.

    Parameters
    ----------
    like : Tensor
        Gives type and device.
    strip, cols : int
        Rows and columns of 2 x 2 output squares.
    """

    def __init__(self, like: torch.Tensor, strip: int, cols: int, channels: int, outputs: int) -> None:
        self.cols, self.channels, self.outputs = cols, channels, outputs
        self.source = like.new_zeros(2 * strip + 2, 2 * cols + 2, channels)
        self.half = like.new_empty(4, strip, 2 * cols + 2, channels)
        self.values = like.new_empty(16 * strip * cols * channels)
        self.sums = like.new_empty(16 * strip * cols * outputs)
        self.rows = like.new_empty(2, 4, strip, cols, outputs)

    def window(self, image: torch.Tensor, first: int, count: int) -> torch.Tensor:
        """Rows first-1 .. first+2*count of an image (y, x, channel), zeros outside, one column of zeros in front."""
        height, width = image.shape[:2]
        top, bottom = first - 1, first + 2 * count + 1
        source = self.source[: bottom - top]
        above, below = max(0, -top), max(0, bottom - height)
        source[:above].zero_()
        source[source.shape[0] - below :].zero_()
        source[above : source.shape[0] - below, 1 : width + 1].copy_(image[top + above : bottom - below])
        return source

    def products(
        self, source: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor | None, target: torch.Tensor
    ) -> None:
        """Output of a strip of squares, into `target`, (rows of squares, 2, columns of squares, 2, outputs)."""
        count, cols, channels, outputs = target.shape[0], self.cols, self.channels, self.outputs
        half = self.half[:, :count]
        _into(half, [source[k : k + 2 * count - 1 : 2] for k in range(4)])
        values = self.values[: 16 * count * cols * channels].view(4, 4, count, cols, channels)
        _into(values.transpose(0, 1), [half[:, :, k : k + 2 * cols - 1 : 2] for k in range(4)])
        sums = self.sums[: 16 * count * cols * outputs].view(16, count * cols, outputs)
        torch.bmm(values.view(16, count * cols, channels), kernels.transpose(1, 2), out=sums)
        if bias is not None:
            sums[5].add_(bias)  # the one product that counts once in each of the four outputs
        rows = self.rows[:, :, :count]
        _out_of(sums.view(4, 4, count, cols, outputs), rows)
        _out_of(rows.transpose(0, 1), target.permute(3, 1, 0, 2, 4))


def _into(target: torch.Tensor, d: list[torch.Tensor]) -> None:
    """One side of the input's transform."""
    torch.sub(d[0], d[2], out=target[0])
    torch.add(d[1], d[2], out=target[1])
    torch.sub(d[2], d[1], out=target[2])
    torch.sub(d[1], d[3], out=target[3])


def _out_of(m: torch.Tensor, target: torch.Tensor) -> None:
    """One side of the output's transform, 4 to 2."""
    torch.add(m[0], m[1], out=target[0]).add_(m[2])
    torch.sub(m[1], m[2], out=target[1]).sub_(m[3])
