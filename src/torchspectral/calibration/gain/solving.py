"""From the quadratic form of the detectors to their gains: least squares, spectral method, ridge, what is determined."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from torchspectral.calibration.gain.models import Reduced
from torchspectral.errors import BadInput

NEAR = 3.0
"""Eigenvalues up to this many times the smallest are as uncertain as it."""


@dataclass(frozen=True)
class Identifiability:
    """What the measurements determine.

    Attributes
    ----------
    equations, unknowns, needed : int
        Rows and columns of the stack, and the least number of rows: unknowns - 1.
    null_dim : int
        Singular values of the stack that are zero to rounding, columns in excess of rows included: 1 for a solution
        without noise and 0 with noise; more means that gains and object cannot be told apart.
    near_null_dim : int
        Directions of s as uncertain as the solution itself (eigenvalues of G up to 3 times the smallest).
    sigma_min, sigma_2, sigma_max : float
        Smallest, second smallest and largest singular value of the stack after the object is eliminated.
    unseen : int
        Of the null directions those of the object that no operator sees: it comes back 0 there, the gains do not care.
    """

    equations: int
    unknowns: int
    null_dim: int
    near_null_dim: int
    sigma_min: float
    sigma_2: float
    sigma_max: float
    unseen: int = 0

    @property
    def needed(self) -> int:
        """Equations that it takes at least: one less than unknowns that are seen, since the scale is free."""
        return self.unknowns - self.unseen - 1

    @property
    def cond(self) -> float:
        """sigma_max / sigma_2: how much noise is amplified in the worst direction."""
        return self.sigma_max / self.sigma_2 if self.sigma_2 > 0 else math.inf

    @property
    def gap(self) -> float:
        """(sigma_2 / sigma_max)^2, the relative spectral gap of G."""
        return (self.sigma_2 / self.sigma_max) ** 2 if self.sigma_max > 0 else 0.0

    @property
    def determined(self) -> bool:
        """Whether there are equations enough and not more than one null direction."""
        return self.equations >= self.needed and self.null_dim - self.unseen <= 1

    def check(self) -> None:
        """Refuse what is not determined.

        Raises
        ------
        BadInput
        """
        if self.equations < self.needed:
            raise BadInput(
                f"the gains cannot be determined: {self.equations} equations for {self.unknowns} unknowns, expected at "
                f"least {self.needed} (null_dim = {self.null_dim}): more measurements, or fewer unknowns of the object"
            )
        if self.null_dim - self.unseen > 1:
            raise BadInput(
                f"the gains cannot be determined: null_dim = {self.null_dim}, expected 1: other gains explain the same "
                "measurements; take more or more different ones"
            )


def identify(reduced: Reduced, equations: int, unknowns: int, missing: int) -> Identifiability:
    """What the form says about its solution."""
    values = torch.linalg.eigvalsh(reduced.form)
    zero = int((values <= reduced.tolerance).sum())
    roots = values.clamp_min(0).sqrt()
    low = max(float(values[0]), reduced.tolerance)
    return Identifiability(
        equations, unknowns, zero + missing, int((values <= NEAR * low).sum()), float(roots[0]),
        float(roots[1]) if len(roots) > 1 else math.inf, float(roots[-1]), missing,
    )  # fmt: skip


def without_noise(reduced: Reduced, variance: torch.Tensor) -> Reduced:
    """Take what noise of known variance (m,) adds to G away again; never below a positive semidefinite form.

    Raises
    ------
    BadInput
        The variance is not positive, or larger than the measurements themselves.
    """
    if not bool((torch.isfinite(variance) & (variance >= 0)).all()):
        raise BadInput("got a noise variance below zero or not finite, expected one number or one a detector")
    form = reduced.form - torch.diag((variance * reduced.noise).to(reduced.form.dtype))
    if bool((form.diagonal().real <= 0).any()):
        raise BadInput("the noise variance is larger than the measurements of a detector: is it a standard deviation?")
    low = torch.linalg.eigvalsh(form)[0]
    if float(low) < 0:
        form = form - low * torch.eye(len(form), dtype=form.dtype, device=form.device)
    return replace(reduced, form=form)


def least_squares(form: torch.Tensor, w: torch.Tensor, c: float = 1.0, beta: float = 1.0) -> torch.Tensor:
    """Minimise s^H G s + |w^H s - c|^2 / beta: the stack with one more row, the object eliminated.

    Parameters
    ----------
    form : Tensor, shape (m, m)
    w : Tensor, shape (m,)
        The row's effective weights of s; `beta` is 1 + w_x^H N^-1 w_x where it weighs the object too.

    Returns
    -------
    Tensor, shape (m,)

    Raises
    ------
    BadInput
        w is zero, or does not see a null direction of the form.
    """
    w = w.to(form.dtype)
    size = float(torch.linalg.vector_norm(w))
    if not math.isfinite(size) or size == 0:
        raise BadInput("the row w is zero or not finite, expected one that correlates with the gains")
    # Scaled so that both terms are of one size; the direction is the same, the scale follows below.
    level = float(form.diagonal().real.mean()) or 1.0
    row = w / size
    try:
        raw = torch.linalg.solve(form / level + row[:, None] * row.conj()[None, :], row)
    except torch.linalg.LinAlgError:
        raise BadInput("the gains cannot be determined: other gains explain the same measurements as well") from None
    energy = float((raw.conj() @ form @ raw).real)
    along = (w.conj() @ raw).real
    # The best multiple of the direction: minimum of t^2 energy + |t along - c|^2 / beta.
    return raw * (float(along) * c / (beta * energy + float(along) ** 2))


def spectral(reduced: Callable[[float], Reduced], rounds: int = 30) -> tuple[torch.Tensor, float]:
    """Smallest right singular vector of the whole stack, from its reduced form.

    The shift theta is the square of the smallest singular value: Newton steps on the smallest eigenvalue of G(theta),
    which come down from above once they are below the first pole.

    Returns
    -------
    s : Tensor, shape (m,)
        Scaled such that its mean is real and positive.
    theta : float
    """
    theta, s = 0.0, torch.empty(0)
    for _ in range(rounds):
        found = reduced(theta)
        values, vectors = torch.linalg.eigh(found.form)
        s = vectors[:, 0]
        objects = float((s.conj() @ found.norm @ s).real)
        step = float(values[0]) / (1 + objects)
        theta = min(max(theta + step, 0.0), 0.999 * found.pole)
        if abs(step) <= max(1e-14 * theta, found.tolerance):
            break
    total = s.sum()
    if float(total.abs()) > 0:
        s = s * (total.conj() / total.abs())
    return s, theta


def ridge(form: torch.Tensor, relative: float, prior: torch.Tensor | None = None) -> torch.Tensor:
    """(G + lambda I) s = lambda prior with lambda = relative trace(G) / m: gains near the prior (ones)."""
    m = len(form)
    start = torch.ones(m, dtype=form.dtype, device=form.device) if prior is None else prior.to(form.dtype)
    level = relative * float(form.diagonal().real.sum()) / m
    if level <= 0:
        return start
    return torch.linalg.solve(form + level * torch.eye(m, dtype=form.dtype, device=form.device), level * start)


def predicted_error(form: torch.Tensor, s: torch.Tensor, freedom: float, variance: float | None = None) -> float:
    """Expected error of s relative to its norm, after the best scale.

    The variance of the residual is known, or s^H G s over the degrees of freedom; noise then moves s by the inverse
    of G beside the solution itself.
    """
    if variance is None:
        variance = float((s.conj() @ form @ s).real) / freedom if freedom > 0 else math.inf
    values = torch.linalg.eigvalsh(form)[1:]
    low = float(values[0]) if len(values) else math.inf
    if low <= 0:
        return math.inf
    return math.sqrt(max(variance, 0.0) * float((1 / values).sum())) / float(torch.linalg.vector_norm(s))
