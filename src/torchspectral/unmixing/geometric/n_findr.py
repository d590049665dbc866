"""N-FINDR: exchange vertices while the simplex grows."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchspectral.engine.method import Gram, Source, State
from torchspectral.ops.gram import gram_sums
from torchspectral.ops.vca import Extreme
from torchspectral.settings import setting
from torchspectral.unmixing.geometric import atgp
from torchspectral.unmixing.geometric.base import Extraction, ExtractionSettings, Subspace, Through, chosen
from torchspectral.unmixing.picking import HeldPixels, Pixels, Score, StreamedPixels, collect

GROWTH = 1e-9
"""Relative growth of the volume below which a vertex stays."""


class NFindrSettings(ExtractionSettings):
    """N-FINDR."""

    sweeps: int | None = setting(None, "most sweeps over the vertices; None: 3 k", ge=1)


@dataclass(frozen=True)
class OverFacet:
    """Height over the facet of the other vertices: the cofactors of the replaced one, normalised.

    Attributes
    ----------
    normal : Tensor, shape (k,)
        Unit vector orthogonal to the other vertices (with their row of ones).
    """

    normal: torch.Tensor

    @classmethod
    def of(cls, vertices: torch.Tensor, leave: int) -> OverFacet:
        """For vertices (k - 1, k) without column `leave`."""
        rest = torch.cat([vertices, torch.ones_like(vertices[:1])])
        rest = torch.cat([rest[:, :leave], rest[:, leave + 1 :]], dim=1)
        return cls(torch.linalg.svd(rest, full_matrices=True)[0][:, -1])

    def __call__(self, coordinates: torch.Tensor) -> torch.Tensor:
        """Heights (n,) of coordinates (k - 1, n), up to a factor."""
        normal = self.normal.to(coordinates.device)
        return (normal[:-1] @ coordinates + normal[-1]).abs()


@dataclass(frozen=True)
class _Projected:
    """Pixels that are asked through a subspace."""

    pixels: Pixels
    subspace: Subspace

    def farthest(self, score: Score) -> Extreme | None:
        return self.pixels.farthest(Through(self.subspace, score))


def exchange(pixels: Pixels, start: list[Extreme], vertices: torch.Tensor, sweeps: int) -> tuple[list[Extreme], int]:
    """Replace vertices one after the other by the pixel highest over the facet of the others, until none grows.

    Parameters
    ----------
    pixels : Pixels
        Asked in coordinates (k - 1).
    start : list of Extreme
        First vertices.
    vertices : Tensor, shape (k - 1, k)
        Their coordinates.

    Returns
    -------
    vertices : list of Extreme
    sweeps : int
        Taken, the last one without a change included.
    """
    found, at = list(start), vertices.clone()
    for sweep in range(1, sweeps + 1):
        changed = False
        for j in range(len(found)):
            height = OverFacet.of(at, j)
            best = pixels.farthest(height)
            assert best is not None
            here = float(height(at[:, j : j + 1])[0])
            if best.score > here * (1 + GROWTH) and best.index != found[j].index:
                found[j] = best
                spectrum = best.spectrum
                at[:, j] = spectrum if len(spectrum) == len(at) else pixels.subspace(spectrum[:, None])[:, 0]  # type: ignore[attr-defined]
                changed = True
        if not changed:
            return found, sweep
    return found, sweeps


def n_findr(pixels: torch.Tensor, k: int, sweeps: int | None = None) -> torch.Tensor:
    """Indices (k,) of the endmembers of pixels (bands, n).

    References
    ----------
    Winter, "N-FINDR: an algorithm for fast autonomous spectral end-member determination in hyperspectral data",
    SPIE 3753, 1999.
    """
    subspace = Subspace.of(*gram_sums(pixels), k - 1)
    start = atgp.search(HeldPixels(pixels), pixels.shape[0], k)
    vertices = subspace(torch.stack([e.spectrum for e in start], dim=1))
    found, _ = exchange(HeldPixels(subspace(pixels)), start, vertices, sweeps or 3 * k)
    return torch.tensor([e.index for e in found])


class NFindr(Extraction):
    """The largest simplex whose vertices are pixels, from the vertices of ATGP, by exchanges in k - 1 dimensions.

    References
    ----------
    Winter, "N-FINDR: an algorithm for fast autonomous spectral end-member determination in hyperspectral data",
    SPIE 3753, 1999. Start and order: Plaza and Chang, "An improved N-FINDR algorithm in implementation", SPIE 5806,
    2005.
    """

    Settings = NFindrSettings
    told = ("sweeps",)

    def search(self, source: Source, gram: Gram, k: int, seed: int) -> State:
        """K passes (or none, where the pixels are held) for the start, k for each sweep."""
        subspace = Subspace.of(gram.n, gram.total, gram.cross, k - 1)
        start = atgp.search(self.pixels_of(source, gram), source.info.bands, k)
        vertices = subspace(torch.stack([e.spectrum for e in start], dim=1))
        pixels: Pixels
        if gram.n * k * 8 <= self.settings.held * 2**20:
            pixels = HeldPixels(*collect(source, subspace))
        else:
            pixels = _Projected(StreamedPixels(source), subspace)
        found, sweeps = exchange(pixels, start, vertices, self.settings.sweeps or 3 * k)
        return {**chosen(source, found), "sweeps": sweeps}
