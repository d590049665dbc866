"""What unmixing has to reach, measured line by line; a part of ``benchmarks/unmix.py``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

import torchspectral as ts
from torchspectral.ops.fcls import AbundanceSolver
from torchspectral.ops.gram import gram_sums
from torchspectral.ops.noise import hysime
from torchspectral.synth import mixture
from torchspectral.unmixing import score
from torchspectral.unmixing.scoring import angle_matrix
from unmix_blind import figures, real_scenes, usgs

Row = dict[str, Any]
STRONG = {"snr": 30.0, "outliers": 10, "outlier_level": 3.0}
OPEN = {"lambda_rel": 0.0, "d": 0.0}
NMF: tuple[str, dict[str, Any]] = ("rrlbs", {**OPEN, "robust": False})


def row(what: str, value: float, bound: float, *, least: bool = False, note: str = "") -> Row:
    """One line: a figure, what it must not exceed (or fall below), and whether it does not."""
    holds = value >= bound if least else value <= bound
    return {"what": what, "value": float(value), "sign": ">=" if least else "<=", "bound": bound, "holds": bool(holds), "note": note}  # fmt: skip


def timed(call: Callable[[], object], repeats: int = 3) -> float:
    """Least processor seconds of a call on one thread: other programs do not count."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        call()
        best = min(best, time.process_time() - start)
    return best


def parity(samples: Path | None, seeds: Sequence[int], cases: Path | None) -> list[Row]:
    """Parity cases, where their folder is given."""
    if cases is None:
        return []
    script = Path(__file__).resolve().parents[1] / "tests/parity/run.py"
    done = subprocess.run(
        [sys.executable, str(script), str(cases), "--json"], capture_output=True, text=True, check=False
    )
    states = [one["status"] for one in json.loads(done.stdout)["cases"]]
    passed = states.count("pass")
    return [row(f"parity cases that do not pass, of {len(states)}", len(states) - passed, 0)]


