"""Pixels that hold a simplex in place: the few of many that an optimisation under one inequality a pixel must know."""

from __future__ import annotations

from collections.abc import Callable

import torch

PER_FACET = 8
"""Pixels that are taken up for each facet they lie outside of."""

OUTSIDE = 1e-7
"""Barycentric coordinates above minus this are inside."""


def inflated(x: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Vertices (k, k), one a column, of a simplex like `start` but large enough to hold all points x (k, n)."""
    k = len(x)
    least = float((torch.linalg.inv(start) @ x).min())
    centre = start.mean(1, keepdim=True)
    return centre + (1 + k * max(-least, 0.0) * (1 + 1e-6)) * (start - centre)


class Supports:
    """A growing set of points, of x (k, n)."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = x
        self._taken = torch.zeros(x.shape[1], dtype=torch.bool)
        # The farthest points along each axis bound the first answers.
        self._take(torch.cat([x, -x]), torch.inf)

    @property
    def points(self) -> torch.Tensor:
        """Those taken up, (k, m)."""
        return self.x[:, self._taken]

    def _take(self, heights: torch.Tensor, below: float) -> bool:
        low, at = heights.topk(min(PER_FACET, heights.shape[1]), dim=1, largest=False)
        new = at[(low < below) & ~self._taken[at]]
        self._taken[new] = True
        return bool(new.numel())

    def solve(self, answer: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        """Optimise under ``facets @ x >= 0`` for all points.

        Parameters
        ----------
        answer : callable
            For points (k, m): the optimum under their inequalities alone, and the facets (f, k) that these are of.

        Returns
        -------
        Tensor
            The optimum once no other point lies outside: that of all points.
        """
        while True:
            found, facets = answer(self.points)
            if not self._take(facets @ self.x, -OUTSIDE):
                return found
