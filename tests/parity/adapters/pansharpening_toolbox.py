"""Hyperspectral pansharpening toolbox: operators, metrics, classical methods, HyperPNN."""

from __future__ import annotations

from parity_case import Case, Unsupported

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


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    if case.name.startswith("mtf_kernels"):
        return _kernels(case)
    if "operators" in case.constructor:
        return _operators(case)
    raise Unsupported(f"{case.name} is not built")
