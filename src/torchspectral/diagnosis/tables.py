"""Embeddings from files without pixels: .npy, .npz and .csv, and labels from such."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from torchspectral.diagnosis.embedded import Embedded
from torchspectral.errors import BadInput, BrokenProduct, ProductNotFound, TooLarge, UnknownName, UnsafeInput, closest
from torchspectral.io.safety import human, safe_zip_members

VALUES = ("embeddings", "embedding", "features", "x", "z")
LABELS = ("labels", "label", "y", "class")
SPECTRA = ("spectra", "input", "inputs")
_PLACES = (
    "row", "col", "line", "column", "sample", "x", "y", "lon", "lat", "longitude", "latitude", "easting", "northing",
    "id", "index", "fid", "group", "scene",
)  # fmt: skip
LARGEST = 2 << 30


def read_table(file: Path, *, field: str | None = None) -> Embedded:
    """Embeddings of a table.

    Parameters
    ----------
    file : Path
        ``.npy`` (samples, dimensions); ``.npz`` with `embeddings` (or a single array), and if it has them `labels`,
        `spectra`, `groups`, `row`, `col`; ``.csv`` with a column for each dimension, and if it has them a column of
        classes and columns of places (row, col, lon, id, ..).
    field : str, optional
        Which array or column holds the classes.

    Raises
    ------
    ProductNotFound, BrokenProduct, UnsafeInput, UnknownName, TooLarge
    BadInput
        No array or columns of embeddings.
    """
    if not file.is_file():
        raise ProductNotFound(f"{file} does not exist: expected embeddings (.npy, .npz, .csv, or a layer file)")
    if file.suffix.lower() in (".csv", ".tsv"):
        return _csv(file, field)
    arrays = read_arrays(file)
    name = next((n for n in VALUES if n in arrays), None)
    if name is None and len(arrays) == 1:
        name = next(iter(arrays))
    if name is None:
        raise BadInput(f"{file.name} holds {', '.join(arrays) or 'nothing'}, expected an array named {VALUES[0]}")
    values = arrays[name]
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise BadInput(f"{file.name}: {name} has shape {values.shape} ({values.dtype}), expected (sample, dimension)")
    n = values.shape[0]
    if field is not None and field not in arrays:
        raise UnknownName(f"{file.name} has no array {field!r}: {closest(field, list(arrays))}")
    labels = arrays.get(field) if field else next((arrays[k] for k in LABELS if k in arrays), None)
    spectra = next((arrays[k] for k in SPECTRA if k in arrays), None)
    places: dict[str, Any] = {k: arrays[k] for k in ("scene", "row", "col") if k in arrays}
    groups = arrays.get("groups")
    beside: dict[str, Any] = {"labels": labels, "spectra": spectra, "groups": groups, **places}
    for what, array in beside.items():
        if array is not None and len(array) != n:
            raise BadInput(f"{file.name} has {len(array)} {what} for {n} embeddings, expected one for each")
    found = Embedded(file.name, values.astype(np.float64), pd.DataFrame(places, index=range(n)), groups=groups)
    if spectra is not None and spectra.ndim == 2:
        found.spectra = spectra.astype(np.float64)
    if "first" in arrays and arrays["first"].shape == values.shape:
        found.first = arrays["first"].astype(np.float64)
    return with_labels(found, labels) if labels is not None else found


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Arrays of a .npy or .npz file by name; pickled objects are refused.

    Raises
    ------
    BrokenProduct, UnsafeInput, TooLarge
    """
    if file.stat().st_size > LARGEST:
        raise BrokenProduct(f"{file.name} has {human(file.stat().st_size)}, expected at most {human(LARGEST)}")
    with file.open("rb") as opened:
        start = opened.read(6)
    try:
        if start[:2] == b"PK":
            unpacked = sum(member.file_size for member in safe_zip_members(file))
            if unpacked > LARGEST:
                raise TooLarge(f"{file.name} unpacks to {human(unpacked)}, expected at most {human(LARGEST)}")
        elif start != b"\x93NUMPY":
            raise BrokenProduct(f"{file.name} is no NumPy file, though its name says so")
        loaded: Any = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"embeddings": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except ValueError as error:
        if "pickle" in str(error):
            raise UnsafeInput(f"{file.name} holds pickled objects, which can run code: save plain arrays") from None
        raise BrokenProduct(f"{file.name} cannot be read: {' '.join(str(error).split())[:120]}") from None
    except MemoryError:
        raise TooLarge(f"{file.name} asks for more than the memory that is left") from None
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, SyntaxError) as error:
        raise BrokenProduct(f"{file.name} cannot be read: {' '.join(str(error).split())[:120]}") from None


