"""HSDT: sizes, attention, bands, tiles, checkpoints."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, BadWeights, BandMismatch, MissingWeights
from torchspectral.restoration.hsdt.method import HSDT, HSDTSettings
from torchspectral.synth import mixed_scene
from torchspectral.weights import WeightsCard, save

SIZES = {
    "hsdt-s": 134_350, "hsdt-m": 521_158, "hsdt-l": 2_094_786, "hsdt-pnp": 521_350, "hsdt-ssr": 521_251,
    "hsdt-4": 35_746, "hsdt-24": 1_160_766, "hsdt-32": 2_053_174,
}  # fmt: skip


def small(bands: int = 8, **more):
    torch.manual_seed(0)
    network = ts.create_model("hsdt-s", bands=bands, channels=2, **more).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Linear):  # the first weights are next to nothing
            torch.nn.init.normal_(module.weight, std=0.4)
    return network


def scene(bands: int, rows: int = 40, cols: int = 36):
    made = mixed_scene(bands, rows, cols, snr=25, seed=1)
    return ts.make_cube(made.values, wavelength=made.wavelength, quantity="reflectance")


@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts(name):
    assert sum(p.numel() for p in ts.create_model(name).parameters()) == SIZES[name]


def test_keys_are_those_of_the_case(parity_dir):
    listed = json.loads((parity_dir / "hsdt" / "hsdt_m.json").read_text())["state"]
    assert list(ts.create_model("hsdt-m").state_dict()) == list(listed)


def test_ablations_do_not_leak_into_other_models():
    before = ts.create_model("hsdt-m")
    for change in (
        {"convolution": "sequential"}, {"convolution": "single"}, {"convolution": "full"}, {"feed_forward": "ffn"},
        {"feed_forward": "gate"}, {"guided": False}, {"blocks": False},
    ):  # fmt: skip
        other = small(**change)
        with torch.no_grad():
            assert other(torch.rand(1, 1, 8, 8, 8)).shape == (1, 1, 8, 8, 8)
        assert (
            set(other.state_dict()) != set(small().state_dict())
            or change == {"convolution": "sequential"}
            or (
                {k: v.shape for k, v in other.state_dict().items()}
                != {k: v.shape for k, v in small().state_dict().items()}
            )
        )
    after = ts.create_model("hsdt-m")
    assert list(before.state_dict()) == list(after.state_dict())


def test_training_arithmetic_is_that_of_evaluation():
    network, x = small(), torch.rand(2, 1, 8, 8, 12)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        quick = network(x)
    torch.testing.assert_close(network(x), quick)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eval()
    similar = network(x, attention="similarity")
    assert not torch.allclose(similar, quick)


def test_both_attentions_are_drawn_in_training_and_follow_the_seed():
    network, x = small().train(), torch.rand(1, 1, 8, 8, 8)
    found = []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        found.append(network(x).detach())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert any(not torch.equal(found[0], other) for other in found[2:])
    network(x).mean().backward()
    assert all(p.grad is not None for n, p in network.named_parameters() if "attn_proj" not in n)


def test_reconstruction_pads_as_published():
    network = ts.create_model("hsdt-ssr", channels=2).eval()
    seen = []
    network.head.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    with torch.no_grad():
        assert network(torch.rand(1, 3, 16, 16)).shape == (1, 31, 16, 16)
        assert network(torch.rand(1, 3, 9, 15)).shape == (1, 31, 9, 15)
    assert seen == [(1, 1, 31, 24, 24), (1, 1, 31, 16, 16)]


def test_other_numbers_of_bands_and_odd_sides():
    state = dict(small().state_dict())
    for bands, how in ((8, "guided"), (11, "windows"), (30, "windows"), (5, "similarity")):
        cube = scene(bands, 37, 41)
        method = HSDT()
        assert method.how(bands, method.arguments(state)) == how
        result = ts.run(method, {"cube": cube}, state=state)
        assert result["cube"].shape == cube.shape and np.isfinite(result["cube"].values).all()
    resampled = ts.run(HSDT(HSDTSettings.make(other_bands="resample")), {"cube": scene(11)}, state=state)
    assert resampled["cube"].shape == (11, 40, 36)
    with pytest.raises(BadSettings, match="fewer than the 8"):
        ts.run(HSDT(HSDTSettings.make(other_bands="windows")), {"cube": scene(5)}, state=state)


@pytest.mark.parametrize("bands", [9, 15, 16, 40])
def test_windows_cover_every_band_once(bands):
    method = HSDT(HSDTSettings.make(band_overlap=3))
    plan = method.plan_bands(bands, small(), {"bands": 8, "guided": True})
    np.testing.assert_allclose(plan.weights.sum(0).numpy(), 1, rtol=1e-6)
    assert plan.windows[0].start == 0 and plan.windows[-1].stop == bands
    assert all(b.start - a.start <= 5 for a, b in zip(plan.windows, plan.windows[1:], strict=False))


def test_means_of_the_scene_make_tiles_exact():
    state, cube = dict(small().state_dict()), scene(8, 60, 56)
    method = HSDT(HSDTSettings.make(pooling="scene", size="auto"))
    whole = ts.run(method, {"cube": cube}, state=state, options=ts.RunOptions(tile=(64, 64)))
    tiled = ts.run(method, {"cube": cube}, state=state, options=ts.RunOptions(tile=(32, 32)))
    np.testing.assert_allclose(whole["cube"], tiled["cube"], rtol=1e-4, atol=2e-5)
    own = ts.run(HSDT(HSDTSettings.make(tile=64)), {"cube": cube}, state=state)
    np.testing.assert_allclose(own["cube"], whole["cube"], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("wrap", ["plain", "net", "state_dict", "module.", "net."])
def test_checkpoints_of_the_authors_layout(tmp_path, wrap):
    state, cube = dict(small().state_dict()), scene(8)
    if wrap.endswith("."):
        content = {wrap + key: value for key, value in state.items()}
    else:
        content = state if wrap == "plain" else {wrap: state, "optimizer": {"lr": 1e-3}, "epoch": 80, "iteration": 1}
    torch.save(content, tmp_path / "model_best.pth")
    got = ts.restore(cube, method="hsdt", weights=tmp_path / "model_best.pth")["cube"]
    np.testing.assert_array_equal(got, ts.run(HSDT(), {"cube": cube}, state=state)["cube"])


def test_wrong_weights_and_scenes_are_refused(tmp_path):
    cube = scene(8)
    with pytest.raises(MissingWeights, match="needs trained weights"):
        ts.run(HSDT(), {"cube": cube}, state={})
    with pytest.raises(BadWeights, match="no weights of hsdt"):
        ts.run(HSDT(), {"cube": cube}, state=dict(ts.create_model("man-s", channels=2).state_dict()))
    with pytest.raises(BadWeights, match="2 channels and 5 layers"):
        ts.run(HSDT(HSDTSettings.make(size="m")), {"cube": cube}, state=dict(small().state_dict()))
    with pytest.raises(BadWeights, match="RGB"):
        ts.run(HSDT(), {"cube": cube}, state=dict(ts.create_model("hsdt-ssr", channels=2).state_dict()))
    with pytest.raises(BandMismatch, match="built for 8 bands"):
        small()(torch.rand(1, 1, 9, 8, 8))
    with pytest.raises(BandMismatch, match="multiples of 4"):
        small()(torch.rand(1, 1, 8, 8, 6))
    card = WeightsCard(name="hsdt-s.calm", model="hsdt-s", constructor={"bands": 8}, noise=(0.0, 1e-3))
    path = save(tmp_path / "calm", dict(small().state_dict()), card)
    with pytest.raises(BadInput, match="noise is about"):
        ts.restore(cube, method="hsdt", weights=path)
    ts.restore(cube, method="hsdt", weights=path, settings={"any_noise": True})


def test_plug_and_play_weights_get_the_noise_level():
    state, cube = dict(small(in_channels=2).state_dict()), scene(8)
    one, two = (
        ts.run(HSDT(HSDTSettings.make(sigma=sigma)), {"cube": cube}, state=state)["cube"].values for sigma in (5, 50)
    )
    assert np.isfinite(one).all() and not np.allclose(one, two)


def test_shipped_weights_beat_five_components_on_a_generated_cube():
    clean = mixed_scene(31, 64, 64, snr=None, seed=77).values
    clean = (clean - clean.min()) / np.ptp(clean)
    noisy = clean + np.float32(50 / 255) * np.random.default_rng(5).standard_normal(clean.shape, dtype=np.float32)
    cube = ts.make_cube(noisy, wavelength=np.linspace(400, 1000, 31), quantity="reflectance")
    result = ts.restore(cube, method="hsdt")
    assert result.report.weights == "hsdt-s.generated"

    def psnr(image: np.ndarray) -> float:
        return float(-10 * np.log10(np.mean((image - clean) ** 2)))

    flat = noisy.reshape(31, -1)
    mean = flat.mean(1, keepdims=True)
    vectors = np.linalg.svd(flat - mean, full_matrices=False)[0][:, :5]
    pca = (vectors @ (vectors.T @ (flat - mean)) + mean).reshape(clean.shape)
    out = psnr(result["cube"].values)
    assert out > psnr(noisy) + 10 and out > psnr(pca), (psnr(noisy), psnr(pca), out)


def test_shipped_weights_take_any_number_of_bands():
    for bands in (12, 60):
        assert ts.restore(scene(bands), method="hsdt")["cube"].shape == (bands, 40, 36)


@pytest.mark.parametrize(("rule", "kind"), [("max", "max"), ("range", "scene"), ("physical", "scene")])
def test_weights_say_what_becomes_one(tmp_path, rule, kind) -> None:
    own = {"bands": 6, "channels": 2}
    card = WeightsCard(name="hsdt-s.test", model="hsdt-s", constructor=own, scale={"rule": rule})
    path = tmp_path / "hsdt-s.test.safetensors"
    save(path, small(6).state_dict(), card)
    noisy, settings = scene(6), {"any_noise": True}
    assert ts.restore(noisy, method="hsdt", weights=path, settings=settings).report.settings["range"] == kind
    given = ts.restore(noisy, method="hsdt", weights=path, settings=settings | {"range": "fixed"})
    assert given.report.settings["range"] == "fixed"
