"""MP-HSIR: window attention with a spectral prompt (PGSSTB) and the stages made of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn
from torch.nn import functional

from torchspectral.restoration.mp_hsir.layers import ChannelAttention, DropPath

PROMPTS = 128
"""Spectral prompts a block chooses from."""
TOKENS = 8192
"""Tokens that the feed-forward network works on at once where no gradient is kept."""


@lru_cache(maxsize=8)
def relative_index(window: int) -> torch.Tensor:
    """Row of the position table for each pair of tokens, (window^2, window^2)."""
    place = torch.stack(torch.meshgrid(2 * [torch.arange(window, device="cpu")], indexing="ij")).flatten(1)
    gap = place[:, :, None] - place[:, None, :] + window - 1
    return gap[0] * (2 * window - 1) + gap[1]


@lru_cache(maxsize=8)
def edge_masks(window: int, shift: int) -> torch.Tensor:
    """What is added to the logits of shifted windows, (4, window^2, window^2).

    A shifted window inside the image sees neighbours only: no mask (0). The last column of windows (1), the last row
    (2) and the corner (3) hold pixels of opposite edges, which must not see each other: -100.
    """
    far = torch.arange(window, device="cpu") >= window - shift
    region = torch.zeros(4, window, window, device="cpu")
    region[1] = far[None, :].float()
    region[2] = 2 * far[:, None].float()
    region[3] = region[1] + region[2]
    tokens = region.flatten(1)
    return torch.where(tokens[:, None, :] == tokens[:, :, None], 0.0, -100.0)


@lru_cache(maxsize=64)
def edge_kinds(rows: int, cols: int) -> torch.Tensor:
    """Which of `edge_masks` each of rows x cols windows needs, (rows cols)."""
    kinds = torch.zeros(rows, cols, dtype=torch.long, device="cpu")
    kinds[:, -1] += 1
    kinds[-1, :] += 2
    return kinds.flatten()


def shift_mask(rows: int, cols: int, window: int = 8, shift: int = 4) -> torch.Tensor:
    """The mask of every window, as the authors' checkpoints store it: (windows, window^2, window^2)."""
    return edge_masks(window, shift)[edge_kinds(rows, cols)]


