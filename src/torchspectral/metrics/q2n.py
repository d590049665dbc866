"""Q2n: the quality index of images whose pixels are hypercomplex numbers.

References
----------
Garzelli, Nencini, "Hypercomplex quality assessment of multi/hyperspectral images", IEEE GRSL 6 (2009).
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Self

import numpy as np
import torch

from torchspectral.errors import BadSettings
from torchspectral.metrics.base import Metric
from torchspectral.ops.axis import border_index


@lru_cache(maxsize=16)
def cayley_dickson_signs(channels: int) -> np.ndarray:
    """Sign of the product of unit elements i and j, which is unit element ``i xor j``; shape (channels, channels).

    ``(a1, a2)(b1, b2) = (a1 b1 - conj(b2) a2, b2 a1 + a2 conj(b1))``; `channels` is a power of two.
    """
    if channels == 1:
        return np.ones((1, 1))
    half = cayley_dickson_signs(channels // 2)
    conj = -np.ones(channels // 2)
    conj[0] = 1
    return np.block([[half, half.T], [half * conj[None, :], -(half.T * conj[None, :])]])


def block_quality(truth: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Q2n of blocks.

    Parameters
    ----------
    truth, output : Tensor, shape (block, channel, pixel), float64

    Returns
    -------
    Tensor, shape (block,)
    """
    blocks, bands, n = truth.shape
    channels = 1 << max(0, (bands - 1).bit_length())
    mean = truth.mean(2, keepdim=True)
    std = truth.std(2, keepdim=True)
    std = torch.where(std == 0, 1e-10, std)
    zero = mean == 0
    one = (truth - mean) / std + 1
    two = torch.where(zero, output - mean + 1, (output - mean) / std + 1)
    pad = truth.new_ones(blocks, channels - bands, n)
    one, two = torch.cat([one, pad], 1), torch.cat([two, pad], 1)
    conj = -torch.ones(channels, 1, dtype=torch.float64, device=truth.device)
    conj[0] = 1
    two = two * conj
    signs = torch.from_numpy(cayley_dickson_signs(channels)).to(truth.device)
    index = torch.arange(channels, device=truth.device)
    target = (index[:, None] ^ index[None, :]).reshape(-1)
    m1, m2 = one.mean(2), two.mean(2)

    def product(cross: torch.Tensor) -> torch.Tensor:
        summed = cross.new_zeros(blocks, channels)
        return summed.index_add_(1, target, (signs * cross).reshape(blocks, -1))

    mean_product = product(one @ two.transpose(1, 2) / n)
    product_of_means = product(m1[:, :, None] * m2[:, None, :])
    p1, p2 = m1.square().sum(1), m2.square().sum(1)
    sample = n / (n - 1)
    bias = 2 * (p1 * p2).sqrt() / (p1 + p2)
    spread = sample * (one.square().sum(1).mean(1) + two.square().sum(1).mean(1) - p1 - p2)
    flat = spread == 0
    q = sample * (mean_product - product_of_means) * (bias * 2 / torch.where(flat, 1.0, spread))[:, None]
    return torch.where(flat, bias, q.square().sum(1).sqrt())


class Q2n(Metric):
    """Q2n over blocks, 0..1 (1 is best); blocks with an invalid pixel are left out.

    Parameters
    ----------
    block : int
        Side of the blocks [pixel].
    rounding : bool
        Round both images first, as the benchmark does with integer counts.
    """

    name: ClassVar[str] = "Q2n"
    best: ClassVar[str] = "high"
    ideal: ClassVar[float] = 1.0

    def __init__(self, block: int = 32, *, rounding: bool = False) -> None:
        super().__init__()
        if block < 2:
            raise BadSettings(f"got blocks of {block} pixels, expected at least 2")
        self.block, self.align, self.rounding = block, block, rounding
        self.rows: list[torch.Tensor] = []

    def reset(self) -> Self:
        """Forget all blocks."""
        self.rows = []
        return super().reset()

    def merge(self, other: Metric) -> Self:
        """Take in the blocks of another instance."""
        self.rows += getattr(other, "rows", [])
        return super().merge(other)

    def _strip(
        self, output: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor, context: int
    ) -> dict[str, torch.Tensor]:
        side = self.block
        rows, cols = output.shape[-2] - context, output.shape[-1]
        down = torch.from_numpy(border_index(np.arange(-(-rows // side) * side), rows, "symmetric"))
        across = torch.from_numpy(border_index(np.arange(-(-cols // side) * side), cols, "symmetric"))
        down, across = down.to(output.device), across.to(output.device)
        whole = valid[down][:, across]
        quality = []
        for top in range(0, len(down), side):
            lines = down[top : top + side]
            pair = [self._blocks(image, lines, across) for image in (truth, output)]
            quality.append(self._in_pieces(*pair))
        grid = torch.stack(quality)
        keep = whole.reshape(len(down) // side, side, -1, side).all(3).all(1)
        self.rows.append(torch.where(keep, grid, torch.nan))
        return {"n": keep.sum().double(), "quality": grid[keep].sum()}

    def _blocks(self, image: torch.Tensor, lines: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
        strip = image[:, lines][:, :, across]
        if self.rounding:
            strip = strip.round()
        side = self.block
        return strip.reshape(strip.shape[0], side, -1, side).permute(2, 0, 1, 3).reshape(-1, strip.shape[0], side**2)

    @staticmethod
    def _in_pieces(truth: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        step = max(1, (1 << 22) // max(1, truth.shape[1] * truth.shape[2]))
        parts = [block_quality(truth[i : i + step], output[i : i + step]) for i in range(0, truth.shape[0], step)]
        return torch.cat(parts)

    def map(self) -> torch.Tensor:
        """Quality of each block, in the order of the strips; NaN where a block was left out."""
        return torch.cat(self.rows)

    def compute(self) -> float:
        """Mean over the blocks."""
        return float(self.sums["quality"] / self._counted()) if self.sums else float(self._counted())
