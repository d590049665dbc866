"""ESSAformer's and spectral mixup's networks: exact fast forms, sizes, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import torchspectral as ts
from torchspectral.errors import BadSettings
from torchspectral.superresolution import convolution
from torchspectral.superresolution.essaformer.attention import SpectralAttention
from torchspectral.superresolution.essaformer.network import Refiner, reach
from torchspectral.superresolution.groups import gather_groups, mean_of_groups, starts_of
from torchspectral.superresolution.spectral_mixup.network import joined_tail


@pytest.mark.parametrize("size", [(9, 7), (2, 2), (1, 5), (16, 33)])
def test_minimal_filtering_is_the_convolution(size) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(6, 5, 3, padding=1), torch.randn(2, 6, *size)
    with torch.no_grad():
        kernels = convolution.transformed(layer.weight)
        torch.testing.assert_close(
            convolution.minimal_filtering(x, kernels, layer.bias), layer(x), rtol=1e-5, atol=1e-5
        )
        if size[0] > 2:
            inner = convolution.minimal_filtering(x, kernels, layer.bias, 1, 1)
            torch.testing.assert_close(inner, layer(x)[:, :, 1:-1], rtol=1e-5, atol=1e-5)


def test_strips_of_a_refinement_are_the_whole(monkeypatch) -> None:
    from torchspectral.superresolution.essaformer import network

    torch.manual_seed(0)
    module, x = Refiner(8, 0.2, "convu").eval(), torch.randn(2, 8, 13, 6)
    plain = module(x).detach()
    for budget in (1, 2000, 1 << 20):
        monkeypatch.setattr(network, "CHUNK_BYTES", budget)
        with torch.no_grad():
            torch.testing.assert_close(module(x), plain, rtol=1e-4, atol=1e-5)


def test_attention_does_not_mind_the_order_of_tokens() -> None:
    torch.manual_seed(0)
    attention, tokens = SpectralAttention(12).eval(), torch.randn(2, 30, 12)
    order = torch.randperm(30)
    with torch.no_grad():
        torch.testing.assert_close(attention(tokens)[:, order], attention(tokens[:, order]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("scale", "dim"), [(1, 8), (2, 8), (3, 9), (4, 8), (6, 36), (8, 8)])
def test_essaformer_at_every_scale(scale, dim) -> None:
    torch.manual_seed(0)
    network, x = ts.create_model("essaformer", bands=3, dim=dim, scale=scale).eval(), torch.rand(1, 3, 5, 7)
    trained = network(x).detach()
    with torch.no_grad():
        quick = network(x)
        assert torch.equal(quick, network(x))
    assert quick.shape == (1, 3, 5 * scale, 7 * scale)
    torch.testing.assert_close(quick, trained, rtol=1e-3, atol=1e-4)
    network.train()
    assert not torch.equal(network(x), network(x)), "dropout is at work in training"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 256, "scale": 3}, "multiple of 9"),
        ({"dim": 6, "scale": 2}, "multiple of 4"),
        ({"dim": 8, "scale": 5}, "power of 2"),
        ({"dim": 8, "dropout": 1.0}, "dropout"),
        ({"dim": 8, "residual": "linear"}, "residual"),
    ],
)
def test_essaformer_refuses(values, message) -> None:
    with pytest.raises(BadSettings, match=message):
        ts.create_model("essaformer", bands=3, **values)


@pytest.mark.parametrize(
    ("model", "values", "count"),
    [
        ("essaformer", {"bands": 128}, 11_640_832),
        ("essaformer", {"bands": 102, "dim": 72, "scale": 3}, 1_036_622),
        ("essaformer", {"bands": 31, "dim": 48, "scale": 2}, 328_219),
        ("spectral-mixup", {"bands": 31}, 21_460_975),
    ],
)
def test_parameters_are_as_published(model, values, count) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in ts.create_model(model, **values).parameters()) == count


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_nothing_beyond_the_reach_matters(scale) -> None:
    """Given the sums, a pixel depends on those within `reach`, and the declared halo is not larger than needed by much."""
    torch.manual_seed(0)
    network = ts.create_model("essaformer", bands=2, dim=8, scale=scale).eval().double()
    far = reach(scale)
    x = torch.rand(1, 2, 2 * far + 3, 3, dtype=torch.float64)
    moved = x.clone()
    moved[:, :, -1] += 1
    with torch.no_grad():
        keep, known = torch.ones(x.shape[-2:], dtype=torch.bool), []
        for _ in range(5):
            known.append(network.sums(x, known, keep, (slice(0, x.shape[2]), slice(0, 3))))
        gap = (network(x, known) - network(moved, known)).abs().amax((0, 1, 3))
    changed = int(torch.nonzero(gap > 1e-12)[0]) // scale
    assert x.shape[2] - 1 - far <= changed <= x.shape[2] - far + 2


def test_groups() -> None:
    assert starts_of(31, 8, 2) == (0, 6, 12, 18, 23)
    assert len(starts_of(128, 8, 2)) == 21 and starts_of(128, 8, 2)[-1] == 120
    assert starts_of(34, 6, 1)[-1] == 28 and starts_of(102, 8, 2)[-1] == 94
    x = torch.rand(2, 31, 3, 4)
    torch.testing.assert_close(mean_of_groups(gather_groups(x, starts_of(31, 8, 2), 8), starts_of(31, 8, 2), 31, 2), x)
    with pytest.raises(BadSettings, match="at least the 8"):
        starts_of(7, 8, 2)
    with pytest.raises(BadSettings, match="share 8"):
        starts_of(31, 8, 8)


@pytest.mark.parametrize("size", [(4, 4), (5, 9), (3, 6)])
def test_joined_tail_is_both_layers(size) -> None:
    torch.manual_seed(0)
    up, tail, x = nn.Conv2d(6, 24, 3, padding=1), nn.Conv2d(6, 3, 3, padding=1), torch.randn(2, 6, *size)
    with torch.no_grad():
        torch.testing.assert_close(joined_tail(x, up, 2, tail), tail(F.pixel_shuffle(up(x), 2)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("scale", "subs", "shared"), [(2, 4, 1), (4, 4, 2), (6, 3, 0), (8, 4, 1)])
def test_deepshare_groups_are_the_loop(scale, subs, shared) -> None:
    torch.manual_seed(0)
    network = ts.create_model("spectral-mixup", bands=11, n_subs=subs, n_ovls=shared, n_feats=16, scale=scale).eval()
    x, lms = torch.rand(2, 11, 5, 4), torch.rand(2, 11, 5 * scale, 4 * scale)
    with torch.no_grad():
        total, hits = torch.zeros_like(lms), torch.zeros(11)
        for start in network.starts:
            total[:, start : start + subs] += network.branch2(network.branch1(x[:, start : start + subs]))
            hits[start : start + subs] += 1
        wanted = network.final(network.trunk(total / hits[:, None, None]) + network.skip_conv(lms))
        torch.testing.assert_close(network(x, lms), wanted, rtol=1e-3, atol=1e-4)
        colours = network(x[:, :subs], lms[:, :subs], "rgb")
    assert colours.shape == (2, subs, 5 * scale, 4 * scale)
    torch.testing.assert_close(network(x, lms).detach(), wanted, rtol=1e-3, atol=1e-4)
    with pytest.raises(BadSettings, match="modality"):
        network(x, lms, "nir")


def test_deepshare_refuses() -> None:
    for values, message in (({"scale": 3}, "scale 3"), ({"n_feats": 8}, "n_feats"), ({"scale": 10}, "enlarges 5")):
        with pytest.raises(BadSettings, match=message):
            ts.create_model("spectral-mixup", bands=31, **values)


def test_memory_grows_with_the_pixels_not_their_square() -> None:
    attention = SpectralAttention(8)
    for count in (50, 200):
        with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
            attention(torch.rand(1, count, 8))
        largest = max(abs(e.nbytes()) for e in profile.profiler.kineto_results.events() if e.name() == "[memory]")
        assert largest <= 4 * count * 24 + 512
    assert np.isfinite(largest)
