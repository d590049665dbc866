"""Classes of images outside of the engine, as its tiles give them, and their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch

from torchspectral.backbones.reflection import reflected
from torchspectral.classification.tuned.tiling import tiling_of
from torchspectral.engine.blend import tile_weights
from torchspectral.engine.method import Window
from torchspectral.engine.plan import cut_scene
from torchspectral.metrics.classes import Calibration, Confusion, MultiLabel

CORE = 256
"""Side of the tiles of networks that are exact in tiles [pixel]."""


def predictions(
    network: Any, shape: tuple[int, int], read: Callable[[Window], Mapping[str, torch.Tensor]], overlap: int = -1
) -> Iterator[tuple[Window, torch.Tensor]]:
    """Probabilities of an image, strip by strip or tile by tile, as the engine makes them of a scene.

    Parameters
    ----------
    network : BackboneClassifier
        In evaluation mode.
    shape : (int, int)
        Rows and columns.
    read : callable
        ``read(window)`` gives ``image`` (bands, y, x), ``valid`` (1, y, x) and perhaps ``later``; only as much as one tile
        with what the network sees around it is asked for at once.
    overlap : int
        See `tiling_of`.

    Yields
    ------
    window : Window
        The windows cover the image once.
    probabilities : Tensor (classes, y, x)
    """
    plan = tiling_of(network, overlap)
    if plan["scope"] == "local":
        step = plan["multiple"]
        size, halo = -(-CORE // step) * step, -(-plan["reach"] // step) * step
        for cut in cut_scene(shape, (size, size), (halo, halo)):
            found, w, core = _look(network, read(cut.window)), cut.window, cut.inner
            top, left = core.row - w.row, core.col - w.col
            yield core, found[:, top : top + core.height, left : left + core.width]
        return
    yield from _blended(network, shape, read, plan["tile"], plan["overlap"])


def _blended(
    network: Any, shape: tuple[int, int], read: Callable[[Window], Mapping[str, torch.Tensor]], size: int, overlap: int
) -> Iterator[tuple[Window, torch.Tensor]]:
    """Rows of overlapping tiles; what the next row adds nothing to is given out."""
    strips = [list(g) for _, g in groupby(cut_scene(shape, (size, size), (0, 0), overlap), lambda c: c.window.row)]
    tops = [strip[0].window.row for strip in strips] + [shape[0]]
    total, weight = torch.zeros(network.classes, 0, shape[1]), torch.zeros(0, shape[1])
    for strip, (top, following) in zip(strips, pairwise(tops), strict=True):
        more = strip[0].window.height - weight.shape[0]
        total, weight = (torch.cat([t, t.new_zeros(*t.shape[:-2], more, shape[1])], -2) for t in (total, weight))
        for cut in strip:
            rows, cols = slice(0, cut.window.height), cut.window.slices[1]
            ramp = torch.from_numpy(tile_weights(cut, overlap, 1, shape)).float()
            total[:, rows, cols] += ramp * _look(network, read(cut.window), size).cpu()
            weight[rows, cols] += ramp
        done = following - top
        yield Window(top, 0, done, shape[1]), total[:, :done] / weight[:done]
        total, weight = total[:, done:], weight[done:]


def _look(network: Any, arrays: Mapping[str, torch.Tensor], size: int = 0) -> torch.Tensor:
    """Probabilities (classes, y, x) of one window, filled up by reflection to `size` pixels."""
    rows, cols = arrays["image"].shape[-2:]
    ground = (0, max(rows, size), 0, max(cols, size))
    image, valid = (reflected(arrays[role][None], *ground) for role in ("image", "valid"))
    later = reflected(arrays["later"][None], *ground) if "later" in arrays else None
    found = probabilities(network, network(image, valid, later, valid).float())[0]
    return found[:, :rows, :cols] if found.ndim == 3 else found[:, None, None].expand(-1, rows, cols)


def predict_image(
    network: Any, image: torch.Tensor, valid: torch.Tensor, later: torch.Tensor | None = None, overlap: int = -1
) -> torch.Tensor:
    """Probabilities (classes, y, x) of an image (bands, y, x) in memory, see `predictions`.

    Parameters
    ----------
    network : BackboneClassifier
        In evaluation mode.
    valid : Tensor (1, y, x)
    later : Tensor (bands, y, x), optional
    """
    arrays = {"image": image, "valid": valid} | ({} if later is None else {"later": later})

    def read(window: Window) -> dict[str, torch.Tensor]:
        return {role: array[(..., *window.slices)] for role, array in arrays.items()}

    shape = int(image.shape[-2]), int(image.shape[-1])
    out = torch.empty(network.classes, *shape)
    for window, found in predictions(network, shape, read, overlap):
        out[(slice(None), *window.slices)] = found
    return out


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
