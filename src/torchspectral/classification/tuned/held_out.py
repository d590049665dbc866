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


class HeldOut:
    """Counts over all that was held out.

    Parameters
    ----------
    recipe : BackboneRecipe
    """

    def __init__(self, recipe: Any) -> None:
        self.recipe = recipe
        self.task = str(recipe.settings.task)
        self.tally = Tally(recipe.data.classes.names, self.task)

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
        found = probabilities(model, self.recipe.logits(model, batch).float())
        truth = self.recipe.truth(batch).cpu()
        if self.task == "multilabel":
            self.tally.update(found, truth.numpy())
        else:
            self.tally.update(found.movedim(1, 0), truth.long().numpy())

    def figures(self) -> dict[str, float]:
        """Figures of all; empty where nothing was compared."""
        return self.tally.figures() if self.tally.counted else {}

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
