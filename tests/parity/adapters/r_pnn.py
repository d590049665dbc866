"""R-PNN: network, losses, band-wise adaptation."""

from __future__ import annotations

import torch
from parity_case import Case, Unsupported
from zero_shot_problem import box_mean, fused, scene_stack

from torchspectral.ops.mtf import mtf_kernel
from torchspectral.sharpening.zero_shot import losses
from torchspectral.sharpening.zero_shot.networks import RPNNNetwork
from torchspectral.sharpening.zero_shot.r_pnn import RPNN, RPNNSettings
from torchspectral.weights.files import read_state

FIELDS = {"first_iter": "first_iterations", "sat_val": "most_iterations", "epoch_nm": "iterations_per_step"}


def _losses(case: Case) -> dict:
    x, labels, pan = case.tensors("x", "labels", "pan")
    out, pan, view = box_mean(x, 7), box_mean(0.5 * pan + 0.5 * x, 5), losses.SensorView.of(6, 0.3)
    smooth = losses.reflected_filter(pan, mtf_kernel(6.0, 0.3, 41))
    threshold = losses.correlation_threshold(out, smooth, 18, clip_cross=True)
    field = losses.correlation_field(out, pan, 3, clip_cross=True)
    structural, plain = losses.structural_loss(field, threshold)
    return {
        "spectral": losses.spectral_loss(view(out), view.crop(labels)),
        "structural": structural,
        "structural_no_thr": plain,
        "xcorr_hw3": field,
        "threshold": threshold,
    }


def _adapt(case: Case) -> dict:
    values = {k: v for k, v in case.constructor.items() if k not in ("weights", "others")}
    method = RPNN(RPNNSettings.make({FIELDS.get(k, k): v for k, v in values.items()}, compat="authors-code"))
    stack, _ = scene_stack(case)
    *_, (state, _) = method.adapt(stack, read_state(case.sample_file(case.constructor["weights"])))
    trace = state["trace"]
    return {
        "fused": fused(method, stack, state).permute(1, 2, 0),
        "loss_spec": trace["spectral"],
        "loss_struct": trace["structural"],
    }


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    if case.name.startswith("losses"):
        return _losses(case)
    if case.name.startswith("adapt"):
        return _adapt(case)
    if case.name.startswith("net"):
        with torch.no_grad():
            return {"out": case.load_into(RPNNNetwork())(*case.tensors("x"))}
    raise Unsupported(f"{case.name} is not built")
