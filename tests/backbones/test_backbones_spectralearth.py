"""SpectralEarth: adapter, backbones, band lists, published keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchspectral as ts
from torchspectral.backbones.base import Bands, KeyMap
from torchspectral.backbones.spectralearth.adapter import SpectralAdapter
from torchspectral.backbones.spectralearth.bands import band_indices, enmap_bands
from torchspectral.backbones.spectralearth.resnet import SpecResNet50
from torchspectral.backbones.spectralearth.vit import SpecViT
from torchspectral.backbones.standardise import standardise
from torchspectral.errors import BadInput, BadSettings, BadWeights, BandMismatch, MissingMetadata

TINY = {"dim": 24, "depth": 2, "heads": 3, "image_size": 16}


@pytest.fixture(scope="module")
def adapter() -> SpectralAdapter:
    return with_statistics(SpectralAdapter())


def with_statistics(network: nn.Module) -> nn.Module:
    """As after some training: running statistics and scales differ from their start."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for value, low, high in (
                (module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 2.0), (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
            ):  # fmt: skip
                value.copy_(low + (high - low) * torch.rand(value.shape, generator=generator))
    return network.eval()


def plain(adapter: SpectralAdapter, x: torch.Tensor) -> torch.Tensor:
    return nn.Sequential.forward(adapter, x.unsqueeze(1)).squeeze(2)


@settings(max_examples=12, deadline=None)
@given(st.integers(75, 240), st.integers(1, 2), st.integers(1, 23), st.integers(1, 23), st.integers(0, 99))
def test_blocks_of_pixels_give_the_layers_numbers(adapter, bands, images, rows, cols, seed) -> None:
    x = torch.randn(images, bands, rows, cols, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        got, expected = adapter(x), plain(adapter, x)
        turned = adapter(x.transpose(2, 3))
    assert torch.allclose(got, expected, atol=5e-6)
    assert torch.allclose(turned, expected.transpose(2, 3), atol=5e-6)


def test_the_adapter_learns_through_its_layers(adapter) -> None:
    x = torch.randn(1, 80, 3, 3)
    assert adapter(x).requires_grad
    assert not adapter.requires_grad_(False)(x).requires_grad
    adapter.requires_grad_(True)
    fresh = SpectralAdapter().train()
    fresh(x).sum().backward()
    assert fresh[0].weight.grad.abs().sum() > 0 and fresh[1].num_batches_tracked == 1


def test_a_pixel_of_nodata_changes_no_other_pixel(adapter) -> None:
    x = torch.rand(1, 90, 4, 5) * 3000
    x[:, :, 1] = torch.nan
    mean, std = [1500.0] * 90, [800.0] * 90
    scaled = standardise(x, mean, std)
    assert torch.isfinite(scaled).all() and (scaled[:, :, 1] == 0).all()
    other = standardise(torch.nan_to_num(x, nan=9e5), mean, std)
    keep = [0, 2, 3]
    with torch.no_grad():
        assert torch.equal(adapter(scaled)[:, :, keep], adapter(other)[:, :, keep])
        vit = SpecViT(**{**TINY, "image_size": 8}).eval().spectral_adapter
        assert torch.isfinite(vit(scaled)).all()
    with pytest.raises(BandMismatch, match="89 means"):
        standardise(x, mean[1:], std)
    with pytest.raises(BadInput, match="deviation"):
        standardise(x, mean, [0.0] * 90)


@pytest.mark.parametrize(("shape", "pixels"), [((3, 76, 5, 7), 70), ((2, 92, 9, 8), 50)])
def test_training_in_blocks_equals_the_layers(shape, pixels, monkeypatch) -> None:
    """Outputs, gradients of weights and images, and running statistics, twice over."""
    from torchspectral.backbones.spectralearth import blocked

    monkeypatch.setattr(blocked, "PIXELS", pixels)
    torch.manual_seed(0)
    ours = SpectralAdapter().double().train()
    plain = SpectralAdapter().double().train()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    plain.load_state_dict(ours.state_dict())
    for _ in range(2):
        x = (2 + torch.randn(shape, dtype=torch.float64)).requires_grad_()
        y = x.detach().clone().requires_grad_()
        got, want = ours(x), nn.Sequential.forward(plain, y.unsqueeze(1)).squeeze(2)
        assert got.grad_fn is not None and torch.allclose(got, want, atol=1e-10)
        weight = torch.randn_like(got)
        got.backward(weight), want.backward(weight)
        assert torch.allclose(x.grad, y.grad, atol=1e-9)
    for one, two in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, atol=1e-8)
    for one, two in zip(ours.buffers(), plain.buffers(), strict=True):
        assert torch.allclose(one.double(), two.double(), atol=1e-10)
    frozen = ours.requires_grad_(False)
    assert frozen(x.detach()).grad_fn is None


