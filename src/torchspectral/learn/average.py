"""Networks that follow another as its moving average: teachers of self-distillation, momentum encoders."""

from __future__ import annotations

import copy

import torch
from torch import nn


def follower(network: nn.Module) -> nn.Module:
    """A copy that gets no gradient, to be moved by `follow`."""
    made = copy.deepcopy(network)
    for parameter in made.parameters():
        parameter.requires_grad_(False)
    return made


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """Move the parameters: momentum x average + (1 - momentum) x network; buffers are the follower's own.

    Parameters
    ----------
    average, network : nn.Module
        Of one architecture.
    momentum : float
        0..1.
    """
    pairs = [(a, n) for a, n in zip(average.parameters(), network.parameters(), strict=True) if a is not n]
    if pairs:
        torch._foreach_lerp_([a for a, _ in pairs], [n.to(a.dtype) for a, n in pairs], 1 - momentum)
