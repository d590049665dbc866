"""Rows of LESS ViT: the encoder at 202 and at 13 bands, and tokens of masked images."""

from __future__ import annotations

import torch

import torchspectral as ts
from backbones import Call, Row
from torchspectral.backbones.formulation import set_plain
from torchspectral.backbones.less_vit import Kept


def encoder(plain: bool, bands: int) -> Call:
    """Tokens of one image of 128 x 128 pixels, patches of 16."""
    network, x = ts.create_model("less-vit-b", perception_radius=None).eval(), torch.rand(1, bands, 128, 128)
    set_plain(network, plain)
    waves = torch.linspace(420, 2440, bands)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return network(x, waves)[:, 0]

    return call


def masked(plain: bool) -> Call:
    """Half the channels and a quarter of the places: embedded after all others too, or alone."""
    network, x = ts.create_model("less-vit-b", perception_radius=None).eval(), torch.rand(1, 202, 128, 128)
    set_plain(network, plain)
    channels, places = torch.arange(0, 202, 2)[None], torch.arange(0, 64, 4)[None]

    def whole() -> torch.Tensor:
        with torch.inference_mode():
            return network.optical_patch_embed(x)[:, channels[0]][:, :, places[0]]

    def visible() -> torch.Tensor:
        with torch.inference_mode():
            return network._patch_tokens(x, torch.linspace(420, 2440, 202), None, None, Kept(channels, places))[0]

    return whole if plain else visible


def rows() -> list[Row]:
    """The comparisons."""
    return [
        Row(
            "less-vit-b 202x128x128", lambda: encoder(True, 202), lambda: encoder(False, 202),
            faster=1.3, memory=1 / 1.3,
        ),
        Row("less-vit-b 13x128x128", lambda: encoder(True, 13), lambda: encoder(False, 13), faster=1.0),
        Row("less-vit-b embedding of 1/8 of the tokens", lambda: masked(True), lambda: masked(False)),
    ]  # fmt: skip
