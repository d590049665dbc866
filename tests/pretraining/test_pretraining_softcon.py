"""SoftCon's recipe: labels, masks, queue, vision files, what it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_steps import batch_of, exported, kinds, opened, scene, train_steps
from torch.nn.functional import normalize

from torchspectral.backbones.softcon.bands import softcon_bands
from torchspectral.errors import BadInput, BadSettings, BadWeights
from torchspectral.geo.grids import place
from torchspectral.learn.train import find_recipe
from torchspectral.pretraining.softcon.labels import scene_labels
from torchspectral.pretraining.softcon.masking import draw_mask, encode_masked

RESNET = {"backbone": "intl-resnet18-cifar", "view": 16}
VIT = {
    "backbone": "softcon-vit-s", "view": 28, "patch": 32, "hidden": 32, "outputs": 16,
    "network": {"dim": 24, "depth": 1, "heads": 3, "layer_scale": 1.0},
}  # fmt: skip
GRID = Affine(30, 0, 5e5, 0, -30, 5e6)


@pytest.fixture(scope="module")
def cover(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("cover") / "cover.tif"
    profile = {
        "driver": "GTiff",
        "height": 64,
        "width": 64,
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:32632",
        "transform": GRID,
    }
    with rasterio.open(file, "w", **profile) as out:
        out.write((kinds() + 1).astype(np.uint8), 1)
    return str(file)


def placed(bands: int):
    cube = scene(bands)
    if bands == 13:
        cube = cube.assign_coords(wavelength=("band", np.array(softcon_bands().wavelengths)))
    return place(cube, GRID, 32632)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=4, max_size=4))
def test_labels_of_pixels(numbers: list[int]) -> None:
    mask = torch.tensor(numbers, dtype=torch.float32).reshape(1, 1, 2, 2)
    known = [n for n in numbers if 0 <= n < 3]
    assert scene_labels(None, mask, 3)[0].tolist() == [float(c in known) for c in range(3)]
    shares = scene_labels(None, mask, 3, "shares")[0]
    assert shares.tolist() == pytest.approx([known.count(c) / max(len(known), 1) for c in range(3)])
    assert not scene_labels(None, mask, 3, valid=torch.zeros(1, 1, 2, 2)).any()


def test_labels_of_scenes() -> None:
    several = torch.tensor([[1.0, 0, 0.5]]).reshape(1, 3, 1, 1)
    assert scene_labels(several, None, 3).tolist() == [[1, 0, 1]]
    assert scene_labels(several, None, 3, "shares").tolist() == [[1, 0, 0.5]]
    assert scene_labels(torch.tensor([2.0, -1]).reshape(2, 1, 1, 1), None, 3).tolist() == [[0, 0, 1], [0, 0, 0]]
    for label in (several - 1, several[:, :2]):
        with pytest.raises(BadInput):
            scene_labels(label, None, 3)
    with pytest.raises(BadInput, match="no labels"):
        scene_labels(None, None, 3)


def test_masks() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_mask(8, 8, (0.1, 0.5), 0.5, rng) for _ in range(200)]).mean((1, 2, 3))
    assert 0.35 < (drawn == 0).mean() < 0.65 and drawn[drawn > 0].min() >= 0.09 and drawn.max() <= 0.5
    from torchspectral.backbones.padded_resnet import PaddedResNet

    network, x, hidden = PaddedResNet(3, 18, "cifar").eval(), torch.randn(1, 3, 16, 16), torch.zeros(1, 1, 4, 4)
    hidden[..., 1, 2] = 1
    other = x.clone()
    other[..., 4:8, 8:12] += 1
    with torch.no_grad():
        assert torch.equal(encode_masked(network, x, hidden), encode_masked(network, other, hidden))
        assert torch.equal(encode_masked(network, x, None), encode_masked(network, x, torch.zeros(1, 1, 4, 4)))


def test_transformers_hide_patches_and_have_a_predictor(tmp_path: Path, cover: str) -> None:
    recipe, store = opened("softcon", [placed(13)], tmp_path, **VIT, labels=[cover], steps=3, offset_jitter=0.0)
    batch = batch_of(recipe, store, 0)
    assert batch["hidden"].shape == (8, 2, 2, 2) and batch["mask"].shape == (8, 1, 32, 32)
    network, losses = train_steps(recipe, store, 3)
    assert np.isfinite(losses).all() and not len(network.queue.keys) and network.backbone.mask_token.grad is not None
    assert exported(recipe, network).mask_token.shape == (1, 24)
    with pytest.raises(BadInput, match="labels=FILE"):
        opened("softcon", [placed(13)], tmp_path / "none", **VIT)
    with pytest.raises(BadSettings, match="files of labels"):
        opened("softcon", [placed(13)], tmp_path / "two", **VIT, labels=[cover, cover])


def test_begins_with_a_vision_model(tmp_path: Path, cover: str) -> None:
    recipe, _ = opened("softcon", [placed(13)], tmp_path, **VIT, labels=[cover])
    state = recipe.backbone().state_dict()
    file = tmp_path / "dinov2.pth"
    torch.save({k: v[:, :3] if k == "patch_embed.proj.weight" else v + 1 for k, v in state.items()}, file)
    wanted = {**VIT, "vision": str(file), "first_layer": "rgb", "labels": [cover]}
    begun, _ = opened("softcon", [placed(13)], tmp_path / "begun", **wanted)
    network = begun.build()
    assert torch.equal(network.backbone.norm.weight, state["norm.weight"] + 1)
    assert torch.equal(network.momentum_backbone.norm.weight, network.backbone.norm.weight)
    assert torch.equal(network.backbone.patch_embed.proj.weight[:, 3], state["patch_embed.proj.weight"][:, 0])
    torch.save(dict(state), file)
    with pytest.raises(BadWeights, match="first layer"):
        begun.build()
    with pytest.raises(BadSettings, match="layout of a vision model"):
        opened("softcon", [placed(6)], tmp_path / "no", **{**RESNET, "vision": str(file), "labels": [cover]})[0].build()


def test_64_scenes_gather_by_label() -> None:
    from sklearn.metrics import silhouette_score

    rng, which = np.random.default_rng(0), np.arange(64) % 3
    sets = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float32)
    spectra = rng.uniform(0.2, 0.4, (3, 13))[which][:, :, None, None]
    recipe = find_recipe(
        "pretraining",
        "softcon",
        {
            **VIT,
            "patch": 28,
            "batch": 64,
            "steps": 40,
            "learning_rate": 3e-3,
            "weight": 1.0,
            "warm_up": 0.0,
            "jitter": 0.1,
        },
    )
    recipe.index, recipe.mean, recipe.std, recipe.hidden_side = np.arange(13), np.full(13, 0.3), np.full(13, 0.1), 14
    label = torch.from_numpy(sets[which]).reshape(64, 4, 1, 1)

    def batch() -> dict[str, torch.Tensor]:
        images = (spectra + 0.1 * rng.standard_normal((64, 13, 28, 28))).astype(np.float32)
        drawn = np.stack([np.stack([plan.draw(28, 28, 13, rng) for plan in recipe.plans()]) for _ in range(64)])
        hidden = np.stack([recipe.draws(rng)["hidden"] for _ in range(64)])
        return {"image": torch.from_numpy(images), "label": label, "draws": torch.from_numpy(drawn),
                "hidden": torch.from_numpy(hidden)}  # fmt: skip

    torch.manual_seed(0)
    network = recipe.build().train()
    optimiser = recipe.optimiser_of(network)
    for step in range(25):
        recipe.begin_step(step)
        loss = recipe.loss(network, batch())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        recipe.after_step(network, step + 1)
    with torch.no_grad():
        features = normalize(network.eval().projection(recipe.embed(network, batch())), dim=1)
    assert silhouette_score(features.numpy(), which) > 0.5
