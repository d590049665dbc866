"""The first layer of a vision model, taken over to other bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from torchspectral.errors import BadWeights

FirstLayer = Literal["random", "rgb"]
RGB = ("B4", "B3", "B2")


def inflate(
    state: dict[str, Any], key: str, own: torch.Tensor, names: Sequence[str], first: FirstLayer
) -> dict[str, Any]:
    """A vision model's state with a first layer for these bands.

    Parameters
    ----------
    state : dict
    key : str
        The first layer's weight, (outputs, 3, y, x); in the state it may have a prefix.
    own : Tensor (outputs, bands, y, x)
        The weight as built.
    names : sequence of str
        Band names; those called B4, B3, B2 see red, green and blue.
    first : {"random", "rgb"}
        Keep the weight as built; or RGB filters for B4, B3, B2 and the mean of the three for all others.

    Raises
    ------
    BadWeights
        The state has no such weight of three channels.
    """
    found = next((k for k in state if k == key or k.endswith(f".{key}")), key)
    key, weight = found, state.get(found)
    if weight is None or weight.ndim != 4 or weight.shape[1] != 3:
        got = "no such key" if weight is None else f"shape {tuple(weight.shape)}"
        raise BadWeights(f"{key}: got {got}, expected the first layer of a vision model, (outputs, 3, rows, columns)")
    if first == "random":
        return {**state, key: own.detach().clone()}
    mean = weight.mean(1)
    plain = {_plain(name): i for i, name in enumerate(RGB)}
    filters = [weight[:, plain[_plain(n)]] if _plain(n) in plain else mean for n in names]
    return {**state, key: torch.stack(filters, 1)}


def _plain(name: str) -> str:
    return name.upper().replace("B0", "B")
