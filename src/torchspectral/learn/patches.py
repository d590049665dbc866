"""Patch stores: training samples cut once from lazy scenes into Zarr, read at random afterwards."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from torchspectral.engine.method import Window
from torchspectral.errors import BadCube, BadInput, JournalMismatch, OutputFailed
from torchspectral.learn.recipe import Recipe
from torchspectral.learn.scenes import OpenedScene, read_block
from torchspectral.learn.splits import HELD_OUT, TRAIN, Area, Leakage, block_split, leakage, random_split
from torchspectral.log import Progress, Step, get_logger, no_progress

SHARD = 16
"""Patches in one file of the store; each is still read on its own."""
BLOCK_BYTES = 96 << 20
"""Largest block of a scene that is read at once; a recipe makes a few arrays of this size from it."""


class Place(NamedTuple):
    """Where a patch is cut: part, scene, window and the ground that may be read for it, in lead pixels."""

    part: str
    scene: int
    window: Window
    ground: Window


@dataclass(frozen=True)
class Plan:
    """Which patches the store gets.

    Attributes
    ----------
    places : list of Place
    areas : list of Area
        Empty for a random split.
    leakage : Leakage
    """

    places: list[Place]
    areas: list[Area]
    leakage: Leakage


def make_plan(recipe: Recipe, scenes: Sequence[OpenedScene], seed: int) -> Plan:
    """Split the ground and place the patches; reads no pixel.

    Raises
    ------
    BadSettings, BadInput
        The patch is no multiple of `Recipe.multiple`, or the scenes are too small.
    """
    s = recipe.settings
    m = max(recipe.multiple, 1)
    if s.patch % m:
        raise BadInput(
            f"got patches of {s.patch} pixels, expected a multiple of {m} for {recipe.method}: set patch accordingly"
        )
    stride = s.stride or max(s.patch // 2, 1)
    shapes = [(rows // m * m, cols // m * m) for rows, cols in (scene.shape for scene in scenes)]
    areas: list[Area] = []
    if s.split == "random":
        parts = random_split(shapes, size=s.patch, stride=stride, multiple=m, held_out=s.held_out, seed=seed)
        cut = {
            part: [Place(part, i, w, Window(0, 0, *shapes[i])) for i, w in group]
            for part, group in zip((TRAIN, HELD_OUT), parts, strict=True)
        }
    else:
        areas = block_split(
            shapes,
            held_out=s.held_out,
            block=s.block,
            guard=s.guard,
            least=s.patch + m - 1,
            reach=recipe.reach,
            seed=seed,
            counts=recipe.class_counts,
        )
        cut = {part: [] for part in (TRAIN, HELD_OUT)}
        for area in areas:
            cut[area.part] += [Place(area.part, area.scene, w, area.ground) for w in area.patches(s.patch, stride, m)]
    train, held = ([p for p in cut[part] if recipe.chooses(p.scene, p.window)] for part in (TRAIN, HELD_OUT))
    for part, places in ((TRAIN, train), (HELD_OUT, held)):
        if not places:
            raise BadInput(
                f"no {part} patch holds a label: label more places, choose another seed or smaller blocks (block=), or "
                "give more scenes"
            )
    found = leakage([(p.scene, p.window) for p in train], [(p.scene, p.window) for p in held], guard=max(s.guard, 0))
    train = _thin(train, s.patches, [seed, 5])
    held = _thin(held, max(s.patches // 4, 1), [seed, 6])
    return Plan([*train, *held], areas, found)


def _thin(places: list[Place], most: int, seed: list[int]) -> list[Place]:
    if len(places) <= most:
        return places
    keep = np.sort(np.random.default_rng(seed).choice(len(places), most, replace=False))
    return [places[i] for i in keep]


class PatchStore:
    """Samples of one training, by part and number.

    Parameters
    ----------
    path : Path
        A Zarr group with an array ``<part>/<role>`` of shape (n, channel, y, x) for each role.
    cache : int
        Keep everything in memory where it is at most this many bytes.
    """

    def __init__(self, path: Path, cache: int = 0) -> None:
        import zarr

        self.path = path
        group: Any = zarr.open_group(str(path), mode="r")
        self.attrs = dict(group.attrs)
        self.arrays: dict[str, dict[str, Any]] = {
            part: {role: group[part][role] for role in self.attrs["roles"]} for part in (TRAIN, HELD_OUT)
        }
        self.windows = {part: np.asarray(group[part]["window"][:]) for part in (TRAIN, HELD_OUT)}
        total = sum(a.nbytes for arrays in self.arrays.values() for a in arrays.values())
        if total <= cache:
            self.arrays = {p: {r: a[:] for r, a in arrays.items()} for p, arrays in self.arrays.items()}

    def count(self, part: str) -> int:
        """Number of samples of a part."""
        return int(self.windows[part].shape[0])

    def sample(self, part: str, index: int, rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        """Arrays (channel, y, x) of one sample by role, float32; nothing is drawn from `rng`."""
        return {role: np.asarray(array[index]) for role, array in self.arrays[part].items()}

    @property
    def roles(self) -> list[str]:
        """Names of the arrays of a sample."""
        return list(self.attrs["roles"])


def store_key(recipe: Recipe, scenes: Sequence[OpenedScene], seed: int) -> str:
    """Changes when the store would hold something else."""
    facts = {
        "recipe": f"{recipe.room}/{recipe.method}",
        "settings": recipe.store_settings(),
        "scenes": [scene.fingerprint for scene in scenes],
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def build_store(
    path: Path,
    recipe: Recipe,
    scenes: Sequence[OpenedScene],
    *,
    seed: int = 0,
    progress: Progress = no_progress,
) -> PatchStore:
    """Cut the samples of a training, or open the store where it exists; patch sets are read where they lie.

    Scenes are read block by block with the recipe's `reach` as margin; patches with a value that is not finite in any
    role are left out, or, where the recipe uses masks, those with more holes than its setting allows. The store appears under its name only when it is complete.

    Raises
    ------
    JournalMismatch
        A store of that name was cut from other scenes, settings or seed.
    BadInput
        No patch without nodata is left in a part.
    BadCube
        The recipe's arrays do not cover the same ground.
    OutputFailed
    """
    cache = recipe.settings.cache << 20
    key = store_key(recipe, scenes, seed)
    sets = [scene.patch_set for scene in scenes if scene.patch_set is not None]
    if sets:
        from torchspectral.learn.patch_sets.store import PatchSetStore

        return PatchSetStore(sets, recipe, seed=seed, key=key, broken=recipe.settings.broken)
    if path.exists():
        store = PatchStore(path, cache)
        if store.attrs.get("key") != key:
            raise JournalMismatch(
                f"{path} holds patches of other scenes, settings or seed: delete it or choose another place for the run"
            )
        return store
    plan = make_plan(recipe, scenes, seed)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        _fill(partial, recipe, scenes, plan, key, progress)
        partial.replace(path)
    except OSError as error:
        raise OutputFailed(f"{path} could not be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return PatchStore(path, cache)


def _fill(
    partial: Path, recipe: Recipe, scenes: Sequence[OpenedScene], plan: Plan, key: str, progress: Progress
) -> None:
    import zarr

    group = zarr.open_group(str(partial), mode="w")
    writers: dict[str, _Writer] = {}
    shapes: dict[str, list[int]] = {}
    done = dropped = 0
    for places, read in _reads(recipe, scenes, plan.places):
        scene = places[0].scene
        arrays = recipe.arrays(read_block(scenes[scene].scene, read))
        for part, _, window, _ in places:
            sample = crop(arrays, recipe, read, window)
            done += 1
            if not all(np.isfinite(a).all() for a in sample.values()) or _gone(sample) > recipe.settings.holes:
                dropped += 1
                continue
            if part not in writers:
                count = sum(place.part == part for place in plan.places)
                writers[part] = _Writer(group.create_group(part), count, sample)
            writers[part].append(sample, scene, window)
            shapes = {role: list(a.shape) for role, a in sample.items()}
        progress(Step("cut patches", done / len(plan.places)))
    for part in (TRAIN, HELD_OUT):
        if part not in writers:
            raise BadInput(f"every {part} patch holds nodata: choose smaller patches, or scenes with fewer gaps")
        writers[part].close()
    if dropped:
        get_logger("learn").info("%d of %d patches hold nodata and were left out", dropped, done)
    group.attrs.update(
        {
            "key": key,
            "roles": list(shapes),
            "shapes": shapes,
            "dropped": dropped,
            "counts": {part: writer.used for part, writer in writers.items()},
            "areas": [[a.scene, a.part, *_numbers(a.window), *_numbers(a.ground)] for a in plan.areas],
            "leakage": plan.leakage.sentence(),
        }
    )


def _gone(sample: Mapping[str, np.ndarray]) -> float:
    """Share of a sample without values, where it says which they are."""
    return 1.0 - float(sample["valid"].mean()) if "valid" in sample else 0.0


def _numbers(window: Window) -> list[int]:
    return [window.row, window.col, window.height, window.width]


def areas_of(store: PatchStore) -> list[Area]:
    """The split that a store was cut by; empty for a random one."""
    return [
        Area(int(scene), Window(*(int(n) for n in w[:4])), str(part), Window(*(int(n) for n in w[4:])))
        for scene, part, *w in store.attrs["areas"]
    ]


def _reads(
    recipe: Recipe, scenes: Sequence[OpenedScene], places: Sequence[Place]
) -> Iterator[tuple[list[Place], Window]]:
    """Patches grouped by the block of a scene that is read for them, in order."""
    m = max(recipe.multiple, 1)
    side = block_side(recipe, scenes)
    groups: dict[tuple[int, ...], list[Place]] = {}
    for place in places:
        w, g = place.window, place.ground
        groups.setdefault((place.scene, w.row // side, w.col // side, *_numbers(g)), []).append(place)
    for index in sorted(groups):
        group = groups[index]
        yield group, padded([p.window for p in group], recipe.reach, m, group[0].ground, scenes[index[0]].shape)


def block_side(recipe: Recipe, scenes: Sequence[OpenedScene]) -> int:
    """Side of the blocks that scenes are read in, margins not counted [lead pixels]."""
    bands = max(scene.cube.sizes["band"] for scene in scenes)
    side = int((BLOCK_BYTES / (4 * bands)) ** 0.5) - 2 * recipe.reach - recipe.settings.patch
    return max(min(side, 512), 2 * recipe.settings.patch)


def padded(windows: Sequence[Window], margin: int, multiple: int, ground: Window, shape: tuple[int, int]) -> Window:
    """Smallest window around `windows` with a margin, on multiples, inside `ground` and a scene of `shape`."""
    ends = []
    for low, high, least, most in (
        (
            min(w.row for w in windows),
            max(w.row + w.height for w in windows),
            ground.row,
            min(ground.row + ground.height, shape[0]),
        ),
        (
            min(w.col for w in windows),
            max(w.col + w.width for w in windows),
            ground.col,
            min(ground.col + ground.width, shape[1]),
        ),
    ):
        start = -(-max(low - margin, least) // multiple) * multiple
        stop = min(high + margin, most) // multiple * multiple
        ends.append((start, stop))
    (row, bottom), (col, right) = ends
    return Window(row, col, bottom - row, right - col)


def crop(arrays: Mapping[str, np.ndarray], recipe: Recipe, read: Window, window: Window) -> dict[str, np.ndarray]:
    """Cut one patch out of the arrays of a block, each role on its own grid.

    Raises
    ------
    BadCube
        A role does not cover the lead's ground with whole pixels.
    """
    m = max(recipe.multiple, 1)
    lead = arrays.get(recipe.lead)
    expected = (read.height // m * m, read.width // m * m)
    if lead is None or lead.ndim != 3 or lead.shape[-2:] != expected:
        got = None if lead is None else lead.shape
        raise BadCube(
            f"the recipe of {recipe.method} made {recipe.lead!r} of shape {got}, expected (channel, *{expected})"
        )
    out = {}
    for role, array in arrays.items():
        place = []
        for start, length, have, full in (
            (window.row - read.row, window.height, array.shape[-2], expected[0]),
            (window.col - read.col, window.width, array.shape[-1], expected[1]),
        ):
            if start * have % full or length * have % full:
                raise BadCube(
                    f"the recipe of {recipe.method} made {role!r} of {array.shape[-2:]} pixels over {expected} lead "
                    f"pixels, expected a whole number of pixels for every {m} lead pixels"
                )
            place.append(slice(start * have // full, (start + length) * have // full))
        out[role] = np.ascontiguousarray(array[..., place[0], place[1]], dtype=np.float32)
    return out


class _Writer:
    """Appends samples to one part, a shard at a time."""

    def __init__(self, group: Any, count: int, sample: Mapping[str, np.ndarray]) -> None:
        self.arrays = {
            role: group.create_array(
                role, shape=(count, *a.shape), chunks=(1, *a.shape), shards=(SHARD, *a.shape), dtype="float32"
            )
            for role, a in sample.items()
        }
        self.windows = group.create_array("window", shape=(count, 5), chunks=(max(count, 1), 5), dtype="int64")
        self.used = 0
        self.waiting: list[tuple[Mapping[str, np.ndarray], list[int]]] = []

    def append(self, sample: Mapping[str, np.ndarray], scene: int, window: Window) -> None:
        """Add a sample with the place that it was cut from."""
        self.waiting.append((sample, [scene, *_numbers(window)]))
        if len(self.waiting) == SHARD:
            self._flush()

    def _flush(self) -> None:
        if not self.waiting:
            return
        stop = self.used + len(self.waiting)
        for role, array in self.arrays.items():
            array[self.used : stop] = np.stack([sample[role] for sample, _ in self.waiting])
        self.windows[self.used : stop] = np.array([place for _, place in self.waiting])
        self.used = stop
        self.waiting = []

    def close(self) -> None:
        """Write what waits and cut the arrays to what was used."""
        self._flush()
        for array in (*self.arrays.values(), self.windows):
            array.resize((self.used, *array.shape[1:]))
