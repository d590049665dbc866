"""Figures of held-out ground, and the tables and pictures of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from torchspectral.classification.labels import IGNORED
from torchspectral.classification.tuned.evaluation import Tally, predictions, probabilities
from torchspectral.classification.tuned.network import DENSE, BackboneClassifier
from torchspectral.engine.method import Window
from torchspectral.learn.recipe import Batch, Scene
from torchspectral.learn.splits import HELD_OUT, TRAIN

KNOWN = 32
"""Training patches that are looked at."""


class HeldOut:
    """Counts over all that was held out.

    Parameters
    ----------
    recipe : BackboneRecipe
    """

    def __init__(self, recipe: Any) -> None:
        self.recipe = recipe
        self.task = str(recipe.settings.task)
        names = recipe.data.classes.names
        self.tally, self.disjoint, self.training = (Tally(names, self.task) for _ in range(3))

    def add_scene(self, model: BackboneClassifier, scene: Scene) -> None:
        """Add a block of held-out ground, of which only one tile at a time is made input."""
        model.eval()
        with torch.no_grad():
            if model.task in DENSE:
                self._add_dense(model, scene)
            else:
                self._add_patches(model, scene)

    def _arrays(self, scene: Scene, window: Window) -> dict[str, torch.Tensor]:
        rows, cols = window.slices
        return {role: torch.from_numpy(a) for role, a in self.recipe.arrays(scene.isel(y=rows, x=cols)).items()}

    def _add_dense(self, model: BackboneClassifier, scene: Scene) -> None:
        cube = scene["cube"] if isinstance(scene, xr.Dataset) else scene
        shape = cube.sizes["y"], cube.sizes["x"]
        marks = np.full(shape, IGNORED, dtype=np.int16)

        def read(window: Window) -> dict[str, torch.Tensor]:
            arrays = self._arrays(scene, window)
            marks[window.slices] = self.recipe.truth({role: a[None] for role, a in arrays.items()})[0].numpy()
            return arrays

        for window, found in predictions(model, shape, read):
            self.tally.update(found, marks[window.slices].astype(np.int64))

    def _add_patches(self, model: BackboneClassifier, scene: Scene) -> None:
        size = int(self.recipe.settings.patch)
        for row in range(0, scene.sizes["y"] - size + 1, size):
            for col in range(0, scene.sizes["x"] - size + 1, size):
                arrays = self._arrays(scene, Window(row, col, size, size))
                self.add_batch(model, {role: a[None] for role, a in arrays.items()})

    def add_batch(self, model: BackboneClassifier, batch: Batch) -> None:
        """Add a batch of patches."""
        self._count(self.tally, model, batch)

    def _count(self, tally: Tally, model: BackboneClassifier, batch: Batch, seen: np.ndarray | None = None) -> None:
        """Add a batch to a tally, but for the places that were seen in training."""
        found = probabilities(model, self.recipe.logits(model, batch).float())
        truth = self.recipe.truth(batch).cpu()
        if self.task == "multilabel":
            tally.update(found, truth.numpy())
            return
        if seen is not None:
            hidden = torch.from_numpy(seen if truth.ndim == 3 else seen.any(keepdims=True).reshape(1))
            truth = torch.where(hidden.expand_as(truth), IGNORED, truth)
        tally.update(found.movedim(1, 0), truth.long().numpy())

    def add_store(self, model: BackboneClassifier, store: Any) -> None:
        """Add the held-out patches of a store, and beside them what of them no training patch shows."""
        random = self.recipe.settings.split == "random" and self.task != "multilabel"
        training = store.windows[TRAIN]
        for index in range(store.count(HELD_OUT)):
            batch = self._batch(store, HELD_OUT, index)
            self.add_batch(model, batch)
            if random:
                self._count(self.disjoint, model, batch, seen_in(store.windows[HELD_OUT][index], training))

    def add_training(self, model: BackboneClassifier, store: Any) -> None:
        """Count some training patches: what the network makes of ground that it knows."""
        if self.task == "multilabel":
            return
        for index in np.unique(np.linspace(0, store.count(TRAIN) - 1, KNOWN).round().astype(int)):
            self._count(self.training, model, self._batch(store, TRAIN, int(index)))

    def _batch(self, store: Any, part: str, index: int) -> Batch:
        arrays = self.recipe.unchanged(store, part, index)
        return {role: torch.from_numpy(np.array(a))[None] for role, a in arrays.items()}

    def figures(self) -> dict[str, float]:
        """Figures of all, with those of disjoint and of known ground beside; empty where nothing was compared."""
        if not self.tally.counted:
            return {}
        found = self.tally.figures()
        if self.disjoint.counted:
            beside = self.disjoint.figures()
            found |= {"oa_disjoint": beside["oa"], "samples_disjoint": beside["samples"]}
        if self.training.counted:
            found["oa_training"] = self.training.figures()["oa"]
        return found

    def write(self, folder: Path) -> None:
        """Confusion matrix as CSV and picture, and the figures of each class."""
        import pandas as pd  # type: ignore[import-untyped]

        from torchspectral.metrics.classes import confusion_csv, confusion_figure
        from torchspectral.report.files import write_whole
        from torchspectral.report.style import figure_png

        if not self.tally.counted:
            return
        table = pd.DataFrame(self.tally.table()).to_csv(index=False)
        write_whole(folder / "classes.csv", table.encode())
        if not self.tally.several:
            write_whole(folder / "confusion.csv", confusion_csv(self.tally.confusion).encode())
            write_whole(folder / "confusion.png", figure_png(confusion_figure(self.tally.confusion)))


def seen_in(window: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pixels (1, y, x) of a patch (scene, row, column, height, width) that lie in any of the others."""
    scene, row, col, height, width = (int(n) for n in window)
    seen = np.zeros((1, height, width), dtype=bool)
    for _, top, left, high, wide in others[others[:, 0] == scene]:
        rows = slice(max(top - row, 0), max(top + high - row, 0))
        cols = slice(max(left - col, 0), max(left + wide - col, 0))
        seen[0, rows, cols] = True
    return seen
