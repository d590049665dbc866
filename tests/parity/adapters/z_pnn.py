"""Z-PNN: networks, the pieces of its preparation, adaptation."""

from __future__ import annotations

import numpy as np
import torch
from parity_case import Case, Unsupported
from scipy.io import loadmat
from zero_shot_problem import scene_stack

from torchspectral.ops.interpolate import ideal_interp
from torchspectral.sharpening.zero_shot import multispectral, z_pnn
from torchspectral.weights.files import read_state


def _image(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    if "scene" in case.params:
        stack, low = scene_stack(case, 1.0)
        return low.double(), stack.pan[0].double()
    sample = loadmat(case.sample_file(case.params["file"]))
    ms, pan = (torch.from_numpy(sample[name].astype(np.float64)) for name in ("I_MS_LR", "I_PAN"))
    bands = case.params.get("bands", slice(None))
    return ms.permute(2, 0, 1)[bands], pan[None]


def _pieces(case: Case) -> dict:
    (ms, pan), ratio = _image(case), case.constructor["ratio"]
    gains = multispectral.sensor_values(case.constructor["sensor"], len(ms)).gains
    kernels = np.stack([multispectral.smooth_kernel(ratio, gain) for gain in gains])
    rows, cols = zip(*multispectral.phases(ms[None], pan[None], kernels[0], counts=1.0), strict=True)
    small, small_pan = multispectral.reduced(ms, pan, ratio, gains)
    return {
        "mtf_kernels": kernels,
        "coreg_r": np.array(rows),
        "coreg_c": np.array(cols),
        "interp23": ideal_interp(ms, ratio, border="wrap").permute(1, 2, 0)[::3, ::3],
        "wald_ms": small.permute(1, 2, 0),
        "wald_pan": small_pan[0],
    }


def _adapt(case: Case) -> dict:
    made = case.constructor
    known = ("sensor", "epochs", "coregistration", "learning_rate", "beta")
    values = {name: made[name] for name in known if name in made}
    method = z_pnn.ZPNN(z_pnn.ZPNNSettings.make(values, compat="authors-code"))
    ms, pan = (image[None].float() / z_pnn.COUNTS for image in _image(case))
    weights = read_state(case.sample_file("data/weights/z-pnn/" + made["weights"].split()[0].rpartition("/")[2]))
    *_, (state, _) = method.adapt(ms, pan, weights)
    fused = method.predict(z_pnn.network_of(state), ideal_interp(ms, 4, border="wrap"), pan)[0] * z_pnn.COUNTS
    trace = state["trace"]
    return {
        "fused": fused.clamp_min(0).floor().permute(1, 2, 0),
        "spectral_loss": trace["spectral"],
        "structural_loss": trace["structural"],
        "overall_loss": trace["total"],
    }


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    if case.name.startswith("pieces"):
        return _pieces(case)
    if case.name.startswith("adapt"):
        return _adapt(case)
    if not case.state():
        raise Unsupported(f"{case.name} is not built")
    made = case.constructor
    bands = made.get("nbands") or made["in_channels"] - 1
    kind = z_pnn.architecture_of(case.meta["state"] or case.state())
    network = z_pnn.build(kind, bands, made.get("ratio", 4), made.get("kernels", (9, 5, 5)))
    case.meta.setdefault("fill_skip", ["dephtconv"] if "dephtconv" in str(case.meta.get("weights")) else [])
    with torch.no_grad():
        return {"out": case.load_into(network)(*case.tensors("x"))}
