"""Embedding of scenes: equal to the encoder, georeferenced, tiled truthfully, nodata kept; weights and bands held against the scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from affine import Affine

import torchspectral as ts
from torchspectral.backbones.recognise import recognise
from torchspectral.geo import grid_of, place
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.files import save

BANDS = 80
SMALL = {"dim": 16, "depth": 1, "heads": 2, "image_size": 16}
WAVES = np.linspace(420, 2400, BANDS)
MEAN, STD = np.linspace(0.2, 0.4, BANDS), np.linspace(0.05, 0.1, BANDS)


def scene(rows: int = 22, cols: int = 27, bands: int = BANDS, *, hole: bool = False) -> xr.DataArray:
    rng = np.random.default_rng(0)
    values = rng.random((bands, rows, cols)).astype(np.float32) * 0.5
    if hole:
        values[:, :8, :12] = np.nan
        values[:, 8, 12] = np.nan
    cube = ts.make_cube(
        values, wavelength=np.linspace(420, 2400, bands), fwhm=np.full(bands, 30.0), quantity="reflectance"
    )
    return place(cube, Affine(30, 0, 600000, 0, -30, 5000000), "EPSG:32633")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    card = WeightsCard(
        name="spec-vit-t.test",
        model="spec-vit-t",
        constructor=SMALL,
        wavelengths=WAVES.tolist(),
        fwhm=[30.0] * BANDS,
        quantity="reflectance",
        mean=MEAN.tolist(),
        std=STD.tolist(),
        licence="ours",
    )
    folder = tmp_path_factory.mktemp("weights")
    return save(folder / "vit.safetensors", ts.create_model("spec-vit-t", **SMALL).state_dict(), card)


def test_cells_are_the_encoders_tokens_on_a_coarser_grid(weights: Path, tmp_path: Path) -> None:
    cube = scene(hole=True)
    found = ts.embed(cube, weights=weights, settings={"stride": 16}, out=f"{tmp_path}/out/")
    grid, coarse = grid_of(cube), grid_of(found["embedding"])
    assert found["embedding"].shape == (16, 6, 7) and coarse.crs == grid.crs
    assert coarse.transform.almost_equals(Affine(120, 0, 600000, 0, -120, 5000000))
    network = ts.create_model("spec-vit-t", **SMALL).eval()
    network.load_state_dict(_tensors(weights))
    image = torch.from_numpy(cube.values[:, :16, :16])[None]
    with torch.no_grad():
        expected = network.feature_maps(network.as_input(image, MEAN.tolist(), STD.tolist()))[-1][0].numpy()
    values = found["embedding"].values
    np.testing.assert_allclose(values[:, :4, :4][:, ~_empty()], expected[:, ~_empty()], atol=1e-5)
    assert np.isnan(values[:, :2, :3]).all() and np.isfinite(values).all(0).sum() == 6 * 7 - 6
    assert found.report.weights == "spec-vit-t.test" and found.report.licence == "ours"
    assert any("reflection" in note for note in found.report.notes)
    opened = ts.open(tmp_path / "out" / "embedding.tif")
    assert opened.dims == ("layer", "y", "x") and (tmp_path / "out" / "preview.png").is_file()
    assert found["components"]["together"].iloc[-1] == pytest.approx(1, abs=0.2)
    assert ts.diagnose(tmp_path / "out" / "embedding.tif")["numbers"]["dimensions"] == 16


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from torchspectral.weights.files import read_state

    return {k: v for k, v in read_state(path).items() if isinstance(v, torch.Tensor)}


def _empty() -> np.ndarray:
    mask = np.zeros((4, 4), dtype=bool)
    mask[:2, :3] = True
    return mask


def test_pixels_and_pooled_windows(weights: Path) -> None:
    cube = scene(hole=True)
    fine = ts.embed(cube, weights=weights, settings={"grid": "pixels"})["embedding"]
    assert fine.shape[1:] == cube.shape[1:] and grid_of(fine) == grid_of(cube)
    assert np.array_equal(np.isnan(fine.values).all(0), np.isnan(cube.values).all(0))
    pooled = {"what": "pooled", "stride": 8}
    whole, cut = (
        ts.embed(cube, weights=weights, settings=pooled, tile=tile)["embedding"].values for tile in (None, (8, 16))
    )
    assert whole.shape == (16, 3, 4) and np.isnan(whole[:, 0, 0]).all() and np.isfinite(whole[:, 2]).all()
    np.testing.assert_allclose(cut, whole, atol=1e-6)
    network = ts.create_model("spec-vit-t", **SMALL).eval()
    network.load_state_dict(_tensors(weights))
    image = torch.from_numpy(cube.values[:, 4:20, 12:28])[None]
    image = torch.cat([image, image[..., -2:-1]], -1)
    with torch.no_grad():
        expected = network.forward_features(network.as_input(image, MEAN.tolist(), STD.tolist()))
    np.testing.assert_allclose(whole[:, 1, 2], expected[0].numpy(), atol=1e-5)


def test_convolutions_know_no_tiles() -> None:
    cube = scene(96, 352, 4)
    settings = {"initial": "random", "statistics": "scene"}
    whole, cut = (
        ts.embed(cube, backbone="intl-resnet18", settings=settings, tile=tile)["embedding"].values
        for tile in ((96, 352), (96, 64))
    )
    assert whole.shape == (512, 3, 11)
    np.testing.assert_allclose(cut, whole, atol=1e-4)


def test_other_bands_are_resampled_on_request_or_enter_by_the_adapter(weights: Path) -> None:
    other = scene(16, 16, 120)
    found = ts.embed(other, weights=weights, resample=True, bands=[*range(60), *range(61, 120)])
    assert "least coverage" in found.report.resampled[0] and np.isfinite(found["embedding"].values).all()
    again = ts.embed(other, weights=weights, settings=found.report.settings, **found.report.options)
    np.testing.assert_array_equal(again["embedding"].values, found["embedding"].values)
    own = ts.embed(other, weights=weights, settings={"own_bands": True})
    assert not own.report.resampled and any("interpolated" in note for note in own.report.notes)


def test_random_weights_are_said_and_follow_the_seed() -> None:
    settings = {"initial": "random", "network": {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}}
    cube = scene(16, 16, 9)
    first, again, other = (
        ts.embed(cube, backbone="less-vit-s", settings={**settings, "window": 16}, seed=seed) for seed in (0, 0, 1)
    )
    assert any("random weights (seed 0)" in note for note in first.report.notes)
    np.testing.assert_array_equal(first["embedding"].values, again["embedding"].values)
    assert not np.allclose(first["embedding"].values, other["embedding"].values)


def test_files_of_other_toolkits(tmp_path: Path) -> None:
    """TorchGeo keeps SoftCon's encoders under ``model.`` in its tasks' checkpoints, with a head that counts for nothing."""
    made = ts.create_model("softcon-resnet50")
    state = {f"model.{k}": v for k, v in made.state_dict().items()} | {"model.fc.weight": torch.zeros(10, 2048)}
    torch.save({"state_dict": state, "hyper_parameters": {"lr": 1e-3}}, tmp_path / "task.ckpt")
    known = recognise(tmp_path / "task.ckpt")
    assert known is not None and known["backbone"] == "softcon-resnet50" and known["match"] == 1
    assert "exactly 13 bands" in known["bands"] and "442.7 to 2202.4 nm" in known["bands"]
    found = ts.embed(scene(32, 32, 120), backbone="softcon-resnet50", weights=tmp_path / "task.ckpt", resample=True)
    assert found["embedding"].shape == (2048, 1, 1)
    notes = " ".join(found.report.notes)
    assert "no card" in notes and "softcon-resnet50.sentinel-2" in notes and "13 of 13" in found.report.resampled[0]


def test_inspect_reads_the_card(weights: Path) -> None:
    known = recognise(weights)
    assert known is not None and known["says"] == "card" and known["dimensions"] == 16 and known["match"] == 1
    assert "80 from 420 to 2400 nm by its card" in known["bands"]
