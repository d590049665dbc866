"""Losses that look at the whole batch: two processes give the loss and the gradient of one; recipes: see pretraining."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from torchspectral.learn.losses.contrastive import InfoNCE, NTXent
from torchspectral.learn.losses.dino import DINOLoss
from torchspectral.learn.losses.intl import INTL, INTLLoss
from torchspectral.learn.losses.soft_contrastive import SoftContrastive

# Recipes that step as one in two processes show most of it in less time.
pytestmark = pytest.mark.slow


class Contrasts(nn.Module):
    """NT-Xent, InfoNCE with and without a queue, soft contrast and DINO on one linear network."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Linear(5, 6)
        self.losses = nn.ModuleList([NTXent(), InfoNCE(6, 12), InfoNCE(6, 0), SoftContrastive(), DINOLoss(6)])

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        near, queue, batch, soft, dino = self.losses
        one, two = self.network(x), self.network(x.flip(1))
        total = near(one, two) + queue(one, two) + batch(one, two) + soft.terms(one, two, labels).total
        return total + dino([one, two], [one, two]) + dino([two, one], [two, one])


class Whitened(nn.Module):
    """INTL over three views, without batch statistics, so that only the loss mixes samples."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = INTL(nn.Flatten(), nn.Linear(48, 24).double(), INTLLoss(trade_off=0.05))

    def forward(self, *views: torch.Tensor) -> torch.Tensor:
        return self.model(list(views))


def contrasted() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    labels = (torch.rand(8, 3, generator=generator) > 0.6).float()
    return [torch.randn(8, 5, generator=generator), labels]


def whitened() -> list[torch.Tensor]:
    return [torch.randn(8, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (1, 2, 3)]


CASES = {
    "contrasts": (Contrasts, contrasted, 1e-3),
    "intl": (Whitened, whitened, 1e-9),
}


def figures(net: nn.Module, batch: list[torch.Tensor]) -> dict[str, np.ndarray]:
    """Loss, gradient and state after one backward pass."""
    loss = net(*batch)
    loss.backward()
    gradient = np.concatenate([p.grad.numpy().ravel() for p in net.parameters() if p.grad is not None])
    state = np.concatenate([np.zeros(0), *(b.double().numpy().ravel() for b in net.buffers())])
    return {"loss": loss.detach().numpy(), "gradient": gradient, "state": state}


def one_of_two(rank: int, place: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)
    for name, (make, data, _) in CASES.items():
        net = nn.parallel.DistributedDataParallel(make())
        np.savez(f"{place}/{name}{rank}.npz", **figures(net, [part[rank::2] for part in data()]))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def spawned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("processes")
    mp.spawn(one_of_two, args=(str(place),), nprocs=2)
    return place


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_loss_and_gradient_of_one(spawned: Path, name: str) -> None:
    make, data, tolerance = CASES[name]
    one = figures(make(), data())
    two = [np.load(spawned / f"{name}{rank}.npz") for rank in range(2)]
    assert np.mean([f["loss"] for f in two]) == pytest.approx(one["loss"].item(), rel=max(1e-2 * tolerance, 1e-12))
    for found in two:
        np.testing.assert_allclose(found["gradient"], one["gradient"], rtol=tolerance, atol=max(tolerance / 100, 1e-10))
        np.testing.assert_allclose(found["state"], one["state"], rtol=1e-4, atol=1e-6)
