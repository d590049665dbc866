"""HSDT: the networks in evaluation mode, and a block, with guided or similarity attention."""

from __future__ import annotations

import torch
from parity_case import Case

import torchspectral as ts
from torchspectral.restoration.hsdt.layers import TransformerBlock


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    made = case.constructor
    attention = "similarity" if made.get("flex") else "guided"
    if "block" in made:
        block = case.load_into(TransformerBlock(made["channels"], made["num_bands"]))
        with torch.no_grad():
            return {"output": block(*case.tensors("x"), attention=attention)}
    names = {"num_bands": "bands", "num_half_layer": "half_layers", "sample_idx": "sampled"}
    arguments = {names.get(key, key): value for key, value in made.items() if key not in ("name", "flex")}
    model = "hsdt-ssr" if "proj.weight" in case.meta["state"] else "hsdt-m"
    if model == "hsdt-ssr":  # from 3 colours to the one channel of a volume
        arguments["colours"] = case.meta["state"]["proj.weight"][0][1]
        arguments.pop("in_channels", None)
    # The tolerance leaves float32 no room beside the reference's own rounding: in float64 the same code takes 0.9 of it.
    network = case.load_into(ts.create_model(model, **arguments)).double()
    with torch.no_grad():
        return {"output": network(*case.tensors("x", dtype="float64"), attention=attention)}
