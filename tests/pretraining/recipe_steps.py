"""Small scenes, and a recipe's steps without the training loop."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

import torchspectral as ts
from torchspectral.learn.patches import PatchStore, build_store
from torchspectral.learn.recipe import Batch, Recipe
from torchspectral.learn.scenes import open_scenes
from torchspectral.learn.splits import TRAIN
from torchspectral.learn.train import find_recipe

SMALL = {
    "patch": 16,
    "stride": 16,
    "batch": 8,
    "held_out": 0.25,
    "validate_every": 4,
    "checkpoint_every": 2,
    "turns": False,
}


def kinds(rows: int = 64, cols: int = 64, field: int = 16) -> np.ndarray:
    """Number of the class of each pixel: three kinds of square fields."""
    return (np.arange(rows)[:, None] // field + np.arange(cols)[None] // field) % 3


def scene(bands: int = 12, seed: int = 0, low: float = 420.0, high: float = 2400.0) -> Any:
    """A cube of fields with three spectra and a little noise."""
    rng = np.random.default_rng(seed)
    spectra = rng.uniform(0.1, 0.6, (3, bands))
    values = np.moveaxis(spectra[kinds()], -1, 0) + 0.01 * rng.standard_normal((bands, 64, 64))
    return ts.make_cube(values.astype(np.float32), wavelength=np.linspace(low, high, bands), quantity="reflectance")


def opened(method: str, data: list[Any], place: Path, **settings: Any) -> tuple[Recipe, PatchStore]:
    """A recipe that has seen its data, and its patches."""
    recipe = find_recipe("pretraining", method, {**SMALL, **settings})
    scenes = recipe.attach(open_scenes(data, recipe.layers))
    recipe.prepare([s.scene for s in scenes])
    store = build_store(place / "patches.zarr", recipe, scenes)
    recipe.study(store)
    return recipe, store


def batch_of(recipe: Recipe, store: PatchStore, step: int, part: str = TRAIN) -> Batch:
    """The batch of a step, in a shuffled order."""
    count, size = store.count(part), recipe.settings.batch
    order = np.random.default_rng(0).permutation(count)
    samples = [
        recipe.sample(store, part, int(order[(step * size + i) % count]), np.random.default_rng([step, i]))
        for i in range(size)
    ]
    return {role: torch.from_numpy(np.stack([s[role] for s in samples])) for role in samples[0]}


def train_steps(recipe: Recipe, store: PatchStore, steps: int) -> tuple[torch.nn.Module, list[float]]:
    """The network after some steps, and the losses."""
    torch.manual_seed(0)
    network = recipe.build().train()
    optimiser = recipe.optimiser_of(network)
    plan = recipe.schedule(optimiser)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        recipe.begin_step(step)
        loss = recipe.loss(network, batch_of(recipe, store, step))
        optimiser.zero_grad()
        loss.backward()
        recipe.before_update(network, optimiser, step)
        optimiser.step()
        if plan is not None:
            plan.step()
        recipe.after_step(network, step + 1)
        losses.append(float(loss.detach()))
    return network, losses


def exported(recipe: Recipe, network: torch.nn.Module) -> torch.nn.Module:
    """The encoder as its card builds it, with the trained weights."""
    name, arguments = recipe.exported_as()
    made = ts.create_model(name, **arguments)
    state = recipe.exported(network).state_dict()
    more = [re.compile(pattern) for pattern in recipe.card().get("optional_keys", [])]
    made.load_state_dict({k: v for k, v in state.items() if not any(p.fullmatch(k) for p in more)})
    return made.eval()
