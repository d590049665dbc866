"""A training run as a patient: its curves, and the embeddings that its monitor kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from torchspectral.diagnosis.embedded import Embedded
from torchspectral.diagnosis.tables import read_table
from torchspectral.errors import BadInput
from torchspectral.learn.runs import KEPT, MONITORED, Run


def is_run(path: Path) -> bool:
    """Whether a path is a run folder."""
    return path.is_dir() and (path / "run.yaml").is_file()


def read_run(path: Path) -> Embedded:
    """Curves and kept embeddings of a run; embeddings are empty where it was not monitored.

    Raises
    ------
    BadInput
        The run has neither curves nor embeddings.
    ProductNotFound, BadWeights, BrokenProduct
    """
    run = Run(path)
    facts = run.facts()
    curves = _curves(run)
    kept = path / KEPT
    if kept.is_file():
        found = read_table(kept)
        found.name = path.name
    elif curves is not None:
        found = Embedded(path.name, np.empty((0, 0)), pd.DataFrame(index=range(0)))
        found.notes.append("the run kept no embeddings: train with --set monitor_every=1 to have them")
    else:
        raise BadInput(f"{path} has no curves yet: let it train until its first validation")
    found.curves = curves
    scenes = [str(s.get("name", "")) for s in facts.get("scenes") or [] if isinstance(s, dict)]
    found.places.attrs["scenes"] = scenes
    return found


def _curves(run: Run) -> pd.DataFrame | None:
    """Training curves and monitored figures by step."""
    tables = [pd.DataFrame(rows) for rows in (run.rows(), run.rows(MONITORED)) if rows]
    if not tables:
        return None
    if len(tables) == 1:
        return tables[0]
    return tables[0].merge(tables[1], on="step", how="outer", suffixes=("", "_monitor")).sort_values("step")


def labels_of_places(found: Embedded, labels: Path, field: str | None) -> np.ndarray:
    """Class of each sample of a run from labels on the ground, drawn on the scenes that the run was trained on.

    Raises
    ------
    BadInput
        The run does not say where its samples lie, or its scenes are gone.
    """
    from torchspectral.errors import GridMismatch
    from torchspectral.io import open_product
    from torchspectral.io.labels import read_labels

    scenes: list[Any] = found.places.attrs.get("scenes", [])
    if not {"scene", "row", "col"} <= set(found.places.columns):
        raise BadInput(f"{found.name} does not say where its samples lie: give labels in their order (.npy or .csv)")
    classes = np.zeros(found.values.shape[0], dtype=np.int64)
    missed = 0
    for number, scene in enumerate(scenes):
        here = np.flatnonzero(found.places["scene"].to_numpy() == number)
        if not here.size:
            continue
        if not Path(scene).exists():
            raise BadInput(f"the scene {scene} of this run is not there any more: give labels in the samples' order")
        try:
            drawn = read_labels(labels, like=open_product(scene), field=field)
        except GridMismatch:
            missed += 1  # labels of other scenes
            continue
        rows, cols = (found.places[name].to_numpy(np.int64)[here] for name in ("row", "col"))
        classes[here] = drawn.values[rows, cols]
        found.class_names = [str(n) for n in drawn.attrs.get("class_names", [])]
    if missed:
        found.notes.append(f"the labels do not lie on {missed} of {len(scenes)} scenes of the run")
    if not classes.any():
        raise BadInput(f"no label of {labels.name} lies on a sample of this run: are they of other scenes?")
    return classes
