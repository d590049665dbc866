"""Spectra in MATLAB files: endmembers, libraries, signatures."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from torchspectral.io.readers.matlab.containers import structs, texts
from torchspectral.io.readers.matlab.files import Variable, small

ENDMEMBERS = ("M", "E", "endmembers", "M0", "M_VCA", "M_true", "E_true", "EM", "GT_endmembers", "W1")
"""Variables that hold endmembers, those of the truth first."""

NAMES = ("cood", "names", "material_names", "materials", "label_names", "endmember_names")
_MOST = 64
_USGS_FILL = -1e30
_VALUES = ("reflectance", "spectra", "spectrum", "data", "values")
_CENTRES = ("wavelengths", "wavelength", "wl", "lambda")


@dataclass
class Spectra:
    """Values (spectrum, band), their names, centres as stored (empty where the file has none), lines for the history,
    and the quantity where the file names it.
    """

    values: np.ndarray
    names: list[str]
    wavelength: np.ndarray = field(default_factory=lambda: np.empty(0))
    notes: list[str] = field(default_factory=list)
    quantity: str = ""


def find_spectra(path: Path, known: dict[str, Variable]) -> Spectra | None:
    """The spectra of a file that holds nothing else: a library, bundles, signatures or endmembers."""
    finders: tuple[Callable[[Path, dict[str, Variable]], Spectra | None], ...] = (
        _usgs, _bundles, _signatures, _endmembers,
    )  # fmt: skip
    return next((found for find in finders if (found := find(path, known)) is not None), None)


def spectra_of(path: Path, known: dict[str, Variable], key: str, bands: int | None = None) -> Spectra | None:
    """The spectra that the variable `key` holds; None where it holds something else.

    Parameters
    ----------
    bands : int, optional
        Of the cube beside them: vectors and matrices of so many rows (or columns) are spectra.
    """
    variable = known[key]
    if variable.kind == "struct":
        return _signatures(path, {key: variable})
    if not variable.numeric or len(variable.shape) != 2:
        return None
    rows, cols = variable.shape
    if key in ENDMEMBERS or (bands is not None and bands in (rows, cols) and min(rows, cols) <= _MOST):
        values = small(path, key)
        if bands is not None and bands not in (rows, cols):
            return None
        upright = rows == bands if bands is not None else rows > cols
        values = values.T if upright else values
        return Spectra(values, names_for(path, known, len(values)) or _numbered(key, len(values)))
    return None


def names_for(path: Path, known: dict[str, Variable], count: int) -> list[str]:
    """Names of `count` materials that the file has; [] where it has none."""
    for name in NAMES:
        variable = known.get(name)
        if variable is not None and variable.kind == "cell" and int(np.prod(variable.shape)) == count:
            found = texts(path, variable)
            if found:
                return [re.sub(r"^\d+\s*[-_.:]\s*", "", text) for text in found]
    return []


def _endmembers(path: Path, known: dict[str, Variable]) -> Spectra | None:
    for name in ENDMEMBERS:
        variable = known.get(name)
        fits = variable is not None and len(variable.shape) == 2 and not variable.vector
        if variable is not None and fits and min(variable.shape) <= _MOST and max(variable.shape) > min(variable.shape):
            return spectra_of(path, known, name)
    return None


def _bundles(path: Path, known: dict[str, Variable]) -> Spectra | None:
    """Matrices lib1, lib2, ... of one material each."""
    parts = sorted((n for n in known if re.fullmatch(r"lib\d+", n)), key=lambda n: int(n[3:]))
    shapes = [known[n].shape for n in parts]
    if not parts or any(
        len(s) != 2 or s[0] != shapes[0][0] or not known[n].numeric for n, s in zip(parts, shapes, strict=True)
    ):
        return None
    materials = names_for(path, known, len(parts)) or parts
    names = [f"{m} {k + 1}" for m, shape in zip(materials, shapes, strict=True) for k in range(shape[1])]
    values = np.concatenate([small(path, n).T for n in parts])
    return Spectra(values, names, notes=[f"{len(parts)} materials: {', '.join(materials)}"])


def _usgs(path: Path, known: dict[str, Variable]) -> Spectra | None:
    """``datalib`` of the USGS 1995 library: centres [um], widths, channel numbers, then a column a spectrum."""
    variable, titles = known.get("datalib"), known.get("names")
    if variable is None or titles is None or len(variable.shape) != 2 or titles.shape[0] != variable.shape[1]:
        return None
    data, letters = small(path, "datalib"), small(path, "names")
    texts_ = ["".join(chr(int(c)) for c in row if 32 <= int(c) < 127).strip() for row in letters]
    if not texts_[0].lower().startswith("wavelength"):
        return None
    values = data[:, 3:].T
    gone = values < _USGS_FILL
    notes = ["columns 1 to 3 are wavelengths, resolution and channel"]
    if gone.any():
        notes.append(f"{int(gone.sum())} values of -1.23e34 are nodata")
    return Spectra(np.where(gone, np.nan, values), texts_[3:], data[:, 0], notes, "reflectance")


def _signatures(path: Path, known: dict[str, Variable]) -> Spectra | None:
    """An array of structs with a name and a spectrum (or several, a column each)."""
    for variable in known.values():
        values: list[np.ndarray] = []
        names: list[str] = []
        centres: list[np.ndarray] = []
        for n, entry in enumerate(structs(path, variable), start=1):
            low = {key.lower(): value for key, value in entry.items()}
            spectrum = next((low[key] for key in _VALUES if isinstance(low.get(key), np.ndarray)), None)
            if spectrum is None or np.ndim(spectrum) != 2:
                continue
            block = np.asarray(spectrum)
            block = block.reshape(1, -1) if 1 in block.shape else block.T
            title = str(low.get("name", f"spectrum {n}"))
            values.append(block)
            names += [title] if len(block) == 1 else [f"{title} {k + 1}" for k in range(len(block))]
            found = next((low[key] for key in _CENTRES if isinstance(low.get(key), np.ndarray)), None)
            centres += [] if found is None else [np.asarray(found, dtype=np.float64).reshape(-1)]
        if values and len({v.shape[1] for v in values}) == 1:
            same = centres and all(c.size == values[0].shape[1] and np.array_equal(c, centres[0]) for c in centres)
            named = structs(path, variable)[0]
            quantity = "reflectance" if "reflectance" in {key.lower() for key in named} else ""
            return Spectra(np.concatenate(values), names, centres[0] if same else np.empty(0), quantity=quantity)
    return None


def _numbered(key: str, count: int) -> list[str]:
    return [key] if count == 1 else [f"{key} {n + 1}" for n in range(count)]
