"""EuroSAT: one folder a class, 64 x 64 pixels, 13 bands of Sentinel-2 (or RGB as JPEG).

References
----------
Helber et al., "EuroSAT: a novel dataset and deep learning benchmark for land use and land cover classification",
IEEE JSTARS 12(7), 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from torchspectral.errors import UnknownProduct
from torchspectral.learn.patch_sets.entries import Entry, Probed, Walk, join
from torchspectral.learn.patch_sets.facts import facts
from torchspectral.learn.patch_sets.index import Index
from torchspectral.learn.patch_sets.layout import Layout
from torchspectral.learn.patch_sets.names import SplitLists
from torchspectral.learn.patch_sets.rasters import (
    TIFF,
    Bands,
    Cut,
    describe_raster,
    probe_raster,
    read_raster,
    sensor_bands,
    unknown_bands,
)

JPEG = (".jpg", ".jpeg")
_INNER = ("", "2750", "allBands", "tif", "EuroSAT", "EuroSAT_MS", "EuroSATallBands", "images",
          "ds/images/remote_sensing/otherDatasets/sentinel_2/tif")  # fmt: skip


class EuroSat(Layout):
    """EuroSAT and EuroSAT-MS; bands come in the sensor's order (B8A after B8), whatever the file's."""

    name: ClassVar[str] = "eurosat"
    title: ClassVar[str] = "EuroSAT"
    licence: ClassVar[str] = "MIT; Copernicus Sentinel data"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.classes: list[str] = facts()["eurosat"]["classes"]
        self.labels = {"kind": "single", "classes": list(self.classes), "ignore": None}
        self.inner = _inner(root)

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """Folders of the ten classes, here or where the archives put them."""
        try:
            return _has_classes(root / _inner(root))
        except UnknownProduct:
            return False

    def entries(self, walk: Walk) -> Iterator[tuple[Entry, float]]:
        """Images by class and name."""
        walk.folders(self.inner)
        splits = SplitLists(walk, ("", self.inner, "splits"), prefix=tuple(self.classes))
        count = 0
        for number, name in enumerate(self.classes):
            for file in walk.files(join(self.inner, name), *TIFF, *JPEG):
                part = splits.part(file.name)
                count += 1
                if splits.parts and not part:
                    continue
                place = Path(file.name).stem
                yield (
                    Entry(file.path, file.size, file.time, place, part=part, label=number),
                    (number + 1) / len(self.classes),
                )
        self.notes += splits.note(count)

    def probe(self, entry: Entry) -> Probed:
        """TIFF or JPEG."""
        return probe_raster(self.root / entry.path, _drivers(entry.path))

    def describe(self, path: str, bands: int, dtype: str) -> Bands:
        """Reflectance at the top of the atmosphere, times 10000; RGB has no wavelengths."""
        if bands == 13:
            return sensor_bands("sentinel-2a", facts()["sentinel2"], quantity="reflectance", scale=1e-4)
        return unknown_bands(bands) if path.lower().endswith(JPEG) else describe_raster(self.root / path)

    def read(self, index: Index, row: int, cut: Cut | None = None, later: bool = False) -> np.ndarray:
        """Stored numbers, B8A after B8."""
        path = index.path(row)
        values = read_raster(self.root / path, cut, drivers=_drivers(path))
        return in_order(values) if values.shape[0] == 13 else values


def in_order(values: np.ndarray) -> np.ndarray:
    """Thirteen bands in the sensor's order: files of EuroSAT hold B8A last.

    Which order a file has is told from its values: hardly any light reaches the ground in the cirrus band B10, which
    is the tenth band of files that hold B8A last and the eleventh of others.
    """
    darkest = int(values.mean(axis=(1, 2), dtype=np.float64).argmin())
    if darkest == 10:
        return values
    order = [facts()["eurosat"]["file_order"].index(name) for name in facts()["sentinel2"]]
    return values[order]


def _drivers(path: str) -> tuple[str, ...]:
    return ("JPEG",) if path.lower().endswith(JPEG) else ("GTiff",)


def _has_classes(folder: Path) -> bool:
    return sum((folder / name).is_dir() for name in facts()["eurosat"]["classes"]) >= 8


def _inner(root: Path) -> str:
    for name in _INNER:
        if _has_classes(root / name):
            return name
    raise UnknownProduct(f"{root} has no folders of EuroSAT's classes")
