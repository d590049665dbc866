"""MATLAB benchmark scenes (.mat, v5 and v7.3): which variable is the cube, and what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from torchspectral.errors import BadCube, MissingMetadata, UnknownName, closest
from torchspectral.geo.grids import place
from torchspectral.io.readers.base import Reader, as_cube, as_layer
from torchspectral.io.readers.facts import Values, band_facts, guess_quantity, read_options
from torchspectral.io.readers.matlab.files import MatArray, Variable, is_v73, small, variables

_THIN = 4
_SIZES = (
    ("nRow", "nCol"),
    ("nrow", "ncol"),
    ("H", "W"),
    ("h", "w"),
    ("rows", "cols"),
    ("nl", "ns"),
    ("height", "width"),
)
_MATRICES = ("Y", "V", "X", "r", "R", "data")
_WAVELENGTHS = (
    "wl", "wavelength", "wavelengths", "wavlength", "wavlengths", "wavelen", "wavlen", "lambda", "lambdas", "wvl",
    "wave", "waves", "centers", "centres", "bandcenters",
)  # fmt: skip
_FLAGS = ("bbl", "good", "goodbands", "good_bands")
_NUMBERS = ("slectbands", "selectbands", "selected_bands", "selectedbands")


@dataclass(frozen=True)
class Scene:
    """The variable that is the cube, and how it lies."""

    variable: Variable
    form: str
    shape: tuple[int, int, int]


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    text = resources.files("torchspectral.io.readers").joinpath("matlab_scenes.yaml").read_text(encoding="utf-8")
    rows = yaml.safe_load(text)
    scenes = {row["key"].lower(): row for row in rows if "key" in row}
    return scenes, {row["classes_of"]: row["names"] for row in rows if "classes_of" in row}


class MatlabReader(Reader):
    """Reader of MATLAB scenes."""

    name = "matlab"
    title = "MATLAB scene (.mat)"
    patterns = ("*.mat",)
    options = ("key", "wavelength", "wavelength_units", "quantity", "scale", "nodata")
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By the first bytes."""
        if not path.is_file():
            return 0.0
        return 0.0 if is_v73(path) is None else 0.85

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open the one cube of the file, or the variable ``key``.

        Raises
        ------
        MissingMetadata
            Several variables could be the cube: the message lists the keys.
        UnknownName
            No variable of that name.
        BadCube, BandMismatch, BrokenProduct
        """
        given = read_options(options)
        known = variables(path)
        scene = find_scene(path, known, options.get("key"))
        bands = scene.shape[0]
        notes = [f"opened {scene.variable.name} of {path.name} (MATLAB)"]
        vectors = _vectors(path, known, bands)
        facts = band_facts(
            bands,
            path.name,
            wavelength=vectors.get("wavelength", ()),
            fwhm=vectors.get("fwhm", ()),
            good=vectors.get("good", ()),
            given=given,
            searched=f"variables named {', '.join(_WAVELENGTHS[:3])}, ... and the option wavelength=",
        )
        if "wavelength" in vectors and "wavelength" not in given:
            notes.append(f"wavelengths taken from variable {vectors['wavelength_name']}")
        array = MatArray(path, scene.variable.name, scene.shape, scene.form)
        values = guess_quantity(
            Values(np.ones(bands), np.zeros(bands), None, "", []), floats=array.stored.kind == "f", given=given
        )
        array.set_meaning(values.scale, values.offset, values.nodata)
        scenes, _ = _table()
        row = scenes.get(scene.variable.name.lower(), {})
        attrs: dict[str, Any] = {"source": [str(path)]}
        if row:
            attrs["sensor"] = row["sensor"]
        if scene.form == "image":
            attrs |= _classes(scene.variable.name)
        if scene.form == "matrix":
            notes.append(f"{scene.variable.name} is (bands, pixels): pixels taken column by column")
        attrs["history"] = [*notes, *facts.notes, *values.notes]
        cube = as_cube(
            array, quantity=values.quantity, raw=raw, attrs=attrs, number=vectors.get("number"), **facts.coords()
        )
        return place(cube, None)

    def layers(self, path: Path) -> list[str]:
        """Other images of the file (label maps, masks, RGB, PAN); ``labels`` also from a ``*_gt.mat`` beside it."""
        return list(self._layers(path))

    def open_layer(self, path: Path, name: str) -> xr.DataArray:
        """One of them, (y, x) or (layer, y, x), with ``class_names`` where the scene is a known one."""
        found = self._layers(path)
        if name not in found:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, list(found))}")
        file, variable = found[name]
        if len(variable.shape) == 2:
            array = MatArray(file, variable.name, (1, *variable.shape), "image", decode=False)
            return place(as_layer(array, name, _classes(variable.name)), None)
        rows, cols, count = variable.shape
        array = MatArray(file, variable.name, (count, rows, cols), "cube", decode=False)
        if count == 1:
            return place(as_layer(array, name), None)
        picture = count >= 3 and (array.stored == np.uint8 or "rgb" in name.lower())
        names = ["red", "green", "blue", "alpha"][:count] if picture else [str(n + 1) for n in range(count)]
        from xarray.core import indexing

        data = xr.Variable(("layer", "y", "x"), indexing.LazilyIndexedArray(array))
        return place(xr.DataArray(data, coords={"layer": names}, name=name), None)

    def _layers(self, path: Path) -> dict[str, tuple[Path, Variable]]:
        known = variables(path)
        try:
            scene = find_scene(path, known, None)
        except (MissingMetadata, BadCube):
            return {}
        found: dict[str, tuple[Path, Variable]] = {}
        rows, cols = scene.shape[1:]
        if scene.form == "image":
            return {"labels": (path, scene.variable)} if _classes(scene.variable.name) else {}
        for name, variable in known.items():
            if not variable.numeric or name == scene.variable.name or variable.vector:
                continue
            size = variable.shape[:2]
            thin = len(variable.shape) == 3 and variable.shape[2] <= _THIN
            if (len(variable.shape) == 2 and (size == (rows, cols) or _finer(size, (rows, cols)))) or thin:
                found[_layer_name(name)] = (path, variable)
        for other in _label_files(path, scene.variable.name):
            for variable in variables(other).values():
                if variable.numeric and variable.shape == (rows, cols) and "labels" not in found:
                    found["labels"] = (other, variable)
        return found


def find_scene(path: Path, known: dict[str, Variable], key: Any) -> Scene:
    """The variable that is the cube; ``key`` names it where there is a choice.

    Raises
    ------
    UnknownName, MissingMetadata, BadCube
    """
    numeric = {n: v for n, v in known.items() if v.numeric and v.shape and min(v.shape) > 0}
    if key is not None:
        if key not in known:
            raise UnknownName(f"{path.name} has no variable {key!r}: {_listing(known)}")
        if key not in numeric or len(known[key].shape) not in (2, 3):
            raise BadCube(
                f"{key} of {path.name} is {known[key].kind} {known[key].shape}, expected a 2-D or 3-D array of numbers"
            )
        return _as_scene(path, numeric[key], known)
    scenes, _ = _table()
    named = [v for n, v in numeric.items() if n.lower() in scenes and len(v.shape) == 3]
    if len(named) == 1:
        return _as_scene(path, named[0], known)
    solid = [v for v in numeric.values() if len(v.shape) == 3]
    cubes = [v for v in solid if v.shape[2] > _THIN]
    if len(cubes) == 1:
        return _as_scene(path, cubes[0], known)
    if len(cubes) > 1:
        raise MissingMetadata(f"{path.name} has several cubes: give key= ({_listing({v.name: v for v in cubes})})")
    matrices = [v for v in numeric.values() if _as_scene(path, v, known).form == "matrix"]
    if matrices:
        order = {name: n for n, name in enumerate(_MATRICES)}
        best = min(matrices, key=lambda v: (order.get(v.name, len(order)), -v.shape[0]))
        return _as_scene(path, best, known)
    if len(solid) == 1:
        return _as_scene(path, solid[0], known)
    images = [v for v in numeric.values() if len(v.shape) == 2 and not v.vector]
    if not solid and len(images) == 1:
        return _as_scene(path, images[0], known)
    if solid or images:
        raise MissingMetadata(
            f"{path.name} has no single cube: give key= ({_listing({v.name: v for v in solid + images})})"
        )
    raise BadCube(f"{path.name} holds no 2-D or 3-D array of numbers: {_listing(known)}")


def _listing(known: dict[str, Variable]) -> str:
    parts = [f"{v.name} {'x'.join(str(n) for n in v.shape)} {v.kind}".strip() for v in list(known.values())[:12]]
    return f"it has {', '.join(parts)}{', ...' if len(known) > 12 else ''}" if parts else "it is empty"


def _as_scene(path: Path, variable: Variable, known: dict[str, Variable]) -> Scene:
    if len(variable.shape) == 3:
        rows, cols, bands = variable.shape
        return Scene(variable, "cube", (bands, rows, cols))
    if len(variable.shape) == 2 and not variable.vector:
        for names in _SIZES:
            sizes = [known.get(name) for name in names]
            if all(s is not None and s.numeric and s.shape == (1, 1) for s in sizes):
                rows, cols = (int(small(path, name).reshape(-1)[0]) for name in names)
                if rows > 0 and cols > 0 and rows * cols == variable.shape[1]:
                    return Scene(variable, "matrix", (variable.shape[0], rows, cols))
    if len(variable.shape) != 2:
        return Scene(variable, "none", (1, 1, 1))
    return Scene(variable, "image", (1, *variable.shape))  # type: ignore[arg-type]


def _vectors(path: Path, known: dict[str, Variable], bands: int) -> dict[str, Any]:
    """Wavelengths, widths, flags and band numbers that the file carries, one value a band each."""
    found: dict[str, Any] = {}
    for name, variable in known.items():
        if not variable.numeric or not variable.vector or int(np.prod(variable.shape)) != bands or bands < 2:
            continue
        low = name.lower()
        role = (
            "wavelength" if low in _WAVELENGTHS or low.endswith(("_wavelengths", "_wavelength", "_wavlen", "_wl"))
            else "fwhm" if low == "fwhm"
            else "good" if low in _FLAGS
            else "number" if low in _NUMBERS
            else ""
        )  # fmt: skip
        if role and role not in found:
            values = small(path, name).reshape(-1)
            found[role] = values.astype(np.int64) if role == "number" else values.astype(np.float64)
            if role == "wavelength":
                found["wavelength_name"] = name
    return found


def _finer(size: tuple[int, ...], coarse: tuple[int, int]) -> bool:
    ratios = [a / b for a, b in zip(size, coarse, strict=True)]
    return ratios[0] == ratios[1] and ratios[0] >= 2 and ratios[0].is_integer()


def _layer_name(name: str) -> str:
    low = name.lower()
    if low == "pan" or low.endswith("_pan") or low.startswith("pan_"):
        return "pan"
    return "labels" if low.endswith("_gt") or low in ("gt", "labels", "groundtruth", "ground_truth") else name


def _label_files(path: Path, key: str) -> list[Path]:
    stem = path.stem.removesuffix("_corrected")
    names = {f"{stem}_gt.mat", f"{key.removesuffix('_corrected')}_gt.mat"}
    return [path.parent / n for n in sorted(names) if (path.parent / n).is_file() and (path.parent / n) != path]


def _classes(name: str) -> dict[str, Any]:
    scenes, classes = _table()
    for row in scenes.values():
        if row["labels"].lower() == name.lower() and row.get("classes"):
            return {"class_names": list(classes[row["classes"]])}
    return {}
