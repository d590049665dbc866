"""CLSUnSAL: collaborative sparse unmixing, few spectra of the library for the whole scene."""

from __future__ import annotations

import math
from typing import Literal

import torch

from torchspectral.settings import setting
from torchspectral.unmixing.library.base import LibrarySettings, PlanesMethod, rebalance, rows_soft


class ClsunsalSettings(LibrarySettings):
    """CLSUnSAL; defaults of HySUPP."""

    l21: float = setting(0.01, "weight of the sum of the norms of the library's rows, lambda", ge=0)
    mu: float = setting(0.1, "first penalty", gt=0)
    compat: Literal["", "authors-code"] = setting(
        "", "authors-code: multipliers start at the variables and are not rescaled with the penalty"
    )


def clsunsal(
    pixels: torch.Tensor,
    library: torch.Tensor,
    *,
    l21: float = 0.01,
    mu: float = 0.1,
    iterations: int = 1000,
    tolerance: float = 1e-4,
    as_coded: bool = False,
) -> tuple[torch.Tensor, int]:
    """Min |D X - Y|^2 / 2 + l21 sum of |row of X|, X >= 0, by ADMM.

    Parameters
    ----------
    pixels : Tensor, shape (bands, n)
    library : Tensor, shape (spectra, bands)
    l21, mu : float
        lambda and the first penalty.
    iterations, tolerance : int, float
    as_coded : bool
        Multipliers as in HySUPP's code, which start at the variables and are left alone when the penalty changes.

    Returns
    -------
    abundances : Tensor, shape (spectra, n), float64
    iterations : int

    References
    ----------
    Iordache, Bioucas-Dias and Plaza, "Collaborative sparse regression for hyperspectral unmixing", IEEE TGRS 52(1),
    2014.
    """
    d = library.to(pixels.device, torch.float64)
    scale = float(d.square().mean().sqrt())
    d, y = d / scale, pixels.to(torch.float64) / scale
    lam = l21 / scale**2
    eye = torch.eye(len(d), dtype=torch.float64, device=d.device)
    gram = d @ d.T
    u = torch.linalg.solve(gram + mu * eye, d @ y)
    inverse = torch.linalg.inv(gram + 2 * eye)
    v1, v2, v3 = d.T @ u, u, u
    d1, d2, d3 = (v1, v2, v3) if as_coded else (torch.zeros_like(v1), torch.zeros_like(u), torch.zeros_like(u))
    limit = math.sqrt(u.numel()) * tolerance
    primal = change = math.inf
    i = 1
    while i <= iterations and (primal > limit or change > limit):
        before = u
        u = inverse @ (d @ (v1 + d1) + v2 + d2 + v3 + d3)
        model = d.T @ u
        v1 = (y + mu * (model - d1)) / (1 + mu)
        v2 = rows_soft(u - d2, lam / mu)
        v3 = (u - d3).clamp_min(0)
        d1, d2, d3 = d1 + v1 - model, d2 + v2 - u, d3 + v3 - u
        if i % 10 == 1:
            primal = float((v1 - model).norm() + (v2 - u).norm() + (v3 - u).norm())
            change = mu * float((u - before).norm())
            if (factor := rebalance(primal, change)) != 1:
                mu *= factor
                if not as_coded:
                    d1, d2, d3 = d1 / factor, d2 / factor, d3 / factor
        i += 1
    return v3, i - 1


class Clsunsal(PlanesMethod):
    """Collaborative sparse unmixing: the whole scene shares few spectra of the library.

    References
    ----------
    Iordache, Bioucas-Dias and Plaza, "Collaborative sparse regression for hyperspectral unmixing", IEEE TGRS 52(1),
    2014.
    """

    Settings = ClsunsalSettings
    copies = 9

    def solve(self, cube: torch.Tensor, spectra: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """See `LibraryMethod.solve`; pixels without data are not looked at."""
        s = self.settings
        found, _ = clsunsal(
            cube[:, valid],
            spectra,
            l21=s.l21,
            mu=s.mu,
            iterations=s.iterations,
            tolerance=s.tolerance,
            as_coded=bool(s.compat),
        )
        out = found.new_zeros((len(spectra), *valid.shape))
        out[:, valid] = found
        return out
