"""Learning rates that fall from the head to the patches."""

from __future__ import annotations

import re
from typing import Any

from torch import nn


def layer_of(name: str, depth: int) -> int:
    """Layer of a parameter: 0 for patches and positions, i + 1 for block i, depth + 1 for the rest."""
    if name.startswith(("patch_embed", "pos_embed")):
        return 0
    found = re.match(r"blocks\.(\d+)\.", name)
    return int(found[1]) + 1 if found else depth + 1


def layer_decay_groups(
    network: nn.Module, lr: float, *, depth: int, decay: float = 0.75, weight_decay: float = 0.05, prefix: str = ""
) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: rate ``lr * decay ** (depth + 1 - layer)``, no weight decay on vectors.

    Parameters
    ----------
    network : nn.Module
        With ``patch_embed``, ``pos_embed*`` and ``blocks.i`` under `prefix`; all else counts as the last layer.
    lr : float
        Rate of the last layer.
    depth : int
        Blocks.
    decay, weight_decay : float
    prefix : str
        Of the encoder's names within the network, such as "encoder.".

    Returns
    -------
    list of dict
        ``params``, ``lr``, ``weight_decay`` and ``layer``.

    References
    ----------
    Bao et al., "BEiT", ICLR (2022); SpectralGPT fine-tuning uses 0.75.
    """
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        inside = name.startswith(prefix)
        layer = layer_of(name[len(prefix) :], depth) if inside else depth + 1
        vector = parameter.ndim <= 1
        fresh = {
            "params": [],
            "lr": lr * decay ** (depth + 1 - layer),
            "weight_decay": 0.0 if vector else weight_decay,
            "layer": layer,
        }
        groups.setdefault((layer, vector), fresh)["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]
