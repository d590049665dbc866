"""Patches with holes out of scenes: kept, with the role valid, for recipes that use masks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import toy_recipe

from torchspectral.learn.patches import build_store
from torchspectral.learn.scenes import open_scenes


class MaskedRecipe(toy_recipe.ToyRecipe):
    uses: ClassVar[tuple[str, ...]] = ("valid",)
    multiple = 1

    def pairs(self, scene):
        return {"target": scene.values.astype(np.float32)}


def test_patches_with_holes_are_kept(tmp_path: Path) -> None:
    scene = toy_recipe.toy_scene(64, 64)
    scene.values[:, :, 20:26] = np.nan
    scene.values[1, 40, 40] = np.nan
    stores = {}
    for kind in (toy_recipe.ToyRecipe, MaskedRecipe):
        recipe = kind(toy_recipe.ToySettings.make({"patch": 8, "holes": 0.6}))
        scenes = open_scenes(scene)
        recipe.prepare([s.scene for s in scenes])
        stores[kind] = build_store(tmp_path / f"{kind.__name__}.zarr", recipe, scenes)
    plain, masked = stores.values()
    assert masked.count("train") > plain.count("train") and masked.attrs["dropped"] < plain.attrs["dropped"]
    assert masked.roles == ["target", "valid"]
    holes = 0
    for index in range(masked.count("train")):
        sample = masked.sample("train", index)
        gone = sample["valid"][0] == 0
        row, col = masked.windows["train"][index][1:3]
        truth = np.isnan(scene.values[:, row : row + 8, col : col + 8])
        assert np.array_equal(gone, truth.any(0)) and np.all(sample["target"][truth] == 0)
        assert gone.mean() <= 0.6
        holes += gone.any()
    assert holes
