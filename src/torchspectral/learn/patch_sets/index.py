"""The index of a patch set: columns in one file, made once and read back in seconds whatever the number of patches."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from torchspectral.errors import BadInput, BrokenProduct, OutputFailed, TorchspectralError
from torchspectral.io.safety import safe_zip_members
from torchspectral.learn.patch_sets.entries import HIDDEN, PARTS, Entry, Probed

VERSION = 1
FILE, JOURNAL = "index.npz", "index.partial.jsonl"
BROKEN = -1
"""Kind of patches that cannot be opened."""
_COLUMNS = {
    "path": ("S", 1), "mask": ("S", 1), "later": ("S", 1), "size": ("i", 1), "time": ("i", 1), "place": ("i", 1),
    "date": ("i", 1), "part": ("i", 1), "kind": ("i", 1), "height": ("i", 1), "width": ("i", 1), "box": ("f", 2),
    "crs": ("i", 1), "window": ("i", 2), "label": ("i", 1), "labels": ("u", 2), "targets": ("f", 2),
    "places": ("S", 1), "stamped": ("S", 1), "stamp": ("i", 1),
}  # fmt: skip


@dataclass
class Index:
    """All patches of a folder.

    Attributes
    ----------
    columns : dict of str to ndarray
        One value a patch: path, mask and later (bytes), size, time, place (into `places`), date, part (into `PARTS`),
        kind (into `kinds`, -1: broken), height, width, box (n, 4), crs (into `crs`), window (n, 4; -1: whole file),
        label, labels (n, classes) and targets (n, values).
    kinds : list of dict
        Key, bands and dtype of each kind of patch.
    crs : list of str
    places : ndarray of bytes
    stamps : dict of str to int
        When each folder and table was changed last.
    broken : dict of str to str
        Path and reason of what cannot be opened.
    facts : dict
        Layout, options, label facts.
    """

    columns: dict[str, np.ndarray]
    kinds: list[dict[str, Any]]
    crs: list[str]
    places: np.ndarray
    stamps: dict[str, int]
    broken: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.columns["kind"].size)

    def path(self, row: int, column: str = "path") -> str:
        """Path of a patch below the root, or of its mask or later date; "" where it has none."""
        return bytes(self.columns[column][row]).decode("utf-8")

    def fingerprint(self) -> str:
        """Changes when files come, go, grow or are written anew."""
        digest = hashlib.sha256()
        for name in ("path", "size", "time", "mask", "part", "label"):
            digest.update(np.ascontiguousarray(self.columns[name]).tobytes())
        return digest.hexdigest()

    def changed(self, root: Path) -> str:
        """Name of a folder or table that was changed since, "" for none."""
        for name, stamp in self.stamps.items():
            try:
                if os.stat(root / name).st_mtime_ns != stamp:  # noqa: PTH116  many of them, and this is twice as fast
                    return name or "."
            except OSError:
                return name or "."
        return ""


def places_for(root: Path) -> tuple[Path, Path]:
    """Where the index of a folder may be: in a hidden folder beside the patches, and in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    cache = (Path(base) if base else Path.home() / ".cache") / "torchspectral" / "patch-sets"
    return root / HIDDEN, cache / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:24]


def folder_for(root: Path) -> Path:
    """The folder to write the index to, made if need be: beside the patches, or in the cache where that is read-only.

    Raises
    ------
    OutputFailed
    """
    for place in places_for(root):
        try:
            place.mkdir(parents=True, exist_ok=True)
            probe = place / ".probe"
            probe.touch()
            probe.unlink()
            return place
        except OSError:
            continue
    raise OutputFailed(f"neither {root} nor the user's cache can be written: the index of the patches has no place")


