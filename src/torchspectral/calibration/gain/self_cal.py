"""Self-calibration by linear least squares: gains and objects of y = diag(d) A x, found together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from torchspectral.calibration.gain.models import Diverse, Reduced, Repeated, Snapshots, as_tensor
from torchspectral.calibration.gain.refining import als
from torchspectral.calibration.gain.solving import (
    Identifiability,
    identify,
    least_squares,
    predicted_error,
    ridge,
    spectral,
    without_noise,
)
from torchspectral.errors import BadInput, BadSettings

Sums = Repeated | Diverse | Snapshots


@dataclass(frozen=True)
class SelfCalResult:
    """What self-calibration found; a common factor of gains and object is free, and set by the row w.

    Attributes
    ----------
    d, s : ndarray, shape (m,)
        Gains, and their inverses: measurement times s is calibrated.
    x : ndarray, list of ndarray or None
        Object (n,) of model "a"; objects (p, n) of "b" (a list where they differ in size) and "c"; None where the
        measurements were streamed and are not at hand.
    identifiability : Identifiability
    err_est : float
        Expected relative error of s after the best scale, from the residual; infinite without spare equations.
    residual : float
        Root mean square of diag(y) s - A x over the equations, relative to that of diag(y) s.
    """

    d: np.ndarray
    s: np.ndarray
    x: Any
    identifiability: Identifiability
    err_est: float
    residual: float

    @property
    def cond(self) -> float:
        """Largest over second smallest singular value."""
        return self.identifiability.cond

    @property
    def sigma_min(self) -> float:
        """Smallest singular value."""
        return self.identifiability.sigma_min

    @property
    def sigma_2(self) -> float:
        """Second smallest singular value."""
        return self.identifiability.sigma_2

    @property
    def null_dim(self) -> int:
        """Singular values that are zero to rounding."""
        return self.identifiability.null_dim


class SelfCal:
    """Self-calibration of y = diag(d) A x + noise, with d and x unknown.

    Models: "a" repeated measurements, ``y_l = D A_l x``; "b" blind deconvolution with diverse inputs,
    ``y_l = D A_l x_l``; "c" multiple snapshots, ``y_l = D A x_l``. With s = 1/d all are linear; the objects are
    eliminated and an m x m form is solved.

    Parameters
    ----------
    model : {"a", "b", "c"}
    solver : {"ls", "spectral"}
        Least squares with the further row w^T [s; x] = c, or the smallest singular vector of the stack.
    w : array_like, shape (m,), or (m + n,) in model "a", optional
        The row of "ls"; ones over the square root of m by default, right for gains of about one.
    c : float
        Its right side, not zero.
    ridge : float
        Of "ls": with r > 0 the form is solved with the prior s = 1, ``(G + l I) s = l 1`` with l = r trace(G) / m.
    noise_var : float or array_like, shape (m,), optional
        Known variance of the noise, taken off G: less bias at low signal.
    refine : {"none", "reweight", "als"}
        Afterwards: rows weighted by 1 / (sigma |s|), or alternating least squares on y = D A x itself.
    rounds : int
        Of the refinement.
    device : str
        For forms of thousands of detectors.

    References
    ----------
    Ling and Strohmer, "Self-Calibration and Bilinear Inverse Problems via Linear Least Squares", SIAM J. Imaging
    Sciences 11(1), 2018.

    Examples
    --------
    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> d, x, a = random.uniform(0.5, 1.5, 20), random.normal(size=8), random.normal(size=(4, 20, 8))
    >>> found = SelfCal("a").fit(d * (a @ x), a)
    >>> bool(np.allclose(found.d / found.d.mean(), d / d.mean()))
    True
    """

    def __init__(
        self,
        model: str = "a",
        solver: str = "ls",
        w: Any = None,
        c: float = 1.0,
        ridge: float = 0.0,
        noise_var: Any = None,
        refine: str = "none",
        rounds: int = 3,
        device: str = "cpu",
    ) -> None:
        for name, value, known in (
            ("model", model, ("a", "b", "c")),
            ("solver", solver, ("ls", "spectral")),
            ("refine", refine, ("none", "reweight", "als")),
        ):
            if value not in known:
                raise BadSettings(f"got {name}={value!r}, expected one of {', '.join(known)}")
        if not (math.isfinite(c) and c != 0):
            raise BadSettings(f"got c={c}, expected a number that is not zero: zero has only the solution zero")
        if not (math.isfinite(ridge) and ridge >= 0):
            raise BadSettings(f"got ridge={ridge}, expected a number from 0")
        if ridge and solver == "spectral":
            raise BadSettings("got a ridge and solver='spectral', expected solver='ls': the ridge needs a scale")
        if rounds < 1:
            raise BadSettings(f"got rounds={rounds}, expected at least 1")
        self.model, self.solver, self.w, self.c, self.ridge = model, solver, w, float(c), float(ridge)
        self.noise_var, self.refine, self.rounds, self.device = noise_var, refine, rounds, device
        self.sums: Sums | None = None
        self._measured: list[torch.Tensor] | None = None

    # Measurements

    def fit(self, ys: Any, a: Any) -> SelfCalResult:
        """Add all measurements, and solve.

        Parameters
        ----------
        ys : array_like, shape (p, m)
            NaN: no measurement (model "c" leaves the whole snapshot out).
        a : array_like, shape (p, m, n), or (m, n) in model "c"
            Model "b" takes a list of (m, n_l) too; model "a" a list of scipy sparse matrices, which are solved by LSQR.

        Raises
        ------
        BadInput
            Shapes that do not fit, or gains that the measurements do not determine.
        BadSettings
        """
        self.sums, self._measured = None, []
        if self.model == "a" and _is_sparse(a):
            from torchspectral.calibration.gain.interpolating import solve_sparse

            return solve_sparse(ys, a, c=self.c)
        self._add(ys, a, keep=True)
        return self.solve()

    def partial_fit(self, ys: Any, a: Any) -> SelfCal:
        """Add some measurements; `solve` gives the result. The memory is that of the sums."""
        self._measured = None
        self._add(ys, a, keep=False)
        return self

    def _add(self, ys: Any, a: Any, *, keep: bool) -> None:
        y = as_tensor(ys, self.device)
        if y.ndim != 2 or not len(y):
            raise BadInput(f"got measurements of shape {tuple(y.shape)}, expected (p, m) with p from 1")
        if self.model == "c":
            one = as_tensor(a, self.device)
            if self.sums is None:
                self.sums = Snapshots(one)
            assert isinstance(self.sums, Snapshots)
            if one.shape != self.sums.a.shape:
                raise BadInput(
                    f"got an operator of shape {tuple(one.shape)}, expected {tuple(self.sums.a.shape)} again"
                )
            self.sums.add(y)
        else:
            listed = (
                [as_tensor(one, self.device) for one in a] if isinstance(a, Sequence) else as_tensor(a, self.device)
            )
            if len(listed) != len(y) or any(one.ndim != 2 for one in listed):
                raise BadInput(
                    f"got {len(y)} measurements and {len(listed)} operators, expected one of (m, n) for each"
                )
            if self.sums is None:
                m = y.shape[1]
                self.sums = (
                    Repeated(m, listed[0].shape[1], keep=keep, device=self.device)
                    if self.model == "a"
                    else Diverse(m, device=self.device)
                )
            assert not isinstance(self.sums, Snapshots)
            for row, one in zip(y, listed, strict=True):
                self.sums.add(row, one)
        if keep and self._measured is not None:
            self._measured += list(y)

    # Solution

    def diagnose(self) -> Identifiability:
        """What the measurements so far determine; refuses nothing.

        Raises
        ------
        BadInput
            There are none.
        """
        sums = self._known()
        return identify(sums.reduced(), sums.equations, sums.unknowns, sums.missing())

    def solve(self) -> SelfCalResult:
        """Gains and objects from the measurements so far.

        Raises
        ------
        BadInput
            They do not determine the gains.
        BadSettings
            What streamed sums cannot do.
        """
        sums = self._known()
        known = self.diagnose()
        if not self.ridge:
            known.check()
        s = self._solve(None)
        before = s
        if self.refine == "reweight":
            sigma = self._variance().sqrt() if self.noise_var is not None else torch.ones(sums.m, device=self.device)
            for _ in range(self.rounds):
                # Rows of equal noise, in the unknown t = weights * s, which is about 1: nothing favours small gains.
                weights = 1 / (sigma.clamp_min(1e-300) * s.abs())
                weights = weights / weights.mean()
                s = self._solve(weights) / weights
        elif self.refine == "als":
            s = als(sums, s, self.rounds)
        if self.refine != "none":
            # A refinement has no scale of its own: keep that of the row w.
            s = s * ((s.conj() @ before) / (s.abs() ** 2).sum())
        return self._result(sums, s, known)

    def _known(self) -> Sums:
        if self.sums is None:
            raise BadInput("there are no measurements: call fit or partial_fit first")
        return self.sums

    def _variance(self) -> torch.Tensor:
        sums = self._known()
        variance = as_tensor(self.noise_var, self.device).real.to(torch.float64)
        if variance.ndim > 1 or variance.numel() not in (1, sums.m):
            raise BadSettings(f"got a noise variance of shape {tuple(variance.shape)}, expected one number or {sums.m}")
        return variance.reshape(-1).expand(sums.m)

    def _reduced(self, theta: float, weights: torch.Tensor | None) -> Reduced:
        found = self._known().reduced(theta, weights)
        if self.noise_var is None:
            return found
        if bool(found.noise.isnan().any()):
            raise BadSettings(
                "the correction for noise in model 'a' needs the measurements again: call fit with all, not partial_fit"
            )
        return without_noise(found, self._variance())

    def _solve(self, weights: torch.Tensor | None) -> torch.Tensor:
        if self.solver == "spectral":
            return spectral(lambda theta: self._reduced(theta, weights))[0]
        form = self._reduced(0.0, weights).form
        if self.ridge:
            return ridge(form, self.ridge, weights)
        row, beta, _ = self._row(form.dtype)
        if weights is not None:
            row, beta = torch.full_like(row, 1 / math.sqrt(len(row))), 1.0
        return least_squares(form, row, self.c, beta)

    def _row(self, dtype: torch.dtype) -> tuple[torch.Tensor, float, torch.Tensor | None]:
        """The row's effective weights of s, its `beta`, and its part of the object."""
        sums = self._known()
        m = sums.m
        if self.w is None:
            return torch.full((m,), 1 / math.sqrt(m), dtype=dtype, device=self.device), 1.0, None
        w = as_tensor(self.w, self.device).to(dtype)
        if isinstance(sums, Repeated) and w.shape == (m + sums.n,):
            w_s, w_x = w[:m], w[m:]
            seen = torch.linalg.pinv(sums.normal, hermitian=True) @ w_x.to(sums.normal.dtype)
            return w_s + (sums.cross @ seen).to(dtype), 1 + float((w_x.conj() @ seen.to(dtype)).real), w_x
        if w.shape != (m,):
            more = f" or {m + sums.n}" if isinstance(sums, Repeated) else ""
            raise BadSettings(f"got a row w of shape {tuple(w.shape)}, expected {m}{more} numbers")
        return w, 1.0, None

    def _result(self, sums: Sums, s: torch.Tensor, known: Identifiability) -> SelfCalResult:
        reduced = sums.reduced()
        energy = max(float((s.conj() @ reduced.form @ s).real), 0.0)
        power = float((s.abs() ** 2 * _power(sums)).sum())
        freedom = sums.equations - sums.unknowns + 1
        error = predicted_error(reduced.form, s, freedom) if known.determined or self.ridge else math.inf
        return SelfCalResult(
            d=(1 / s).cpu().numpy(),
            s=s.cpu().numpy(),
            x=self._objects(sums, s),
            identifiability=known,
            err_est=error,
            residual=math.sqrt(energy / power) if power > 0 else 0.0,
        )

    def _objects(self, sums: Sums, s: torch.Tensor) -> Any:
        if isinstance(sums, Repeated):
            row, beta, w_x = self._row(s.dtype) if self.solver == "ls" and not self.ridge else (s, 1.0, None)
            rest = (self.c - (row.conj() @ s)) / beta if w_x is not None else 0.0
            return sums.object(s, w_x, rest).cpu().numpy()
        if isinstance(sums, Diverse):
            found = [
                torch.linalg.lstsq(a.to(s.dtype), (s * y)[:, None], driver="gelsd").solution[:, 0].cpu().numpy()
                for y, a, _ in sums.parts
            ]
            return np.stack(found) if len({len(x) for x in found}) == 1 else found
        if self._measured is None:
            return None
        scaled = torch.stack(self._measured).to(s.dtype) * s
        return (torch.linalg.pinv(sums.a).to(s.dtype) @ scaled.T).T.cpu().numpy()


def _power(sums: Sums) -> torch.Tensor:
    """Sum of |y|^2 of each detector."""
    if isinstance(sums, Repeated):
        return sums.power
    if isinstance(sums, Snapshots):
        return sums.cross.diagonal().real
    return torch.stack([y.abs() ** 2 for y, _, _ in sums.parts]).sum(0)


def _is_sparse(a: Any) -> bool:
    return isinstance(a, Sequence) and bool(a) and all(hasattr(one, "tocsr") for one in a)
