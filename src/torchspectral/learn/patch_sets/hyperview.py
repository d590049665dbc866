"""HyperView of SpectralEarth: soil parameters from arrays of 150 bands, with tables of targets.

``ROOT/<folder>/<id>.npz`` (key ``data``, (band, y, x); ``mask``, where there is one, is True where there is no field) and
CSV files with the columns P, K, Mg and pH beside an id. Fields have all sizes: each is brought to 128 x 128 pixels,
bicubic, corners aligned.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from torchspectral.errors import BadInput, BrokenProduct
from torchspectral.io.safety import check_scene, read_text, safe_zip_members
from torchspectral.learn.patch_sets.entries import Entry, Probed, Walk
from torchspectral.learn.patch_sets.facts import facts
from torchspectral.learn.patch_sets.index import Index
from torchspectral.learn.patch_sets.layout import Layout
from torchspectral.learn.patch_sets.names import SplitLists, part_of
from torchspectral.learn.patch_sets.rasters import Bands, Cut, unknown_bands

SIDE = 128
IDS = ("sample_index", "id", "index", "file", "filename", "image", "name")
FOLDERS = ("hyperview", "train_data", "images", "data", "intuition1")
TARGETS: tuple[str, ...] = tuple(next(s for s in facts()["spectralearth"] if s["name"] == "hyperview")["targets"])


class HyperView(Layout):
    """HyperView: regression of P, K, Mg and pH."""

    name: ClassVar[str] = "hyperview"
    title: ClassVar[str] = "HyperView"
    licence: ClassVar[str] = "that of the HYPERVIEW challenge (KP Labs, ESA)"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.labels = {"kind": "regression", "classes": [], "ignore": None, "targets": list(TARGETS)}

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """A table with the four targets, and .npz files."""
        tables = any(_columns(p) for p in sorted(root.glob("*.csv"))[:8])
        return tables and any(next((root / f).glob("*.npz"), None) is not None for f in (*FOLDERS, "."))

    def entries(self, walk: Walk) -> Iterator[tuple[Entry, float]]:
        """Arrays that the tables have targets for, in the order of their names."""
        folders = set(walk.folders(""))
        targets: dict[str, tuple[tuple[float, ...], str]] = {}
        for file in list(walk.files("", ".csv")):
            if _columns(self.root / file.path):
                part = part_of(re.split(r"[-_]", Path(file.name).stem)[0])
                targets |= _targets(walk.note(file.path), part)
        splits = SplitLists(walk)
        folder = next((f for f in FOLDERS if f in folders), "")
        files = sorted(walk.files(folder, ".npz"), key=lambda f: (len(f.name), f.name))
        without = 0
        for number, file in enumerate(files):
            name = Path(file.name).stem
            if name not in targets:
                without += 1
                continue
            values, part = targets[name]
            part = splits.part(name) or ("" if splits.parts else part)
            yield Entry(file.path, file.size, file.time, name, part=part, targets=values), (number + 1) / len(files)
        self.notes += splits.note(len(files) - without)
        if without:
            self.notes.append(f"{without} arrays have no targets and are left out")

    def probe(self, entry: Entry) -> Probed:
        """Shape and type from the array's header."""
        shape, dtype = _header(self.root / entry.path)
        return Probed(shape[0], SIDE, SIDE, dtype, f"{shape[0]}|{dtype}")

    def describe(self, path: str, bands: int, dtype: str) -> Bands:
        """Stored numbers of unknown bands."""
        return unknown_bands(bands)

    def read(self, index: Index, row: int, cut: Cut | None = None, later: bool = False) -> np.ndarray:
        """The field at 128 x 128 pixels, float32."""
        path = self.root / index.path(row)
        _header(path)
        try:
            with np.load(path, allow_pickle=False) as stored:
                values = np.asarray(stored["data"], dtype=np.float32)
                gone = np.asarray(stored["mask"], dtype=bool) if "mask" in stored.files else None
        except (ValueError, OSError, KeyError, EOFError) as error:
            raise BrokenProduct(f"{path.name} cannot be read: {str(error)[:120]}") from None
        if gone is not None and gone.shape == values.shape and not gone.all():
            seen = np.where(gone, np.nan, values)
            values = np.where(gone, np.nanmean(seen, axis=(1, 2), keepdims=True), values)
        out = _resized(np.nan_to_num(values))
        return out if cut is None else out[:, cut[0], cut[1]]


def _resized(values: np.ndarray) -> np.ndarray:
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(values))[None]
    resized = torch.nn.functional.interpolate(tensor, (SIDE, SIDE), mode="bicubic", align_corners=True)
    return np.asarray(resized[0].numpy())


def _header(path: Path) -> tuple[tuple[int, ...], str]:
    """Shape and type of ``data``, without its values."""
    import zipfile

    safe_zip_members(path)
    try:
        with zipfile.ZipFile(path) as archive, archive.open("data.npy") as file:
            version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
            read: Any = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(file)
    except (KeyError, ValueError, OSError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise BrokenProduct(f"{path.name} holds no array 'data': {str(error)[:120]}") from None
    if len(shape) != 3 or dtype.kind not in "iuf":
        raise BrokenProduct(f"{path.name} holds {dtype} of shape {shape}, expected numbers (band, y, x)")
    check_scene(shape, dtype, path)
    return shape, str(dtype)


def _columns(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            words = {w.strip().strip('"') for w in file.readline(4096).split(",")}
    except OSError:
        return False
    return set(TARGETS) <= {("P" if w == "P2O5" else w) for w in words}


def _targets(path: Path, part: str) -> dict[str, tuple[tuple[float, ...], str]]:
    rows = list(csv.DictReader(io.StringIO(read_text(path))))
    names = list(rows[0]) if rows else []
    key = next((name for name in names if name.strip().lower() in IDS), "")
    found = {}
    for number, row in enumerate(rows):
        try:
            values = tuple(float(row.get(t) or row["P2O5" if t == "P" else t]) for t in TARGETS)
        except (KeyError, ValueError, TypeError):
            values = (np.nan,)
        if not np.isfinite(values).all():
            raise BadInput(f"{path.name}, line {number + 2}: expected numbers for {', '.join(TARGETS)}")
        name = Path(str(row[key])).stem if key else str(number)
        found[name] = (values, part)
    return found
