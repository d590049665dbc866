"""The grid of channels and places: which of it is shown, how it is embedded, and what attention knows of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from torchspectral.backbones.less_vit.attention import Geometry
from torchspectral.backbones.less_vit.embedding import SinCosEmbedding, SpatialSpectralRoPE
from torchspectral.backbones.less_vit.options import BlockSettings


@dataclass(frozen=True)
class Kept:
    """Channels and places that an encoder is shown; all where it is None.

    Attributes
    ----------
    channels : Tensor of int (n, kept channels)
    places : Tensor of int (n, kept places)
        One row for the batch (1, kept places) where all images share them.
    """

    channels: torch.Tensor | None = None
    places: torch.Tensor | None = None


def pick(patches: torch.Tensor, kept: Kept) -> torch.Tensor:
    """Kept channels and places of patches (n, C, N, p * p)."""
    image = torch.arange(len(patches), device=patches.device)[:, None, None]
    if kept.channels is None and kept.places is None:
        return patches
    channels = torch.arange(patches.shape[1], device=patches.device)[None] if kept.channels is None else kept.channels
    places = torch.arange(patches.shape[2], device=patches.device)[None] if kept.places is None else kept.places
    return patches[image, channels[:, :, None], places[:, None, :]]


def with_first(index: torch.Tensor) -> torch.Tensor:
    """Indices of tokens in a grid whose first token stands for the axis, (m, k) -> (m, 1 + k)."""
    return nn.functional.pad(index + 1, (1, 0), value=0)


def grid_embedding(embedding: str, blocks: BlockSettings, rope_base: float) -> SinCosEmbedding | SpatialSpectralRoPE:
    """Embedding of places and wavelengths for the tokens of these blocks."""
    if embedding == "sincos":
        return SinCosEmbedding(blocks.dim)
    head = blocks.dim // blocks.heads
    if blocks.operator == "full":
        return SpatialSpectralRoPE(head // 2, head // 2, rope_base)
    return SpatialSpectralRoPE(head // blocks.channel_width, blocks.channel_width, rope_base)


def add_sincos(
    grid: torch.Tensor,
    embed: SinCosEmbedding,
    waves: torch.Tensor,
    rows: int,
    cols: int,
    resolution: float,
    picked: torch.Tensor | None = None,
) -> None:
    """Add the embedding of the first paper to a grid in place; ``picked`` places (with the first) where not all."""
    places = embed.positions(rows, cols, resolution, grid.device)
    places = places[None] if picked is None else places[picked]
    grid += (embed.channels(waves)[:, :, None] / 2).to(grid.dtype)
    grid += (places[:, None] / 2).to(grid.dtype)


def make_geometry(
    embed: SinCosEmbedding | SpatialSpectralRoPE | None,
    share: torch.Tensor,
    rows: int,
    cols: int,
    places: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> Geometry:
    """Rotary angles (where the embedding has them) of the kept channels and places, and the mask."""
    if not isinstance(embed, SpatialSpectralRoPE):
        return Geometry(mask=mask)
    sine, cosine = embed.spatial(rows, cols)
    if places is not None:
        sine, cosine = sine[places], cosine[places]
    return Geometry((sine, cosine), embed.spectral(share.to(embed.periods_c.dtype)), mask)
