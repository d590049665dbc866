"""SUnSAL-TV: sparse unmixing whose abundance maps are piecewise smooth."""

from __future__ import annotations

import math
from typing import Literal

import torch

from torchspectral.settings import setting
from torchspectral.unmixing.library.base import LibrarySettings, PlanesMethod, soft


class SunsalTvSettings(LibrarySettings):
    """SUnSAL-TV."""

    l1: float = setting(1e-3, "weight of the l1 norm, lambda; the paper's 5e-4 to 1e-2", ge=0)
    tv: float = setting(5e-3, "weight of the total variation, lambda_TV; the paper's 1e-3 to 5e-3", ge=0)
    kind: Literal["anisotropic", "isotropic"] = setting("anisotropic", "how the two differences of a pixel are joined")
    mu: float = setting(0.05, "penalty", gt=0)
    sum_to_one: bool = setting(False, "abundances sum to one (ASC)")
    iterations: int = setting(200, "most iterations", ge=1)


def _differences(planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Towards the next column and the next row, periodic."""
    return planes.roll(-1, 2) - planes, planes.roll(-1, 1) - planes


def _back(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Adjoint of `_differences`."""
    return one.roll(1, 2) - one + other.roll(1, 1) - other


def _inverse_spectrum(rows: int, cols: int, like: torch.Tensor) -> torch.Tensor:
    """1 / (1 + eigenvalues of H'H) for the real two-dimensional transform."""

    def eigenvalues(frequencies: torch.Tensor) -> torch.Tensor:
        return 2 - 2 * torch.cos(2 * math.pi * frequencies)

    down = eigenvalues(torch.fft.fftfreq(rows, dtype=torch.float64, device=like.device))
    along = eigenvalues(torch.fft.rfftfreq(cols, dtype=torch.float64, device=like.device))
    return 1 / (1 + down[:, None] + along[None, :])


def sunsal_tv(
    cube: torch.Tensor,
    library: torch.Tensor,
    valid: torch.Tensor | None = None,
    *,
    l1: float = 1e-3,
    tv: float = 5e-3,
    isotropic: bool = False,
    mu: float = 0.05,
    sum_to_one: bool = False,
    iterations: int = 200,
    tolerance: float = 1e-4,
) -> tuple[torch.Tensor, int]:
    """Min |D X - Y|^2 / 2 + l1 |X|_1 + tv TV(X), X >= 0, by ADMM.

    Parameters
    ----------
    cube : Tensor, shape (bands, y, x)
    library : Tensor, shape (spectra, bands)
    valid : Tensor of bool, shape (y, x), optional
        Pixels with data; the others have no data term, so that only their neighbours speak for them.
    l1, tv, mu : float
        lambda, lambda_TV and the penalty, in the library's units squared over its mean square.
    isotropic, sum_to_one : bool
    iterations, tolerance : int, float

    Returns
    -------
    abundances : Tensor, shape (spectra, y, x), float64
    iterations : int

    References
    ----------
    Iordache, Bioucas-Dias and Plaza, "Total variation spatial regularization for sparse hyperspectral unmixing",
    IEEE TGRS 50(11), 2012.
    """
    bands, rows, cols = cube.shape
    d = library.to(cube.device, torch.float64)
    scale = float(d.square().mean().sqrt())
    d, y = d / scale, cube.reshape(bands, -1).to(torch.float64) / scale
    l1, tv = l1 / scale**2, tv / scale**2
    atoms, shape = len(d), (len(d), rows, cols)
    known = torch.ones_like(y[:1]) if valid is None else valid.reshape(1, -1).to(torch.float64)
    eye = torch.eye(atoms, dtype=torch.float64, device=d.device)
    gram = d @ d.T
    inverse = torch.linalg.inv(gram + 3 * eye)
    weights = inverse.sum(1, keepdim=True)
    smooth = _inverse_spectrum(rows, cols, y)
    u = torch.linalg.solve(gram + mu * eye, d @ (y * known))
    v1, v2, v3, v5 = d.T @ u, u, u, u
    across, down = _differences(v3.reshape(shape))
    d1, d2, d3, d5 = torch.zeros_like(v1), torch.zeros_like(u), torch.zeros_like(u), torch.zeros_like(u)
    d_across, d_down = torch.zeros_like(across), torch.zeros_like(down)
    limit = math.sqrt(u.numel()) * tolerance
    for i in range(1, iterations + 1):
        before = u
        u = inverse @ (d @ (v1 + d1) + v2 + d2 + v3 + d3 + v5 + d5)
        if sum_to_one:
            u = u - weights * ((u.sum(0, keepdim=True) - 1) / weights.sum())
        model = d.T @ u
        v1 = (known * y + mu * (model - d1)) / (known + mu)
        v2 = soft(u - d2, l1 / mu)
        right = (u - d3).reshape(shape) + _back(across + d_across, down + d_down)
        v3 = torch.fft.irfft2(torch.fft.rfft2(right) * smooth, s=(rows, cols)).reshape(atoms, -1)
        to_right, to_bottom = _differences(v3.reshape(shape))
        across, down = _shrink_pair(to_right - d_across, to_bottom - d_down, tv / mu, isotropic)
        v5 = (u - d5).clamp_min(0)
        d1, d2, d3, d5 = d1 - (model - v1), d2 - (u - v2), d3 - (u - v3), d5 - (u - v5)
        d_across, d_down = d_across - (to_right - across), d_down - (to_bottom - down)
        if i % 10 == 0:
            primal = float((v1 - model).norm() + (v2 - u).norm() + (v3 - u).norm() + (v5 - u).norm())
            if primal <= limit and mu * float((u - before).norm()) <= limit:
                break
    return v5.reshape(shape), i


def _shrink_pair(
    one: torch.Tensor, other: torch.Tensor, limit: float, isotropic: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    if not isotropic:
        return soft(one, limit), soft(other, limit)
    size = (one.square() + other.square()).sqrt()
    share = (size - limit).clamp_min(0) / size.clamp_min(torch.finfo(torch.float64).tiny)
    return one * share, other * share


class SunsalTv(PlanesMethod):
    """Sparse unmixing with total variation: maps of each spectrum are piecewise smooth.

    The difference operator is periodic, as published: opposite edges of the scene are neighbours.

    References
    ----------
    Iordache, Bioucas-Dias and Plaza, "Total variation spatial regularization for sparse hyperspectral unmixing",
    IEEE TGRS 50(11), 2012.
    """

    Settings = SunsalTvSettings
    copies = 18

    def solve(self, cube: torch.Tensor, spectra: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """See `LibraryMethod.solve`; pixels without data have no data term."""
        s = self.settings
        found, _ = sunsal_tv(
            cube,
            spectra,
            valid,
            l1=s.l1,
            tv=s.tv,
            isotropic=s.kind == "isotropic",
            mu=s.mu,
            sum_to_one=s.sum_to_one,
            iterations=s.iterations,
            tolerance=s.tolerance,
        )
        return found
