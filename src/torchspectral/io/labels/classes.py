"""Which column holds the classes, and what number each class gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from torchspectral.errors import BadInput, UnknownName, closest

FIELDS = (
    "class",
    "class_id",
    "classid",
    "class_name",
    "classname",
    "label",
    "labels",
    "category",
    "code",
    "id",
    "name",
)
_MOST = 65535


def class_field(columns: Sequence[str], wanted: str | None, where: str) -> str:
    """The column of classes.

    Raises
    ------
    UnknownName
        `wanted` is no column.
    BadInput
        There is no column, or nothing is wanted and none alone can be it.
    """
    names = [str(c) for c in columns]
    if not names:
        raise BadInput(
            f"{where} has no column of classes: expected one with the number or name of the class of each place"
        )
    if wanted is not None:
        if wanted not in names:
            raise UnknownName(f"{where} has no column {wanted!r}: {closest(wanted, names)}")
        return wanted
    if len(names) == 1:
        return names[0]
    for known in FIELDS:
        found = [n for n in names if n.lower() == known]
        if found:
            return found[0]
    raise BadInput(f"{where} has the columns {', '.join(names)}: say which holds the classes with field=NAME")


def number_classes(values: Sequence[Any], where: str) -> tuple[np.ndarray, list[str]]:
    """Class number of each value, 0 for missing ones, and the names by number.

    Raises
    ------
    BadInput
        Numbers beyond 65535 or below 0, or no class at all.
    """
    missing = np.array([v is None or v != v or str(v).strip() == "" for v in values], dtype=bool)
    present = [v for v, gone in zip(values, missing, strict=True) if not gone]
    if not present:
        raise BadInput(f"{where} has no class: every value is missing")
    numbers = [_whole(v) for v in present]
    out = np.zeros(len(values), dtype=np.uint16)
    if all(n is not None for n in numbers):
        whole = [n for n in numbers if n is not None]
        if min(whole) < 0 or max(whole) > _MOST:
            raise BadInput(f"{where} has class numbers from {min(whole):g} to {max(whole):g}, expected 0 to {_MOST}")
        out[~missing] = whole
        return out, ["unlabelled", *(str(n) for n in range(1, max(whole) + 1))]
    words = sorted({str(v).strip() for v in present})
    if len(words) > _MOST:
        raise BadInput(f"{where} has {len(words)} different classes, expected at most {_MOST}")
    place = {word: n for n, word in enumerate(words, start=1)}
    out[~missing] = [place[str(v).strip()] for v in present]
    return out, ["unlabelled", *words]


def _whole(value: Any) -> int | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if np.isfinite(number) and number == int(number) else None
