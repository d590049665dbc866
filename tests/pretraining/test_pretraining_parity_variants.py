"""Losses of pretraining in the schema of the shared cases, at other settings, against their formulas in plain numpy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PARITY = Path(__file__).resolve().parent.parent / "parity"
sys.path.insert(0, str(PARITY))

from parity_fill import make_input  # noqa: E402
from run import run_case  # noqa: E402

Arrays = dict[str, np.ndarray]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def whitened(x: np.ndarray, axis: int, rounds: int) -> np.ndarray:
    rows = x if axis else x.T
    rows = rows - rows.mean(0)
    sigma = rows.T @ rows / (len(rows) - 1)
    p, trace = np.eye(len(sigma)), np.trace(sigma)
    for _ in range(rounds):
        p = 1.5 * p - 0.5 * p @ p @ p @ sigma / trace
    out = rows @ p / np.sqrt(trace)
    return out if axis else out.T


def spread(z: np.ndarray, axis: int) -> float:
    return float(((np.var(z if axis else z.T, axis=0, ddof=1) - 1) ** 2).sum())


def iternorm(arrays: Arrays, axis: int, rounds: int) -> Arrays:
    z = whitened(arrays["x"], axis, rounds)
    return {"whitened": z, "trace_loss": np.array([spread(z, axis)])}


def intl(arrays: Arrays, axis: int, rounds: int, beta: float | None = None) -> Arrays:
    views = [whitened(arrays[name], axis, rounds) for name in sorted(arrays)]
    n, d = views[0].shape
    beta = 0.01 * (np.log2(d if axis else n) - 3) if beta is None else beta
    near = [2 - 2 * (unit(z) * unit(views[0])).sum(-1).mean() for z in views[1:]]
    own, first = [spread(z, axis) for z in views[1:]], spread(views[0], axis)
    return {
        "trade_off": np.array([beta]),
        "loss_intl": np.array([np.mean([a + beta * (b + first) for a, b in zip(near, own, strict=True)])]),
        "loss_intl_m": np.array([np.mean([a + beta * b for a, b in zip(near, own, strict=True)])]),
    }


def soft(arrays: Arrays, tau: float, lam: float) -> Arrays:
    labels = (arrays["y"] > 0.8).astype(float)
    known = labels.sum(1) > 0
    assert not known.all()
    cosine = unit(arrays["z1"]) @ unit(arrays["z2"]).T
    alike = np.zeros((len(labels), len(labels)))
    alike[np.ix_(known, known)] = unit(labels[known]) @ unit(labels[known]).T
    s, t = (m[np.ix_(known, known)] for m in (cosine / tau, alike))
    term = (np.logaddexp(0, s) - t * s).mean()
    contrast = -np.diag(log_softmax(cosine / tau)).mean()
    return {
        "labels": labels, "label_sim": alike, "soft": np.array([term]), "info_nce": np.array([contrast]),
        "total": np.array([contrast + lam * term]),
    }  # fmt: skip


def nt_xent(arrays: Arrays, tau: float) -> Arrays:
    z = unit(np.concatenate([arrays["q"], arrays["k"]]))
    logits = z @ z.T / tau
    np.fill_diagonal(logits, -np.inf)
    n = len(z) // 2
    return {"loss": np.array([-log_softmax(logits)[np.arange(2 * n), np.roll(np.arange(2 * n), n)].mean()])}


def queued(arrays: Arrays, tau: float) -> Arrays:
    q, k, queue = (unit(arrays[name]) for name in ("q", "k", "queue"))
    logits = np.concatenate([(q * k).sum(1, keepdims=True), q @ queue.T], 1) / tau
    return {"loss": np.array([-log_softmax(logits)[:, 0].mean()])}


def dino(arrays: Arrays, epochs: tuple[int, ...]) -> Arrays:
    teacher, student = (np.stack([arrays[n] for n in sorted(arrays) if n[0] == side]) for side in "ts")
    center, losses = np.zeros(teacher.shape[-1]), []
    for epoch in epochs:
        temperature = np.interp(epoch, [0, 4], [0.04, 0.07])
        target = np.exp(log_softmax((teacher - center) / temperature))
        said = log_softmax(student / 0.2)
        pairs = [-(target[i] * said[j]).sum(-1).mean() for i in range(2) for j in range(len(student)) if i != j]
        losses.append(np.mean(pairs))
        center = 0.8 * center + 0.2 * teacher.mean((0, 1))
    return {"loss_seq": np.array(losses), "center": center[None, None]}


def views(count: int, shape: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    return {f"z{i}": shape for i in range(count)}


CASES: list[tuple[str, str, dict[str, tuple[int, ...]], Callable[[Arrays], Arrays]]] = [
    *(
        (
            "intl", f"Whitening2dIterNorm(axis={axis}, iterations={rounds}) on (batch, dim); TL(whitened, axis={axis})",
            {"x": (48, 16) if axis else (16, 48)}, lambda a, axis=axis, rounds=rounds: iternorm(a, axis, rounds),
        )
        for axis in (0, 1) for rounds in (3, 5)
    ),
    *(
        (
            "intl", f"INTL / INTL_M loss given embeddings z0..z4, axis={axis}, iterations {rounds}, trade_off from batch/emb",
            views(5, (96, 24) if axis else (32, 80)), lambda a, axis=axis, rounds=rounds: intl(a, axis, rounds),
        )
        for axis, rounds in ((0, 4), (1, 4), (0, 3), (1, 5))
    ),
    (
        "intl", "INTL / INTL_M loss given embeddings z0..z2, axis=0, iters=5, trade_off=0.02", views(3, (16, 40)),
        lambda a: intl(a, 0, 5, 0.02),
    ),
    (
        "softcon", "labels y > 0.8, unlabelled rows left out of the soft term; tau=0.3, lam=0.5",
        {"z1": (20, 12), "z2": (20, 12), "y": (20, 5)}, lambda a: soft(a, 0.3, 0.5),
    ),
    (
        "spectralearth", "NTXentLoss(temperature=0.25, memory_bank_size=0)(q, k)", {"q": (12, 16), "k": (12, 16)},
        lambda a: nt_xent(a, 0.25),
    ),
    (
        "spectralearth", "NTXentLoss(temperature=0.07)(q, k) against a queue of 40 keys",
        {"q": (12, 16), "k": (12, 16), "queue": (40, 16)}, lambda a: queued(a, 0.07),
    ),
    (
        "spectralearth",
        "DINOLoss(output_dim=32, teacher_temp=0.07, warmup_teacher_temp=0.04, warmup_teacher_temp_epochs=5, student_temp=0.2, "
        "center_momentum=0.8) called with epoch=0,2,9; 2 teacher views, 4 student views",
        dict.fromkeys(("t0", "t1", "s0", "s1", "s2", "s3"), (6, 32)), lambda a: dino(a, (0, 2, 9)),
    ),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(CASES)))
def test_other_settings_of_the_losses(number: int, tmp_path: Path) -> None:
    system, constructor, shapes, formula = CASES[number]
    low = 0.0 if system == "softcon" else -1.0
    inputs = {
        name: {"shape": list(shape), "seed": 300 + i, "low": 0.0 if name == "y" else low - 0.5, "high": 1.0}
        for i, (name, shape) in enumerate(shapes.items())
    }
    arrays = {k: make_input(v["shape"], v["seed"], v["low"], v["high"]).astype(np.float64) for k, v in inputs.items()}
    out: dict[str, Any] = {k: np.asarray(v, np.float32) for k, v in formula(arrays).items()}
    facts = {
        "system": system, "source": "formula", "constructor": constructor, "inputs": inputs, "state": {}, "notes": "",
        "output": {k: {"shape": list(v.shape), "stored": "full"} for k, v in out.items()},
        "tolerance": {"rtol": 1e-4, "atol": 1e-5},
    }  # fmt: skip
    (tmp_path / "case.json").write_text(json.dumps(facts))
    np.savez(tmp_path / "case.npz", **out)
    row = run_case(tmp_path / "case.json")
    assert row["status"] == "pass", row["reason"]


def test_settings_that_nobody_takes_are_told(tmp_path: Path) -> None:
    facts = {
        "system": "intl", "source": "formula", "constructor": "Whitening2dIterNorm(axis=0, iterations=3, eps=0.1)",
        "inputs": {"x": {"shape": [4, 9], "seed": 1, "low": 0, "high": 1}}, "state": {}, "notes": "",
        "output": {"whitened": {"shape": [4, 9], "stored": "full"}}, "tolerance": {"rtol": 1e-4, "atol": 1e-5},
    }  # fmt: skip
    (tmp_path / "case.json").write_text(json.dumps(facts))
    np.savez(tmp_path / "case.npz", whitened=np.zeros((4, 9), np.float32))
    row = run_case(tmp_path / "case.json")
    assert row["status"] != "pass" and "eps" in row["reason"]
