"""3 x 3 convolution at inference: Winograd's minimal filtering on the CPU, the library's own everywhere else.

References
----------
Lavin, Gray, "Fast algorithms for convolutional neural networks", CVPR 2016: F(4 x 4, 3 x 3), 36 products for 16 outputs
in place of 144. Its factors of up to 8 cost a digit: results are within 2e-5 of the direct sum's largest value.
"""

from __future__ import annotations

import torch
from torch import nn

LEAST_CHANNELS = 128
"""Fewer channels than this, and transforming costs what the smaller products save."""

LEAST_PIXELS = 2048
"""Fewer pixels (of a batch) than this, and transforming the weights costs too much."""

STRIP_BYTES = 12 << 20
"""Transformed values worked on at a time: they stay in the processor's cache."""

SIDE = 4
"""Rows and columns of outputs that are made together."""
SPAN = SIDE + 2
"""Rows and columns of inputs that they look at."""
INPUT = (
    (4.0, 0.0, -5.0, 0.0, 1.0, 0.0),
    (0.0, -4.0, -4.0, 1.0, 1.0, 0.0),
    (0.0, 4.0, -4.0, -1.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 2.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, 4.0, 0.0, -5.0, 0.0, 1.0),
)
"""One side of the inputs' transform."""
OUTPUT = (
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, -2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 4.0, 0.0),
    (0.0, 1.0, -1.0, 8.0, -8.0, 1.0),
)
"""One side of the outputs' transform."""
KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
"""One side of the kernel's transform."""


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
    """F(4 x 4, 3 x 3) in strips of rows; needs no gradient.

    Parameters
    ----------
    x : Tensor, shape (n, channel, y, x)
    kernels : Tensor, shape (36, outputs, channel)
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
    rows, cols = -(-height // SIDE), -(-width // SIDE)
    out = x.new_empty(n, SIDE * rows, SIDE * cols, outputs)
    strip = max(1, min(rows, STRIP_BYTES // (4 * SPAN**2 * (channels + outputs) * cols)))
    room = _Room(x, strip, cols, channels, outputs)
    for image, result in zip(x.permute(0, 2, 3, 1), out, strict=True):
        for top in range(0, rows, strip):
            count = min(strip, rows - top)
            target = result[SIDE * top : SIDE * (top + count)].view(count, SIDE, cols, SIDE, outputs)
            room.products(room.window(image, SIDE * top + above, count), kernels, bias, target)
    return out[:, :height, :width].permute(0, 3, 1, 2)


def transformed(weight: torch.Tensor) -> torch.Tensor:
    """Kernels in the transformed domain, (36, outputs, channel)."""
    outputs, channels = weight.shape[:2]
    g = torch.tensor(KERNEL, dtype=torch.float64, device=weight.device)
    made = torch.kron(g, g).to(weight) @ weight.reshape(-1, 9).T
    return made.view(SPAN**2, outputs, channels)


class _Room:
    """Memory of one strip, used again and again.

    Parameters
    ----------
    like : Tensor
        Gives type and device.
    strip, cols : int
        Rows and columns of squares of outputs.
    """

    def __init__(self, like: torch.Tensor, strip: int, cols: int, channels: int, outputs: int) -> None:
        self.cols, self.channels, self.outputs = cols, channels, outputs
        self.into, self.out_of = (torch.kron(one, one).to(like) for one in (torch.tensor(INPUT), torch.tensor(OUTPUT)))
        self.source = like.new_zeros(SIDE * strip + 2, SIDE * cols + 2, channels)
        wide = SPAN**2 * strip * cols
        self.taken = like.new_empty(wide * max(channels, outputs))  # squares of inputs, then sums of products
        self.values = like.new_empty(max(wide * channels, SIDE**2 * strip * cols * outputs))

    def window(self, image: torch.Tensor, first: int, count: int) -> torch.Tensor:
        """Rows first-1 .. first+4*count of an image (y, x, channel), zeros outside, one column of zeros in front."""
        height, width = image.shape[:2]
        top, bottom = first - 1, first + SIDE * count + 1
        source = self.source[: bottom - top]
        above, below = max(0, -top), max(0, bottom - height)
        source[:above].zero_()
        source[source.shape[0] - below :].zero_()
        source[above : source.shape[0] - below, 1 : width + 1].copy_(image[top + above : bottom - below])
        return source

    def products(
        self, source: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor | None, target: torch.Tensor
    ) -> None:
        """Output of a strip of squares, into `target`, (rows of squares, 4, columns of squares, 4, outputs)."""
        count, cols, channels, outputs = target.shape[0], self.cols, self.channels, self.outputs
        squares = count * cols
        taken = self.taken[: SPAN**2 * squares * channels].view(SPAN, SPAN, count, cols, channels)
        row, col, _ = source.stride()
        taken.copy_(source.as_strided(taken.shape, (row, col, SIDE * row, SIDE * col, 1)))
        values = self.values[: SPAN**2 * squares * channels].view(SPAN**2, squares, channels)
        torch.mm(self.into, taken.view(SPAN**2, -1), out=values.view(SPAN**2, -1))
        sums = self.taken[: SPAN**2 * squares * outputs].view(SPAN**2, squares, outputs)
        torch.bmm(values, kernels.transpose(1, 2), out=sums)
        if bias is not None:
            sums[SPAN + 1].add_(bias)  # the one product that counts once in each of the outputs
        made = self.values[: SIDE**2 * squares * outputs].view(SIDE, SIDE, count, cols, outputs)
        torch.mm(self.out_of, sums.view(SPAN**2, -1), out=made.view(SIDE**2, -1))
        target.copy_(made.permute(2, 0, 3, 1, 4))
