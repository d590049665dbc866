"""SpectralEarth: folders of locations for pretraining, and its downstream sets with masks of the same name.

``ROOT/enmap/<location>/<any>.tif`` holds patches, each location with one or more dates. A downstream set has the masks
of a product beside them, ``ROOT/<product>/<same name>.tif``, and text files of its splits. Sets of your own are laid out
alike: their masks count 0, 1, .. and ``classes.csv`` (value, name, colour) names the classes; ``labels.json`` gives a
date of a location several classes, as SSL4EO-S12-ML does: ``{location: {scene: ["0", "4"]}}``.

References
----------
Braham et al., "SpectralEarth: Training Hyperspectral Foundation Models at Scale", arXiv 2408.08447 (2025).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from torchspectral.errors import BadInput, BrokenProduct
from torchspectral.io.safety import read_text
from torchspectral.learn.patch_sets.entries import Entry, Walk, join
from torchspectral.learn.patch_sets.facts import Codes, corine_codes, corine_names, facts
from torchspectral.learn.patch_sets.index import Index
from torchspectral.learn.patch_sets.layout import Layout
from torchspectral.learn.patch_sets.names import SplitLists, date_of
from torchspectral.learn.patch_sets.rasters import TIFF, Bands, describe_raster

IMAGES = ("enmap", "desis", "eo1", "hyperion", "prisma", "emit", "images")
"""Names of folders of images."""
_OTHER = ("splits", "statistics", "stats")


class SpectralEarth(Layout):
    """SpectralEarth's folders, and sets of your own that are laid out like them."""

    name: ClassVar[str] = "spectralearth"
    title: ClassVar[str] = "SpectralEarth"
    licence: ClassVar[str] = "EnMAP licence of DLR: free to use, not to be passed on; DESIS, Hyperion: see their terms"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.images = next(name for name in IMAGES if (root / name).is_dir())
        self.product = ""
        self.set: dict[str, Any] = {}
        self._codes: Codes | None = None
        self._choose()

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """A folder of images by its name, with patches in it or one folder further down."""
        found = [root / name for name in IMAGES if (root / name).is_dir()]
        if not found:
            return False
        for number, path in enumerate(found[0].iterdir()):
            if path.suffix.lower() in TIFF or (path.is_dir() and any(p.suffix.lower() in TIFF for p in path.iterdir())):
                return True
            if number > 50:
                break
        return False

    def _choose(self) -> None:
        """Which product the labels come from."""
        others = sorted(
            p.name
            for p in self.root.iterdir()
            if p.is_dir() and not p.name.startswith(".") and p.name not in (*IMAGES, *_OTHER)
        )
        sets = facts()["spectralearth"]
        own = (self.root / "classes.csv").is_file()
        known = [s for s in sets if s["images"] == _sensor(self.images) and _plain(s["product"]) in map(_plain, others)]
        if own and others:
            if len(others) > 1:
                raise BadInput(f"{self.root} has the folders {', '.join(others)}, expected masks in one of them")
            self.product = others[0]
        elif known:
            if len(known) > 1:
                names = ", ".join(str(s["product"]) for s in known)
                raise BadInput(f"{self.root} has masks of {names}: give each of them a folder of its own")
            self.set = known[0]
            self.product = next(p for p in others if _plain(p) == _plain(self.set["product"]))
        elif others:
            names = ", ".join(str(s["product"]) for s in sets if s["images"] == _sensor(self.images))
            self.notes.append(
                f"nothing is known of the folders {', '.join(others)}: expected masks of {names}, or a classes.csv"
            )
        self._own_classes()
        if self.set:
            self._published()
        self.by_place = not self.product

    def _own_classes(self) -> None:
        file = self.root / "classes.csv"
        if not file.is_file():
            return
        names, colours = read_classes(file)
        kind = "pixels" if self.product else "multi" if (self.root / "labels.json").is_file() else ""
        self.labels = {"kind": kind, "classes": names, "ignore": len(names), "colours": colours}
        table = {number: number for number in range(len(names))} | {255: -1}
        self._codes = Codes(table, len(names))

    def _published(self) -> None:
        found = self.set
        if found["codes"] == "clc-19":
            table, names = corine_codes(19), list(corine_names(19))
        else:
            table = {int(code): number for number, code in enumerate(found["codes"])}
            names = [str(code) for code in found["codes"]]
        kind = found["kind"]
        self.labels = {"kind": kind, "classes": names, "ignore": len(names), "product": found["product"]}
        self._codes = Codes(table, len(names), open=True)

    def entries(self, walk: Walk) -> Iterator[tuple[Entry, float]]:
        """Patches by location, then name."""
        walk.folders("")
        splits = SplitLists(walk, prefix=(self.images,))
        several = self._several(walk)
        masks = {f.path for f in walk.below(self.product, *TIFF)} if self.product else set()
        places = walk.folders(self.images)
        flat = list(walk.files(self.images, *TIFF))
        done = without = 0
        for number, name in enumerate([*places, ""]):
            found = flat if not name else walk.below(join(self.images, name), *TIFF)
            for file in found:
                inner = file.path[len(self.images) + 1 :]
                mask = self._mask(inner, masks)
                without += bool(self.product) and not mask
                if self.product and not mask:
                    continue
                place = name or _location(inner)
                part = splits.part(inner)
                if splits.parts and not part:
                    done += 1
                    continue
                done += 1
                yield (
                    Entry(
                        file.path, file.size, file.time, place, date_of(file.name), part, mask,
                        labels=several.get((place, Path(inner).stem), ()),
                    ),
                    (number + 1) / (len(places) + 1),
                )  # fmt: skip
        self.notes += splits.note(done)
        if without:
            self.notes.append(f"{without} patches have no mask in {self.product}/ and are left out")

    def _mask(self, inner: str, masks: set[str]) -> str:
        for name in (inner, re.sub(r"\.tiff?$", ".tif", inner, flags=re.I)):
            if join(self.product, name) in masks:
                return join(self.product, name)
        return ""

    def _several(self, walk: Walk) -> dict[tuple[str, str], tuple[int, ...]]:
        """Classes of a date of a location, from ``labels.json``."""
        if not walk.has("labels.json"):
            return {}
        file = walk.note("labels.json")
        try:
            table = json.loads(read_text(file))
            found = {
                (str(place), _bare(str(scene))): tuple(sorted({int(k) for k in classes}))
                for place, scenes in table.items()
                for scene, classes in scenes.items()
            }
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise BrokenProduct(
                f"{file} is no table of labels ({str(error)[:100]}): expected {{location: {{scene: [classes]}}}}"
            ) from None
        if not self.labels["classes"]:
            count = max((max(k, default=-1) for k in found.values()), default=-1) + 1
            self.labels = {"kind": "multi", "classes": [str(k) for k in range(count)], "ignore": None}
        elif self.labels["kind"] == "pixels":
            self.labels = {**self.labels, "also": "multi"}
        classes = len(self.labels["classes"])
        for (place, scene), numbers in found.items():
            wrong = [k for k in numbers if not 0 <= k < classes]
            if wrong:
                raise BadInput(
                    f"{file.name}: {place}/{scene} has the label {wrong[0]}, which is out of range: expected 0 to "
                    f"{classes - 1}"
                )
        return found

    def codes(self) -> Codes:
        """Codes of the product, or 0, 1, .. of ``classes.csv`` with 255 not counted."""
        return self._codes if self._codes is not None else super().codes()

    def label_of(self, index: Index, row: int, mask: np.ndarray | None) -> np.ndarray | None:
        """Classes of a patch; those that its mask shows, where it has no list."""
        if index.columns["labels"].shape[1] and index.columns["labels"][row].any():
            return index.columns["labels"][row].astype(np.float32)
        classes = len(self.labels["classes"])
        if mask is None or not classes:
            return None
        return (np.bincount(mask.ravel(), minlength=classes + 1)[:classes] > 0).astype(np.float32)

    def describe(self, path: str, bands: int, dtype: str) -> Bands:
        """What the file says; else SpectralEarth's bands of EnMAP and reflectance times 10000."""
        found = describe_raster(self.root / path)
        sensor = _sensor(self.images)
        if sensor == "enmap" and not np.isfinite(found.wavelength).any() and bands in (202, 224):
            wave, width = _enmap(bands)
            found = replace(found, wavelength=wave, fwhm=width, sensor="enmap")
        if found.quantity == "dn" and np.dtype(dtype).kind == "i" and sensor in ("enmap", "desis"):
            nodata = -32768 if found.nodata is None and dtype == "int16" else found.nodata
            found = replace(found, quantity="reflectance", scale=1e-4, offset=0.0, nodata=nodata)
        return found


