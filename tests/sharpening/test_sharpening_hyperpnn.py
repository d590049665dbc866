from __future__ import annotations

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.errors import BadSettings, BandMismatch, MissingWeights, UnknownName
from torchspectral.sharpening import fuse
from torchspectral.sharpening.deep.hyperpnn import HyperPNNNetwork
from torchspectral.sharpening.training import recipe


def _pair(bands: int = 7, rows: int = 14, cols: int = 11, ratio: int = 3):
    rng = np.random.default_rng(0)
    hs = ts.make_cube(rng.uniform(0.1, 0.5, (bands, rows, cols)).astype(np.float32), quantity="reflectance")
    pan = ts.make_cube(rng.uniform(0.1, 0.5, (1, rows * ratio, cols * ratio)).astype(np.float32))
    return hs, pan


def _state(bands: int = 7, features: int = 12) -> dict:
    torch.manual_seed(0)
    return HyperPNNNetwork(bands, features).state_dict()


def test_parameters_are_as_published() -> None:
    assert sum(p.numel() for p in HyperPNNNetwork(159).parameters()) == 140_255
    assert ts.create_model("hyperpnn", bands=200).bands == 200
    with pytest.raises(BadSettings):
        ts.create_model("hyperpnn", bands="many")


@pytest.mark.parametrize("ratio", [2, 3])
def test_tiles_agree_with_the_whole(ratio: int) -> None:
    hs, pan = _pair(ratio=ratio)
    whole = ts.sharpen(hs, pan, method="hyperpnn", state=_state(), settings={"gain": 1.0})["cube"]
    tiled = ts.sharpen(hs, pan, method="hyperpnn", state=_state(), settings={"gain": 1.0}, tile=5)["cube"]
    assert whole.shape == (7, 14 * ratio, 11 * ratio) and np.abs(whole - tiled).max() < 1e-5


def test_it_is_the_network_on_the_interpolated_image() -> None:
    from torchspectral.ops.interpolate import ideal_interp

    hs, pan = _pair()
    low, fine = torch.from_numpy(hs.values), torch.from_numpy(pan.values)
    network = HyperPNNNetwork(7, 12).eval()
    network.load_state_dict(_state())
    with torch.no_grad():
        expected = network(fine[None], ideal_interp(low, 3)[None])[0]
    assert torch.allclose(fuse(low, fine, "hyperpnn", state=_state()), expected, atol=1e-6)
    scaled = ts.sharpen(hs, pan, method="hyperpnn", state=_state(), settings={"gain": 0.5})["cube"].values
    with torch.no_grad():
        other = 0.5 * network(fine[None] / 0.5, ideal_interp(low, 3)[None] / 0.5)[0]
    assert np.allclose(scaled, other.numpy(), atol=1e-5)


def test_weights_are_needed_and_must_fit(tmp_path) -> None:
    hs, pan = _pair()
    with pytest.raises(MissingWeights):
        ts.sharpen(hs, pan, method="hyperpnn", weights="hyperpnn.prisma")
    with pytest.raises(BandMismatch):
        ts.sharpen(hs, pan, method="hyperpnn", state=_state(5))
    from torchspectral.weights import WeightsCard, save

    card = WeightsCard(
        name="hyperpnn.test", model="hyperpnn", constructor={"bands": 7, "features": 12}, quantity="reflectance",
        scale={"rule": "fixed", "gain": 2.0}, licence="CC0-1.0",
    )  # fmt: skip
    path = save(tmp_path / "w.safetensors", _state(), card)
    result = ts.sharpen(hs, pan, method="hyperpnn", weights=path)
    direct = ts.sharpen(hs, pan, method="hyperpnn", state=_state(), settings={"gain": 2.0})
    assert np.array_equal(result["cube"].values, direct["cube"].values)
    assert result.report.weights == "hyperpnn.test" and result.report.licence == "CC0-1.0"


def test_published_weights_sharpen(samples) -> None:
    file = samples / "weights/pansharpening-toolbox/HyperPNN_PRISMA.tar"
    rng = np.random.default_rng(0)
    hs = ts.make_cube(rng.uniform(500, 4000, (159, 6, 6)).astype(np.float32))
    pan = ts.make_cube(rng.uniform(500, 4000, (1, 36, 36)).astype(np.float32))
    out = ts.sharpen(hs, pan, method="hyperpnn", weights=file)["cube"]
    assert out.shape == (159, 36, 36) and np.isfinite(out.values).all()


def test_a_few_steps_of_training_lower_the_loss() -> None:
    rng = np.random.default_rng(0)
    smooth = rng.standard_normal((2, 48, 48)).cumsum(1).cumsum(2) / 100
    cube = ts.make_cube(
        (0.3 + 0.1 * np.tensordot(rng.uniform(0, 1, (5, 2)), smooth, 1)).astype(np.float32),
        wavelength=np.linspace(450, 900, 5), quantity="reflectance",
    )  # fmt: skip
    made = recipe("hyperpnn", {"ratio": 2, "features": 16, "learning_rate": 1e-3})
    made.prepare([cube])
    arrays = made.pairs(cube)
    assert {n: a.shape for n, a in arrays.items()} == {
        "target": (5, 48, 48),
        "upsampled": (5, 48, 48),
        "pan": (1, 48, 48),
    }
    torch.manual_seed(0)
    network = made.build()
    batch = {n: torch.from_numpy(a)[None] for n, a in arrays.items()}
    optimiser = made.optimiser(network.parameters())
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = made.loss(network, batch)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert set(made.evaluate(network, cube)) == {"loss", "ergas", "ergas_exp", "sam"}
    card = made.card()
    assert card["ratio"] == 2 and card["scale"]["gain"] == 1.0 and len(card["wavelengths"]) == 5
    with pytest.raises(UnknownName):
        recipe("gsa")
    with pytest.raises(BandMismatch):
        made.prepare([cube, ts.make_cube(cube.values, wavelength=cube["wavelength"].values, quantity="dn")])
