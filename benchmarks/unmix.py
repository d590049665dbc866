"""Unmixing measured: ``python benchmarks/unmix.py [--only SECTION ...] [--samples DIR] [--parity DIR] [--json]``.

peers: FCLS and NNLS against the peers that install here. SciPy's NNLS is the plain formulation (with a heavy row of ones
it solves FCLS too); cvxopt (HySUPP's solver) and spams take part where they are installed. All solve the same pixels, on
one thread, in turns, in processor time, and the exactness of each is measured by the same optimality conditions. counting, exactness, generator,
objectives, rrlbs, memory, parity: what has to be reached, line by line (`unmix_acceptance`). blind: the tables of
`unmix_blind`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import unmix_acceptance
import unmix_blind
from machine import measure
from torchspectral.ops.fcls import AbundanceSolver

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


def cpu_seconds(calls: dict[str, Callable[[], object]], repeats: int = 3) -> dict[str, float]:
    """Least processor seconds of each call, taken in turns: what else the machine does meets all alike."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def peers(pixels: int, bands: int, endmembers: list[int], snr: float) -> list[dict[str, Any]]:
    """Microseconds a pixel, KKT violation and time over ours of each solver."""
    rows: list[dict[str, Any]] = []
    for p in endmembers:
        y, e = scene(p, bands, pixels, snr)
        single = torch.from_numpy(y.astype(np.float32))
        solvers = {kind: AbundanceSolver(torch.from_numpy(e), kind) for kind in ("fcls", "nnls")}
        calls: dict[str, Callable[[], object]] = {
            kind: partial(solver.solve, single) for kind, solver in solvers.items()
        }
        here = [peer for peer in PEERS if importlib.util.find_spec(peer[1]) is not None]
        parts = {peer[0]: np.ascontiguousarray(y[:, : peer[4]]) for peer in here}
        calls |= {name: partial(call, parts[name], e) for name, _, _, call, _ in here}
        seconds = cpu_seconds(calls)
        pace = {name: 1e6 * s / (parts[name].shape[1] if name in parts else pixels) for name, s in seconds.items()}
        for kind, solver in solvers.items():
            worst = float(solver.kkt_violation(single, solver.solve(single)).max())
            rows.append({"p": p, "solver": f"torchspectral {kind}", "us": pace[kind], "kkt": worst, "ratio": 1.0})
        for name, _, kind, call, _ in PEERS:
            if name not in parts:
                rows.append({"p": p, "solver": name, "us": None, "kkt": None, "ratio": None})
                continue
            answer = torch.from_numpy(call(parts[name], e))
            worst = float(solvers[kind].kkt_violation(torch.from_numpy(parts[name]), answer).max())
            rows.append({"p": p, "solver": name, "us": pace[name], "kkt": worst, "ratio": pace[name] / pace[kind]})
    return rows


def show_peers(rows: list[dict[str, Any]]) -> str:
    """The rows as text; beside them what a million pixels take at that pace."""
    lines = [f"{'p':>3}  {'solver':28s} {'us/pixel':>10} {'ratio':>8} {'KKT':>9} {'1e6 px':>9}"]
    for row in rows:
        if row["us"] is None:
            lines.append(f"{row['p']:>3}  {row['solver']:28s} {'not installed':>10}")
        else:
            pace = f"{row['us']:10.2f} {row['ratio']:8.1f} {row['kkt']:9.1e} {row['us']:7.1f} s"
            lines.append(f"{row['p']:>3}  {row['solver']:28s} {pace}")
    return "\n".join(lines)


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sections = ["peers", "parity", *unmix_acceptance.SECTIONS, "blind"]
    parser.add_argument("--only", nargs="+", choices=sections, default=sections)
    parser.add_argument("--samples", type=Path, default=None, help="folder that holds unmixing/")
    parser.add_argument("--parity", type=Path, default=None, help="folder of parity cases")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pixels", type=int, default=100_000)
    parser.add_argument("--bands", type=int, default=198)
    parser.add_argument("--endmembers", type=int, nargs="+", default=[4, 6, 10])
    parser.add_argument("--snr", type=float, default=30.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"machine": vars(measure())}
    if not given.json:
        print(measure())
    for name in given.only:
        if name == "peers":
            rows = peers(given.pixels, given.bands, given.endmembers, given.snr)
            text = f"{given.pixels} pixels of {given.bands} bands, {given.snr:g} dB, one thread, processor time; ratio: times ours\n"
            text += show_peers(rows)
        elif name == "parity":
            rows = unmix_acceptance.parity(given.samples, (), given.parity)
            text = unmix_acceptance.show(rows) or "  (give --parity DIR)"
        elif name == "blind":
            rows = unmix_blind.measured(given.samples, range(given.seeds))
            text = unmix_blind.show(rows)
        else:
            rows = unmix_acceptance.SECTIONS[name](given.samples, range(given.seeds))
            text = unmix_acceptance.show(rows)
        found[name] = rows
        if not given.json:
            print(f"{name}:\n{text}", flush=True)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
