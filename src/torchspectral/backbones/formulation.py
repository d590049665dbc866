"""What networks of tokens share: a plain formulation beside the faster one, and how their weights begin."""

from __future__ import annotations

from torch import nn


def set_plain(network: nn.Module, plain: bool = True) -> None:
    """Use the papers' formulation (or the equal, faster one) in every part of a network."""
    for part in network.modules():
        if hasattr(part, "plain"):
            part.plain = plain  # type: ignore[assignment]


def initialise(network: nn.Module) -> None:
    """Xavier-uniform linear layers and flattened patch weights, zero biases, unit norms."""
    for part in network.modules():
        if isinstance(part, nn.Linear | nn.Conv3d):
            nn.init.xavier_uniform_(part.weight.view(len(part.weight), -1))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
