"""Low-rank attention over a grid of channels and places: two small attentions and their outer product.

Grids are (n, C', N', D): C' channels with the token of all channels first, N' places with the token of all places first.
Each operator has the plain formulation of the papers (``plain = True``) and an exact one that never forms what is not
needed: keys and values of the grid for pooling, and the outer product before the output projection.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from torchspectral.backbones.less_vit.embedding import Angles, rotate
from torchspectral.backbones.less_vit.options import BlockSettings
from torchspectral.errors import BadSettings


@dataclass(frozen=True)
class Geometry:
    """What attention has to know of the grid.

    Attributes
    ----------
    spatial, channel : (sines, cosines) or None
        Rotary angles: (N, width), or (n, N, width) where places differ by image; (n, C, width).
    mask : Tensor of bool (N', N') or None
        Which places see each other.
    """

    spatial: Angles | None = None
    channel: Angles | None = None
    mask: torch.Tensor | None = None


def lean(x: torch.Tensor) -> bool:
    """Whether results may be written in place: no gradients, and no mixed precision that changes types on the way."""
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type))


def _heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


class AttentionPool(nn.Module):
    """Multi-head attention in which only token 0 asks; itself and all others answer, (m, L, d) -> (m, d).

    Parameters
    ----------
    dim : int
        Width of all heads.
    settings : BlockSettings
    """

    def __init__(self, dim: int, settings: BlockSettings) -> None:
        super().__init__()
        self.heads, self.width, self.attn_drop = settings.heads, dim // settings.heads, settings.attn_drop
        self.plain, self.qk_norm = False, settings.qk_norm
        self.q = nn.Linear(dim, dim, bias=settings.qkv_bias)
        self.kv = nn.Linear(dim, 2 * dim, bias=settings.qkv_bias)
        self.q_norm, self.k_norm = settings.head_norm(self.width), settings.head_norm(self.width)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(settings.drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pooled token, (..., L, d) -> (..., d)."""
        dropping = self.training and self.attn_drop > 0
        # A norm between the key weights and the product keeps them apart.
        pooled = self._plain(x) if self.plain or self.qk_norm or dropping else self._factored(x)
        return self.proj_drop(self.proj(pooled))

    def _plain(self, x: torch.Tensor) -> torch.Tensor:
        query = self.q_norm(_heads(self.q(x[..., :1, :]), self.heads))
        key, value = (_heads(part, self.heads) for part in self.kv(x).chunk(2, dim=-1))
        drop = self.attn_drop if self.training else 0.0
        out = functional.scaled_dot_product_attention(query, self.k_norm(key), value, dropout_p=drop)
        return out.squeeze(-2).flatten(-2)

    def _factored(self, x: torch.Tensor) -> torch.Tensor:
        """The query goes into the key weights, and tokens are pooled before the value weights; key biases cancel."""
        key_weight, value_weight = self.kv.weight.unflatten(0, (2, self.heads, self.width)).unbind(0)
        query = self.q(x[..., 0, :]).unflatten(-1, (self.heads, self.width)) * self.width**-0.5
        asked = torch.einsum("...hw,hwd->...hd", query, key_weight)
        share = (asked @ x.transpose(-1, -2)).softmax(dim=-1)
        pooled = torch.einsum("...hd,hwd->...hw", share @ x, value_weight)
        if self.kv.bias is not None:
            pooled = pooled + self.kv.bias[self.heads * self.width :].unflatten(0, (self.heads, self.width))
        return pooled.flatten(-2)


