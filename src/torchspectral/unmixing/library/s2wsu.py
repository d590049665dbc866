"""S2WSU: sparse unmixing with weights that follow the library's spectra and the neighbours."""

from __future__ import annotations

import math

import torch

from torchspectral.settings import Settings, setting
from torchspectral.unmixing.library.base import PlanesMethod, soft

EPSILON = 0.01


class S2wsuSettings(Settings):
    """S2WSU; defaults of HySUPP."""

    l1: float = setting(1e-3, "weight of the weighted l1 norm, lambda", ge=0)
    mu: float = setting(0.5, "penalty", gt=0)
    outer: int = setting(60, "times the weights are renewed", ge=1)
    inner: int = setting(5, "iterations with the same weights", ge=1)
    tolerance: float = setting(1e-4, "residual, a value, at which it stops", gt=0)
    positive: bool = setting(True, "return abundances cut at zero; the authors' code returns them as they are")


def neighbours(rows: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the eight neighbours of each pixel, (spectra, n), zero beyond the valid ones.

    Edge neighbours weigh 1, corners 1 / sqrt 2.
    """
    planes = rows.new_zeros((len(rows), 1, *valid.shape))
    planes[:, 0, valid] = rows
    corner = 1 / math.sqrt(2)
    kernel = rows.new_tensor([[corner, 1, corner], [1, 0, 1], [corner, 1, corner]]) / (4 + 4 * corner)
    found = torch.nn.functional.conv2d(planes, kernel[None, None], padding=1)
    return found[:, 0, valid]


def s2wsu(
    pixels: torch.Tensor,
    library: torch.Tensor,
    valid: torch.Tensor,
    *,
    l1: float = 1e-3,
    mu: float = 0.5,
    outer: int = 60,
    inner: int = 5,
    tolerance: float = 1e-4,
) -> torch.Tensor:
    """Abundances (spectra, n), float64, of pixels (bands, n) that lie where `valid` (y, x) is True.

    References
    ----------
    Zhang, Li, Li, Deng and Plaza, "Spectral-spatial weighted sparse regression for hyperspectral image unmixing",
    IEEE TGRS 56(6), 2018.
    """
    d, y = library.to(pixels.device, torch.float64), pixels.to(torch.float64)
    eye = torch.eye(len(d), dtype=torch.float64, device=d.device)
    gram = d @ d.T
    u = torch.linalg.solve(gram + mu * eye, d @ y)
    inverse = torch.linalg.inv(gram + 2 * eye)
    v1, v2, v3 = d.T @ u, u, u
    d1, d2, d3 = torch.zeros_like(v1), torch.zeros_like(u), torch.zeros_like(u)
    limit = math.sqrt(u.numel()) * tolerance
    for _ in range(outer):
        x = v3 - d3
        spatial = 1 / (EPSILON + neighbours(x, valid).abs())
        weights = spatial / x.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        for i in range(inner):
            u = inverse @ (d @ (v1 + d1) + v2 + d2 + v3 + d3)
            model = d.T @ u
            v1 = (y + mu * (model - d1)) / (1 + mu)
            v2 = (u - d2).clamp_min(0)
            v3 = soft(u - d3, l1 / mu * weights)
            d1, d2, d3 = d1 + v1 - model, d2 + v2 - u, d3 + v3 - u
            if i == 0 and float((v1 - model).norm() + (v2 - u).norm() + (v3 - u).norm()) <= limit:
                return u
    return u


class S2wsu(PlanesMethod):
    """Spectral-spatial weighted sparse unmixing: spectra that the scene, or the neighbours, do not hold cost more.

    References
    ----------
    Zhang, Li, Li, Deng and Plaza, "Spectral-spatial weighted sparse regression for hyperspectral image unmixing",
    IEEE TGRS 56(6), 2018.
    """

    Settings = S2wsuSettings
    copies = 11

    def solve(self, cube: torch.Tensor, spectra: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """See `LibraryMethod.solve`; pixels without data have no weight among neighbours."""
        s = self.settings
        found = s2wsu(
            cube[:, valid],
            spectra,
            valid,
            l1=s.l1,
            mu=s.mu,
            outer=s.outer,
            inner=s.inner,
            tolerance=s.tolerance,
        )
        out = found.new_zeros((len(spectra), *valid.shape))
        out[:, valid] = found.clamp_min(0) if s.positive else found
        return out
