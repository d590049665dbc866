"""Hyper-MAE's recipes: two sensors in one run, radar, masks from the sample, the export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from affine import Affine
from recipe_steps import batch_of, exported, opened, scene, train_steps

import torchspectral as ts
from torchspectral.backbones.less_vit.statistics import sensor_statistics
from torchspectral.embedding.encoders import find_encoder
from torchspectral.embedding.fitting import statistics
from torchspectral.embedding.method import EmbeddingSettings
from torchspectral.errors import BadCube, BadInput, BadSettings, BandMismatch
from torchspectral.geo.grids import place
from torchspectral.learn.train import find_recipe
from torchspectral.pretraining.hyper_mae.sensors import side_of_pixel, sort_by_sensor
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.files import save

TINY = {
    "network": {"embed_dim": 32, "depth": 1, "num_heads": 2, "patch_size": 4}, "view": 8, "learning_rate": 3e-3,
    "decoder": {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 2}, "drop": 0.0, "attn_drop": 0.0,
    "drop_path": 0.0,
}  # fmt: skip


def test_two_sensors_learn_side_by_side(tmp_path: Path) -> None:
    data = [scene(12), scene(9, 1, 450.0, 1650.0)]
    recipe, store = opened("hyper-mae", data, tmp_path, **TINY, steps=20, channel_least=0.2, channel_most=0.4)
    assert [len(s.index) for s in recipe.sensors] == [12, 9] and recipe.channels == 12
    network, losses = train_steps(recipe, store, 20)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])
    batch = batch_of(recipe, store, 1)
    which = batch["sensor"].flatten()
    assert set(which.tolist()) == {0.0, 1.0} and not batch["image"][which == 1, 9:].any()
    network.eval()
    # The backbone looks at places near each other, so that one mask of places is the whole batch's.
    batch["place_noise"] = batch["place_noise"][:1].expand_as(batch["place_noise"])
    with torch.no_grad():
        whole = recipe.loss(network, batch)
        parts = [recipe.loss(network, {k: v[which == n] for k, v in batch.items()}) for n in (0, 1)]
        share = float((which == 0).float().mean())
        torch.testing.assert_close(whole, share * parts[0] + (1 - share) * parts[1])
        assert recipe.embed(network, batch).shape == (8, 32)
    encoder, card = exported(recipe, network), recipe.card()
    assert (
        encoder.bands.needs_wavelengths
        and card["wavelengths"] == "any"
        and "9 bands of 450-1650 nm" in card["preprocessing"]
    )
    state = recipe.exported(network).state_dict()
    for number, sensor in enumerate(recipe.sensors):
        mean, std, metres = sensor_statistics(state, sensor.wavelength)
        assert mean == recipe.statistics[number][0].tolist() and std == recipe.statistics[number][1].tolist()
        assert metres == sensor.resolution
    assert sensor_statistics(state, [500.0, 600.0]) is None


def test_a_scene_is_embedded_by_the_statistics_of_its_sensor(tmp_path: Path) -> None:
    data = [scene(12), scene(9, 1, 450.0, 1650.0)]
    recipe, _ = opened("hyper-mae", data, tmp_path, **TINY, steps=1, resolution=10.0)
    network = recipe.build()
    name, arguments = recipe.exported_as()
    card = WeightsCard(name="two", model=name, constructor=arguments, licence="ours", **recipe.card())
    path = save(tmp_path / "two.safetensors", recipe.exported(network).state_dict(), card)
    found = ts.embed(data[1].isel(x=slice(0, 8), y=slice(0, 8)), weights=path, settings={"window": 8})
    encoder, (mean, std) = exported(recipe, network), recipe.statistics[1]
    image = torch.from_numpy(data[1].values[None, :, :8, :8])
    with torch.no_grad():
        x, other = (encoder.as_input(image, (mean + more).tolist(), std.tolist()) for more in (0, 0.05))
        waves = torch.tensor(recipe.sensors[1].wavelength)
        plain, off = (encoder.feature_maps(one, waves, resolution=10.0)[-1][0] for one in (x, other))
    np.testing.assert_allclose(found["embedding"].values, plain.numpy(), atol=1e-5)
    assert not torch.allclose(plain, off, atol=1e-3)
    known = find_encoder(None, path)
    statistics(known, EmbeddingSettings(), np.array(recipe.sensors[1].wavelength))
    assert known.arguments["resolution"] == 10.0 != encoder.resolution
    assert any("the sensor of 9 bands" in note for note in found.report.notes)
    few = data[0].isel(band=slice(0, 5))
    with pytest.raises(
        BandMismatch, match=r"got 5 bands of 420-1140 nm, expected 12 bands of .* or 9 bands of 450-1650 nm"
    ):
        ts.embed(few, weights=path)
    assert np.isfinite(
        ts.embed(few, weights=path, settings={"statistics": "scene", "window": 8})["embedding"].values
    ).all()


def test_one_sensor_writes_its_statistics_and_sees_what_the_encoder_will(tmp_path: Path) -> None:
    recipe, store = opened("hyper-mae", [scene(6)], tmp_path, **TINY, steps=2, resolution=10.0)
    network, batch = recipe.build().eval(), batch_of(recipe, store, 0)
    assert "sensor" not in batch and len(recipe.card()["mean"]) == 6
    name, arguments = recipe.exported_as()
    encoder: Any = ts.create_model(name, **arguments).eval()
    encoder.load_state_dict(recipe.exported(network).state_dict())
    middle = batch["image"][..., 4:12, 4:12]
    x = encoder.as_input(middle, recipe.card()["mean"], recipe.card()["std"])
    with torch.no_grad():
        got = encoder.forward_features(x, torch.tensor(recipe.card()["wavelengths"]))
        torch.testing.assert_close(got, recipe.embed(network, batch))
        assert torch.equal(recipe.loss(network, batch), recipe.loss(network, batch))


def test_radar_adds_two_losses(tmp_path: Path) -> None:
    radar = np.random.default_rng(0).normal(-12, 3, (2, 64, 64)).astype(np.float32)
    both = xr.Dataset({"cube": scene(6), "radar": xr.DataArray(radar, dims=("layer", "y", "x"))})
    recipe, store = opened("hyper-mae-v1", [both], tmp_path, **TINY, steps=2, radar=True)
    assert recipe.radar_statistics[0] == pytest.approx([-12, -12], abs=0.2)
    network, losses = train_steps(recipe, store, 2)
    assert np.isfinite(losses).all() and network.decoder.decoder_radar_pred.weight.grad is not None
    plain = find_recipe("pretraining", "hyper-mae-v1", TINY)
    assert plain.layers == () and not any(
        p.requires_grad for p in plain.network(plain.backbone()).encoder.radar_patch_embed.parameters()
    )
    with pytest.raises(BadInput, match="radar"):
        opened("hyper-mae-v1", [scene(6)], tmp_path / "none", **TINY, radar=True)
    recipe.prepare([both])
    with pytest.raises(BadCube, match="VV and VH"):
        recipe.pairs(xr.Dataset({"cube": scene(6), "radar": both["radar"].isel(layer=[0])}))


def test_sensors_and_settings() -> None:
    one = place(scene(5), Affine(30, 0, 5e5, 0, -30, 5e6), 32632)
    degrees = place(scene(5), Affine(1e-4, 0, 10, 0, -1e-4, 50), 4326)
    assert side_of_pixel(one, 10.0) == 30 and side_of_pixel(scene(5), 10.0) == 10
    assert side_of_pixel(degrees, 10.0) == pytest.approx(11.1, abs=0.1)
    assert len(sort_by_sensor([one, scene(5, 0, 421.0, 2400.5), scene(6)], 30.0)) == 2
    with pytest.raises(BandMismatch, match="10 to 30 m"):
        sort_by_sensor([one, scene(5)], 10.0)
    for settings in ({"channel_least": 0.9}, {"view": 64, "patch": 32}):
        with pytest.raises(BadSettings):
            find_recipe("pretraining", "hyper-mae", settings)
    published = find_recipe("pretraining", "hyper-mae").arguments()
    assert (
        published["embed_dim"] == 768 and published["embedding"] == "rope" and published["channel_mask_ratio"] == 0.75
    )
