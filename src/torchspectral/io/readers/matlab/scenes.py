"""Which variable of a MATLAB file is the cube, and what is known of benchmark scenes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from torchspectral.errors import BadCube, BadSettings, MissingMetadata, UnknownName, UnsafeInput, closest
from torchspectral.io.readers.matlab.files import Variable, small

THIN = 4
_SIZES = (
    ("nRow", "nCol"),
    ("nrow", "ncol"),
    ("H", "W"),
    ("h", "w"),
    ("rows", "cols"),
    ("lines", "cols"),
    ("nl", "ns"),
    ("height", "width"),
)
_MATRICES = ("Y", "V", "X", "r", "R", "data")
ORDERS = ("columns", "rows")
_HYSUPP = {"E", "A", "H", "W", "p", "L", "N"}
TRUTHS = ("A", "A_true", "S_GT", "abundances", "abundance", "A0", "S", "GT_abundances")
"""Variables that hold abundances, those of the truth first."""
_OBJECTS = {"object", "opaque", "function"}


@dataclass(frozen=True)
class Scene:
    """The variable that is the cube, and how it lies.

    `form` is "cube" (rows, cols, bands), "matrix" (bands, pixels column by column) or "image" (rows, cols); `shape` is
    (bands, rows, cols); `note` says where the size came from, where the file does not state it. A matrix may be
    `turned`, (pixels, bands), and its pixels run down the columns or along the rows of the image (`order`).
    """

    variable: Variable
    form: str
    shape: tuple[int, int, int]
    note: str = ""
    order: str = "columns"
    turned: bool = False


@lru_cache(maxsize=1)
def table() -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]], dict[str, list[str]]]:
    """Known scenes by lower-case key, known matrices, class names by set."""
    text = resources.files("torchspectral.io.readers").joinpath("matlab_scenes.yaml").read_text(encoding="utf-8")
    rows = yaml.safe_load(text)
    return (
        {row["key"].lower(): row for row in rows if "key" in row},
        [row for row in rows if "pixels" in row],
        {row["classes_of"]: row["names"] for row in rows if "classes_of" in row},
    )


def classes_of(name: str) -> dict[str, Any]:
    """``class_names`` of a label map by the name of its variable."""
    scenes, _, classes = table()
    low = name.lower()
    for row in scenes.values():
        if low in (label.lower() for label in row["labels"]) and row.get("classes"):
            return {"class_names": list(classes[row["classes"]])}
    return {}


def anomaly_classes() -> dict[str, Any]:
    """``class_names`` of a map of anomalies."""
    return {"class_names": list(table()[2]["anomaly"])}


def size_option(value: Any) -> tuple[int, int] | None:
    """The option ``size``: rows and columns of a matrix of pixels.

    Raises
    ------
    BadSettings
    """
    if value is None:
        return None
    try:
        rows, cols = (int(n) for n in value)
    except (TypeError, ValueError):
        raise BadSettings(f"got size={str(value)[:40]!r}, expected (rows, columns)") from None
    if rows < 1 or cols < 1:
        raise BadSettings(f"got size=({rows}, {cols}), expected (rows, columns), at least 1 each")
    return rows, cols


def order_option(value: Any) -> str | None:
    """The option ``order``: how the pixels of a matrix run.

    Raises
    ------
    BadSettings
    """
    if value is None or value in ORDERS:
        return value
    raise BadSettings(f"got order={str(value)[:40]!r}, expected columns (as MATLAB counts) or rows")


def known_scene(name: Any) -> dict[str, Any]:
    """A published scene by its name: size, sensor and removed bands or wavelengths, materials.

    Raises
    ------
    UnknownName
    """
    rows = {str(row["pixels"]).lower(): row for row in table()[1]}
    if str(name).lower() not in rows:
        raise UnknownName(
            f"no published scene {str(name)!r}: {closest(str(name), [str(r['pixels']) for r in rows.values()])}"
        )
    return rows[str(name).lower()]


def identify(shape: tuple[int, int, int], number: Any = None) -> dict[str, Any] | None:
    """The published scene of a size (bands, rows, cols) and, where known, of these band numbers (from 1)."""
    for row in table()[1]:
        rows, cols, bands = row["size"]
        if tuple(shape) != (bands, rows, cols):
            continue
        kept = kept_bands(row)
        if number is None or kept is None or np.array_equal(np.asarray(number).reshape(-1), kept):
            return row
    return None


def kept_bands(row: dict[str, Any]) -> np.ndarray | None:
    """Band numbers (from 1) that a published scene kept of its sensor's; None where that is not known."""
    if "removed" not in row:
        return None
    gone: set[int] = set()
    for part in filter(None, str(row["removed"]).split(",")):
        first, _, last = part.strip().partition("-")
        gone |= set(range(int(first), int(last or first) + 1))
    return np.array([n for n in range(1, int(row["of"]) + 1) if n not in gone])


def wavelengths_of(row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, str]:
    """Centres and widths [nm] of a published scene, its band numbers, and a line for the history."""
    if "wavelengths" in row:
        first, last = row["wavelengths"]
        centres = np.linspace(first, last, int(row["size"][2]))
        said = f"wavelengths of {row['pixels']} as published: {first:g} to {last:g} nm in even steps"
        return centres, np.full(centres.size, np.nan), None, said
    from torchspectral.sensors import get

    sensor, kept = get(row["sensor"]), kept_bands(row)
    assert kept is not None
    without = f" without bands {row['removed']}" if row["removed"] else ""
    said = f"wavelengths of {row['pixels']}: those of {sensor.name}{without}; flights differ by some nm"
    return sensor.wavelength[kept - 1], sensor.fwhm[kept - 1], kept, said


