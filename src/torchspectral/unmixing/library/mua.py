"""MUA: sparse unmixing at two scales, superpixels first."""

from __future__ import annotations

import math

import torch

from torchspectral.ops.superpixels import means_of, slic
from torchspectral.settings import setting
from torchspectral.unmixing.library.base import LibrarySettings, PlanesMethod, rebalance
from torchspectral.unmixing.library.sunsal import sunsal


class MuaSettings(LibrarySettings):
    """Multiscale unmixing with SLIC superpixels; defaults of HySUPP."""

    l1_coarse: float = setting(0.03, "weight of the l1 norm of superpixels, lambda_1", ge=0)
    l1: float = setting(0.1, "weight of the l1 norm of pixels, lambda_2", ge=0)
    beta: float = setting(30.0, "weight of the distance to the superpixel's abundances", ge=0)
    size: int = setting(6, "side of a superpixel", unit="pixel", ge=2)
    regularity: float = setting(
        0.005, "weight of the distance in space, for pixels scaled to a largest value of 1", ge=0
    )


def coupled_sunsal(
    pixels: torch.Tensor,
    library: torch.Tensor,
    coarse: torch.Tensor,
    *,
    l1: float,
    beta: float,
    iterations: int = 1000,
    tolerance: float = 1e-4,
) -> tuple[torch.Tensor, int]:
    """Min |D X - Y|^2 / 2 + l1 |X|_1 + beta / 2 |X - coarse|^2, X >= 0, by ADMM.

    Parameters
    ----------
    pixels : Tensor, shape (bands, n)
    library : Tensor, shape (spectra, bands)
    coarse : Tensor, shape (spectra, n)

    Returns
    -------
    abundances : Tensor, shape (spectra, n), float64
    iterations : int
    """
    d = library.to(pixels.device, torch.float64)
    scale = float(d.square().mean().sqrt())
    d = d / scale
    lam, pull = l1 / scale**2, beta / scale**2
    gram, products = d @ d.T, d @ (pixels.to(torch.float64) / scale) + pull * coarse
    eye = torch.eye(len(d), dtype=torch.float64, device=d.device)
    mu = 10 * lam + 0.01
    inverse = torch.linalg.inv(gram + (mu + pull) * eye)
    x = inverse @ products
    z, dual = x, torch.zeros_like(x)
    limit = math.sqrt(x.numel()) * tolerance
    primal = change = math.inf
    i = 1
    while i <= iterations and (primal > limit or change > limit):
        before = z
        z = (x - dual - lam / mu).clamp_min(0)
        x = inverse @ (products + mu * (z + dual))
        dual = dual - (x - z)
        if i % 10 == 1:
            primal, change = float((x - z).norm()), mu * float((z - before).norm())
            if (factor := rebalance(primal, change)) != 1:
                mu *= factor
                dual = dual / factor
                inverse = torch.linalg.inv(gram + (mu + pull) * eye)
        i += 1
    return z, i - 1


def mua(
    cube: torch.Tensor,
    library: torch.Tensor,
    valid: torch.Tensor | None = None,
    *,
    l1_coarse: float = 0.03,
    l1: float = 0.1,
    beta: float = 30.0,
    size: int = 6,
    regularity: float = 0.005,
    iterations: int = 1000,
    tolerance: float = 1e-4,
) -> torch.Tensor:
    """Abundances (spectra, y, x), float64, of a cube (bands, y, x): superpixels by SLIC, then pixels near them.

    References
    ----------
    Borsoi, Imbiriba, Bermudez and Richard, "A fast multiscale spatial regularization for sparse hyperspectral
    unmixing", IEEE GRSL 16(4), 2019.
    """
    keep = torch.ones(cube.shape[1:], dtype=torch.bool, device=cube.device) if valid is None else valid
    labels = slic(cube, size, regularity, keep)
    pixels, of_pixel = cube[:, keep].to(torch.float64), labels[keep]
    means = means_of(pixels, of_pixel)
    coarse, _ = sunsal(means, library, l1=l1_coarse, iterations=iterations, tolerance=tolerance, together=True)
    found, _ = coupled_sunsal(
        pixels, library, coarse[:, of_pixel], l1=l1, beta=beta, iterations=iterations, tolerance=tolerance
    )
    out = found.new_zeros((len(library), *keep.shape))
    out[:, keep] = found
    return out


class Mua(PlanesMethod):
    """Multiscale sparse unmixing: superpixels are unmixed first and hold the pixels' abundances near theirs.

    References
    ----------
    Borsoi, Imbiriba, Bermudez and Richard, "A fast multiscale spatial regularization for sparse hyperspectral
    unmixing", IEEE GRSL 16(4), 2019. Superpixels: Achanta et al., "SLIC superpixels compared to state-of-the-art
    superpixel methods", IEEE TPAMI 34(11), 2012.
    """

    Settings = MuaSettings
    copies = 8

    def solve(self, cube: torch.Tensor, spectra: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """See `LibraryMethod.solve`; pixels without data belong to no superpixel."""
        s = self.settings
        return mua(
            cube,
            spectra,
            valid,
            l1_coarse=s.l1_coarse,
            l1=s.l1,
            beta=s.beta,
            size=s.size,
            regularity=s.regularity,
            iterations=s.iterations,
            tolerance=s.tolerance,
        )