class Columns:
    """Collects entries into columns."""

    def __init__(self) -> None:
        self.rows: list[Entry] = []
        self.values: dict[str, list[Any]] = {n: [] for n in ("kind", "height", "width", "box", "crs", "place")}
        self.kinds: dict[str, int] = {}
        self.kind_facts: list[dict[str, Any]] = []
        self.crs: dict[str, int] = {}
        self.places: dict[str, int] = {}
        self.broken: dict[str, str] = {}

    def add(self, entry: Entry, found: Probed | str) -> None:
        """Add a patch with what a look into it found, or why it cannot be opened."""
        v = self.values
        self.rows.append(entry)
        v["place"].append(self.places.setdefault(entry.place, len(self.places)))
        if isinstance(found, str):
            self.broken[entry.path] = found
            found, kind = Probed(0, 0, 0, "", ""), BROKEN
        else:
            kind = self.kinds.setdefault(found.key, len(self.kinds))
            if kind == len(self.kind_facts):
                self.kind_facts.append({"key": found.key, "bands": found.bands, "dtype": found.dtype})
        v["kind"].append(kind)
        height, width = entry.window[2:] or (found.height, found.width)
        v["height"].append(height)
        v["width"].append(width)
        v["box"].append(_box(found, entry.window))
        v["crs"].append(self.crs.setdefault(found.crs, len(self.crs)) if found.box else -1)

    def index(self, stamps: Mapping[str, int], facts: Mapping[str, Any]) -> Index:
        """The index of all that was added.

        Raises
        ------
        BadInput
            Labels out of range.
        """
        rows, n = self.rows, len(self.rows)
        classes = len(facts.get("classes") or ())
        labels = np.zeros((n, classes if facts.get("kind") == "multi" else 0), dtype=np.uint8)
        for i, row in enumerate(rows):
            wrong = [k for k in (*row.labels, *([row.label] if row.label != -1 else [])) if not 0 <= k < classes]
            if wrong:
                raise BadInput(
                    f"{row.path} has the label {wrong[0]}, which is out of range: expected 0 to {classes - 1}"
                )
            if labels.shape[1]:
                labels[i, list(row.labels)] = 1
        width = max((len(row.targets) for row in rows), default=0)
        columns = {
            **{name: _text([getattr(row, name) for row in rows]) for name in ("path", "mask", "later")},
            **{name: np.array([getattr(row, name) for row in rows], dtype=np.int64) for name in ("size", "time")},
            **{name: np.array(self.values[name], dtype=np.int32) for name in ("place", "height", "width")},
            "date": np.array([row.date for row in rows], dtype=np.int32),
            "part": np.array([PARTS.index(row.part) for row in rows], dtype=np.int8),
            "kind": np.array(self.values["kind"], dtype=np.int16),
            "crs": np.array(self.values["crs"], dtype=np.int16),
            "box": np.array(self.values["box"], dtype=np.float64).reshape(n, 4),
            "window": np.array([row.window or (-1,) * 4 for row in rows], dtype=np.int32).reshape(n, 4),
            "label": np.array([row.label for row in rows], dtype=np.int32),
            "labels": labels,
            "targets": np.array([row.targets or (np.nan,) * width for row in rows], dtype=np.float32).reshape(n, width),
        }
        return Index(
            columns, self.kind_facts, list(self.crs), _text(list(self.places)), dict(stamps), self.broken, dict(facts)
        )


def _box(found: Probed, window: tuple[int, ...]) -> tuple[float, ...]:
    if not found.box:
        return (np.nan,) * 4
    if not window:
        return found.box
    west, south, east, north = found.box
    row, col, height, width = window
    across, down = (east - west) / found.width, (north - south) / found.height
    return west + col * across, north - (row + height) * down, west + (col + width) * across, north - row * down


def _text(words: Sequence[str]) -> np.ndarray:
    return np.array([word.encode("utf-8") for word in words], dtype=np.bytes_) if words else np.zeros(0, dtype="S1")


def save_index(index: Index, folder: Path) -> None:
    """Write the index under its name once it is complete.

    Raises
    ------
    OutputFailed
    """
    meta = {
        "version": VERSION, "kinds": index.kinds, "crs": index.crs, "broken": index.broken, "facts": index.facts
    }  # fmt: skip
    partial = folder / f".{FILE}.{os.getpid()}"
    arrays = {
        **index.columns,
        "places": index.places,
        "stamped": _text(list(index.stamps)),
        "stamp": np.array(list(index.stamps.values()), dtype=np.int64),
        "meta": np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8),
    }
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        partial.replace(folder / FILE)
    except OSError as error:
        raise OutputFailed(f"the index {folder / FILE} could not be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def load_index(folder: Path) -> Index:
    """Read an index back; nothing in it is trusted.

    Raises
    ------
    BrokenProduct
        Not an index of ours, or of another version: it is built anew then.
    """
    path = folder / FILE
    try:
        safe_zip_members(path)
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        meta = json.loads(arrays.pop("meta").tobytes())
        if meta["version"] != VERSION:
            raise BrokenProduct(f"{path} is an index of another version")
        stamped = [bytes(name).decode("utf-8") for name in arrays.pop("stamped")]
        stamps = dict(zip(stamped, arrays.pop("stamp").tolist(), strict=True))
        found = Index(arrays, meta["kinds"], meta["crs"], arrays.pop("places"), stamps, meta["broken"], meta["facts"])
        _check(found)
    except TorchspectralError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, BadZipFile, MemoryError) as error:
        raise BrokenProduct(f"{path} is no index of patches: {str(error)[:120]}") from None
    return found


def _check(index: Index) -> None:
    n = len(index)
    for name, array in index.columns.items():
        kind, axes = _COLUMNS[name]
        if array.dtype.kind != kind or array.ndim != axes or len(array) != n:
            raise ValueError(f"column {name} has the wrong shape or type")
    c = index.columns
    for name, size in (("place", len(index.places)), ("kind", len(index.kinds)), ("crs", len(index.crs))):
        low = 0 if name == "place" else -1
        if n and not (low <= int(c[name].min()) and int(c[name].max()) < size):
            raise ValueError(f"column {name} points outside")
    if n and not (int(c["part"].min()) >= 0 and int(c["part"].max()) < len(PARTS)):
        raise ValueError("column part points outside")
    names = [c[name] for name in ("path", "mask", "later")]
    for words in names:
        odd = np.char.startswith(words, b"/") | (np.char.find(words, b"..") >= 0) | (np.char.find(words, b"\\") >= 0)
        for word in words[odd]:
            parts = bytes(word).decode("utf-8").split("/")
            if parts[0] == "" or ".." in parts or "\\" in bytes(word).decode("utf-8"):
                raise ValueError("a path leads out of the folder")
