"""Every recipe: the steps of two processes are those of one, in loss, gradient, averages and queues."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from recipe_cases import MORE, SIZES, data_of, settings_of, with_second_dates
from recipe_steps import batch_of, opened

from torchspectral.learn.recipe import Batch, Recipe
from torchspectral.learn.sync_norm import share_statistics

STEPS = 2
CASES = (*SIZES, *MORE)
QUICK = (
    "spectralearth-dino",
    "softcon with a queue of another size",
    "intl",
    "hyper-mae",
    "spectralearth-moco both ways",
)


class Step(torch.nn.Module):
    """A recipe's loss as a forward pass, in double precision, its normalisations over all processes."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        torch.manual_seed(0)
        self.network = share_statistics(recipe.build().double())

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.recipe.loss(self.network, batch)


def double(batch: Batch, rows: slice = slice(None)) -> Batch:
    return {role: x[rows].double() if role not in ("draws", "noise") else x[rows] for role, x in batch.items()}


def steps_of(recipe: Recipe, batches: list[Batch], rank: int | None = None) -> dict[str, np.ndarray]:
    """Losses and gradients of some steps, and everything that the next would depend on."""
    made = Step(recipe).train()
    share = slice(None) if rank is None else slice(rank, None, 2)  # as the loader deals them out
    net = made if rank is None else torch.nn.parallel.DistributedDataParallel(made, broadcast_buffers=False)
    optimiser = recipe.optimiser_of(made.network)
    losses, gradients = [], []
    for step, batch in enumerate(batches):
        torch.manual_seed(step * 2 + (rank or 0))
        recipe.begin_step(step)
        optimiser.zero_grad()
        loss = net(double(batch, share))
        loss.backward()
        recipe.before_update(made.network, optimiser, step)
        gradients += [p.grad.ravel() for p in made.network.parameters() if p.grad is not None]
        # A plain step of descent: an adaptive one would blow rounding up where a gradient is all but 0.
        with torch.no_grad():
            for p in made.network.parameters():
                if p.grad is not None:
                    p.sub_(p.grad, alpha=0.1)
        recipe.after_step(made.network, step + 1)
        losses.append(float(loss.detach()))
    state = torch.cat([value.double().ravel() for value in made.network.state_dict().values()])
    return {"loss": np.array(losses), "gradient": torch.cat(gradients).numpy(), "state": state.numpy()}


def one_of_two(rank: int, place: str, cases: dict[str, tuple[Recipe, list[Batch]]]) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)
    for number, (recipe, batches) in enumerate(cases.values()):
        np.savez(f"{place}/{number}-{rank}.npz", **steps_of(recipe, batches, rank))
    dist.destroy_process_group()


Figures = dict[str, np.ndarray]


@lru_cache
def compared(cases: tuple[str, ...], folder: Path) -> dict[str, tuple[Figures, list[Figures]]]:
    """Of each case the steps of one process, and of each of two."""
    made: dict[str, tuple[Recipe, list[Batch]]] = {}
    for case in cases:
        place = folder / case
        place.mkdir()
        data, more = data_of(case, place)
        recipe, store = opened(case.split()[0], data, place, **{**settings_of(case), **more, "steps": STEPS})
        made[case] = recipe, [batch_of(recipe, with_second_dates(store, recipe), step) for step in range(STEPS)]
    mp.spawn(one_of_two, args=(str(folder), made), nprocs=2)
    return {
        case: (steps_of(*made[case]), [dict(np.load(folder / f"{number}-{rank}.npz")) for rank in range(2)])
        for number, case in enumerate(cases)
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES])
def test_two_processes_step_as_one(case: str, folder: Path) -> None:
    one, two = compared(QUICK if case in QUICK else tuple(c for c in CASES if c not in QUICK), folder)[case]
    np.testing.assert_allclose(np.mean([f["loss"] for f in two], 0), one["loss"], rtol=1e-7)
    for found in two:
        np.testing.assert_allclose(found["gradient"], one["gradient"], rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(found["state"], one["state"], rtol=1e-5, atol=1e-8)