def find_scene(
    path: Path,
    known: dict[str, Variable],
    key: Any,
    size: tuple[int, int] | None = None,
    order: str | None = None,
) -> Scene:
    """The variable that is the cube; ``key`` names it where there is a choice, ``order`` forces how pixels run.

    Raises
    ------
    UnknownName, MissingMetadata, BadCube, UnsafeInput
    """
    found = _find(path, known, key, size)
    if found.form != "matrix":
        return found
    if order is None and known.keys() >= _HYSUPP:
        return replace(
            found, order="rows", note=f"{found.note} pixels run along the rows as HySUPP stores them".strip()
        )
    return replace(found, order=order or "columns")


def _find(path: Path, known: dict[str, Variable], key: Any, size: tuple[int, int] | None) -> Scene:
    numeric = {n: v for n, v in known.items() if v.numeric and v.shape and min(v.shape) > 0}
    if key is not None:
        if key not in known:
            raise UnknownName(f"{path.name} has no variable {key!r}: {listing(known)}")
        if key not in numeric or len(known[key].shape) not in (2, 3):
            _refuse_objects(path, {key: known[key]})
            raise BadCube(
                f"{key} of {path.name} is {known[key].kind} {known[key].shape}, expected a 2-D or 3-D array of numbers"
            )
        return _as_scene(path, numeric[key], known, size)
    scenes, _, _ = table()
    named = [v for n, v in numeric.items() if n.lower() in scenes and len(v.shape) == 3]
    if len(named) == 1:
        return _as_scene(path, named[0], known, size)
    solid = [v for v in numeric.values() if len(v.shape) == 3]
    # Abundances are images too: beside anything else that may be the cube they are its truth.
    others = [
        v
        for v in numeric.values()
        if v.name not in TRUTHS and (v in solid or _as_scene(path, v, known, size).form == "matrix")
    ]
    if others:
        solid = [v for v in solid if v in others]
        numeric = {n: v for n, v in numeric.items() if n not in TRUTHS}
    cubes = [v for v in solid if v.shape[2] > THIN]
    if len(cubes) == 1:
        return _as_scene(path, cubes[0], known, size)
    if len(cubes) > 1:
        raise MissingMetadata(f"{path.name} has several cubes: give key= ({listing({v.name: v for v in cubes})})")
    read = [_as_scene(path, v, known, size) for v in numeric.values()]
    matrices = [s for s in read if s.form == "matrix"]
    if matrices:
        order = {name: n for n, name in enumerate(_MATRICES)}
        return min(matrices, key=lambda s: (order.get(s.variable.name, len(order)), -s.shape[0]))
    if len(solid) == 1:
        return _as_scene(path, solid[0], known, size)
    images = [v for v in numeric.values() if len(v.shape) == 2 and not v.vector]
    if not solid and len(images) == 1:
        return _as_scene(path, images[0], known, size)
    if solid or images:
        raise MissingMetadata(
            f"{path.name} has no single cube: give key= ({listing({v.name: v for v in solid + images})})"
        )
    _refuse_objects(path, known)
    raise BadCube(f"{path.name} holds no 2-D or 3-D array of numbers: {listing(known)}")


def _refuse_objects(path: Path, known: dict[str, Variable]) -> None:
    found = [v for v in known.values() if v.kind in _OBJECTS]
    if found:
        raise UnsafeInput(
            f"{path.name}: {found[0].name} is a MATLAB {found[0].kind}, which is never loaded: save it as a plain array"
        )


def listing(known: dict[str, Variable]) -> str:
    """Sentence part with the variables of a file."""
    parts = [f"{v.name} {'x'.join(str(n) for n in v.shape)} {v.kind}".strip() for v in list(known.values())[:12]]
    return f"it has {', '.join(parts)}{', ...' if len(known) > 12 else ''}" if parts else "it is empty"


def _as_scene(path: Path, variable: Variable, known: dict[str, Variable], size: tuple[int, int] | None) -> Scene:
    if len(variable.shape) == 3:
        rows, cols, bands = variable.shape
        return Scene(variable, "cube", (bands, rows, cols))
    if len(variable.shape) != 2:
        return Scene(variable, "none", (1, 1, 1))
    if not variable.vector:
        for turned in (False, True):
            found = _as_matrix(path, variable, known, size, turned)
            if found is not None:
                return found
    return Scene(variable, "image", (1, *variable.shape))  # type: ignore[arg-type]


def _as_matrix(
    path: Path, variable: Variable, known: dict[str, Variable], size: tuple[int, int] | None, turned: bool
) -> Scene | None:
    """A matrix of pixels, where the file, the caller or a published scene says how many rows and columns they are."""
    bands, pixels = variable.shape[::-1] if turned else variable.shape
    if size is not None and size[0] * size[1] == pixels:
        return Scene(variable, "matrix", (bands, *size), f"{size[0]} x {size[1]} pixels, as given", turned=turned)
    for names in _SIZES:
        sizes = [known.get(name) for name in names]
        if all(s is not None and s.numeric and s.shape == (1, 1) for s in sizes):
            rows, cols = (int(small(path, name).reshape(-1)[0]) for name in names)
            if rows > 0 and cols > 0 and rows * cols == pixels:
                return Scene(variable, "matrix", (bands, rows, cols), turned=turned)
    for row in table()[1]:
        rows, cols, count = row["size"]
        if size is None and variable.name in _MATRICES and (bands, pixels) == (count, rows * cols):
            note = f"the file does not state its size: {rows} x {cols} pixels as the scene {row['pixels']} has them"
            return Scene(variable, "matrix", (bands, rows, cols), note, turned=turned)
    return None
