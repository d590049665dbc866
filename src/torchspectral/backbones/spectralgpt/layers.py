"""Layers of SpectralGPT: three-dimensional patches, and transformer blocks with separate queries, keys and values."""

from __future__ import annotations

import torch
from timm.layers import DropPath, Mlp
from torch import nn
from torch.nn import functional

from torchspectral.errors import BadSettings


class PatchEmbed3d(nn.Module):
    """Tokens of t bands by p by p pixels; the same weights for every group of bands.

    Parameters
    ----------
    dim : int
        Width of a token.
    spectral_patch, patch_size : int
        Bands t, and pixels p a side.
    """

    def __init__(self, dim: int, spectral_patch: int, patch_size: int) -> None:
        super().__init__()
        size = (spectral_patch, patch_size, patch_size)
        self.spectral_patch, self.patch_size, self.plain = spectral_patch, patch_size, False
        self.proj = nn.Conv3d(1, dim, size, stride=size)

    def patches(self, x: torch.Tensor) -> torch.Tensor:
        """Values of each token, (n, bands, H, W) -> (n, tokens, t * p * p): group by group, then row by row.

        Values of a token lie in the order (band, row, column).
        """
        t, p = self.spectral_patch, self.patch_size
        n, bands, h, w = x.shape
        cut = x.reshape(n, bands // t, t, h // p, p, w // p, p).permute(0, 1, 3, 5, 2, 4, 6)
        return cut.reshape(n, -1, t * p * p)

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        """Tokens of patches that were cut before, (..., t * p * p) -> (..., dim)."""
        return functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All tokens of images, (n, bands, H, W) -> (n, tokens, dim)."""
        if self.plain:
            return self.proj(x[:, None]).flatten(2).transpose(1, 2)
        return self.embed(self.patches(x))


class Attention(nn.Module):
    """Self-attention whose queries, keys and values have parameters of their own, as in the published files.

    They are one matrix product at run time (where there are more tokens than a token is wide), and attention is fused; with ``plain`` each is computed by itself, and the
    matrix of all tokens by all tokens is formed.
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool = True, attn_drop: float = 0.0, drop: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise BadSettings(f"got tokens {dim} wide for {heads} heads, expected a multiple")
        self.heads, self.width, self.attn_drop, self.plain = heads, dim // heads, attn_drop, False
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.k = nn.Linear(dim, dim, bias=qkv_bias)
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens (n, L, dim) after attention over all L."""
        drop = self.attn_drop if self.training else 0.0
        if self.plain:
            query, key, value = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self._parts)
            share = (query @ key.transpose(-2, -1) * self.width**-0.5).softmax(dim=-1)
            out = functional.dropout(share, drop) @ value
        else:
            query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self._projected(x))
            out = functional.scaled_dot_product_attention(query, key, value, dropout_p=drop)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))

    def _projected(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if x.shape[0] * x.shape[1] < x.shape[2]:  # joining the weights would cost more than it saves
            return tuple(part(x) for part in self._parts)
        weight = torch.cat([part.weight for part in self._parts])
        bias = None if self.q.bias is None else torch.cat([part.bias for part in self._parts])
        return functional.linear(x, weight, bias).chunk(3, dim=-1)

    @property
    def _parts(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q, self.k, self.v


class Block(nn.Module):
    """Norm and attention, norm and MLP, each with a residual and stochastic depth."""

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_ratio: float = 4.0,
        *,
        qkv_bias: bool = True,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, qkv_bias, attn_drop, drop)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=drop)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens after the block, (n, L, dim)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
