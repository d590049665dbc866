"""MP-HSIR: the network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from torchspectral.errors import BadInput, BadSettings, BandMismatch
from torchspectral.restoration.mp_hsir.blocks import BaseBlock
from torchspectral.restoration.mp_hsir.layers import Downsample, Upsample, convolved, pointwise
from torchspectral.restoration.mp_hsir.prompts import TEXT, TEXT_MODES, TVSP, PromptFusion, TextMode

MULTIPLE = 32
"""Rows and columns that the network works on are multiples of it: a window of 8 on a quarter of the size."""
DROP_PATH = 0.1


class PatchEmbed(nn.Module):
    """First convolution."""

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(bands, channels, 3, padding=1, bias=False)


class MPHSIRNetwork(nn.Module):
    """MP-HSIR; names of layers are those of the authors' checkpoints.

    Parameters
    ----------
    bands : int
        31 (natural scenes) or 100 (remote sensing) in the paper.
    dim : int
        Channels of the first level: 64 or 96 in the paper; a multiple of 8 times the heads asked for.
    tasks : int
        6 (natural scenes) or 7 (remote sensing) in the paper.
    blocks : sequence of 3 int
        Blocks of each level.
    refinement : int
        Blocks behind the last decoder.
    heads : sequence of 3 int
        Heads of each level.
    expansion : float
        Of the feed-forward networks.
    text_mode : {"learned", "paper", "released", "coupled"}
        What text features do, see `prompts.TextMode`.
    stored_text : bool
        Keep text features (``text_features``, zero until filled) in the state dict. The authors' checkpoints do not
        have them.
    authors_layout : bool
        Keep the masks and position indices of the authors' checkpoints in the state dict. They follow from the sizes:
        without them the weights load as well, once the card calls them optional.

    References
    ----------
    Wu, Liu, Zhang, Wang, "MP-HSIR: a multi-prompt framework for universal hyperspectral image restoration",
    arXiv 2503.09131 (2025).
    """

    def __init__(
        self,
        bands: int,
        dim: int = 64,
        tasks: int = 6,
        blocks: Sequence[int] = (2, 4, 6),
        refinement: int = 4,
        heads: Sequence[int] = (2, 4, 8),
        expansion: float = 2.66,
        text_mode: TextMode = "learned",
        stored_text: bool = False,
        authors_layout: bool = False,
    ) -> None:
        super().__init__()
        _check(bands, dim, tasks, blocks, refinement, heads, text_mode)
        self.bands, self.tasks, self.text_mode = bands, tasks, text_mode
        self.text_features: torch.Tensor | None
        self.register_buffer("text_features", torch.zeros(tasks, TEXT) if stored_text else None)
        rates = torch.linspace(0, DROP_PATH, sum(blocks), device="cpu").tolist()
        edges = (0, blocks[0], blocks[0] + blocks[1], sum(blocks))
        one, two, three = (rates[a:b] for a, b in pairwise(edges))
        last = [two[i % len(two)] for i in range(refinement)]

        def stage(level: int, width: int, compression: int, drop: Sequence[float]) -> BaseBlock:
            side = 64 >> level if authors_layout else None
            return BaseBlock(width, heads[level], compression, drop, expansion, resolution=side)

        self.patch_embed = PatchEmbed(bands, dim)
        self.encoder_level1 = stage(0, dim, 8, one)
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = stage(1, 2 * dim, 16, two)
        self.down2_3 = Downsample(2 * dim)
        self.latent = stage(2, 4 * dim, 32, three)
        self.up3_2 = Upsample(4 * dim)
        self.prompt1 = TVSP(dim, 64, tasks, heads[0], expansion)
        self.prompt2 = TVSP(2 * dim, 32, tasks, heads[0], expansion)
        self.fusion1 = PromptFusion(2 * dim, heads[1], expansion)
        self.fusion2 = PromptFusion(4 * dim, heads[2], expansion)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=False)
        self.decoder_level2 = stage(1, 2 * dim, 16, two)
        self.up2_1 = Upsample(2 * dim)
        self.decoder_level1 = stage(0, 2 * dim, 8, one)
        self.refinement = stage(0, 2 * dim, 8, last)
        self.output = nn.Conv2d(2 * dim, bands, 3, padding=1, bias=False)

    def start_from(self, text: torch.Tensor) -> None:
        """First values of the learned text prompts from text features (tasks, 512), as the authors' training begins.

        Raises
        ------
        BadInput
            Another shape.
        """
        self._check_text(text)
        if self.text_features is not None:
            self.text_features.copy_(text)
        self.prompt1.start_from(text)
        self.prompt2.start_from(text)

    def forward(self, x: torch.Tensor, task: torch.Tensor, text: torch.Tensor | None = None) -> torch.Tensor:
        """Restore.

        Parameters
        ----------
        x : Tensor, shape (n, bands, y, x)
            In 0..1. Sizes that are no multiple of 32 are reflected at the bottom and the right, and cut again.
        task : Tensor of int, shape (n,), (n, k), (1,) or (1, k)
            Task of each sample, or k tasks of equal share.
        text : Tensor, shape (tasks, 512), optional
            Text features, for every mode but "learned"; stored ones where none are given.

        Returns
        -------
        Tensor, shape (n, bands, y, x)
            Not clamped.

        Raises
        ------
        BandMismatch, BadInput, BadSettings
        """
        if x.ndim != 4 or x.shape[1] != self.bands:
            raise BandMismatch(f"got an image of shape {tuple(x.shape)}, expected (n, {self.bands}, y, x)")
        text = self.text_features if text is None else text
        if text is not None:
            self._check_text(text)
        rows, cols = x.shape[-2:]
        padded = pad_to(x, MULTIPLE)
        out = self._restored(padded, self.shares(task, x), text)
        return out[..., :rows, :cols]

    def _restored(self, x: torch.Tensor, shares: torch.Tensor, text: torch.Tensor | None) -> torch.Tensor:
        mode = self.text_mode
        if shares.shape[0] == 1 and mode != "coupled":
            shares = shares.expand(x.shape[0], -1)
        image = x.permute(0, 2, 3, 1).contiguous()
        first = self.encoder_level1(convolved(image, self.patch_embed.proj))
        second = self.encoder_level2(self.down1_2(first))
        deep = self.latent(self.down2_3(second))
        prompt = self.prompt2(_size(second), shares, text, mode)
        joined = torch.cat([self.up3_2(deep), self.fusion2(second, prompt)], dim=-1)
        second = self.decoder_level2(pointwise(joined, self.reduce_chan_level2))
        prompt = self.prompt1(_size(first), shares, text, mode)
        joined = torch.cat([self.up2_1(second), self.fusion1(first, prompt)], dim=-1)
        last = self.refinement(self.decoder_level1(joined))
        out: torch.Tensor = self.output(last.permute(0, 3, 1, 2))
        return out + x

    def shares(self, task: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Shares of the tasks (n, tasks) from task numbers (n,) or (n, k).

        Raises
        ------
        BadInput
            Another shape, or a number that is no task.
        """
        if task.ndim not in (1, 2) or task.shape[0] not in (1, like.shape[0]) or task.is_floating_point():
            raise BadInput(
                f"got tasks of shape {tuple(task.shape)} ({task.dtype}), expected whole numbers of shape "
                f"({like.shape[0]},) or ({like.shape[0]}, k)"
            )
        numbers = task.to(like.device).long().view(task.shape[0], -1)
        if bool(((numbers < 0) | (numbers >= self.tasks)).any()):
            raise BadInput(f"got tasks {numbers.unique().tolist()}, expected 0 to {self.tasks - 1}")
        return functional.one_hot(numbers, self.tasks).to(like.dtype).mean(dim=1)

    def _check_text(self, text: torch.Tensor) -> None:
        if tuple(text.shape) != (self.tasks, TEXT):
            raise BadInput(f"got text features of shape {tuple(text.shape)}, expected ({self.tasks}, {TEXT})")


