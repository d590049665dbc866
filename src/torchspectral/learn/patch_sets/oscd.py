"""OSCD: pairs of Sentinel-2 images of cities with maps of what changed, cut into patches.

``Images/<city>/imgs_1_rect/B01.tif`` .. and ``imgs_2_rect`` (all bands on the 10 m grid), ``Train Labels/<city>/cm/cm.png``
or ``<city>-cm.tif`` (1 unchanged, 2 changed), ``Images/train.txt`` and ``test.txt`` (names of cities, with commas). The three
folders bear the long name of the archives, or the short one.

References
----------
Daudt et al., "Urban change detection for multispectral Earth observation using convolutional neural networks", IGARSS
2018. Patches of 128 pixels every 63: Hong et al., "SpectralGPT", IEEE TPAMI 46(8), 2024.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from torchspectral.errors import BadInput, BrokenProduct
from torchspectral.io.safety import read_text
from torchspectral.learn.patch_sets.entries import TEST, Entry, Probed, Walk, join
from torchspectral.learn.patch_sets.facts import Codes, facts
from torchspectral.learn.patch_sets.index import Index
from torchspectral.learn.patch_sets.layout import Layout, placed
from torchspectral.learn.patch_sets.names import date_of
from torchspectral.learn.patch_sets.rasters import Bands, Cut, probe_raster, read_raster, sensor_bands
from torchspectral.learn.splits import TRAIN

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
LONG = "Onera Satellite Change Detection dataset - "
DATES = ("imgs_1_rect", "imgs_2_rect")


class Oscd(Layout):
    """OSCD; the mask is 0 (unchanged) or 1, the other date is the role ``later``."""

    name: ClassVar[str] = "oscd"
    title: ClassVar[str] = "OSCD"
    licence: ClassVar[str] = "CC BY-NC-SA 4.0; Copernicus Sentinel data"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.labels = {"kind": "pixels", "classes": ["unchanged", "changed"], "ignore": 2}
        self.images = next((n for n in (f"{LONG}Images", "Images", "images") if (root / n).is_dir()), "")

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """A folder of images with cities that have two dates."""
        layout = cls(root)
        if not layout.images:
            return False
        cities = [p for p in (root / layout.images).iterdir() if p.is_dir()]
        return bool(cities) and all((cities[0] / date).is_dir() for date in DATES)

    def entries(self, walk: Walk) -> Iterator[tuple[Entry, float]]:
        """Patches by city, row and column."""
        walk.folders("")
        parts = self._parts(walk)
        cities = walk.folders(self.images)
        size, stride = (int(facts()["oscd"][key]) for key in ("patch", "stride"))
        for number, city in enumerate(cities):
            folder = join(self.images, city, DATES[0])
            files = list(walk.files(folder, ".tif"))
            walk.folders(join(self.images, city, DATES[1]))
            mask, part = self._map(city), parts.get(city, "")
            if parts and not part:
                continue
            if not mask:
                self.notes.append(f"{city} has no map of changes and is left out")
                continue
            names = {re.sub(r".*_", "", f.name)[:-4] for f in files}
            if not set(BANDS) <= names:
                raise BrokenProduct(f"{folder} has the bands {', '.join(sorted(names))}, expected {', '.join(BANDS)}")
            rows, cols = _size(walk.root / folder / next(f.name for f in files if f.name.endswith("B02.tif")))
            date = self._date(walk, city, files[0].name)
            for top in _starts(rows, size, stride):
                for left in _starts(cols, size, stride):
                    window = (top, left, min(size, rows), min(size, cols))
                    yield (
                        Entry(
                            folder, sum(f.size for f in files), max(f.time for f in files), city, date, part, mask,
                            later=join(self.images, city, DATES[1]), window=window,
                        ),
                        (number + 1) / len(cities),
                    )  # fmt: skip

    def _parts(self, walk: Walk) -> dict[str, str]:
        found: dict[str, str] = {}
        for folder in (self.images, ""):
            for name, part in (("train.txt", TRAIN), ("test.txt", TEST)):
                if not found.get(part) and walk.has(join(folder, name)):
                    text = read_text(walk.note(join(folder, name)))
                    found |= {city.strip(): part for city in re.split(r"[,\n]", text) if city.strip()}
        return found

    def _map(self, city: str) -> str:
        for part in ("Train Labels", "Test Labels"):
            for top in (f"{LONG}{part}", part):
                for name in (f"{city}-cm.tif", "cm.png"):
                    if (self.root / top / city / "cm" / name).is_file():
                        return join(top, city, "cm", name)
        return ""

    def _date(self, walk: Walk, city: str, name: str) -> int:
        file = join(self.images, city, "dates.txt")
        return date_of(read_text(walk.note(file))) if walk.has(file) else date_of(name)

    def probe(self, entry: Entry) -> Probed:
        """All bands of both dates must open and be alike."""
        facts_of = [probe_raster(file) for date in (entry.path, entry.later) for file in _band_files(self.root / date)]
        lead = facts_of[1]
        if any((f.height, f.width, f.bands) != (lead.height, lead.width, 1) for f in facts_of):
            raise BrokenProduct(f"{entry.path}: the bands of the two dates have different sizes")
        return Probed(len(BANDS), lead.height, lead.width, lead.dtype, f"S2|{lead.dtype}", lead.box, lead.crs)

    def describe(self, path: str, bands: int, dtype: str) -> Bands:
        """Reflectance at the top of the atmosphere, times 10000."""
        names = [re.sub(r"^B0", "B", name) for name in BANDS]
        return sensor_bands("sentinel-2a", names, quantity="reflectance", scale=1e-4)

    def read(self, index: Index, row: int, cut: Cut | None = None, later: bool = False) -> np.ndarray:
        """Thirteen bands of one date."""
        folder = self.root / index.path(row, "later" if later else "path")
        place = placed(index, row, cut)
        return np.concatenate([read_raster(file, place) for file in _band_files(folder)])

    def read_mask(self, index: Index, row: int, cut: Cut | None = None) -> np.ndarray:
        """1 where something changed."""
        path = self.root / index.path(row, "mask")
        if path.suffix == ".png":
            stored = read_raster(path, placed(index, row, cut), drivers=("PNG",))[0]
            return np.asarray(Codes({0: 0, 255: 1}, 2).numbers_of(stored, path.name))
        return super().read_mask(index, row, cut)

    def codes(self) -> Codes:
        """1 unchanged, 2 changed."""
        return Codes({1: 0, 2: 1}, 2)


def _band_files(folder: Path) -> list[Path]:
    files = {re.sub(r".*_", "", p.stem): p for p in sorted(folder.glob("*.tif"))}
    missing = [name for name in BANDS if name not in files]
    if missing:
        raise BrokenProduct(f"{folder} has no {', '.join(missing)}")
    return [files[name] for name in BANDS]


def _size(path: Path) -> tuple[int, int]:
    found = probe_raster(path)
    if min(found.height, found.width) < 1:
        raise BadInput(f"{path} is empty")
    return found.height, found.width


def _starts(length: int, size: int, stride: int) -> list[int]:
    last = max(length - size, 0)
    starts = list(range(0, last + 1, stride))
    return starts if starts[-1] == last else [*starts, last]
