"""What the interferometer cases say in prose: wavenumbers, path differences, spectra, noise, settings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from parity_case import Case


def numbers(text: str) -> list[float]:
    """All numbers of a sentence."""
    return [float(n) for n in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]


def axis(text: str) -> np.ndarray:
    """``linspace(a, b, n)``, or ``arange(n)*step + first``."""
    n = numbers(text.partition(" 1/um")[0])
    return np.linspace(n[0], n[1], int(n[2])) if "linspace" in text else np.arange(int(n[0])) * n[1] + n[2]


def doubles(case: Case) -> dict[str, np.ndarray]:
    """The drawn inputs in float64."""
    return {name: value.astype(np.float64) for name, value in case.inputs.items()}


def folder(case: Case) -> Path:
    """Where the prototype's acquisition lies."""
    return case.sample_file("data/irca/" + re.search(r"irca/(\w+)", case.params["data"])[1])


def forms(case: Case) -> dict[str, dict[str, object]]:
    """By output: number of waves, and whether the transmittance is the scaled one."""
    kinds = {name: name.split("_") for name in case.meta["output"]}
    return {name: {"waves": int(waves), "scaled": kind == "scaled"} for name, (kind, waves) in kinds.items()}


@dataclass(frozen=True)
class Inversion:
    """Path differences, wavenumbers, phase shifts, transmittivity, reflectivity, spectra (wavenumber, n), and settings."""

    opd: np.ndarray
    wavenumber: np.ndarray
    shift: np.ndarray
    t: float
    r: float
    spectra: np.ndarray
    methods: dict[str, tuple[str, dict[str, object]]]
    """By output: the method and its settings."""
    _noise: np.ndarray
    _level: float

    def noisy(self, clean: np.ndarray) -> np.ndarray:
        """Interferograms with the case's noise."""
        return clean + self._level * clean.std() * self._noise


def inversion(case: Case) -> Inversion:
    """An inversion case."""
    made, opd, sigma, drawn = (
        case.constructor,
        axis(case.params["opd"]),
        axis(case.params["wavenumbers"]),
        doubles(case),
    )
    pairs = np.array(re.findall(r"\(([\d.]+), ?([\d.]+)\)", case.params["spectrum"]), dtype=float)
    spectra = np.exp(-0.5 * ((sigma[:, None] - pairs[:, 0]) / pairs[:, 1]) ** 2) + 0.2
    t, r = (float(re.search(rf"\b{n}=([\d.]+)", made)[1]) for n in "TR")
    ratio, ridge, lam, iterations = (
        float(re.search(rf"{n}\D*([\d.]+)", made)[1]) for n in ("TSVD", "Ridge", "lambda", r"l1, lambda [\d.]+,")
    )
    lv = {"regularisation": lam, "iterations": int(iterations), "start": "adjoint", "deflate": 0, "tolerance": 0.0}
    methods: dict[str, tuple[str, dict[str, object]]] = {
        "idct": ("idct", {"opd": opd, "wavenumber": sigma, "amplitude": "none"}),
        "pinv": ("pinv", {}),
        "tsvd": ("tsvd", {"ratio": ratio}),
        "ridge": ("ridge", {"regularisation": ridge}),
    }
    methods |= {
        f"lv_{k}": ("loris-verhoeven", {"operator": operator, **lv})
        for k, operator in {"dct": "dct", "id": "identity", "tv": "tv"}.items()
        if f"lv_{k}" in case.meta["output"]
    }
    level = numbers(case.params["noise"]["scale"])[0]
    return Inversion(opd, sigma, drawn["phase_shift"], t, r, spectra, methods, drawn["noise"], level)
