"""Diffusion spectral entropy and mutual information on a cloud of blobs."""

from __future__ import annotations

import numpy as np
from parity_case import Case

from torchspectral.metrics import representation as r


def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    a = case.constructor["args"]
    draw = np.random.RandomState(a["seed"])
    centres = draw.standard_normal((a["k"], a["d"])) * a["sep"]
    y = np.arange(a["n"]) % a["k"]
    x = centres[y] + a["noise"] * draw.standard_normal((a["n"], a["d"]))
    raw = {"normalise": False, "sigma": a["sigma"]}
    first = r.dsmi(x, x[:, :1], count=4, t=a["t"][0], **raw)
    return {
        "eigvals_desc": r.dse(x, **raw).eigenvalues,
        "dse": [float(r.dse(x, t=t, **raw)) for t in a["t"]],
        "dse_maxN": float(r.dse(x, max_n=a["n"] // 2, seed=3, t=a["t"][0], **raw)),
        "dse_entries": r.entry_entropy(x, **raw),
        "cse_bins2": r.cse(x[:, :6], bins=2),
        "cse_bins3": r.cse(x[:, :3], bins=3),
        "dsmi_labels": [float(r.dsmi(x, y, t=t, **raw)) for t in a["t"]],
        "dsmi_scalar_bins4": float(first),
        "scalar_bins4": first.clusters,
        "csmi_labels": float(r.csmi(x[:, :6], y)),
        "ase_gauss": r.ase(x, **raw),
        "ase_gauss_aniso": r.ase(x, kind="anisotropic", **raw),
        "ase_knn10": r.ase(x, kind="knn", k=10, normalise=False),
        "asmi_labels": float(r.asmi(x, y, **raw)),
    }