class LowDimPool(nn.Module):
    """Two narrow projections of the grid, each pooled along the other axis: (n, C', d_c h) and (n, N', d_s h).

    With ``skip_pool`` token 0 takes the place of the pooled one.
    """

    ROWS = 1024  # tokens at a time without gradients: the normalised ones then stay in the cache

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.skip_pool, self.plain = settings.skip_pool, False
        self.channel_linear = nn.Linear(settings.dim, settings.channel_dim)
        self.spatial_linear = nn.Linear(settings.dim, settings.spatial_dim)
        self.channel_norm = settings.norm(settings.channel_dim)
        self.spatial_norm = settings.norm(settings.spatial_dim)
        if not settings.skip_pool:
            self.channel_pool = AttentionPool(settings.channel_dim, settings)
            self.spatial_pool = AttentionPool(settings.spatial_dim, settings)

    def forward(self, x: torch.Tensor, norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled channels and places of the grid (n, C', N', D), which ``norm`` normalises first."""
        if self.skip_pool:  # only the first row and column are looked at
            channel, spatial = self.channel_linear(norm(x[:, :, 0])), self.spatial_linear(norm(x[:, 0]))
            return channel + self.channel_norm(channel), spatial + self.spatial_norm(spatial)
        channel, spatial = self._project(x, norm)
        of_channels = channel[:, :, 0] + self.channel_pool(self.channel_norm(channel))
        of_places = spatial[:, 0] + self.spatial_pool(self.spatial_norm(spatial.transpose(1, 2)))
        return of_channels, of_places

    def _project(self, x: torch.Tensor, norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        if self.plain:
            x = norm(x)
            return self.channel_linear(x), self.spatial_linear(x)
        weight = torch.cat([self.channel_linear.weight, self.spatial_linear.weight])
        bias = torch.cat([self.channel_linear.bias, self.spatial_linear.bias])
        if not lean(x) or not x.is_cpu:
            both = functional.linear(norm(x), weight, bias)
        else:
            tokens = x.flatten(0, 2)
            rows = x.new_empty(len(tokens), len(bias))
            for start in range(0, len(tokens), self.ROWS):
                part = slice(start, start + self.ROWS)
                torch.addmm(bias, norm(tokens[part]), weight.T, out=rows[part])
            both = rows.reshape(*x.shape[:3], -1)
        channel, spatial = both.split([self.channel_linear.out_features, self.spatial_linear.out_features], dim=-1)
        return channel, spatial


class Branch(nn.Module):
    """Self-attention along one axis with ``rank`` sets of queries, keys and values: (n, L, d) -> (n, h, r, L, d / h)."""

    def __init__(self, dim: int, settings: BlockSettings) -> None:
        super().__init__()
        self.heads, self.rank = settings.heads, settings.rank
        self.width, self.attn_drop = dim // settings.heads, settings.attn_drop
        self.qk = nn.Linear(dim, 2 * self.rank * dim, bias=settings.qkv_bias)
        self.v = nn.Linear(dim, self.rank * dim, bias=settings.qkv_bias)
        self.q_norm, self.k_norm = settings.head_norm(self.width), settings.head_norm(self.width)

    def forward(self, x: torch.Tensor, angles: Angles | None = None, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Attend along the axis."""
        query, key = self.qk(x).unflatten(-1, (2, self.heads, self.rank, self.width)).permute(2, 0, 3, 4, 1, 5)
        value = self.v(x).unflatten(-1, (self.heads, self.rank, self.width)).permute(0, 2, 3, 1, 4)
        if angles is not None and angles[0].ndim == 3:  # one set an image: before heads and ranks
            angles = (angles[0][:, None, None], angles[1][:, None, None])
        query, key = self.q_norm(rotate(query, angles)), self.k_norm(rotate(key, angles))
        drop = self.attn_drop if self.training else 0.0
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=drop)


