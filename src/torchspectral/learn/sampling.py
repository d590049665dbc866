"""What is drawn when: order of samples and augmentation follow from (seed, epoch, step) alone.

Nothing here keeps a state, so that a run that is stopped anywhere goes on with the very batch that would have come.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from torchspectral.learn.patches import PatchStore
from torchspectral.learn.recipe import Recipe
from torchspectral.learn.splits import HELD_OUT, TRAIN


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, 4, epoch]).permutation(count)


def batch_of(step: int, *, seed: int, count: int, batch: int) -> list[tuple[int, int]]:
    """Samples of one step as (epoch, index): the endless row of shuffled epochs, cut into batches."""
    places = range(step * batch, (step + 1) * batch)
    return [(place // count, int(_order(seed, place // count, count)[place % count])) for place in places]


def seed_of(seed: int, step: int, rank: int = 0) -> int:
    """Seed of everything that the network draws in one step (dropout, noise)."""
    return int(np.random.SeedSequence([seed, 7, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Batches of the steps from `start` to `stop`; each device takes its share of every batch, in `parts` pieces."""

    def __init__(
        self, count: int, batch: int, seed: int, start: int, stop: int, rank: int = 0, world: int = 1, parts: int = 1
    ) -> None:
        self.count, self.batch, self.seed = count, batch, seed
        self.start, self.stop, self.rank, self.world, self.parts = start, stop, rank, world, parts

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.stop):
            mine = batch_of(step, seed=self.seed, count=self.count, batch=self.batch)[self.rank :: self.world]
            size = len(mine) // self.parts
            for part in range(self.parts):
                yield mine[part * size : (part + 1) * size]

    def __len__(self) -> int:
        return (self.stop - self.start) * self.parts


class TrainingPatches(Dataset[dict[str, torch.Tensor]]):
    """Samples of the training part as the recipe makes them, by (epoch, index)."""

    def __init__(self, store: PatchStore, recipe: Recipe, seed: int) -> None:
        self.store, self.recipe, self.seed = store, recipe, seed

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = key
        rng = np.random.default_rng([self.seed, 3, epoch, index])
        return _tensors(self.recipe.sample(self.store, TRAIN, index, rng))


class HeldOutPatches(Dataset[dict[str, torch.Tensor]]):
    """Samples of the held-out part in order, all or evenly thinned; always the same."""

    def __init__(self, store: PatchStore, recipe: Recipe) -> None:
        self.store, self.recipe = store, recipe
        count, most = store.count(HELD_OUT), recipe.settings.validate_patches or store.count(HELD_OUT)
        self.index = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        index = int(self.index[number])
        return _tensors(self.recipe.sample(self.store, HELD_OUT, index, np.random.default_rng([8, index])))


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {role: torch.from_numpy(np.array(array)) for role, array in arrays.items()}


def training_loader(
    store: PatchStore, recipe: Recipe, seed: int, start: int, stop: int, rank: int = 0, world: int = 1
) -> DataLoader[Any]:
    """Loader of the steps from `start` to `stop`."""
    s = recipe.settings
    sampler = StepSampler(store.count(TRAIN), s.batch, seed, start, stop, rank, world, s.accumulate)
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        TrainingPatches(store, recipe, seed),
        batch_sampler=sampler,
        num_workers=s.loader_workers,
        generator=generator,
        multiprocessing_context="spawn" if s.loader_workers else None,
        pin_memory=torch.cuda.is_available(),
    )


def held_out_loader(store: PatchStore, recipe: Recipe) -> DataLoader[Any]:
    """Loader of the held-out part, in order."""
    s = recipe.settings
    return DataLoader(
        HeldOutPatches(store, recipe),
        batch_size=max(s.batch // s.accumulate, 1),
        generator=torch.Generator().manual_seed(0),
    )
