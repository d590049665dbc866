"""MP-HSIR as its equations are written: for comparison with the formulation that is used."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from torchspectral.restoration.mp_hsir.blocks import (
    PGSSTB,
    PROMPTS,
    LocalSpectralAttention,
    WindowAttention,
    shift_mask,
)
from torchspectral.restoration.mp_hsir.layers import ChannelAttention, convolved, pointwise


class PlainWindowAttention(WindowAttention):
    """Softmax of the products in full, masks of every window made at every call."""

    def forward(self, windows: torch.Tensor, grid: tuple[int, int], shift: int) -> torch.Tensor:
        """As `WindowAttention`."""
        count, tokens, channels = windows.shape
        qkv = self.qkv(windows).view(count, tokens, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        logits = (q * (channels // self.heads) ** -0.5) @ k.transpose(-2, -1) + self.bias()[None]
        if shift:
            mask = shift_mask(*grid, self.window, shift).to(logits)[None, :, None]
            logits = (logits.view(-1, grid[0] * grid[1], self.heads, tokens, tokens) + mask).view_as(logits)
        attended = torch.softmax(logits, dim=-1) @ v
        out: torch.Tensor = self.proj(attended.transpose(1, 2).reshape(count, tokens, channels))
        return out


class PlainLocalSpectralAttention(LocalSpectralAttention):
    """Every prompt weighted and summed."""

    def forward(self, mean: torch.Tensor) -> torch.Tensor:
        """As `LocalSpectralAttention`."""
        shares = torch.softmax(self.linear_prompt(mean), dim=-1).view(-1, PROMPTS, 1)
        prompt = (shares * self.prompt_param[0]).sum(dim=1, keepdim=True)
        q = self.q(prompt)
        k, v = self.kv(self.linear_down(mean))[:, None].chunk(2, dim=-1)
        attention = torch.softmax(q.transpose(1, 2) @ k * q.shape[-1] ** -0.5, dim=-1)
        out: torch.Tensor = self.linear_up(self.proj((attention @ v.transpose(1, 2)).transpose(1, 2)))[:, 0]
        return out


class PlainChannelAttention(ChannelAttention):
    """Queries and keys normalised in full, attention applied and then projected."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `ChannelAttention`."""
        n, rows, cols, channels = x.shape
        heads = self.temperature.shape[0]
        qkv = convolved(pointwise(x, self.qkv), self.qkv_dwconv).permute(0, 3, 1, 2)
        q, k, v = (t.reshape(n, heads, channels // heads, rows * cols) for t in qkv.chunk(3, dim=1))
        q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
        attention = torch.softmax(q @ k.transpose(-2, -1) * self.temperature, dim=-1)
        out = (attention @ v).view(n, channels, rows, cols).permute(0, 2, 3, 1)
        return pointwise(out, self.project_out)


class PlainPGSSTB(PGSSTB):
    """The feed-forward network on all tokens at once."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As `PGSSTB`."""
        x = x.contiguous()
        x = x + self.drop_path(self.mixed(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


PLAIN: dict[type[nn.Module], type[nn.Module]] = {
    WindowAttention: PlainWindowAttention,
    LocalSpectralAttention: PlainLocalSpectralAttention,
    ChannelAttention: PlainChannelAttention,
    PGSSTB: PlainPGSSTB,
}


def plain(network: nn.Module) -> nn.Module:
    """Turn a network, in place, to the plain formulation: the same weights, the same numbers to rounding."""
    for module in network.modules():
        if type(module) in PLAIN:
            module.__class__ = PLAIN[type(module)]
    return network
