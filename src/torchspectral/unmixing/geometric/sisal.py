"""SISAL: the smallest simplex around the pixels, some of which may lie outside; needs no pure pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from torchspectral.engine.method import Gram, Size, Source, State
from torchspectral.ops.gram import CHUNK, covariance, gram_sums, lapack_axes
from torchspectral.ops.vca import vca
from torchspectral.settings import setting
from torchspectral.unmixing.geometric.base import Extraction, ExtractionSettings
from torchspectral.unmixing.picking import collect

RIDGE = 1e-6
SPHERE_RIDGE = 1e-8
MOST_REPEATS = 50
MOST_HALVINGS = 60


class SisalSettings(ExtractionSettings):
    """SISAL; the paper's numbers of iterations."""

    tau: float = setting(1.0, "weight of pixels outside the simplex; near 0 the simplex collapses", gt=0)
    mu: float = setting(1.0, "penalty of the augmented Lagrangian", gt=0)
    iterations: int = setting(40, "outer iterations, each of which linearises the volume", ge=1)
    inner: int = setting(3, "updates in an outer iteration", ge=1)
    last: int = setting(99, "updates in the last outer iteration", ge=1)
    spherise: bool = setting(True, "work on whitened pixels, so that thin scenes are as easy as round ones")
    most_pixels: int = setting(1_000_000, "of larger scenes a seeded sample of this many pixels is used", ge=100)


@dataclass(frozen=True)
class Affine:
    """Coordinates in the affine hull: k numbers a pixel.

    Attributes
    ----------
    forward : Tensor, shape (k, bands)
    shift : Tensor, shape (k,)
        coordinates = forward pixel + shift.
    backward : Tensor, shape (bands, k)
    origin : Tensor, shape (bands,)
        spectrum = backward coordinates + origin.
    plain : Tensor, shape (k, k)
        Takes whitened coordinates to those along the principal axes and the mean: whitened ones have no axes of their
        own for VCA to draw in.
    """

    forward: torch.Tensor
    shift: torch.Tensor
    backward: torch.Tensor
    origin: torch.Tensor
    plain: torch.Tensor

    @classmethod
    def of(cls, n: int, total: torch.Tensor, cross: torch.Tensor, k: int, spherise: bool) -> Affine:
        """From the sums of the pixels."""
        mean = total / n
        values, vectors = lapack_axes(covariance(n, total, cross))
        axes = vectors[:, : k - 1]
        rest = mean - axes @ (axes.T @ mean)
        if spherise:
            deviation = (values[: k - 1].clamp_min(0) + SPHERE_RIDGE * values[0]).sqrt()
            forward = torch.cat([(axes / deviation).T, torch.zeros_like(mean)[None]]) / k**0.5
            shift = -forward @ mean
            shift[-1] = k**-0.5
            backward = torch.cat([axes * deviation, torch.zeros_like(mean)[:, None]], dim=1) * k**0.5
            plain = torch.diag(torch.cat([deviation, torch.zeros_like(deviation[:1])]))
            plain[:, -1] = torch.cat([axes.T @ mean, rest.norm()[None]])
            return cls(forward, shift, backward, mean, plain * k**0.5)
        up = rest / rest.norm().clamp_min(torch.finfo(torch.float64).tiny)
        basis = torch.cat([axes, up[:, None]], dim=1)
        # The projected pixel is U U'(y - mean) + mean: its coordinate along `up` is the mean's.
        forward = basis.T @ (axes @ axes.T)
        return cls(
            forward,
            basis.T @ (mean - axes @ (axes.T @ mean)),
            basis,
            torch.zeros_like(mean),
            torch.eye(k, dtype=mean.dtype),
        )

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Coordinates (k, n), float64, of pixels (bands, n)."""
        forward, shift = self.forward.to(pixels.device), self.shift.to(pixels.device)[:, None]
        parts = [
            forward @ pixels[:, start : start + CHUNK].to(torch.float64) + shift
            for start in range(0, pixels.shape[1], CHUNK)
        ]
        return torch.cat(parts, dim=1)

    def spectra(self, vertices: torch.Tensor) -> torch.Tensor:
        """Spectra (k, bands) of vertices (k, k), one a column."""
        return (self.backward @ vertices + self.origin[:, None]).T.contiguous()


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


def first_simplex(x: torch.Tensor, plain: torch.Tensor, seed: int) -> torch.Tensor:
    """Vertices (k, k), one a column, by VCA of coordinates (k, n), which hold no noise outside their subspace."""
    return x[:, vca(plain @ x, len(x), seed, snr=float("inf")).indices]


class Sisal(Extraction):
    """Simplex identification via split augmented Lagrangian: endmembers may lie outside the pixels.

    References
    ----------
    Bioucas-Dias, "A variable splitting augmented Lagrangian approach to linear spectral unmixing", WHISPERS 2009.
    """

    Settings = SisalSettings
    told = ("volume", "sampled")

    def search(self, source: Source, gram: Gram, k: int, seed: int) -> State:
        """One pass more than the sums: k numbers of every pixel (or of a sample) are held."""
        s = self.settings
        space = Affine.of(gram.n, gram.total, gram.cross, k, s.spherise)
        sampled = gram.n > s.most_pixels
        if sampled:
            x = space(source.sample(s.most_pixels).cpu())
        else:
            x, index = collect(source, space)
            x = x[:, torch.argsort(index)]
        start = first_simplex(x, space.plain, seed)
        vertices = fit_simplex(
            x, start, tau=s.tau, mu=s.mu, iterations=s.iterations, inner=s.inner, last=s.last
        )  # fmt: skip
        growth = float(torch.linalg.det(vertices).abs() / torch.linalg.det(start).abs())
        found: dict[str, Any] = {"endmembers": space.spectra(vertices), "volume": round(growth, 6)}
        return found | ({"sampled": s.most_pixels} if sampled else {})

    def memory(self, size: Size) -> dict[str, int]:
        """Six float64 arrays of k numbers a pixel, for at most `most_pixels`."""
        k = self.settings.most if self.settings.k == "auto" else self.settings.k
        held = min(size.rows * size.cols, self.settings.most_pixels)
        own = held * k * 8 * 6 + size.rows * size.cols * size.bands * 8
        return {"fit": own, "apply": size.rows * size.cols * size.bands * 4}