def test_norms_of_their_own_go_through_the_layers(monkeypatch) -> None:
    """Frozen statistics in training, as true freezing leaves them."""
    network = SpectralAdapter().train()
    for norm in (network[1], network[4], network[7]):
        norm.eval()
    before = [b.clone() for b in network.buffers()]
    x = torch.randn(1, 80, 3, 3)
    assert torch.allclose(network(x), SpectralAdapter.eval(network)(x).detach(), atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True))


def test_fewer_than_75_bands_are_refused() -> None:
    with pytest.raises(BandMismatch, match="got 74 bands, expected at least 75"):
        SpecViT(**TINY)(torch.zeros(1, 74, 16, 16))
    with pytest.raises(BadInput, match="16 x 16"):
        SpecViT(**TINY)(torch.zeros(1, 75, 12, 16))


def test_both_lists_of_202_bands() -> None:
    right, table = enmap_bands(), enmap_bands("enmap-202-csv")
    assert len(right.wavelengths) == len(right.fwhm) == len(table.wavelengths) == 202
    assert (np.diff(right.wavelengths) > 0).all() and (np.diff(table.wavelengths) > 0).all()
    differ = np.flatnonzero(np.array(right.wavelengths) != np.array(table.wavelengths))
    assert differ.tolist() == list(range(130, 145))
    # Nineteen bands in a row from 1531 to 1728 nm, where the published mean spectrum is smooth.
    assert right.wavelengths[126] == pytest.approx(1530.64) and right.wavelengths[144] == pytest.approx(1728.4)
    assert 1939 < table.wavelengths[141] < table.wavelengths[144] < 1968
    assert set(band_indices()) ^ set(band_indices("enmap-202-csv")) == {*range(145, 152), *range(160, 167)}
    assert right.count is None and enmap_bands(fixed=True).count == 202
    rgb = [right.wavelengths[i] for i in (43, 28, 10)]
    assert rgb == pytest.approx([641.1, 555.7, 468.3], abs=0.1)


