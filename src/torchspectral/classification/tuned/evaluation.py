"""Classes of whole images in memory, as the engine's tiles give them, and their figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from torchspectral.classification.tuned.tiling import tiling_of
from torchspectral.engine.blend import tile_weights
from torchspectral.engine.plan import cut_scene
from torchspectral.metrics.classes import Calibration, Confusion, MultiLabel

BATCH = 4


def predict_image(
    network: Any, image: torch.Tensor, valid: torch.Tensor, later: torch.Tensor | None = None, overlap: int = -1
) -> torch.Tensor:
    """Probabilities (classes, y, x) of an image (bands, y, x), in overlapping tiles that are blended.

    Parameters
    ----------
    network : BackboneClassifier
        In evaluation mode.
    valid : Tensor (1, y, x)
    later : Tensor (bands, y, x), optional
    """
    plan = tiling_of(network, overlap)
    size, shape = plan["tile"], (int(image.shape[-2]), int(image.shape[-1]))
    cuts = cut_scene(shape, (size, size), (0, 0), plan["overlap"])
    if plan["scope"] == "local":
        whole = network(image[None], valid[None], None if later is None else later[None])
        return probabilities(network, whole)[0]
    total = image.new_zeros(network.classes, *shape)
    weight = image.new_zeros(shape)
    for start in range(0, len(cuts), BATCH):
        for cut in cuts[start : start + BATCH]:
            rows, cols = cut.window.slices
            parts = [None if t is None else t[None, :, rows, cols] for t in (image, valid, later)]
            found = probabilities(network, network(*parts))[0]
            if found.ndim == 1:
                found = found[:, None, None].expand(-1, cut.window.height, cut.window.width)
            ramp = torch.from_numpy(tile_weights(cut, plan["overlap"], 1, shape)).to(image)
            total[:, rows, cols] += ramp * found
            weight[rows, cols] += ramp
    return total / weight


def probabilities(network: Any, logits: torch.Tensor) -> torch.Tensor:
    """Probabilities of logits: one of the classes, or each by itself."""
    return logits.sigmoid() if network.task == "multilabel" else logits.softmax(1)


class Tally:
    """Counts over everything that is compared.

    Parameters
    ----------
    names : sequence of str
    task : str
    """

    def __init__(self, names: Any, task: str) -> None:
        self.several = task == "multilabel"
        self.confusion = Confusion(names)
        self.labels = MultiLabel(names)
        self.calibration = Calibration()

    def update(self, found: torch.Tensor, truth: Any) -> None:
        """Add probabilities (classes, ...) and the class index of each place, -1 unknown; of images (n, classes)."""
        if self.several:
            self.labels.update(found.float().cpu().numpy(), np.asarray(truth))
            return
        best, guess = found.max(0)
        truth = np.asarray(truth)
        known = truth >= 0
        guess_known = guess.cpu().numpy()[known]
        self.confusion.update(guess_known, truth[known])
        self.calibration.update(best.float().cpu().numpy()[known].clip(0, 1), guess_known == truth[known])

    @property
    def counted(self) -> bool:
        """Whether anything was compared."""
        return bool(self.labels.scores) if self.several else self.confusion.total > 0

    def figures(self) -> dict[str, float]:
        """Figures of all."""
        if self.several:
            return self.labels.compute()
        return {**self.confusion.compute(), "ece": self.calibration.compute()}

    def table(self) -> list[dict[str, Any]]:
        """Figures of each class."""
        return self.labels.table() if self.several else self.confusion.table()
