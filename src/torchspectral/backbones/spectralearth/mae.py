"""Masked autoencoder over Spec. ViT: the encoder sees visible tokens only, the decoder draws all bands of the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from timm.models.vision_transformer import Block
from torch import nn

from torchspectral.backbones.base import LEAST_MATCH, KeyMap, Match, check_image, load_matched
from torchspectral.backbones.positions import sincos_positions
from torchspectral.backbones.spectralearth.bands import BandList
from torchspectral.backbones.spectralearth.vit import SpecViT
from torchspectral.errors import BadInput, BadSettings, BandMismatch


@dataclass(frozen=True)
class Reconstruction:
    """What a masked autoencoder says about a batch.

    Attributes
    ----------
    latent : Tensor (n, kept, dim)
        Encoded class token and visible tokens.
    predicted : Tensor (n, masked, patch * patch * bands)
        Pixels of the masked patches, order (row, column, band).
    target : Tensor
        The same pixels of the input.
    kept, masked : Tensor of int64 (n, kept), (n, masked)
        Indices of the tokens, the class token being 0.
    """

    latent: torch.Tensor
    predicted: torch.Tensor
    target: torch.Tensor
    kept: torch.Tensor
    masked: torch.Tensor


class SpecMAE(nn.Module):
    """Masked autoencoder of SpectralEarth.

    The loss is a mean squared error over the masked patches (`learn.losses.masked_error`), targets normalised in each
    patch. Positions of encoder and decoder are fixed sines and cosines.

    Parameters
    ----------
    dim, depth, heads, patch_size, image_size, num_classes, band_list
        Of the encoder, see `SpecViT`.
    bands : int
        Bands of the images, at least 75: the decoder draws them all.
    mask_ratio : float
        Share of patches that the encoder does not see, in ]0, 1[.
    decoder_dim, decoder_depth, decoder_heads : int
    adapter_sees : {"all", "visible"}
        In training, pixels over which the adapter's batch normalisation takes its statistics; "visible" saves the
        adapter's work on masked patches, which in evaluation is never done (kernels are 1 x 1: the numbers are equal).

    References
    ----------
    Braham et al., "SpectralEarth", IEEE JSTARS (2025); He et al., "Masked autoencoders are scalable vision learners",
    CVPR (2022).
    """

    key_map: ClassVar[KeyMap] = KeyMap(
        prefixes=("module.", "model.", "backbone."),
        renames={
            r"^.*patch_embed\.original_patch_embed\.": "encoder.vit_core.patch_embed.",
            r"^.*encoder\.(?:vit\.)?patch_embed\.spectral_adapter\.": "encoder.spectral_adapter.",
            r"encoder\.vit\.(?:spec_vit\.)?": "encoder.",
        },
        optional=(r"encoder\.vit_core\.head\..*", r".*mask_token", r".*pos_embed", r".*num_batches_tracked"),
    )

    def __init__(
        self,
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
        patch_size: int = 4,
        image_size: int = 128,
        bands: int = 202,
        mask_ratio: float = 0.9,
        decoder_dim: int = 512,
        decoder_depth: int = 1,
        decoder_heads: int = 16,
        num_classes: int = 0,
        adapter_sees: Literal["all", "visible"] = "all",
        band_list: BandList = "enmap-202",
    ) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise BadSettings(f"mask_ratio={mask_ratio}, expected a share between 0 and 1")
        self.encoder = SpecViT(dim, depth, heads, patch_size, image_size, num_classes, band_list=band_list)
        self.encoder.bands.check(bands)
        # Published files have it; masked tokens never enter this encoder, so it is no parameter.
        self.encoder.register_buffer("mask_token", torch.zeros(1, 1, dim))
        side = image_size // patch_size
        table = self.encoder.vit_core.pos_embed
        table.data.copy_(sincos_positions(dim, side))
        table.requires_grad_(False)
        self.decoder = MAEDecoder(dim, side, patch_size**2 * bands, decoder_dim, decoder_depth, decoder_heads)
        self.band_count, self.mask_ratio, self.adapter_sees = bands, mask_ratio, adapter_sees
        self.patch_size, self.patches = patch_size, side**2

    @property
    def kept(self) -> int:
        """Tokens that the encoder sees, the class token among them."""
        return int(self.patches * (1 - self.mask_ratio)) + 1

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor | None = None, generator: torch.Generator | None = None
    ) -> Reconstruction:
        """Mask, encode and reconstruct.

        Parameters
        ----------
        x : Tensor (n, bands, y, x)
            Standardised.
        noise : Tensor (n, 1 + patches), optional
            Tokens of least noise are kept; the class token's value is not looked at.
        generator : torch.Generator, optional
            Draws the noise where none is given.

        Returns
        -------
        Reconstruction
        """
        side = self.encoder.image_size
        check_image(x, size=(side, side))
        if x.shape[1] != self.band_count:
            raise BandMismatch(f"got {x.shape[1]} bands, expected {self.band_count} bands: the decoder draws them all")
        kept, masked = self.draw(len(x), x.device, noise, generator)
        latent = self.encode(x, kept)
        predicted = self.decoder(latent, kept, masked)
        return Reconstruction(latent, predicted, take_tokens(patchify(x, self.patch_size), masked - 1), kept, masked)

    def draw(
        self,
        images: int,
        device: torch.device,
        noise: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices of kept and of masked tokens, (images, kept) and (images, 1 + patches - kept)."""
        if noise is None:
            noise = torch.rand(images, 1 + self.patches, device=device, generator=generator)
        if noise.shape != (images, 1 + self.patches):
            raise BadInput(f"got noise of shape {tuple(noise.shape)}, expected {(images, 1 + self.patches)}")
        noise = torch.cat([torch.full_like(noise[:, :1], -torch.inf), noise[:, 1:]], 1)
        order = noise.argsort(1)
        return order[:, : self.kept], order[:, self.kept :]

    def encode(self, x: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Encode the tokens that are kept, (n, kept, dim); token 0 of each image must be among them, first."""
        core = self.encoder.vit_core
        if self.training and self.adapter_sees == "all":
            tokens = take_tokens(core.patch_embed(self.encoder._adapted(x, None)), kept[:, 1:] - 1)
        else:
            tokens = self._embed_visible(x, kept[:, 1:] - 1)
        tokens = torch.cat([core.cls_token.expand(len(x), -1, -1), tokens], 1)
        tokens = tokens + take_tokens(core.pos_embed.expand(len(x), -1, -1), kept)
        return core.norm(self._blocks(core.norm_pre(tokens)))

    def _embed_visible(self, x: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """Adapter and patch embedding of some patches: kernels of the adapter are 1 x 1, so nothing else is needed."""
        size, projection = self.patch_size, self.encoder.vit_core.patch_embed.proj
        pixels = take_tokens(patchify(x, size), patches).unflatten(2, (size * size, -1))
        adapted = self.encoder.spectral_adapter(pixels.permute(0, 3, 1, 2))
        return torch.einsum("ncvp,dcp->nvd", adapted, projection.weight.flatten(2)) + projection.bias

    def _blocks(self, tokens: torch.Tensor) -> torch.Tensor:
        core = self.encoder.vit_core
        if core.grad_checkpointing and torch.is_grad_enabled():
            for block in core.blocks:
                tokens = torch.utils.checkpoint.checkpoint(block, tokens, use_reentrant=False)
            return tokens
        return core.blocks(tokens)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the encoder's blocks in the backward pass."""
        self.encoder.set_grad_checkpointing(enable)

    def load_matched(self, state: dict[str, Any], *, least: float = LEAST_MATCH, where: str = "state") -> Match:
        """Fill encoder and decoder from a checkpoint of the authors' training code.

        Raises
        ------
        BadWeights
            Less than `least` of the keys match.
        """
        return load_matched(self, self.key_map, state, least=least, where=where)


class MAEDecoder(nn.Module):
    """Transformer that draws the masked patches.

    Parameters
    ----------
    encoder_dim : int
    side : int
        Patches a side of the image.
    outputs : int
        Values of a patch.
    dim, depth, heads : int
    """

    def __init__(self, encoder_dim: int, side: int, outputs: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise BadSettings(f"decoder_dim={dim} is no multiple of decoder_heads={heads}")
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.decoder_pos_embed = nn.Parameter(sincos_positions(dim, side), requires_grad=False)
        self.decoder_embed = nn.Linear(encoder_dim, dim)
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.decoder_blocks = nn.Sequential(*(Block(dim, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth)))
        self.decoder_norm = norm(dim)
        self.decoder_pred = nn.Linear(dim, outputs)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, latent: torch.Tensor, kept: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """Values of the masked patches, (n, masked, outputs)."""
        visible = self.decoder_embed(latent)
        tokens = self.mask_token.to(visible.dtype).expand(len(latent), self.decoder_pos_embed.shape[1], -1)
        tokens = tokens.scatter(1, kept[..., None].expand(-1, -1, visible.shape[2]), visible)
        tokens = self.decoder_norm(self.decoder_blocks(tokens + self.decoder_pos_embed))
        return self.decoder_pred(take_tokens(tokens, masked))


def patchify(x: torch.Tensor, size: int) -> torch.Tensor:
    """Cut images (n, bands, y, x) into patches (n, patches, size * size * bands), values ordered (row, column, band)."""
    images, bands, rows, cols = x.shape
    cut = x.reshape(images, bands, rows // size, size, cols // size, size)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(images, -1, size * size * bands)


def take_tokens(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Tokens (n, length, width) at (n, taken) indices."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))