def test_wavelengths_are_held_against_the_bands() -> None:
    with pytest.raises(BandMismatch, match="got 100 wavelengths for 202"):
        enmap_bands().check(202, np.arange(100.0))
    with pytest.raises(BandMismatch, match="got 201 bands, expected the 202"):
        enmap_bands(fixed=True).check(201)
    with pytest.raises(MissingMetadata):
        Bands(needs_wavelengths=True).check(5)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("spec-vit-t", 6.0), ("spec-vit-s", 22.5), ("spec-vit-b", 87.5), ("spec-vit-l", 305.5), ("spec-vit-h", 633.7),
        ("spec-vit-g", 1138.0), ("spec-resnet50", 24.2),
    ],
)  # fmt: skip
def test_published_sizes(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = ts.create_model(name)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_resnet_maps_plain_and_dilated() -> None:
    x = torch.randn(1, 75, 16, 16)
    for dilated, stride in (((False,) * 4, 16), ((True,) * 4, 1), ((False, False, True, True), 4)):
        network = SpecResNet50(dilated=dilated).eval()
        assert network.stride == stride
        with torch.no_grad():
            last = network.feature_maps(x, layers=(-1,))[0]
        assert last.shape == (1, 2048, 16 // stride, 16 // stride)
    three = [m.dilation[0] for m in network.resnet.layer4.modules() if getattr(m, "kernel_size", 0) == (3, 3)]
    assert three == [8, 8, 8]
    with pytest.raises(BadSettings, match="layer 4"):
        network.feature_maps(x, layers=(4,))
    with pytest.raises(BadSettings, match="dilated"):
        SpecResNet50(dilated=(True,))


@pytest.mark.parametrize("make", [lambda: SpecViT(**TINY, num_classes=2), lambda: SpecResNet50(num_classes=2)])
def test_checkpointing_changes_neither_gradients_nor_statistics(make) -> None:
    x = torch.randn(2, 75, 16, 16)
    found = []
    for enable in (False, True):
        torch.manual_seed(0)
        network = make().train()
        network.set_grad_checkpointing(enable)
        network(x).square().sum().backward()
        statistics = [b.clone() for b in network.buffers()]
        found.append([p.grad for p in network.parameters()] + statistics)
    for one, two in zip(*found, strict=True):
        assert torch.allclose(one.float(), two.float(), rtol=1e-4, atol=1e-6)


def test_maps_are_the_tokens_of_the_blocks_asked_for() -> None:
    network, x = SpecViT(**TINY).eval(), torch.randn(1, 75, 16, 16)
    with torch.no_grad():
        first, last = network.feature_maps(x, layers=(0, 1))
        (tokens,) = network.get_intermediate_layers(x, 1, norm=True)
        (raw,) = network.get_intermediate_layers(x, [0], reshape=True)
        assert network(x).shape == network.forward_features(x).shape == (1, 24)
        assert torch.allclose(network.vit_core.norm(raw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), first, atol=1e-6)
    assert torch.equal(last.flatten(2).transpose(1, 2), tokens) and first.shape == (1, 24, 4, 4)
    with pytest.raises(BadSettings):
        network.get_intermediate_layers(x, 3)
    for wrong in ({"image_size": 18}, {"heads": 5}, {"patch_size": 0}):
        with pytest.raises(BadSettings):
            SpecViT(**{**TINY, **wrong})


def test_baselines_take_exactly_202_bands() -> None:
    vit = ts.create_model("enmap-vit-t", dim=24, depth=1, image_size=16, num_classes=3).eval()
    x = torch.randn(1, 202, 16, 16)
    with torch.no_grad():
        assert vit(x).shape == (1, 3) and vit.feature_maps(x)[0].shape == (1, 24, 2, 2)
    with pytest.raises(BandMismatch, match="expected the 202"):
        vit(x[:, 1:])
    timm_names = {k.removeprefix("core."): v for k, v in vit.state_dict().items() if "head" not in k}
    assert vit.load_matched({f"module.{k}": v for k, v in timm_names.items()}).share == 1
    with torch.device("meta"):
        resnet = ts.create_model("enmap-resnet50")
        assert [tuple(m.shape[1:]) for m in resnet.feature_maps(torch.zeros(1, 202, 64, 64))] == [
            (256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)
        ]  # fmt: skip


def lightning_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keys as the authors' masked autoencoder saves them: twice, with a wrapped patch embedding."""
    saved = {}
    for key, value in state.items():
        if key.startswith("spectral_adapter"):
            saved[f"encoder.vit.spec_vit.{key}"] = value
            continue
        wrapped = key.replace("patch_embed.proj", "patch_embed.original_patch_embed.proj")
        saved[f"encoder.vit.spec_vit.{wrapped}"] = value
        saved[f"encoder.vit.{wrapped}"] = value
    saved["decoder.decoder_pred.weight"] = torch.zeros(3)
    return saved


@pytest.mark.parametrize(
    "named",
    [
        lambda s: s,
        lambda s: {f"student_backbone.{k}": v for k, v in s.items()},
        lambda s: {f"model.encoder.{k}": v for k, v in s.items()},
        lambda s: {f"module.backbone.{k}": v for k, v in s.items()},
        lightning_names,
    ],
)
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_published_names_are_found(named, wrapper, tmp_path) -> None:
    source, target = SpecViT(**TINY, num_classes=7), SpecViT(**TINY, num_classes=0)
    state = {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in source.state_dict().items()}
    saved = named(state)
    torch.save(saved if wrapper is None else {wrapper: saved, "epoch": 3}, tmp_path / "weights.pth")
    match = target.load_published(tmp_path / "weights.pth")
    assert match.share == 1 and not match.absent
    for key, value in target.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, state[key]), key


def test_the_student_stands_before_its_teacher() -> None:
    source = SpecViT(**TINY).state_dict()
    both = {f"teacher_backbone.{k}": v for k, v in source.items()}
    both |= {f"student_backbone.{k}": v + 1 for k, v in source.items()}
    target = SpecViT(**TINY)
    target.load_matched(both)
    assert torch.equal(target.vit_core.norm.weight, source["vit_core.norm.weight"] + 1)
    key_map = KeyMap(prefixes=("teacher_backbone.", "student_backbone."))
    assert torch.equal(key_map.match(both, source).state["vit_core.norm.weight"], source["vit_core.norm.weight"])


def test_files_of_another_model_are_refused_with_the_list(caplog) -> None:
    target = SpecViT(**TINY)
    with caplog.at_level("WARNING"), pytest.raises(BadWeights, match=r"absent \(vit_core\.cls_token"):
        target.load_matched({k: v for k, v in target.state_dict().items() if "adapter" in k}, where="adapter.pth")
    needed = [k for k in target.state_dict() if k.startswith("vit_core") and "head" not in k]
    assert all(key in caplog.text for key in needed)
    with pytest.raises(BadWeights, match=r"vit_core\.cls_token is \(1, 1, 48\), expected \(1, 1, 24\)"):
        target.load_matched(SpecViT(**{**TINY, "dim": 48}).state_dict())
    with pytest.raises(BadWeights, match="0% of the keys of SpecResNet50"):
        SpecResNet50().load_matched({"a": torch.zeros(1)})


def test_positions_of_another_image_size_are_resampled(caplog) -> None:
    source, target = SpecViT(**{**TINY, "image_size": 32}), SpecViT(**TINY)
    with caplog.at_level("WARNING"):
        target.load_matched(source.state_dict())
    assert "resampled" in caplog.text
    assert torch.equal(target.vit_core.pos_embed[:, 0], source.vit_core.pos_embed[:, 0])


def test_a_frozen_random_backbone_with_a_conv_head_tells_three_spectra_apart() -> None:
    from torchspectral.learn.heads.dense import ConvHead

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (12, 1, 4, 4), generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
    spectra = torch.randn(3, 80, generator=generator).cumsum(1) / 4
    x = spectra[labels[:, 0]].permute(0, 3, 1, 2)
    x = (x + 0.3 * torch.randn(x.shape, generator=generator)).contiguous()
    backbone = SpecViT(dim=48, depth=2, heads=3, image_size=32).eval().requires_grad_(False)
    head = ConvHead(48, 3, patch=4, width=32)
    with torch.no_grad():
        maps = backbone.feature_maps(x)[0]
    optimiser = torch.optim.AdamW(head.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(head(maps[:8]), labels[:8, 0]).backward()
        optimiser.step()
    with torch.no_grad():
        right = head.eval()(maps[8:]).argmax(1) == labels[8:, 0]
    assert right.float().mean() > 0.9


def test_half_precision_goes_through_the_layers(adapter) -> None:
    x = torch.randn(1, 80, 3, 3)
    with torch.no_grad():
        expected = adapter(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = adapter(x)
    assert torch.allclose(mixed.float(), expected, atol=0.1)
