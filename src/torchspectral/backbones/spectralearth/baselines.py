"""Baselines of SpectralEarth: plain networks whose first layer sees the 202 bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import timm
import torch

from torchspectral.backbones.base import Backbone, KeyMap, check_image
from torchspectral.backbones.checkpointing import stage_index
from torchspectral.backbones.spectralearth.bands import BandList, enmap_bands
from torchspectral.backbones.spectralearth.vit import check_patches, resize_positions, transformer
from torchspectral.backbones.staged import WIDTHS_50, StagedBackbone

PLAIN = ("module.", "model.", "backbone.", "encoder.")


class PlainViT(Backbone):
    """Vision transformer over all bands at once; published keys are timm's, without ``core.``.

    Parameters
    ----------
    dim, depth, heads, patch_size, image_size, num_classes
        As for `SpecViT`.
    band_list : {"enmap-202", "enmap-202-csv"}
        The 202 bands that it takes.
    """

    key_map: ClassVar[KeyMap] = KeyMap(
        prefixes=PLAIN,
        renames={r"^(?:(?:module|model|backbone|encoder)\.)*(?!core\.)": "core."},
        optional=(r"core\.head\..*",),
    )

    core: Any

    def __init__(
        self,
        dim: int = 384,
        depth: int = 12,
        heads: int = 6,
        patch_size: int = 8,
        image_size: int = 128,
        num_classes: int = 0,
        band_list: BandList = "enmap-202",
    ) -> None:
        super().__init__()
        check_patches(image_size, patch_size)
        self.bands = enmap_bands(band_list, fixed=True)
        assert self.bands.count is not None
        self.core = transformer(self.bands.count, dim, depth, heads, patch_size, image_size, num_classes)
        self.dim, self.map_dims, self.stride = dim, (dim,), patch_size
        self.image_size, self.depth = image_size, depth

    def forward(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Class logits (n, num_classes), or the feature where there are no classes."""
        return self.core.head(self.forward_features(x, wavelengths))

    def forward_features(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Class token after the last normalisation, (n, dim)."""
        self._check(x, wavelengths)
        return self.core.forward_features(x)[:, 0]

    def feature_maps(
        self, x: torch.Tensor, wavelengths: torch.Tensor | None = None, layers: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        """Maps of the last block, or of those asked for, after the last LayerNorm."""
        self._check(x, wavelengths)
        blocks = [stage_index(i, self.depth) for i in (layers if layers is not None else (-1,))]
        return self.core.forward_intermediates(x, blocks, norm=True, intermediates_only=True, stop_early=True)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass."""
        self.core.set_grad_checkpointing(enable)

    def adapt_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Resample a table of positions of another image size."""
        return resize_positions(state, self.core.pos_embed)

    def _check(self, x: torch.Tensor, wavelengths: torch.Tensor | None) -> None:
        check_image(x, size=(self.image_size, self.image_size))
        self.bands.check(x.shape[1], wavelengths)


class PlainResNet50(StagedBackbone):
    """timm's ResNet-50 over all bands at once, stride 32; published keys are timm's, without ``core.``.

    Parameters
    ----------
    num_classes : int
        Outputs of ``core.fc``; 0: `forward` returns the feature.
    band_list : {"enmap-202", "enmap-202-csv"}
        The 202 bands that it takes.
    """

    key_map: ClassVar[KeyMap] = KeyMap(
        prefixes=PLAIN,
        renames={r"^(?:(?:module|model|backbone|encoder)\.)*(?!core\.)": "core."},
        optional=(r"core\.fc\..*", r".*num_batches_tracked"),
    )

    core: Any

    def __init__(self, num_classes: int = 0, band_list: BandList = "enmap-202") -> None:
        super().__init__()
        self.bands = enmap_bands(band_list, fixed=True)
        self.core = timm.create_model("resnet50", pretrained=False, in_chans=self.bands.count, num_classes=num_classes)
        self.dim, self.map_dims, self.stride = WIDTHS_50[-1], WIDTHS_50, 32

    @property
    def trunk(self) -> Any:
        """The network inside."""
        return self.core

    def forward(self, x: torch.Tensor, wavelengths: torch.Tensor | None = None) -> torch.Tensor:
        """Class logits (n, num_classes), or the feature where there are no classes."""
        return self.core.fc(self.forward_features(x, wavelengths))
