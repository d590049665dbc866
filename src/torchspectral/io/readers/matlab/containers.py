"""Cells of text and structs of numbers and text in MATLAB files; objects are never loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.errors import TooLarge
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.matlab.elements import elements
from torchspectral.io.readers.matlab.files import Variable, is_v73, open_v73
from torchspectral.io.readers.matlab.nested import read_nested
from torchspectral.io.safety import human, limits

Value = np.ndarray | str
_MOST_ENTRIES = 10_000


def texts(path: Path, variable: Variable) -> list[str]:
    """The entries of a cell array of text; [] where it holds anything else.

    Raises
    ------
    BrokenProduct, TooLarge
    """
    if variable.kind != "cell" or not 0 < int(np.prod(variable.shape, dtype=object)) <= _MOST_ENTRIES:
        return []
    if is_v73(path):
        file = Handle(open_v73, path).get()
        stored = file[variable.name]
        if stored.dtype.kind != "O":
            return []
        found: list[Value | None] = [
            _chars(file[ref]) if ref else None for ref in stored[()].transpose().reshape(-1, order="F")
        ]
    else:
        loaded = read_nested(path, elements(path)[variable.name])
        found = loaded if isinstance(loaded, list) else []
    return [str(entry) for entry in found] if all(isinstance(entry, str) for entry in found) else []


def structs(path: Path, variable: Variable) -> list[dict[str, Value]]:
    """The entries of a struct array, each as its fields of numbers and text; other fields are left out.

    v7.3 keeps a single struct as a group; arrays of structs of that version are not read: [].

    Raises
    ------
    BrokenProduct, TooLarge
    """
    if variable.kind != "struct":
        return []
    if is_v73(path):
        return _group(path, variable.name)
    loaded = read_nested(path, elements(path)[variable.name])
    if not isinstance(loaded, list) or len(loaded) > _MOST_ENTRIES:
        return []
    return [{name: value for name, value in entry.items() if isinstance(value, (np.ndarray, str))} for entry in loaded]


def _group(path: Path, name: str) -> list[dict[str, Value]]:
    import h5py

    group = Handle(open_v73, path).get()[name]
    if not isinstance(group, h5py.Group):
        return []
    fields: dict[str, Value] = {}
    total = 0
    for key in list(group)[:_MOST_ENTRIES]:
        item = group.get(key)
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "iuf":
            continue
        total += item.size * item.dtype.itemsize
        if total > limits().text_bytes:
            raise TooLarge(f"{path.name}: {name} has {human(total)} and more, more than a struct may have")
        text = _chars(item)
        fields[str(key)] = text if text is not None else np.asarray(item[()]).transpose()
    return [fields]


def _chars(item: Any) -> str | None:
    """Text of an HDF5 dataset of class char."""
    kind = item.attrs.get("MATLAB_class", b"")
    kind = kind.decode("latin-1") if isinstance(kind, bytes) else str(kind)
    if kind != "char" or item.size > _MOST_ENTRIES:
        return None
    return "".join(chr(int(c)) for c in np.asarray(item[()]).transpose().reshape(-1)).strip()


def envi_header(path: Path, known: dict[str, Variable], bands: int) -> dict[str, Any]:
    """What a struct with the fields of an ENVI header adds: ``fwhm`` [nm], ``correction_factors``, ``map_info``."""
    for variable in known.values():
        if variable.kind != "struct" or variable.shape not in ((1, 1), ()):
            continue
        for entry in structs(path, variable):
            if not {"interleave", "data_type", "map_info"} & set(entry):
                continue
            found: dict[str, Any] = {}
            width = _list(entry.get("fwhm"))
            if width.size == bands:
                found["fwhm"] = width * (1e3 if str(entry.get("wavelength_units", "")).lower().startswith("mic") else 1)
            factors = _list(entry.get("correction_factors"))
            if factors.size == bands:
                found["correction_factors"] = factors
            if isinstance(entry.get("map_info"), str):
                found["map_info"] = entry["map_info"]
            return found
    return {}


def _list(value: Any) -> np.ndarray:
    """Numbers of an array, or of text in braces; empty where there are none."""
    if isinstance(value, np.ndarray):
        return value.reshape(-1).astype(np.float64)
    try:
        return np.array([float(v) for v in str(value or "").strip("{} \n").split(",") if v.strip()])
    except ValueError:
        return np.array([])
