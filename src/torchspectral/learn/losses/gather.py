"""Embeddings of all processes as one batch, with gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from torchspectral.errors import BadInput

_ALONE = [False]


def world_size() -> int:
    """Number of processes that train together; 1 where none do."""
    return dist.get_world_size() if not _ALONE[0] and dist.is_available() and dist.is_initialized() else 1


@contextmanager
def alone() -> Iterator[None]:
    """Losses look at this process only: for figures that one process computes while the others wait."""
    before, _ALONE[0] = _ALONE[0], True
    try:
        yield
    finally:
        _ALONE[0] = before


@torch.no_grad()
def mean_over_processes(x: torch.Tensor) -> torch.Tensor:
    """Mean of a tensor over all processes, without gradient; x itself for one process."""
    world = world_size()
    if world == 1:
        return x
    summed = x.double().clone()
    dist.all_reduce(summed)
    return summed / world


@torch.no_grad()
def from_first(x: torch.Tensor) -> torch.Tensor:
    """The tensor of the first process in all of them: for what is drawn once for the whole batch."""
    if world_size() == 1:
        return x
    sent = x.contiguous().clone()
    dist.broadcast(sent, 0)
    return sent


def gather_batch(x: torch.Tensor) -> torch.Tensor:
    """Rows of all processes in the order of their ranks, shape (world n, d); x itself for one process.

    The gradient is summed over the processes before each takes its own rows. With a loss that every process computes
    over the joined batch, and gradients of parameters averaged as `DistributedDataParallel` does, this is exactly the
    gradient of one process.

    Parameters
    ----------
    x : Tensor, shape (n, d)
        As many rows in every process.

    Raises
    ------
    BadInput
        The processes have batches of different sizes.
    """
    world = world_size()
    if world == 1:
        return x
    sizes: list[Any] = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(world)]
    dist.all_gather(sizes, torch.tensor([x.shape[0]], device=x.device))
    counts = [int(size) for size in sizes]
    if len(set(counts)) > 1:
        raise BadInput(f"the processes have {counts} samples, expected as many in each: drop the last, smaller batch")
    gathered: torch.Tensor = _Gather.apply(x)
    return gathered


@torch.no_grad()
def in_batch_order(x: torch.Tensor) -> torch.Tensor:
    """Rows of all processes in the order that one process would have them, shape (world n, d), without gradient.

    Samples are dealt out to the processes in turn (`sampling.StepSampler`).
    """
    world = world_size()
    return x if world == 1 else gather_batch(x).unflatten(0, (world, -1)).transpose(0, 1).flatten(0, 1)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        whole = gradients[0].contiguous().clone()
        dist.all_reduce(whole)
        size = whole.shape[0] // dist.get_world_size()
        rank = dist.get_rank()
        return whole[rank * size : (rank + 1) * size]
