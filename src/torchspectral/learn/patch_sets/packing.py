"""One Zarr store in place of many files: read faster, copied faster, with the index in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from torchspectral.errors import BadInput, BrokenProduct, OutputExists, OutputFailed, TooLarge
from torchspectral.io.safety import check_block
from torchspectral.learn.patch_sets.entries import Entry, Walk
from torchspectral.learn.patch_sets.index import BROKEN, FILE, Index, load_index, save_index
from torchspectral.learn.patch_sets.layout import Layout
from torchspectral.learn.patch_sets.patch_set import PatchSet
from torchspectral.learn.patch_sets.rasters import Bands, Cut
from torchspectral.log import Progress, Step, get_logger, no_progress

SHARD = 32
"""Patches in one file of the store; each is still read on its own."""
MARK = "torchspectral_patches"


class Packed(Layout):
    """A store that `pack` wrote."""

    name: ClassVar[str] = "packed"
    title: ClassVar[str] = "packed patches"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        facts = _facts(root)
        self.labels, self.notes, self.facts = facts["labels"], list(facts["notes"]), facts
        self.by_place = bool(facts["by_place"])
        self._group: Any = None

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """By the store's attributes."""
        return (root / "zarr.json").is_file() and (root / FILE).is_file()

    def entries(self, walk: Walk) -> Iterator[tuple[Entry, float]]:
        """Never asked for: the store has its index in it."""
        raise BadInput(f"{self.root} is packed: it has its own index")

    def stored_index(self) -> Index:
        """The index in the store."""
        return load_index(self.root)

    def describe(self, path: str, bands: int, dtype: str) -> Bands:
        """As it was described when it was packed."""
        b = dict(self.facts["bands"])
        for name in ("wavelength", "fwhm", "scale", "offset"):
            b[name] = _numbers(b[name])
        return Bands(**{**b, "good": np.asarray(b["good"], dtype=bool), "names": tuple(b["names"])})

    @property
    def group(self) -> Any:
        """The Zarr group, opened when first read."""
        if self._group is None:
            import zarr

            try:
                self._group = zarr.open_group(str(self.root), mode="r")
                image = self._group["image"]
                check_block(image.chunks, image.dtype, self.root)
            except (OSError, KeyError, ValueError, TypeError) as error:
                raise BrokenProduct(f"{self.root} is no packed patch set: {str(error)[:120]}") from None
        return self._group

    def read(self, index: Index, row: int, cut: Cut | None = None, later: bool = False) -> np.ndarray:
        """Stored numbers."""
        values = self._get("later" if later else "image", row)
        return values if cut is None else values[:, cut[0], cut[1]]

    def read_mask(self, index: Index, row: int, cut: Cut | None = None) -> np.ndarray:
        """Class numbers, which are checked when they are packed."""
        values = self._get("mask", row).astype(np.int64)
        if values.size and not 0 <= int(values.min()) <= int(values.max()) <= len(self.labels["classes"]):
            raise BadInput(f"{self.root}: mask {row} has labels out of range")
        return values if cut is None else values[cut[0], cut[1]]

    def _get(self, name: str, row: int) -> np.ndarray:
        try:
            return np.asarray(self.group[name][row])
        except (OSError, KeyError, ValueError, RuntimeError, IndexError) as error:
            raise BrokenProduct(f"{self.root}: {name} {row} cannot be read: {str(error)[:120]}") from None

    def label_of(self, index: Index, row: int, mask: np.ndarray | None) -> np.ndarray | None:
        """Labels of the index; classes that the mask shows, where it has no list."""
        found = super().label_of(index, row, mask)
        multi = "multi" in (self.labels["kind"], self.labels.get("also"))
        if multi and index.columns["labels"].shape[1] and index.columns["labels"][row].any():
            return index.columns["labels"][row].astype(np.float32)
        if multi and mask is not None:
            count = len(self.labels["classes"])
            return (np.bincount(mask.ravel(), minlength=count + 1)[:count] > 0).astype(np.float32)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_group": None}


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return np.array([np.nan if v is None else v for v in value], dtype=np.float64)
    return value


def _facts(root: Path) -> dict[str, Any]:
    try:
        text = (root / "zarr.json").read_bytes()
        facts: dict[str, Any] = json.loads(text)["attributes"][MARK]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenProduct(f"{root} is no packed patch set: {str(error)[:120]}") from None
    return facts


