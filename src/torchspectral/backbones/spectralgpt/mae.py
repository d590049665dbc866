"""SpectralGPT's masked autoencoder and its loss with two targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torchspectral.backbones.formulation import initialise
from torchspectral.backbones.spectralgpt.encoder import SpectralGPT, _table
from torchspectral.backbones.spectralgpt.layers import Block
from torchspectral.backbones.spectralgpt.positions import joint_positions, resize_spatial
from torchspectral.errors import BadInput, BadSettings


@dataclass(frozen=True)
class Reconstruction:
    """What one step gives.

    Attributes
    ----------
    loss, token_loss, spectral_loss : Tensor ()
        The sum, and its terms: over hidden tokens, and over sums of all groups of bands at each place.
    latent : Tensor (n, kept, dim)
        Encoded visible tokens, in the order of their noise.
    prediction : Tensor (n, tokens, values)
        Values of every token, order (band, row, column).
    mask : Tensor (n, tokens)
        1 where hidden.
    restore : Tensor of int (n, tokens)
        Rank of each token's noise.
    """

    loss: torch.Tensor
    token_loss: torch.Tensor
    spectral_loss: torch.Tensor
    latent: torch.Tensor
    prediction: torch.Tensor
    mask: torch.Tensor
    restore: torch.Tensor


class SpectralGPTMAE(SpectralGPT):
    """Masked autoencoder: the encoder sees a tenth of the tokens, the decoder draws all.

    Parameters
    ----------
    mask_ratio : float
        Share of tokens that is hidden, 0..1.
    norm_pix : bool
        Standardise the target of each hidden token (not that of the spectral sums).
    decoder_dim, decoder_depth, decoder_heads : int
    **encoder
        See `SpectralGPT`; positions are always separate.

    References
    ----------
    Hong et al., IEEE TPAMI 46(8) (2024), section 3.
    """

    def __init__(
        self,
        mask_ratio: float = 0.9,
        norm_pix: bool = False,
        decoder_dim: int = 512,
        decoder_depth: int = 4,
        decoder_heads: int = 16,
        **encoder: Any,
    ) -> None:
        super().__init__(**encoder)
        if not self.separate_positions:
            raise BadSettings("the masked autoencoder has separate positions: leave separate_positions out")
        if not 0 <= mask_ratio < 1:
            raise BadSettings(f"got mask_ratio={mask_ratio}, expected a share from 0 to below 1")
        self.mask_ratio, self.norm_pix, self.plain = mask_ratio, norm_pix, False
        self.decoder_embed = nn.Linear(self.dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.randn(1, 1, decoder_dim) * 0.02)
        self.decoder_pos_embed_spatial = _table(self.side**2, decoder_dim)
        self.decoder_pos_embed_temporal = _table(self.groups, decoder_dim)
        self.decoder_blocks = nn.ModuleList(Block(decoder_dim, decoder_heads) for _ in range(decoder_depth))
        self.decoder_norm = nn.LayerNorm(decoder_dim, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder_dim, self.spectral_patch * self.patch_size**2)
        for part in (self.decoder_embed, self.decoder_blocks, self.decoder_pred):
            initialise(part)

    def forward(  # type: ignore[override]
        self,
        x: torch.Tensor,
        wavelengths: torch.Tensor | None = None,
        *,
        mask_ratio: float | None = None,
        noise: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Reconstruction:
        """Hide, encode what is left, decode all, and compare.

        Parameters
        ----------
        x : Tensor (n, bands, y, x)
            Scaled to 0..1; see `scaling.scale`.
        wavelengths : Tensor (bands,), optional
        mask_ratio : float, optional
            Instead of the network's own.
        noise : Tensor (n, tokens), optional
            Tokens of least noise are kept.
        generator : torch.Generator, optional
            Draws the noise where none is given.

        Raises
        ------
        BandMismatch, BadInput, TooLarge
        """
        x = self.prepare(x, wavelengths)
        patches = self.patch_embed.patches(x)
        order, kept = self._draw(patches, self.mask_ratio if mask_ratio is None else mask_ratio, noise, generator)
        latent = self.encode(x, patches, order[:, :kept])
        restore = order.argsort(dim=1)
        prediction = self.decode(latent, restore, *self.grid(x))
        mask = (restore >= kept).to(x.dtype)
        token, spectral = multi_target_loss(prediction, patches, mask, self.groups, norm_pix=self.norm_pix)
        return Reconstruction(token + spectral, token, spectral, latent, prediction, mask, restore)

    def _draw(
        self,
        patches: torch.Tensor,
        mask_ratio: float,
        noise: torch.Tensor | None,
        generator: torch.Generator | None,
    ) -> tuple[torch.Tensor, int]:
        shape = patches.shape[:2]
        if noise is None:
            device = patches.device if generator is None else generator.device
            noise = torch.rand(shape, generator=generator, device=device).to(patches.device)
        if noise.shape != shape:
            raise BadInput(f"got noise of shape {tuple(noise.shape)}, expected one value a token: {tuple(shape)}")
        kept = int(shape[1] * (1 - mask_ratio))
        if not 1 <= kept <= shape[1]:
            raise BadSettings(f"a mask ratio of {mask_ratio} leaves {kept} of {shape[1]} tokens, expected at least 1")
        return noise.argsort(dim=1), kept

    def encode(self, x: torch.Tensor, patches: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Encode the tokens at (n, kept) indices; the others are not even embedded."""
        tokens = _take(self.patch_embed(x), index) if self.plain else self.patch_embed.embed(_take(patches, index))
        tokens = tokens + self.positions(*self.grid(x))[0][index]
        for block in self.blocks:
            tokens = self.run_block(block, tokens)
        return self.norm(tokens)

    def decode(self, latent: torch.Tensor, restore: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
        """Values of every token, (n, tokens, t * p * p)."""
        tokens = self.decoder_embed(latent)
        hidden = self.mask_token.to(tokens.dtype).expand(len(tokens), restore.shape[1] - tokens.shape[1], -1)
        tokens = _take(torch.cat([tokens, hidden], dim=1), restore)
        spatial = resize_spatial(self.decoder_pos_embed_spatial, rows, cols)
        tokens = tokens + joint_positions(spatial, self.decoder_pos_embed_temporal)
        for block in self.decoder_blocks:
            tokens = self.run_block(block, tokens)
        return self.decoder_pred(self.decoder_norm(tokens))

    def images(self, patches: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
        """Values of tokens back in their places, (n, bands, H, W)."""
        t, p = self.spectral_patch, self.patch_size
        cut = patches.reshape(len(patches), self.groups, rows, cols, t, p, p).permute(0, 1, 4, 2, 5, 3, 6)
        return cut.reshape(len(patches), self.groups * t, rows * p, cols * p)


def multi_target_loss(
    prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, groups: int, *, norm_pix: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both terms of SpectralGPT's loss, which weigh the same.

    Parameters
    ----------
    prediction, target : Tensor (n, groups * places, values)
    mask : Tensor (n, groups * places)
        1 where hidden.
    groups : int
    norm_pix : bool
        Standardise targets of the first term: unbiased variance + 1e-6.

    Returns
    -------
    Tensor ()
        Mean squared error of the hidden tokens.
    Tensor ()
        Mean squared error of the sums over groups at each place, hidden or not, of the raw target.

    References
    ----------
    Hong et al., IEEE TPAMI 46(8) (2024), equations of the multi-target reconstruction.
    """
    wanted = target
    if norm_pix:
        wanted = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    error = (prediction - wanted).square().mean(-1)
    token = (error * mask).sum() / mask.sum().clamp(min=1.0)
    apart = prediction.unflatten(1, (groups, -1)).sum(1) - target.unflatten(1, (groups, -1)).sum(1)
    return token, apart.square().mean()


def _take(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[2]))
