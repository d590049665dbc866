"""Labels beside scenes: read, brought to one numbering, and counted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.classification.base import check_labels
from torchspectral.classification.spectral_angle import MOST_CLASSES, class_colours
from torchspectral.errors import BadInput, BadSettings, GridMismatch
from torchspectral.learn.scenes import OpenedScene

IGNORED = -1


@dataclass(frozen=True)
class Classes:
    """Classes in the order of their indices.

    Attributes
    ----------
    numbers : tuple of int
        As in the labels and in written maps.
    names : tuple of str
    colors : tuple of (int, int, int)
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]

    def indices(self, labels: np.ndarray) -> np.ndarray:
        """Index of each label, `IGNORED` where there is none."""
        table = np.full(max(int(labels.max(initial=0)), max(self.numbers)) + 1, IGNORED, dtype=np.int16)
        table[list(self.numbers)] = np.arange(len(self.numbers))
        return table[labels]


def with_labels(
    scenes: Sequence[OpenedScene], files: Sequence[str], field: str = "", ignore: Sequence[int] = ()
) -> tuple[list[OpenedScene], Classes, list[str]]:
    """Scenes with the layer ``labels``, and the classes of all of them.

    Parameters
    ----------
    scenes : sequence of OpenedScene
        Cubes, or Datasets that have ``labels`` already.
    files : sequence of str
        Class rasters, vectors or tables: one for all scenes, or one for each; none takes the labels that scenes have.
    field : str
        Column that holds the classes.
    ignore : sequence of int
        Labels that do not count.

    Returns
    -------
    scenes : list of OpenedScene
        Datasets ``cube`` and ``labels`` (int16, 0 is unlabelled); scenes on which no label lies are left out where one
        file was given for several.
    classes : Classes
    notes : list of str

    Raises
    ------
    BadSettings
        Neither one file, nor one for each scene.
    BadInput
        No labelled pixel, one class only, or labels out of range.
    GridMismatch, ProductNotFound, UnknownName, MissingMetadata
        See `io.labels.read_labels`.
    """
    if len(files) > 1 and len(files) != len(scenes):
        raise BadSettings(f"got {len(files)} files of labels for {len(scenes)} scenes, expected one, or one for each")
    found: list[tuple[OpenedScene, xr.DataArray]] = []
    notes: list[str] = []
    for number, scene in enumerate(scenes):
        file = files[number if len(files) > 1 else 0] if files else ""
        try:
            labels = _labels_of(scene, file, field)
        except GridMismatch:
            if len(files) != 1 or len(scenes) == 1:
                raise
            notes.append(f"no label lies on {Path(scene.name).name}: left out")
            continue
        notes += [line for line in labels.attrs.get("history", []) if line not in notes]
        found.append((scene, labels))
    if not found:
        raise GridMismatch("the labels lie on none of the scenes: are they of other scenes, or in another CRS?")
    tables = _numbering([labels for _, labels in found], notes)
    values = [_renumbered(labels, table, ignore) for (_, labels), table in zip(found, tables, strict=True)]
    classes = _classes([labels for _, labels in found], tables, values)
    made = [_joined(scene, array) for (scene, _), array in zip(found, values, strict=True)]
    return made, classes, notes


def _labels_of(scene: OpenedScene, file: str, field: str) -> xr.DataArray:
    from torchspectral.io import list_layers, open_product
    from torchspectral.io.labels import labels_on, read_labels

    if isinstance(scene.scene, xr.Dataset) and "labels" in scene.scene:
        return _plane(scene.scene["labels"], scene.cube)
    if file:
        return read_labels(file, like=scene.cube, field=field or None)
    path = Path(scene.name)
    if scene.in_memory or not path.exists() or "labels" not in list_layers(path):
        raise BadInput(
            f"{scene.name} comes without labels: give --labels FILE (polygons, a class raster, or a CSV of pixels), or a "
            "Dataset with the layer labels"
        )
    opened = open_product(path, layers=("labels",))["labels"]
    return labels_on(_plane(opened, scene.cube), scene.cube)


