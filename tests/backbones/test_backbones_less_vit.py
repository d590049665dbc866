"""LESS ViT and Hyper-MAE: what must hold beyond the parity cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torchspectral as ts
from torchspectral.backbones.formulation import set_plain
from torchspectral.backbones.less_vit import HyperMAE, Kept, LessViT
from torchspectral.backbones.less_vit import embedding as parts
from torchspectral.backbones.less_vit.attention import Geometry
from torchspectral.backbones.less_vit.block import LessBlock
from torchspectral.backbones.less_vit.masking import sample_channels
from torchspectral.backbones.less_vit.options import BlockSettings
from torchspectral.backbones.less_vit.reconstruction import (
    image_of_patches,
    reconstruction_loss,
    standardise_patches,
)
from torchspectral.backbones.less_vit.spectra import BANDS, protocol_bands, transfer_matrix, transfer_sensor
from torchspectral.errors import BadInput, BadSettings, BadWeights, BandMismatch, MissingMetadata, TooLarge

SMALL = {"patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 2, "channel_width": 4}
DECODER = {"decoder_dim": 64, "decoder_depth": 1, "decoder_heads": 2}
WAVES = torch.tensor([450.0, 560.0, 665.0, 865.0, 1610.0])


def image(channels: int = 5, size: int = 16, images: int = 2) -> torch.Tensor:
    return torch.rand(images, channels, size, size, generator=torch.Generator().manual_seed(1)) + 0.01


def built(kind: type = LessViT, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    network = kind(**SMALL, **changes).eval()
    with torch.no_grad():  # biases and gains that are not neutral
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return network


VARIANTS = [
    {}, {"rank": 3}, {"skip_pool": True}, {"qk_norm": True, "rank": 2}, {"qkv_bias": False}, {"rank": 8},
    {"embedding": "rope", "init_values": 0.5, "perception_radius": 360.0}, {"operator": "additive", "embedding": "rope"},
    {"operator": "full", "embedding": "rope", "qk_norm": True},
]  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_the_fast_formulation_equals_the_plain_one(changes: dict) -> None:
    network, x = built(**changes), image()
    with torch.no_grad():
        fast = network(x, WAVES)
    slow_training = network(x, WAVES).detach()
    set_plain(network)
    with torch.no_grad():
        plain = network(x, WAVES)
    torch.testing.assert_close(fast, plain, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(slow_training, plain, atol=2e-5, rtol=1e-4)


def test_gradients_of_both_formulations_agree() -> None:
    grads = []
    for plain in (False, True):
        network = built(rank=2, init_values=0.5)
        set_plain(network, plain)
        network(image(), WAVES).square().mean().backward()
        grads.append([p.grad for p in network.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def test_factors_in_pieces_and_strided_grids_give_the_same(monkeypatch) -> None:
    torch.manual_seed(0)
    block, x = LessBlock(BlockSettings(64, 2, 8, 16, init_values=0.7)).eval(), torch.randn(2, 6, 17, 64)
    from torchspectral.backbones.less_vit.attention import OuterProduct

    with torch.no_grad():
        whole = block(x)
        monkeypatch.setattr(OuterProduct, "FACTOR_VALUES", 4000)
        monkeypatch.setattr(LessBlock, "ROWS", 7)
        torch.testing.assert_close(block(x), whole)
        torch.testing.assert_close(block(x.transpose(1, 2).contiguous().transpose(1, 2)), whole)
        kept = x.clone()
        block(x, Geometry())
        assert torch.equal(x, kept)  # the caller's grid is not written into


def test_mixed_precision_and_checkpointing_run() -> None:
    network, x = built(rank=2), image()
    with torch.no_grad():
        whole = network(x, WAVES)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(network(x, WAVES).float(), whole, atol=0.15, rtol=0.1)
    network.set_grad_checkpointing()
    network(x, WAVES).mean().backward()
    assert network.cls_token.grad is not None


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(5)), st.sampled_from(["sincos", "rope"]))
def test_the_order_of_channels_does_not_matter(order: list[int], embedding: str) -> None:
    network, x = built(embedding=embedding), image()
    with torch.no_grad():
        one, two = network(x, WAVES), network(x[:, order], WAVES[order])
    torch.testing.assert_close(one[:, 0], two[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one[:, 1:][:, order], two[:, 1:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("embedding", ["sincos", "rope"])
def test_embedding_only_what_is_seen_equals_picking_from_all(embedding: str) -> None:
    network, x = built(embedding=embedding), image()
    kept = Kept(torch.tensor([[0, 3], [1, 4]]), torch.tensor([[0, 5, 9], [2, 3, 15]]))
    every = network.optical_patch_embed(x)
    picked = torch.stack([every[i][kept.channels[i]][:, kept.places[i]] for i in range(2)])
    lazy, waves, _ = network._patch_tokens(x, WAVES, None, None, kept)
    torch.testing.assert_close(lazy, picked, atol=1e-6, rtol=1e-5)
    assert torch.equal(waves, WAVES[kept.channels])
    set_plain(network)
    torch.testing.assert_close(network.optical_patch_embed(x), every, atol=1e-6, rtol=1e-5)


def test_evaluation_is_deterministic_and_channels_are_never_dropped_in_it() -> None:
    torch.manual_seed(0)
    network = HyperMAE(**SMALL, **DECODER, channel_dropout=(0.4, 0.5)).eval()
    x = image()
    with torch.no_grad():
        assert torch.equal(network.encoder(x, WAVES), network.encoder(x, WAVES))
        assert network(x, WAVES).channels is None
    got = network.train()(x, WAVES, generator=torch.Generator().manual_seed(3))
    assert got.channels is not None and 2 <= len(got.channels) <= 3
    assert got.prediction.shape == (2, len(got.channels), 16, 16)


def test_one_channel_and_sides_that_differ_are_encoded() -> None:
    network = built(embedding="rope")
    with torch.no_grad():
        assert network(image(1)[..., :8, :], WAVES[:1]).shape == (2, 2, 9, 64)
        maps = network.feature_maps(image()[..., :8, :], WAVES, layers=[0, -1])
        assert [m.shape for m in maps] == [(2, 64, 2, 4)] * 2
        torch.testing.assert_close(maps[1], network.feature_maps(image()[..., :8, :], WAVES)[0])


def test_radar_stands_beside_optical_channels() -> None:
    network, optical, radar = built(), image(), image(2)
    waves = torch.tensor([5500.0, 5700.0])
    with torch.no_grad():
        both = network(optical, WAVES, radar=radar, radar_wavelengths=waves)
        alone = network._patch_tokens(None, None, radar, waves, Kept())[0]
        torch.testing.assert_close(network._patch_tokens(optical, WAVES, radar, waves, Kept())[0][:, 5:], alone)
        assert both.shape == (2, 8, 17, 64)
        kept = Kept(torch.tensor([[0, 6], [2, 3]]), None)  # of one image a radar channel, of the other none
        mixed = network._patch_tokens(optical, WAVES, radar, waves, kept)[0]
        torch.testing.assert_close(mixed[0, 1], alone[0, 1])


@pytest.mark.parametrize("visible", ["all", "optical", "radar"])
def test_three_losses_of_two_modalities(visible: str) -> None:
    torch.manual_seed(0)
    network = HyperMAE(**SMALL, **DECODER).train()
    got = network(
        image(), WAVES, radar=image(2), radar_wavelengths=torch.tensor([5500.0, 5700.0]), visible=visible,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert got.prediction.shape == (2, 7, 16, 16)
    if visible == "optical":
        assert got.channel_mask[:, 5:].all() and not got.channel_mask[:, :5].all()
    if visible == "radar":
        assert got.channel_mask[:, :5].all() and not got.channel_mask[:, 5:].any()
    got.loss.backward()
    assert torch.isfinite(got.loss)


def test_masked_tokens_of_the_decoder_know_where_they_are() -> None:
    apart = {}
    for rope in (True, False):
        torch.manual_seed(0)
        network = HyperMAE(**SMALL, **DECODER, embedding="rope", decoder_rope=rope).eval()
        with torch.no_grad():
            got = network(image(), WAVES, generator=torch.Generator().manual_seed(0))
        channel, places = int(got.channel_mask[0].argmax()), got.position_mask[0].bool()
        apart[rope] = float(got.prediction[0, channel, places].std(0).max())
    assert apart[True] > 1e-3 > 1e-5 > apart[False]


def test_a_perception_mask_shares_places_over_the_batch() -> None:
    torch.manual_seed(0)
    network = HyperMAE(**SMALL, **DECODER, perception_radius=200.0).eval()
    with torch.no_grad():
        got = network(image(), WAVES)
    assert torch.equal(got.position_mask[0], got.position_mask[1]) and got.position_mask.sum() == 24


def test_loss_against_loops() -> None:
    rng = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 3, 4, 9, generator=rng), torch.rand(2, 3, 4, 9, generator=rng)
    target[0, :, 1], target[1, 2], target[0, 0, 0, :5] = 0, 0, 0
    channels, places = torch.tensor([[1.0, 0, 1], [0, 1, 1]]), torch.tensor([[1.0, 1, 0, 1], [0, 1, 1, 1]])
    error = torch.zeros(2, 3, 4)
    for b, c, n in np.ndindex(2, 3, 4):
        valid = target[b, c, n] != 0
        error[b, c, n] = ((prediction - target)[b, c, n][valid] ** 2).sum() / (valid.sum() + 1e-8)
    by_place = [error[b, :, n].mean() for b, n in np.ndindex(2, 4) if places[b, n] and (target[b, :, n] != 0).any()]
    by_channel = [error[b, c].mean() for b, c in np.ndindex(2, 3) if channels[b, c] and (target[b, c] != 0).any()]
    position, channel = reconstruction_loss(prediction, target, channels, places)
    assert float(position) == pytest.approx(float(torch.stack(by_place).mean()), rel=1e-5)
    assert float(channel) == pytest.approx(float(torch.stack(by_channel).mean()), rel=1e-5)


def test_patches_come_back_as_the_image() -> None:
    x, network = image(), built()
    patches = network.optical_patch_embed.patches(x)
    assert torch.equal(image_of_patches(patches, (4, 4)), x)
    standard = standardise_patches(patches)
    torch.testing.assert_close(standard.var(-1), torch.ones(2, 5, 16), atol=1e-3, rtol=1e-3)


def test_loss_falls_on_a_few_images() -> None:
    torch.manual_seed(0)
    network = HyperMAE(**SMALL, **DECODER, norm_pix=False, embedding="rope").train()
    x = torch.linspace(0.2, 0.8, 16).expand(4, 5, 16, 16) * torch.linspace(0.5, 1, 5)[:, None, None]
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    losses = []
    for step in range(12):
        got = network(x, WAVES, generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        got.loss.backward()
        optimiser.step()
        losses.append(float(got.loss.detach()))
    assert np.mean(losses[-3:]) < 0.3 * losses[0]


def test_channels_in_groups() -> None:
    network, x = built(), image()
    with torch.no_grad():
        whole, maps = network.features_of_groups(x, WAVES, 5)
        torch.testing.assert_close(whole, network.forward_features(x, WAVES))
        torch.testing.assert_close(maps, network.feature_maps(x, WAVES)[0])
        one, two = (network.features_of_groups(x, WAVES, 2, repeats=2, seed=4)[0] for _ in range(2))
    assert torch.equal(one, two) and not torch.allclose(one, whole)


def test_older_and_wrapped_files_are_read() -> None:
    network = built()
    state = {}
    for key, value in network.state_dict().items():
        old = key.replace(".attn.attn.", ".attn.").replace(".attn.low_dim_pool.", ".low_dim_pool.")
        for name in ("channel_norm", "spatial_norm"):
            if "low_dim_pool" not in old:
                old = old.replace(f".attn.{name}.", f".{name}.")
        state[f"encoder.{old}"] = value
    fresh = LessViT(**SMALL)
    match = fresh.load_matched({**state, "decoder.mask_token": torch.zeros(1)})
    assert match.share == 1 and not match.absent
    for one, two in zip(fresh.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(BadWeights, match="match"):
        LessViT(**{**SMALL, "depth": 3}).load_matched(state)


def test_whole_files_of_the_autoencoder_are_read() -> None:
    torch.manual_seed(0)
    network = HyperMAE(**SMALL, **DECODER, embedding="rope")
    fresh = HyperMAE(**SMALL, **DECODER, embedding="rope")
    assert fresh.load_matched(network.state_dict()).share == 1
    assert torch.equal(fresh.decoder.mask_token, network.decoder.mask_token)


def test_wrong_inputs_are_refused() -> None:
    network = built(max_tokens=120)
    with pytest.raises(MissingMetadata):
        network(image())
    with pytest.raises(BandMismatch):
        network(image(), WAVES[:3])
    with pytest.raises(BadInput, match="multiples of 4"):
        network(image(size=18), WAVES)
    with pytest.raises(TooLarge, match="442 tokens"):
        network(image(25), torch.linspace(400, 2400, 25))
    with pytest.raises(BadInput):
        network(None)
    for changes in (
        {"num_heads": 3},
        {"channel_width": 5},
        {"embedding": "learnt"},
        {"rank": 0},
        {"qk_nrm": True},
        {"operator": "outer"},
    ):
        with pytest.raises(BadSettings):
            LessViT(**{**SMALL, **changes})
    with pytest.raises(BadSettings, match="perception"):
        LessViT(**SMALL, operator="full", perception_radius=100.0)
    with pytest.raises(BadSettings):
        HyperMAE(**SMALL, mask_ratio=1.0)
    with pytest.raises(BadInput, match="noise"):
        HyperMAE(**SMALL, **DECODER)(image(), WAVES, noise=(torch.rand(2, 4), torch.rand(2, 16)))


def test_values_become_two_deviations_about_the_mean() -> None:
    x = torch.tensor([[-9.0, 1.0, 2.0, 3.0, 99.0, torch.nan]]).reshape(1, 1, 1, 6)
    got = built().as_input(x, [2.0], [0.5])
    assert got.flatten().tolist() == pytest.approx([0, 0, 0.5, 1, 1, 0])


def test_names_build_the_published_sizes() -> None:
    with torch.device("meta"):
        small = ts.create_model("less-vit-v2-s")
    assert small.blocks[0].attn.attn.channel_branch.width == 4
    assert small.blocks[0].attn.attn.spatial_branch.width == 16


def test_masks_and_rotation() -> None:
    mask = parts.perception_mask(3, 4, 4, 30.0, 120.0)
    assert mask.shape == (13, 13) and mask[0].all() and mask[:, 0].all()
    assert mask[1, 2] and mask[1, 5] and not mask[1, 3] and not mask[1, 6]
    rope = parts.SpatialSpectralRoPE(8, 4)
    x = torch.randn(1, 1, 7, 4)
    turned = parts.rotate(x, rope.spectral(torch.linspace(0, 1, 6)))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))


@given(st.integers(2, 300), st.floats(0, 0.5), st.floats(0, 0.45), st.integers(0, 9))
def test_sampled_channels(count: int, low: float, more: float, seed: int) -> None:
    kept = sample_channels(count, (low, low + more), torch.Generator().manual_seed(seed))
    assert len(set(kept.tolist())) == len(kept) and int(kept.min()) >= 0 and int(kept.max()) < count
    assert int(count * (1 - low - more)) - 1 <= len(kept) <= max(int(count * (1 - low)) + 1, 2)


def test_cross_spectral_sets() -> None:
    train, shift, unseen = (protocol_bands(name) for name in ("id", "ood_a", "c82"))
    assert len(set(train)) == 120 and (train <= 100).sum() == 80 and len(set(shift)) == 120
    assert (shift <= 100).sum() == 40 and len(np.intersect1d(train, shift)) == 64
    assert len(unseen) == 82 and not np.intersect1d(train, unseen).size
    assert np.array_equal(protocol_bands("ood_full"), np.arange(BANDS))
    with pytest.raises(BadSettings, match="c82"):
        protocol_bands("c83")


def test_transfer_lists() -> None:
    enmap = np.linspace(418.24, 2445.53, 202)
    for name, count in (("prisma_like", 176), ("eo1h_like", 211), ("desis_like", 236), ("sentinel2_like", 13)):
        centres, fwhm = transfer_sensor(name)
        assert len(centres) == len(fwhm) == count
        weights, supported = transfer_matrix(enmap, centres, fwhm)
        assert np.allclose(weights.sum(1), 1) and len(supported) == len(weights) <= count
        assert not ((weights > 0) & (weights < 1e-9)).any()
    with pytest.raises(BandMismatch):
        transfer_matrix(enmap, np.array([5000.0]), np.array([10.0]))
