"""Unmixing: ``python benchmarks/unmix.py [--pixels N] [--bands L] [--samples DIR] [--skip-blind] [--json]``.

FCLS and NNLS against the peers that install here, then the tables of blind unmixing (`unmix_blind.py`).

SciPy's NNLS is the plain formulation (with a heavy row of ones it solves FCLS too); cvxopt (HySUPP's solver) and spams
take part where they are installed. All solve the same pixels, on one thread, and the exactness of each is measured by
the same optimality conditions.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from machine import best_of, measure
from torchspectral.ops.fcls import AbundanceSolver
from unmix_blind import measured, show

WEIGHT = 1e4


def scene(p: int, bands: int, pixels: int, snr: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Dirichlet mixtures of smooth spectra with white noise: (bands, pixels) and (p, bands), float64."""
    random = np.random.default_rng(seed)
    places = np.linspace(0, 11, bands)
    spectra = np.stack([0.05 + 0.8 * np.interp(places, np.arange(12), random.random(12)) for _ in range(p)])
    clean = spectra.T @ random.dirichlet(np.full(p, 0.5), pixels).T
    sigma = np.sqrt((clean**2).mean() / 10 ** (snr / 10))
    return clean + sigma * random.standard_normal(clean.shape), spectra


def scipy_fcls(y: np.ndarray, e: np.ndarray) -> np.ndarray:
    """FCLS by NNLS with a heavy row of ones."""
    from scipy.optimize import nnls

    matrix = np.vstack([e.T, WEIGHT * np.ones(len(e))])
    return np.stack([nnls(matrix, np.append(pixel, WEIGHT))[0] for pixel in y.T], axis=1)


def scipy_nnls(y: np.ndarray, e: np.ndarray) -> np.ndarray:
    """NNLS, one call a pixel."""
    from scipy.optimize import nnls

    return np.stack([nnls(e.T, pixel)[0] for pixel in y.T], axis=1)


def cvxopt_fcls(y: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Interior point, one quadratic programme a pixel."""
    from cvxopt import matrix, solvers

    solvers.options["show_progress"] = False
    p = len(e)
    gram, bound, zero = matrix(e @ e.T), matrix(-np.eye(p)), matrix(np.zeros(p))
    row, one = matrix(np.ones((1, p))), matrix(np.ones(1))
    return np.stack(
        [np.ravel(solvers.qp(gram, matrix(-(e @ pixel)), bound, zero, row, one)["x"]) for pixel in y.T], axis=1
    )


def spams_fcls(y: np.ndarray, e: np.ndarray) -> np.ndarray:
    """decompSimplex, an active set in C++."""
    import spams

    return spams.decompSimplex(np.asfortranarray(y), np.asfortranarray(e.T), numThreads=1).toarray()


PEERS: list[tuple[str, str, str, Callable[[np.ndarray, np.ndarray], np.ndarray], int]] = [
    ("scipy nnls + row of ones", "scipy", "fcls", scipy_fcls, 2000),
    ("scipy nnls", "scipy", "nnls", scipy_nnls, 2000),
    ("cvxopt qp", "cvxopt", "fcls", cvxopt_fcls, 500),
    ("spams decompSimplex", "spams", "fcls", spams_fcls, 100_000),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=100_000)
    parser.add_argument("--bands", type=int, default=198)
    parser.add_argument("--endmembers", type=int, nargs="+", default=[4, 6, 10])
    parser.add_argument("--snr", type=float, default=30.0)
    parser.add_argument("--samples", type=Path, default=None, help="folder that holds unmixing/, for real scenes")
    parser.add_argument("--seeds", type=int, default=3, help="of the tables of blind unmixing")
    parser.add_argument("--skip-blind", action="store_true", help="leave out the tables of blind unmixing")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    machine = measure()
    rows = []
    for p in given.endmembers:
        y, e = scene(p, given.bands, given.pixels, given.snr)
        single = torch.from_numpy(y.astype(np.float32))
        ours: dict[str, float] = {}
        for kind in ("fcls", "nnls"):
            solver = AbundanceSolver(torch.from_numpy(e), kind)
            seconds = best_of(3, lambda solver=solver, single=single: solver.solve(single))
            worst = float(solver.kkt_violation(single, solver.solve(single)).max())
            ours[kind] = seconds / given.pixels * 1e6
            rows.append({"p": p, "solver": f"torchspectral {kind}", "us": ours[kind], "kkt": worst, "ratio": 1.0})
        for name, module, kind, call, most in PEERS:
            if importlib.util.find_spec(module) is None:
                rows.append({"p": p, "solver": name, "us": None, "kkt": None, "ratio": None})
                continue
            part = np.ascontiguousarray(y[:, :most])
            seconds = best_of(2, lambda call=call, part=part, e=e: call(part, e)) / part.shape[1] * 1e6
            solver = AbundanceSolver(torch.from_numpy(e), kind)
            answer = torch.from_numpy(call(part, e))
            worst = float(solver.kkt_violation(torch.from_numpy(part), answer).max())
            rows.append({"p": p, "solver": name, "us": seconds, "kkt": worst, "ratio": seconds / ours[kind]})
    blind = [] if given.skip_blind else measured(given.samples, range(given.seeds))
    if given.json:
        facts = {"machine": vars(machine), "bands": given.bands, "pixels": given.pixels}
        print(json.dumps({**facts, "rows": rows, "blind": blind}))
        return
    print(machine)
    print(f"{given.pixels} pixels of {given.bands} bands, {given.snr:g} dB, one thread; ratio: times our time")
    print(f"{'p':>3}  {'solver':28s} {'us/pixel':>10} {'ratio':>8} {'KKT':>9}")
    for row in rows:
        if row["us"] is None:
            print(f"{row['p']:>3}  {row['solver']:28s} {'not installed':>10}")
        else:
            print(f"{row['p']:>3}  {row['solver']:28s} {row['us']:10.2f} {row['ratio']:8.1f} {row['kkt']:9.1e}")
    if blind:
        print("\nBlind unmixing")
        print(show(blind))


if __name__ == "__main__":
    main()
