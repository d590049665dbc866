"""How strong to regularise: generalised cross-validation, L-curve, held-out interferometers, known spectra."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from torchspectral.calibration.interferometer.inversion import make_solver
from torchspectral.errors import BadInput, BadSettings

FOLDS = 5
POINTS = 25
SAMPLE = 64
"""Interferograms that iterative methods are tried on."""


@dataclass(frozen=True)
class Strength:
    """A chosen regularisation.

    Attributes
    ----------
    value : float, optional
        None where the method has none.
    how : str
        "given", or the rule.
    candidates, scores : list of float
        What was tried and what the rule gave; the best has the lowest score.
    """

    value: float | None
    how: str = "given"
    candidates: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


def choose_strength(
    method: str, matrix: torch.Tensor, settings: Any, y: torch.Tensor, truth: torch.Tensor | None = None
) -> Strength:
    """The regularisation of a method for interferograms of one instrument.

    Parameters
    ----------
    matrix : Tensor, shape (I, K)
    settings : Settings
        Of the method; a number there is kept.
    y : Tensor, shape (I, n)
        Interferograms to choose by: some of the scene's, or of known lines.
    truth : Tensor, shape (K, n), optional
        Their spectra: the choice is then the one that comes nearest.

    Raises
    ------
    BadInput
        Nothing to choose by.
    """
    given = getattr(settings, "ratio", getattr(settings, "regularisation", None))
    if given is None or isinstance(given, int | float):
        return Strength(given if given is None else float(given))
    if not y.numel() or not bool(y.any()):
        raise BadInput(
            "all interferograms are zero, expected some signal to choose the regularisation by: give a number"
        )
    matrix, y = matrix.double(), y.double()
    candidates = _candidates(method, matrix, settings, y)
    if truth is not None:
        y, truth = _some(y), _some(truth.double())
        scores = [float(((_run(method, matrix, settings, c, y) - truth) ** 2).sum()) for c in candidates]
        return _lowest("known spectra", candidates, scores)
    if given == "gcv":
        return _lowest("gcv", candidates, _gcv(method, matrix, settings, y, candidates))
    y = y if method != "loris-verhoeven" else _some(y)
    if given == "cv":
        return _lowest("cv", candidates, [_held_out(method, matrix, settings, c, y) for c in candidates])
    return _lowest("l-curve", candidates, _curvature(method, matrix, settings, y, candidates))


def _candidates(method: str, matrix: torch.Tensor, settings: Any, y: torch.Tensor) -> list[float]:
    if method == "tsvd":
        count = min(matrix.shape)
        kept = sorted({max(1, round(r * count)) for r in np.linspace(0.04, 1, POINTS)})
        return [min(1.0, (k + 1e-9) / count) for k in kept]
    if method == "phillips-twomey":
        # Differences of smooth spectra are small: the weight that matters grows far beyond the matrix's norm.
        top = float(torch.linalg.matrix_norm(matrix, 2))
        return [float(v) for v in top * np.logspace(-6, 2 + settings.order, POINTS + 8 * settings.order)]
    if method == "ridge":
        top = float(torch.linalg.matrix_norm(matrix, 2))
        return [float(v) for v in top * np.logspace(-6, 0, POINTS)]
    if method == "loris-verhoeven":
        # The contrast sets the scale: the mean of an interferogram says nothing of the spectrum's shape.
        contrast = y - y.mean(0)
        top = float((matrix.T @ contrast).abs().amax(0).median())
        top = top or float((matrix.T @ y).abs().amax())
        return [float(v) for v in top * np.logspace(-6, 0, 13)]
    raise BadSettings(f"{method} has no regularisation to choose")


def _some(y: torch.Tensor) -> torch.Tensor:
    if y.shape[1] <= SAMPLE:
        return y
    return y[:, torch.linspace(0, y.shape[1] - 1, SAMPLE).round().long()]


def _run(method: str, matrix: torch.Tensor, settings: Any, strength: float, y: torch.Tensor) -> torch.Tensor:
    name = "ratio" if method == "tsvd" else "regularisation"
    # A search needs no more digits than tell the candidates apart.
    quick = (
        {"iterations": min(settings.iterations, 500), "tolerance": max(settings.tolerance, 1e-5)}
        if (method == "loris-verhoeven")
        else {}
    )
    return make_solver(method, matrix, settings.model_copy(update={name: strength, **quick})).solve(y)


def _linear(settings: Any, strength: float) -> Any:
    return settings.model_copy(update={"regularisation": strength, "non_negative": False})


def _gcv_direct(matrix: torch.Tensor, solver: Any, y: torch.Tensor) -> float:
    hat = matrix @ solver.inverse
    left = matrix.shape[0] - float(hat.diagonal().sum())
    return float(((hat @ y - y) ** 2).sum()) / left**2 if left > 0.5 else np.inf


def _gcv(method: str, matrix: torch.Tensor, settings: Any, y: torch.Tensor, candidates: list[float]) -> list[float]:
    """Sum of squared residuals over the squared degrees of freedom left, all interferograms together."""
    if method == "phillips-twomey":
        return [_gcv_direct(matrix, make_solver(method, matrix, _linear(settings, c)), y) for c in candidates]
    u, s, _ = torch.linalg.svd(matrix, full_matrices=False)
    power = ((u.T @ y) ** 2).sum(1)
    outside = float((y**2).sum() - power.sum())
    rows, scores = matrix.shape[0], []
    for value in candidates:
        if method == "tsvd":
            kept = (torch.arange(len(s)).to(s) < int(value * len(s))).to(s)
        else:
            kept = s**2 / (s**2 + value**2)
        left = rows - float(kept.sum())
        misfit = max(outside, 0.0) + float((power * (1 - kept) ** 2).sum())
        scores.append(misfit / left**2 if left > 0.5 else np.inf)
    return scores


def _held_out(method: str, matrix: torch.Tensor, settings: Any, strength: float, y: torch.Tensor) -> float:
    """Misfit of every fifth interferometer, predicted from the others."""
    index = torch.arange(matrix.shape[0], device=matrix.device)
    total = 0.0
    for fold in range(min(FOLDS, matrix.shape[0])):
        out = index % FOLDS == fold
        if not bool((~out).any()):
            return np.inf
        x = _run(method, matrix[~out], settings, strength, y[~out])
        total += float(((matrix[out] @ x - y[out]) ** 2).sum())
    return total


def _curvature(
    method: str, matrix: torch.Tensor, settings: Any, y: torch.Tensor, candidates: list[float]
) -> list[float]:
    """Minus the curvature of log ||x|| over log ||T x - y||: lowest at the corner of the L."""
    points = []
    for value in candidates:
        x = _run(method, matrix, settings, value, y)
        size = _penalty(method, settings, x)
        points.append([np.log(max(float((matrix @ x - y).norm()), 1e-300)), np.log(max(float(size), 1e-300))])
    along = np.arange(len(points)) if method == "tsvd" else np.log(candidates)
    first = np.asarray(np.gradient(np.array(points), along, axis=0))
    second = np.asarray(np.gradient(first, along, axis=0))
    bend = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / np.maximum((first**2).sum(1), 1e-12) ** 1.5
    sign = -1.0 if method == "tsvd" else 1.0
    scores = -sign * bend
    # The ends have no neighbours to bend towards.
    scores[[0, 1, -2, -1]] = np.inf
    return [float(s) for s in scores]


def _penalty(method: str, settings: Any, x: torch.Tensor) -> torch.Tensor:
    """What the method keeps small, up to its strength."""
    if method == "loris-verhoeven":
        return x.abs().sum()
    if method == "phillips-twomey":
        return x.diff(n=settings.order, dim=0).norm()
    return x.norm()


def _lowest(how: str, candidates: list[float], scores: list[float]) -> Strength:
    best = int(np.argmin(scores))
    if not np.isfinite(scores[best]):
        raise BadInput(f"{how} finds no regularisation for these interferograms: give a number")
    return Strength(candidates[best], how, candidates, scores)
