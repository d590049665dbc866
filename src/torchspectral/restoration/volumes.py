"""What the networks on volumes (n, channel, band, y, x) share: places of tiles, pooling, up-sampling, flat convolutions, first weights.

Volumes lie in memory with the channels last, so that layers which look along one or two axes are 2-D convolutions on
views and pixel-wise layers are matrix products on rows, without copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

CHUNK = 1 << 13
"""Rows of a matrix product that stay in the cache together."""


class Reached(Exception):
    """The forward pass came to the first pooling whose mean is not known; carries the sums of this tile."""

    def __init__(self, total: torch.Tensor, count: int) -> None:
        super().__init__("pooling reached")
        self.total = total
        self.count = count


@dataclass
class Ground:
    """Where a tile lies in its scene, for layers that look at the whole of it.

    Attributes
    ----------
    row, col : int
        First pixel of the tile.
    height, width : int
        Size of the scene, padded to what the network divides.
    core : tuple of slice
        Rows and columns of the tile that no other tile answers for, padding at the scene's edge included.
    size : tuple of int
        Rows and columns of the tile, padding included.
    means : sequence of Tensor, optional
        Spatial means over the scene, (band, channel), one a pooling in their order; None: each tile's own.
    """

    row: int
    col: int
    height: int
    width: int
    core: tuple[slice, slice] = (slice(None), slice(None))
    size: tuple[int, int] = (0, 0)
    means: Sequence[torch.Tensor] | None = None
    _next: int = field(default=0, repr=False)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Spatial mean of the next pooling, (n, band, channel).

        Raises
        ------
        Reached
            It is not among the means.
        """
        if self.means is None:
            return plain_mean(x)
        if self._next < len(self.means):
            known = self.means[self._next].to(x)
            self._next += 1
            return known.expand(x.shape[0], -1, -1)
        step = self.size[0] // x.shape[-2]
        rows, cols = (slice(s.start // step, s.stop // step) for s in self.core)
        own = x[..., rows, cols]
        raise Reached(own.double().sum((0, 3, 4)).T.contiguous(), int(own.shape[0] * own.shape[-2] * own.shape[-1]))


def plain_mean(x: torch.Tensor) -> torch.Tensor:
    """Spatial mean of a volume, (n, band, channel)."""
    return x.mean((3, 4)).transpose(1, 2)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """The volume with its channels last in memory."""
    return x.contiguous(memory_format=torch.channels_last_3d)


def as_images(x: torch.Tensor) -> torch.Tensor:
    """View of a volume as one image a band, (n * band, channel, y, x)."""
    n, c, d, h, w = x.shape
    return channels_last(x).permute(0, 2, 3, 4, 1).reshape(n * d, h, w, c).permute(0, 3, 1, 2)


def from_images(images: torch.Tensor, n: int) -> torch.Tensor:
    """The reverse of `as_images`."""
    _, c, h, w = images.shape
    last = images.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return last.reshape(n, -1, h, w, c).permute(0, 4, 1, 2, 3)


def rows_of(x: torch.Tensor) -> torch.Tensor:
    """View of a volume as one row a voxel, (n * band * y * x, channel)."""
    return channels_last(x).permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1])


def from_rows(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The reverse of `rows_of`; n, band, y, x are those of `like`."""
    n, _, d, h, w = like.shape
    return rows.view(n, d, h, w, -1).permute(0, 4, 1, 2, 3)


def spatial_conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Convolution (1, k, k) with zero padding as a 2-D convolution of the bands.

    Parameters
    ----------
    weight : Tensor, shape (out, in, 1, k, k)
    """
    kernel = weight[:, :, 0].contiguous(memory_format=torch.channels_last)
    out = functional.conv2d(as_images(x), kernel, bias, padding=weight.shape[-1] // 2)
    return from_images(out, x.shape[0])


def spectral_conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Convolution (k, 1, 1) with zero padding as a 2-D convolution over bands and pixels.

    Parameters
    ----------
    weight : Tensor, shape (out, in, k, 1, 1)
    """
    n, c, d, h, w = x.shape
    plane = channels_last(x).permute(0, 2, 3, 4, 1).reshape(n, d, h * w, c).permute(0, 3, 1, 2)
    kernel = weight[..., 0].contiguous(memory_format=torch.channels_last)
    out = functional.conv2d(plane, kernel, bias, padding=(weight.shape[2] // 2, 0))
    last = out.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return last.reshape(n, d, h, w, -1).permute(0, 4, 1, 2, 3)


def upsample(x: torch.Tensor, ground: Ground | None = None) -> torch.Tensor:
    """Twice the rows and columns by linear interpolation between aligned corners; bands are left alone.

    Parameters
    ----------
    x : Tensor, shape (n, channel, band, y, x)
    ground : Ground, optional
        Of the tile: corners are then those of the scene, so that a tile gets the scene's values.
    """
    images = as_images(x)
    if ground is None or (ground.row, ground.col, ground.height, ground.width) == (0, 0, *ground.size):
        out = functional.interpolate(images, scale_factor=2, mode="bilinear", align_corners=True)
        return from_images(out, x.shape[0])
    step = ground.size[0] // x.shape[-2]
    for axis, start, length in ((2, ground.row, ground.height), (3, ground.col, ground.width)):
        images = _stretch(images, axis, start // step, length // step)
    return from_images(images, x.shape[0])


def _stretch(images: torch.Tensor, axis: int, start: int, length: int) -> torch.Tensor:
    """One axis of a piece that begins at `start` of a side of `length` values."""
    size = images.shape[axis]
    fine = torch.arange(2 * start, 2 * (start + size), device=images.device, dtype=torch.float64)
    place = fine * ((length - 1) / max(2 * length - 1, 1)) - start
    low = place.floor().clamp(0, size - 1)
    share = (place - low).clamp(0, 1).to(images.dtype)
    first, second = low.long(), (low.long() + 1).clamp(max=size - 1)
    share = share.view([-1 if k == axis else 1 for k in range(4)])
    return torch.lerp(images.index_select(axis, first), images.index_select(axis, second), share)


def chunks(rows: int, training: bool) -> Iterator[slice]:
    """Slices of the rows of a matrix product: small ones where no gradient is kept, else one."""
    step = max(rows, 1) if training else CHUNK
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def pad_to(x: torch.Tensor, multiple: int, bottom: bool = True, right: bool = True) -> torch.Tensor:
    """Extend rows and columns to a multiple by mirroring at the edge (repeating where the image is too small).

    Parameters
    ----------
    x : Tensor, shape (n, band, y, x)
    bottom, right : bool
        Whether to extend the rows and the columns.
    """
    down = -x.shape[-2] % multiple if bottom else 0
    across = -x.shape[-1] % multiple if right else 0
    if not (down or across):
        return x
    small = down >= x.shape[-2] or across >= x.shape[-1]
    return functional.pad(x, (0, across, 0, down), mode="replicate" if small else "reflect")


def initialise(network: nn.Module, kind: Literal["xavier", "kaiming"]) -> None:
    """Give a network the first weights of the authors' training code, linear layers next to nothing and no offsets.

    Transposed convolutions keep what they have, as there.

    Parameters
    ----------
    network : Module
    kind : {"xavier", "kaiming"}
        Of 2-D and 3-D convolutions: normal, by inputs and outputs, or by outputs alone.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            if kind == "xavier":
                nn.init.xavier_normal_(module.weight)
            else:
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1e-3)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
