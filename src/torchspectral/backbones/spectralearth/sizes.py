"""Features of views that are smaller than the images a vision transformer was built for."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import resample_abs_pos_embed

from torchspectral.backbones.base import Backbone
from torchspectral.backbones.spectralearth.baselines import PlainViT
from torchspectral.backbones.spectralearth.vit import SpecViT


def features_at(backbone: Backbone, x: torch.Tensor) -> torch.Tensor:
    """One vector an image, (n, dim); a transformer's table of positions is interpolated to images of another size.

    Parameters
    ----------
    backbone : Backbone
    x : Tensor (n, bands, y, x)
        Sides are multiples of the backbone's patch.
    """
    if not isinstance(backbone, (SpecViT, PlainViT)) or x.shape[-1] == backbone.image_size:
        return backbone.forward_features(x)
    if isinstance(backbone, SpecViT):
        core: Any = backbone.vit_core
        backbone.bands.check(x.shape[1])
        x = backbone.spectral_adapter(x)
    else:
        core = backbone.core
        backbone.bands.check(x.shape[1])
    tokens = core.patch_embed.proj(x)
    table = resample_abs_pos_embed(core.pos_embed, list(tokens.shape[-2:]))
    tokens = tokens.flatten(2).transpose(1, 2)
    tokens = torch.cat([core.cls_token.expand(len(x), -1, -1), tokens], 1) + table
    return core.norm(core.blocks(core.norm_pre(tokens)))[:, 0]
