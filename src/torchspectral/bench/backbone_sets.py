"""Labelled patch sets of the bench of backbones: where they are, what a tuned network makes of their test part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadInput, UnknownName, closest
from torchspectral.learn.patch_sets import PatchSet
from torchspectral.learn.patch_sets.opening import of_path
from torchspectral.learn.splits import HELD_OUT

TEST = "test"
TASKS = {"pixels": "pixels", "multi": "multilabel", "single": "scenes"}
FIGURES = {
    "pixels": ("oa", "iou_micro", "iou_macro", "f1_macro", "kappa"),
    "scenes": ("oa", "aa", "f1_macro", "kappa"),
    "multilabel": ("map_micro", "map_macro", "f1_micro", "f1_macro", "accuracy"),
}
"""What is measured of each task; "mIoU" of the papers is ``iou_micro``."""


def find_sets(data: Path, known: Sequence[str], wanted: Sequence[str] = ()) -> tuple[dict[str, Path], dict[str, str]]:
    """Folders of patch sets by name, and why others are missing.

    Parameters
    ----------
    data : Path
    known : sequence of str
        Names of a suite's sets, in order; case, blanks, "-" and "_" of the folders do not matter.
    wanted : sequence of str
        Only these.

    Raises
    ------
    BadInput
        `data` is no folder.
    UnknownName
        A wanted set is neither of the suite nor in the folder.
    """
    if not data.is_dir():
        raise BadInput(f"{data} is no folder, expected one with a folder for each set")
    if of_path(data):
        here = {data.resolve().name: data}
    else:
        here = {p.name: p for p in sorted(data.iterdir()) if p.is_dir() and not p.name.startswith(".")}
    plain = {_plain(name): (name, path) for name, path in here.items()}
    for name in wanted:
        if _plain(name) not in plain and _plain(name) not in map(_plain, known):
            raise UnknownName(f"no set {name!r}: {closest(name, [*known, *here])}")
    names = [n for n in known if not wanted or _plain(n) in map(_plain, wanted)]
    found: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for name in names:
        place = plain.pop(_plain(name), None)
        if place is None:
            missing[name] = f"no folder of this name in {data}"
        elif not of_path(place[1]):
            missing[name] = f"{place[1]} is no patch set that is known"
        else:
            found[name] = place[1]
    for name, path in plain.values():
        if (not wanted or _plain(name) in map(_plain, wanted)) and of_path(path):
            found[name] = path
    return found, missing


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def task_of(patches: PatchSet) -> str:
    """What is tuned on a set.

    Raises
    ------
    BadInput
        Its labels are no classes.
    """
    kind = str(patches.labels["kind"])
    if kind not in TASKS:
        what = "numbers (regression)" if kind == "regression" else "no labels"
        raise BadInput(
            f"{patches.path} has {what}, expected classes of pixels or of patches: `train classify` tunes these"
        )
    return TASKS[kind]


def test_part(patches: PatchSet) -> str:
    """The part that is measured on."""
    return TEST if patches.count(TEST) else HELD_OUT


def score_set(network: Any, patches: PatchSet, task: str) -> dict[str, float]:
    """Figures of a tuned network on the test part of a set.

    Parameters
    ----------
    network : BackboneClassifier
    patches : PatchSet
    task : {"pixels", "scenes", "multilabel"}

    Returns
    -------
    dict
        Those of ``FIGURES[task]``.
    """
    import torch

    from torchspectral.classification.tuned.evaluation import Tally, predict_image, probabilities

    tally = Tally([str(n) for n in patches.labels["classes"]], task)
    part = test_part(patches)
    ignored = patches.labels.get("ignore")
    network.eval().cpu()
    with torch.no_grad():
        for index in range(patches.count(part)):
            sample = patches.sample(part, index)
            image, valid = torch.from_numpy(sample["image"]), torch.from_numpy(sample["valid"])
            if task == "pixels":
                marks = sample["mask"][0].astype(np.int64)
                marks[(valid[0].numpy() < 0.5) | (marks == (-1 if ignored is None else ignored))] = -1
                tally.update(predict_image(network, image, valid), marks)
                continue
            image, valid = (_middle(t, network.patch) for t in (image, valid))
            found = probabilities(network, network(image[None], valid[None]).float())
            label = sample["label"][:, 0, 0]
            if task == "multilabel":
                tally.update(found, label[None])
            else:
                tally.update(found.movedim(1, 0), label.astype(np.int64))
    figures = tally.figures()
    return {name: float(figures[name]) for name in FIGURES[task] if name in figures}


def _middle(x: Any, size: int) -> Any:
    rows, cols = x.shape[-2:]
    row, col = max((rows - size) // 2, 0), max((cols - size) // 2, 0)
    return x[..., row : row + size, col : col + size]


def learning(network: Any, tuning: str) -> int:
    """Number of parameters that a tuning learns; of low-rank updates, which are merged by now, those of the head."""
    if tuning == "knn":
        return 0
    parts = network.parameters() if tuning == "full" else list(network.head.parameters())
    if tuning == "adapter":
        parts = [*parts, *network.backbone.spectral_adapter.parameters()]
    return sum(p.numel() for p in parts)


def scenes_of(patches: PatchSet, part: str, most: int) -> list[xr.Dataset]:
    """Patches of a part with their classes from 1, 0 where there is none."""
    ignored = patches.labels.get("ignore")
    names = ["unlabelled", *(str(n) for n in patches.labels["classes"])]
    made = []
    for row in patches.part(part)[:most]:
        cube = patches.cube(int(row))
        marks = patches.mask(int(row))
        if marks is None:
            continue
        marks = np.where(marks == (-1 if ignored is None else ignored), -1, marks) + 1
        layer = xr.DataArray(marks.astype(np.int64), dims=("y", "x"), attrs={"class_names": names})
        made.append(xr.Dataset({"cube": cube, "labels": layer}))
    return made