class OuterProduct(nn.Module):
    """Both branches, and the projection of the mean over ranks of their outer products, (n, C', N', D)."""

    FACTOR_VALUES = 1 << 22  # of the projected factors in memory at a time, without gradients

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.heads, self.rank, self.plain = settings.heads, settings.rank, False
        self.channel_branch = Branch(settings.channel_dim, settings)
        self.spatial_branch = Branch(settings.spatial_dim, settings)
        self.proj = nn.Linear(settings.dim, settings.dim)
        self.proj_drop = nn.Dropout(settings.drop)

    def forward(self, channel: torch.Tensor, spatial: torch.Tensor, geometry: Geometry) -> torch.Tensor:
        """New tokens of the grid from pooled channels (n, C', d_c h) and places (n, N', d_s h)."""
        a = self.channel_branch(channel, geometry.channel)
        b = self.spatial_branch(spatial, geometry.spatial, geometry.mask)
        if self.plain or not self._cheap(a):
            return self.proj_drop(self.proj(outer(a, b)))
        new = self._rows(a) @ self._factor(a, b, self.proj.weight, self.proj.bias)
        return self.proj_drop(new.unflatten(-1, (b.shape[3], -1)))

    def _cheap(self, a: torch.Tensor) -> bool:
        # Factors cost (rank h d_c) D a token instead of D D.
        return self.rank * self.heads * a.shape[-1] < self.proj.in_features

    @staticmethod
    def _rows(a: torch.Tensor) -> torch.Tensor:
        """Channels with a 1 for the bias, (n, C', h d_c r + 1)."""
        return functional.pad(a.permute(0, 3, 1, 4, 2).flatten(2), (0, 1), value=1.0)

    def _factor(self, a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """The output projection times each place, and the bias, (n, h d_c r + 1, N' D)."""
        n, heads, rank, places, width = b.shape
        weight = weight.unflatten(1, (heads, a.shape[-1], width)).permute(1, 2, 3, 0) / rank  # h, d_c, d_s, D
        placed = b[:, :, None] @ weight[:, :, None]  # n, h, d_c, r, N', D
        return torch.cat([placed.reshape(n, -1, places * len(bias)), bias.repeat(n, 1, places)], dim=1)

    def add_to(
        self,
        x: torch.Tensor,
        channel: torch.Tensor,
        spatial: torch.Tensor,
        geometry: Geometry,
        gamma: torch.Tensor | None = None,
    ) -> None:
        """As `forward` times ``gamma``, added to the grid in place, some places at a time; without gradients."""
        a = self.channel_branch(channel, geometry.channel)
        b = self.spatial_branch(spatial, geometry.spatial, geometry.mask)
        weight: torch.Tensor = self.proj.weight
        bias: torch.Tensor = self.proj.bias
        if gamma is not None:
            weight, bias = weight * gamma[:, None], bias * gamma
        rows = self._rows(a) if self._cheap(a) else a
        step = max(1, self.FACTOR_VALUES // (x.shape[0] * rows[0, 0].numel() * x.shape[-1]))
        for start in range(0, b.shape[3], step):
            part, to = b[..., start : start + step, :], x[:, :, start : start + step]
            if not self._cheap(a):
                to += functional.linear(outer(a, part), weight, bias)
            elif x.is_contiguous():
                new = self._factor(a, part, weight, bias)
                for image, values in enumerate(new):  # a strided matrix, which the product writes into as it is
                    shape = (x.shape[1], to.shape[2] * to.shape[3])
                    torch.addmm(
                        view := to[image].as_strided(shape, (x.stride(1), 1), to[image].storage_offset()),
                        rows[image],
                        values,
                        out=view,
                    )
            else:
                to += (rows @ self._factor(a, part, weight, bias)).unflatten(-1, to.shape[2:])


def outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean over ranks of a (x) b, heads concatenated, the channel factor slow: (n, C', N', h d_c d_s)."""
    mean = torch.einsum("nhrci,nhrsj->ncshij", a, b) / a.shape[2]
    return mean.flatten(3)


class LowRankAttention(nn.Module):
    """LESS attention: pool the grid along each axis, attend along each, join by the outer product.

    Parameters
    ----------
    settings : BlockSettings

    References
    ----------
    arXiv 2503.12843 (2025), section 3.2; rank > 1 as in arXiv 2605.18541: values for each rank, mean over ranks.
    """

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        self.low_dim_pool = LowDimPool(settings)
        self.channel_norm = settings.norm(settings.channel_dim)
        self.spatial_norm = settings.norm(settings.spatial_dim)
        self.attn = OuterProduct(settings)

    def _pooled(self, x: torch.Tensor, norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        channel, spatial = self.low_dim_pool(x, norm)
        return self.channel_norm(channel), self.spatial_norm(spatial)

    def forward(self, x: torch.Tensor, norm: nn.Module, geometry: Geometry) -> torch.Tensor:
        """Attend over the normalised grid."""
        return self.attn(*self._pooled(x, norm), geometry)

    def add_to(self, x: torch.Tensor, norm: nn.Module, geometry: Geometry, gamma: torch.Tensor | None) -> None:
        """As `forward`, added to ``x`` in place; without gradients."""
        self.attn.add_to(x, *self._pooled(x, norm), geometry, gamma)


class AdditiveAttention(nn.Module):
    """Ablation: both branches, brought to the width of a head by a linear map each, are added instead of multiplied."""

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        dim, heads = settings.dim, settings.heads
        self.low_dim_pool = LowDimPool(settings)
        self.channel_norm = settings.norm(settings.channel_dim)
        self.spatial_norm = settings.norm(settings.spatial_dim)
        self.channel_branch = Branch(settings.channel_dim, settings)
        self.spatial_branch = Branch(settings.spatial_dim, settings)
        self.P_c = nn.Linear(settings.channel_dim // heads, dim // heads)
        self.P_s = nn.Linear(settings.spatial_dim // heads, dim // heads)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(settings.drop)

    def forward(self, x: torch.Tensor, norm: nn.Module, geometry: Geometry) -> torch.Tensor:
        """Attend over the normalised grid."""
        channel, spatial = self.low_dim_pool(x, norm)
        a = self.channel_branch(self.channel_norm(channel), geometry.channel).mean(2)
        b = self.spatial_branch(self.spatial_norm(spatial), geometry.spatial, geometry.mask).mean(2)
        a, b = (part.transpose(1, 2).flatten(2) for part in (self.P_c(a), self.P_s(b)))
        # The projection is linear: it is applied to C' + N' tokens instead of C' N'.
        a, b = functional.linear(a, self.proj.weight), self.proj(b)
        return self.proj_drop(a[:, :, None] + b[:, None])


class FullAttention(nn.Module):
    """Ablation: softmax attention over all tokens of the grid; the first half of a head turns with place.

    Rotary angles must be those of two halves of a head (`SpatialSpectralRoPE(head // 2, head // 2)`).
    """

    def __init__(self, settings: BlockSettings) -> None:
        super().__init__()
        dim = settings.dim
        self.heads, self.width, self.attn_drop = settings.heads, dim // settings.heads, settings.attn_drop
        self.qkv = nn.Linear(dim, 3 * dim, bias=settings.qkv_bias)
        self.q_norm, self.k_norm = settings.head_norm(self.width), settings.head_norm(self.width)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(settings.drop)

    def forward(self, x: torch.Tensor, norm: nn.Module, geometry: Geometry) -> torch.Tensor:
        """Attend over the normalised grid.

        Raises
        ------
        BadSettings
            A perception mask, which this operator does not have.
        """
        if geometry.mask is not None:
            raise BadSettings("full attention has no perception mask: leave `perception_radius` out")
        qkv = self.qkv(norm(x)).unflatten(-1, (3, self.heads, self.width)).permute(3, 0, 4, 1, 2, 5)
        query, key, value = qkv.unbind(0)  # n, h, C', N', width
        query, key = self.q_norm(self._turned(query, geometry)), self.k_norm(self._turned(key, geometry))
        drop = self.attn_drop if self.training else 0.0
        query, key, value = (part.flatten(2, 3) for part in (query, key, value))
        out = functional.scaled_dot_product_attention(query, key, value, dropout_p=drop)
        return self.proj_drop(self.proj(out.transpose(1, 2).reshape(x.shape)))

    def _turned(self, x: torch.Tensor, geometry: Geometry) -> torch.Tensor:
        place, channel = x.chunk(2, dim=-1)
        spatial, spectral = geometry.spatial, geometry.channel
        if spatial is not None:
            if spatial[0].ndim == 3:
                spatial = (spatial[0][:, None, None], spatial[1][:, None, None])
            place = rotate(place, spatial)
        if spectral is not None:
            spectral = (spectral[0][:, None, None], spectral[1][:, None, None])
            channel = rotate(channel.transpose(2, 3), spectral).transpose(2, 3)
        return torch.cat([place, channel], dim=-1)
