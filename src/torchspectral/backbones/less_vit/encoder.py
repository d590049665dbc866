"""LESS ViT: an encoder for any channels of known wavelength, with tokens for each channel and place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from torchspectral.backbones.base import Backbone, Bands, KeyMap, check_image
from torchspectral.backbones.formulation import initialise
from torchspectral.backbones.less_vit.block import make_blocks, run_block
from torchspectral.backbones.less_vit.embedding import ENMAP_RANGE, SinCosEmbedding, TiedPatchEmbed, perception_mask
from torchspectral.backbones.less_vit.grid import Kept, add_sincos, grid_embedding, make_geometry, pick, with_first
from torchspectral.backbones.less_vit.options import BlockSettings
from torchspectral.backbones.standardise import two_deviations
from torchspectral.errors import BadInput, BadSettings, BandMismatch, TooLarge

EPS = 1e-6
"""Of every norm of encoder and decoder."""
OLD_KEYS = {
    r"(blocks\.\d+)\.attn\.(channel_branch|spatial_branch|proj)\.": r"\1.attn.attn.\2.",
    r"(blocks\.\d+)\.(low_dim_pool|channel_norm|spatial_norm)\.": r"\1.attn.\2.",
}
"""Of older files, which miss one level of the attention's names."""


class LessViT(Backbone):
    """Low-rank spatial-spectral vision transformer.

    Parameters
    ----------
    patch_size : int
        Pixels a side of a patch.
    embed_dim, depth, num_heads : int
    channel_width : int
        Width d_c of a head in the channel branch; that of the spatial branch is ``embed_dim / num_heads / d_c``.
    embedding : {"sincos", "rope"}
        Of the first paper (added once, wavelengths in nm) or of the second (rotary).
    rope_base : float
    wavelength_range : (float, float)
        [nm] that "rope" maps to 0 and 1; (0, 1) for wavelengths that are normalised already.
    perception_radius : float, optional
        [m]; places further apart do not see each other.
    resolution : float
        [m] a pixel, where a call does not say.
    max_tokens : int
        More tokens an image than this are refused.
    **blocks
        rank, operator, qkv_bias, qk_norm, skip_pool, init_values, mlp_ratio, drop, attn_drop, drop_path, eps of
        `BlockSettings`; eps is 1e-6 here.

    Notes
    -----
    Tokens are (n, 1 + C, 1 + N, D): [0, 0] stands for the image, column 0 for each channel, row 0 for each place.
    Time and memory grow with C * N: 202 channels of 128 x 128 pixels are 13 195 tokens at patches of 16 pixels.

    References
    ----------
    Si et al., "Towards Scalable Foundation Model for Multi-modal and Hyperspectral Geospatial Data", arXiv 2503.12843
    (2025). "LESSViT: Robust Hyperspectral Representation Learning under Spectral Configuration Shift", arXiv
    2605.18541.
    """

    key_map: ClassVar[KeyMap] = KeyMap(
        prefixes=("encoder.", "module.", "model.", "backbone."),
        renames=OLD_KEYS,
        optional=(r".*periods_(hw|c)", r"radar_patch_embed\..*"),
    )

    def __init__(
        self,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        channel_width: int = 4,
        *,
        embedding: str = "sincos",
        rope_base: float = 100.0,
        wavelength_range: tuple[float, float] = ENMAP_RANGE,
        perception_radius: float | None = None,
        resolution: float = 30.0,
        max_tokens: int = 65536,
        **blocks: Any,
    ) -> None:
        super().__init__()
        if embedding not in ("sincos", "rope"):
            raise BadSettings(f"got embedding {embedding!r}, expected sincos or rope")
        own = BlockSettings.of_tokens(embed_dim, num_heads, channel_width, **{"eps": EPS, **blocks})
        if own.operator == "full" and perception_radius is not None:
            raise BadSettings("full attention has no perception mask: leave perception_radius out")
        self.bands = Bands(needs_wavelengths=True)
        self.stride, self.dim, self.map_dims = patch_size, embed_dim, (embed_dim,)
        self.patch_size, self.resolution, self.max_tokens = patch_size, resolution, max_tokens
        self.perception_radius, self.wavelength_range = perception_radius, wavelength_range
        self.recompute = False
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.spatial_cls_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.channel_cls_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.optical_patch_embed = TiedPatchEmbed(patch_size, embed_dim)
        self.radar_patch_embed = TiedPatchEmbed(patch_size, embed_dim)
        self.pos_chan_embed = grid_embedding(embedding, own, rope_base)
        self.blocks = make_blocks(depth, own)
        self.norm = own.norm()
        initialise(self)

    def as_input(
        self,
        x: torch.Tensor,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        valid: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Two standard deviations about the mean as 0..1, clipped, as both papers have it; nodata is 0."""
        if mean is None or std is None:
            return super().as_input(x, mean, std, valid)
        return two_deviations(x, mean, std, valid)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations of the blocks in the backward pass."""
        self.recompute = enable

    def forward(
        self,
        optical: torch.Tensor | None,
        wavelengths: torch.Tensor | None = None,
        *,
        radar: torch.Tensor | None = None,
        radar_wavelengths: torch.Tensor | None = None,
        resolution: float | None = None,
        kept: Kept | None = None,
    ) -> torch.Tensor:
        """Tokens after the last norm.

        Parameters
        ----------
        optical, radar : Tensor (n, C, H, W), optional
            At least one; channels of both stand side by side, optical first.
        wavelengths, radar_wavelengths : Tensor (C,) or (n, C)
            Band centres [nm]; the first paper gives Sentinel-1 VV and VH 5500 and 5700.
        resolution : float, optional
            [m] a pixel.
        kept : Kept, optional
            Channels and places to show; only their patches are embedded. Counted over both modalities.

        Returns
        -------
        Tensor (n, 1 + C, 1 + N, D)

        Raises
        ------
        BandMismatch, MissingMetadata, BadInput, TooLarge
        """
        kept = kept or Kept()
        x, waves, (rows, cols) = self._patch_tokens(optical, wavelengths, radar, radar_wavelengths, kept)
        metres = self.resolution if resolution is None else resolution
        n, channels, places, dim = x.shape
        grid = x.new_empty(n, channels + 1, places + 1, dim)
        grid[:, 1:, 1:] = x
        grid[:, :1, 1:], grid[:, 1:, :1], grid[:, 0, 0] = (
            self.channel_cls_token[:, None],
            self.spatial_cls_token[:, None],
            self.cls_token[:, 0],
        )
        del x
        picked = None if kept.places is None else with_first(kept.places)
        if isinstance(self.pos_chan_embed, SinCosEmbedding):
            add_sincos(grid, self.pos_chan_embed, waves, rows, cols, metres, picked)
        geometry = make_geometry(
            self.pos_chan_embed, self.normalised(waves), rows, cols, kept.places,
            self._mask(rows, cols, metres, picked, grid.device),
        )  # fmt: skip
        for block in self.blocks:
            grid = run_block(block, grid, geometry, self.recompute)
        return self.norm(grid)

    def normalised(self, waves: torch.Tensor) -> torch.Tensor:
        """Wavelengths [nm] as shares of the model's range."""
        low, high = self.wavelength_range
        return (waves - low) / (high - low)

    def _mask(
        self, rows: int, cols: int, metres: float, picked: torch.Tensor | None, device: torch.device
    ) -> torch.Tensor | None:
        if self.perception_radius is None:
            return None
        mask = perception_mask(rows, cols, self.patch_size, metres, self.perception_radius, device=device)
        if picked is None:
            return mask
        if len(picked) > 1:
            raise BadInput("a perception mask needs the same places in all images: give `places` as one row")
        return mask[picked[0]][:, picked[0]]

    def _patch_tokens(
        self,
        optical: torch.Tensor | None,
        wavelengths: torch.Tensor | None,
        radar: torch.Tensor | None,
        radar_wavelengths: torch.Tensor | None,
        kept: Kept,
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
        given = [
            (image, waves, embed)
            for image, waves, embed in (
                (optical, wavelengths, self.optical_patch_embed),
                (radar, radar_wavelengths, self.radar_patch_embed),
            )
            if image is not None
        ]
        if not given:
            raise BadInput("got neither an optical nor a radar image, expected at least one")
        counts, waves = [], []
        for image, centres, _ in given:
            check_image(image, self.patch_size)
            counts.append(image.shape[1])
            waves.append(self._waves(image, centres))
        shape = given[0][0].shape
        if any((image.shape[0], *image.shape[-2:]) != (shape[0], *shape[-2:]) for image, _, _ in given):
            raise BadInput("optical and radar images differ in number or size: bring them to one grid")
        rows, cols = shape[-2] // self.patch_size, shape[-1] // self.patch_size
        every = torch.cat(waves, dim=1)
        if kept.channels is not None:
            every = every.expand(shape[0], -1).gather(1, kept.channels)
        places = rows * cols if kept.places is None else kept.places.shape[1]
        tokens = (every.shape[1] + 1) * (places + 1)
        if tokens > self.max_tokens:
            raise TooLarge(
                f"{every.shape[1]} channels in {places} patches are {tokens} tokens an image, at most {self.max_tokens} "
                "are allowed: cut smaller images, encode channels in groups, or raise max_tokens"
            )
        if len(given) == 1:
            image, _, embed = given[0]
            return embed.embed(pick(embed.patches(image), kept)), every, (rows, cols)
        return self._both(given, counts, kept), every, (rows, cols)

    def _waves(self, image: torch.Tensor, centres: torch.Tensor | None) -> torch.Tensor:
        if centres is not None:
            centres = torch.as_tensor(centres, dtype=torch.float32, device=image.device)
            if centres.ndim == 2 and centres.shape[0] not in (1, image.shape[0]):
                raise BandMismatch(f"got wavelengths of {centres.shape[0]} images for {image.shape[0]}")
        self.bands.check(image.shape[1], None if centres is None else centres.reshape(-1, centres.shape[-1])[0])
        assert centres is not None
        return centres.reshape(-1, centres.shape[-1])

    def _both(
        self, given: list[tuple[torch.Tensor, Any, TiedPatchEmbed]], counts: list[int], kept: Kept
    ) -> torch.Tensor:
        patches = torch.cat([embed.patches(image) for image, _, embed in given], dim=1)
        index = torch.arange(sum(counts), device=patches.device).expand(len(patches), -1)
        index = index if kept.channels is None else kept.channels
        patches = pick(patches, kept)
        out = patches.new_empty(*patches.shape[:-1], self.dim)
        optical = index < counts[0]
        for which, (_, _, embed) in zip((optical, ~optical), given, strict=True):
            out[which] = embed.embed(patches[which]).to(out.dtype)
        return out

    def forward_features(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None = None, *, resolution: float | None = None
    ) -> torch.Tensor:
        """The image's token, (n, dim)."""
        return self(x, wavelengths, resolution=resolution)[:, 0, 0]

    def feature_maps(
        self,
        x: torch.Tensor,
        wavelengths: torch.Tensor | None = None,
        layers: Sequence[int] | None = None,
        *,
        resolution: float | None = None,
    ) -> list[torch.Tensor]:
        """Tokens of the places (row 0) as maps; of the last block, or of those asked for, after the last norm."""
        rows, cols = x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size
        if layers is None:
            found = [self(x, wavelengths, resolution=resolution)[:, 0, 1:]]
        else:
            found = self._of_blocks(x, wavelengths, layers, resolution)
        return [tokens.transpose(1, 2).reshape(len(x), -1, rows, cols) for tokens in found]

    def _of_blocks(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None, layers: Sequence[int], resolution: float | None
    ) -> list[torch.Tensor]:
        depth = len(self.blocks)
        wanted = [layer + depth if layer < 0 else layer for layer in layers]
        if any(not 0 <= layer < depth for layer in wanted):
            raise BadSettings(f"got layers {tuple(layers)}, expected numbers below {depth}")
        rows: dict[int, torch.Tensor] = {}
        hooks = [
            self.blocks[layer].register_forward_hook(
                lambda _, __, out, layer=layer: rows.__setitem__(layer, out[:, 0, 1:].clone())
            )
            for layer in set(wanted)
        ]
        try:
            self(x, wavelengths, resolution=resolution)
        finally:
            for hook in hooks:
                hook.remove()
        return [self.norm(rows[layer]) for layer in wanted]

    def features_of_groups(
        self,
        x: torch.Tensor,
        wavelengths: torch.Tensor,
        size: int,
        *,
        repeats: int = 1,
        seed: int = 0,
        resolution: float | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode channels in random groups and average: bounded memory for any number of channels.

        Parameters
        ----------
        x, wavelengths
            As for `forward_features`.
        size : int
            Channels a group.
        repeats : int
            Random divisions that are averaged.
        seed : int

        Returns
        -------
        Tensor (n, dim)
            Mean of the image's tokens, each group counted by its channels.
        Tensor (n, dim, rows, cols)
            The same of the places' tokens.
        """
        if size < 1 or repeats < 1:
            raise BadSettings(f"got groups of {size} channels and {repeats} repeats, expected at least 1")
        generator = torch.Generator().manual_seed(seed)
        waves = self._waves(x, wavelengths).expand(len(x), -1)
        total: torch.Tensor | None = None
        for _ in range(repeats):
            order = torch.randperm(x.shape[1], generator=generator)
            for group in order.split(size):
                chosen = group.sort().values.to(x.device)
                tokens = self(x[:, chosen], waves[:, chosen], resolution=resolution)[:, 0] * len(chosen)
                total = tokens if total is None else total + tokens
        assert total is not None
        mean = total / (repeats * x.shape[1])
        rows, cols = x.shape[-2] // self.patch_size, x.shape[-1] // self.patch_size
        return mean[:, 0], mean[:, 1:].transpose(1, 2).reshape(len(x), -1, rows, cols)
