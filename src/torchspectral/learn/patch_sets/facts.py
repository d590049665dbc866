"""What is known of the published patch sets, and numbers of their classes."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import yaml

from torchspectral.errors import BadInput

IGNORED = -1
"""In a table of codes: pixels of this code are not counted."""


@lru_cache(maxsize=1)
def facts() -> dict[str, Any]:
    """``datasets.yaml``."""
    text = resources.files("torchspectral.learn.patch_sets").joinpath("datasets.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@lru_cache(maxsize=4)
def corine_names(classes: int) -> tuple[str, ...]:
    """Names of the 43 or 19 classes of BigEarthNet, in the order of their numbers.

    43: the names of CORINE in the order of their codes, without glaciers; 19: in the order of BigEarthNet-19.
    """
    rows = [row for row in facts()["clc"] if row[0] not in facts()["clc_absent"]]
    if classes == 43:
        return tuple(name for _, name, _ in rows)
    order = sorted({group: code for code, _, group in reversed(rows) if group}.items(), key=lambda item: item[1])
    return tuple(name for name, _ in order)


@lru_cache(maxsize=4)
def corine_codes(classes: int = 19) -> dict[int, int]:
    """Class number of each code of CORINE: of level 3 (111 to 523), and of the rasters that count them 1 to 44."""
    names = corine_names(classes)
    found: dict[int, int] = {}
    for place, (code, name, group) in enumerate(facts()["clc"], start=1):
        key = name if classes == 43 else group
        number = names.index(key) if key in names else IGNORED
        found[code] = found[place] = number
    return found


def corine_number(name: str, classes: int) -> int:
    """Class number of a name of the 43 or the 19 classes; `IGNORED` where 19 classes leave it out.

    Raises
    ------
    BadInput
        No class of CORINE.
    """
    known = _corine_words(classes)
    number = known.get(name.strip().lower())
    if number is None:
        raise BadInput(f"got the label {name[:80]!r}, expected the name of a CORINE class (43 or 19 classes)")
    return number


@lru_cache(maxsize=4)
def _corine_words(classes: int) -> dict[str, int]:
    names = corine_names(classes)
    found: dict[str, int] = {}
    for code, name, group in facts()["clc"]:
        if code in facts()["clc_absent"]:
            continue
        key = name if classes == 43 else group
        found[name.lower()] = names.index(key) if key in names else IGNORED
        if classes == 19 and group:
            found.setdefault(group.lower(), names.index(group))
    return found


class Codes:
    """Stored codes of pixel labels and the class numbers that they become.

    Parameters
    ----------
    table : mapping of int to int
        Code to number; `IGNORED` for codes that are right but not counted.
    classes : int
        Number of classes; ignored pixels become this number.
    open : bool
        Codes outside of the table are ignored; else they are out of range.
    """

    def __init__(self, table: dict[int, int], classes: int, *, open: bool = False) -> None:
        order = sorted(table)
        self.codes = np.array(order, dtype=np.int64)
        self.numbers = np.array([table[code] for code in order], dtype=np.int64)
        self.numbers[self.numbers == IGNORED] = classes
        self.classes, self.open = classes, open

    def numbers_of(self, stored: np.ndarray, where: str) -> np.ndarray:
        """Class numbers, int64, of stored codes (y, x).

        Raises
        ------
        BadInput
            Fractions, or codes out of range.
        """
        whole = np.where(np.isfinite(stored), stored, 0) if stored.dtype.kind == "f" else stored
        codes = whole.astype(np.int64)
        if not np.array_equal(codes, whole):
            raise BadInput(f"{where} holds labels with fractions, expected whole numbers of classes")
        place = np.searchsorted(self.codes, codes).clip(max=self.codes.size - 1)
        known = self.codes[place] == codes
        if not self.open and not known.all():
            wrong = np.unique(codes[~known])
            raise BadInput(
                f"{where} holds the labels {', '.join(str(v) for v in wrong[:5])}{', ..' if wrong.size > 5 else ''}, "
                f"which are out of range: expected {_range(self.codes)}"
            )
        return np.where(known, self.numbers[place], self.classes)


def _range(codes: np.ndarray) -> str:
    if codes.size > 1 and bool(np.all(np.diff(codes) == 1)):
        return f"{codes[0]} to {codes[-1]}"
    return ", ".join(str(code) for code in codes[:20]) + (", .." if codes.size > 20 else "")
