"""What the interferometer cases say in prose: wavenumbers, path differences, spectra, noise, settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from parity_case import Case

from torchspectral.calibration import interferometer as fp


def numbers(text: str) -> list[float]:
    """All numbers of a sentence."""
    return [float(n) for n in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]


def axis(text: str) -> np.ndarray:
    """``linspace(a, b, n)``, or ``arange(n)*step + first``."""
    n = numbers(text.partition(" 1/um")[0])
    if "linspace" in text:
        return np.linspace(n[0], n[1], int(n[2]))
    return np.arange(int(n[0])) * n[1] + (n[2] if len(n) > 2 else 0.0)


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


def compare(case: Case, got: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """As the case says; of regressions on raw coefficients, where that is not met, what two runs of them have in common.

    The first estimate must agree to 1e-5; after the regression path differences to 2e-3 um, transmittances to a
    hundredth of the row's mean, residuals to 2 %. On rows that noise of 1e-6 moves farther than that by itself, the
    stop point depends on rounding: there the residual may be 12 % larger and the path difference 0.06 um off.
    """
    rows = case.compare(got)
    if not case.name.startswith("characterize") or all(row["ok"] for row in rows.values()):
        return rows
    with np.load(case.folder / f"{case.name}.npz", allow_pickle=False) as stored:
        want = {name: stored[name].astype(np.float64) for name in stored.files}
    for name in ("ml_opd", "ml_reflectivity", "ml_phase_shift"):
        error = np.abs(np.asarray(got[name]) - want[name]) / np.maximum(1, np.abs(want[name]))
        rows[name] = _row(error.max() <= 1e-5, error.max() / 1e-5, f"{name} off by {error.max():.2g}")
    away = np.abs(np.asarray(got["opd"]) - want["opd"])[:, 0]
    apart = np.abs(np.asarray(got["transfer"]) - want["transfer"]).max(1) / want["transfer"].mean(1)
    worse = np.asarray(got["rmse"]).ravel() / want["rmse"].ravel() - 1
    close = (away <= 2e-3) & (apart <= 1e-2) & (np.abs(worse) <= 0.02)
    loose = _moved(case) & (away < 0.06) & (worse <= 0.12)
    said = (
        f"path differences off by {away.round(5)} um, transmittances by {apart.round(4)}, residuals by {worse.round(4)}"
    )
    for name in ("opd", "phase_shift", "transfer", "rmse"):
        rows[name] = _row((close | loose).all(), away.max() / 2e-3, said)
    return rows


def _row(ok: bool, share: float, reason: str) -> dict[str, Any]:
    return {"ok": bool(ok), "of_allowed": float(share)} | ({} if ok else {"reason": reason})


def _moved(case: Case) -> np.ndarray:
    """Rows that noise of 1e-6 moves by more than two runs of the reference may differ."""
    lines = fp.read_acquisition(folder(case)).rows(case.params["rows"])
    found = []
    for seed in range(6):
        noise = np.random.default_rng(seed).standard_normal(lines.data.shape)
        near = fp.characterise(replace(lines, data=lines.data * (1 + 1e-6 * noise)), solver="trf")
        found.append((near.opd[:, 0], near.rmse))
    opd, rmse = (np.array(values) for values in zip(*found, strict=True))
    return (np.ptp(opd, 0) > 2e-3) | (np.ptp(rmse, 0) > 0.02 * rmse[0])


@dataclass(frozen=True)
class Inversion:
    """Path differences, wavenumbers, phase shifts, transmittivity, reflectivity, order of the cut series, whether its gain is
    the correct one, spectra (wavenumber, n), settings."""

    opd: np.ndarray
    wavenumber: np.ndarray
    shift: np.ndarray
    t: float
    r: float
    order: int
    correct: bool
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
        # The reference looks at the step alone, not at where the path differences begin.
        "idct": ("idct", {"opd": opd - opd[0], "wavenumber": sigma, "amplitude": "none"}),
        "pinv": ("pinv", {}),
        "tsvd": ("tsvd", {"ratio": ratio}),
        "ridge": ("ridge", {"regularisation": ridge}),
    }
    methods |= {
        f"lv_{k}": ("loris-verhoeven", {"operator": operator, **lv})
        for k, operator in {"dct": "dct", "id": "identity", "tv": "tv"}.items()
        if f"lv_{k}" in case.meta["output"]
    }
    order = re.search(r"order=\d+ \(and (\d+)\)", made)
    correct = "is_correct_transmittance=False" not in made
    level = numbers(case.params["noise"]["scale"])[0]
    return Inversion(
        opd,
        sigma,
        drawn["phase_shift"],
        t,
        r,
        int(order[1]) if order else 3,
        correct,
        spectra,
        methods,
        drawn["noise"],
        level,
    )
