"""HSDT: the network in evaluation mode, and a block with similarity attention."""

from __future__ import annotations

import torch
from parity_case import Case

import torchspectral as ts
from torchspectral.restoration.hsdt.network import TransformerBlock


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    made = case.constructor
    if "block" in made:
        block = case.load_into(TransformerBlock(made["channels"], made["num_bands"]))
        with torch.no_grad():
            return {"output": block(*case.tensors("x"), attention="similarity")}
    names = {"num_bands": "bands", "num_half_layer": "half_layers", "sample_idx": "sampled"}
    arguments = {names.get(key, key): value for key, value in made.items() if key != "name"}
    # The tolerance leaves float32 no room beside the reference's own rounding: in float64 the same code takes 0.9 of it.
    network = case.load_into(ts.create_model("hsdt-m", **arguments)).double()
    with torch.no_grad():
        return {"output": network(*case.tensors("x", dtype="float64"))}