def _size(x: torch.Tensor) -> tuple[int, int]:
    return x.shape[1], x.shape[2]


def pad_to(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Lengthen (n, band, y, x) at the bottom and the right to a multiple: reflected, repeated where it is too small."""
    for axis in (-2, -1):
        size = x.shape[axis]
        more = -size % multiple
        while more:
            step = min(more, size - 1) if size > 1 else more
            mode = "reflect" if size > 1 else "replicate"
            x = functional.pad(x, (0, step, 0, 0) if axis == -1 else (0, 0, 0, step), mode=mode)
            size, more = x.shape[axis], more - step
    return x


def _check(
    bands: int, dim: int, tasks: int, blocks: Sequence[int], refinement: int, heads: Sequence[int], text_mode: str
) -> None:
    if bands < 1 or tasks < 1:
        raise BandMismatch(f"got {bands} bands and {tasks} tasks, expected at least 1 of each")
    if len(blocks) != 3 or len(heads) != 3 or min(*blocks, *heads, refinement) < 1:
        raise BadSettings(
            f"got blocks {list(blocks)}, heads {list(heads)}, refinement {refinement}: expected 3, 3 and 1 of at least 1"
        )
    # Level l has dim 2^l channels; the decoder's last level and the fusions have twice as many.
    if dim < 8 or dim % 8 or any((dim << level) % h for level, h in enumerate(heads)) or (2 * dim) % heads[0]:
        raise BadSettings(f"got dim {dim} and heads {list(heads)}, expected a multiple of 8 that the heads divide")
    if text_mode not in cast("tuple[str, ...]", TEXT_MODES):
        raise BadSettings(f"got text_mode {text_mode!r}, expected one of {', '.join(TEXT_MODES)}")
