"""BigEarthNet, both versions: a folder a patch, a file a band, 43 or 19 CORINE classes.

Version 1: ``ROOT/<patch>/<patch>_B01.tif`` .. with ``<patch>_labels_metadata.json``; lists of the splits as CSV or text.
Version 2: ``ROOT/BigEarthNet-S2/<tile>/<patch>/<patch>_B01.tif`` .. with ``metadata.parquet`` (or .csv). Bands of
20 and 60 m are brought to 120 x 120 pixels, bilinearly. The radar half is not read.

References
----------
Sumbul et al., "BigEarthNet: a large-scale benchmark archive for remote sensing image understanding", IGARSS 2019.
Clasen et al., "reBEN: refined BigEarthNet dataset for remote sensing image analysis", arXiv 2407.03653 (2024).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from torchspectral.errors import BadInput, BrokenProduct
from torchspectral.io.safety import read_text
from torchspectral.learn.patch_sets.entries import Entry, Found, Probed, Walk, join
from torchspectral.learn.patch_sets.facts import IGNORED, Codes, corine_codes, corine_names, corine_number
from torchspectral.learn.patch_sets.index import Index
from torchspectral.learn.patch_sets.layout import Layout
from torchspectral.learn.patch_sets.names import SplitLists, date_of, part_of
from torchspectral.learn.patch_sets.rasters import Bands, Cut, probe_raster, read_raster, sensor_bands
from torchspectral.learn.patch_sets.tables import column, rows_of, words_of

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
_SENSOR = [re.sub(r"^B0", "B", name) for name in BANDS]
_PATCH = re.compile(r"^S2[ABC]_MSIL2A_\d{8}T\d{6}")
SIDE = 120
_TOP = "BigEarthNet-S2"


class BigEarthNet(Layout):
    """BigEarthNet v1 and v2, the twelve bands of Sentinel-2; `classes` 19 or 43 (version 1 only)."""

    name: ClassVar[str] = "bigearthnet"
    title: ClassVar[str] = "BigEarthNet"
    licence: ClassVar[str] = "CDLA-Permissive-1.0; Copernicus Sentinel data"
    classes: ClassVar[int] = 19

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.second = (root / _TOP).is_dir()
        names = list(corine_names(self.classes))
        self.labels = {"kind": "multi", "classes": names, "ignore": len(names)}
        self.maps = (root / "Reference_Maps").is_dir() and self.classes == 19

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """The folder of version 2, or folders named as Sentinel-2 patches."""
        if (root / _TOP).is_dir():
            return True
        for number, path in enumerate(root.iterdir()):
            if _PATCH.match(path.name) and path.is_dir():
                return True
            if number > 50:
                break
        return False

    def entries(self, walk: Walk) -> Iterator[tuple[Entry, float]]:
        """Patches by name."""
        yield from self._version2(walk) if self.second else self._version1(walk)

    def _version1(self, walk: Walk) -> Iterator[tuple[Entry, float]]:
        names = [n for n in walk.folders("") if _PATCH.match(n)]
        splits = SplitLists(walk, suffixes=(".txt", ".csv"))
        count = unlabelled = 0
        for number, name in enumerate(names):
            files = list(walk.files(name, ".tif", "_labels_metadata.json"))
            facts = next((f for f in files if f.name.endswith(".json")), None)
            count += 1
            part = splits.part(name)
            if splits.parts and not part:
                continue
            words = _labels_v1(walk.root / facts.path) if facts else []
            labels = self._numbers(words, name)
            unlabelled += not labels
            if labels:
                yield _entry(name, files, labels, part), (number + 1) / len(names)
        self.notes += splits.note(count)
        if unlabelled:
            self.notes.append(f"{unlabelled} patches have no label of the {self.classes} classes and are left out")

    def _version2(self, walk: Walk) -> Iterator[tuple[Entry, float]]:
        table = next((n for n in ("metadata.csv", "metadata.parquet") if walk.has(n)), "")
        if not table:
            raise BadInput(
                f"{walk.root} has no metadata.parquet (or .csv): it holds the labels and splits of version 2"
            )
        if self.classes == 43:
            raise BadInput("version 2 of BigEarthNet has labels of 19 classes only: choose layout bigearthnet")
        facts: dict[str, tuple[tuple[int, ...], str]] = {}
        for row in rows_of(walk.note(table)):
            name = str(column(row, "patch_id") or "")
            part = part_of(str(column(row, "split") or ""))
            facts[name] = self._numbers(words_of(row.get("labels"), f"{table}: {name}"), name), part
        missing = len(facts)
        tiles = walk.folders(_TOP)
        for number, tile in enumerate(tiles):
            for name in walk.folders(join(_TOP, tile)):
                if name not in facts:
                    continue
                missing -= 1
                folder = join(_TOP, tile, name)
                labels, part = facts[name]
                mask = join("Reference_Maps", tile, name, f"{name}_reference_map.tif") if self.maps else ""
                files = list(walk.files(folder, ".tif"))
                if labels:
                    yield _entry(folder, files, labels, part, mask), (number + 1) / len(tiles)
        if missing:
            self.notes.append(f"{missing} patches of {table} are not in this folder")

    def _numbers(self, words: list[str], name: str) -> tuple[int, ...]:
        try:
            numbers = {corine_number(word, self.classes) for word in words}
        except BadInput as error:
            raise BadInput(f"{name}: {error}") from None
        return tuple(sorted(numbers - {IGNORED}))

    def probe(self, entry: Entry) -> Probed:
        """All twelve files must open; the ground is that of B02."""
        seen = {band: probe_raster(self.root / entry.path / _file(entry.path, band)) for band in BANDS}
        lead = seen["B02"]
        for band, found in seen.items():
            if found.bands != 1 or SIDE % max(found.height, 1) or found.height != found.width:
                raise BrokenProduct(
                    f"{_file(entry.path, band)} has {found.bands} bands of {found.height} x {found.width} pixels, "
                    f"expected one that divides {SIDE}"
                )
        return Probed(len(BANDS), SIDE, SIDE, lead.dtype, f"S2|{lead.dtype}", lead.box, lead.crs)

    def describe(self, path: str, bands: int, dtype: str) -> Bands:
        """Reflectance on the ground, times 10000; 0 is nodata."""
        return sensor_bands("sentinel-2a", _SENSOR, quantity="reflectance", scale=1e-4, nodata=0)

    def read(self, index: Index, row: int, cut: Cut | None = None, later: bool = False) -> np.ndarray:
        """Twelve bands at 10 m."""
        folder = index.path(row)
        values = [read_raster(self.root / folder / _file(folder, band), shape=(SIDE, SIDE))[0] for band in BANDS]
        whole = np.stack(values)
        return whole if cut is None else np.ascontiguousarray(whole[:, cut[0], cut[1]])

    def codes(self) -> Codes:
        """CORINE codes of the reference maps."""
        return Codes(corine_codes(19), 19, open=True)


class BigEarthNet43(BigEarthNet):
    """Version 1 with the 43 classes of CORINE."""

    name: ClassVar[str] = "bigearthnet-43"
    title: ClassVar[str] = "BigEarthNet v1 with 43 classes"
    classes: ClassVar[int] = 43

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """Never of itself: 19 classes are the rule."""
        return False


def _file(folder: str, band: str) -> str:
    return f"{folder.rsplit('/', 1)[-1]}_{band}.tif"


def _entry(folder: str, files: list[Found], labels: tuple[int, ...], part: str, mask: str = "") -> Entry:
    name = folder.rsplit("/", 1)[-1]
    # The place without satellite, orbit and time: tile (version 2), row and column of the patch.
    found = re.search(r"(T\d{2}[A-Z]{3})_(\d+_\d+)$", name)
    place = "_".join(found.groups()) if found else name
    return Entry(
        folder,
        sum(f.size for f in files),
        max((f.time for f in files), default=0),
        place,
        date_of(name.replace("_", " ").replace("T", " ")),
        part,
        mask,
        labels=labels,
    )


def _labels_v1(path: Path) -> list[str]:
    try:
        facts: Any = json.loads(read_text(path))
        return [str(word) for word in facts["labels"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BrokenProduct(f"{path.name} is no table of labels: {str(error)[:100]}") from None