def _csv(file: Path, field: str | None) -> Embedded:
    from torchspectral.io.labels.classes import FIELDS
    from torchspectral.io.libraries.text import columns_of

    table = columns_of(file)
    if field is not None and field not in table.columns:
        raise UnknownName(f"{file.name} has no column {field!r}: {closest(field, list(map(str, table.columns)))}")
    known = {str(c).lower(): c for c in table.columns}
    classes = field or next((known[n] for n in FIELDS if n in known and n not in _PLACES), None)
    others = [c for c in table.columns if c == classes or str(c).lower() in _PLACES]
    columns = [c for c in table.columns if c not in others]
    words = [str(c) for c in columns if table[c].dtype.kind not in "fiu"]
    if words or not columns:
        what = f"words in the column {words[0]}" if words else "no column of numbers"
        raise BadInput(
            f"{file.name} has {what}, expected a column of numbers for each dimension; say which column holds the "
            "classes with field=NAME"
        )
    places = table[[known[n] for n in ("scene", "row", "col") if n in known]].copy()
    found = Embedded(file.name, table[columns].to_numpy(np.float64), places)
    return with_labels(found, table[classes].to_numpy()) if classes is not None else found


def read_label_column(file: Path, field: str | None) -> np.ndarray:
    """Labels of the samples of a table, one a row: .npy, .npz or .csv.

    Raises
    ------
    ProductNotFound, BrokenProduct, UnsafeInput, UnknownName, BadInput
    """
    if not file.is_file():
        raise ProductNotFound(f"{file} does not exist: expected labels, one for each embedding (.npy, .npz, .csv)")
    suffix = file.suffix.lower()
    if suffix in (".csv", ".tsv"):
        from torchspectral.io.labels.classes import class_field
        from torchspectral.io.libraries.text import columns_of

        table = columns_of(file)
        return table[class_field([str(c) for c in table.columns], field, file.name)].to_numpy()
    if suffix not in (".npy", ".npz"):
        raise BadInput(
            f"{file.name} lies on the ground and these embeddings do not: give labels in the order of the samples "
            "(.npy, .npz or .csv), or embeddings as a georeferenced layer file"
        )
    arrays = read_arrays(file)
    if field is not None and field not in arrays:
        raise UnknownName(f"{file.name} has no array {field!r}: {closest(field, list(arrays))}")
    name = field or next((k for k in LABELS if k in arrays), next(iter(arrays), None))
    if name is None:
        raise BadInput(f"{file.name} holds no array, expected labels")
    return arrays[name]


def with_labels(found: Embedded, labels: np.ndarray) -> Embedded:
    """Add labels, one for each sample: whole numbers from 0 (below: unlabelled), or names.

    Raises
    ------
    BadInput
        Another number of them, or fractions.
    """
    labels = np.asarray(labels).reshape(-1) if np.ndim(labels) == 2 and np.shape(labels)[1] == 1 else np.asarray(labels)
    if labels.shape != (found.values.shape[0],):
        raise BadInput(
            f"got labels of shape {labels.shape} for {found.values.shape[0]} embeddings, expected one for each"
        )
    if labels.dtype.kind in "fiub":
        numbers = labels.astype(np.float64)
        gone = ~np.isfinite(numbers) | (numbers < 0)
        if (numbers[~gone] != np.round(numbers[~gone])).any():
            raise BadInput("got labels with fractions, expected whole numbers or names of classes")
        # Classes of tables often begin at 0, where those of maps keep it for "unlabelled".
        names = np.unique(numbers[~gone])
        found.labels = np.where(gone, 0, np.searchsorted(names, numbers) + 1).astype(np.int64)
        found.class_names = ["unlabelled", *(f"{v:g}" for v in names)]
        return found
    text = np.array(["" if v is None or v != v else str(v).strip() for v in labels.tolist()])
    words = [w for w in np.unique(text) if w]
    found.labels = np.array([words.index(w) + 1 if w else 0 for w in text], dtype=np.int64)
    found.class_names = ["unlabelled", *map(str, words)]
    return found
