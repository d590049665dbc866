"""Model (a) with sparse operators that interpolate: LSQR on the sparse stack, nothing of it dense."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import lsqr

from torchspectral.calibration.gain.solving import Identifiability
from torchspectral.errors import BadInput

if TYPE_CHECKING:
    from torchspectral.calibration.gain.self_cal import SelfCalResult

TOLERANCE = 1e-14
ROUNDS = 20_000


def solve_sparse(ys: Any, a: Sequence[Any], c: float = 1.0) -> SelfCalResult:
    """Gains and object of y_l = D A_l x with sparse A_l (m, n).

    Raises
    ------
    BadInput
        Shapes that do not fit, too few equations, detectors that share no object.
    """
    from torchspectral.calibration.gain.self_cal import SelfCalResult

    y = np.asarray(ys, dtype=np.float64)
    if y.ndim != 2 or len(y) != len(a) or any(one.shape != (y.shape[1], a[0].shape[1]) for one in a):
        raise BadInput(f"got measurements of shape {y.shape} and {len(a)} operators, expected one of (m, n) for each")
    m, n = y.shape[1], a[0].shape[1]
    good = np.isfinite(y).ravel()
    which = np.tile(np.arange(m), len(y))[good]
    known = detectors_linked(which, sp.vstack([sp.csr_array(one) for one in a]).tocsr()[good])
    if known > 1:
        raise BadInput(f"the detectors fall into {known} groups that share no part of the object, expected one")
    s, x, residual, error = solve_rows(
        which, y.ravel()[good], sp.vstack([sp.csr_array(o) for o in a]).tocsr()[good], m, c
    )
    equations, unknowns = int(good.sum()), m + n
    spectrum = Identifiability(equations, unknowns, max(unknowns - equations, 0), 1, 0.0, math.nan, math.nan)
    spectrum.check()
    return SelfCalResult(1 / s, s, x, spectrum, error, residual)


def solve_rows(
    detector: np.ndarray, values: np.ndarray, operator: Any, m: int, c: float = 1.0
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Solve values s[detector] = operator x with the row 1^T s / sqrt(m) = c by LSQR.

    Parameters
    ----------
    detector : ndarray of int, shape (rows,)
    values : ndarray, shape (rows,)
    operator : sparse array, shape (rows, n)
        Cells that no row sees get 0.

    Returns
    -------
    s : ndarray, shape (m,)
        NaN for detectors without a row.
    x : ndarray, shape (n,)
    residual : float
        Relative to the values.
    error : float
        Expected relative error of s, from LSQR's estimate of the variances.
    """
    rows = len(values)
    operator = sp.csr_array(operator, copy=True)
    operator.eliminate_zeros()
    diagonal = sp.csr_array((values, (np.arange(rows), detector)), shape=(rows, m))
    seen, used = np.unique(detector), np.flatnonzero(np.bincount(operator.indices, minlength=operator.shape[1]))
    left, right = diagonal[:, seen], -operator[:, used]
    row = sp.csr_array(np.concatenate([np.full(len(seen), 1 / math.sqrt(len(seen))), np.zeros(len(used))])[None])
    # Columns of unit norm: LSQR then needs a fraction of the rounds.
    scale = 1 / np.sqrt(np.concatenate([left.power(2).sum(0), right.power(2).sum(0)]))
    level = 1 / scale[: len(seen)].mean()
    phi = sp.vstack([sp.hstack([left, right]), level * row]).tocsr() @ sp.diags_array(scale)
    target = np.zeros(rows + 1)
    target[-1] = level * c
    found = lsqr(phi, target, atol=TOLERANCE, btol=TOLERANCE, conlim=0, iter_lim=ROUNDS, calc_var=True)
    z = found[0] * scale
    s, x = np.full(m, np.nan), np.zeros(operator.shape[1])
    s[seen], x[used] = z[: len(seen)], z[len(seen) :]
    left_over = diagonal @ np.nan_to_num(s) - operator @ x
    freedom = rows - len(seen) - len(used) + 1
    variance = float(left_over @ left_over) / freedom if freedom > 0 else math.inf
    spread = float(np.sqrt(variance * (found[9][: len(seen)] * scale[: len(seen)] ** 2).sum()))
    size = float(np.linalg.norm(values * np.nan_to_num(s)[detector]))
    return s, x, float(np.linalg.norm(left_over)) / max(size, 1e-300), spread / float(np.linalg.norm(s[seen]))


def detectors_linked(detector: np.ndarray, operator: Any) -> int:
    """Groups of detectors that share cells of the object."""
    from scipy.sparse.csgraph import connected_components

    m = int(detector.max()) + 1 if detector.size else 0
    coo = sp.coo_array(operator)
    seen = np.unique(detector)
    graph = sp.coo_array(
        (np.ones(coo.nnz), (detector[coo.coords[0]], m + coo.coords[1])), shape=(m + operator.shape[1],) * 2
    )
    return len(np.unique(connected_components(graph, directed=False)[1][seen]))