def _enmap(bands: int) -> tuple[np.ndarray, np.ndarray]:
    from torchspectral import sensors

    sensor = sensors.get("enmap")
    order = np.argsort(sensor.wavelength, kind="stable")
    if bands == 202:
        order = np.concatenate([order[low:high] for low, high in facts()["bands"]["enmap-202"]])
    return sensor.wavelength[order].astype(np.float64), sensor.fwhm[order].astype(np.float64)


def _sensor(images: str) -> str:
    return "eo1" if images == "hyperion" else images


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _bare(scene: str) -> str:
    return re.sub(r"\.tiff?$", "", scene, flags=re.I)


def _location(name: str) -> str:
    """Location of a patch that lies in no folder: its name without the date."""
    bare = Path(name).stem
    return re.sub(r"(?<!\d)(19|20)\d{6}(T\d{6}Z?)?(?!\d)", "", bare).strip("_-") or bare


def read_classes(file: Path) -> tuple[list[str], list[list[int]]]:
    """Names and colours by number from a ``classes.csv`` (columns value, name, colour as #rrggbb).

    Raises
    ------
    BadInput
        No such columns, or values that are not 0, 1, 2, ..
    """
    rows = list(csv.DictReader(io.StringIO(read_text(file))))
    try:
        values = [int(row["value"]) for row in rows]
        names = [str(row["name"]) for row in rows]
    except (KeyError, TypeError, ValueError):
        raise BadInput(
            f"{file} is no table of classes: expected columns value and name, value a whole number"
        ) from None
    if sorted(values) != list(range(len(values))) or not values:
        raise BadInput(f"{file} has the values {values[:8]}, expected 0, 1, 2, .. each once")
    order = np.argsort(values)
    texts = [re.fullmatch(r"#?([0-9a-fA-F]{6})", (rows[i].get("colour") or "").strip()) for i in order]
    colours = [[int(t.group(1)[k : k + 2], 16) for k in (0, 2, 4)] if t else [] for t in texts]
    return [names[i] for i in order], colours if all(colours) else []
