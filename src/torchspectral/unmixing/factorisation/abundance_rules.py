"""One step of the abundances with the endmembers fixed: multiplicative or projected gradient, with what is added to it.

Objective of a pixel: w/2 |y - M a|_Q^2 + w r d^2/2 (1 - sum a)^2 + lam sum_k phi(a_k), with channel weights Q, row weight
r and phi(a) = a^p, continued by its tangent below `FLOOR`: that is what the clipped power of the update descends.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchspectral.unmixing.factorisation.blocks import EPS, Block, Factors

FLOOR = 1e-4
"""Abundances below it are raised to it inside the power only."""


@dataclass(frozen=True)
class AbundanceRule:
    """Multiplicative step.

    Attributes
    ----------
    d : float
        Value of the sum-to-one row that is appended to the data (maximum 1) and to the endmembers.
    lam : float
        Factor of the penalty sum a^p; 0: none.
    p : float
        Exponent, 0..1, where the block has no guidance map.

    References
    ----------
    Lee and Seung, "Algorithms for non-negative matrix factorization", NIPS 2000. Qian et al., "Hyperspectral unmixing via
    L1/2 sparsity-constrained nonnegative matrix factorization", IEEE TGRS 49(11), 2011.
    """

    d: float = 15.0
    lam: float = 0.0
    p: float = 1.0

    def step(self, block: Block, factors: Factors, number: int) -> None:
        """Improve ``block.a`` in place of the old one; `number` counts iterations from 0."""
        weighted = factors.weighted
        row = factors.row * self.d**2
        b, gram = weighted.T @ block.y, weighted.T @ factors.m + row
        top, bottom = self.extra(block)
        above = b + row if top is None else b + row + top
        below = gram @ block.a + EPS
        if self.lam:
            below += self.lam * self.slope(block)
        if bottom is not None:
            below += bottom
        block.a = block.a * above / below

    def extra(self, block: Block) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Positive and negative part of further gradients, (k, n)."""
        return None, None

    def slope(self, block: Block) -> torch.Tensor | float:
        """Derivative of phi, over the pixel's weight."""
        slope = _slope(block.a, self.p if block.h is None else 1 - block.h)
        return slope if block.weight is None else slope / block.weight

    def penalty(self, block: Block) -> float:
        """Value of the penalties of all pixels of the block."""
        if not self.lam:
            return 0.0
        return self.lam * float(_phi(block.a, self.p if block.h is None else 1 - block.h).sum())


def _phi(a: torch.Tensor, p: torch.Tensor | float) -> torch.Tensor:
    raised = a.clamp_min(FLOOR)
    tangent = _slope(a, p) * (a - raised)
    return raised**p + tangent


def _slope(a: torch.Tensor, p: torch.Tensor | float) -> torch.Tensor | float:
    if isinstance(p, float | int):
        if p == 1:
            return 1.0
        if p == 0.5:
            return 0.5 * a.clamp_min(FLOOR).rsqrt()
    return p * a.clamp_min(FLOOR) ** (p - 1)


@dataclass(frozen=True)
class ProjectedGradientRule(AbundanceRule):
    """Gradient steps of length 1 / (largest eigenvalue), cut off at 0: the quadratic objective cannot grow.

    Attributes
    ----------
    inner : int
        Gradient steps in one iteration.
    """

    inner: int = 20

    def step(self, block: Block, factors: Factors, number: int) -> None:
        """Improve ``block.a``."""
        weighted = factors.weighted
        row = factors.row * self.d**2
        b, gram = weighted.T @ block.y + row, weighted.T @ factors.m + row
        length = 1 / float(torch.linalg.eigvalsh(gram)[-1].clamp_min(EPS))
        a = block.a
        for _ in range(self.inner):
            a = (a + length * (b - gram @ a)).clamp_min(0)
        block.a = a


@dataclass(frozen=True)
class GraphRule(AbundanceRule):
    """Multiplicative step that keeps neighbours alike: + graph / 2 tr(A (D - W) A^T), W the block's graph.

    Attributes
    ----------
    graph : float
        Factor of the term.

    References
    ----------
    Cai et al., "Graph regularized nonnegative matrix factorization for data representation", IEEE TPAMI 33(8), 2011.
    """

    graph: float = 0.1

    def extra(self, block: Block) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """What neighbours have, and what the pixel has times its degree."""
        near, degree = neighbour_sums(block, block.a)
        return self.graph * near, self.graph * degree * block.a

    def penalty(self, block: Block) -> float:
        """And the graph's term."""
        near, degree = neighbour_sums(block, block.a)
        return super().penalty(block) + 0.5 * self.graph * float((block.a * (degree * block.a - near)).sum())


def neighbour_sums(block: Block, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sums of the neighbours' values (k, n), and each pixel's sum of weights (n,)."""
    assert block.graph is not None
    both = block.graph @ torch.cat([values, torch.ones_like(values[:1])]).T.contiguous()
    return both[:, :-1].T, both[:, -1]
