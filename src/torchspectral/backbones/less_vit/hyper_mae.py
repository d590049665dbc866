"""Hyper-MAE: a masked autoencoder that hides channels and places apart from each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torchspectral.backbones.base import LEAST_MATCH, KeyMap, Match, load_matched
from torchspectral.backbones.less_vit.decoder import HyperDecoder
from torchspectral.backbones.less_vit.embedding import ENMAP_RANGE
from torchspectral.backbones.less_vit.encoder import EPS, OLD_KEYS, LessViT
from torchspectral.backbones.less_vit.grid import Kept
from torchspectral.backbones.less_vit.masking import channels_to_keep, draw_masks, places_to_keep, sample_channels
from torchspectral.backbones.less_vit.options import BlockSettings
from torchspectral.backbones.less_vit.reconstruction import (
    image_of_patches,
    reconstruction_loss,
    standardise_patches,
)
from torchspectral.errors import BadInput, BadSettings

KEY_MAP = KeyMap(
    prefixes=("module.", "model."),
    renames=OLD_KEYS,
    optional=(r".*periods_(hw|c)", r".*radar_(patch_embed|pred)\..*"),
)


@dataclass(frozen=True)
class Reconstruction:
    """What one step gives.

    Attributes
    ----------
    loss, position_loss, channel_loss : Tensor ()
        The sum, and its terms over masked places and over masked channels.
    prediction, target : Tensor (n, C, N, p * p)
        Patches; the target is standardised where the model says so.
    channel_mask, position_mask : Tensor (n, C), (n, N)
        1 where hidden.
    channels : Tensor of int (C,) or None
        Which optical channels were drawn, where the model samples them.
    grid_size : (int, int)
        Rows and columns of patches.
    """

    loss: torch.Tensor
    position_loss: torch.Tensor
    channel_loss: torch.Tensor
    prediction: torch.Tensor
    target: torch.Tensor
    channel_mask: torch.Tensor
    position_mask: torch.Tensor
    channels: torch.Tensor | None
    grid_size: tuple[int, int]

    def images(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Prediction and target as images (n, C, H, W)."""
        return image_of_patches(self.prediction, self.grid_size), image_of_patches(self.target, self.grid_size)


