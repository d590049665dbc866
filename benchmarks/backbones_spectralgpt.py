"""Rows of SpectralGPT: the classifier, and a step of masked pretraining."""

from __future__ import annotations

import torch

import torchspectral as ts
from backbones import Call, Row
from torchspectral.backbones.formulation import set_plain


def classifier(plain: bool) -> Call:
    """Feature of one image: separate products and the whole matrix of attention, or one product and fused attention."""
    network, x = ts.create_model("spectralgpt-classifier-b", num_classes=10).eval(), torch.rand(1, 12, 128, 128)
    set_plain(network, plain)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return network.forward_features(x)

    return call


def pretraining(plain: bool) -> Call:
    """Forward and backward of four images, nine tenths of their tokens hidden; gradients keep their memory."""
    network, x = ts.create_model("spectralgpt-mae-b").train(), torch.rand(4, 12, 128, 128)
    set_plain(network, plain)
    noise = torch.rand(4, 1024)

    def call() -> torch.Tensor:
        network.zero_grad(set_to_none=False)
        loss = network(x, noise=noise).loss
        loss.backward()
        return loss

    return call


def forward(plain: bool) -> Call:
    """Loss of one image without gradients."""
    network, x = ts.create_model("spectralgpt-mae-b").eval(), torch.rand(1, 12, 128, 128)
    set_plain(network, plain)
    noise = torch.rand(1, 1024)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return network(x, noise=noise).loss

    return call


def rows() -> list[Row]:
    """The comparisons."""
    goals = {"faster": 1.5, "memory": 0.5}
    return [
        Row("spectralgpt-b classifier 12x128x128", lambda: classifier(True), lambda: classifier(False), **goals),
        Row("spectralgpt-mae-b step 4x12x128x128", lambda: pretraining(True), lambda: pretraining(False), **goals),
        Row("spectralgpt-mae-b loss 12x128x128", lambda: forward(True), lambda: forward(False), **goals),
    ]
