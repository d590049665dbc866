"""MAN: the networks of both versions."""

from __future__ import annotations

import torch
from parity_case import Case

import torchspectral as ts

NAMES = {"num_half_layer": "half_layers", "sample_idx": "sampled"}


def run(case: Case) -> dict:
    """Compute the output of one case."""
    made = case.constructor
    arguments = {NAMES.get(key, key): value for key, value in made.items() if key not in ("name", "version")}
    network = ts.create_model("man-v1" if made["version"] == "v1" else "man-m", **arguments)
    with torch.no_grad():
        return {"output": case.load_into(network)(*case.tensors("x"))}
