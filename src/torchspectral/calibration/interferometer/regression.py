"""Third step: regression of the scaled model over the polynomials' coefficients, all interferometers together.

The solver of the house is Levenberg and Marquardt's with exact derivatives: unknowns are coefficients of polynomials
that are orthonormal on the samples, every interferometer keeps its own damping, and rows that have converged are left
out of the work. ``solver="trf"`` is the authors' way: scipy's trust region, a row at a time, on coefficients of the raw
wavenumber with differences for derivatives; where those are ill-conditioned it stops short of the minimum.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from torchspectral.calibration.interferometer.formation import derivatives, phase, transfer
from torchspectral.calibration.interferometer.polynomials import basis, orthonormal
from torchspectral.errors import BadSettings

Solver = Literal["lm", "trf"]
DAMPING = 0.1
"""Of the first step, relative to the diagonal of the cross products."""
NAMES = ("opd", "phase_shift", "gain", "reflectivity")
AUTHORS_ORDER = ("opd", "gain", "reflectivity", "phase_shift")


@dataclass(frozen=True)
class Bounds:
    """Reflectivity kept between two limits: R = low + (high - low) / (1 + exp(-polynomial)).

    Raises
    ------
    BadSettings
        Limits that are not -1 < low < high < 1.
    """

    low: float = 0.0
    high: float = 0.99

    def __post_init__(self) -> None:
        if not -1 <= self.low < self.high <= 1:
            raise BadSettings(f"got reflectivity bounds {self.low:g} and {self.high:g}, expected -1 <= low < high <= 1")

    def forward(self, value: np.ndarray) -> np.ndarray:
        """Reflectivity of the polynomial's values."""
        return self.low + (self.high - self.low) * _sigmoid(value)

    def slope(self, value: np.ndarray) -> np.ndarray:
        """Derivative of `forward`."""
        s = _sigmoid(value)
        return (self.high - self.low) * s * (1 - s)

    def backward(self, reflectivity: np.ndarray) -> np.ndarray:
        """Polynomial values of a reflectivity, kept off the limits."""
        share = np.clip((reflectivity - self.low) / (self.high - self.low), 0.01, 0.99)
        return np.asarray(np.log(share / (1 - share)))


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -500, 500))))


@dataclass
class Problem:
    """Rows to fit, in numbers of the size of one.

    Attributes
    ----------
    data : ndarray, shape (I, K)
        Divided by each row's mean.
    wavenumber : ndarray, shape (K,)
        [1/um].
    values : dict of str to ndarray, shape (I, K)
        Start: opd [um], phase_shift [rad], gain, reflectivity, each sampled at the wavenumbers.
    degrees : dict of str to int
    free : tuple of str
        Polynomials that are regressed; the others keep their values.
    waves : int
        Of the model, see `formation.transfer`.
    bounds : Bounds, optional
        Of the reflectivity.
    start : dict of str to ndarray, shape (I, degree + 1)
        Coefficients on the raw wavenumber that solver "trf" begins with, where they are known exactly.
    """

    data: np.ndarray
    wavenumber: np.ndarray
    values: dict[str, np.ndarray]
    degrees: dict[str, int]
    free: tuple[str, ...]
    waves: int = 0
    bounds: Bounds | None = None
    start: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Fit:
    """What a regression found.

    Attributes
    ----------
    values : dict of str to ndarray, shape (I, K)
        The four polynomials sampled at the wavenumbers; "reflectivity" before the bounds' sigmoid.
    opd_error : ndarray, shape (I,)
        Standard error of the mean path difference from the residual and the curvature [um]; NaN where it is fixed.
    converged : ndarray of bool, shape (I,)
    iterations : ndarray of int, shape (I,)
    coefficients : dict of str to ndarray, shape (I, degree + 1)
        On the raw wavenumber, in the family asked for; solver "trf" alone.
    """

    values: dict[str, np.ndarray]
    opd_error: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray
    coefficients: dict[str, np.ndarray] = field(default_factory=dict)


