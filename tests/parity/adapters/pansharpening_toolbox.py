"""Hyperspectral pansharpening toolbox: operators, metrics, classical methods, HyperPNN."""

from __future__ import annotations

import json

from parity_case import Case, Unsupported, shared_root

from torchspectral import metrics
from torchspectral.ops import filters, interpolate, mtf, resize


def _kernels(case: Case) -> dict:
    gains = {"gen_mtf": 0.3, "gen_mtf_pan": 0.2}  # PRISMA
    return {
        name: mtf.mtf_kernel(spec["args"][0], gains[spec["fn"]], spec.get("kernel_size", 41))
        for name, spec in case.constructor.items()
    }


def _operators(case: Case) -> dict:
    gt, pan, ms_lr = case.tensors("gt", "pan", "ms_lr", dtype="float64")
    gt, pan, ms_lr, r = gt[None], pan[None, None], ms_lr[None], case.params["scene"]["ratio"]
    down = resize.imresize(pan, 1 / r)
    return {
        "ideal_interp": interpolate.ideal_interp(ms_lr, r, border="wrap"),
        "mtf_gt": mtf.mtf_filter(gt, r, 0.3),
        "mtf_pan": mtf.mtf_filter(pan, r, 0.2),
        "lp_gauss_pan": mtf.lp_filter_gauss(pan, r),
        "atrous_lp_pan": filters.atrous_lowpass(pan, r),
        "atrous_lpdec_pan": filters.atrous_lowpass(pan, r, decimated=True),
        "imresize_down": down,
        "imresize_up": resize.imresize(down, r),
        "wald_hs": mtf.mtf_filter(gt, r, 0.3, decimated=True),
    }


def _metrics(case: Case) -> dict:
    gt, ms, ms_lr, pan = case.tensors("gt", "ms", "ms_lr", "pan", dtype="float64")
    pan, r = pan[None], case.constructor["ratio"]
    out = ms + 0.5 * (pan - pan.mean()) - 0.3 * (ms.mean(0, keepdim=True) - ms.mean())
    cut = (slice(None), slice(10, -11), slice(10, -11))
    ergas, q2n = metrics.ERGAS(r).update(out, gt), metrics.Q2n(rounding=True).update(out, gt)
    kinds = [metrics.ERGAS(r), metrics.SAM(), metrics.Q2n(rounding=True)]
    full = metrics.qnr(out, ms_lr, pan, normalize=False, rounding=True, offset=3)
    rho = metrics.d_rho(out, pan, r)
    return {
        "ergas": ergas.compute(),
        "ergas_bands": ergas.bands()[None],
        "sam_deg": metrics.measure(metrics.SAM(), out, gt),
        "q2n": q2n.compute(),
        "q2n_map": q2n.map()[None],
        "evaluation_rr": [metrics.measure(k, out[cut].clamp(0, 65536), gt[cut]) for k in kinds],
        "evaluation_fr": [full["D_lambda"], full["D_sR"], full["QNR"]],
        "uqi_bands": metrics.UQI(32).update(out, gt).bands()[None],
        "d_rho": rho.mean(),
        "d_rho_bands": rho[None],
        "d_s": [metrics.d_s(out, ms_lr, pan)],
        "d_sr": metrics.d_sr(out, pan),
    }


WV3_WEIGHTS = [0.0657, 0.1012, 0.1537, 0.1473, 0.1245, 0.1545, 0.1338, 0.1192]


def _prisma_weights() -> list[float]:
    root = shared_root()
    file = root / "data/weights/pansharpening-toolbox/tv_prisma159_weights.json" if root else None
    if file is None or not file.is_file():
        raise Unsupported("the published weights of PRISMA's bands are not here")
    return json.loads(file.read_text())["weights"]


def _method(case: Case) -> dict:
    from torchspectral.registry import methods
    from torchspectral.sharpening import fuse

    name = case.constructor["method"].lower()
    if name not in {card.name for card in methods("sharpening")}:
        raise Unsupported(f"no method {name}")
    ms, ms_lr, pan = case.tensors("ms", "ms_lr", "pan", dtype="float64")
    given = case.constructor
    settings: dict = {"compat": "authors-code"} | ({"pan_gain": 0.2} if name == "bdsd-pc" else {})  # PRISMA
    if name == "hysure":
        settings |= {"p": given["p"], "covered": len(ms) // 2}
    if name == "tv":
        settings["weights"] = WV3_WEIGHTS if given["dataset"] == "WV3" else _prisma_weights()
        settings |= {"alpha": given["alpha"], "lam": given["lambda"], "c": given["c"], "iterations": given["maxiter"]}
    state = {"seed": given.get("torch_manual_seed", 0)} if name == "hysure" else None
    fused = fuse(ms_lr, pan[None], name, settings, upsampled=ms, state=state)
    if name != "hysure":
        return {"fused": fused[None]}
    (gt,), r = case.tensors("gt", dtype="float64"), case.params["scene"]["ratio"]
    cut = (slice(None), slice(10, -11), slice(10, -11))
    kinds = [metrics.ERGAS(r), metrics.SAM(), metrics.Q2n(rounding=True)]
    return {
        "fused": fused[None],
        "evaluation_rr": [metrics.measure(k, fused[cut].clamp(0, 65536), gt[cut]) for k in kinds],
    }


def _network(case: Case) -> dict:
    import torch

    from torchspectral.sharpening.deep import darn, hspenet, hyper_dsnet, hyperpnn, kite, pca_z_pnn, priors

    bands = next((n for key, n in case.constructor.items() if key not in ("scale", "num_inputs")), None)
    kinds = {
        "hyperpnn": lambda: hyperpnn.HyperPNNNetwork(bands),
        "hspenet": lambda: hspenet.HSpeNetNetwork(bands),
        "hyperdsnet": lambda: hyper_dsnet.HyperDSNetNetwork(bands),
        "darn": lambda: darn.DARNNetwork(bands),
        "kite": lambda: kite.KiteNetwork(bands),
        "dip": lambda: priors.DIPNetwork(bands, case.constructor["num_inputs"]),
        "dhp": lambda: priors.DHPNetwork(case.constructor["num_inputs"]),
        "panpred": lambda: priors.PanPrediction(bands),
        "pca": lambda: pca_z_pnn.PCAZPNNNetwork(bands),
    }
    kind = case.name.split("_")[1]
    if kind not in kinds:
        raise Unsupported(f"no network for {case.name}")
    network = kinds[kind]()
    if "except" in case.meta.get("weights", ""):  # the fixed filters stay as built
        network.load_state_dict(case.state() | network.block1.state_dict(prefix="block1."))
        network.eval()
    else:
        case.load_into(network)
    with torch.no_grad():
        return {"out": network(*case.tensors(*case.params))}


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    if case.name.startswith("mtf_kernels"):
        return _kernels(case)
    if case.name.startswith("metrics"):
        return _metrics(case)
    if "method" in case.constructor:
        return _method(case)
    if case.name.startswith("net_"):
        return _network(case)
    if "operators" in case.constructor:
        return _operators(case)
    raise Unsupported(f"{case.name} is not built")
