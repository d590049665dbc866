"""Pixels, their abundances, and the sums over them that a factorisation needs: K x K and L x K, never N x N."""

from __future__ import annotations

from dataclasses import dataclass

import torch

EPS = 1e-9
"""Added to denominators of the multiplicative updates; data are scaled to a maximum of 1."""


@dataclass
class Block:
    """Some pixels of the scene, in the working scale (maximum 1, nothing below 0).

    Attributes
    ----------
    y : Tensor, shape (bands, n)
    a : Tensor, shape (k, n)
        Abundances so far.
    h : Tensor, shape (n,), optional
        Guidance map, 0 (mixed) to `h_max` (pure).
    weight : Tensor, shape (n,), optional
        Of each pixel in the data term.
    graph : sparse Tensor, shape (n, n), optional
        Symmetric weights between pixels; see `neighbours.pixel_graph`.
    """

    y: torch.Tensor
    a: torch.Tensor
    h: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    graph: torch.Tensor | None = None


@dataclass(frozen=True)
class Factors:
    """What an abundance step takes from the rest of the scene; one is kept for each iteration.

    Attributes
    ----------
    m : Tensor, shape (bands, k)
    channel : Tensor, shape (bands,), optional
        Weight of each channel's squared residual; all 1 where absent.
    row : float
        Weight of the sum-to-one row.
    """

    m: torch.Tensor
    channel: torch.Tensor | None = None
    row: float = 1.0

    def to(self, device: torch.device) -> Factors:
        """The same on a device."""
        channel = None if self.channel is None else self.channel.to(device)
        return Factors(self.m.to(device), channel, self.row)

    @property
    def weighted(self) -> torch.Tensor:
        """Endmembers times the channel weights, (bands, k)."""
        return self.m if self.channel is None else self.m * self.channel[:, None]


@dataclass
class Sums:
    """Sums over pixels, float64.

    Attributes
    ----------
    n : float
        Pixels, or the sum of their weights.
    yy : Tensor, shape (bands,)
        Squares of each channel.
    ya : Tensor, shape (bands, k)
    aa : Tensor, shape (k, k)
    total : Tensor, shape (k,)
        Of the abundances.
    penalty : float
        Value of all abundance penalties.
    """

    n: float
    yy: torch.Tensor
    ya: torch.Tensor
    aa: torch.Tensor
    total: torch.Tensor
    penalty: float = 0.0

    @classmethod
    def of(cls, block: Block, penalty: float, yy: torch.Tensor | None = None) -> Sums:
        """Sums of one block; `yy` where it is known from before."""
        a = block.a if block.weight is None else block.a * block.weight
        n = float(block.a.shape[1] if block.weight is None else block.weight.sum())
        squares = energy(block) if yy is None else yy
        return cls(n, squares, block.y @ a.T, a @ block.a.T, a.sum(1), penalty)

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.n + other.n,
            self.yy + other.yy,
            self.ya + other.ya,
            self.aa + other.aa,
            self.total + other.total,
            self.penalty + other.penalty,
        )

    def to(self, device: torch.device | str) -> Sums:
        """The same on a device."""
        yy, ya, aa, total = (t.to(device) for t in (self.yy, self.ya, self.aa, self.total))
        return Sums(self.n, yy, ya, aa, total, self.penalty)

    def residual(self, m: torch.Tensor) -> torch.Tensor:
        """Squared residual of each channel for endmembers (bands, k), without looking at the pixels again."""
        return (self.yy - 2 * (self.ya * m).sum(1) + ((m @ self.aa) * m).sum(1)).clamp_min(0)

    def row_error(self) -> float:
        """Sum over pixels of (1 - sum of abundances)^2."""
        return max(float(self.n - 2 * self.total.sum() + self.aa.sum()), 0.0)


def energy(block: Block) -> torch.Tensor:
    """Sum of squares of each channel, (bands,)."""
    if block.weight is None:
        return torch.linalg.vecdot(block.y, block.y)
    return torch.linalg.vecdot(block.y, block.y * block.weight)
