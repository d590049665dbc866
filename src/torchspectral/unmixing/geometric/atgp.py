"""ATGP: each endmember is the pixel farthest from the span of those found before."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchspectral.engine.method import Gram, Source, State
from torchspectral.ops.vca import Extreme
from torchspectral.unmixing.geometric.base import Extraction, chosen, require
from torchspectral.unmixing.picking import HeldPixels, Pixels


@dataclass(frozen=True)
class OffSpan:
    """Distance of pixels from a span.

    Attributes
    ----------
    basis : Tensor, shape (bands, found)
        Orthonormal; no columns at the start, where the distance is the norm.
    """

    basis: torch.Tensor

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Distances (n,) of pixels (bands, n)."""
        basis = self.basis.to(pixels.device)
        return (pixels - basis @ (basis.T @ pixels)).norm(dim=0)


def search(pixels: Pixels, bands: int, k: int) -> list[Extreme]:
    """The `k` pixels of automatic target generation, in order.

    Raises
    ------
    BadInput
        The pixels span fewer than k dimensions.
    """
    found: list[Extreme] = []
    basis = torch.zeros((bands, 0), dtype=torch.float64)
    scale = 0.0
    for _ in range(k):
        extreme = require(pixels.farthest(OffSpan(basis)), scale, len(found), k)
        found.append(extreme)
        scale = max(scale, extreme.score)
        spectra = torch.stack([e.spectrum for e in found], dim=1)
        basis = torch.linalg.qr(spectra / spectra.norm(dim=0))[0]
    return found


def atgp(pixels: torch.Tensor, k: int) -> torch.Tensor:
    """Indices (k,) of the endmembers of pixels (bands, n) by automatic target generation.

    References
    ----------
    Ren and Chang, "Automatic spectral target recognition in hyperspectral imagery", IEEE TAES 39(4), 2003.
    """
    return torch.tensor([e.index for e in search(HeldPixels(pixels), pixels.shape[0], k)])


class Atgp(Extraction):
    """Automatic target generation process: orthogonal projections, deterministic.

    References
    ----------
    Ren and Chang, "Automatic spectral target recognition in hyperspectral imagery", IEEE TAES 39(4), 2003.
    """

    def search(self, source: Source, gram: Gram, k: int, seed: int) -> State:
        """K questions to the pixels."""
        return chosen(source, search(self.pixels_of(source, gram), source.info.bands, k))
