"""IRCA: image formation, characterisation and inversion of multi-aperture Fabry-Perot spectrometers."""

import re

import numpy as np
from parity_case import Unsupported

from torchspectral.calibration import interferometer as fp


def _numbers(text):
    return [float(n) for n in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]


def _axis(text):
    n = _numbers(text.partition(" 1/um")[0])
    return np.linspace(n[0], n[1], int(n[2])) if "linspace" in text else np.arange(int(n[0])) * n[1] + n[2]


def _forward(case):
    i = {name: value.astype(np.float64) for name, value in case.inputs.items()}
    phi = fp.phase(i["opd"], _axis(case.params["wavenumber"]), i["phase_shift"])
    kinds = [name.split("_") for name in case.meta["output"]]
    return {f"{k}_{w}": fp.transfer(phi, i["reflectivity"], i["gain"], int(w), scaled=k == "scaled") for k, w in kinds}


def _characterize(case):
    device, rows = re.search(r"irca/(\w+)", case.params["data"])[1], case.params["rows"]
    acquisition = fp.read_acquisition(case.sample_file(f"data/irca/{device}")).rows(rows)
    start = fp.characterise(acquisition, recipe=acquisition.recipe.steps[:1])
    found = fp.characterise(acquisition, solver="trf")
    ml = {f"ml_{n}": getattr(start, n) for n in ("opd", "reflectivity", "phase_shift")}
    transfer = found.transfer(acquisition.wavenumber)
    return ml | {"opd": found.opd, "phase_shift": found.phase_shift, "transfer": transfer, "rmse": found.rmse}


def _inversion(case):
    made, opd, sigma = case.constructor, _axis(case.params["opd"]), _axis(case.params["wavenumbers"])
    pairs = np.array(re.findall(r"\(([\d.]+), ?([\d.]+)\)", case.params["spectrum"]), dtype=float)
    x = np.exp(-0.5 * ((sigma[:, None] - pairs[:, 0]) / pairs[:, 1]) ** 2) + 0.2
    phi = fp.phase(opd, sigma, case.inputs["phase_shift"].astype(np.float64))
    t, r = (float(re.search(rf"\b{n}=([\d.]+)", made)[1]) for n in "TR")
    whole, cut = (fp.fabry_perot(phi, t, r, order) for order in (0, 3))
    scale = _numbers(case.params["noise"]["scale"])[0] * (whole @ x).std()
    y = whole @ x + scale * case.inputs["noise"].astype(np.float64)
    number = {
        n: float(re.search(rf"{n}\D*([\d.]+)", made)[1]) for n in ("TSVD", "Ridge", "lambda", "l1, lambda [\\d.]+,")
    }
    lv = {"regularisation": number["lambda"], "iterations": int(number["l1, lambda [\\d.]+,"])}
    lv |= {"start": "adjoint", "deflate": 0, "tolerance": 0.0}
    found = {
        "idct": fp.invert(y, whole, "idct", opd=opd, wavenumber=sigma, amplitude="none"),
        "pinv": fp.invert(y, whole, "pinv"),
        "tsvd": fp.invert(y, whole, "tsvd", ratio=number["TSVD"]),
        "ridge": fp.invert(y, whole, "ridge", regularisation=number["Ridge"]),
    }
    found |= {
        f"lv_{k}": fp.invert(y, whole, "loris-verhoeven", operator=o, **lv)
        for k, o in {"dct": "dct", "id": "identity", "tv": "tv"}.items()
        if f"lv_{k}" in case.meta["output"]
    }
    return found | {"transfer": whole, "transfer_3wave": cut, "interferogram": y}


def run(case):
    """Outputs of one case."""
    parts = {"forward": _forward, "characterize": _characterize, "inversion": _inversion}
    part = case.name.partition("_")[0]
    if part not in parts:
        raise Unsupported(f"{part} is not built")
    return parts[part](case)