class WindowAttention(nn.Module):
    """Self-attention in windows with a table of relative positions."""

    def __init__(self, channels: int, heads: int, window: int = 8, stored_index: bool = False) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_index(window).clone(), persistent=stored_index)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def bias(self) -> torch.Tensor:
        """Added to the logits, (heads, window^2, window^2)."""
        index = self.relative_position_index
        assert isinstance(index, torch.Tensor)
        size = self.window**2
        return self.relative_position_bias_table[index.view(-1)].view(size, size, self.heads).permute(2, 0, 1)

    def forward(self, windows: torch.Tensor, grid: tuple[int, int], shift: int) -> torch.Tensor:
        """Attend in windows (n rows cols, window^2, channel) of a grid of rows x cols windows, shifted or not."""
        count, tokens, channels = windows.shape
        qkv = self.qkv(windows).view(count, tokens, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.bias()[None].to(q.dtype)
        if shift:
            kinds = edge_kinds(*grid).to(q.device).repeat(count // (grid[0] * grid[1]))
            bias = (bias + edge_masks(self.window, shift).to(q)[:, None])[kinds]
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(count, -1, -1, -1))
        attended: torch.Tensor = self.proj(out.transpose(1, 2).reshape(count, tokens, channels))
        return attended


class LocalSpectralAttention(nn.Module):
    """A gain for each channel of a window, from its mean spectrum and a mix of learned spectral prompts.

    Parameters
    ----------
    channels : int
    compression : int
        Channels of the prompts are `channels` // `compression`.
    """

    def __init__(self, channels: int, compression: int) -> None:
        super().__init__()
        small = channels // compression
        self.prompt_param = nn.Parameter(torch.rand(1, 1, PROMPTS, small))
        self.linear_down = nn.Linear(channels, small, bias=False)
        self.linear_up = nn.Linear(small, channels, bias=False)
        self.linear_prompt = nn.Linear(channels, PROMPTS, bias=False)
        self.q = nn.Linear(small, small, bias=False)
        self.kv = nn.Linear(small, 2 * small, bias=False)
        self.proj = nn.Linear(small, small)

    def forward(self, mean: torch.Tensor) -> torch.Tensor:
        """Gains (windows, channel) from mean spectra (windows, channel)."""
        prompt = torch.softmax(self.linear_prompt(mean), dim=-1) @ self.prompt_param[0, 0]
        q = self.q(prompt)
        k, v = self.kv(self.linear_down(mean)).chunk(2, dim=-1)
        attention = torch.softmax(q[:, :, None] * k[:, None, :] * q.shape[-1] ** -0.5, dim=-1)
        out: torch.Tensor = self.linear_up(self.proj((attention @ v[:, :, None])[..., 0]))
        return out


class GatedMlp(nn.Module):
    """Feed-forward network; GELU on the second half gates the first."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.fc1 = nn.Linear(channels, 2 * hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (.., channel) to the same."""
        value, gate = self.fc1(x).chunk(2, dim=-1)
        out: torch.Tensor = self.fc2(value * functional.gelu(gate))
        return out


class PGSSTB(nn.Module):
    """Prompt-guided spatial-spectral transformer block.

    Parameters
    ----------
    channels, heads : int
    compression : int
        Of the spectral prompts.
    shift : int
        Pixels that the windows are shifted by: 0 or half a window.
    expansion : float
        Of the feed-forward network.
    drop_path : float
        Share of samples whose branches are left out in training.
    window : int
    resolution : tuple of int, optional
        Rows and columns that the authors' checkpoints store masks for; None keeps no masks and indices in the state
        dict, which any size can do without.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        compression: int,
        shift: int = 0,
        expansion: float = 2.66,
        drop_path: float = 0.0,
        window: int = 8,
        resolution: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        if shift and resolution:
            mask = shift_mask(resolution[0] // window, resolution[1] // window, window, shift)
            self.register_buffer("attn_mask", mask)
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window, stored_index=resolution is not None)
        self.gobal_spectral_attn = ChannelAttention(channels, heads)
        self.local_spectral_attn = LocalSpectralAttention(channels, compression)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = GatedMlp(channels, expansion)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (n, y, x, channel) to the same; y and x are multiples of the window."""
        x = x.contiguous()
        x = x + self.drop_path(self.mixed(self.norm1(x)))
        if torch.is_grad_enabled():
            return x + self.drop_path(self.mlp(self.norm2(x)))
        for part in x.view(-1, x.shape[-1]).split(TOKENS):
            part += self.mlp(self.norm2(part))
        return x

    def mixed(self, x: torch.Tensor) -> torch.Tensor:
        """Window attention, then the sum of channel attention over the image and the gains of each window."""
        n, rows, cols, channels = x.shape
        size, shift = self.window, self.shift
        grid = rows // size, cols // size
        if shift:
            x = x.roll((-shift, -shift), dims=(1, 2))
        windows = x.view(n, grid[0], size, grid[1], size, channels).transpose(2, 3).reshape(-1, size**2, channels)
        attended = self.attn(windows, grid, shift)
        gains = self.local_spectral_attn(attended.mean(dim=1)).view(n, grid[0], 1, grid[1], 1, channels)
        image = attended.view(n, *grid, size, size, channels).transpose(2, 3).contiguous()
        local = (image * gains).view(n, rows, cols, channels)
        image = image.view(n, rows, cols, channels)
        if shift:
            image, local = (t.roll((shift, shift), dims=(1, 2)) for t in (image, local))
        return local + self.gobal_spectral_attn(image)


class BaseBlock(nn.Module):
    """Blocks, every second one shifted, with a residual around them.

    Parameters
    ----------
    channels, heads, compression : int
    drop_path : sequence of float
        One a block.
    expansion : float
    resolution : int, optional
        Side of the masks that the authors' checkpoints store.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        compression: int,
        drop_path: Sequence[float],
        expansion: float = 2.66,
        window: int = 8,
        resolution: int | None = None,
    ) -> None:
        super().__init__()
        stored = None if resolution is None else (resolution, resolution)
        self.blocks = nn.ModuleList(
            PGSSTB(channels, heads, compression, (window // 2) * (i % 2), expansion, rate, window, stored)
            for i, rate in enumerate(drop_path)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (n, y, x, channel) to the same."""
        y = x
        for block in self.blocks:
            y = block(y)
        return y + x
