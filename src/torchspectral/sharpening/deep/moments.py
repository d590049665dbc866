"""Networks and their Adam optimiser as a flat state, so that a fit can be stopped and gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from torchspectral.errors import BadWeights

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def network_state(network: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    """Copies of the weights that are learned and of the running statistics, under a prefix."""
    fixed = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    return {f"{prefix}{key}": value.detach().clone() for key, value in network.state_dict().items() if key not in fixed}


def fill_network(network: nn.Module, state: Mapping[str, Any], prefix: str) -> None:
    """Copy such a state back.

    Raises
    ------
    BadWeights
        Something is absent or has another shape.
    """
    own = network.state_dict()
    fixed = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    for key, value in own.items():
        given = state.get(f"{prefix}{key}")
        if key in fixed:
            continue
        if not isinstance(given, torch.Tensor) or given.shape != value.shape:
            raise BadWeights(f"the state has no {prefix}{key} of shape {tuple(value.shape)}: fit this scene again")
        value.copy_(given)


def adam_state(optimiser: torch.optim.Optimizer, prefix: str) -> dict[str, torch.Tensor]:
    """Copies of Adam's moments and step numbers, under a prefix."""
    found = {}
    for number, parameter in enumerate(_parameters(optimiser)):
        for name in _MOMENTS:
            if name in optimiser.state.get(parameter, {}):
                found[f"{prefix}{number}.{name}"] = optimiser.state[parameter][name].detach().clone()
    return found


def fill_adam(optimiser: torch.optim.Optimizer, state: Mapping[str, Any], prefix: str) -> None:
    """Copy such moments back."""
    for number, parameter in enumerate(_parameters(optimiser)):
        if f"{prefix}{number}.step" in state:
            moments = {name: state[f"{prefix}{number}.{name}"].clone() for name in _MOMENTS}
            optimiser.state[parameter] = {**moments, "step": moments["step"].cpu()}


def _parameters(optimiser: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]
