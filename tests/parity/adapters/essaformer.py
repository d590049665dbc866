"""ESSAformer: the network in evaluation mode, and its attention alone."""

from __future__ import annotations

import torch
from parity_case import Case

import torchspectral as ts
from torchspectral.superresolution.essaformer.attention import SpectralAttention


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    made = case.constructor["kwargs"]
    if case.constructor["class"] == "ESSAttn":
        network = case.load_into(SpectralAttention(made["dim"]))
    else:
        names = {"inch": "bands", "upscale": "scale"}
        network = case.load_into(ts.create_model("essaformer", **{names.get(k, k): v for k, v in made.items()}))
    with torch.no_grad():
        return {"y": network(*case.tensors("x"))}