class HyperMAE(nn.Module):
    """LESS ViT encoder and decoder with decoupled masking.

    Parameters
    ----------
    patch_size, embed_dim, depth, num_heads, channel_width : int
        Of the encoder; see `LessViT`.
    decoder_dim, decoder_depth, decoder_heads, decoder_channel_width : int
    mask_ratio, channel_mask_ratio : float
        Shares of places and of channels that are hidden, 0..1.
    channel_dropout : (float, float), optional
        Hierarchical channel sampling: share of the channels that a step leaves out, drawn between these; training only.
    norm_pix : bool
        Standardise each target patch.
    embedding : {"sincos", "rope"}
    decoder_rope : bool
        With "rope": mask tokens of the decoder know place and wavelength. False is the authors' code.
    rope_base, perception_radius, wavelength_range, resolution, max_tokens
        See `LessViT`.
    **blocks
        Options of `BlockSettings`; the decoder shares them, but always pools.

    References
    ----------
    arXiv 2503.12843 (2025), section 3.3; hierarchical channel sampling: arXiv 2605.18541.
    """

    def __init__(
        self,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        channel_width: int = 4,
        *,
        decoder_dim: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        decoder_channel_width: int = 4,
        mask_ratio: float = 0.75,
        channel_mask_ratio: float = 0.5,
        channel_dropout: tuple[float, float] | None = None,
        norm_pix: bool = True,
        embedding: str = "sincos",
        decoder_rope: bool = True,
        rope_base: float = 100.0,
        perception_radius: float | None = None,
        wavelength_range: tuple[float, float] = ENMAP_RANGE,
        resolution: float = 30.0,
        max_tokens: int = 65536,
        **blocks: Any,
    ) -> None:
        super().__init__()
        if not (0 <= mask_ratio < 1 and 0 <= channel_mask_ratio < 1):
            raise BadSettings(
                f"got mask ratios {mask_ratio} (places) and {channel_mask_ratio} (channels), expected shares from 0 to "
                "below 1"
            )
        where: dict[str, Any] = {"rope_base": rope_base, "perception_radius": perception_radius}
        self.mask_ratio, self.channel_mask_ratio = mask_ratio, channel_mask_ratio
        self.channel_dropout, self.norm_pix, self.patch_size = channel_dropout, norm_pix, patch_size
        self.encoder = LessViT(
            patch_size, embed_dim, depth, num_heads, channel_width, embedding=embedding, max_tokens=max_tokens,
            wavelength_range=wavelength_range, resolution=resolution, **where, **blocks,
        )  # fmt: skip
        own = {"eps": EPS, **blocks, "skip_pool": False}
        self.decoder = HyperDecoder(
            patch_size, embed_dim, BlockSettings.of_tokens(decoder_dim, decoder_heads, decoder_channel_width, **own),
            decoder_depth, embedding="none" if embedding == "rope" and not decoder_rope else embedding, **where,
        )  # fmt: skip

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations of all blocks in the backward pass."""
        self.encoder.recompute = self.decoder.recompute = enable

    def load_matched(self, state: Mapping[str, Any], *, least: float = LEAST_MATCH, where: str = "state") -> Match:
        """Fill encoder and decoder from tensors under published names, older ones included.

        Raises
        ------
        BadWeights
            Less than `least` of the keys match; the message lists those that do not.
        """
        return load_matched(self, KEY_MAP, state, least=least, where=where)

    def forward(
        self,
        optical: torch.Tensor | None,
        wavelengths: torch.Tensor | None = None,
        *,
        radar: torch.Tensor | None = None,
        radar_wavelengths: torch.Tensor | None = None,
        visible: str = "all",
        resolution: float | None = None,
        noise: tuple[torch.Tensor, torch.Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Reconstruction:
        """Hide, encode what is left, decode all, and compare.

        Parameters
        ----------
        optical, radar : Tensor (n, C, H, W), optional
            At least one; values of exactly 0 in optical images are nodata.
        wavelengths, radar_wavelengths : Tensor (C,) or (n, C)
            Band centres [nm].
        visible : {"all", "optical", "radar"}
            What the encoder may see where both are given; all channels of the other are then hidden, and predicted.
        resolution : float, optional
            [m] a pixel.
        noise : (Tensor (n, C), Tensor (n or 1, N)), optional
            Instead of drawn noise: lowest values are kept. C counts visible channels after channel sampling.
        generator : torch.Generator, optional
            For channels first, then places.

        Returns
        -------
        Reconstruction

        Raises
        ------
        BandMismatch, BadInput, TooLarge
        """
        if visible not in ("all", "optical", "radar") or {"optical": optical, "radar": radar}.get(visible, 0) is None:
            raise BadInput(f"got visible={visible!r}, expected all, or optical or radar where that image is given")
        drawn = None
        if self.training and self.channel_dropout is not None and optical is not None:
            drawn = sample_channels(optical.shape[1], self.channel_dropout, generator).to(optical.device)
            optical = optical[:, drawn]
            wavelengths = None if wavelengths is None else torch.as_tensor(wavelengths).to(optical.device)[..., drawn]
        target = self.target(optical, radar)
        counts = (0 if optical is None else optical.shape[1], 0 if radar is None else radar.shape[1])
        first, count = {"all": (0, sum(counts)), "optical": (0, counts[0]), "radar": (counts[0], counts[1])}[visible]
        kept, channel_mask, position_mask = self._hide(target, first, count, noise, generator)
        image = optical if optical is not None else radar
        assert image is not None
        grid_size = (image.shape[-2] // self.patch_size, image.shape[-1] // self.patch_size)
        metres = self.encoder.resolution if resolution is None else resolution
        tokens = self.encoder(
            optical, wavelengths, radar=radar, radar_wavelengths=radar_wavelengths, resolution=metres, kept=kept
        )
        waves = self._all_waves(optical, wavelengths, radar, radar_wavelengths)
        prediction = self.decoder(
            tokens, waves, self.encoder.normalised(waves), kept, grid_size, metres, radar=counts[1]
        )
        both = counts[1] if min(counts) else 0
        position, channel = reconstruction_loss(prediction, target, channel_mask, position_mask, radar=both)
        return Reconstruction(
            position + channel, position, channel, prediction, target, channel_mask, position_mask, drawn, grid_size
        )

    def target(self, optical: torch.Tensor | None, radar: torch.Tensor | None = None) -> torch.Tensor:
        """Patches (n, C, N, p * p) that are to be predicted, optical channels first."""
        cut = self.encoder.optical_patch_embed.patches
        patches = torch.cat([cut(image) for image in (optical, radar) if image is not None], dim=1)
        return standardise_patches(patches) if self.norm_pix else patches

    def _hide(
        self,
        target: torch.Tensor,
        first: int,
        count: int,
        noise: tuple[torch.Tensor, torch.Tensor] | None,
        generator: torch.Generator | None,
    ) -> tuple[Kept, torch.Tensor, torch.Tensor]:
        n, channels, places = target.shape[:3]
        # One mask of places for the batch where a perception mask is cut to the kept ones.
        rows = 1 if self.encoder.perception_radius is not None else n
        if noise is None:
            noise = draw_masks(n, count, rows, places, generator, target.device)
        of_channels, of_places = noise[0], noise[1][:rows]
        if of_channels.shape != (n, count) or of_places.shape != (rows, places):
            raise BadInput(
                f"got noise of shapes {tuple(noise[0].shape)} and {tuple(noise[1].shape)}, expected ({n}, {count}) for "
                f"the visible channels and ({rows}, {places}) for the places"
            )
        keep_channels = channels_to_keep(count, self.channel_mask_ratio)
        keep_places = places_to_keep(places, self.mask_ratio)
        seen_channels = of_channels.argsort(dim=1)[:, :keep_channels].sort(dim=1).values + first
        seen_places = of_places.argsort(dim=1)[:, :keep_places].sort(dim=1).values
        channel_mask = torch.ones(n, channels, device=target.device).scatter_(1, seen_channels, 0.0)
        position_mask = torch.ones(rows, places, device=target.device).scatter_(1, seen_places, 0.0).expand(n, -1)
        return Kept(seen_channels, seen_places), channel_mask, position_mask

    def _all_waves(self, *given: torch.Tensor | None) -> torch.Tensor:
        found = []
        for image, centres in (given[:2], given[2:]):
            if image is not None:
                found.append(self.encoder._waves(image, centres).expand(len(image), -1))
        return torch.cat(found, dim=1)
