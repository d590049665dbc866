"""MP-HSIR: text and visual prompts of the tasks, and their fusion with the features."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from torchspectral.errors import BadSettings
from torchspectral.restoration.mp_hsir.layers import (
    ChannelAttention,
    ChannelNorm,
    ConvolvedFeedForward,
    CrossAttention,
    convolved,
    pointwise,
)

TEXT = 512
"""Length of a CLIP ViT-B/32 text feature."""

TextMode = Literal["learned", "paper", "released", "coupled"]
"""What the text features do.

- learned: nothing; the learned text prompts alone steer the network.
- paper: projected to the channels, they multiply the learned prompt.
- released: as in the published code, where the projection is left out: the 512 numbers become a pattern along the
  columns of the prompt. Each sample has its own.
- coupled: the published code to the letter: in a batch, the rows of every sample's prompt take turns in the features
  of all samples, so that a result depends on the batch.
"""
TEXT_MODES: tuple[str, ...] = get_args(TextMode)


class CrossTransformer(nn.Module):
    """Attention of the text prompt's map to the visual prompt, then a feed-forward network."""

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm11 = ChannelNorm(channels)
        self.norm12 = ChannelNorm(channels)
        self.attn = CrossAttention(channels, heads)
        self.norm2 = ChannelNorm(channels)
        self.ffn = ConvolvedFeedForward(channels, expansion)

    def forward(self, text: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
        """Text map (n, y, x, channel), visual prompt (1, y, x, channel)."""
        text = text + self.attn(self.norm11(text), self.norm12(visual))
        out: torch.Tensor = text + self.ffn(self.norm2(text))
        return out


class TVSP(nn.Module):
    """Text-visual synergistic prompt of one level.

    Parameters
    ----------
    channels : int
    side : int
        Of the visual prompt.
    tasks : int
    heads : int
    expansion : float
    """

    def __init__(self, channels: int, side: int, tasks: int, heads: int = 2, expansion: float = 2.66) -> None:
        super().__init__()
        self.side = side
        self.visual_prompt = nn.Parameter(torch.randn(1, channels, side, side))
        self.text_prompt_learnable = nn.Parameter(torch.randn(1, tasks, channels, 1, 1))
        self.text_linear = nn.Linear(TEXT, channels)
        self.clip_linear = nn.Linear(TEXT, channels)
        self.cross_transformer = CrossTransformer(channels, heads, expansion)
        self.conv_last = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    @torch.no_grad()
    def start_from(self, text: torch.Tensor) -> None:
        """First values of the learned text prompts: the projected text features (tasks, 512)."""
        self.text_prompt_learnable.copy_(self.clip_linear(text)[None, :, :, None, None])

    def text_map(self, weights: torch.Tensor, text: torch.Tensor | None, mode: TextMode) -> torch.Tensor:
        """Map (n, channel, side or 1, side or 1) of the task weights (n, tasks)."""
        tasks = weights.shape[1]
        learned = (weights @ self.text_prompt_learnable[0, :, :, 0, 0] / tasks)[:, :, None, None]
        if mode == "learned":
            return learned
        if text is None:
            raise BadSettings(f"text mode {mode!r} needs text features: give them, or use the mode 'learned'")
        mixed = weights @ text.to(weights) / tasks
        if mode == "paper":
            return learned * self.text_linear(mixed)[:, :, None, None]
        rows = mixed if mode == "coupled" else mixed[:, None, None, :]
        return functional.interpolate(learned * rows, (self.side, self.side), mode="nearest")

    def prompt(self, weights: torch.Tensor, text: torch.Tensor | None, mode: TextMode) -> torch.Tensor:
        """The prompt at its own size, (n, channel, side, side): it depends on the tasks alone."""
        n = weights.shape[0]
        own, place = weights, None
        if mode != "coupled":
            own, place = torch.unique(weights, dim=0, return_inverse=True)
        maps = self.text_map(own, text, mode).expand(-1, -1, self.side, self.side)
        made = self.cross_transformer(maps.permute(0, 2, 3, 1), self.visual_prompt.permute(0, 2, 3, 1))
        made = made.permute(0, 3, 1, 2)
        if place is None:
            return made
        return made.expand(n, -1, -1, -1) if made.shape[0] == 1 else made[place]

    def forward(
        self, shape: tuple[int, int], weights: torch.Tensor, text: torch.Tensor | None, mode: TextMode
    ) -> torch.Tensor:
        """The prompt (n, y, x, channel) for features of `shape`.

        Parameters
        ----------
        shape : tuple of int
            Rows and columns of the features.
        weights : Tensor, shape (n, tasks)
            Shares of the tasks.
        text : Tensor, shape (tasks, 512), optional
            Text features.
        mode : TextMode
        """
        made = functional.interpolate(self.prompt(weights, text, mode), shape, mode="bilinear", align_corners=False)
        return convolved(made.permute(0, 2, 3, 1).contiguous(), self.conv_last)


class TransformerBlock(nn.Module):
    """Channel attention and a feed-forward network."""

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attn = ChannelAttention(channels, heads)
        self.norm2 = ChannelNorm(channels)
        self.ffn = ConvolvedFeedForward(channels, expansion)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (n, y, x, channel) to the same."""
        x = x + self.attn(self.norm1(x))
        out: torch.Tensor = x + self.ffn(self.norm2(x))
        return out


class PromptFusion(nn.Module):
    """Features and prompt through a transformer block, half the channels out.

    Parameters
    ----------
    channels : int
        Of features and prompt together.
    heads : int
    expansion : float
    """

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.transformer = TransformerBlock(channels, heads, expansion)
        self.conv = nn.Conv2d(channels, channels // 2, 1, bias=False)

    def forward(self, features: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        """Shape (n, y, x, channels/2) of both to the same."""
        return pointwise(self.transformer(torch.cat([features, prompt], dim=-1)), self.conv)
