"""Spec. ViT: the spectral adapter before a vision transformer, tiny to giant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

from torchspectral.backbones.base import Backbone, KeyMap, check_image
from torchspectral.backbones.checkpointing import stage_index
from torchspectral.backbones.spectralearth.adapter import CHANNELS, SpectralAdapter
from torchspectral.backbones.spectralearth.bands import BandList, enmap_bands
from torchspectral.backbones.spectralearth.keys import PREFIXES, VIT_RENAMES
from torchspectral.errors import BadSettings
from torchspectral.log import get_logger


class SpecViT(Backbone):
    """Spec. ViT for any number of bands from 75.

    Parameters
    ----------
    dim, depth, heads : int
        Width, blocks and attention heads; tiny 192/12/3, small 384/12/6, base 768/12/12, large 1024/24/16,
        huge 1280/32/16, giant 1536/40/24. Giant has 1.14 G parameters, not the 1.8 G that its authors name.
    patch_size : int
        Pixels a side of a token.
    image_size : int
        Pixels a side of the images; their table of positions is learnt.
    num_classes : int
        Outputs of the head on the class token; 0: `forward` returns the feature.
    drop_path : float
        Stochastic depth of the last block in training, rising from 0 at the first; 0..1.
    band_list : {"enmap-202", "enmap-202-csv"}
        Which 202 bands ``bands`` declares; see `spectralearth.bands`.

    References
    ----------
    Braham et al., "SpectralEarth: Training Hyperspectral Foundation Models at Scale", IEEE JSTARS (2025).
    """

    key_map: ClassVar[KeyMap] = KeyMap(
        prefixes=PREFIXES, renames=VIT_RENAMES, optional=(r"vit_core\.head\..*", r".*num_batches_tracked")
    )

    vit_core: Any

    def __init__(
        self,
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
        patch_size: int = 4,
        image_size: int = 128,
        num_classes: int = 0,
        drop_path: float = 0.0,
        band_list: BandList = "enmap-202",
    ) -> None:
        super().__init__()
        check_patches(image_size, patch_size)
        self.spectral_adapter = SpectralAdapter()
        self.vit_core = transformer(CHANNELS, dim, depth, heads, patch_size, image_size, num_classes, drop_path)
        self.bands = enmap_bands(band_list)
        self.dim, self.map_dims, self.stride = dim, (dim,), patch_size
        self.image_size, self.depth = image_size, depth

    def forward(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Class logits (n, num_classes), or the feature where there are no classes."""
        return self.vit_core.head(self.forward_features(x, wavelengths))

    def forward_features(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Class token after the last normalisation, (n, dim)."""
        return self.vit_core.forward_features(self._adapted(x, wavelengths))[:, 0]

    def get_intermediate_layers(
        self, x: torch.Tensor, n: int | Sequence[int] = 1, reshape: bool = False, norm: bool = False
    ) -> list[torch.Tensor]:
        """Patch tokens of some blocks.

        Parameters
        ----------
        x : Tensor (n, bands, y, x)
        n : int or sequence of int
            The last `n` blocks, or these (from 0, negative: from the end).
        reshape : bool
            As maps (n, dim, rows, cols), not as tokens (n, rows * cols, dim).
        norm : bool
            After the last LayerNorm.

        Returns
        -------
        list of Tensor
        """
        blocks = list(range(self.depth))[-n:] if isinstance(n, int) else [stage_index(i, self.depth) for i in n]
        if isinstance(n, int) and not 1 <= n <= self.depth:
            raise BadSettings(f"{n} blocks asked for, expected 1 to {self.depth}")
        return self._layers(self._adapted(x, None), blocks, reshape, norm)

    def feature_maps(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None = None, layers: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        """Maps (n, dim, y / patch, x / patch) of the last block, or of those asked for, after the last LayerNorm."""
        blocks = [stage_index(i, self.depth) for i in (layers if layers is not None else (-1,))]
        return self._layers(self._adapted(x, wavelengths), blocks, True, True)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the transformer's blocks in the backward pass."""
        self.vit_core.set_grad_checkpointing(enable)

    def adapt_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Resample a table of positions of another image size (bicubic, logged)."""
        return resize_positions(state, self.vit_core.pos_embed)

    def _adapted(self, x: torch.Tensor, wavelengths: torch.Tensor | None) -> torch.Tensor:
        check_image(x, size=(self.image_size, self.image_size))
        self.bands.check(x.shape[1], wavelengths)
        return self.spectral_adapter(x)

    def _layers(self, x: torch.Tensor, blocks: list[int], reshape: bool, norm: bool) -> list[torch.Tensor]:
        return self.vit_core.forward_intermediates(
            x, blocks, norm=norm, output_fmt="NCHW" if reshape else "NLC", intermediates_only=True, stop_early=True
        )


def check_patches(image_size: int, patch_size: int) -> None:
    """Refuse images that are no whole number of patches.

    Raises
    ------
    BadSettings
    """
    if patch_size < 1 or image_size < patch_size or image_size % patch_size:
        raise BadSettings(f"image_size={image_size} is no multiple of patch_size={patch_size}")


def transformer(
    channels: int,
    dim: int,
    depth: int,
    heads: int,
    patch_size: int,
    image_size: int,
    num_classes: int = 0,
    drop_path: float = 0.0,
) -> VisionTransformer:
    """The transformer of this family: class token, learnt positions, fused attention, GELU, MLP ratio 4."""
    if dim % heads:
        raise BadSettings(f"dim={dim} is no multiple of heads={heads}")
    return VisionTransformer(
        img_size=image_size,
        patch_size=patch_size,
        in_chans=channels,
        num_classes=num_classes,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        drop_path_rate=drop_path,
    )


def resize_positions(state: dict[str, Any], table: torch.Tensor) -> dict[str, Any]:
    """Bring tables of positions (1, 1 + side * side, dim) in a state to the length of `table`, where only that differs."""
    side = round((table.shape[1] - 1) ** 0.5)
    for key, value in state.items():
        if key.endswith("pos_embed") and value.ndim == 3 and value.shape[2] == table.shape[2] != 0:
            if value.shape[1] == table.shape[1] or round((value.shape[1] - 1) ** 0.5) ** 2 != value.shape[1] - 1:
                continue
            get_logger("backbones").warning("%s: %d positions resampled to %d", key, value.shape[1], table.shape[1])
            state = {**state, key: resample_abs_pos_embed(value, [side, side])}
    return state
