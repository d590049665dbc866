"""rho-PNN: network, losses, iterations a band, tuning with hysteresis."""

from __future__ import annotations

import re

import numpy as np
import parity_fill
import torch
from parity_case import Case, Unsupported
from zero_shot_problem import box_mean, fused, scene_stack

from torchspectral.sharpening.zero_shot import losses
from torchspectral.sharpening.zero_shot.hysteresis import adaptive_iterations
from torchspectral.sharpening.zero_shot.networks import RhoPNNNetwork
from torchspectral.sharpening.zero_shot.rho_pnn import RhoPNN, RhoPNNSettings

HYPER = ("spectral_quality", "gamma_low", "beta", "tolerance", "sharpenings", "eta")


def _losses(case: Case) -> dict:
    x, labels, pan = case.tensors("x", "labels", "pan")
    out, pan, view = box_mean(x, 7), box_mean(0.5 * pan - 0.5 * x + 0.3, 5), losses.SensorView.of(6, 0.3)
    field = losses.correlation_field(out, pan, 3)
    cube = case.inputs["hs_lr"].astype(np.float64).cumsum(1)[0].reshape(6, -1)
    near = [np.corrcoef(cube[b], cube[b + 1])[0, 1] for b in range(5)]
    return {
        "spectral": losses.spectral_loss(view(out), view.crop(labels)),
        "structural": losses.structural_loss(field.abs())[0],
        "xcorr_hw3": field,
        "adaptive_epochs_N1_20_eta_30": [adaptive_iterations(near, 20, 30)],
        "adaptive_epochs_N1_80_eta_30": [adaptive_iterations(near, 80, 30)],
    }


def _tune(case: Case) -> dict:
    made = case.constructor
    mode = {"RR": "reduced", "FR": "full"}[made["mode"]]
    numbers = next(v for k, v in made.items() if k.startswith("hp_"))
    values = dict(zip(HYPER, numbers, strict=True), resolution=mode, learning_rate=made["learning_rate"])
    method = RhoPNN(RhoPNNSettings.make(values, compat="authors-code"))
    weights = parity_fill.fill_state_dict(RhoPNNNetwork().state_dict())
    factor = float(re.search(r"times ([\d.e-]+)", made["initial_weights"])[1])
    weights |= {key: weights[key] * factor for key in ("conv3.weight", "conv3.bias")}
    stack, _ = scene_stack(case)
    *_, (state, _) = method.adapt(stack, weights)
    betas = [beta for beta in state["bands"]["beta"] if beta == beta]
    return {"fused": fused(method, stack, state), "max_iter": state["bands"]["budget"], "beta": betas or [-1]}


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    if case.name.startswith("losses"):
        return _losses(case)
    if case.name.startswith("tune"):
        return _tune(case)
    if case.name.startswith("net"):
        with torch.no_grad():
            return {"out": case.load_into(RhoPNNNetwork())(*case.tensors("x"))}
    raise Unsupported(f"{case.name} is not built")
