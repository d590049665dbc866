"""Which of Z-PNN's networks weights are of, and the networks built with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from torchspectral.errors import BadWeights, BandMismatch
from torchspectral.sharpening.zero_shot.networks import DRPNN, PNN, PanNet


def reach_of(kind: str, ratio: int) -> int:
    """Fine pixels that a prediction looks over the edge."""
    return {"pnn": 8, "pannet": 3 * ratio + 10, "drpnn": 31}[kind]


def network_of(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The network's weights in a state."""
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def architecture_of(weights: Mapping[str, Any]) -> str:
    """Which network weights are of.

    Raises
    ------
    BadWeights
    """
    if "Conv2d_transpose.weight" in weights:
        return "pannet"
    if "Conv_11.weight" in weights:
        return "drpnn"
    if "conv3.weight" in weights:
        return "pnn"
    raise BadWeights(f"got weights {', '.join(sorted(weights))[:120]}, expected those of PNN, PanNet or DRPNN")


def build(kind: str, bands: int, ratio: int, kernels: Any = (9, 5, 5)) -> PNN | PanNet | DRPNN:
    """A network with fresh weights."""
    if kind == "pannet":
        return PanNet(bands, ratio)
    return DRPNN(bands) if kind == "drpnn" else PNN(bands, kernels)


def filled(weights: Mapping[str, torch.Tensor], bands: int, ratio: int, *, empty: bool = False) -> Any:
    """The network that weights are of, with them loaded.

    Raises
    ------
    BandMismatch
        They are for another number of bands.
    BadWeights
        Keys or shapes differ.
    """
    kind = architecture_of(weights)
    kernels = [int(weights[f"conv{n}.weight"].shape[-1]) for n in (1, 2, 3)] if kind == "pnn" else None
    last = {"pnn": "conv3", "pannet": "Conv_9", "drpnn": "Conv_11"}[kind] + ".bias"
    have = int(weights[last].shape[0]) if last in weights else bands
    if have != bands:
        raise BandMismatch(
            f"the weights are for {have} bands and the scene has {bands}: select the bands they were trained on "
            "(bands=), or use method z-pnn-scratch"
        )
    net = build(kind, bands, ratio, kernels)
    if empty:
        return net
    try:
        net.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise BadWeights(f"the weights do not fit {kind}: {' '.join(str(error).split())[:200]}") from None
    return net
