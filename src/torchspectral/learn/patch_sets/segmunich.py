"""SegMunich: images of 128 x 128 pixels of Sentinel-2 with masks of the same name, and lists of the splits.

References
----------
Hong et al., "SpectralGPT: spectral remote sensing foundation model", IEEE TPAMI 46(8), 2024.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from torchspectral.learn.patch_sets.entries import Entry, Walk, join
from torchspectral.learn.patch_sets.facts import IGNORED, Codes, facts
from torchspectral.learn.patch_sets.layout import Layout
from torchspectral.learn.patch_sets.names import SplitLists
from torchspectral.learn.patch_sets.rasters import TIFF, Bands, describe_raster, sensor_bands

IMAGES, MASKS = ("img", "imgs", "image", "images"), ("label", "labels", "mask", "masks")
_TEN = ["B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"]


class SegMunich(Layout):
    """Folders ``img`` and ``label`` with files of one name, here or in a folder ``TUM_128``."""

    name: ClassVar[str] = "segmunich"
    title: ClassVar[str] = "SegMunich"
    licence: ClassVar[str] = "not stated by its authors; Copernicus Sentinel data"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        classes = int(facts()["segmunich"]["classes"])
        names = [str(number) for number in range(classes)]
        self.labels = {"kind": "pixels", "classes": names, "ignore": classes}
        self.inner, self.images, self.masks = _folders(root)

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """A folder of images beside one of labels."""
        inner, images, _ = _folders(root)
        some = next((root / inner / images).glob("*.tif*"), None) if images else None
        return some is not None and not (root / "classes.csv").exists()

    def entries(self, walk: Walk) -> Iterator[tuple[Entry, float]]:
        """Images by name."""
        masks = {Path(f.name).stem: f.path for f in walk.files(join(self.inner, self.masks), *TIFF)}
        folders = tuple(dict.fromkeys(("", self.inner, "dataset", "splits", join(self.inner, "dataset"))))
        splits = SplitLists(walk, folders, prefix=(self.images,))
        files = list(walk.files(join(self.inner, self.images), *TIFF))
        without = 0
        for number, file in enumerate(files):
            name = Path(file.name).stem
            part = splits.part(file.name)
            if name not in masks:
                without += 1
            elif part or not splits.parts:
                yield (
                    Entry(file.path, file.size, file.time, name, part=part, mask=masks[name]),
                    (number + 1) / len(files),
                )
        self.notes += splits.note(len(files) - without)
        if without:
            self.notes.append(f"{without} images have no mask and are left out")

    def describe(self, path: str, bands: int, dtype: str) -> Bands:
        """Ten bands of Sentinel-2 without those of 60 m, reflectance times 10000 where they are integers."""
        if bands != len(_TEN):
            return describe_raster(self.root / path)
        whole = dtype[0] in "iu"
        quantity, scale = ("reflectance", 1e-4) if whole else ("dn", 1.0)
        return sensor_bands("sentinel-2a", _TEN, quantity=quantity, scale=scale)

    def codes(self) -> Codes:
        """Codes of the Urban Atlas groups, 0 to 12 as they are, 255 not counted."""
        known = facts()["segmunich"]
        table = {number: number for number in range(known["classes"])}
        table |= {int(code): int(number) for code, number in known["codes"].items()}
        return Codes({**table, int(known["ignore"]): IGNORED}, int(known["classes"]))


def _folders(root: Path) -> tuple[str, str, str]:
    for inner in ("", "TUM_128"):
        images = next((n for n in IMAGES if (root / inner / n).is_dir()), "")
        masks = next((n for n in MASKS if (root / inner / n).is_dir()), "")
        if images and masks:
            return inner, images, masks
    return "", "", ""
