"""Stages of blocks, with or without gradient checkpointing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from torchspectral.errors import BadSettings


def checkpointed(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run a block and recompute it in the backward pass; running statistics are updated once, not twice."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _without_statistics(block)

    return checkpoint(block, x, use_reentrant=False, context_fn=contexts)


def run_stages(
    stages: Sequence[Iterable[nn.Module]], x: torch.Tensor, wanted: Sequence[int] | None, checkpointing: bool
) -> list[torch.Tensor]:
    """Outputs of the stages that are wanted (default: all), finest first; later stages are not run.

    Raises
    ------
    BadSettings
        A stage that is not there.
    """
    take = {stage_index(i, len(stages)) for i in (range(len(stages)) if wanted is None else wanted)}
    maps = []
    for index, stage in enumerate(stages[: max(take, default=-1) + 1]):
        for block in stage:
            x = checkpointed(block, x) if checkpointing and torch.is_grad_enabled() else block(x)
        if index in take:
            maps.append(x)
    return maps


def stage_index(index: int, count: int) -> int:
    """A block's or stage's index from 0; negative ones count from the end.

    Raises
    ------
    BadSettings
    """
    if not -count <= index < count:
        raise BadSettings(f"layer {index} asked for, expected {-count} to {count - 1}")
    return index % count


@contextmanager
def _without_statistics(block: nn.Module) -> Iterator[None]:
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
