"""A block of LESS ViT, and settings that encoder and decoder share."""

from __future__ import annotations

from typing import Any, Literal

import torch
from timm.layers import DropPath, LayerScale, Mlp
from torch import nn
from torch.utils.checkpoint import checkpoint

from torchspectral.backbones.less_vit.attention import (
    AdditiveAttention,
    FullAttention,
    Geometry,
    LowRankAttention,
    lean,
)

Operator = Literal["low_rank", "additive", "full"]


class LessBlock(nn.Module):
    """Norm, attention over the grid, norm, MLP; LayerScale and stochastic depth on both.

    Parameters
    ----------
    dim, heads : int
        Width of a token and number of heads.
    channel_dim, spatial_dim : int
        Width of all heads of the channel and of the spatial branch: ``(channel_dim / heads) * (spatial_dim / heads)``
        is the width of a head.
    rank : int
        Outer products that are averaged.
    operator : {"low_rank", "additive", "full"}
        LESS attention, or one of its ablations.
    qkv_bias, qk_norm, skip_pool : bool
        Biases of queries, keys and values; their normalisation; token 0 in place of attention pooling.
    init_values : float, optional
        Start of LayerScale; None: without.
    mlp_ratio, drop, attn_drop, drop_path : float
    eps : float
        Of every LayerNorm.

    Attributes
    ----------
    plain : bool
        The papers' formulation instead of the exact one that is faster and smaller; see `set_plain`.

    References
    ----------
    arXiv 2503.12843 (2025), section 3; arXiv 2605.18541.
    """

    ROWS = 2048  # tokens whose 4 D wide activations are in memory at a time without gradients

    def __init__(
        self,
        dim: int,
        heads: int,
        channel_dim: int,
        spatial_dim: int,
        *,
        rank: int = 1,
        operator: Operator = "low_rank",
        qkv_bias: bool = True,
        qk_norm: bool = False,
        skip_pool: bool = False,
        init_values: float | None = None,
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.plain = False
        drops = {"attn_drop": attn_drop, "proj_drop": drop, "eps": eps}
        self.attn: LowRankAttention | AdditiveAttention | FullAttention
        if operator == "full":
            self.attn = FullAttention(dim, heads, qkv_bias=qkv_bias, qk_norm=qk_norm, **drops)
        else:
            kind = LowRankAttention if operator == "low_rank" else AdditiveAttention
            self.attn = kind(
                dim, heads, channel_dim, spatial_dim,
                rank=rank, qkv_bias=qkv_bias, qk_norm=qk_norm, skip_pool=skip_pool, **drops,
            )  # fmt: skip
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), drop=drop)
        self.ls1: nn.Module = nn.Identity() if init_values is None else LayerScale(dim, init_values)
        self.ls2: nn.Module = nn.Identity() if init_values is None else LayerScale(dim, init_values)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor, geometry: Geometry | None = None, *, overwrite: bool = False) -> torch.Tensor:
        """Tokens after the block.

        Parameters
        ----------
        x : Tensor (n, C', N', D)
        geometry : Geometry, optional
            Rotary angles and perception mask.
        overwrite : bool
            ``x`` is not needed any more: without gradients the result may take its place.
        """
        geometry = Geometry() if geometry is None else geometry
        in_place = lean(x) and not (self.training or self.plain)
        if not in_place:
            x = x + self.drop_path(self.ls1(self.attn(x, self.norm1, geometry)))
            return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))
        x = x if overwrite and x.is_contiguous() else x.clone(memory_format=torch.contiguous_format)
        if isinstance(self.attn, LowRankAttention):
            self.attn.add_to(x, self.norm1, geometry, getattr(self.ls1, "gamma", None))
        else:
            x += self.ls1(self.attn(x, self.norm1, geometry))
        self._add_mlp(x.view(-1, x.shape[-1]))
        return x

    def _add_mlp(self, tokens: torch.Tensor) -> None:
        """Norm and MLP, added to tokens (m, D) in place, some tokens at a time; without gradients."""
        first, last = self.mlp.fc1, self.mlp.fc2
        gamma = getattr(self.ls2, "gamma", None)
        weight, bias = (last.weight, last.bias) if gamma is None else (last.weight * gamma[:, None], last.bias * gamma)
        rows = min(self.ROWS if tokens.is_cpu else 65536, len(tokens))
        buffer = tokens.new_empty(rows, weight.shape[1])
        for part in tokens.split(rows):
            wide = buffer[: len(part)]
            torch.addmm(first.bias, self.norm2(part), first.weight.T, out=wide)  # type: ignore[arg-type]
            torch.ops.aten.gelu.out(wide, out=wide)
            part += bias
            part.addmm_(wide, weight.T)


def make_blocks(depth: int, *, drop_path: float = 0.0, **settings: Any) -> nn.ModuleList:
    """Blocks whose stochastic depth grows from 0 to ``drop_path``."""
    rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
    return nn.ModuleList(LessBlock(drop_path=rate, **settings) for rate in rates)


def run_block(block: nn.Module, x: torch.Tensor, geometry: Geometry, recompute: bool) -> torch.Tensor:
    """One block on a grid that is not needed afterwards."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, x, geometry, use_reentrant=False)
    return block(x, geometry, overwrite=True)


def set_plain(network: nn.Module, plain: bool = True) -> None:
    """Use the papers' formulation (or the equal, faster one) in every part of a network."""
    for part in network.modules():
        if hasattr(part, "plain"):
            part.plain = plain  # type: ignore[assignment]


def initialise(network: nn.Module) -> None:
    """Xavier-uniform linear layers and flattened patch weights, zero biases, unit norms."""
    for part in network.modules():
        if isinstance(part, nn.Linear | nn.Conv3d):
            nn.init.xavier_uniform_(part.weight.view(len(part.weight), -1))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
