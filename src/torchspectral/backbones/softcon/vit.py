"""SoftCon's vision transformer: the layout of DINOv2 with 14-pixel patches, for Sentinel-2 or Sentinel-1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from torchspectral.backbones.base import Backbone, KeyMap, check_image
from torchspectral.backbones.checkpointing import stage_index
from torchspectral.backbones.softcon.bands import Modality, in_steps, softcon_bands
from torchspectral.backbones.softcon.vision import FirstLayer, inflate
from torchspectral.errors import BadSettings
from torchspectral.log import get_logger

PATCH = 14
OFFSET = 0.1
"""Added to the number of patches before the scale factor is taken, as DINOv2 does."""


class SoftConViT(Backbone):
    """ViT-S/14 or ViT-B/14 with LayerScale and a class token, any multiple of 14 pixels a side.

    Parameters
    ----------
    modality : {"sentinel-2", "sentinel-1"}
        13 bands of the top of the atmosphere, or VV and VH.
    dim, depth, heads : int
        384/12/6 for S, 768/12/12 for B.
    image_size : int
        Pixels a side for which the table of positions was learnt.
    layer_scale : float
        Initial value of the residual branches' factors.

    References
    ----------
    Wang, Albrecht, Zhu, "Multi-label guided soft contrastive learning for efficient Earth observation pretraining",
    IEEE TGRS (2024). Oquab et al., "DINOv2: learning robust visual features without supervision", TMLR (2024).
    """

    key_map: ClassVar[KeyMap] = KeyMap(
        prefixes=("module.", "model.", "backbone.", "encoder.", "teacher.", "student."), optional=("mask_token",)
    )

    cls_token: nn.Parameter
    pos_embed: nn.Parameter
    patch_embed: Any

    def __init__(
        self,
        modality: Modality = "sentinel-2",
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
        image_size: int = 224,
        layer_scale: float = 1e-5,
    ) -> None:
        super().__init__()
        if image_size < PATCH or image_size % PATCH:
            raise BadSettings(f"image_size={image_size}, expected a multiple of {PATCH}")
        if dim % heads:
            raise BadSettings(f"dim={dim} is no multiple of heads={heads}")
        self.bands, self.modality = softcon_bands(modality), modality
        made: Any = VisionTransformer(
            img_size=image_size, patch_size=PATCH, in_chans=self.bands.count or 0, num_classes=0, embed_dim=dim,
            depth=depth, num_heads=heads, init_values=layer_scale,
        )  # fmt: skip
        self.cls_token, self.pos_embed = made.cls_token, made.pos_embed
        self.patch_embed, self.blocks, self.norm = made.patch_embed, made.blocks, made.norm
        self.patch_embed.strict_img_size = False
        # Published files have it; whoever masks patches passes the masks, and then it is learnt.
        self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.dim, self.map_dims, self.stride, self.depth = dim, (dim,), PATCH, depth
        self._checkpointing = False

    def as_input(
        self,
        x: torch.Tensor,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        valid: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Two standard deviations about the mean as 0..1, in 256 steps; see `bands.in_steps`."""
        seen = x if valid is None else torch.where(valid, x, torch.nan)
        return in_steps(seen, mean, std, self.modality)

    def forward(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None = None, masks: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Class token after the last normalisation, (n, dim); `masks` (n, patches) bool hides patches."""
        return self.norm(self._tokens(x, wavelengths, masks, [self.depth - 1])[0])[:, 0]

    def forward_features(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Class token after the last normalisation, (n, dim)."""
        return self(x, wavelengths)

    def feature_maps(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None = None, layers: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        """Maps (n, dim, y / 14, x / 14) of the last block, or of those asked for, normalised."""
        blocks = [stage_index(i, self.depth) for i in (layers if layers is not None else (-1,))]
        grid = (x.shape[-2] // PATCH, x.shape[-1] // PATCH)
        return [
            self.norm(t)[:, 1:].transpose(1, 2).unflatten(2, grid)
            for t in self._tokens(x, wavelengths, None, sorted(set(blocks)))
        ]

    def get_intermediate_layers(
        self,
        x: torch.Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_class_token: bool = False,
        norm: bool = True,
    ) -> list[Any]:
        """Patch tokens of the last `n` blocks or of those listed, (n, patches, dim), or maps with `reshape`.

        With `return_class_token`, pairs of these and the class token (n, dim).
        """
        if isinstance(n, int) and not 1 <= n <= self.depth:
            raise BadSettings(f"{n} blocks asked for, expected 1 to {self.depth}")
        blocks = list(range(self.depth))[-n:] if isinstance(n, int) else [stage_index(i, self.depth) for i in n]
        grid = (x.shape[-2] // PATCH, x.shape[-1] // PATCH)
        found = []
        for tokens in self._tokens(x, None, None, sorted(set(blocks))):
            tokens = self.norm(tokens) if norm else tokens
            patches = tokens[:, 1:].transpose(1, 2).unflatten(2, grid) if reshape else tokens[:, 1:]
            found.append((patches, tokens[:, 0]) if return_class_token else patches)
        return found

    def probe_features(self, x: torch.Tensor, layers: int = 4, patch_mean: bool = True) -> torch.Tensor:
        """What the 4-layer linear probe sees: class tokens of the last `layers` blocks, and the mean patch token.

        Returns
        -------
        Tensor (n, (layers + patch_mean) dim)
        """
        pairs = self.get_intermediate_layers(x, layers, return_class_token=True)
        parts = [token for _, token in pairs] + ([pairs[-1][0].mean(1)] if patch_mean else [])
        return torch.cat(parts, 1)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass."""
        self._checkpointing = enable

    def adapt_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Resample a table of positions of another image size (bicubic, logged)."""
        side = round((self.pos_embed.shape[1] - 1) ** 0.5)
        for key, value in state.items():
            if key.endswith("pos_embed") and value.ndim == 3 and value.shape[1] != self.pos_embed.shape[1]:
                get_logger("backbones").warning("%s: %d positions resampled", key, value.shape[1])
                state = {**state, key: resample_positions(value, side, side)}
        return state

    def load_vision(self, state: dict[str, Any], first: FirstLayer = "random", *, where: str = "state") -> None:
        """Start from a vision model of the same layout (DINOv2, three channels).

        Parameters
        ----------
        state : dict
        first : {"random", "rgb"}
            The patch embedding: as built, or RGB filters for B4, B3, B2 and their mean for the other bands.
        where : str
            For messages.

        Raises
        ------
        BadWeights
        """
        own = self.patch_embed.proj.weight
        self.load_matched(inflate(state, "patch_embed.proj.weight", own, self.bands.names, first), where=where)

    def _tokens(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None, masks: torch.Tensor | None, take: list[int]
    ) -> list[torch.Tensor]:
        check_image(x, PATCH)
        self.bands.check(x.shape[1], wavelengths)
        tokens = self.patch_embed(x)
        if masks is not None:
            tokens = torch.where(masks[..., None], self.mask_token.to(tokens.dtype), tokens)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1)
        tokens = tokens + resample_positions(self.pos_embed, x.shape[2] // PATCH, x.shape[3] // PATCH).to(tokens.dtype)
        found = []
        for index, block in enumerate(self.blocks[: take[-1] + 1]):
            if self._checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
            if index in take:
                found.append(tokens)
        return found


def resample_positions(table: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """A table of positions (1, 1 + side * side, dim) for another number of patches, as DINOv2 does it.

    Bicubic with the scale factors (rows + 0.1) / side and (cols + 0.1) / side, not with the target's size: the two
    differ by about 1e-2.

    Returns
    -------
    Tensor (1, 1 + rows * cols, dim)
    """
    side = round((table.shape[1] - 1) ** 0.5)
    if (rows, cols) == (side, side):
        return table
    grid = table[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    factors = ((rows + OFFSET) / side, (cols + OFFSET) / side)
    grid = interpolate(grid, scale_factor=factors, mode="bicubic")
    return torch.cat([table[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)], 1)
