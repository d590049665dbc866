"""SUnSAL: sparse unmixing by variable splitting and augmented Lagrangian, pixel by pixel or all at once."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from torchspectral.engine.method import Scope, Size
from torchspectral.errors import BadSettings
from torchspectral.ops.fcls import AbundanceSolver
from torchspectral.ops.nnls import nnls_gram
from torchspectral.settings import setting
from torchspectral.unmixing.library.base import LibraryMethod, LibrarySettings, rebalance, soft

CHUNK = 8192
EVERY = 10
"""Iterations between two looks at the residuals."""


class SunsalSettings(LibrarySettings):
    """SUnSAL; defaults of HySUPP."""

    l1: float = setting(1e-3, "weight of the l1 norm, lambda", ge=0)
    positive: bool = setting(True, "abundances are not negative (ANC)")
    sum_to_one: bool = setting(False, "abundances sum to one (ASC)")
    solver: Literal["admm", "exact"] = setting(
        "admm", "admm: the published iteration; exact: an active set, optimal to rounding, for positive abundances"
    )
    compat: Literal["", "authors-code"] = setting(
        "", "authors-code: one penalty and one stop for the whole scene, which must then fit into memory"
    )


def sunsal(
    pixels: torch.Tensor,
    library: torch.Tensor,
    *,
    l1: float = 1e-3,
    positive: bool = True,
    sum_to_one: bool = False,
    iterations: int = 1000,
    tolerance: float = 1e-4,
    together: bool = False,
) -> tuple[torch.Tensor, int]:
    """Min |D x - y|^2 / 2 + l1 |x|_1, by ADMM.

    Parameters
    ----------
    pixels : Tensor, shape (bands, n)
    library : Tensor, shape (spectra, bands)
    l1 : float
        lambda, in units of the squared pixels.
    positive, sum_to_one : bool
        Constraints.
    iterations, tolerance : int, float
    together : bool
        One penalty and one stop for all pixels, as the authors' code has it; else each pixel has its own, so that no
        pixel depends on another.

    Returns
    -------
    abundances : Tensor, shape (spectra, n), float64
        The thresholded variable.
    iterations : int
        The most that a pixel took.

    References
    ----------
    Bioucas-Dias and Figueiredo, "Alternating direction algorithms for constrained sparse regression: application to
    hyperspectral unmixing", WHISPERS 2010.
    """
    d = library.to(pixels.device, torch.float64)
    scale = float(d.square().mean().sqrt())
    d = d / scale
    lam = l1 / scale**2
    run = _Together(d, lam, positive, sum_to_one) if together else _Apart(d, lam, positive, sum_to_one)
    out = d.new_empty((len(d), pixels.shape[1]))
    most = 0
    step = max(pixels.shape[1], 1) if together else max(64, min(CHUNK, 4_000_000 // len(d)))
    for start in range(0, pixels.shape[1], step):
        products = d @ (pixels[:, start : start + step].to(torch.float64) / scale)
        out[:, start : start + step], count = run(products, iterations, tolerance)
        most = max(most, count)
    return out, most


class _Iteration:
    """What both ways of running share."""

    def __init__(self, d: torch.Tensor, lam: float, positive: bool, sum_to_one: bool) -> None:
        self.d, self.lam, self.positive, self.sum_to_one = d, lam, positive, sum_to_one
        self.start = 10 * lam + 0.01

    def shrink(self, x: torch.Tensor, limit: Any) -> torch.Tensor:
        """Threshold, then the sign constraint."""
        return (x - limit).clamp_min(0) if self.positive else soft(x, limit)


class _Together(_Iteration):
    """All pixels with one penalty and one stop."""

    def _factor(self, mu: float) -> None:
        eye = torch.eye(len(self.d), dtype=torch.float64, device=self.d.device)
        self.inverse = torch.linalg.inv(self.d @ self.d.T + mu * eye)
        self.weights = self.inverse.sum(1)

    def _regress(self, right: torch.Tensor) -> torch.Tensor:
        x = self.inverse @ right
        if self.sum_to_one:
            x = x - self.weights[:, None] * ((x.sum(0) - 1) / self.weights.sum())
        return x

    def __call__(self, products: torch.Tensor, iterations: int, tolerance: float) -> tuple[torch.Tensor, int]:
        """Abundances of products D'y (spectra, n)."""
        mu = self.start
        self._factor(mu)
        x = self._regress(products)
        z, dual = x, torch.zeros_like(x)
        limit = math.sqrt(products.numel()) * tolerance
        primal = change = math.inf
        i = 1
        while i <= iterations and (primal > limit or change > limit):
            before = z
            z = self.shrink(x - dual, self.lam / mu)
            x = self._regress(products + mu * (z + dual))
            dual = dual - (x - z)
            if i % EVERY == 1:
                primal, change = float((x - z).norm()), mu * float((z - before).norm())
                if (factor := rebalance(primal, change)) != 1:
                    mu *= factor
                    dual = dual / factor
                    self._factor(mu)
            i += 1
        return z, i - 1


