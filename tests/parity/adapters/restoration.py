"""Restoration benchmarks: degradations with the published generators, haze, metrics, and what HyDe reaches."""

import numpy as np
from parity_case import Case, Unsupported

from torchspectral import metrics
from torchspectral.synth import degrade_array
from torchspectral.synth.blur import bicubic_matrix

FIXED = {
    "gaussian_blur_9": "blur:9", "gaussian_blur_15": "blur:15", "circle_blur_9": "circle:9", "square_blur_9": "square:9",
    "motion_blur_15_45": "motion:15:45", "down_x4": "down:4", "sr_input_x4": "sr:4", "sr_input_x2": "sr:2",
}  # fmt: skip
NOISE = {
    "gaussian_50": "gaussian:50", "blind_first": "gaussian:10", "noniid": "noniid", "stripe_only": "stripe",
    "deadline_only": "deadline", "impulse_only": "impulse", "mixture_only": "mixture",
    "noniid_then_mixture": "icvl-mixture",
}  # fmt: skip


def _metrics(case: Case) -> dict:
    gt, noise = case.tensors("gt", "noise", dtype="float64")
    raw = (gt + 0.1 * (noise - 0.5)).clamp(-0.2, 1.2)
    clipped, low = raw.clamp(0, 1), gt.clamp(0, 1)
    wide, near = metrics.MSSIM(protocol="hsir"), metrics.MSSIM(protocol="mp-hsir")
    rows = {
        "mpsnr_unclipped": (metrics.MPSNR(), raw, gt),
        "hsir_mpsnr_clipped": (metrics.MPSNR(), clipped, gt),
        "hsir_sam_clipped_rad": (metrics.MeanAngle(), clipped, gt),
        "sam_unclipped_rad": (metrics.MeanAngle(), raw, gt),
        "hsir_mssim_clipped_range2": (wide, clipped, gt),
        "mssim_unclipped_range2": (wide, raw, gt),
        "mp_hsir_mpsnr": (metrics.MPSNR(), clipped, low),
        "mp_hsir_mssim": (near, clipped, low),
    }
    return {name: [metrics.measure(*row)] for name, row in rows.items()}


def _hyde(case: Case, call: str) -> dict[str, float]:
    """What our method of that name reaches on the peer's cube, with the peer's settings."""
    import torchspectral as ts

    recipe, cube = case.recipe_module("synthetic_cube"), case.constructor["cube"]
    clean = recipe.clean(*cube["shape"], seed=cube["clean_seed"])
    noisy = recipe.noisy(clean, cube["kind"], cube["noise_seed"], cube["sigma"]).transpose(2, 0, 1)
    name, _, given = call.lower().partition(" ")
    settings = {{"f": "features"}.get(k, k): int(v) for k, v in (word.split("=") for word in given.split())}
    out = ts.restore(ts.make_cube(noisy, quantity="reflectance"), method=name, settings=settings)["cube"].values
    one, two = out.astype(np.float64), clean.transpose(2, 0, 1).astype(np.float64)
    cosine = (one * two).sum(0) / np.maximum(np.sqrt((one**2).sum(0) * (two**2).sum(0)), 1e-12)
    angle = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())
    return {"psnr": float(-10 * np.log10(np.mean((one - two) ** 2))), "sam_deg": angle}


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    if case.name.startswith("metrics"):
        return _metrics(case)
    x = np.asarray(case.inputs.get("x", 0), dtype=np.float64)
    if case.name.startswith("degrade_deterministic"):
        made = {name: degrade_array(x, recipe).values for name, recipe in FIXED.items()}
        down, across = (bicubic_matrix(n, 2 * n).toarray() for n in x.shape[1:])
        return made | {"bicubic_up_x2": down @ x @ across.T}
    if case.name.startswith("degrade_haze"):
        wave, cirrus = np.linspace(400, 1000, len(x)), case.inputs["cirrus"]
        return {
            f"omega_{omega:g}": degrade_array(x, f"haze:{omega:g}", wavelength=wave, cirrus=cirrus).values
            for omega in case.constructor["omega"]
        }
    if case.name.startswith("noise"):
        seed = case.constructor["np_random_seed"]
        return {name: degrade_array(x, recipe, np.random.RandomState(seed)).values for name, recipe in NOISE.items()}
    if case.name.startswith("hyde"):
        return {"floors": {name: _hyde(case, call) for call, name in case.constructor["calls"].items()}}
    raise Unsupported(f"{case.name}: no such case is known")
