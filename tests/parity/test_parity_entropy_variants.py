"""Diffusion entropy at other sizes and settings than the shared case: against a few lines of NumPy each."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import run as parity_run

BASE = {"seed": 11, "n": 240, "d": 16, "k": 4, "sep": 3.0, "noise": 1.0, "sigma": 4.0, "t": [1, 2, 5]}
VARIANTS = {
    "small": {"n": 40, "d": 7, "k": 3, "seed": 2, "t": [1]},
    "odd": {"n": 101, "d": 6, "k": 5, "seed": 5, "sigma": 1.5, "t": [3, 1]},
    "wide": {"n": 60, "d": 64, "k": 2, "sep": 0.7, "sigma": 9.0, "t": [2, 7]},
    "tight": {"n": 80, "noise": 0.05, "sigma": 0.4, "t": [1, 4]},
}


def bits(p: np.ndarray) -> float:
    p = np.abs(p) / np.abs(p).sum() + np.finfo(float).eps
    return float(-(p * np.log2(p)).sum())


def gauss(x: np.ndarray, sigma: float) -> np.ndarray:
    d2 = ((x[:, None] - x[None]) ** 2).sum(-1)
    return np.exp(-d2 / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))


def kernel(x: np.ndarray, sigma: float) -> np.ndarray:
    g = gauss(x, sigma)
    root = np.sqrt(g.sum(1))
    return g / root[:, None] / root[None]


def entropy(x: np.ndarray, sigma: float, t: float) -> float:
    return bits(np.abs(np.linalg.eigvalsh(kernel(x, sigma))) ** t)


def cse(x: np.ndarray, bins: int) -> float:
    unit = (x - x.min(0)) / (x.max(0) - x.min(0))
    cells = np.digitize(unit, np.linspace(0, 1, bins + 1)[:-1])
    _, counts = np.unique(cells, axis=0, return_counts=True)
    return bits(counts.astype(float))


def information(measure, x: np.ndarray, y: np.ndarray) -> float:
    total = 0.0
    for label in np.unique(y):
        inside = x[y == label]
        random.seed(0)
        others = [measure(x[random.sample(range(len(x)), len(inside))]) for _ in range(5)]
        total += len(inside) / len(x) * (np.mean(others) - measure(inside))
    return float(total)


def expected(a: dict) -> dict:
    draw = np.random.RandomState(a["seed"])
    centres = draw.standard_normal((a["k"], a["d"])) * a["sep"]
    y = np.arange(a["n"]) % a["k"]
    x = centres[y] + a["noise"] * draw.standard_normal((a["n"], a["d"]))
    s, ts, first = a["sigma"], a["t"], x[:, 0]
    bins = np.digitize((first - first.min()) / np.ptp(first), np.linspace(0, 1, 5)[:-1])
    k = kernel(x, s)
    d = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    random.seed(3)
    half = x[random.sample(range(a["n"]), a["n"] // 2)]
    return {
        "eigvals_desc": np.linalg.eigvalsh(k)[::-1],
        "dse": [entropy(x, s, t) for t in ts],
        "dse_maxN": entropy(half, s, ts[0]),
        "dse_entries": bits(k / k.sum(1, keepdims=True)),
        "cse_bins2": cse(x[:, :6], 2),
        "cse_bins3": cse(x[:, :3], 3),
        "dsmi_labels": [information(lambda v, t=t: entropy(v, s, t), x, y) for t in ts],
        "dsmi_scalar_bins4": information(lambda v: entropy(v, s, ts[0]), x, bins),
        "scalar_bins4": bins,
        "csmi_labels": information(lambda v: cse(v, 2), x[:, :6], y),
        "ase_gauss": bits(np.linalg.eigvalsh(gauss(x, s))),
        "ase_gauss_aniso": bits(np.linalg.eigvalsh(k)),
        "ase_knn10": bits(np.linalg.eigvals((d <= np.sort(d, 1)[:, 9:10]).astype(float))),
        "asmi_labels": information(lambda v: bits(np.linalg.eigvalsh(gauss(v, s))), x, y),
    }


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(tmp_path: Path, name: str) -> None:
    a = BASE | VARIANTS[name]
    want = {key: np.asarray(value) for key, value in expected(a).items()}
    meta = {
        "system": "diffusion-spectral-entropy",
        "constructor": {"args": a},
        "inputs": {},
        "state": {},
        "tolerance": {"rtol": 1e-5, "atol": 1e-7},
        "output": {key: {"shape": list(value.shape), "stored": "full"} for key, value in want.items()},
    }
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps(meta))
    np.savez(file.with_suffix(".npz"), **want)
    row = parity_run.run_case(file)
    assert row["status"] == "pass", row["reason"] + row.get("traceback", "")


@pytest.mark.parametrize("setting", ["seed", "n", "d", "k", "sep", "noise", "sigma", "t"])
def test_no_setting_is_without_effect(setting: str) -> None:
    from adapters.diffusion_spectral_entropy import run
    from parity_case import Case

    small = BASE | {"n": 30, "d": 6, "k": 3, "t": [1, 2]}
    other = {"seed": 12, "n": 33, "d": 8, "k": 2, "sep": 2.0, "noise": 0.5, "sigma": 2.0, "t": [3, 2]}[setting]
    one, two = (run(Case("x", Path(), {"constructor": {"args": a}})) for a in (small, small | {setting: other}))
    moved = {key for key in one if not np.array_equal(np.asarray(one[key]), np.asarray(two[key]))}
    # Adjacency entropies have t = 1, and t leaves eigenvalues and clusters alone; bins and neighbours know no width.
    free = {"sigma": 5, "t": 4}.get(setting, len(one) - 4)
    assert len(moved) >= free, moved


@pytest.mark.parametrize("count", [3, 7])
def test_numbers_as_labels_and_other_bins_and_neighbours(count: int) -> None:
    from torchspectral.metrics import representation as r

    draw = np.random.default_rng(count)
    x, target = draw.standard_normal((50, 5)), draw.random(50)
    bins = np.digitize((target - target.min()) / np.ptp(target), np.linspace(0, 1, count + 1)[:-1])
    raw = {"sigma": 2.0, "normalise": False}
    for reference in (target, target[:, None]):
        found = r.dsmi(x, reference, count=count, t=2, **raw)
        np.testing.assert_array_equal(found.clusters, bins)
        assert float(found) == pytest.approx(information(lambda v: entropy(v, 2.0, 2), x, bins), rel=1e-8)
    assert r.cse(x, bins=count) == pytest.approx(cse(x, count))
    d = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
    near = (d <= np.sort(d, 1)[:, count - 1 : count]).astype(float)
    assert r.ase(x, kind="knn", k=count, normalise=False) == pytest.approx(bits(np.linalg.eigvals(near)), rel=1e-8)
