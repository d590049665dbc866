"""Spectral mixup: both paths of the network, mixing, losses, figures of merit."""

from __future__ import annotations

import re

import torch
from parity_case import Case

import torchspectral as ts
from torchspectral.superresolution import mix_spectra, mixing_matrix
from torchspectral.superresolution.protocol import quality
from torchspectral.superresolution.spectral_mixup.losses import hybrid_loss, tv_spatial, tv_spectral


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    made = case.constructor
    if "kwargs" in made:
        names = {"n_colors": "bands", "n_scale": "scale"}
        given = {names.get(k, k): v for k, v in made["kwargs"].items() if k not in ("n_blocks", "use_share")}
        network = case.load_into(ts.create_model("spectral-mixup", **given))
        with torch.no_grad():
            return {"y": network(*case.tensors("x", "lms"), "rgb" if "rgb" in made["call"] else "spectral")}
    if "gt" in case.inputs and "uniform" not in case.inputs:
        truth = case.inputs["gt"]
        noisy = (truth + case.inputs["noise"]).clip(0, 1).astype("float32")
        ratio = re.search(r"ratio=([0-9.]+)", made.get("algorithm", ""))
        pair = [torch.from_numpy(image).movedim(-1, 0) for image in (noisy, truth)]
        return quality(*pair, ratio=float(ratio[1]) if ratio else 4.0, extras=True)
    x, lms, gt = case.tensors("x", "lms", "gt")
    matrix = mixing_matrix(x.shape[1], uniform=case.inputs["uniform"])
    mixed = {f"{name}_mix": mix_spectra(image, matrix) for name, image in (("x", x), ("lms", lms), ("gt", gt))}
    losses = {"hybrid_loss": hybrid_loss(lms, gt), "tv_spatial": tv_spatial(lms), "tv_spectral": tv_spectral(lms)}
    return mixed | losses | {"matrix": matrix}