def _plane(labels: xr.DataArray, cube: xr.DataArray) -> xr.DataArray:
    labels = check_labels(labels)
    labels = labels[0] if labels.ndim == 3 else labels
    if labels.shape != cube.shape[-2:]:
        raise GridMismatch(f"the labels have {labels.shape} pixels, expected {cube.shape[-2:]} as the cube")
    values = np.nan_to_num(labels.values, nan=0).astype(np.int64)
    nodata = labels.attrs.get("nodata")
    if nodata is not None:
        values = np.where(values == nodata, 0, values)
    if values.min(initial=0) < 0:
        raise BadInput(f"the labels hold {values.min()}, expected class numbers from 1, 0 unlabelled")
    return labels.copy(data=values)


def _names(labels: xr.DataArray) -> dict[int, str]:
    listed: Any = labels.attrs.get("class_names") or []
    pairs = listed.items() if isinstance(listed, Mapping) else enumerate(listed)
    return {int(n): str(name) for n, name in pairs if int(n) > 0}


def _numbering(found: list[xr.DataArray], notes: list[str]) -> list[dict[int, int]]:
    """For each scene the common number of its numbers: their own, or by name where files number names differently."""
    every = [_names(labels) for labels in found]
    known: dict[int, str] = {}
    clash = False
    for names in every:
        for number, name in names.items():
            clash |= known.setdefault(number, name) != name
    if not clash:
        return [{} for _ in found]
    words = sorted({name for names in every for name in names.values()})
    place = {name: n for n, name in enumerate(words, start=1)}
    notes.append("the files number classes differently: they were numbered anew by name")
    return [{number: place[name] for number, name in names.items()} for names in every]


def _renumbered(labels: xr.DataArray, table: Mapping[int, int], ignore: Sequence[int]) -> np.ndarray:
    values = np.asarray(labels.values).astype(np.int64)
    most = int(values.max(initial=0))
    if table:
        lut = np.zeros(max(most, max(table)) + 1, dtype=np.int64)
        for before, after in table.items():
            lut[before] = after
        values = lut[values]
        most = int(values.max(initial=0))
    if most > MOST_CLASSES:
        raise BadInput(f"got class number {most}, expected 1 to {MOST_CLASSES}: labels out of range, renumber them")
    return np.where(np.isin(values, list(ignore)), 0, values).astype(np.int16)


def _classes(found: list[xr.DataArray], tables: list[dict[int, int]], values: list[np.ndarray]) -> Classes:
    numbers = sorted({int(n) for array in values for n in np.unique(array) if n > 0})
    if not numbers:
        raise BadInput("no pixel is labelled, expected classes from 1 upwards: check the labels and ignore=")
    if len(numbers) < 2:
        raise BadInput(f"all labels are of class {numbers[0]}, expected at least two classes to tell apart")
    names: dict[int, str] = {}
    colors: dict[int, tuple[int, int, int]] = {}
    for labels, table in zip(found, tables, strict=True):
        for number, name in _names(labels).items():
            names.setdefault(table.get(number, number), name)
        for number, colour in enumerate(labels.attrs.get("class_colors") or []):
            colors.setdefault(table.get(number, number), _rgb(colour))
    spread = class_colours(numbers[-1] + 1)
    return Classes(
        tuple(numbers),
        _unique([names.get(n, f"class {n}") for n in numbers]),
        tuple(colors.get(n, _rgb(spread[n])) for n in numbers),
    )


def _rgb(colour: Sequence[int]) -> tuple[int, int, int]:
    return int(colour[0]), int(colour[1]), int(colour[2])


def _unique(names: list[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    out = []
    for name in names:
        name = f"class {name}" if name.isdigit() else name
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(out)


def _joined(scene: OpenedScene, values: np.ndarray) -> OpenedScene:
    digest = hashlib.sha256(f"{scene.fingerprint} {values.shape}".encode())
    digest.update(np.ascontiguousarray(values).data)
    more = {} if not isinstance(scene.scene, xr.Dataset) else {n: a for n, a in scene.scene.items() if n != "labels"}
    more = more or {"cube": scene.cube}
    both = xr.Dataset({**more, "labels": (("y", "x"), values)}, attrs=scene.scene.attrs)
    return replace(scene, scene=both, fingerprint=digest.hexdigest())
