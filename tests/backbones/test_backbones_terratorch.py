"""Backbones as TerraTorch takes them: a registry that knows constructors by their names, maps and their widths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from torchspectral.backbones.terratorch import REGISTERED, build, register
from torchspectral.errors import BadSettings, BandMismatch, MissingWeights

SMALL = {"dim": 24, "depth": 2, "heads": 3, "image_size": 16}


class _Registry(dict[str, Callable[..., Any]]):
    def register(self, constructor: Callable[..., Any]) -> Callable[..., Any]:
        self[constructor.__name__] = constructor
        return constructor


def test_a_registry_builds_feature_maps() -> None:
    registry = _Registry()
    names = register(registry)
    assert "torchspectral_spec_vit_t" in names and set(names) == set(registry)
    made = registry["torchspectral_spec_vit_t"](layers=[0, -1], bands=80, **SMALL)
    maps = made(torch.zeros(1, 80, 16, 16))
    assert made.out_channels == [24, 24] and [tuple(m.shape) for m in maps] == [(1, 24, 4, 4)] * 2
    twice = registry["torchspectral_spec_vit_t"](layers=[-1, 0, 0], **SMALL).eval()
    again = twice(torch.randn(1, 80, 16, 16))
    assert len(again) == len(twice.out_channels) == 3 and again[1] is again[2] and not torch.equal(again[0], again[1])
    stages = registry["torchspectral_intl_resnet18"](bands=4).eval()
    assert stages.out_channels == [m.shape[1] for m in stages(torch.zeros(1, 4, 32, 32))] == [64, 128, 256, 512]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BandMismatch, match="at least 75"):
        build("spec-vit-t", bands=["RED"] * 6, **SMALL)
    with pytest.raises(BadSettings, match="backbone_wavelengths"):
        build("less-vit-s", patch_size=4, embed_dim=16, depth=1, num_heads=2)
    with pytest.raises(BadSettings, match="layer 2"):
        build("spec-vit-t", layers=[2], **SMALL)
    with pytest.raises(MissingWeights):
        build("spec-vit-h", pretrained=True)


def test_terratorch_knows_them() -> None:
    """The real registry and factory: seen to pass with TerraTorch 1.2.13."""
    pytest.importorskip("terratorch")
    from terratorch.models import EncoderDecoderFactory
    from terratorch.registry import BACKBONE_REGISTRY

    assert all(name in BACKBONE_REGISTRY for name in REGISTERED)
    assert BACKBONE_REGISTRY.build("torchspectral_spec_vit_t", **SMALL).out_channels == [24]
    made = EncoderDecoderFactory().build_model(
        task="segmentation", backbone="torchspectral_spec_vit_t", backbone_bands=list(range(80)),
        backbone_layers=[0, 0, 1, 1], **{f"backbone_{k}": v for k, v in SMALL.items()},
        necks=[{"name": "LearnedInterpolateToPyramidal"}], decoder="UperNetDecoder", decoder_channels=16, num_classes=3,
    )  # fmt: skip
    assert made(torch.zeros(2, 80, 16, 16)).output.shape == (2, 3, 16, 16)
