"""MAN: both versions, the recurrence, bands, tiles, checkpoints."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torchspectral as ts
from torchspectral.errors import BadSettings, BadWeights
from torchspectral.restoration.man.layers import recur
from torchspectral.restoration.man.method import MAN, MANSettings
from torchspectral.synth import mixed_scene

SIZES = {
    "man-s": 502_513, "man-m": 892_417, "man-l": 1_393_521, "man-v1-s": 206_751, "man-v1-m": 463_959,
    "man-v1": 823_727, "man-v1-b": 1_850_943, "man-v1-deep": 3_370_095,
}  # fmt: skip


def small(name: str = "man-s", **more):
    torch.manual_seed(0)
    return ts.create_model(name, channels=2, **more).eval()


def scene(bands: int, rows: int = 40, cols: int = 36):
    made = mixed_scene(bands, rows, cols, snr=25, seed=1)
    return ts.make_cube(made.values, wavelength=made.wavelength, quantity="reflectance")


@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts(name):
    assert sum(p.numel() for p in ts.create_model(name).parameters()) == SIZES[name]


@pytest.mark.parametrize(("case", "name"), [("man_v2_m", "man-m"), ("man_v1_man", "man-v1")])
def test_keys_are_those_of_the_case(parity_dir, case, name):
    listed = json.loads((parity_dir / "man" / f"{case}.json").read_text())["state"]
    assert set(ts.create_model(name).state_dict()) == set(listed)


@given(st.integers(1, 9), st.booleans(), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_recurrence_is_the_loop(bands, backward, seed):
    generator = torch.Generator().manual_seed(seed)
    z, f = torch.rand(2, 2, bands, 3, generator=generator)
    expected, h = torch.zeros_like(z), torch.zeros(2, 3)
    for t in reversed(range(bands)) if backward else range(bands):
        h = f[:, t] * h + (1 - f[:, t]) * z[:, t]
        expected[:, t] = h
    torch.testing.assert_close(recur(z.clone().requires_grad_(), f, backward).detach(), expected)
    with torch.no_grad():
        torch.testing.assert_close(recur(z, f, backward), expected)


@pytest.mark.parametrize("name", ["man-s", "man-v1-s"])
@pytest.mark.parametrize("bands", [1, 7, 45, 200])
def test_any_number_of_bands_and_gradients_agree(name, bands):
    network = small(name)
    for module in network.modules():
        if hasattr(module, "w_3"):
            torch.nn.init.normal_(module.w_3.weight, std=0.3)
    x = torch.rand(1, 1, bands, 8, 8)
    with torch.no_grad():
        quick = network(x)
    slow = network(x)
    torch.testing.assert_close(slow, quick, rtol=1e-4, atol=1e-5)
    slow.mean().backward()
    if bands > 1:
        assert not torch.allclose(network(x.flip(2)).flip(2), slow, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "values", "size"),
    [("man-s", {}, (104, 96)), ("man-v1-s", {"version": "v1", "pooling": "scene"}, (128, 21))],
)
def test_tiles_give_what_the_scene_gives(name, values, size):
    state, cube = dict(small(name).state_dict()), scene(3, *size)
    method = MAN(MANSettings.make(values))
    whole = ts.run(method, {"cube": cube}, state=state, options=ts.RunOptions(tile=(128, 128)))["cube"].values
    tiled = ts.run(method, {"cube": cube}, state=state, options=ts.RunOptions(tile=(24, 32)))["cube"].values
    body = float((whole - cube.values).std())
    assert np.abs(whole - tiled).max() < 1e-4 * body + 1e-6


def test_a_small_budget_changes_nothing():
    network = ts.create_model("man-s", channels=2).eval()
    state, cube = dict(network.state_dict()), scene(60, 40, 41)
    found = [
        ts.run(MAN(MANSettings.make(budget=budget)), {"cube": cube}, state=state)["cube"].values
        for budget in (50, 4000)
    ]
    np.testing.assert_allclose(*found, rtol=0, atol=2e-5)


def test_first_version_in_tiles_says_so():
    state, cube = dict(small("man-v1-s").state_dict()), scene(5, 80, 72)
    result = ts.run(MAN(MANSettings.make(version="v1", tile=48, overlap=16)), {"cube": cube}, state=state)
    assert any("the result depends on them" in note for note in result.report.notes)
    assert result.report.figures["means_over"] == "tile"


def test_versions_and_sizes_are_told_apart(tmp_path):
    torch.save({"net": ts.create_model("man-v1-deep").state_dict(), "epoch": 80}, tmp_path / "man_b_gaussian.pth")
    loaded = ts.weights.load(tmp_path / "man_b_gaussian.pth")
    assert MAN.settings_of(loaded.state) == {"version": "v1", "size": "deep"}
    assert MAN.settings_of(dict(ts.create_model("man-l").state_dict())) == {"version": "v2", "size": "l"}
    torch.save({"net": small("man-v1-s").state_dict(), "epoch": 80}, tmp_path / "v1.pth")
    result = ts.restore(scene(5), method="man", weights=tmp_path / "v1.pth")
    assert result.report.figures["version"] == "v1"
    with pytest.raises(BadWeights, match="set version=v1"):
        ts.restore(scene(5), method="man", weights=tmp_path / "v1.pth", settings={"version": "v2"})
    with pytest.raises(BadWeights, match="size=m"):
        ts.restore(scene(5), method="man", weights=tmp_path / "v1.pth", settings={"size": "m"})
    with pytest.raises(BadWeights, match="no weights of man"):
        ts.run(MAN(), {"cube": scene(5)}, state=dict(ts.create_model("hsdt-4").state_dict()))
    with pytest.raises(BadSettings, match="even number"):
        ts.create_model("man-s", channels=3)


def test_shipped_weights_clear_a_generated_cube_of_any_number_of_bands():
    """Noise of 50 of 255 goes down by 8 dB, and further than with five principal components; 31 bands and 24."""
    for bands, seed in ((31, 77), (24, 78)):
        clean = mixed_scene(bands, 48, 48, snr=None, seed=seed).values
        clean = (clean - clean.min()) / np.ptp(clean)
        noisy = clean + np.float32(50 / 255) * np.random.default_rng(5).standard_normal(clean.shape, dtype=np.float32)
        cube = ts.make_cube(noisy, wavelength=np.linspace(400, 1000, bands), quantity="reflectance")
        result = ts.restore(cube, method="man", account=False)
        assert result.report.weights == "man-s.generated"
        five = ts.restore(cube, method="pca", settings={"components": 5}, account=False)
        before, after, pca = (
            float(-10 * np.log10(np.mean((image - clean) ** 2)))
            for image in (noisy, result["cube"].values, five["cube"].values)
        )
        assert after > before + 8 and after > pca, (before, pca, after)
