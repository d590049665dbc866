"""SiVM: each endmember is the pixel that makes the simplex with those found before the largest."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchspectral.engine.method import Gram, Source, State
from torchspectral.ops.vca import Extreme
from torchspectral.unmixing.geometric.base import Extraction, chosen, require
from torchspectral.unmixing.picking import HeldPixels, Pixels


@dataclass(frozen=True)
class Bordered:
    """Growth of the simplex's volume by a further vertex, from squared distances (Cayley and Menger).

    Attributes
    ----------
    vertices : Tensor, shape (bands, found)
    inverse : Tensor, shape (found + 1, found + 1)
        Of the bordered matrix of squared distances between the vertices.
    """

    vertices: torch.Tensor
    inverse: torch.Tensor

    @classmethod
    def of(cls, vertices: torch.Tensor) -> Bordered:
        """For vertices (bands, found)."""
        count = vertices.shape[1]
        matrix = torch.ones((count + 1, count + 1), dtype=torch.float64)
        gaps = vertices[:, :, None] - vertices[:, None, :]
        matrix[:count, :count] = gaps.square().sum(0)
        matrix[count, count] = 0.0
        return cls(vertices, torch.linalg.inv(matrix))

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """v^T C^-1 v (n,) of pixels (bands, n): twice the squared height over the simplex, v their distances."""
        vertices, inverse = self.vertices.to(pixels.device), self.inverse.to(pixels.device)
        rows = [(pixels - vertices[:, i : i + 1]).square().sum(0) for i in range(vertices.shape[1])]
        bordered = torch.stack([*rows, torch.ones_like(pixels[0])])
        return ((inverse @ bordered) * bordered).sum(0)


def _norm(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.square().sum(0)


def search(pixels: Pixels, k: int) -> list[Extreme]:
    """The `k` vertices, in order of extraction; the first is the pixel of the largest norm.

    Raises
    ------
    BadInput
        The pixels lie in a flat of fewer than k - 1 dimensions.
    """
    found = [require(pixels.farthest(_norm), 0.0, 0, k)]
    scale = 2 * found[0].score
    for _ in range(1, k):
        vertices = torch.stack([e.spectrum for e in found], dim=1)
        # Heights are squared: what stands out by 1e-9 of the largest distance does so by its square here.
        found.append(require(pixels.farthest(Bordered.of(vertices)), 1e-4 * scale, len(found), k))
        if len(found) == 2:
            scale = found[1].score
    return found


def sivm(pixels: torch.Tensor, k: int) -> torch.Tensor:
    """Indices (k,), ascending, of the endmembers of pixels (bands, n) by simplex volume maximisation.

    References
    ----------
    Heylen, Burazerovic and Scheunders, "Fully constrained least squares spectral unmixing by simplex projection",
    IEEE TGRS 49(11), 2011.
    """
    return torch.tensor(sorted(e.index for e in search(HeldPixels(pixels), k)))


class Sivm(Extraction):
    """Simplex volume maximisation: greedy, deterministic; endmembers in the order of their place in the scene.

    References
    ----------
    Heylen, Burazerovic and Scheunders, "Fully constrained least squares spectral unmixing by simplex projection",
    IEEE TGRS 49(11), 2011. Thurau, Kersting and Bauckhage, "Yes we can: simplex volume maximization for descriptive
    web-scale matrix factorization", CIKM 2010.
    """

    def search(self, source: Source, gram: Gram, k: int, seed: int) -> State:
        """K questions to the pixels."""
        found = search(self.pixels_of(source, gram), k)
        return chosen(source, sorted(found, key=lambda e: e.index))
