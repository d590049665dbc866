"""SISAL: the smallest simplex around the pixels, some of which may lie outside; needs no pure pixel."""

from __future__ import annotations

import torch

from torchspectral.engine.method import State
from torchspectral.ops.gram import gram_sums
from torchspectral.settings import setting
from torchspectral.unmixing.geometric.enclosing import Affine, Enclosing, EnclosingSettings, first_simplex

RIDGE = 1e-6
MOST_REPEATS = 50
MOST_HALVINGS = 60


class SisalSettings(EnclosingSettings):
    """SISAL; the paper's numbers of iterations."""

    tau: float = setting(1.0, "weight of pixels outside the simplex; near 0 the simplex collapses", gt=0)
    mu: float = setting(1.0, "penalty of the augmented Lagrangian", gt=0)
    iterations: int = setting(40, "outer iterations, each of which linearises the volume", ge=1)
    inner: int = setting(3, "updates in an outer iteration", ge=1)
    last: int = setting(99, "updates in the last outer iteration", ge=1)
    spherise: bool = setting(True, "work on whitened pixels, so that thin scenes are as easy as round ones")


def _hinge(x: torch.Tensor) -> float:
    return float((-x).clamp_min(0).sum())


def _shrink_negative(v: torch.Tensor, half: float) -> torch.Tensor:
    """Proximal step of the hinge: negative values move towards zero by twice `half`."""
    moved = v + half
    size = (moved.abs() - half).clamp_min(0)
    return size / (size + half) * moved


class _QStep:
    """Minimiser over Q of the quadratic model with the rows of ones kept: q = G b + P qm."""

    def __init__(self, x: torch.Tensor, mu: float) -> None:
        k = len(x)
        eye = torch.eye(k, dtype=x.dtype)
        matrix = RIDGE * torch.eye(k * k, dtype=x.dtype) + mu * torch.kron(x @ x.T, eye)
        inverse = torch.linalg.inv(matrix)
        ones = torch.kron(eye, torch.ones((1, k), dtype=x.dtype))
        middle = torch.linalg.inv(ones @ inverse @ ones.T + RIDGE * eye)
        push = inverse @ ones.T @ middle
        self.gain = inverse - push @ ones @ inverse
        total = torch.linalg.solve(x @ x.T + 1e-3 * eye, x.sum(1))
        self.constant = push @ total
        self.k = k

    def __call__(self, right: torch.Tensor) -> torch.Tensor:
        return (self.gain @ _vec(right) + self.constant).reshape(self.k, self.k).T


def _vec(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.T.reshape(-1)


def fit_simplex(
    x: torch.Tensor,
    start: torch.Tensor,
    *,
    tau: float = 1.0,
    mu: float = 1.0,
    iterations: int = 40,
    inner: int = 3,
    last: int = 99,
) -> torch.Tensor:
    """Vertices (k, k), one a column, of the smallest simplex around points x (k, n).

    Parameters
    ----------
    start : Tensor, shape (k, k)
        First vertices, one a column.

    Notes
    -----
    Minimises -log|det Q| + tau sum of max(-Q x, 0) with 1'Q x = 1, for Q the inverse of the vertices: each outer
    iteration takes the volume's quadratic model and minimises it by the augmented Lagrangian method; the step is halved
    until the true value does not grow.
    """
    q = torch.linalg.inv(start)
    step = _QStep(x, mu)
    z, dual = q @ x, torch.zeros_like(x)
    half = tau / mu / 2
    for outer in range(iterations):
        slope = -torch.linalg.inv(q).T
        q0 = q
        base = RIDGE * q0 - slope
        for _ in range(MOST_REPEATS):
            before = _volume(q) + tau * _hinge(q @ x)
            model_before = _model(q, q0, slope) + tau * _hinge(q @ x)
            for _ in range(last if outer == iterations - 1 else inner):
                q = step(base + mu * (z + dual) @ x.T)
                inside = q @ x
                z = _shrink_negative(inside - dual, half)
                dual = dual - (inside - z)
            if _model(q, q0, slope) + tau * _hinge(q @ x) <= model_before:
                break
        for _ in range(MOST_HALVINGS):
            if _volume(q) + tau * _hinge(q @ x) <= before:
                break
            q = (q + q0) / 2
    return torch.linalg.inv(q)


def _volume(q: torch.Tensor) -> float:
    return -float(torch.linalg.slogdet(q).logabsdet)


def _model(q: torch.Tensor, q0: torch.Tensor, slope: torch.Tensor) -> float:
    gap = q - q0
    return float((gap * slope).sum() + RIDGE / 2 * gap.square().sum())


def sisal(
    pixels: torch.Tensor,
    k: int,
    seed: int = 0,
    *,
    tau: float = 1.0,
    mu: float = 1.0,
    iterations: int = 40,
    inner: int = 3,
    last: int = 99,
    spherise: bool = True,
) -> torch.Tensor:
    """Endmembers (k, bands), float64, of pixels (bands, n) by simplex identification via split augmented Lagrangian.

    Parameters
    ----------
    pixels : Tensor, shape (bands, n)
    k : int
    seed : int
        Of the VCA that gives the first simplex.
    tau, mu, iterations, inner, last, spherise
        See `SisalSettings`; the authors' code has tau 1e-6 and spherise False.

    References
    ----------
    Bioucas-Dias, "A variable splitting augmented Lagrangian approach to linear spectral unmixing", WHISPERS 2009.
    """
    space = Affine.of(*gram_sums(pixels), k, spherise)
    x = space(pixels).cpu()
    vertices = fit_simplex(
        x, first_simplex(x, space.plain, seed), tau=tau, mu=mu, iterations=iterations, inner=inner, last=last
    )
    return space.spectra(vertices)


class Sisal(Enclosing):
    """Simplex identification via split augmented Lagrangian: endmembers may lie outside the pixels.

    References
    ----------
    Bioucas-Dias, "A variable splitting augmented Lagrangian approach to linear spectral unmixing", WHISPERS 2009.
    """

    Settings = SisalSettings

    def enclose(self, x: torch.Tensor, start: torch.Tensor) -> State:
        """See `fit_simplex`."""
        s = self.settings
        found = fit_simplex(x, start, tau=s.tau, mu=s.mu, iterations=s.iterations, inner=s.inner, last=s.last)
        return {"vertices": found}
