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

from torchspectral.learn.augment import augment
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
    """Batches of the steps from `start` to `stop`; each device takes its share of every batch."""

    def __init__(self, count: int, batch: int, seed: int, start: int, stop: int, rank: int = 0, world: int = 1) -> None:
        self.count, self.batch, self.seed = count, batch, seed
        self.start, self.stop, self.rank, self.world = start, stop, rank, world

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.stop):
            yield batch_of(step, seed=self.seed, count=self.count, batch=self.batch)[self.rank :: self.world]

    def __len__(self) -> int:
        return self.stop - self.start


class TrainingPatches(Dataset[dict[str, torch.Tensor]]):
    """Augmented samples of the training part, by (epoch, index)."""

    def __init__(self, store: PatchStore, recipe: Recipe, seed: int) -> None:
        s = recipe.settings
        self.store, self.seed, self.scaled = store, seed, recipe.scaled
        self.flips, self.jitter, self.spectral = s.flips, s.jitter, s.spectral_jitter

    def __getitem__(self, key: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = key
        rng = np.random.default_rng([self.seed, 3, epoch, index])
        arrays = augment(
            self.store.sample(TRAIN, index, rng),
            rng,
            flips=self.flips,
            jitter=self.jitter,
            spectral=self.spectral,
            scaled=self.scaled,
        )
        return {role: torch.from_numpy(array) for role, array in arrays.items()}


class HeldOutPatches(Dataset[dict[str, torch.Tensor]]):
    """Samples of the held-out part, in order."""

    def __init__(self, store: PatchStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return self.store.count(HELD_OUT)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {role: torch.from_numpy(np.array(a)) for role, a in self.store.sample(HELD_OUT, index).items()}


def training_loader(
    store: PatchStore, recipe: Recipe, seed: int, start: int, stop: int, rank: int = 0, world: int = 1
) -> DataLoader[Any]:
    """Loader of the steps from `start` to `stop`."""
    s = recipe.settings
    sampler = StepSampler(store.count(TRAIN), s.batch, seed, start, stop, rank, world)
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        TrainingPatches(store, recipe, seed),
        batch_sampler=sampler,
        num_workers=s.loader_workers,
        generator=generator,
        multiprocessing_context="spawn" if s.loader_workers else None,
    )


def held_out_loader(store: PatchStore, recipe: Recipe) -> DataLoader[Any]:
    """Loader of the held-out part, in order."""
    return DataLoader(
        HeldOutPatches(store), batch_size=recipe.settings.batch, generator=torch.Generator().manual_seed(0)
    )
