"""Networks by name, and whether a scene fits weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral import weights
from torchspectral.errors import BadInput, BadSettings, BandMismatch, MissingMetadata, UnknownName
from torchspectral.weights import networks

WAVE = np.linspace(450.0, 2400.0, 60)


class Toy(torch.nn.Module):
    """One 1x1 layer."""

    def __init__(self, bands: int, width: int = 4, act: str = "relu") -> None:
        super().__init__()
        if width > 64:
            raise ValueError("too wide")
        self.layer = torch.nn.Conv2d(bands, width, 1)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cards = {
        "toy-s": weights.ModelCard(name="toy-s", target=f"{__name__}:Toy"),
        "toy-m": weights.ModelCard(name="toy-m", target=f"{__name__}:Toy", defaults={"width": 8}),
    }
    monkeypatch.setattr(networks, "models", lambda: cards)
    monkeypatch.setattr(networks, "load_target", lambda target: Toy)
    monkeypatch.setenv("TORCHSPECTRAL_STORE", str(tmp_path / "store"))


def test_sizes_and_overrides() -> None:
    assert weights.create_model("toy-m", bands=5).layer.weight.shape == (8, 5, 1, 1)
    assert weights.create_model("toy-m", bands=5, width=2).layer.weight.shape == (2, 5, 1, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("toy-x", {"bands": 3}, UnknownName, "toy-[sm]"),
        ("toy-s", {}, BadSettings, "needs bands"),
        ("toy-s", {"bands": 3, "widht": 2}, BadSettings, "no argument 'widht': did you mean width"),
        ("toy-s", {"bands": "three"}, BadSettings, "argument bands='three'"),
        ("toy-s", {"bands": 3, "width": 65}, BadSettings, "cannot be built.*too wide"),
    ],
)
def test_bad_arguments(name: str, arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        weights.create_model(name, **arguments)


def test_tagged_name_builds_and_loads(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = Toy(3)
    card = weights.WeightsCard(name="toy-s.a", model="toy-s", constructor={"bands": 3})
    path = weights.save(tmp_path / "w.safetensors", network.state_dict(), card)
    weights.add("toy-s.a", path)
    again = weights.create_model("toy-s.a")
    assert torch.equal(again.layer.weight, network.layer.weight) and not again.training
    with pytest.raises(BadSettings, match="trained with bands=3"):
        weights.create_model("toy-s.a", bands=4)


def scene(wave: np.ndarray | None = WAVE, quantity: str = "reflectance", gain: float = 1.0):
    data = np.random.default_rng(0).uniform(0.1, 0.5, (60 if wave is None else wave.size, 40, 36)) * gain
    return ts.make_cube(data.astype(np.float32), wavelength=wave, quantity=quantity)


CARD = weights.WeightsCard(
    name="toy-s.fit", wavelengths=WAVE.tolist(), quantity="reflectance", scale={"rule": "fixed"}, values=(0.0, 0.6)
)


def test_fitting_scene_comes_back_as_it_is() -> None:
    cube = scene(WAVE + 3.0)
    same, notes = weights.check_fit(CARD, cube)
    assert same.identical(cube) and notes == []


@pytest.mark.parametrize(
    ("cube", "error", "message"),
    [
        (lambda: scene(WAVE[:50]), BandMismatch, r"50 bands.*expect 60.*resample.*train"),
        (lambda: scene(WAVE + 40.0), BandMismatch, "lies at"),
        (lambda: scene(None), MissingMetadata, "no wavelengths"),
        (lambda: scene(quantity="dn"), BadInput, "scene is dn and.*expect reflectance"),
        (lambda: scene(gain=10_000.0), BadInput, "another scale"),
    ],
)
def test_refused_before_the_forward_pass(cube, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        weights.check_fit(CARD, cube())


def test_resampled_on_request_with_coverage() -> None:
    dense = np.linspace(400.0, 2500.0, 300)
    cube = scene(dense)
    out, notes = weights.check_fit(CARD, cube, resample=True)
    np.testing.assert_allclose(out["wavelength"], WAVE)
    assert "300 bands" in notes[0] and "coverage" in notes[0]
    with pytest.raises(BandMismatch, match="uncovered"):
        weights.check_fit(CARD, scene(np.linspace(400.0, 1000.0, 90)), resample=True)


def test_any_wavelengths_still_hold_the_count() -> None:
    card = weights.WeightsCard(name="toy-s.any", constructor={"bands": 60})
    weights.check_fit(card, scene(None))
    with pytest.raises(BandMismatch, match="59 bands"):
        weights.check_fit(card, scene(WAVE[:59]), resample=True)
