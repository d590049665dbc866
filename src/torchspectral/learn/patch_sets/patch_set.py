"""A patch set: an index over many small images, read one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from torchspectral.cube import make_cube
from torchspectral.errors import BadInput, BandMismatch, BrokenProduct, TooLarge, UnknownName, closest
from torchspectral.geo.grids import place
from torchspectral.io.readers.base import StoredArray, decode_values
from torchspectral.learn.patch_sets.entries import PARTS, TEST
from torchspectral.learn.patch_sets.index import Index
from torchspectral.learn.patch_sets.layout import Layout
from torchspectral.learn.patch_sets.places import Ground, Split, ground_of, split_rows
from torchspectral.learn.patch_sets.rasters import Cut
from torchspectral.learn.splits import HELD_OUT, TRAIN

SHEET = 64
"""Patches that stand for the set where a scene is expected."""


class PatchSet:
    """Small images of one sensor with labels, dates and places; made by `open_patch_set`.

    Parameters
    ----------
    layout : Layout
    index : Index
    rows : ndarray of int
        The patches of the index that belong to it: of one kind, and whole.
    skipped : dict of str to str, optional
        Broken files and why; None refuses them.

    Attributes
    ----------
    layout, index, rows
    kind : int
        Which of ``index.kinds`` its patches are of.
    bands : Bands
        What the stored numbers are.
    shape : tuple of int
        Bands, rows, columns of its smallest patch.
    skipped : dict of str to str
        Broken files and why, where they are skipped.

    Raises
    ------
    BrokenProduct
        The first file cannot be opened any more, and broken ones are refused; or several in a row cannot.
    """

    def __init__(self, layout: Layout, index: Index, rows: np.ndarray, skipped: dict[str, str] | None = None) -> None:
        self.layout, self.index = layout, index
        self.skips = skipped is not None
        self.kind = int(index.columns["kind"][rows[0]])
        facts = index.kinds[self.kind]
        self.dtype = str(facts["dtype"])
        self.bands, broken = layout.describe_first(index, rows, skip=self.skips)
        self.rows = rows = rows[len(broken) :]
        self.skipped = {**(skipped or {}), **broken}
        height, width = (int(index.columns[name][rows].min()) for name in ("height", "width"))
        self.shape = int(facts["bands"]), height, width
        self._split: Split | None = None
        self._ground: Ground | None = None

    @property
    def path(self) -> Path:
        """The folder."""
        return self.layout.root

    @property
    def labels(self) -> dict[str, Any]:
        """``kind``, ``classes``, ``ignore``, .. of its labels; see `Layout`."""
        return self.layout.labels

    def fingerprint(self) -> str:
        """Changes when files come, go, grow or are written anew."""
        return self.index.fingerprint()

    def __len__(self) -> int:
        return int(self.rows.size)

    def __repr__(self) -> str:
        bands, height, width = self.shape
        try:
            counts = ", ".join(f"{name} {self.count(name)}" for name in (TRAIN, HELD_OUT, TEST) if self.count(name))
        except BadInput:
            counts = f"{len(self)} patches of one place"
        what = f", {self.labels['kind']} labels of {len(self.labels['classes'])}" if self.labels["kind"] else ""
        return f"<PatchSet {self.path.name} ({self.layout.title}): {bands} x {height} x {width}, {counts}{what}>"

    @property
    def ground(self) -> Ground:
        """Where its patches lie."""
        if self._ground is None:
            self._ground = ground_of(self.index)
        return self._ground

    def split(self, **options: Any) -> Split:
        """The parts; see `places.split_rows`."""
        return self.split_of(self.rows, **options)

    def split_of(self, rows: np.ndarray, **options: Any) -> Split:
        """The parts of some of its patches."""
        return split_rows(self.index, rows, ground=self.ground, **options)

    def part(self, name: str) -> np.ndarray:
        """Rows of a part: the published one, else of blocks of ground by seed 0."""
        if name not in PARTS[1:]:
            raise UnknownName(f"no part {name!r}: {closest(name, PARTS[1:])}")
        if self._split is None:
            self._split = self.split()
        return self._split.rows[name]

    def count(self, part: str) -> int:
        """Patches of a part ("train", "held-out", "test")."""
        return int(self.part(part).size)

    @property
    def windows(self) -> dict[str, np.ndarray]:
        """Place, row, column, height and width of the patches of each part."""
        return {name: self.windows_of(self.part(name)) for name in PARTS[1:]}

    def windows_of(self, rows: np.ndarray) -> np.ndarray:
        """(n, 5) place, row, column, height, width."""
        c = self.index.columns
        window = np.where(c["window"][rows] < 0, 0, c["window"][rows])
        size = np.column_stack([c["height"][rows], c["width"][rows]])
        return np.column_stack([c["place"][rows], window[:, :2], size]).astype(np.int64)

    @property
    def attrs(self) -> dict[str, Any]:
        """Facts for reports: layout, counts, labels, leakage, broken files, notes."""
        self.part(TRAIN)
        assert self._split is not None
        return {
            "layout": self.layout.name,
            "counts": {name: self.count(name) for name in PARTS[1:]},
            "labels": self.labels,
            "leakage": self._split.sentence,
            "broken": dict(self.skipped),
            "notes": list(self.layout.notes),
            "areas": [],
            "dropped": 0,
        }

    def sample(self, part: str, index: int, rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """One patch: ``image`` (channel, y, x) physical, 0 where nodata; ``valid``; ``label`` and ``mask`` where it has them.

        Nothing is drawn from `rng`.
        """
        row = int(self.part(part)[index])
        values = self.values(row)
        seen = np.isfinite(values).all(0)
        out = {"image": np.nan_to_num(values, nan=0.0), "valid": seen[None].astype(np.float32)}
        mask = self.mask(row)
        label = self.label(row, mask)
        if label is not None:
            out["label"] = label[:, None, None]
        if mask is not None:
            out["mask"] = mask[None].astype(np.float32)
        return out

    def check_size(self, row: int) -> None:
        """Refuse a file that is not the one that was indexed: cut off, or written anew.

        Raises
        ------
        BrokenProduct
        """
        if self.index.columns["window"][row, 0] >= 0 or self.layout.name == "packed":
            return
        path = self.path / self.index.path(row)
        try:
            have = path.stat()
        except OSError as error:
            raise BrokenProduct(f"{path} is gone since the index was made: {error.strerror}") from None
        expected = int(self.index.columns["size"][row])
        if path.is_file() and have.st_size != expected:
            raise BrokenProduct(
                f"{path} has {have.st_size} bytes and had {expected} when the index was made: it is cut off, or was "
                "written anew; open the set with rebuild=True"
            )

    def stored(self, row: int, cut: Cut | None = None, later: bool = False) -> np.ndarray:
        """Stored numbers (band, y, x).

        Raises
        ------
        BrokenProduct
        """
        self.check_size(row)
        values = self.layout.read(self.index, row, cut, later)
        if values.shape[0] != self.shape[0]:
            raise BandMismatch(f"{self.index.path(row)} has {values.shape[0]} bands, expected {self.shape[0]}")
        return values

    def decoded(self, stored: np.ndarray) -> np.ndarray:
        """Physical values of stored numbers: float32, NaN for nodata."""
        b = self.bands
        nodata = b.nodata
        if nodata is not None and stored.dtype.kind in "iu":
            limits = np.iinfo(stored.dtype)
            nodata = nodata if limits.min <= nodata <= limits.max else None
        return decode_values(stored, b.scale, b.offset, nodata, dtype=np.float32)

    def values(self, row: int, cut: Cut | None = None, later: bool = False) -> np.ndarray:
        """Physical values (band, y, x) of a patch, float32, NaN for nodata."""
        return self.decoded(self.stored(row, cut, later))

    def values_or_nan(self, row: int, cut: Cut | None = None) -> np.ndarray:
        """As `values`, but NaN for a broken file where these are skipped.

        Raises
        ------
        BrokenProduct, TooLarge
        """
        try:
            return self.values(row, cut)
        except (BrokenProduct, TooLarge):
            if not self.skips:
                raise
        height, width = (int(self.index.columns[name][row]) for name in ("height", "width"))
        rows, cols = cut or (slice(0, height), slice(0, width))
        return np.full((self.shape[0], rows.stop - rows.start, cols.stop - cols.start), np.nan, dtype=np.float32)

    def cube(self, row: int) -> xr.DataArray:
        """A patch as a cube on the ground."""
        values = self.values(row)
        b = self.bands
        made = make_cube(
            values, wavelength=b.wavelength, fwhm=b.fwhm, good=b.good, quantity=b.quantity,
            attrs={"history": [f"patch {self.index.path(row)}"]},
        )  # fmt: skip
        box = self.index.columns["box"][row]
        if not np.isfinite(box).all():
            return place(made, None)
        from affine import Affine

        west, south, east, north = (float(v) for v in box)
        rows, cols = values.shape[1:]
        transform = Affine((east - west) / cols, 0, west, 0, (south - north) / rows, north)
        return place(made, transform, self.index.crs[int(self.index.columns["crs"][row])])

    def mask(self, row: int, cut: Cut | None = None) -> np.ndarray | None:
        """Class numbers (y, x) of the pixels, int64; None where the patch has none.

        Raises
        ------
        BadInput
            Labels out of range.
        """
        return self.layout.read_mask(self.index, row, cut) if self.index.columns["mask"][row] else None

    def label(self, row: int, mask: np.ndarray | None = None) -> np.ndarray | None:
        """Label of a patch, float32: (1,) number of its class, (classes,) of 0 and 1, or (targets,); None for none."""
        mask = self.mask(row) if mask is None and self.labels["kind"] == "multi" else mask
        if self.labels["kind"] == "pixels" and self.labels.get("also") != "multi":
            return None
        return self.layout.label_of(self.index, row, mask)

    def statistics(self, count: int = 256, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each band over some training patches, nodata left out, float64.

        Parameters
        ----------
        count : int
            Most patches to read.
        """
        rows = self.part(TRAIN)
        chosen = np.sort(np.random.default_rng([seed, 9]).permutation(rows)[:count])
        total, square, number = (np.zeros(self.shape[0]) for _ in range(3))
        for row in chosen:
            flat = self.values_or_nan(int(row)).reshape(self.shape[0], -1).astype(np.float64)
            seen = np.isfinite(flat)
            flat = np.where(seen, flat, 0)
            total += flat.sum(1)
            square += (flat**2).sum(1)
            number += seen.sum(1)
        mean = total / np.maximum(number, 1)
        return mean, np.sqrt(np.maximum(square / np.maximum(number, 1) - mean**2, 0))

    def sheet(self) -> xr.DataArray:
        """Some training patches side by side as one lazy cube, for what expects a scene.

        ``attrs["patch_set"]`` has the label facts, the counts and the folder.
        """
        rows = self.part(TRAIN)
        chosen = rows[np.unique(np.linspace(0, rows.size - 1, min(SHEET, rows.size)).round().astype(int))]
        b = self.bands
        variable = xr.Variable(("band", "y", "x"), indexing.LazilyIndexedArray(_Sheet(self, chosen)))
        facts = {"labels": self.labels, "path": str(self.path), "layout": self.layout.name, "patches": len(self)}
        cube = make_cube(
            variable, wavelength=b.wavelength, fwhm=b.fwhm, good=b.good, quantity=b.quantity,
            attrs={"patch_set": facts, **({"sensor": b.sensor} if b.sensor else {})},
        )  # fmt: skip
        return place(cube, None)


class _Sheet(StoredArray):
    """Patches side by side; a read opens those that it needs."""

    def __init__(self, patches: PatchSet, rows: np.ndarray) -> None:
        self.patches, self.chosen = patches, rows
        bands, height, self.side = patches.shape
        shape = (bands, height, self.side * rows.size)
        super().__init__(shape, np.float32, source=patches.path, decode=False, chunks=(bands, height, self.side))

    def read(self, bands: slice | np.ndarray, rows: slice, cols: slice) -> np.ndarray:
        """Values of a window."""
        parts = []
        for number in range(cols.start // self.side, -(-cols.stop // self.side)):
            left = number * self.side
            cut = slice(max(cols.start - left, 0), min(cols.stop - left, self.side))
            parts.append(self.patches.values_or_nan(int(self.chosen[number]), (rows, cut))[bands])
        return np.concatenate(parts, axis=2)
