"""INTL's recipes: views, guards, momentum, the export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recipe_steps import batch_of, exported, opened, scene, train_steps

from torchspectral.errors import BadSettings
from torchspectral.learn.train import find_recipe

TINY = {"backbone": "intl-resnet18-cifar", "hidden": 32, "outputs": 16, "steps": 6, "view": 8}


def test_published_settings() -> None:
    recipe = find_recipe("pretraining", "intl", {"steps": 100, "patch": 224})
    assert [p.blur for p in recipe.plans()] == [1.0, 0.1] and recipe.plans()[0].scale == (0.08, 1.0)
    assert recipe.rate(1) == pytest.approx(2 / 3, abs=0.01) and recipe.rate(100) == pytest.approx(0.001, abs=1e-4)
    many = find_recipe("pretraining", "intl-m", {"steps": 101, "patch": 224})
    assert [p.size for p in many.plans()] == [224, 224, 192, 160, 128, 96] and many.plans()[5].scale == (0.086, 0.429)
    assert many.momentum(0) == pytest.approx(0.996) and many.momentum(101) == 1.0
    vit = find_recipe("pretraining", "intl-m", {"backbone": "spec-vit-t", "patch": 128})
    assert all(p.size % 4 == 0 for p in vit.plans())
    for settings in ({"accumulate": 2}, {"outputs": 200}, {"axis": 1}):
        with pytest.raises(BadSettings):
            find_recipe("pretraining", "intl", settings)


@pytest.mark.parametrize("method", ["intl", pytest.param("intl-m", marks=pytest.mark.slow)])
def test_loss_falls_and_targets_follow(tmp_path: Path, method: str) -> None:
    recipe, store = opened(method, [scene(6)], tmp_path, **TINY, learning_rate=2.0, warm_up=0.0)
    network, losses = train_steps(recipe, store, 6 if method == "intl" else 2)
    assert np.isfinite(losses).all() and (method == "intl-m" or np.mean(losses[-2:]) < losses[0])
    if method == "intl-m":
        mine, own = network.momentum_backbone.backbone.conv1.weight, network.backbone.backbone.conv1.weight
        assert not torch.equal(mine, own) and mine.grad is None
    batch = batch_of(recipe, store, 1)
    with torch.no_grad():
        before = {k: v.clone() for k, v in network.eval().state_dict().items()}
        figures = recipe.validate(network, batch)
    assert figures["effective_rank"] > 1 and set(figures) == {"loss", "similarity", "trace", "effective_rank"}
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    torch.testing.assert_close(exported(recipe, network).conv1.weight, network.backbone.backbone.conv1.weight)
