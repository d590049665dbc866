"""SoftCon: encoders, positions, steps of 256, start from vision models."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

import torchspectral as ts
from torchspectral.backbones.softcon.bands import STATISTICS, in_steps, softcon_bands
from torchspectral.backbones.softcon.resnet import SoftConResNet50
from torchspectral.backbones.softcon.vit import SoftConViT, resample_positions
from torchspectral.errors import BadInput, BadSettings, BadWeights, BandMismatch

TINY = {"dim": 24, "depth": 5, "heads": 3, "image_size": 56, "layer_scale": 1.0}


@pytest.fixture(scope="module")
def network() -> SoftConViT:
    torch.manual_seed(0)
    return SoftConViT(**TINY).eval()


def test_bands_of_both_modalities() -> None:
    assert softcon_bands().names[:4] == ("B1", "B2", "B3", "B4") and softcon_bands().names[8] == "B8A"
    assert softcon_bands().count == 13 and softcon_bands("sentinel-1").count == 2
    with torch.device("meta"):
        network = ts.create_model("softcon-vit-b", modality="sentinel-1")
        assert network(torch.zeros(1, 2, 224, 224)).shape == (1, 768)
    with pytest.raises(BandMismatch, match="got 12 bands, expected the 13"):
        SoftConViT(**TINY)(torch.zeros(1, 12, 56, 56))
    with pytest.raises(BadInput, match="multiples of 14"):
        SoftConViT(**TINY)(torch.zeros(1, 13, 50, 56))
    with pytest.raises(BadSettings, match="image_size"):
        SoftConViT(**{**TINY, "image_size": 60})


def test_positions_follow_scale_factors_and_axes() -> None:
    table = torch.randn(1, 17, 6)
    assert resample_positions(table, 4, 4) is table
    wide = resample_positions(table, 3, 6)
    assert wide.shape == (1, 19, 6) and torch.equal(wide[:, 0], table[:, 0])
    grid = table[:, 1:].reshape(1, 4, 4, 6).permute(0, 3, 1, 2)
    expected = interpolate(grid, scale_factor=(3.1 / 4, 6.1 / 4), mode="bicubic")
    assert torch.equal(wide[0, 1:].T.reshape(6, 3, 6), expected[0])
    by_size = interpolate(grid, size=(3, 6), mode="bicubic")
    assert (expected - by_size).abs().max() > 1e-3
    turned = torch.cat([table[:, :1], table[:, 1:].reshape(1, 4, 4, 6).transpose(1, 2).reshape(1, 16, 6)], 1)
    assert torch.allclose(
        resample_positions(turned, 6, 3)[0, 1:].reshape(6, 3, 6).transpose(0, 1).reshape(18, 6), wide[0, 1:]
    )


def test_tokens_maps_and_the_probe(network) -> None:
    x = torch.randn(2, 13, 42, 70)
    with torch.no_grad():
        pairs = network.get_intermediate_layers(x, 4, return_class_token=True)
        (fine,) = network.feature_maps(x)
        probe = network.probe_features(x)
        assert torch.allclose(network(x), pairs[-1][1], atol=1e-6)
    assert fine.shape == (2, 24, 3, 5) and torch.equal(fine.flatten(2).transpose(1, 2), pairs[-1][0])
    assert probe.shape == (2, 5 * 24)
    assert torch.allclose(probe, torch.cat([token for _, token in pairs] + [pairs[-1][0].mean(1)], 1))


def test_hidden_patches_do_not_matter(network) -> None:
    x, masks = torch.randn(1, 13, 56, 56), torch.zeros(1, 16, dtype=torch.bool)
    masks[:, 5] = True
    other = x.clone()
    other[:, :, 14:28, 14:28] += 3
    with torch.no_grad():
        assert torch.equal(network(x, masks=masks), network(other, masks=masks))
        assert not torch.equal(network(x), network(other))


def test_checkpointing_keeps_the_gradients() -> None:
    x, found = torch.randn(1, 13, 56, 56), []
    for enable in (False, True):
        torch.manual_seed(0)
        network = SoftConViT(**TINY).train()
        network.set_grad_checkpointing(enable)
        network(x).square().sum().backward()
        found.append([p.grad for p in network.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(*found, strict=True))


def test_values_in_256_steps() -> None:
    mean, std = (torch.tensor(s)[None, :, None, None] for s in STATISTICS["sentinel-2"])
    x = torch.cat([mean - 3 * std, mean - 2 * std, mean, mean + 3 * std, torch.full_like(mean, torch.nan)], 3)
    steps = in_steps(x)
    assert torch.allclose(steps[0, 0, 0], torch.tensor([0.0, 0.0, 127 / 255, 1.0, 127 / 255]))
    random = in_steps(mean + std * torch.randn(1, 13, 8, 8))
    assert torch.allclose(random * 255, (random * 255).round(), atol=1e-4)
    assert in_steps(torch.full((1, 2, 1, 1), -12.59), modality="sentinel-1")[0, 0, 0, 0] == 127 / 255
    with pytest.raises(BandMismatch, match="13 means"):
        in_steps(torch.zeros(1, 12, 4, 4))


@pytest.mark.parametrize("first", ["random", "rgb"])
def test_start_from_a_vision_model(first) -> None:
    target = SoftConViT(**TINY)
    built = target.patch_embed.proj.weight.detach().clone()
    state = {k: torch.randn_like(v) for k, v in SoftConViT(**{**TINY, "image_size": 84}).state_dict().items()}
    colours = torch.randn(24, 3, 14, 14)
    file = {f"backbone.{k}": v for k, v in state.items()} | {"backbone.patch_embed.proj.weight": colours}
    target.load_vision(file, first)
    got = target.patch_embed.proj.weight
    assert torch.equal(target.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])
    if first == "random":
        assert torch.equal(got, built)
    else:
        assert torch.equal(got[:, 3], colours[:, 0]) and torch.equal(got[:, 1], colours[:, 2])
        assert torch.equal(got[:, 9], colours.mean(1))
    with pytest.raises(BadWeights, match="first layer of a vision model"):
        target.load_vision(state, first)


def test_resnet_of_two_bands() -> None:
    with torch.device("meta"):
        network = SoftConResNet50("sentinel-1")
        maps = network.feature_maps(torch.zeros(1, 2, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)]
    assert "fc.weight" not in network.state_dict() and network.conv1.weight.shape == (64, 2, 7, 7)