def residual_rms(problem: Problem, fit: Fit) -> np.ndarray:
    """Root mean square of (model - data), in shares of each row's mean, shape (I,)."""
    raw = fit.values["reflectivity"]
    r = raw if problem.bounds is None else problem.bounds.forward(raw)
    phi = phase(fit.values["opd"], problem.wavenumber, fit.values["phase_shift"])
    return np.sqrt(((transfer(phi, r, fit.values["gain"], problem.waves) - problem.data) ** 2).mean(axis=1))


def regress_again(problem: Problem, fit: Fit, rows: np.ndarray, iterations: int = 200) -> Fit:
    """A second attempt for some rows, the degree of the reflectivity raised one by one; the better fit of each is kept.

    Many rows have several minima; a reflectivity that may bend only when the rest is settled finds lower ones.
    """
    if not len(rows) or "reflectivity" not in problem.free:
        return fit
    top = problem.degrees["reflectivity"]
    values = {n: v[rows] for n, v in problem.values.items()}
    part = replace(problem, data=problem.data[rows], values=values)
    again = fit
    for degree in range(top + 1):
        step = replace(part, values=values, degrees={**problem.degrees, "reflectivity": degree})
        again = _Marquardt(step).run(iterations if degree == top else 30)
        values = again.values
    whole = replace(problem, data=part.data)
    before = Fit(
        {n: v[rows] for n, v in fit.values.items()}, *(a[rows] for a in (fit.opd_error, fit.converged, fit.iterations))
    )
    better = residual_rms(whole, again) < residual_rms(whole, before)
    taken = rows[better]
    out = Fit(
        {n: v.copy() for n, v in fit.values.items()}, fit.opd_error.copy(), fit.converged.copy(), fit.iterations.copy()
    )
    for name in NAMES:
        out.values[name][taken] = again.values[name][better]
    for name in ("opd_error", "converged", "iterations"):
        getattr(out, name)[taken] = getattr(again, name)[better]
    return out


def regress(problem: Problem, solver: Solver = "lm", family: str = "Polynomial", iterations: int = 200) -> Fit:
    """Fit all rows.

    Raises
    ------
    BadSettings
        Unknown solver, nothing to fit, or bounds with "trf".
    """
    if not problem.free:
        raise BadSettings("the recipe's regression keeps all four polynomials fixed, expected choice=true for some")
    unknowns = sum(problem.degrees[n] + 1 for n in problem.free)
    if problem.wavenumber.size <= unknowns:
        raise BadSettings(
            f"got {problem.wavenumber.size} wavenumbers for {unknowns} unknowns of each interferometer, expected more: "
            "lower the degrees of gain and reflectivity"
        )
    if solver == "lm":
        return _Marquardt(problem).run(iterations)
    if solver != "trf":
        raise BadSettings(f"got solver {solver!r}, expected lm or trf")
    if problem.bounds is not None:
        raise BadSettings("got bounds of the reflectivity with solver trf, expected solver lm")
    return _row_by_row(problem, family)


