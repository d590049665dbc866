"""What blocks of LESS ViT are made of: one object that encoder, decoder, blocks and attention hand down."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from torch import nn

from torchspectral.errors import BadSettings, closest

Operator = Literal["low_rank", "additive", "full"]
OPERATORS = ("low_rank", "additive", "full")


@dataclass(frozen=True)
class BlockSettings:
    """Widths and options that all blocks of an encoder or a decoder share.

    Attributes
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
        Width of the MLP over `dim`; dropout of projections and of attention; stochastic depth, 0..1.
    eps : float
        Of every LayerNorm.

    Raises
    ------
    BadSettings
        Widths that do not fit together, or an unknown operator.
    """

    dim: int
    heads: int
    channel_dim: int
    spatial_dim: int
    rank: int = 1
    operator: Operator = "low_rank"
    qkv_bias: bool = True
    qk_norm: bool = False
    skip_pool: bool = False
    init_values: float | None = None
    mlp_ratio: float = 4.0
    drop: float = 0.0
    attn_drop: float = 0.0
    drop_path: float = 0.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.operator not in OPERATORS:
            raise BadSettings(f"got operator {self.operator!r}, expected one of {', '.join(OPERATORS)}")
        dims = (self.dim, self.channel_dim, self.spatial_dim)
        fits = self.rank >= 1 and not any(dim % self.heads for dim in dims)
        if not fits or self.channel_width * (self.spatial_dim // self.heads) != self.dim // self.heads:
            raise BadSettings(
                f"got {self.heads} heads, tokens {self.dim} wide, branches {self.channel_dim} (channels) and "
                f"{self.spatial_dim} (space) wide, rank {self.rank}: expected widths that the heads divide, with channel "
                "width times spatial width of a head = width of a head, and a rank of at least 1"
            )

    @classmethod
    def of_tokens(cls, dim: int, heads: int, channel_width: int, **options: Any) -> BlockSettings:
        """Settings from the width d_c of a head in the channel branch; the spatial branch takes what is left.

        Raises
        ------
        BadSettings
            Also for an option that there is not.
        """
        known = tuple(field.name for field in fields(cls))[4:]
        for name in options:
            if name not in known:
                raise BadSettings(f"blocks of LESS ViT have no setting {name!r}: {closest(name, known)}")
        if dim % heads or (dim // heads) % channel_width:
            raise BadSettings(
                f"got tokens {dim} wide, {heads} heads and channel width {channel_width}, expected heads that divide the "
                "tokens, and a channel width that divides a head"
            )
        return cls(dim, heads, channel_width * heads, dim // channel_width, **options)

    @property
    def channel_width(self) -> int:
        """Width d_c of a head in the channel branch."""
        return self.channel_dim // self.heads

    def with_path(self, drop_path: float) -> BlockSettings:
        """The same at another stochastic depth."""
        return replace(self, drop_path=drop_path)

    def norm(self, width: int | None = None) -> nn.LayerNorm:
        """A LayerNorm over `width` values, by default over a token."""
        return nn.LayerNorm(self.dim if width is None else width, eps=self.eps)

    def head_norm(self, width: int) -> nn.Module:
        """Normalisation of queries or keys `width` values wide; nothing without `qk_norm`."""
        return self.norm(width) if self.qk_norm else nn.Identity()
