"""The contract of a folder layout, and pieces that several of them share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from torchspectral.errors import BadInput, BrokenProduct, TorchspectralError, UnknownName, closest
from torchspectral.io.readers.base import LIBRARY_ERRORS
from torchspectral.io.safety import check_raster, check_read, open_raster
from torchspectral.learn.patch_sets.entries import TEST, Entry, Probed, Walk
from torchspectral.learn.patch_sets.facts import Codes
from torchspectral.learn.patch_sets.index import Index
from torchspectral.learn.splits import HELD_OUT, TRAIN

TIFF = (".tif", ".tiff")
Cut = tuple[slice, slice]
"""Rows and columns of a file."""


@dataclass(frozen=True)
class Bands:
    """What the stored numbers of a kind of patch are: value = stored * scale + offset.

    Attributes
    ----------
    wavelength, fwhm : ndarray, shape (bands,)
        [nm]; NaN where nothing says.
    good : ndarray of bool, shape (bands,)
    names : tuple of str
    quantity : str
    scale, offset : float or ndarray, shape (bands,)
    nodata : float, optional
    sensor : str
        "" where unknown.
    """

    wavelength: np.ndarray
    fwhm: np.ndarray
    good: np.ndarray
    quantity: str = "dn"
    scale: Any = 1.0
    offset: Any = 0.0
    nodata: float | None = None
    sensor: str = ""
    names: tuple[str, ...] = ()


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

    def read(self, index: Index, row: int, cut: Cut | None = None, later: bool = False) -> np.ndarray:
        """Stored numbers (band, y, x) of a patch, or of its other date.

        Raises
        ------
        BrokenProduct
        """
        path = self.root / index.path(row, "later" if later else "path")
        return read_raster(path, _placed(index, row, cut))

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
        stored = read_raster(path, _placed(index, row, cut), None if whole else size)
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


def _placed(index: Index, row: int, cut: Cut | None) -> Cut | None:
    top, left, height, width = (int(n) for n in index.columns["window"][row])
    if top < 0:
        return cut
    rows, cols = cut or (slice(0, height), slice(0, width))
    return slice(top + rows.start, top + rows.stop), slice(left + cols.start, left + cols.stop)


@lru_cache(maxsize=256)
def _short_crs(wkt: str) -> str:
    from rasterio.crs import CRS

    return str(CRS.from_wkt(wkt).to_string())


def probe_raster(path: Path, drivers: tuple[str, ...] = ("GTiff",)) -> Probed:
    """Facts of a raster file.

    Raises
    ------
    BrokenProduct, TooLarge
    """
    from torchspectral.io.readers.geotiff import check_whole

    try:
        with open_raster(path, drivers) as data:
            check_raster(data)
            if "GTiff" in drivers:
                check_whole(data, path)
            kinds = set(data.dtypes)
            if len(kinds) > 1 or np.dtype(data.dtypes[0]).kind not in "iuf":
                raise BrokenProduct(f"{path.name} holds values of type {', '.join(sorted(kinds))}, expected real ones")
            facts = [data.count, data.dtypes[0], data.nodata, *sorted(set(data.scales)), *sorted(set(data.offsets))]
            facts += [data.descriptions[0], data.descriptions[-1], _wave(data.tags(1)), _wave(data.tags(data.count))]
            key = "|".join("" if f is None else str(f) for f in facts)
            box: tuple[float, ...] = ()
            crs = ""
            if data.crs is not None and not data.transform.is_identity:
                box, crs = tuple(float(v) for v in data.bounds), _short_crs(data.crs.to_wkt())
            return Probed(data.count, data.height, data.width, data.dtypes[0], key, box, crs)
    except TorchspectralError:
        raise
    except LIBRARY_ERRORS as error:
        raise BrokenProduct(f"{path.name} cannot be opened: {' '.join(str(error).split())[:160]}") from None


def _wave(tags: Mapping[str, str]) -> str:
    return next((value for key, value in tags.items() if key.lower() in ("wavelength", "wl")), "")


def read_raster(
    path: Path,
    cut: Cut | None = None,
    size: tuple[int, int] | None = None,
    drivers: tuple[str, ...] = ("GTiff",),
    shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """Stored numbers (band, y, x) of a raster file.

    Parameters
    ----------
    cut : (slice, slice), optional
        Rows and columns to read.
    size : (rows, columns), optional
        What the whole file must have.
    shape : (rows, columns), optional
        Resampled to this, bilinearly.

    Raises
    ------
    BrokenProduct
        It cannot be read.
    BadInput
        Another size, or a cut outside of the file.
    """
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    try:
        with open_raster(path, drivers) as data:
            check_raster(data)
            have = data.height, data.width
            if size is not None and have != size:
                raise BadInput(f"{path.name} has {have[0]} x {have[1]} pixels, expected {size[0]} x {size[1]}")
            rows, cols = cut or (slice(0, have[0]), slice(0, have[1]))
            if rows.stop > have[0] or cols.stop > have[1]:
                raise BadInput(f"{path.name} has {have[0]} x {have[1]} pixels, too few for row {rows.stop}")
            check_read((data.count, rows.stop - rows.start, cols.stop - cols.start), data.dtypes[0], path)
            window = Window(cols.start, rows.start, cols.stop - cols.start, rows.stop - rows.start)
            if shape is not None and shape != have:
                values = data.read(out_shape=(data.count, *shape), resampling=Resampling.bilinear, window=window)
            else:
                values = data.read(window=window) if cut is not None else data.read()
            return np.asarray(values)
    except TorchspectralError:
        raise
    except LIBRARY_ERRORS as error:
        text = " ".join(str(error).split())[:160] or type(error).__name__
        raise BrokenProduct(f"{path.name} cannot be read: {text}") from None


def describe_raster(path: Path) -> Bands:
    """What a GeoTIFF says of its bands."""
    from torchspectral import io

    cube = io.open_product(path, raw=True)
    packing = cube.attrs.get("packing") or {}
    scale, offset = (np.asarray(packing.get(key, [default])) for key, default in (("scale", 1.0), ("offset", 0.0)))
    wave, width = (np.asarray(cube[name].values, dtype=np.float64) for name in ("wavelength", "fwhm"))
    good = np.asarray(cube["good"].values, dtype=bool)
    nodata = packing.get("nodata", cube.attrs.get("nodata"))
    names = tuple(str(n) for n in cube["name"].values) if "name" in cube.coords else ()
    return Bands(
        wave,
        width,
        good,
        str(cube.attrs.get("quantity", "dn")),
        float(scale[0]) if scale.size == 1 else scale,
        float(offset[0]) if offset.size == 1 else offset,
        nodata,
        names=names,
    )


_DATE = re.compile(r"(?<!\d)(19\d\d|20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")


def date_of(name: str) -> int:
    """The first date in a name, as 20220611; 0 where there is none."""
    found = _DATE.search(name)
    return int("".join(found.groups())) if found else 0


_WORDS = {
    "train": TRAIN, "training": TRAIN, "val": HELD_OUT, "valid": HELD_OUT, "validation": HELD_OUT, "dev": HELD_OUT,
    "held-out": HELD_OUT, "test": TEST, "testing": TEST,
}  # fmt: skip


def part_of(word: str) -> str:
    """The part that a word stands for; "" for none."""
    return _WORDS.get(word.strip().lower(), "")


class SplitLists:
    """Published splits: text files named after the parts, one patch a line.

    Parameters
    ----------
    walk : Walk
    folders : sequence of str
        Where the files may be, below the root.
    prefix : sequence of str
        What lines may begin with before the name of the patch.
    suffixes : sequence of str
    """

    def __init__(
        self,
        walk: Walk,
        folders: tuple[str, ...] = ("", "splits"),
        prefix: tuple[str, ...] = (),
        suffixes: tuple[str, ...] = (".txt",),
    ) -> None:
        self.parts: dict[str, str] = {}
        self.found: list[str] = []
        self.used: set[str] = set()
        for folder in folders:
            if folder and not walk.has(folder):
                continue
            for file in walk.files(folder, *suffixes):
                part = part_of(re.split(r"[-_]", Path(file.name).stem)[-1])
                if part:
                    self._read(walk.note(file.path), part, prefix)
                    self.found.append(file.path)
            if self.parts:
                break

    def _read(self, path: Path, part: str, prefix: tuple[str, ...]) -> None:
        from torchspectral.io.safety import read_text

        for line in read_text(path).splitlines():
            name = line.split(",")[0].strip().strip('"').replace("\\", "/")
            if not name or name.startswith("#"):
                continue
            for word in prefix:
                name = name.removeprefix(f"{word}/")
            key = _stem(name)
            if self.parts.setdefault(key, part) != part:
                raise BadInput(
                    f"{path.name}: {name} is also in the list of another part: splits must not share patches"
                )

    def part(self, name: str) -> str:
        """Part of a patch by its path below the folder of images, or by its file's name."""
        for key in (_stem(name), _stem(name.rsplit("/", 1)[-1])):
            if key in self.parts:
                self.used.add(key)
                return self.parts[key]
        return ""

    def note(self, patches: int) -> list[str]:
        """What to tell of lists that do not fit the folder.

        Raises
        ------
        BadInput
            No patch is in them.
        """
        if not self.parts:
            return []
        if patches and not self.used:
            first = next(iter(self.parts))
            raise BadInput(
                f"{self.found[0]} lists {first} and others, and none of them is in this folder: are these the splits "
                "of another set?"
            )
        missing, outside = len(self.parts) - len(self.used), patches - len(self.used)
        notes = [f"{missing} patches of the split lists are not in this folder"] if missing else []
        return notes + ([f"{outside} patches are in no split list and left out"] if outside > 0 else [])


def _stem(name: str) -> str:
    head, dot, tail = name.rpartition(".")
    return head if dot and tail.lower() in ("tif", "tiff", "npz", "npy", "jpg", "jpeg", "png") else name


def class_number(name: str, classes: list[str], where: str) -> int:
    """Number of a class by its name.

    Raises
    ------
    UnknownName
    """
    if name not in classes:
        raise UnknownName(f"{where}: no class {name!r}: {closest(name, classes)}")
    return classes.index(name)


def unknown_bands(count: int, **more: Any) -> Bands:
    """Bands of which nothing is known but their number."""
    nothing = np.full(count, np.nan)
    return Bands(nothing, nothing.copy(), np.ones(count, dtype=bool), **more)


def sensor_bands(sensor: str, names: list[str] | None = None, **more: Any) -> Bands:
    """Bands of a sensor of the catalogue, all or those of some names in their order."""
    from torchspectral import sensors

    found = sensors.get(sensor)
    order = [found.names.index(name) for name in names] if names else list(range(found.bands))
    return Bands(
        found.wavelength[order].astype(np.float64),
        found.fwhm[order].astype(np.float64),
        np.ones(len(order), dtype=bool),
        sensor=found.name,
        names=tuple(found.names[i] for i in order),
        **more,
    )
