"""Our backbones in TerraTorch: importing this module registers them, where TerraTorch is installed.

Names are ``torchspectral_`` and ours with underscores: ``torchspectral_spec_vit_s``. TerraTorch finds them once this module
is imported, in a script or through ``custom_modules_path`` of a configuration; then
``EncoderDecoderFactory(backbone="torchspectral_spec_vit_s", backbone_weights="runs/dino", ...)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from torchspectral.backbones.base import Backbone
from torchspectral.backbones.checkpointing import stage_index
from torchspectral.backbones.starting import backbone_names, encoder, find_start
from torchspectral.errors import BadSettings
from torchspectral.registry import load_target
from torchspectral.weights.networks import models

PREFIX = "torchspectral_"


class FeatureMaps(nn.Module):
    """A backbone as TerraTorch takes it: `forward` returns its feature maps, `out_channels` says how wide they are.

    Parameters
    ----------
    backbone : Backbone
    wavelengths : sequence of float, optional
        Band centres [nm]; only where the backbone computes with them.
    layers : sequence of int, optional
        Blocks or stages whose maps are returned, in this order (one can be asked for twice); by default the last block,
        or all stages.

    Attributes
    ----------
    out_channels : list of int
        Channels of each map.
    """

    wavelengths: torch.Tensor | None

    def __init__(
        self, backbone: Backbone, wavelengths: Sequence[float] | None = None, layers: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.backbone, self.layers = backbone, None if layers is None else [int(n) for n in layers]
        waves = None if wavelengths is None else torch.tensor([float(w) for w in wavelengths])
        self.register_buffer("wavelengths", waves, persistent=False)
        dims = list(backbone.map_dims)
        if self.layers is not None:  # transformers have maps of one width, whatever the block
            count = len(dims) if len(dims) > 1 else len(_blocks(backbone))
            self.layers = [stage_index(n, count) for n in self.layers]
            dims = [dims[n] if len(dims) > 1 else dims[0] for n in self.layers]
        self.out_channels = dims

    def forward(self, x: torch.Tensor, **unused: Any) -> list[torch.Tensor]:
        """Maps (n, channels, rows, cols), finest first, of standardised images (n, bands, y, x)."""
        if self.layers is None:
            return self.backbone.feature_maps(x, self.wavelengths)
        wanted = sorted(set(self.layers))
        maps = dict(zip(wanted, self.backbone.feature_maps(x, self.wavelengths, wanted), strict=True))
        return [maps[n] for n in self.layers]


def _blocks(backbone: Any) -> Any:
    return next(part.blocks for part in backbone.modules() if hasattr(part, "blocks"))


def build(
    name: str,
    pretrained: bool = False,
    weights: str = "",
    wavelengths: Sequence[float] | None = None,
    layers: Sequence[int] | None = None,
    bands: Sequence[Any] | int | None = None,
    **arguments: Any,
) -> FeatureMaps:
    """A backbone with TerraTorch's arguments.

    Parameters
    ----------
    name : str
        As `create_model` knows it.
    pretrained : bool
        Take the only weights of this backbone on this machine, where none are named.
    weights : str
        A run, a file or a name.
    wavelengths, layers
        Of `FeatureMaps`.
    bands : sequence or int, optional
        Of the data: the backbone is built for their number, or it is held against what it takes.
    **arguments
        Of the backbone's constructor.

    Raises
    ------
    MissingWeights, BadWeights, BandMismatch, BadSettings
    """
    own: dict[str, Any] = {}
    start = None
    if weights or pretrained:
        _, start = find_start(name, weights)
        own = {k: v for k, v in start.card.constructor.items() if k != "num_classes"} if start is not None else {}
    count = bands if bands is None or isinstance(bands, int) else len(bands)
    if count is not None and name in models():
        takes = inspect.signature(load_target(models()[name].target)).parameters
        own |= {"bands": count} if "bands" in takes else {}
    made = encoder(name, {**own, **arguments})
    if start is not None:
        made.load_matched(start.state, where=str(start.path))
    if count is not None:
        made.bands.check(count, wavelengths)
    if made.bands.needs_wavelengths and wavelengths is None:
        raise BadSettings(f"{name} computes with wavelengths: give backbone_wavelengths, the centre of each band [nm]")
    return FeatureMaps(made, wavelengths, layers)


def register(registry: Any) -> list[str]:
    """Put all backbones into a registry of TerraTorch; returns their names there.

    Parameters
    ----------
    registry : terratorch.registry.Registry
        It knows what it is given to `register` by its ``__name__``.
    """
    made = [_constructor(name) for name in backbone_names()]
    for constructor in made:
        registry.register(constructor)
    return [constructor.__name__ for constructor in made]


def _constructor(name: str) -> Callable[..., FeatureMaps]:
    def construct(**arguments: Any) -> FeatureMaps:
        return build(name, **arguments)

    construct.__name__ = construct.__qualname__ = PREFIX + name.replace("-", "_")
    construct.__doc__ = f"{models()[name].title or name}, as feature maps."
    return construct


def _register_with_terratorch() -> list[str]:
    try:
        from terratorch.registry import TERRATORCH_BACKBONE_REGISTRY  # type: ignore[import-not-found]
    except ModuleNotFoundError:
        return []
    return register(TERRATORCH_BACKBONE_REGISTRY)


REGISTERED = _register_with_terratorch()
