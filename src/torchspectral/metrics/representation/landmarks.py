"""Diffusion spectral entropy of many samples from a few landmarks, with bounds that hold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from torchspectral.errors import BadSettings
from torchspectral.ops.diffusion import BLOCK, is_tensor, spectrum_entropy


def nystrom_entropy(
    x: Any, sigma: float, *, t: float, alpha: float, landmarks: int, seed: int
) -> tuple[float, float, np.ndarray]:
    """Middle of the bounds on the entropy, half their distance, and the Nystrom eigenvalues, descending.

    The diffusion matrix is positive, so each true eigenvalue is at least its Nystrom estimate, and what they lack
    together is known: the trace. The entropy is least where the largest eigenvalue gets all of it, and most where it
    fills up the smallest ones.

    Parameters
    ----------
    x : array or Tensor, shape (n, d)
    sigma : float
    t, alpha : float
        1 and 0: the bounds hold for these only.
    landmarks : int
        Samples that stand for all, at least 2.
    seed : int

    Raises
    ------
    BadSettings
    """
    n = x.shape[0]
    if t != 1 or alpha:
        raise BadSettings(f"got t={t:g} and alpha={alpha:g} with landmarks, whose bounds hold for t=1 and alpha=0 only")
    if isinstance(landmarks, bool) or not 2 <= landmarks <= n:
        raise BadSettings(f"got {landmarks} landmarks for {n} samples, expected 2 to {n}")
    index = sorted(random.Random(seed).sample(range(n), landmarks))
    x = np.asarray(x.cpu().numpy() if is_tensor(x) else x, dtype=np.float64)
    x = x - x.mean(0)
    norms = (x * x).sum(1)
    degrees, columns = np.empty(n), np.empty((n, landmarks))
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        squared = (norms[rows, None] + norms - 2.0 * (x[rows] @ x.T)).clip(0.0)
        squared[np.arange(rows.stop - start), np.arange(start, rows.stop)] = 0.0
        kernel = np.exp(squared * (-0.5 / sigma**2))
        degrees[rows], columns[rows] = kernel.sum(1), kernel[:, index]
    root = degrees**-0.5
    columns *= root[:, None] * root[index]
    values, vectors = np.linalg.eigh((columns[index] + columns[index].T) / 2)
    keep = values > values[-1] * 1e-10
    spread = columns @ (vectors[:, keep] / np.sqrt(values[keep]))
    known = np.linalg.eigvalsh(spread.T @ spread).clip(0.0)[::-1]
    lacking = max(float((1.0 / degrees).sum() - known.sum()), 0.0)
    spectrum = np.concatenate([known, np.zeros(n - known.size)])
    top = spectrum.copy()
    top[0] += lacking
    low, high = (float(spectrum_entropy(s)) for s in (top, _filled(spectrum, lacking)))
    return (low + high) / 2, (high - low) / 2, known


def _filled(descending: np.ndarray, amount: float) -> np.ndarray:
    """Raise the smallest values to one level that takes up `amount`."""
    rising = descending[::-1]
    counts = np.arange(1, rising.size + 1)
    levels = (np.cumsum(rising) + amount) / counts
    fits = np.flatnonzero(levels <= np.append(rising[1:], np.inf))
    count = int(fits[0]) + 1
    return np.concatenate([np.full(count, levels[fits[0]]), rising[count:]])
