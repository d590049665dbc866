"""A class map against labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadInput, GridMismatch
from torchspectral.metrics.classes.confusion import Confusion
from torchspectral.metrics.score import _check_grids
from torchspectral.result import Report, Result

NODATA, STRIP = 255, 1024


def score_classes(found: xr.DataArray, labels: xr.DataArray) -> Result:
    """Compare a class map with labels.

    Parameters
    ----------
    found : DataArray of integers, dims (layer, y, x) or (y, x)
        Class numbers; 0 is unclassified, nodata does not count. Lazy maps are read strip by strip.
    labels : DataArray of integers, same grid
        Class numbers from 1; 0 is unlabelled and does not count. Where both have ``class_names`` that give a number
        another name, classes are matched by name.

    Returns
    -------
    Result
        ``scores`` (table: figure, value) of `Confusion.compute`, ``classes`` (table of each class) and ``confusion``
        (the `Confusion` itself); ``report.figures`` has them too. Labelled pixels that the map calls unclassified
        count as misses.

    Raises
    ------
    GridMismatch, BadInput
        The grids differ, no label lies on the map, or a labelled class is none of the map's.
    """
    import pandas as pd  # type: ignore[import-untyped]

    one, two = _plane(found, "the map"), _plane(labels, "the labels")
    _check_grids(one.expand_dims("band"), two.expand_dims("band"))
    report = Report(method="score classes")
    numbers, names, places = _classes(one, two, report)
    confusion = Confusion(names)
    nodata = one.attrs.get("nodata", NODATA)
    lost = 0
    for row in range(0, one.sizes["y"], STRIP):
        strip = slice(row, row + STRIP)
        guess, truth = (np.asarray(a.isel(y=strip).values).astype(np.int64) for a in (one, two))
        known = truth > 0
        lost += int((known & (guess == nodata)).sum())
        known &= guess != nodata
        confusion.update(_index(guess[known], numbers), _index(places[truth[known]], numbers))
    if lost:
        report.dropped.append(f"{lost} labelled pixels that are nodata in the map")
    figures = confusion.compute()
    report.figures = {**figures, "per_class": confusion.table()}
    scores = pd.DataFrame([{"figure": k, "value": v} for k, v in figures.items()])
    return Result({"scores": scores, "classes": pd.DataFrame(confusion.table()), "confusion": confusion}, report)


def _plane(value: xr.DataArray, what: str) -> xr.DataArray:
    if isinstance(value, xr.DataArray) and value.ndim == 3 and value.shape[0] == 1:
        value = value.isel({value.dims[0]: 0}, drop=True)
    if not isinstance(value, xr.DataArray) or value.dims != ("y", "x"):
        raise GridMismatch(f"got {getattr(value, 'dims', type(value).__name__)} as {what}, expected one layer (y, x)")
    if value.dtype.kind not in "iub":
        raise BadInput(f"{what} hold {value.dtype} numbers, expected whole class numbers")
    return value


def _classes(one: xr.DataArray, two: xr.DataArray, report: Report) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Numbers of the map's classes and their names, and the map's number for each number of the labels."""
    present = {int(n) for n in np.unique(two.values) if n > 0}
    if not present:
        raise BadInput("no pixel is labelled where the map lies, expected class numbers from 1")
    mine, theirs = (_names(a) for a in (one, two))
    places = np.arange(max(present) + 1)
    both = {n for n in present if n in mine and n in theirs}
    if any(mine[n] != theirs[n] for n in both):
        by_name = {name: number for number, name in mine.items()}
        lacking = sorted(theirs[n] for n in present if theirs.get(n) not in by_name)
        if lacking:
            raise BadInput(f"the labels have the class {lacking[0]!r}, which is none of the map's: is it another map?")
        for number in present:
            places[number] = by_name[theirs[number]]
        report.notes.append("classes of the labels were matched to those of the map by name")
    wanted = {int(places[n]) for n in present}
    lacking_numbers = sorted(wanted - set(mine)) if mine else []
    if lacking_numbers:
        raise BadInput(
            f"the labels have the class {lacking_numbers[0]}, expected one of the map's {min(mine)} to {max(mine)}: "
            "labels out of range"
        )
    numbers = sorted(wanted | set(mine))
    return np.array(numbers), [mine.get(n, theirs.get(n, f"class {n}")) for n in numbers], places


def _names(value: xr.DataArray) -> dict[int, str]:
    listed: Any = value.attrs.get("class_names") or []
    return {n: str(name) for n, name in enumerate(listed) if n > 0}


def _index(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Position of each class number among `numbers`; -2 where it is none of them."""
    place = np.searchsorted(numbers, values).clip(0, len(numbers) - 1)
    return np.where(numbers[place] == values, place, -2)
