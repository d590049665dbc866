"""SpectralGPT's encoder and classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from timm.layers import resample_patch_embed
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from torchspectral.backbones.base import Backbone, Bands, KeyMap, check_image
from torchspectral.backbones.checkpointing import stage_index
from torchspectral.backbones.formulation import initialise
from torchspectral.backbones.spectralgpt.bands import sentinel2_bands
from torchspectral.backbones.spectralgpt.layers import Block, PatchEmbed3d
from torchspectral.backbones.spectralgpt.positions import (
    group_centres,
    joint_positions,
    resize_spatial,
    resize_temporal,
)
from torchspectral.backbones.spectralgpt.scaling import scale
from torchspectral.errors import BadSettings, MissingMetadata, TooLarge
from torchspectral.log import get_logger

SENTINEL2_COUNT = 12


class SpectralGPT(Backbone):
    """Vision transformer over tokens of three bands by 8 x 8 pixels.

    Parameters
    ----------
    embed_dim, depth, num_heads : int
        base 768/12/12, large 1024/24/16, huge 1280/32/16.
    image_size : int
        Pixels a side for which the table of positions is made; other sizes interpolate it (bicubic).
    patch_size, spectral_patch : int
        Pixels a side and bands of a token.
    bands : int
        12: those of Sentinel-2 without B10. Any other multiple of `spectral_patch` is the "inflated" network: a
        published 12-band file fills it, the table of groups interpolated over `wavelengths`.
    wavelengths : sequence of float, optional
        Band centres [nm] where `bands` is not 12.
    separate_positions : bool
        Tables of places and of groups (pretraining, segmentation, change); else one table of all tokens.
    drop, attn_drop, drop_path, mlp_ratio, qkv_bias
        Of the blocks; stochastic depth grows from 0 to ``drop_path``.
    pool_all : bool
        Average all tokens for the feature; False leaves the first out, as the published classifiers do.
    max_tokens : int
        More tokens an image than this are refused: attention is quadratic in them.
    scaling : {"mu2sigma", "minmax"}
        How `as_input` brings scenes to 0..1; see `scaling.scale`. The published fine-tuned weights saw "mu2sigma",
        pretraining sees "minmax".

    Notes
    -----
    Sides that are no multiple of the patch are padded at the lower and right edge by repeating the last pixels, and
    maps cover the padded image; nothing is cut.

    References
    ----------
    Hong et al., "SpectralGPT: Spectral Remote Sensing Foundation Model", IEEE TPAMI 46(8) (2024), arXiv 2311.07113.
    """

    key_map: ClassVar[KeyMap] = KeyMap(optional=(r"head\..*",))

    def __init__(
        self,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        image_size: int = 128,
        patch_size: int = 8,
        spectral_patch: int = 3,
        bands: int = SENTINEL2_COUNT,
        wavelengths: Sequence[float] | None = None,
        *,
        separate_positions: bool = True,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        pool_all: bool = False,
        max_tokens: int = 4096,
        scaling: Literal["mu2sigma", "minmax"] = "mu2sigma",
    ) -> None:
        super().__init__()
        if bands % spectral_patch or image_size % patch_size:
            raise BadSettings(
                f"got {bands} bands and images of {image_size} pixels, expected multiples of {spectral_patch} bands and "
                f"{patch_size} pixels, the size of a token"
            )
        self.bands = _declared(bands, wavelengths)
        self.dim, self.map_dims, self.stride = embed_dim, (embed_dim,), patch_size
        self.groups, self.side, self.depth = bands // spectral_patch, image_size // patch_size, depth
        self.patch_size, self.spectral_patch = patch_size, spectral_patch
        self.pool_all, self.max_tokens, self.recompute = pool_all, max_tokens, False
        self.scaling = scaling
        self.separate_positions = separate_positions
        self._check_tokens(self.groups * self.side**2)
        self.patch_embed = PatchEmbed3d(embed_dim, spectral_patch, patch_size)
        if separate_positions:
            self.pos_embed_spatial = _table(self.side**2, embed_dim)
            self.pos_embed_temporal = _table(self.groups, embed_dim)
        else:
            self.pos_embed = _table(self.groups * self.side**2, embed_dim)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, qkv_bias=qkv_bias, drop=drop, attn_drop=attn_drop, drop_path=rate)
            for rate in rates
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        initialise(self)

    def as_input(
        self,
        x: torch.Tensor,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        valid: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Values as 0..1, by the scaling of the weights; nodata at the mean of the image's band.

        For "mu2sigma" of twelve bands, `mean` and `std` default to those of EuroSAT [reflectance x 10000].

        Raises
        ------
        MissingMetadata
            "mu2sigma" of other bands without statistics.
        BandMismatch
        """
        x = x.float() if valid is None else torch.where(valid, x.float(), torch.nan)
        middle = x.nanmean((-2, -1), keepdim=True).nan_to_num()
        x = torch.where(torch.isnan(x), middle, x)
        if self.scaling == "minmax":
            return scale(x, "minmax")
        if mean is None or std is None:
            if x.shape[1] != SENTINEL2_COUNT:
                raise MissingMetadata(
                    f"got {x.shape[1]} bands without statistics: write mean and std, one a band, into the weights card"
                )
            return scale(x)
        return scale(x, mean=mean, std=std)

    def _check_tokens(self, count: int) -> None:
        if count > self.max_tokens:
            raise TooLarge(
                f"{count} tokens an image, at most {self.max_tokens} are allowed (attention is quadratic in them): use a "
                f"larger patch than {self.patch_size} pixels, fewer bands than {self.groups * self.spectral_patch}, or "
                "smaller images"
            )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass."""
        self.recompute = enable

    def positions(self, rows: int, cols: int) -> torch.Tensor:
        """Table of all tokens of a grid, (1, groups * rows * cols, dim)."""
        if self.separate_positions:
            return joint_positions(resize_spatial(self.pos_embed_spatial, rows, cols), self.pos_embed_temporal)
        return resize_spatial(self.pos_embed, rows, cols, self.groups)

    def prepare(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Check images and pad their sides to whole patches.

        Raises
        ------
        BandMismatch, BadInput, TooLarge
        """
        check_image(x)
        self.bands.check(x.shape[1], wavelengths)
        down, right = (-size % self.patch_size for size in x.shape[-2:])
        if down or right:
            x = functional.pad(x, (0, right, 0, down), mode="replicate")
        rows, cols = self.grid(x)
        self._check_tokens(self.groups * rows * cols)
        return x

    def grid(self, x: torch.Tensor) -> tuple[int, int]:
        """Rows and columns of patches of images, padded ones counted."""
        return -(-x.shape[-2] // self.patch_size), -(-x.shape[-1] // self.patch_size)

    def tokens(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens after the last block, without the last norm, (n, groups * rows * cols, dim), group by group."""
        return self._layers(x, wavelengths, [self.depth - 1])[0]

    def _layers(self, x: torch.Tensor, wavelengths: torch.Tensor | None, wanted: Sequence[int]) -> list[torch.Tensor]:
        x = self.prepare(x, wavelengths)
        tokens = self.patch_embed(x) + self.positions(*self.grid(x))
        found: dict[int, torch.Tensor] = {}
        for index, block in enumerate(self.blocks[: max(wanted) + 1]):
            tokens = self.run_block(block, tokens)
            if index in wanted:
                found[index] = tokens
        return [found[index] for index in wanted]

    def run_block(self, block: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
        """One block, recomputed in the backward pass where asked for."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(block, tokens, use_reentrant=False)
        return block(tokens)

    def forward(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """The feature of each image, (n, dim)."""
        return self.forward_features(x, wavelengths)

    def forward_features(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Mean of the tokens, then norm, (n, dim)."""
        tokens = self.tokens(x, wavelengths)
        return self.norm((tokens if self.pool_all else tokens[:, 1:]).mean(1))

    def feature_maps(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None = None, layers: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        """Maps (n, dim, rows, cols): the mean over groups of bands, after the last norm."""
        wanted = [stage_index(layer, self.depth) for layer in ((-1,) if layers is None else layers)]
        rows, cols = self.grid(x)
        found = self._layers(x, wavelengths, wanted)
        means = [self.norm(tokens).unflatten(1, (self.groups, -1)).mean(1) for tokens in found]
        return [mean.transpose(1, 2).reshape(len(x), -1, rows, cols) for mean in means]

    def spectral_maps(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Maps of each group of bands without the last norm, (n, groups, dim, rows, cols), as the task heads take."""
        tokens = self.tokens(x, wavelengths).unflatten(1, (self.groups, *self.grid(x)))
        return tokens.permute(0, 1, 4, 2, 3)

    def adapt_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Bring a published file's positions and patches to this network's size and bands; what is changed is logged."""
        state = dict(state)
        for key in [k for k in state if k.endswith("pos_embed_spatial")]:
            state[key] = self._said(key, state[key], resize_spatial(state[key], self.side, self.side))
        for key in [k for k in state if k.endswith("pos_embed_temporal")]:
            state[key] = self._said(key, state[key], self._to_own_groups(state[key]))
        for key in [k for k in state if k.endswith("patch_embed.proj.weight")]:
            state[key] = self._said(key, state[key], self._to_own_patch(state[key]))
        if not self.separate_positions:
            self._join(state)
        return state

    def _join(self, state: dict[str, Any]) -> None:
        for key in [k for k in state if k.endswith("pos_embed_spatial") and "decoder" not in k]:
            prefix = key.removesuffix("pos_embed_spatial")
            other = f"{prefix}pos_embed_temporal"
            if other in state and f"{prefix}pos_embed" not in state:
                state[f"{prefix}pos_embed"] = joint_positions(state.pop(key), state.pop(other))
        for key in [k for k in state if k == "pos_embed" or k.endswith(".pos_embed")]:
            if state[key].shape[1] % self.groups == 0:
                table = resize_spatial(state[key], self.side, self.side, self.groups)
                state[key] = self._said(key, state[key], table)

    def _to_own_groups(self, table: torch.Tensor) -> torch.Tensor:
        known = sentinel2_bands().wavelengths
        assert known is not None
        own = self.bands.wavelengths
        if table.shape[1] * self.spectral_patch != len(known) or own is None or own == known:
            return table
        return resize_temporal(
            table, group_centres(known, self.spectral_patch), group_centres(own, self.spectral_patch)
        )

    def _to_own_patch(self, weight: torch.Tensor) -> torch.Tensor:
        size = (self.patch_size, self.patch_size)
        if weight.ndim != 5 or tuple(weight.shape[-2:]) == size:
            return weight
        return resample_patch_embed(weight[:, 0], list(size))[:, None]

    @staticmethod
    def _said(key: str, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        if after.shape != before.shape or (after is not before and not torch.equal(after, before)):
            get_logger("backbones").warning("%s: %s interpolated to %s", key, tuple(before.shape), tuple(after.shape))
        return after


class SpectralGPTClassifier(SpectralGPT):
    """SpectralGPT with a linear layer on its feature.

    Parameters
    ----------
    num_classes : int
    head_drop : float
        Dropout before the head.
    separate_positions : bool
        False (published): one table of all tokens. A pretrained file's two tables are added into it, which gives the
        same numbers; the published code drops them in silence and starts at zero, which ``reference`` repeats.
    reference : bool
    **encoder
        See `SpectralGPT`.
    """

    def __init__(
        self,
        num_classes: int,
        head_drop: float = 0.0,
        separate_positions: bool = False,
        reference: bool = False,
        **encoder: Any,
    ) -> None:
        super().__init__(separate_positions=separate_positions, **encoder)
        self.reference = reference
        self.head_drop = nn.Dropout(head_drop)
        self.head = nn.Linear(self.dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=2e-5)
        nn.init.zeros_(self.head.bias)
        if reference and not separate_positions:
            nn.init.zeros_(self.pos_embed)

    def forward(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Logits, (n, classes)."""
        return self.head(self.head_drop(self.forward_features(x, wavelengths)))

    def _join(self, state: dict[str, Any]) -> None:
        if not self.reference:
            super()._join(state)


def _table(length: int, dim: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, length, dim), std=0.02))


def _declared(count: int, wavelengths: Sequence[float] | None) -> Bands:
    if wavelengths is None:
        return sentinel2_bands() if count == SENTINEL2_COUNT else Bands(minimum=count, maximum=count)
    if len(wavelengths) != count:
        raise BadSettings(f"got {len(wavelengths)} wavelengths for {count} bands, expected one a band [nm]")
    return Bands(wavelengths=tuple(float(w) for w in wavelengths), minimum=count, maximum=count)
