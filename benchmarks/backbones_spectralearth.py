"""Rows of SpectralEarth: the spectral adapter, and what a masked autoencoder embeds."""

from __future__ import annotations

import torch
from torch import nn

import torchspectral as ts
from backbones import Call, Row
from torchspectral.backbones.spectralearth.adapter import SpectralAdapter


def adapter(plain: bool, bands: int) -> Call:
    """The adapter in evaluation, layer by layer or in blocks of pixels."""
    network, x = SpectralAdapter().eval(), torch.randn(1, bands, 128, 128)

    def layers() -> torch.Tensor:
        with torch.inference_mode():
            return nn.Sequential.forward(network, x.unsqueeze(1)).squeeze(2)

    def blocks() -> torch.Tensor:
        with torch.inference_mode():
            return network(x)

    return layers if plain else blocks


def trained(plain: bool) -> Call:
    """Forward and backward of the adapter with the batch's statistics; gradients keep their memory."""
    network, x = SpectralAdapter().train(), torch.randn(2, 202, 128, 128)

    def call() -> torch.Tensor:
        network.zero_grad(set_to_none=False)
        out = nn.Sequential.forward(network, x.unsqueeze(1)).squeeze(2) if plain else network(x)
        loss = out.square().mean()
        loss.backward()
        return loss

    return call


def masked(plain: bool) -> Call:
    """Latent tokens of a masked image: all patches embedded, then the visible taken; or the visible only."""
    network, x = ts.create_model("spec-mae-s").eval(), torch.randn(1, 202, 128, 128)
    kept, _ = network.draw(1, x.device, torch.rand(1, 1025))

    def whole() -> torch.Tensor:
        core = network.encoder.vit_core
        with torch.inference_mode():
            image = nn.Sequential.forward(network.encoder.spectral_adapter, x.unsqueeze(1)).squeeze(2)
            tokens = torch.cat([core.cls_token, core.patch_embed(image)], 1) + core.pos_embed
            return core.norm(core.blocks(tokens[:, kept[0]]))

    def visible() -> torch.Tensor:
        with torch.inference_mode():
            return network.encode(x, kept)

    return whole if plain else visible


def rows() -> list[Row]:
    """The comparisons."""
    return [
        Row("spectral adapter 202x128x128", lambda: adapter(True, 202), lambda: adapter(False, 202), faster=3),
        Row("spectral adapter 96x128x128", lambda: adapter(True, 96), lambda: adapter(False, 96)),
        Row("spectral adapter step 2x202x128x128", lambda: trained(True), lambda: trained(False)),
        Row("spec-mae-s encoder 202x128x128, 90 % masked", lambda: masked(True), lambda: masked(False)),
    ]
