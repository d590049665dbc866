"""A block of LESS ViT, and stacks of blocks."""

from __future__ import annotations

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
from torchspectral.backbones.less_vit.options import BlockSettings

ATTENTION: dict[str, type[LowRankAttention | AdditiveAttention | FullAttention]] = {
    "low_rank": LowRankAttention,
    "additive": AdditiveAttention,
    "full": FullAttention,
}


class LessBlock(nn.Module):
    """Norm, attention over the grid, norm, MLP; LayerScale and stochastic depth on both.

    Parameters
    ----------
    settings : BlockSettings

    Attributes
    ----------
    plain : bool
        The papers' formulation instead of the exact one that is faster and smaller; see `backbones.formulation`.

    References
    ----------
    arXiv 2503.12843 (2025), section 3; arXiv 2605.18541.
    """

    ROWS = 2048  # tokens whose 4 D wide activations are in memory at a time without gradients

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.plain = False
        dim, start = settings.dim, settings.init_values
        self.attn: LowRankAttention | AdditiveAttention | FullAttention = ATTENTION[settings.operator](settings)
        self.norm1, self.norm2 = settings.norm(), settings.norm()
        self.mlp = Mlp(dim, int(dim * settings.mlp_ratio), drop=settings.drop)
        self.ls1: nn.Module = nn.Identity() if start is None else LayerScale(dim, start)
        self.ls2: nn.Module = nn.Identity() if start is None else LayerScale(dim, start)
        self.drop_path = DropPath(settings.drop_path)

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


def make_blocks(depth: int, settings: BlockSettings) -> nn.ModuleList:
    """Blocks whose stochastic depth grows from 0 to that of the settings."""
    rates = [settings.drop_path * i / max(depth - 1, 1) for i in range(depth)]
    return nn.ModuleList(LessBlock(settings.with_path(rate)) for rate in rates)


def run_block(block: nn.Module, x: torch.Tensor, geometry: Geometry, recompute: bool) -> torch.Tensor:
    """One block on a grid that is not needed afterwards."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, x, geometry, use_reentrant=False)
    return block(x, geometry, overwrite=True)
