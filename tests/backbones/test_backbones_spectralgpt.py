"""SpectralGPT: what must hold beyond the parity cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.backbones.formulation import set_plain
from torchspectral.backbones.spectralgpt import (
    SpectralGPT,
    SpectralGPTClassifier,
    SpectralGPTMAE,
    layer_decay_groups,
    multi_target_loss,
    scale,
    sentinel2_bands,
    to_sentinel2,
)
from torchspectral.backbones.spectralgpt.positions import group_centres, resize_spatial, resize_temporal
from torchspectral.errors import BadInput, BadSettings, BadWeights, BandMismatch, MissingMetadata, TooLarge
from torchspectral.weights.card import make_card
from torchspectral.weights.files import save

SMALL = {"embed_dim": 48, "depth": 3, "num_heads": 4, "image_size": 32}
DECODER = {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 4}


def images(count: int = 2, bands: int = 12, size: int = 32) -> torch.Tensor:
    return torch.rand(count, bands, size, size, generator=torch.Generator().manual_seed(1))


def built(kind: type = SpectralGPT, *given, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    network = kind(*given, **{**SMALL, **changes}).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return network


@pytest.mark.parametrize("changes", [{}, {"qkv_bias": False}, {"separate_positions": False}], ids=str)
def test_the_fast_formulation_equals_the_plain_one(changes: dict) -> None:
    network = built(**changes)
    with torch.no_grad():
        fast = network.tokens(images())
        set_plain(network)
        torch.testing.assert_close(network.tokens(images()), fast, atol=1e-5, rtol=1e-4)


def test_a_step_of_pretraining_equals_the_plain_one() -> None:
    losses, grads = [], []
    for plain in (False, True):
        network = built(SpectralGPTMAE, **DECODER)
        set_plain(network, plain)
        got = network(images(), noise=torch.rand(2, 64, generator=torch.Generator().manual_seed(2)))
        got.loss.backward()
        losses.append(got.loss.detach())
        grads.append([p.grad for p in network.parameters() if p.grad is not None])
    torch.testing.assert_close(*losses)
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def test_joint_positions_give_the_logits_of_separate_ones() -> None:
    apart = built(SpectralGPTClassifier, 5, separate_positions=True)
    joint = SpectralGPTClassifier(5, **SMALL).eval()
    match = joint.load_matched(apart.state_dict())
    assert match.share == 1
    with torch.no_grad():
        torch.testing.assert_close(joint(images()), apart(images()), atol=1e-6, rtol=1e-5)
    reference = SpectralGPTClassifier(5, reference=True, **SMALL)
    match = reference.load_matched(apart.state_dict())
    assert match.absent == ("pos_embed",) and not reference.pos_embed.any()


def test_published_files_fill_every_network(tmp_path) -> None:
    mae = built(SpectralGPTMAE, **DECODER)
    torch.save({"model": mae.state_dict(), "epoch": 3}, tmp_path / "SpectralGPT.pth")
    encoder = SpectralGPT(**SMALL)
    match = encoder.load_published(tmp_path / "SpectralGPT.pth")
    assert match.share == 1 and all("decoder" in key or key == "mask_token" for key in match.unused)
    assert torch.equal(encoder.blocks[2].attn.k.weight, mae.blocks[2].attn.k.weight)
    assert SpectralGPTMAE(**SMALL, **DECODER).load_published(tmp_path / "SpectralGPT.pth").share == 1
    save(tmp_path / "safe.safetensors", mae.state_dict(), make_card({"name": "safe"}, where="test"))
    assert SpectralGPTClassifier(3, **SMALL).load_published(tmp_path / "safe.safetensors").share == 1
    with pytest.raises(BadWeights, match="match"):
        SpectralGPT(**{**SMALL, "embed_dim": 96}).load_published(tmp_path / "SpectralGPT.pth")


def test_positions_of_another_size_are_interpolated() -> None:
    small, large = built(), SpectralGPT(**{**SMALL, "image_size": 48})
    assert large.load_matched(small.state_dict()).share == 1
    with torch.no_grad():
        torch.testing.assert_close(small.eval().tokens(images(size=48)), large.eval().tokens(images(size=48)))
        assert small.feature_maps(images(size=42))[0].shape == (2, 48, 6, 6)  # padded to 48
        edge = torch.nn.functional.pad(images(size=42), (0, 6, 0, 6), mode="replicate")
        assert torch.equal(small.tokens(images(size=42)), small.tokens(edge))
    ramp = torch.arange(4.0)[None, :, None].expand(4, 4, 2).reshape(1, 16, 2)
    assert resize_spatial(ramp, 8, 8).reshape(8, 8, 2)[:, 1:-1].diff(dim=1).min() > 0
    with pytest.raises(BandMismatch):
        resize_spatial(torch.zeros(1, 15, 2), 8, 8)


def test_inflated_to_other_bands() -> None:
    twelve, waves = built(), np.linspace(400, 2440, 24)
    wide = SpectralGPT(**SMALL, bands=24, wavelengths=list(waves)).eval()
    assert wide.load_matched(twelve.state_dict()).share == 1
    assert torch.equal(wide.patch_embed.proj.weight, twelve.patch_embed.proj.weight)
    known, own = group_centres(sentinel2_bands().wavelengths, 3), group_centres(waves, 3)
    assert torch.equal(wide.pos_embed_temporal[:, 0], twelve.pos_embed_temporal[:, 0])  # before the first group
    middle = np.searchsorted(known, own[3])
    low, high = twelve.pos_embed_temporal[0, middle - 1], twelve.pos_embed_temporal[0, middle]
    part = (own[3] - known[middle - 1]) / (known[middle] - known[middle - 1])
    torch.testing.assert_close(wide.pos_embed_temporal[0, 3], low + float(part) * (high - low))
    same = SpectralGPT(**SMALL, bands=12, wavelengths=sentinel2_bands().wavelengths)
    same.load_matched(twelve.state_dict())
    with torch.no_grad():
        assert torch.equal(same.eval().tokens(images()), twelve.tokens(images()))
        assert wide.spectral_maps(images(bands=24)).shape == (2, 8, 48, 4, 4)


def test_a_larger_patch_takes_resampled_kernels() -> None:
    twelve, coarse = built(), SpectralGPT(**SMALL, patch_size=16)
    assert coarse.load_matched(twelve.state_dict()).share == 1
    flat = torch.ones(1, 12, 32, 32)  # what a kernel says of even ground stays
    with torch.no_grad():
        fine, large = (n.patch_embed(flat)[0, 0] for n in (twelve, coarse))
    torch.testing.assert_close(fine, large, atol=1e-4, rtol=1e-3)


def test_too_many_tokens_are_refused() -> None:
    with pytest.raises(TooLarge, match="4096"), torch.device("meta"):
        SpectralGPT(bands=201, wavelengths=list(np.linspace(420, 2440, 201)))
    with pytest.raises(TooLarge):
        built(max_tokens=64).tokens(images(size=40))
    assert resize_temporal(torch.ones(1, 1, 3), np.array([500.0]), np.array([400.0, 900.0])).shape == (1, 2, 3)


def test_wrong_inputs_are_refused() -> None:
    network = built()
    with pytest.raises(BandMismatch, match="12 bands"):
        network(images(bands=13))
    with pytest.raises(BadInput):
        network(images()[0])
    with pytest.raises(BadSettings):
        SpectralGPT(**SMALL, bands=13)
    with pytest.raises(BadSettings):
        SpectralGPT(**SMALL, bands=24, wavelengths=[400.0])
    with pytest.raises(BadSettings):
        SpectralGPTMAE(**SMALL, **DECODER, separate_positions=False)
    mae = built(SpectralGPTMAE, **DECODER)
    with pytest.raises(BadInput, match="noise"):
        mae(images(), noise=torch.rand(2, 63))
    with pytest.raises(BadSettings, match="leaves 0"):
        mae(images(), mask_ratio=0.999)


def test_both_terms_of_the_loss_against_loops() -> None:
    rng = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(1, 6, 5, generator=rng), torch.rand(1, 6, 5, generator=rng)
    mask = torch.tensor([[1.0, 0, 1, 1, 0, 0]])  # 2 groups of 3 places
    token, spectral = multi_target_loss(prediction, target, mask, 2, norm_pix=True)
    rows = [(t - t.mean()) / (t.var() + 1e-6).sqrt() for t in target[0]]
    want = np.mean([float(((prediction[0, i] - rows[i]) ** 2).mean()) for i in (0, 2, 3)])
    sums = [prediction[0, i] + prediction[0, i + 3] - target[0, i] - target[0, i + 3] for i in range(3)]
    assert float(token) == pytest.approx(want, rel=1e-5)
    assert float(spectral) == pytest.approx(np.mean([float((s**2).mean()) for s in sums]), rel=1e-5)


def test_values_of_tokens_come_back_as_the_image() -> None:
    mae, x = built(SpectralGPTMAE, bands=24, **DECODER), images(bands=24)
    assert torch.equal(mae.images(mae.patch_embed.patches(x), 4, 4), x)


def test_loss_falls_on_eight_cubes() -> None:
    torch.manual_seed(0)
    network = SpectralGPTMAE(**SMALL, **DECODER, mask_ratio=0.75).train()
    shape = torch.linspace(0, 1, 12)[:, None, None] * torch.linspace(0.3, 1, 32)
    cubes = shape * torch.linspace(0.5, 1, 8)[:, None, None, None] * torch.ones(32, 1)
    optimiser, losses = torch.optim.AdamW(network.parameters(), 1e-3, betas=(0.9, 0.95)), []
    for step in range(30):
        got = network(cubes, generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        got.loss.backward()
        optimiser.step()
        losses.append(float(got.loss.detach()))
    assert np.mean(losses[-5:]) < 0.3 * losses[0]


def test_checkpointing_gives_the_same_gradients() -> None:
    grads = []
    for recompute in (False, True):
        network = built(SpectralGPTMAE, **DECODER)
        network.set_grad_checkpointing(recompute)
        network(images(), noise=torch.rand(2, 64, generator=torch.Generator().manual_seed(2))).loss.backward()
        grads.append(network.blocks[0].attn.q.weight.grad)
    torch.testing.assert_close(*grads)


def test_scalings() -> None:
    x = torch.rand(2, 12, 8, 8) * 4000
    x[0, 3] = 700.0
    x[1, 2, 0, 0] = torch.nan
    for mode in ("minmax", "minmax-patch"):
        y = scale(x, mode)
        assert torch.isnan(y).sum() == 1 and not y[0, 3].any()
        assert y.nan_to_num().min() == 0 and y.nan_to_num().max() == pytest.approx(1)
    y = scale(torch.full((1, 12, 1, 1), 752.4))
    assert float(y[0, 0]) == pytest.approx(127 / 255)
    assert torch.equal((scale(x[:1]) * 255).round() / 255, scale(x[:1]))
    with pytest.raises(BandMismatch):
        scale(x[:, :11])


def test_scenes_become_what_the_weights_saw() -> None:
    x = torch.rand(2, 12, 32, 32) * 4000
    holes = x.clone()
    holes[:, :, :3] = torch.nan
    assert torch.equal(built().as_input(x), scale(x))
    ranged = built(scaling="minmax")
    assert torch.equal(ranged.as_input(x), scale(x, "minmax")) and torch.isfinite(ranged.as_input(holes)).all()
    wide = built(bands=24)
    with pytest.raises(MissingMetadata, match="24 bands"):
        wide.as_input(images(bands=24))
    assert wide.as_input(images(bands=24), [0.5] * 24, [0.2] * 24).max() <= 1


def test_learning_rates_fall_towards_the_patches() -> None:
    network = built(SpectralGPTClassifier, 4)
    groups = layer_decay_groups(network, 1e-3, depth=3)
    rates = {g["layer"]: g["lr"] for g in groups}
    assert rates == pytest.approx({i: 1e-3 * 0.75 ** (4 - i) for i in range(5)})
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))
    assert all((p.ndim <= 1) == (g["weight_decay"] == 0) for g in groups for p in g["params"])
    assert network.head.weight.std() < 1e-4
    torch.optim.AdamW(groups)


def test_scenes_of_other_sensors_become_twelve_bands() -> None:
    waves = np.arange(400.0, 2460.0, 8.0)
    values = np.broadcast_to((waves / 1000)[:, None, None], (waves.size, 2, 3)).astype(np.float32)
    twelve = to_sentinel2(ts.make_cube(values, wavelength=waves, fwhm=np.full(waves.size, 8.0), quantity="reflectance"))
    assert twelve.sizes["band"] == 12 and "B10" not in sentinel2_bands().names
    np.testing.assert_allclose(twelve.values[:, 0, 0], np.array(sentinel2_bands().wavelengths) / 1000, rtol=2e-3)
    short = ts.make_cube(values[:60], wavelength=waves[:60], quantity="reflectance")
    with pytest.raises(BandMismatch, match="B12"):
        to_sentinel2(short)


def test_names_build_the_published_sizes() -> None:
    with torch.device("meta"):
        sizes = {n: ts.create_model(f"spectralgpt-{n}") for n in ("b", "l", "h", "mae-b")}
        classifier = ts.create_model("spectralgpt-classifier-b", num_classes=10)
    count = {n: sum(p.numel() for p in network.parameters()) for n, network in sizes.items()}
    assert count["mae-b"] == pytest.approx(98.6e6, rel=2e-3) and count["h"] > 600e6
    assert sum(p.numel() for p in classifier.parameters()) == pytest.approx(86.0e6, rel=2e-3)
    assert [len(sizes[n].blocks) for n in "blh"] == [12, 24, 32]
