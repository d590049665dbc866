"""GFM-Bench, and any folder with a table of patches: a row a patch, with its files, its part and its label.

``metadata.csv`` or ``.parquet`` at the root: a column of images (``optical_path``, ``image_path``, ``path``, ``image``, ``file``
or ``filename``), and any of ``split``; ``label`` (number or name), ``labels`` (a list), ``mask_path`` or ``label_path``; ``location``,
``date``. Classes are named by ``classes.csv`` (value, name), or counted. No code of the data set is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from torchspectral.errors import BadInput, MissingDependency
from torchspectral.learn.patch_sets.entries import Entry, Walk, join
from torchspectral.learn.patch_sets.facts import IGNORED, Codes
from torchspectral.learn.patch_sets.index import Index
from torchspectral.learn.patch_sets.layout import Layout
from torchspectral.learn.patch_sets.names import date_of, part_of
from torchspectral.learn.patch_sets.rasters import Bands, Cut, describe_raster, read_raster
from torchspectral.learn.patch_sets.spectralearth import read_classes
from torchspectral.learn.patch_sets.tables import TABLES, column, rows_of, words_of

IMAGE = ("optical_path", "image_path", "path", "image", "file", "filename", "file_name")
MASK = ("mask_path", "label_path", "segmentation_path", "mask")
IGNORE = 255


class Tabled(Layout):
    """A folder with a table of its patches, as GFM-Bench's sets are."""

    name: ClassVar[str] = "gfm-bench"
    title: ClassVar[str] = "GFM-Bench, or a folder with metadata.csv"
    licence: ClassVar[str] = "that of each set: see its page"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.table = next((f"metadata{s}" for s in TABLES if (root / f"metadata{s}").is_file()), "")
        names, colours = read_classes(root / "classes.csv") if (root / "classes.csv").is_file() else ([], [])
        self.labels = {"kind": "", "classes": names, "ignore": None, "colours": colours}

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """A table of metadata with a column of images; tables of other things beside scenes are none."""
        table = next((root / f"metadata{s}" for s in TABLES if (root / f"metadata{s}").is_file()), None)
        if table is None:
            return False
        try:
            first = next(iter(rows_of(table)), {})
        except MissingDependency:
            return True
        return column(first, *IMAGE) is not None

    def entries(self, walk: Walk) -> Iterator[tuple[Entry, float]]:
        """Patches in the order of the table."""
        rows = list(rows_of(walk.note(self.table)))
        if not rows:
            raise BadInput(f"{self.table} is empty")
        if column(rows[0], *IMAGE) is None:
            raise BadInput(f"{self.table} has the columns {', '.join(rows[0])}, expected one of {', '.join(IMAGE)}")
        self._kind(rows)
        missing = 0
        for number, row in enumerate(rows):
            path = _inside(column(row, *IMAGE), self.table, number)
            try:
                facts = (walk.root / path).stat()
            except OSError:
                missing += 1
                continue
            mask = column(row, *MASK) if self.labels["kind"] == "pixels" else None
            yield (
                Entry(
                    path,
                    facts.st_size,
                    facts.st_mtime_ns,
                    str(column(row, "location", "place", "scene") or Path(path).stem),
                    date_of(str(column(row, "date", "acquisition_date") or path)),
                    part_of(str(column(row, "split", "part") or "")),
                    _inside(mask, self.table, number) if mask else "",
                    label=self._number(row, number) if self.labels["kind"] == "single" else -1,
                    labels=self._numbers(row, number) if self.labels["kind"] == "multi" else (),
                ),
                (number + 1) / len(rows),
            )
        if missing:
            self.notes.append(f"{missing} patches of {self.table} are not in this folder")

    def _kind(self, rows: list[Mapping[str, Any]]) -> None:
        first = rows[0]
        label = column(first, "label", "class")
        listed = isinstance(label, (list, tuple)) or str(label or "").startswith("[")
        kind = ""
        if column(first, *MASK) is not None and str(column(first, *MASK)).lower().endswith((".tif", ".tiff")):
            kind = "pixels"
        elif column(first, "labels") is not None or listed:
            kind = "multi"
        elif label is not None:
            kind = "single"
        classes = list(self.labels["classes"])
        if not classes and kind in ("single", "multi"):
            words = {w for number, row in enumerate(rows) for w in self._words(row, number)}
            whole = all(w.isdigit() for w in words)
            classes = [str(k) for k in range(max(map(int, words)) + 1)] if whole else sorted(words)
        if kind == "pixels" and not classes:
            raise BadInput(f"{self.root} has masks and no classes.csv: expected one with the columns value and name")
        self.labels = {**self.labels, "kind": kind, "classes": classes}
        if kind == "pixels":
            self.labels["ignore"] = len(classes)

    def _words(self, row: Mapping[str, Any], number: int) -> list[str]:
        value = column(row, "labels", "label", "class")
        return words_of(value, f"{self.table}, row {number + 1}") if value is not None else []

    def _number(self, row: Mapping[str, Any], number: int) -> int:
        words = self._words(row, number)
        return self._one(words[0], number) if words else -1

    def _numbers(self, row: Mapping[str, Any], number: int) -> tuple[int, ...]:
        return tuple(sorted({self._one(word, number) for word in self._words(row, number)}))

    def _one(self, word: str, number: int) -> int:
        classes = self.labels["classes"]
        if word in classes:
            return int(classes.index(word))
        if word.lstrip("-").isdigit() and 0 <= int(word) < len(classes):
            return int(word)
        raise BadInput(
            f"{self.table}, row {number + 1}: the label {word!r} is out of range: expected 0 to {len(classes) - 1}, or "
            "the name of a class"
        )

    def describe(self, path: str, bands: int, dtype: str) -> Bands:
        """What the file says."""
        return describe_raster(self.root / path)

    def read(self, index: Index, row: int, cut: Cut | None = None, later: bool = False) -> np.ndarray:
        """Stored numbers."""
        return read_raster(self.root / index.path(row), cut)

    def codes(self) -> Codes:
        """0, 1, .. and 255, which is not counted."""
        classes = len(self.labels["classes"])
        return Codes({**{k: k for k in range(classes)}, IGNORE: IGNORED}, classes)


def _inside(value: Any, table: str, number: int) -> str:
    """A path of the table, if it stays in the folder."""
    parts = [p for p in str(value).replace("\\", "/").split("/") if p not in ("", ".")]
    if ".." in parts or str(value).startswith(("/", "~")) or ":" in str(value) or not parts:
        raise BadInput(f"{table}, row {number + 1}: the path {str(value)[:80]!r} leads out of the folder")
    return join(*parts)
