"""The dense stack of the paper and the synthetic data of its experiments: what the reduced forms are held against."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchspectral.errors import BadSettings


def dense_stack(model: str, ys: Any, a: Any) -> np.ndarray:
    """Phi with Phi [s; x] = 0: model "a" [diag(y_l), -A_l], "b" and "c" with a block of columns for each object.

    Parameters
    ----------
    ys : array_like, shape (p, m)
    a : array_like, shape (p, m, n), or (m, n) in model "c"

    Returns
    -------
    ndarray, shape (p m, m + n) or (p m, m + p n)
    """
    y, a = np.asarray(ys), np.asarray(a)
    p, m = y.shape
    n = a.shape[-1]
    objects = 1 if model == "a" else p
    phi = np.zeros((p * m, m + objects * n), dtype=np.result_type(y, a, np.float64))
    for part in range(p):
        rows = slice(part * m, (part + 1) * m)
        phi[rows, :m] = np.diag(y[part])
        first = m + (0 if model == "a" else part * n)
        phi[rows, first : first + n] = -(a if model == "c" else a[part])
    return phi


def solve_dense(
    model: str, ys: Any, a: Any, solver: str = "ls", w: Any = None, c: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve the stack as the paper does: s (m,), the objects stacked, and the singular values of Phi."""
    phi = dense_stack(model, ys, a)
    m = np.shape(ys)[1]
    values = np.linalg.svd(phi, compute_uv=False)
    if solver == "spectral":
        z = np.linalg.svd(phi, full_matrices=True)[2][-1].conj()
        z = z * np.conj(z[:m].sum()) / abs(z[:m].sum())
    else:
        row = np.zeros(phi.shape[1])
        row[: m if w is None else len(w)] = 1 / np.sqrt(m) if w is None else w
        right = np.zeros(len(phi) + 1)
        right[-1] = c
        z = np.linalg.lstsq(np.vstack([phi, row]), right, rcond=None)[0]
    return z[:m], z[m:], values


def simulate(
    model: str,
    m: int,
    n: int,
    p: int,
    snr: float = np.inf,
    seed: int = 0,
    gains: tuple[float, float] = (0.5, 1.5),
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Measurements of Gaussian objects through Gaussian operators.

    ``numpy.random.RandomState(seed)`` draws d, x, the operators and the noise in this order.

    Parameters
    ----------
    m, n, p : int
        Detectors, unknowns of an object, measurements.
    snr : float
        Energy of the measurements over that of the noise [dB].
    gains : tuple of float
        Limits of the uniform gains.

    Returns
    -------
    ys : ndarray, shape (p, m)
    a : ndarray, shape (p, m, n), or (m, n) in model "c"
    d : ndarray, shape (m,)
    x : ndarray, shape (n,), or (p, n)
    """
    if model not in ("a", "b", "c"):
        raise BadSettings(f"got model={model!r}, expected a, b or c")
    random = np.random.RandomState(seed)
    d = random.uniform(*gains, m)
    x = random.randn(n) if model == "a" else random.randn(p, n)
    a = random.randn(m, n) if model == "c" else random.randn(p, m, n)
    if model == "a":
        clean = a @ x
    elif model == "b":
        clean = np.einsum("pmn,pn->pm", a, x)
    else:
        clean = x @ a.T
    ys = d * clean
    noise = random.randn(p, m)
    if np.isfinite(snr):
        ys = ys + noise * (np.linalg.norm(ys) / np.linalg.norm(noise) * 10 ** (-snr / 20))
    return ys, a, d, x


def error_db(found: Any, truth: Any) -> float:
    """Relative error after the best scale [dB]: 20 log10(min_t ||t found - truth|| / ||truth||)."""
    one, other = np.ravel(found), np.ravel(truth)
    scaled = one * (np.vdot(one, other) / np.vdot(one, one))
    error = float(np.linalg.norm(scaled - other) / np.linalg.norm(other))
    return float(20 * np.log10(max(error, 1e-300)))
