"""Patch sets as the training loop reads them: parts, crops, dates and labels, through the recipe's own `pairs`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import make_cube
from torchspectral.errors import BadInput, BandMismatch, BrokenProduct, TooLarge
from torchspectral.learn.patch_sets.entries import PARTS
from torchspectral.learn.patch_sets.patch_set import PatchSet
from torchspectral.learn.patch_sets.rasters import Cut
from torchspectral.learn.patches import PatchStore
from torchspectral.learn.recipe import Recipe, Scene
from torchspectral.learn.splits import HELD_OUT, TRAIN
from torchspectral.log import get_logger

TRIES = 50
"""Patches that may be passed over for one sample."""


def labels_of(scenes: Sequence[Scene], *kinds: str) -> dict[str, Any]:
    """Label facts of the patch set that `Recipe.prepare` was handed: kind, classes, ignore, ..

    Parameters
    ----------
    *kinds : str
        Kinds that will do ("single", "multi", "pixels", "regression").

    Raises
    ------
    BadInput
        No patch set, or one without such labels.
    """
    for scene in scenes:
        cube = scene["cube"] if isinstance(scene, xr.Dataset) else scene
        facts = cube.attrs.get("patch_set")
        if facts:
            labels: dict[str, Any] = facts["labels"]
            have = {labels["kind"], labels.get("also", "")} - {""}
            if not have or (kinds and not have & set(kinds)):
                raise BadInput(
                    f"{facts['path']} has {' and '.join(sorted(have)) or 'no'} labels, expected {' or '.join(kinds)}"
                )
            return labels
    raise BadInput(f"the training data have no labels, expected a patch set with {' or '.join(kinds) or 'some'}")


class PatchSetStore(PatchStore):
    """Samples of a training out of patch sets, read when they are asked for; takes the place of `PatchStore`.

    A sample is a patch, or, for pretraining and for sets without labels, a place: one of its dates is drawn then. Where
    the recipe uses ``later`` and any sample has a second date, every sample has the role: another date of its place, else
    the same. Patches larger than the recipe's are cropped (at random with `rng`, else in the
    middle). A patch with holes that the recipe cannot use, or a broken one that is skipped, gives way to the next of its
    part.

    Parameters
    ----------
    sets : sequence of PatchSet
        Of the same bands.
    recipe : Recipe
        After `prepare`.
    seed : int
        Of the split.
    key : str
    broken : {"refuse", "skip"}

    Raises
    ------
    BandMismatch
        The sets differ in bands.
    BadInput
        Patches smaller than the recipe's, or a part without any.
    """

    def __init__(
        self, sets: Sequence[PatchSet], recipe: Recipe, *, seed: int = 0, key: str = "", broken: str = "refuse"
    ) -> None:
        self.sets, self.broken = list(sets), broken
        self.recipe = copy.copy(recipe)
        s = recipe.settings
        if s.patch % max(recipe.multiple, 1):
            raise BadInput(
                f"got patches of {s.patch} pixels, expected a multiple of {recipe.multiple}: set patch accordingly"
            )
        self._alike()
        self.items: dict[str, list[tuple[int, np.ndarray]]] = {part: [] for part in PARTS[1:]}
        sentences, small = [], 0
        for number, patches in enumerate(self.sets):
            c = patches.index.columns
            fits = (c["height"][patches.rows] >= s.patch) & (c["width"][patches.rows] >= s.patch)
            small += int((~fits).sum())
            if not fits.any():
                raise BadInput(
                    f"the patches of {patches.path} have {patches.shape[1]} x {patches.shape[2]} pixels, fewer than "
                    f"patch={s.patch}: set patch={_largest(patches.shape[1:], max(recipe.multiple, 1))}"
                )
            pixel = _pixel(patches)
            found = patches.split_of(
                patches.rows[fits], how=s.split, held_out=s.held_out, seed=seed,
                block=s.block * pixel, guard=s.guard * pixel if s.guard >= 0 else -1.0,
            )  # fmt: skip
            sentences.append(found.sentence)
            for part, rows in found.rows.items():
                self.items[part] += [(number, group) for group in self._groups(patches, rows)]
        self._thin(seed)
        for part in (TRAIN, HELD_OUT):
            if not self.items[part]:
                raise BadInput(f"no {part} patch is left in {', '.join(str(p.path) for p in self.sets)}")
        self.windows = {
            part: np.array([self.sets[n].windows_of(rows[:1])[0] for n, rows in items]).reshape(-1, 5)
            for part, items in self.items.items()
        }
        self.skipped: set[str] = set()
        self.templates: dict[tuple[int, ...], xr.DataArray] = {}
        self.kept: dict[tuple[int, int, bool], np.ndarray] = {}
        self.room = s.cache << 20 if self._bytes() <= s.cache << 20 else 0
        broken_files = {name: why for p in self.sets for name, why in p.skipped.items()}
        if broken_files:
            names = ", ".join(list(broken_files)[:3])
            sentences.append(
                f"{len(broken_files)} broken files are skipped: {names}{', ..' if len(broken_files) > 3 else ''}"
            )
        if small:
            sentences.append(f"{small} patches smaller than {s.patch} pixels are left out")
        self.dated = "later" in recipe.uses and any(
            rows.size > 1 or self.sets[n].index.columns["later"][rows[0]]
            for items in self.items.values()
            for n, rows in items
        )
        first = self.sample(TRAIN, 0)
        self.attrs: dict[str, Any] = {
            "key": key,
            "roles": list(first),
            "shapes": {role: list(a.shape) for role, a in first.items()},
            "dropped": 0,
            "broken": broken_files,
            "counts": {part: len(items) for part, items in self.items.items()},
            "labels": self.sets[0].labels,
            "areas": [],
            "leakage": "; ".join(dict.fromkeys(sentences)),
        }

    def _alike(self) -> None:
        first = self.sets[0]
        for other in self.sets[1:]:
            gap = np.abs(other.bands.wavelength - first.bands.wavelength) if other.shape[0] == first.shape[0] else None
            if gap is None or (np.isfinite(gap).any() and np.nanmax(gap) > 1.0):
                raise BandMismatch(
                    f"{other.path} has {other.shape[0]} bands and {first.path} {first.shape[0]}, or other wavelengths: "
                    "train on sets of one sensor"
                )
            same = ("kind", "classes", "ignore")
            if any(other.labels[k] != first.labels[k] for k in same) and set(self.recipe.uses) & {"label", "mask"}:
                raise BadInput(f"{other.path} has other classes than {first.path}")

    def _groups(self, patches: PatchSet, rows: np.ndarray) -> list[np.ndarray]:
        """Patches one by one, or those of a place together, by date."""
        paired = bool((patches.index.columns["later"][rows] != b"").any()) if rows.size else False
        labelled = patches.labels["kind"] != "" and self.recipe.room != "pretraining"
        if not rows.size or paired or labelled:
            return [rows[k : k + 1] for k in range(rows.size)]
        c = patches.index.columns
        order = rows[np.lexsort((rows, c["date"][rows], c["place"][rows]))]
        cuts = np.flatnonzero(np.diff(c["place"][order])) + 1
        return np.split(order, cuts)

    def _thin(self, seed: int) -> None:
        most = self.recipe.settings.patches
        for number, (part, limit) in enumerate(((TRAIN, most), (HELD_OUT, max(most // 4, 1)))):
            items = self.items[part]
            if len(items) > limit and "patches" in self.recipe.settings.model_fields_set:
                keep = np.sort(np.random.default_rng([seed, 5 + number]).choice(len(items), limit, replace=False))
                self.items[part] = [items[i] for i in keep]

    def _bytes(self) -> int:
        return sum(
            len(rows) * int(np.prod(self.sets[n].shape)) * np.dtype(self.sets[n].dtype).itemsize
            for items in self.items.values()
            for n, rows in items
        )

    def count(self, part: str) -> int:
        """Number of samples of a part."""
        return len(self.items[part])

    @property
    def roles(self) -> list[str]:
        """Names of the arrays of a sample."""
        return list(self.attrs["roles"])

    def sample(self, part: str, index: int, rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """Arrays (channel, y, x) of one sample by role, float32.

        Raises
        ------
        BrokenProduct
            A file cannot be read, and is not to be skipped.
        BadInput
            Labels out of range; or one patch after the other cannot be used.
        """
        items = self.items[part]
        why = ""
        for number in range(min(TRIES, len(items))):
            place, rows = items[(index + number) % len(items)]
            try:
                arrays = self._arrays(self.sets[place], place, rows, rng)
            except (BrokenProduct, TooLarge) as error:
                if self.broken != "skip":
                    raise type(error)(f"{error}; or skip broken files with broken=skip") from None
                why = str(error)
                self._told(why)
                continue
            if arrays is not None:
                return arrays
            why = "nodata in every one"
        raise BadInput(
            f"{min(TRIES, len(items))} {part} patches in a row cannot be used ({why}): choose a method that uses masks, "
            "smaller patches, or raise holes"
        )

    def _told(self, why: str) -> None:
        if why not in self.skipped:
            self.skipped.add(why)
            get_logger("learn").warning("%s; skipped (%d so far)", why, len(self.skipped))

    def _arrays(
        self, patches: PatchSet, number: int, rows: np.ndarray, rng: np.random.Generator | None
    ) -> dict[str, np.ndarray] | None:
        r = self.recipe
        order = np.arange(rows.size) if rng is None else rng.permutation(rows.size)
        first, second = int(rows[order[0]]), int(rows[order[1 % rows.size]])
        cut = self._cut(patches, first, rng)
        arrays = self._made(patches, number, first, cut)
        if arrays is None:
            return None
        size = arrays[r.lead].shape[-2:]
        if self.dated:
            paired = bool(patches.index.columns["later"][first])
            other = first if paired else second
            made = arrays if other == first and not paired else self._made(patches, number, other, cut, later=paired)
            # A date that cannot be used leaves the place with one.
            made = arrays if made is None else made
            arrays["later"] = made[r.lead].copy() if made is arrays else made[r.lead]
            if "valid" in arrays:
                arrays["later_valid"] = made["valid"].copy()
        self._add_labels(patches, first, cut, arrays, size)
        return arrays

    def _add_labels(
        self, patches: PatchSet, row: int, cut: Cut | None, arrays: dict[str, np.ndarray], size: tuple[int, ...]
    ) -> None:
        """The roles ``mask`` and ``label`` where the set has them; patches without one are told by their values."""
        uses, known = self.recipe.uses, patches.labels
        kinds = {known["kind"], known.get("also", "")} - {""}
        masked = bool((patches.index.columns["mask"][patches.rows[0]]) != b"")
        mask = patches.mask(row, cut) if masked and {"mask", "label"} & set(uses) else None
        if "mask" in uses and masked:
            seen = mask if mask is not None else np.full(size, known["ignore"] or 0)
            arrays["mask"] = seen[None, : size[0], : size[1]].astype(np.float32)
        if "label" in uses and kinds - {"pixels"}:
            label = patches.label(row, mask)
            if label is None:
                label = np.zeros(len(known["classes"])) if "multi" in kinds else np.full(1, -1.0)
            arrays["label"] = label[:, None, None].astype(np.float32)

    def _cut(self, patches: PatchSet, row: int, rng: np.random.Generator | None) -> Cut | None:
        """Rows and columns of the crop; None for a patch of the very size."""
        side, m = self.recipe.settings.patch, max(self.recipe.multiple, 1)
        have = [int(patches.index.columns[name][row]) for name in ("height", "width")]
        if have == [side, side]:
            return None
        room = [(n - side) // m for n in have]
        at = [n // 2 if rng is None else int(rng.integers(n + 1)) for n in room]
        return slice(at[0] * m, at[0] * m + side), slice(at[1] * m, at[1] * m + side)

    def _made(
        self, patches: PatchSet, number: int, row: int, cut: Cut | None, later: bool = False
    ) -> dict[str, np.ndarray] | None:
        stored = self._stored(patches, number, row, cut, later)
        # Decoding works in place where numbers are float already; what is kept must stay.
        values = patches.decoded(stored.copy() if self.room and stored.dtype.kind == "f" else stored)
        cube = self._template(patches, number, stored.shape[1:]).copy(data=values)
        arrays = {role: np.ascontiguousarray(a, dtype=np.float32) for role, a in self.recipe.arrays(cube).items()}
        if not all(np.isfinite(a).all() for a in arrays.values()):
            return None
        if "valid" in arrays and 1 - float(arrays["valid"].mean()) > self.recipe.settings.holes:
            return None
        return arrays

    def _stored(self, patches: PatchSet, number: int, row: int, cut: Cut | None, later: bool) -> np.ndarray:
        if not self.room:
            return patches.stored(row, cut, later)
        key = (number, row, later)
        if key not in self.kept:
            self.kept[key] = patches.stored(row, None, later)
        return self.kept[key] if cut is None else self.kept[key][:, cut[0], cut[1]]

    def _template(self, patches: PatchSet, number: int, shape: Any) -> xr.DataArray:
        key = (number, *(int(n) for n in shape))
        if key not in self.templates:
            b = patches.bands
            self.templates[key] = make_cube(
                np.zeros((patches.shape[0], *key[1:]), dtype=np.float32),
                wavelength=b.wavelength, fwhm=b.fwhm, good=b.good, quantity=b.quantity,
                attrs={"sensor": b.sensor} if b.sensor else {},
            )  # fmt: skip
        return self.templates[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": {}, "templates": {}}


def _largest(size: tuple[int, ...], multiple: int) -> int:
    return min(size) // multiple * multiple


def _pixel(patches: PatchSet) -> float:
    """Side of a pixel [m]; 1 where nothing is known."""
    half = patches.ground.half[patches.rows]
    side = 2 * float(np.nanmedian(half)) / patches.shape[1] if np.isfinite(half).any() else 1.0
    return side or 1.0