def counting(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """HySime on images of known count and on real scenes."""
    rows = []
    for k in (4, 6, 8):
        made = mixture(k, 0, **usgs(samples), settings={"snr": 30.0, "min_angle": 0.1})
        n, _, cross = gram_sums(torch.from_numpy(made.values.reshape(len(made.values), -1)))
        rows.append(row(f"HySime, {k} endmembers, 30 dB: off by", abs(hysime(n, cross).k - k), 1))
    for name, (want, most) in {"jasper": (18, 1), "samson": (43, 2)}.items():
        if name in (scenes := real_scenes(samples)):
            values = scenes[name][0].values
            n, _, cross = gram_sums(torch.from_numpy(values.reshape(len(values), -1).astype(np.float64)))
            rows.append(row(f"HySime, {name}: off {want} by", abs(hysime(n, cross).k - want), most))
    return rows


def exactness(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """FCLS on real scenes: optimality, time, the truth that was made by it; VCA and FCLS."""
    rows, scenes = [], real_scenes(samples)
    if "jasper" in scenes:
        cube, spectra, _ = scenes["jasper"]
        pixels = torch.from_numpy(cube.values.reshape(len(cube), -1))
        solver = AbundanceSolver(torch.from_numpy(spectra), "fcls")
        rows.append(row("FCLS, Jasper Ridge: seconds of one core", timed(lambda: solver.solve(pixels)), 0.2))
        rows.append(row("FCLS, Jasper Ridge: KKT violation", float(solver.kkt_violation(pixels, solver.solve(pixels)).max()), 1e-6))  # fmt: skip
    if "samson" in scenes:
        cube, spectra, shares = scenes["samson"]
        library = ts.make_spectra(spectra.astype(np.float32), ["soil", "tree", "water"])
        found = ts.unmix(cube, library=library, method="label")["abundances"].values
        rows.append(row("label, Samson with its true spectra: largest difference", float(np.abs(found - shares).max()), 1e-4))  # fmt: skip
        ones = [ts.unmix(cube, 3, seed=seed) for seed in range(5)]
        best = min(score(o["endmembers"], o["abundances"], spectra, shares).figures["rmse"] for o in ones)
        rows.append(row("VCA and FCLS, Samson: RMSE, best of five seeds", best, 0.10))
    return rows


def generator(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """Complex synthetic images."""
    rows = []
    for snr in (15.0, 25.0, 35.0):
        one, two = (mixture(5, 0, **usgs(samples), settings={"snr": snr}) for _ in range(2))
        power = (one.clean**2).sum() / ((one.values - one.clean) ** 2).sum()
        rows.append(row(f"generator, {snr:g} dB: off by [dB]", abs(10 * np.log10(power) - snr), 0.2))
    rows.append(
        row("generator: bytes that differ when repeated", float(one.values.tobytes() != two.values.tobytes()), 0)
    )
    rows.append(row("generator: sums of abundances off one by", float(np.abs(one.abundances.sum(0) - 1).max()), 1e-6))
    rows.append(row("generator: largest abundance at purity 0.8", float(one.abundances.max()), 0.8))
    return rows


def objectives(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """Largest relative growth of the objective in any of 200 iterations (float64)."""
    from torchspectral.unmixing.factorisation import base

    base.CURVE = 10_000
    rows = []
    fixed = {"d": 0.0, "guide": "none"}
    methods: dict[str, dict[str, Any]] = {n: {} for n in ("nmf", "l1-nmf", "l12-nmf", "g-nmf", "g-l1-nmf")}
    for method, own in {**methods, "rrlbs": fixed}.items():
        worst = 0.0
        for seed in seeds:
            made = mixture(3, seed, **usgs(samples), settings={"z": 5, "snr": 25.0, "min_angle": 0.2})
            cube = ts.make_cube(made.values.astype(np.float32), wavelength=made.wavelength, quantity="reflectance")
            told = ts.unmix(
                cube, 3, method=method, settings={"iterations": 200, "tolerance": 0.0, **own}
            ).report.figures
            curve = np.array(told["objective"]["value"])
            worst = max(worst, float((np.diff(curve) / curve[:-1]).max()))
        rows.append(row(f"{method}: largest growth of the objective, {len(seeds)} seeds", worst, 1e-12))
    return rows


def rrlbs(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """RRLbS against plain NMF from the same start, at two distances of the materials; the map; time."""
    from torchspectral.unmixing.factorisation.rrlbs import hoyer

    library, rows = usgs(samples), []
    for angle in (0.2, 0.1):
        apart = {"min_angle": angle}
        said = f"RRLbS, {angle:g} rad apart"
        ten = figures(library, {**apart, **STRONG}, {"robust": ("rrlbs", OPEN), "nmf": NMF}, seeds)
        none = figures(library, {**apart, "snr": 30.0}, {"robust": ("rrlbs", OPEN), "nmf": NMF}, seeds)
        notes = [f"NMF of the scene without outliers: {none['nmf'][i] / ten['nmf'][i]:.2f}" for i in (0, 1)]
        rows.append(
            row(f"{said}, 10 outliers of 3x: RMSE over NMF's", ten["robust"][1] / ten["nmf"][1], 0.65, note=notes[1])
        )
        rows.append(
            row(f"{said}, 10 outliers of 3x: angle over NMF's", ten["robust"][0] / ten["nmf"][0], 0.9, note=notes[0])
        )
        rows.append(row(f"{said}, 10 outliers of 3x: RMSE over NMF's without", ten["robust"][1] / none["nmf"][1], 1.04))
        many = figures(library, {**apart, "snr": 30.0, "outliers": 20}, {"robust": ("rrlbs", OPEN), "nmf": NMF}, seeds)
        rows.append(row(f"{said}, 20 outliers of 1x: RMSE over NMF's", many["robust"][1] / many["nmf"][1], 0.97))
        rows.append(row(f"{said}, no outliers: RMSE off NMF's by", abs(none["robust"][1] / none["nmf"][1] - 1), 0.02))
        two = {"sparse": ("rrlbs", {"lambda_rel": 0.5}), "plain": ("rrlbs", {"lambda_rel": 0.0})}
        pure = figures(library, {**apart, "snr": 25.0, "purity": 1.0}, two, seeds)
        rows.append(row(f"{said}, pure pixels: angle over lambda 0", pure["sparse"][0] / pure["plain"][0], 0.75))
        rows.append(row(f"{said}, pure pixels: RMSE over lambda 0", pure["sparse"][1] / pure["plain"][1], 0.9))
    learned, first = [], []
    for seed in seeds:
        made = mixture(4, seed, **library, settings={"min_angle": 0.2, "purity": 0.95, "snr": 25.0})
        cube = ts.make_cube(made.values.astype(np.float32), wavelength=made.wavelength, quantity="reflectance")
        truth = hoyer(torch.from_numpy(made.abundances.reshape(4, -1))).numpy()
        found = ts.unmix(cube, 4, method="rrlbs", settings={"iterations": 200, "tolerance": 0.0})["guidance"].values
        start = ts.unmix(cube, 4)["abundances"].values.reshape(4, -1)
        learned.append(np.corrcoef(found.ravel(), truth)[0, 1])
        first.append(np.corrcoef(hoyer(torch.from_numpy(start)).numpy(), truth)[0, 1])
    rows.append(row("RRLbS, map against true sparseness: correlation", float(np.mean(learned)), 0.9, least=True))
    rows.append(row("RRLbS, map: correlation over that of the start", float(np.mean(learned) - np.mean(first)), 0.0, least=True))  # fmt: skip
    made = mixture(5, 0, settings={"snr": 30.0})
    cube = ts.make_cube(made.values.astype(np.float32), quantity="reflectance")
    settings = {"iterations": 200, "tolerance": 0.0}
    seconds = timed(lambda: ts.unmix(cube, 5, method="rrlbs", settings=settings), 2)
    rows.append(row("RRLbS, 64 x 64 x 224, k=5, 200 iterations: seconds of one core", seconds, 2.0))
    return rows


def matched_angle(found: np.ndarray, true: np.ndarray) -> float:
    """Mean angle [rad] of the best assignment."""
    angles = angle_matrix(found, true)
    return float(angles[linear_sum_assignment(angles)].mean())


def methods(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """SISAL against VCA on images without pure pixels, SUnSAL-TV against SUnSAL on smooth maps at 20 dB."""
    from torchspectral.unmixing.library.sunsal import sunsal
    from torchspectral.unmixing.library.sunsal_tv import sunsal_tv

    angles: dict[str, list[float]] = {"vca": [], "sisal": []}
    errors: dict[str, list[float]] = {"plain": [], "smooth": []}
    for seed in seeds:
        made = mixture(4, seed, **usgs(samples), settings={"snr": 30.0, "min_angle": 0.2})
        cube = ts.make_cube(made.values.astype(np.float32), wavelength=made.wavelength, quantity="reflectance")
        for name in angles:
            found = ts.endmembers(cube, 4, method=name)["endmembers"].values
            angles[name].append(matched_angle(found, made.endmembers))
        made = mixture(4, seed, **usgs(samples), settings={"snr": 20.0, "min_angle": 0.2, "z": 6})
        pixels = torch.from_numpy(made.values)
        library = torch.from_numpy(np.vstack([made.endmembers, 0.05 + 0.5 * made.endmembers[:, ::-1]]))
        plain = sunsal(pixels.reshape(len(pixels), -1), library)[0].reshape(8, *pixels.shape[1:])
        truth = np.concatenate([made.abundances, np.zeros_like(made.abundances)])
        for name, maps in (("plain", plain), ("smooth", sunsal_tv(pixels, library)[0])):
            errors[name].append(float(np.sqrt(((maps.numpy() - truth) ** 2).mean())))
    sums = {name: float(np.sum(values)) for name, values in {**angles, **errors}.items()}
    return [
        row("SISAL, no pure pixels: angle over VCA's", sums["sisal"] / sums["vca"], 1.0),
        row("SUnSAL-TV, 20 dB: RMSE over SUnSAL's", sums["smooth"] / sums["plain"], 1.0),
    ]


LINES = (384, 1536)
"""Of 512 pixels."""
STREAMED: dict[str, dict[str, Any]] = {
    "fcls": {},
    "vca-fcls": {"projections": 0},
    "sunsal": {"iterations": 20},
    "nmf": {"iterations": 3, "in_memory": 0},
    "rrlbs": {"iterations": 3, "in_memory": 0, "draws": 2},
}
_CHILD = """
import json, sys, torch
torch.set_num_threads(1)
import torchspectral as ts
scene, method, settings, out = sys.argv[1:]
cube = ts.open(scene)
library = None
if method in ("fcls", "sunsal"):
    part = cube[:, :2, :2].values.reshape(cube.sizes["band"], -1).T
    library = ts.make_spectra(part, list("abcd"), wavelength=cube["wavelength"].values)
given = {} if library is not None else {"k": 4}
result = ts.unmix(cube, method=method, library=library, settings=json.loads(settings), out=out + "/", pictures=False,
                  tile=(64, 512), workers=1, **given)
print(json.dumps(result.report.peak_memory))
"""


def memory(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """Peak memory of streamed methods on a scene, and on one of four times as many pixels."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        base = random.random((4, 48)) * 0.6 + 0.1
        for lines in LINES:
            shares = random.dirichlet(np.full(4, 0.5), lines * 512).T.astype(np.float32)
            values = (base.T.astype(np.float32) @ shares).reshape(48, lines, 512)
            values += (
                random.normal(0, 0.003, (1, lines, 512)).astype(np.float32) * np.linspace(0.5, 1.5, 48)[:, None, None]
            )
            cube = ts.make_cube(
                values.astype(np.float32), wavelength=np.linspace(400, 2400, 48), quantity="reflectance"
            )
            ts.save(cube, f"{folder}/{lines}.hdr")
            del shares, values, cube
        for method, settings in STREAMED.items():
            peaks = []
            for lines in LINES:
                words = [f"{folder}/{lines}.hdr", method, json.dumps(settings), f"{folder}/{method}{lines}"]
                done = subprocess.run(
                    [sys.executable, "-c", _CHILD, *words], capture_output=True, text=True, check=True
                )
                peaks.append(json.loads(done.stdout.splitlines()[-1]) / 2**20)
            sizes = [lines * 512 * 48 * 4 / 1e6 for lines in LINES]
            note = f"{peaks[0]:.0f} and {peaks[1]:.0f} MB for scenes of {sizes[0]:.0f} and {sizes[1]:.0f} MB"
            rows.append(row(f"{method}: peak memory at 4 N over N pixels", peaks[1] / peaks[0], 1.25, note=note))
    return rows


SECTIONS: dict[str, Callable[[Path | None, Sequence[int]], list[Row]]] = {
    "counting": counting,
    "exactness": exactness,
    "generator": generator,
    "objectives": objectives,
    "methods": methods,
    "rrlbs": rrlbs,
    "memory": memory,
}


def show(rows: Sequence[Row]) -> str:
    """The rows as text."""
    return "\n".join(
        f"  {'holds ' if r['holds'] else 'FAILS '} {r['what']}: {r['value']:.4g} {r['sign']} {r['bound']:g}"
        + (f"  ({r['note']})" if r["note"] else "")
        for r in rows
    )
