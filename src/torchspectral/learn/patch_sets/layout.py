"""The contract of a folder layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from torchspectral.errors import BadCube, BadInput, BrokenProduct, ProductNotFound, TooLarge, UnknownProduct
from torchspectral.learn.patch_sets.entries import Entry, Probed, Walk
from torchspectral.learn.patch_sets.facts import Codes
from torchspectral.learn.patch_sets.index import Index
from torchspectral.learn.patch_sets.rasters import Bands, Cut, describe_raster, probe_raster, read_raster

MOST_BROKEN = 64
"""Files in a row that are looked into for what the numbers of a set are."""


class Layout(ABC):
    """How one kind of patch set lies on disk. Subclasses are picklable and safe to read from several threads.

    Parameters
    ----------
    root : Path

    Attributes
    ----------
    name, title, licence : str
        `licence` is that of the data, as far as it is known.
    by_place : bool
        Whether a sample is a place, of which one date (or two) is taken, and not a file.
    labels : dict
        ``kind``: "", "single", "multi", "pixels" or "regression"; ``classes``: names; ``ignore``: number of pixels
        that are not counted, or None; ``colours`` where known. Known once `entries` was used up.
    notes : list of str
        What `entries` noticed.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    by_place: bool = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.labels: dict[str, Any] = {"kind": "", "classes": [], "ignore": None}
        self.notes: list[str] = []

    @classmethod
    @abstractmethod
    def recognise(cls, root: Path) -> bool:
        """Whether a folder is laid out so; lists a few names, opens nothing."""

    @abstractmethod
    def entries(self, walk: Walk) -> Iterator[tuple[Entry, float]]:
        """All patches with the share of the folder that is through, 0..1; opens no image.

        Raises
        ------
        BadInput, BrokenProduct, ProductNotFound
            Tables of labels or splits that cannot be.
        """

    def probe(self, entry: Entry) -> Probed:
        """Look into a patch; reads no pixel.

        Raises
        ------
        BrokenProduct, TooLarge, BadCube
        """
        return probe_raster(self.root / entry.path)

    def describe(self, path: str, bands: int, dtype: str) -> Bands:
        """What the stored numbers of patches like this one are."""
        return describe_raster(self.root / path)

    def describe_first(self, index: Index, rows: np.ndarray, skip: bool = False) -> tuple[Bands, dict[str, str]]:
        """What the stored numbers of patches of one kind are, and the files at their begin that are broken by now.

        Parameters
        ----------
        rows : ndarray of int
            Of the index.
        skip : bool
            Whether a later file may tell where the first is broken.

        Raises
        ------
        BrokenProduct
        """
        facts = index.kinds[int(index.columns["kind"][rows[0]])]
        count, broken = int(facts["bands"]), dict[str, str]()
        for row in rows[:MOST_BROKEN].tolist():
            path = index.path(row)
            try:
                found = self.describe(path, count, str(facts["dtype"]))
                if found.wavelength.size != count:
                    raise BrokenProduct(
                        f"it has {found.wavelength.size} bands, and had {count} when the index was made"
                    )
                return found, broken
            except (BadCube, BrokenProduct, ProductNotFound, TooLarge, UnknownProduct) as error:
                if not skip:
                    raise BrokenProduct(
                        f"{self.root / path} is broken: {error}; replace it, or skip broken files with broken=skip"
                    ) from None
                broken[path] = str(error)
        first, why = next(iter(broken.items()))
        raise BrokenProduct(f"{len(broken)} files in a row of {self.root} are broken, such as {first}: {why}")

    def read(self, index: Index, row: int, cut: Cut | None = None, later: bool = False) -> np.ndarray:
        """Stored numbers (band, y, x) of a patch, or of its other date.

        Raises
        ------
        BrokenProduct
        """
        path = self.root / index.path(row, "later" if later else "path")
        return read_raster(path, placed(index, row, cut))

    def read_mask(self, index: Index, row: int, cut: Cut | None = None) -> np.ndarray:
        """Class numbers (y, x), int64, of the pixels of a patch.

        Raises
        ------
        BadInput
            Labels out of range, or a mask of another size.
        """
        path = self.root / index.path(row, "mask")
        size = int(index.columns["height"][row]), int(index.columns["width"][row])
        whole = index.columns["window"][row, 0] >= 0
        stored = read_raster(path, placed(index, row, cut), None if whole else size)
        return self.codes().numbers_of(stored[0], path.name)

    def codes(self) -> Codes:
        """Codes of the masks."""
        raise BadInput(f"{self.title} has no labels of pixels")

    def label_of(self, index: Index, row: int, mask: np.ndarray | None) -> np.ndarray | None:
        """Number of the class (1,), several (classes,) of 0 and 1, or targets (n,), float32; None for none."""
        kind = self.labels["kind"]
        if kind == "single" and index.columns["label"][row] >= 0:
            return np.array([index.columns["label"][row]], dtype=np.float32)
        if kind == "multi" and index.columns["labels"].shape[1]:
            return index.columns["labels"][row].astype(np.float32)
        if kind == "regression" and np.isfinite(index.columns["targets"][row]).all():
            return np.asarray(index.columns["targets"][row])
        return None


def placed(index: Index, row: int, cut: Cut | None) -> Cut | None:
    """Rows and columns in a patch's file, where it is a part of one."""
    top, left, height, width = (int(n) for n in index.columns["window"][row])
    if top < 0:
        return cut
    rows, cols = cut or (slice(0, height), slice(0, width))
    return slice(top + rows.start, top + rows.stop), slice(left + cols.start, left + cols.stop)