def pack(patches: PatchSet, path: str | Path, *, overwrite: bool = False, progress: Progress = no_progress) -> Path:
    """Copy a patch set into one Zarr store (``patches.zarr``), stored numbers as they are.

    Broken files of a set that skips them are left out. The store opens like the folder, `open_patch_set(path)`.

    Parameters
    ----------
    patches : PatchSet
        All of one size.
    path : path
    overwrite : bool
    progress : callable

    Returns
    -------
    Path

    Raises
    ------
    OutputExists, OutputFailed
    BadInput
        Patches of several sizes.
    BrokenProduct
        A file cannot be read, and broken files are not skipped.

    Notes
    -----
    Memory: 32 patches.
    """
    out = Path(path).expanduser()
    if out.exists() and not overwrite:
        raise OutputExists(f"{out} exists: choose another name, or say overwrite")
    if out.exists() and not Packed.recognise(out):
        raise OutputFailed(f"{out} exists and is no packed patch set: choose another name")
    c = patches.index.columns
    sizes = np.unique(np.column_stack([c["height"][patches.rows], c["width"][patches.rows]]), axis=0)
    if len(sizes) > 1:
        raise BadInput(f"{patches.path} has patches of {len(sizes)} sizes ({sizes[0]}, {sizes[1]}, ..), expected one")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        _fill(patches, partial, progress)
        if out.exists():
            shutil.rmtree(out)
        partial.replace(out)
    except OSError as error:
        raise OutputFailed(f"{out} could not be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _fill(patches: PatchSet, partial: Path, progress: Progress) -> None:
    import zarr
    from zarr.codecs import BloscCodec

    group = zarr.open_group(str(partial), mode="w")
    c, rows = patches.index.columns, patches.rows
    image = _shape(patches)
    kinds: dict[str, tuple[tuple[int, ...], Any]] = {"image": (image, patches.dtype)}
    if (c["later"][rows] != b"").any():
        kinds["later"] = (image, patches.dtype)
    if (c["mask"][rows] != b"").any():
        kinds["mask"] = (image[1:], "uint8" if len(patches.labels["classes"]) < 255 else "int32")
    arrays = {
        name: group.create_array(
            name, shape=(rows.size, *shape), chunks=(1, *shape), shards=(SHARD, *shape), dtype=dtype,
            compressors=BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
        )
        for name, (shape, dtype) in kinds.items()
    }  # fmt: skip
    waiting: dict[str, list[np.ndarray]] = {name: [] for name in arrays}
    kept: list[int] = []
    used = 0
    for number, row in enumerate(rows.tolist()):
        try:
            made = _read(patches, row, kinds)
        except (BrokenProduct, TooLarge) as error:
            if not patches.skips:
                raise
            patches.skipped[patches.index.path(row)] = str(error)
            get_logger("learn").warning("%s; left out", error)
            continue
        kept.append(row)
        for name, values in made.items():
            waiting[name].append(values)
        if len(kept) - used == SHARD:
            used = _flush(arrays, waiting, used)
            progress(Step("pack patches", (number + 1) / rows.size))
    if not kept:
        raise BadInput(f"no patch of {patches.path} can be read")
    _flush(arrays, waiting, used)
    for array in arrays.values():
        array.resize((len(kept), *array.shape[1:]))
    group.attrs[MARK] = _described(patches)
    save_index(_subset(patches.index, np.array(kept), patches.kind), partial)
    progress(Step("pack patches", 1.0))


def _shape(patches: PatchSet) -> tuple[int, int, int]:
    return patches.shape


def _read(patches: PatchSet, row: int, kinds: dict[str, Any]) -> dict[str, np.ndarray]:
    made = {"image": patches.stored(row)}
    if "later" in kinds:
        made["later"] = patches.stored(row, later=True)
    if "mask" in kinds:
        mask = patches.mask(row)
        assert mask is not None
        made["mask"] = mask
    for name, values in made.items():
        if values.shape != kinds[name][0]:
            raise BrokenProduct(
                f"{patches.index.path(row)}: {name} has the shape {values.shape}, expected {kinds[name][0]}"
            )
    return made


def _flush(arrays: dict[str, Any], waiting: dict[str, list[np.ndarray]], used: int) -> int:
    stop = used
    for name, array in arrays.items():
        if waiting[name]:
            stop = used + len(waiting[name])
            array[used:stop] = np.stack(waiting[name]).astype(array.dtype)
            waiting[name].clear()
    return stop


def _described(patches: PatchSet) -> dict[str, Any]:
    b = patches.bands

    def plain(value: Any) -> Any:
        array = np.asarray(value, dtype=np.float64)
        found = [None if np.isnan(v) else float(v) for v in array.reshape(-1)]
        return found if array.ndim else found[0]

    return {
        "labels": patches.labels,
        "notes": [*patches.layout.notes, f"packed from {patches.path.name} ({patches.layout.title})"],
        "by_place": patches.layout.by_place,
        "bands": {
            "wavelength": plain(b.wavelength), "fwhm": plain(b.fwhm), "good": [bool(v) for v in b.good],
            "quantity": b.quantity, "scale": plain(b.scale), "offset": plain(b.offset), "nodata": b.nodata,
            "sensor": b.sensor, "names": list(b.names),
        },
    }  # fmt: skip


def _subset(index: Index, rows: np.ndarray, kind: int) -> Index:
    """The index of some rows of one kind, whose windows are whole patches now."""
    columns = {name: values[rows] for name, values in index.columns.items()}
    columns["kind"] = np.zeros_like(columns["kind"])
    columns["window"] = np.full_like(columns["window"], BROKEN)
    return Index(columns, [index.kinds[kind]], index.crs, index.places, {}, {}, dict(index.facts))
