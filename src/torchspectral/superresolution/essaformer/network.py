"""ESSAformer's network, trained as published; at inference the same numbers in strips, with less memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from torchspectral.errors import BadSettings
from torchspectral.superresolution.convolution import conv3, fits, transformed
from torchspectral.superresolution.essaformer.attention import Folded, SpectralAttention, Sums

PASSES = 5
"""Refinements of one forward pass: fine, coarse, fine, coarse, fine."""
CHUNK_BYTES = 8 << 20
"""Widest feature map that is held at a time in a refinement at inference."""


class Refiner(nn.Module):
    """Attention over all pixels, then convolutions, added to the input.

    Parameters
    ----------
    dim : int
        Channels.
    dropout : float
        Share of channels that are dropped in training, three times.
    name : str
        Of the convolutions in the state dict.
    """

    def __init__(self, dim: int, dropout: float, name: str) -> None:
        super().__init__()
        self.attn = SpectralAttention(dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout2d(dropout)
        self.stack_name = name
        self.add_module(
            name,
            nn.Sequential(
                nn.Conv2d(2 * dim, 2 * dim, 1),
                nn.LeakyReLU(0.2),
                nn.Dropout2d(dropout),
                nn.Conv2d(2 * dim, 2 * dim, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Dropout2d(dropout),
                nn.Conv2d(2 * dim, dim, 1),
            ),
        )

    def forward(self, x: torch.Tensor, sums: Sums | None = None) -> torch.Tensor:
        """Refine a feature map, (n, dim, y, x).

        Parameters
        ----------
        x : Tensor, shape (n, dim, y, x)
        sums : Sums, optional
            Of the attention's tokens, where `x` is a part of more; needs no gradient.
        """
        if sums is not None or not (torch.is_grad_enabled() or self.training or torch.is_autocast_enabled(_kind(x))):
            return self._in_strips(x, self.sums(x) if sums is None else sums)
        n, dim, height, width = x.shape
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        attended = self.attn(tokens).transpose(1, 2).reshape(n, dim, height, width)
        stack: nn.Module = getattr(self, self.stack_name)
        out: torch.Tensor = stack(torch.cat([self.dropout(attended), x], 1)) + x
        return out

    def sums(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> Sums:
        """Sums over the tokens of a feature map, (n, dim, y, x); `keep` (y, x) says which count."""
        folded = self.attn.folded(self.norm)
        found = []
        for image in x.permute(0, 2, 3, 1):
            total = None
            for rows in _chunks(image):
                tokens = image[rows].reshape(-1, image.shape[-1])
                if keep is not None:
                    tokens = tokens[keep[rows].reshape(-1)]
                part = folded.sums(F.layer_norm(tokens, tokens.shape[-1:], eps=self.norm.eps))
                total = part if total is None else total + part
            assert total is not None
            found.append(total)
        return Sums(*(torch.cat(parts) for parts in zip(*(s.tensors().values() for s in found), strict=True)))

    def _in_strips(self, x: torch.Tensor, sums: Sums) -> torch.Tensor:
        """Refine without a gradient, some rows at a time."""
        first, _, _, middle, _, _, last = getattr(self, self.stack_name)
        folded = self.attn.folded(self.norm)
        weights = self._first_layer(first, folded, sums)
        out = torch.empty_like(x, memory_format=torch.channels_last)
        tail, bias = last.weight[:, :, 0, 0].T, last.bias
        fast = transformed(middle.weight) if fits(x, middle.weight) else None
        for image, query, result in zip(x.permute(0, 2, 3, 1), weights[2], out.permute(0, 2, 3, 1), strict=True):
            height = image.shape[0]
            for rows, wide in self._widened(image, folded, (weights[0], weights[1], query, weights[3])):
                made = conv3(wide[None].permute(0, 3, 1, 2), middle, int(rows.start > 0), int(rows.stop < height), fast)
                hidden = F.leaky_relu_(made, 0.2).permute(0, 2, 3, 1).reshape(-1, tail.shape[0])
                plain = torch.addmm(bias, hidden, tail).view(image[rows].shape)
                torch.add(plain, image[rows], out=result[rows])
        return out

    def _first_layer(
        self, first: nn.Conv2d, folded: Folded, sums: Sums
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The first convolution with the linear parts of the attention in it.

        Returns
        -------
        tuple of Tensor
            Factors of the input and the normalised input, (dim, 2 dim), of the queries, (n, dim, 2 dim), and the bias.
        """
        weight = first.weight[:, :, 0, 0].double()
        dim = weight.shape[1] // 2
        attended, plain = weight[:, :dim], weight[:, dim:]
        out = attended @ self.attn.ln.weight.double()
        value, offset = (part.double() for part in folded.value)
        own, last = first.bias, self.attn.ln.bias
        assert own is not None
        bias = out @ offset + attended @ last.double() + own.double()
        kind = first.weight.dtype
        query = (folded.mixed(sums) @ out.T).to(kind)
        return plain.T.to(kind).contiguous(), (value @ out.T).to(kind), query, bias.to(kind)

    def _widened(
        self, image: torch.Tensor, folded: Folded, weights: tuple[torch.Tensor, ...]
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Chunks of rows of the first layer's output, (y, x, 2 dim), each with the rows next to it."""
        plain, normalised, query, bias = weights
        height, width, dim = image.shape
        room: torch.Tensor | None = None
        begun = kept = 0
        for rows in _chunks(image):
            tokens = image[rows].reshape(-1, dim)
            count = rows.stop - rows.start
            if room is None:
                room = image.new_empty(count + 2, width, 2 * dim)
            normal = F.layer_norm(tokens, (dim,), eps=self.norm.eps)
            made = torch.addmm(bias, tokens, plain, out=room[kept : kept + count].view(-1, 2 * dim))
            made.addmm_(normal, normalised).addmm_(folded.queries(normal), query)
            F.leaky_relu_(made, 0.2)
            kept += count
            done = rows.stop if rows.stop == height else rows.stop - 1
            yield slice(begun, done), room[:kept]
            begun = done
            if done < height:
                room[:2].copy_(room[kept - 2 : kept].clone())
                kept = 2


class Blocks(nn.Module):
    """Up, refine, down, refine, up, refine, down, refine, up, refine; each module is used again and again."""

    def __init__(self, dim: int, scale: int, dropout: float) -> None:
        super().__init__()
        self.convup = Refiner(dim, dropout, "convu")
        self.convdown = Refiner(dim, dropout, "convd")
        up: list[nn.Module] = []
        down: list[nn.Module] = []
        for factor in factors(scale):
            up += [nn.Conv2d(dim, factor**2 * dim, 3, padding=1), nn.PixelShuffle(factor)]
            down += [nn.Conv2d(dim, dim // factor**2, 3, padding=1), nn.PixelUnshuffle(factor)]
        self.convupsample = nn.Sequential(*up)
        self.convdownsample = nn.Sequential(*down)

    def up(self, x: torch.Tensor) -> torch.Tensor:
        """To the fine grid."""
        return _through(x, self.convupsample)

    def down(self, x: torch.Tensor) -> torch.Tensor:
        """To the coarse grid."""
        return _through(x, self.convdownsample)

    def _plus(self, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
        """Their sum, in the memory of the first where it is needed no more: at scale 1 it still is."""
        return new.add_(old) if _free() and len(self.convupsample) else new + old

    def forward(self, coarse: torch.Tensor, statistics: Sequence[Sums] | None = None) -> torch.Tensor:
        """Fine features, (n, dim, scale y, scale x), of coarse ones."""
        given = [None] * PASSES if statistics is None else list(statistics)
        fine = self.convup(self.up(coarse), given[0])
        for low, high in ((1, 2), (3, 4)):
            coarse = self.convdown(self._plus(self.down(fine), coarse), given[low])
            fine = self.convup(self._plus(self.up(coarse), fine), given[high])
        return fine

    def sums(self, coarse: torch.Tensor, statistics: Sequence[Sums], keep: torch.Tensor, core: CoreCut) -> Sums:
        """Sums of the first pass whose statistics are not given."""
        place = len(statistics)
        x = self.up(coarse)
        fine = x
        for number in range(place):
            if number % 2:
                coarse = self.convdown(x, statistics[number])
                x = self._plus(self.up(coarse), fine)
            else:
                fine = self.convup(x, statistics[number])
                x = self._plus(self.down(fine), coarse)
        module = self.convdown if place % 2 else self.convup
        zoom = x.shape[-1] // keep.shape[-1]
        fine_keep = keep.repeat_interleave(zoom, 0).repeat_interleave(zoom, 1)
        rows, cols = (slice(s.start * zoom, s.stop * zoom) for s in core)
        return module.sums(x[..., rows, cols], fine_keep[rows, cols])


CoreCut = tuple[slice, slice]


class ESSAformerNetwork(nn.Module):
    """ESSAformer; names of layers are those of the published checkpoint.

    Parameters
    ----------
    bands : int
        Spectral bands.
    dim : int
        Channels, 256 as published; a multiple of 4 (scale 2, 4, 8), of 9 (scale 3), of 36 (scale 6).
    scale : int
        1, a power of 2, 3, or 3 times a power of 2 (first the threes; an addition to the published ones).
    dropout : float
        In training.
    residual : {"none", "bicubic"}
        What the network's output is added to; "bicubic" is an addition to the published network.

    Raises
    ------
    BadSettings

    References
    ----------
    Zhang et al., "ESSAformer: efficient transformer for hyperspectral image super-resolution", ICCV 2023.
    """

    def __init__(
        self,
        bands: int,
        dim: int = 256,
        scale: int = 4,
        dropout: float = 0.2,
        residual: Literal["none", "bicubic"] = "none",
    ) -> None:
        super().__init__()
        if bands < 1 or dim < 1:
            raise BadSettings(f"got {bands} bands and dim={dim}, expected at least 1 of each")
        for factor in factors(scale):
            if dim % factor**2:
                raise BadSettings(f"got dim={dim} for scale {scale}, expected a multiple of {factor**2}")
        if not 0 <= dropout < 1:
            raise BadSettings(f"got dropout={dropout}, expected a share from 0 to below 1")
        if residual not in ("none", "bicubic"):
            raise BadSettings(f"got residual={residual!r}, expected none or bicubic")
        self.bands, self.dim, self.scale, self.residual = bands, dim, scale, residual
        self.conv_first = nn.Conv2d(bands, dim, 3, padding=1)
        self.blockup = Blocks(dim, scale, dropout)
        self.conv_last = nn.Conv2d(dim, bands, 3, padding=1)

    def forward(self, x: torch.Tensor, statistics: Sequence[Sums] | None = None) -> torch.Tensor:
        """Super-resolve.

        Parameters
        ----------
        x : Tensor, shape (n, bands, y, x)
            About 0..1.
        statistics : sequence of Sums, optional
            Of the five passes of attention, where `x` is a part of a scene; by default they are made of `x`.

        Returns
        -------
        Tensor, shape (n, bands, scale y, scale x)
        """
        coarse = self.conv_first(x.contiguous(memory_format=torch.channels_last))
        out: torch.Tensor = self.conv_last(self.blockup(coarse, statistics))
        if self.residual == "bicubic":
            from torchspectral.ops.resize import imresize

            out = out + imresize(x, self.scale)
        return out

    def sums(self, x: torch.Tensor, statistics: Sequence[Sums], keep: torch.Tensor, core: CoreCut) -> Sums:
        """Sums of pass ``len(statistics)`` over the part `core` of an image, without gradient.

        Parameters
        ----------
        x : Tensor, shape (n, bands, y, x)
        statistics : sequence of Sums
            Of the passes before it, over the whole scene.
        keep : Tensor of bool, shape (y, x)
            Pixels that count.
        core : (slice, slice)
            Rows and columns that count.
        """
        coarse = self.conv_first(x.contiguous(memory_format=torch.channels_last))
        return self.blockup.sums(coarse, statistics, keep, core)


def factors(scale: int) -> list[int]:
    """Steps of the up-sampling: threes, then twos.

    Raises
    ------
    BadSettings
    """
    rest, found = int(scale), []
    if rest >= 3 and rest % 3 == 0:
        rest, found = rest // 3, [3]
    while rest > 1 and rest % 2 == 0:
        rest, found = rest // 2, [*found, 2]
    if rest != 1:
        raise BadSettings(f"got scale {scale}, expected 1, a power of 2, 3, or 3 times a power of 2")
    return found


def reach(scale: int) -> int:
    """Coarse pixels that an output pixel looks over the edge of its coarse pixel, given the statistics."""
    steps = factors(scale)

    def up(fine: int) -> int:
        for factor in reversed(steps):
            fine = -(-fine // factor) + 1
        return fine

    def down(coarse: int) -> int:
        for factor in reversed(steps):
            coarse = coarse * factor + 1
        return coarse

    far = up(1 + 1)  # the last layer, the third fine refinement
    for _ in range(2):
        far = up(down(far + 1) + 1)
    return far + 1


def _through(x: torch.Tensor, stack: nn.Sequential) -> torch.Tensor:
    for layer in stack:
        x = conv3(x, layer) if isinstance(layer, nn.Conv2d) else layer(x)
    return x if not _free() else x.contiguous(memory_format=torch.channels_last)


def _free() -> bool:
    return not torch.is_grad_enabled()


def _kind(x: torch.Tensor) -> str:
    return x.device.type


def _chunks(image: torch.Tensor) -> Iterator[slice]:
    """Slices of rows of an image (y, x, dim) whose doubled channels stay within the budget."""
    height, width, dim = image.shape
    step = max(2, CHUNK_BYTES // (2 * width * dim * image.element_size()))
    if image.device.type != "cpu":
        step *= 16
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))
