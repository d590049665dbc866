"""Decoder of Hyper-MAE: the full grid of channels and places from the part that the encoder saw."""

from __future__ import annotations

import torch
from torch import nn

from torchspectral.backbones.formulation import initialise
from torchspectral.backbones.less_vit.block import make_blocks, run_block
from torchspectral.backbones.less_vit.embedding import SinCosEmbedding, perception_mask
from torchspectral.backbones.less_vit.grid import (
    Kept,
    add_sincos,
    grid_embedding,
    make_geometry,
    with_first,
)
from torchspectral.backbones.less_vit.options import BlockSettings
from torchspectral.errors import BadSettings


class HyperDecoder(nn.Module):
    """Linear map, mask tokens in the gaps, LESS blocks, and linear heads to pixels.

    Parameters
    ----------
    patch_size : int
    encoder_dim : int
        Width of the encoder's tokens.
    blocks : BlockSettings
        Of the decoder's own blocks.
    depth : int
    embedding : {"sincos", "rope", "none"}
        How mask tokens know their place and wavelength. "none" is what the second paper's code does with "rope" in the
        encoder: all masked tokens of an image then predict the same.
    rope_base : float
    perception_radius : float, optional
        [m], over all places.
    """

    def __init__(
        self,
        patch_size: int,
        encoder_dim: int,
        blocks: BlockSettings,
        depth: int = 8,
        *,
        embedding: str = "sincos",
        rope_base: float = 100.0,
        perception_radius: float | None = None,
    ) -> None:
        super().__init__()
        if embedding not in ("sincos", "rope", "none"):
            raise BadSettings(f"got embedding {embedding!r}, expected sincos, rope or none")
        embed_dim = blocks.dim
        self.patch_size, self.perception_radius, self.recompute = patch_size, perception_radius, False
        self.mask_token = nn.Parameter(torch.randn(1, 1, 1, embed_dim) * 0.02)
        self.spatial_mask_token = nn.Parameter(torch.randn(1, 1, 1, embed_dim) * 0.02)
        self.channel_mask_token = nn.Parameter(torch.randn(1, 1, 1, embed_dim) * 0.02)
        self.decoder_embed = nn.Linear(encoder_dim, embed_dim)
        self.decoder_pos_chan_embed = None if embedding == "none" else grid_embedding(embedding, blocks, rope_base)
        self.decoder_blocks = make_blocks(depth, blocks)
        self.decoder_norm = blocks.norm()
        self.decoder_optical_pred = nn.Linear(embed_dim, patch_size**2)
        self.decoder_radar_pred = nn.Linear(embed_dim, patch_size**2)
        initialise(self)

    def fill(self, seen: torch.Tensor, kept: Kept, channels: int, places: int) -> torch.Tensor:
        """Put the seen tokens (n, 1 + kept channels, 1 + kept places, D) into a grid of mask tokens."""
        grid = self.mask_token.expand(len(seen), channels + 1, places + 1, -1).clone()
        grid[:, :1] = self.channel_mask_token
        grid[:, :, :1] = self.spatial_mask_token
        device = seen.device
        rows = torch.arange(channels, device=device)[None] if kept.channels is None else kept.channels
        cols = torch.arange(places, device=device)[None] if kept.places is None else kept.places
        image = torch.arange(len(seen), device=device)[:, None, None]
        grid[image, with_first(rows)[:, :, None], with_first(cols)[:, None, :]] = seen.to(grid.dtype)
        return grid

    def forward(
        self,
        tokens: torch.Tensor,
        waves: torch.Tensor,
        share: torch.Tensor,
        kept: Kept,
        grid_size: tuple[int, int],
        resolution: float,
        radar: int = 0,
    ) -> torch.Tensor:
        """Pixels of every patch.

        Parameters
        ----------
        tokens : Tensor (n, 1 + kept channels, 1 + kept places, encoder_dim)
        waves, share : Tensor (n or 1, C)
            Of all channels, in nm and as shares of the model's range.
        kept : Kept
            What the encoder saw, counted over all channels.
        grid_size : (int, int)
            Rows and columns of patches.
        resolution : float
            [m] a pixel.
        radar : int
            The last so many channels are radar.

        Returns
        -------
        Tensor (n, C, N, p * p)
        """
        rows, cols = grid_size
        grid = self.fill(self.decoder_embed(tokens), kept, waves.shape[1], rows * cols)
        embed = self.decoder_pos_chan_embed
        if isinstance(embed, SinCosEmbedding):
            add_sincos(grid, embed, waves, rows, cols, resolution)
        mask = None
        if self.perception_radius is not None:
            mask = perception_mask(rows, cols, self.patch_size, resolution, self.perception_radius, device=grid.device)
        geometry = make_geometry(embed, share, rows, cols, None, mask)
        for block in self.decoder_blocks:
            grid = run_block(block, grid, geometry, self.recompute)
        grid = self.decoder_norm(grid)[:, 1:, 1:]
        optical = waves.shape[1] - radar
        parts = [self.decoder_optical_pred(grid[:, :optical])] if optical else []
        parts += [self.decoder_radar_pred(grid[:, optical:])] if radar else []
        return torch.cat(parts, dim=1)