class _Apart(_Iteration):
    """Each pixel with a penalty and a stop of its own: one eigendecomposition serves all penalties."""

    def __init__(self, d: torch.Tensor, lam: float, positive: bool, sum_to_one: bool) -> None:
        super().__init__(d, lam, positive, sum_to_one)
        values, vectors = torch.linalg.eigh(d @ d.T)
        keep = values > 1e-14 * values[-1]
        self.values, self.vectors = values[keep][:, None], vectors[:, keep]
        self.ones = self.vectors.sum(0)[:, None]

    def _regress(self, right: torch.Tensor, mu: torch.Tensor) -> torch.Tensor:
        shrunk = self.values / (self.values + mu)
        x = (right - self.vectors @ (shrunk * (self.vectors.T @ right))) / mu
        if self.sum_to_one:
            weights = (1 - self.vectors @ (shrunk * self.ones)) / mu
            x = x - weights * ((x.sum(0) - 1) / weights.sum(0))
        return x

    def __call__(self, products: torch.Tensor, iterations: int, tolerance: float) -> tuple[torch.Tensor, int]:
        """Abundances of products D'y (spectra, n); pixels that are done leave."""
        result = torch.zeros_like(products)
        rows = torch.arange(products.shape[1], device=products.device)
        mu = torch.full_like(products[:1], self.start)
        x = self._regress(products, mu)
        z, dual = x, torch.zeros_like(x)
        limit = math.sqrt(len(self.d)) * tolerance
        for i in range(1, iterations + 1):
            before = z
            z = self.shrink(x - dual, self.lam / mu)
            x = self._regress(products + mu * (z + dual), mu)
            dual = dual - (x - z)
            if i % EVERY != 1:
                continue
            primal, change = (x - z).norm(dim=0), mu[0] * (z - before).norm(dim=0)
            done = (primal <= limit) & (change <= limit)
            factor = torch.where(primal > 10 * change, 2.0, torch.where(change > 10 * primal, 0.5, 1.0))
            mu, dual = mu * factor, dual / factor
            if bool(done.any()):
                result[:, rows[done]] = z[:, done]
                left = ~done
                rows, products, mu = rows[left], products[:, left], mu[:, left]
                x, z, dual = x[:, left], z[:, left], dual[:, left]
                if not len(rows):
                    return result, i
        result[:, rows] = z
        return result, iterations


def exact_sparse(pixels: torch.Tensor, library: torch.Tensor, l1: float, sum_to_one: bool) -> torch.Tensor:
    """The minimiser of `sunsal` with positive abundances by an active set, (spectra, n) float64.

    With abundances that sum to one the l1 norm is constant: this is FCLS then.
    """
    d = library.to(pixels.device, torch.float64)
    if sum_to_one:
        return AbundanceSolver(d, "fcls").solve(pixels)
    gram = d @ d.T
    parts = [
        nnls_gram(gram, d @ pixels[:, start : start + CHUNK].to(torch.float64) - l1)
        for start in range(0, pixels.shape[1], CHUNK)
    ]
    return torch.cat(parts, dim=1)


class Sunsal(LibraryMethod):
    """Sparse unmixing: l1-regularised least squares with a library, each pixel alone.

    References
    ----------
    Bioucas-Dias and Figueiredo, "Alternating direction algorithms for constrained sparse regression: application to
    hyperspectral unmixing", WHISPERS 2010. Iordache, Bioucas-Dias and Plaza, "Sparse unmixing of hyperspectral data",
    IEEE TGRS 49(6), 2011.
    """

    Settings = SunsalSettings

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if self.settings.solver == "exact" and not self.settings.positive:
            raise BadSettings("got solver=exact with positive=False, expected positive=True: use solver=admm")
        if self.settings.compat:
            self.scope = Scope.SCENE

    def solve(self, cube: torch.Tensor, spectra: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """See `LibraryMethod.solve`; pixels without data are not looked at."""
        s = self.settings
        pixels = cube[:, valid]
        if s.solver == "exact":
            found = exact_sparse(pixels, spectra, s.l1, s.sum_to_one)
        else:
            found, _ = sunsal(
                pixels,
                spectra,
                l1=s.l1,
                positive=s.positive,
                sum_to_one=s.sum_to_one,
                iterations=s.iterations,
                tolerance=s.tolerance,
                together=bool(s.compat),
            )
        out = found.new_zeros((len(spectra), *valid.shape))
        out[:, valid] = found
        return out

    def memory(self, size: Size) -> dict[str, int]:
        """Abundances in float64, and seven copies of a chunk (or of all)."""
        pixels = size.rows * size.cols
        copies = 8 if self.settings.compat else 2
        return {"fit": 0, "apply": pixels * (size.bands * 8 + self.atoms * 8 * copies) + 300 * 2**20}
