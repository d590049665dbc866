"""One step of the endmembers from sums over pixels: multiplicative, or projected gradient with a penalty on M."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from torchspectral.unmixing.factorisation.blocks import EPS, Sums


class EndmemberRule:
    """Multiplicative step, M x (Y A^T) / (M A A^T). Channel weights cancel in it."""

    def step(self, m: torch.Tensor, sums: Sums) -> torch.Tensor:
        """Better endmembers, (bands, k)."""
        return m * sums.ya / (m @ sums.aa + EPS)

    def penalty(self, m: torch.Tensor, n: float) -> float:
        """Value of the penalty on M, 0 here."""
        return 0.0


@dataclass(frozen=True)
class _Gradient(EndmemberRule):
    """Projected gradient with step lengths that are halved until the objective falls (Armijo)."""

    inner: int = 10

    def step(self, m: torch.Tensor, sums: Sums) -> torch.Tensor:
        """Several steps; the old endmembers where none of them helps."""
        length = 1 / (float(torch.linalg.eigvalsh(sums.aa)[-1]) + self.curvature(sums.n) + EPS)
        value = self._value(m, sums)
        for _ in range(self.inner):
            gradient = m @ sums.aa - sums.ya + self.gradient(m, sums.n)
            for _ in range(30):
                new = (m - length * gradient).clamp_min(0)
                found = self._value(new, sums)
                if found <= value + 1e-2 * float((gradient * (new - m)).sum()):
                    break
                length /= 2
            else:
                return m
            m, value = new, found
        return m

    def _value(self, m: torch.Tensor, sums: Sums) -> float:
        return 0.5 * float(((m @ sums.aa - 2 * sums.ya) * m).sum()) + self.penalty(m, sums.n)

    def gradient(self, m: torch.Tensor, n: float) -> torch.Tensor:
        """Of the penalty."""
        raise NotImplementedError

    def curvature(self, n: float) -> float:
        """Upper bound of the penalty's second derivative, or a first guess of it."""
        return 0.0


@dataclass(frozen=True)
class Dissimilarity(_Gradient):
    """Smooth endmembers that lie close together.

    n/2 (smooth |D M|^2 + distance sum_{i<j} |m_i - m_j|^2), D the difference of neighbouring bands, n the number of
    pixels.

    References
    ----------
    Wang, Du, Zhang, "An endmember dissimilarity constrained non-negative matrix factorization method for hyperspectral
    unmixing", IEEE JSTARS 6(2), 2013. The paper's text was not read: the form of both terms is ours.
    """

    smooth: float = 1e-3
    distance: float = 1e-3

    def penalty(self, m: torch.Tensor, n: float) -> float:
        """Value."""
        k = m.shape[1]
        spread = k * float((m**2).sum()) - float((m.sum(1) ** 2).sum())
        return 0.5 * n * (self.smooth * float((m.diff(dim=0) ** 2).sum()) + self.distance * spread)

    def gradient(self, m: torch.Tensor, n: float) -> torch.Tensor:
        """Gradient."""
        step = torch.nn.functional.pad(m.diff(dim=0), (0, 0, 1, 1))
        return n * (self.smooth * -step.diff(dim=0) + self.distance * (m.shape[1] * m - m.sum(1, keepdim=True)))

    def curvature(self, n: float) -> float:
        """Of D^T D at most 4; of the distances at most k, taken as 32."""
        return n * (4 * self.smooth + 32 * self.distance)


@dataclass(frozen=True)
class Volume(_Gradient):
    """Squared volume of the simplex of the endmembers: n lam / 2 (det Z / (k - 1)!)^2, Z = [1; P^T (M - mean)].

    Attributes
    ----------
    lam : float
    axes : Tensor, shape (bands, k - 1)
        Principal axes of the scene.
    mean : Tensor, shape (bands,)

    References
    ----------
    Miao and Qi, "Endmember extraction from highly mixed data using minimum volume constrained nonnegative matrix
    factorization", IEEE TGRS 45(3), 2007.
    """

    lam: float = 1.0
    axes: torch.Tensor | None = None
    mean: torch.Tensor | None = None

    def _corners(self, m: torch.Tensor) -> torch.Tensor:
        assert self.axes is not None and self.mean is not None
        axes, mean = self.axes.to(m.device), self.mean.to(m.device)
        return torch.cat([torch.ones_like(m[:1]), axes.T @ (m - mean[:, None])])

    def _squared(self, m: torch.Tensor) -> float:
        return (float(torch.linalg.det(self._corners(m))) / math.factorial(m.shape[1] - 1)) ** 2

    def penalty(self, m: torch.Tensor, n: float) -> float:
        """Value."""
        return 0.5 * n * self.lam * self._squared(m)

    def gradient(self, m: torch.Tensor, n: float) -> torch.Tensor:
        """Gradient; zero for a flat simplex."""
        squared = self._squared(m)
        if squared <= 1e-300:
            return torch.zeros_like(m)
        assert self.axes is not None
        inverse = torch.linalg.pinv(self._corners(m)).T
        return n * self.lam * squared * (self.axes.to(m.device) @ inverse[1:])