class _Marquardt:
    """Levenberg-Marquardt on blocks of rows."""

    tolerance = 1e-10
    patience = 2

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.bases = {n: orthonormal(problem.wavenumber, problem.degrees[n]) for n in NAMES}
        self.turns = 2 * np.pi * problem.wavenumber
        self.blocks: dict[str, slice] = {}
        count = 0
        for name in problem.free:
            self.blocks[name] = slice(count, count + problem.degrees[name] + 1)
            count += problem.degrees[name] + 1
        self.count = count
        size = problem.wavenumber.size
        self.start = np.concatenate([problem.values[n] @ self.bases[n] / size for n in problem.free], axis=1)

    def _sample(self, rows: np.ndarray, theta: np.ndarray) -> dict[str, np.ndarray]:
        return {
            n: theta[:, self.blocks[n]] @ self.bases[n].T if n in self.blocks else self.problem.values[n][rows]
            for n in NAMES
        }

    def _cost(self, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
        v = self._sample(rows, theta)
        r = v["reflectivity"] if self.problem.bounds is None else self.problem.bounds.forward(v["reflectivity"])
        with np.errstate(all="ignore"):
            model = transfer(v["opd"] * self.turns - v["phase_shift"], r, v["gain"], self.problem.waves)
            difference = model - self.problem.data[rows]
            cost = np.einsum("ik,ik->i", difference, difference)
        return np.where(np.isfinite(cost), cost, np.inf)

    def _curvature(self, rows: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jacobian's cross products (A, P, P) and gradient (A, P)."""
        v = self._sample(rows, theta)
        bounds = self.problem.bounds
        raw = v["reflectivity"]
        r = raw if bounds is None else bounds.forward(raw)
        value, by_phase, by_r = derivatives(v["opd"] * self.turns - v["phase_shift"], r, self.problem.waves)
        gain = v["gain"]
        by_phase = np.broadcast_to(gain * by_phase, value.shape)
        weights = {
            "opd": by_phase * self.turns,
            "phase_shift": -by_phase,
            "gain": value,
            "reflectivity": np.broadcast_to(gain * by_r, value.shape) * (1.0 if bounds is None else bounds.slope(raw)),
        }
        jacobian = np.empty((len(rows), self.count, self.problem.wavenumber.size))
        for name, block in self.blocks.items():
            np.multiply(weights[name][:, None, :], self.bases[name].T[None], out=jacobian[:, block])
        residual = gain * value - self.problem.data[rows]
        cross = jacobian @ jacobian.transpose(0, 2, 1)
        return cross, (jacobian @ residual[:, :, None])[:, :, 0]

    def run(self, iterations: int) -> Fit:
        """Until every row's cost stands still."""
        rows_all, size = len(self.problem.data), self.problem.wavenumber.size
        theta = self.start.copy()
        cost = np.concatenate([self._cost(part, theta[part]) for part in _parts(rows_all, size * 4)] or [np.zeros(0)])
        cross = np.zeros((rows_all, self.count, self.count))
        gradient = np.zeros((rows_all, self.count))
        damping, growth = np.full(rows_all, DAMPING), np.full(rows_all, 2.0)
        steps = np.zeros(rows_all, dtype=np.int64)
        still = np.zeros(rows_all, dtype=np.int64)
        alive, fresh = np.isfinite(cost), np.ones(rows_all, dtype=bool)
        ended = np.zeros(rows_all, dtype=bool)
        for _ in range(iterations):
            active = np.flatnonzero(alive)
            if not active.size:
                break
            new = active[fresh[active]]
            for part in _parts(new.size, size * (self.count + 8)):
                cross[new[part]], gradient[new[part]] = self._curvature(new[part], theta[new[part]])
            steps[active] += 1
            diagonal = np.einsum("ipp->ip", cross[active])
            diagonal = np.maximum(diagonal, 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300)
            damped = cross[active] + (damping[active, None] * diagonal)[:, :, None] * np.eye(self.count)
            move = _solve(damped, -gradient[active])
            trial = theta[active] + move
            found = np.concatenate([self._cost(active[p], trial[p]) for p in _parts(active.size, size * 4)])
            hoped = np.einsum("ip,ip->i", move, damping[active, None] * diagonal * move - gradient[active])
            gained = cost[active] - found
            better = (gained > 0) & (hoped > 0)
            quality = np.divide(gained, hoped, out=np.zeros_like(gained), where=hoped > 0)
            taken, left = active[better], active[~better]
            theta[taken] = trial[better]
            small = gained[better] <= self.tolerance * cost[taken]
            still[taken] = np.where(small, still[taken] + 1, 0)
            cost[taken] = found[better]
            damping[taken] *= np.clip(1 - (2 * quality[better] - 1) ** 3, 1 / 10, 2)
            damping[left] *= growth[left]
            growth[taken], growth[left] = 2.0, growth[left] * 2
            fresh[:] = False
            fresh[taken] = True
            # Nothing can be gained where the linear model itself promises nothing.
            flat = np.abs(hoped) <= 1e-15 * np.maximum(cost[active], 1e-300)
            done = np.zeros(rows_all, dtype=bool)
            done[active] = flat | (still[active] >= self.patience) | (damping[active] > 1e14) | (cost[active] < 1e-26)
            ended |= done
            alive &= ~done
        error = np.full(rows_all, np.nan)
        if "opd" in self.blocks:
            error = self._opd_error(theta, cost)
        return Fit(self._sample(np.arange(rows_all), theta), error, ended, steps)

    def _opd_error(self, theta: np.ndarray, cost: np.ndarray) -> np.ndarray:
        size = self.problem.wavenumber.size
        cross = np.empty((len(theta), self.count, self.count))
        for part in _parts(len(theta), size * (self.count + 8)):
            cross[part] = self._curvature(part, theta[part])[0]
        variance = cost / (size - self.count)
        diagonal = np.sqrt(np.maximum(np.einsum("ipp->ip", cross), 1e-300))
        unit = cross / diagonal[:, :, None] / diagonal[:, None, :] + 1e-13 * np.eye(self.count)
        at = self.blocks["opd"].start
        column = _solve(unit, np.broadcast_to(np.eye(self.count)[at], (len(theta), self.count)))[:, at]
        return np.asarray(np.sqrt(np.maximum(variance * column, 0)) / diagonal[:, at])


def _parts(count: int, values: int) -> list[np.ndarray]:
    step = max(1, (1 << 22) // max(values, 1))
    return [np.arange(start, min(start + step, count)) for start in range(0, count, step)]


def _solve(matrices: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Batched solution; rows whose matrix is singular do not move."""
    finite = np.isfinite(matrices).all(axis=(1, 2)) & np.isfinite(right).all(axis=1)
    safe = np.where(finite[:, None, None], matrices, np.eye(matrices.shape[1]))
    try:
        found = np.linalg.solve(safe, right[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        found = np.stack([np.linalg.lstsq(m, r, rcond=None)[0] for m, r in zip(safe, right, strict=True)])
    return np.where(finite[:, None], found, 0.0)


def _row_by_row(problem: Problem, family: str) -> Fit:
    """The trust region of scipy on raw coefficients."""
    from scipy.optimize import least_squares

    from torchspectral.calibration.interferometer.polynomials import coefficients_of

    wavenumber = problem.wavenumber
    bases = {n: basis(family, wavenumber, problem.degrees[n]) for n in NAMES}
    start = {
        n: problem.start[n] if n in problem.start else coefficients_of(problem.values[n], wavenumber, d, family, None)
        for n, d in problem.degrees.items()
    }
    free = [n for n in AUTHORS_ORDER if n in problem.free]
    ends = np.cumsum([problem.degrees[n] + 1 for n in free])[:-1]
    rows = len(problem.data)
    found = {n: c.copy() for n, c in start.items()}
    error, converged, steps = np.full(rows, np.nan), np.zeros(rows, dtype=bool), np.zeros(rows, dtype=np.int64)
    for i, row in enumerate(problem.data):

        def residual(theta: np.ndarray, i: int = i, row: np.ndarray = row) -> np.ndarray:
            parts = dict(zip(free, np.split(theta, ends), strict=True))
            v = {n: bases[n] @ parts[n] if n in parts else problem.values[n][i] for n in NAMES}
            phi = phase(v["opd"][None], wavenumber, v["phase_shift"][None])
            return np.asarray(transfer(phi, v["reflectivity"][None], v["gain"][None], problem.waves)[0] - row)

        answer = least_squares(residual, np.concatenate([start[n][i] for n in free]))
        for n, part in zip(free, np.split(answer.x, ends), strict=True):
            found[n][i] = part
        converged[i], steps[i] = answer.status > 0, answer.nfev
        if "opd" in free:
            error[i] = _standard_error(answer.jac, 2 * answer.cost, int(np.r_[0, ends][free.index("opd")]))
    values = {n: found[n] @ bases[n].T if n in free else problem.values[n] for n in NAMES}
    return Fit(values, error, converged, steps, found)


def _standard_error(jacobian: np.ndarray, cost: float, at: int) -> float:
    scale = np.sqrt(np.maximum((jacobian**2).sum(axis=0), 1e-300))
    inverse = np.linalg.pinv((jacobian / scale).T @ (jacobian / scale), hermitian=True)
    freedom = max(jacobian.shape[0] - jacobian.shape[1], 1)
    return float(np.sqrt(max(inverse[at, at] * cost / freedom, 0)) / scale[at])
