"""Least squares between bounds from cross products: one Gram matrix, any number of right-hand sides, exact.

References
----------
Stark and Parker, "Bounded-variable least squares: an algorithm and applications", Computational Statistics 10, 1995.
"""

from __future__ import annotations

import torch

from torchspectral.ops.fcls import _minimise, _primal

_TOLERANCE = 1e-10
_CHUNK = 8192


def bvls_gram(gram: torch.Tensor, right: torch.Tensor, lower: float = 0.0, upper: float = 1.0) -> torch.Tensor:
    """Minimise ``x^T G x / 2 - r^T x`` over lower <= x <= upper for each column r.

    Variables leave their bounds one at a time, the one with the steepest gradient first; the free ones stay
    independent, so that `gram` may be singular.

    Parameters
    ----------
    gram : Tensor, shape (n, n)
        Symmetric, positive semi-definite: ``A^T A`` summed in float64.
    right : Tensor, shape (n, m)
        ``A^T y``.
    lower, upper : float

    Returns
    -------
    Tensor, shape (n, m), float64
    """
    gram, right = gram.double(), right.double()
    norm = gram.diagonal().clamp_min(0).sqrt()
    scale = torch.where(norm > 0, norm, 1.0)
    unit = gram / torch.outer(scale, scale)
    # In units of 1 / scale each variable has bounds of its own.
    low, high = lower * scale, upper * scale
    sides = (right / scale[:, None]).T.contiguous()
    x, todo = _unbounded(unit, sides, low, high)
    for start in range(0, len(todo), _CHUNK):
        part = todo[start : start + _CHUNK]
        x[part] = _solve(unit, sides[part], low, high)
    return (x / scale).T.clamp(lower, upper)


def simplex_gram(gram: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Minimise ``x^T G x / 2 - r^T x`` over x >= 0 with sum one for each column r, exactly, (n, m) float64.

    Parameters
    ----------
    gram : Tensor, shape (n, n)
        Symmetric, positive semi-definite.
    right : Tensor, shape (n, m)
    """
    gram, right = gram.double(), right.double()
    # On the simplex a constant added to all entries changes nothing but the conditioning.
    size = gram.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    return _primal(gram / size + 1, right / size + 1, True)


def _unbounded(
    gram: torch.Tensor, sides: torch.Tensor, low: torch.Tensor, high: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimisers without bounds, and the rows for which they do not lie between them (all, where G is singular)."""
    factor, failed = torch.linalg.cholesky_ex(gram)
    if bool(failed) or float(factor.diagonal().min()) < 1e-5:
        return torch.zeros_like(sides), torch.arange(len(sides), device=sides.device)
    x = torch.cholesky_solve(sides.T, factor).T.contiguous()
    return x, ((x < low) | (x > high)).any(1).nonzero()[:, 0]


def _solve(gram: torch.Tensor, b: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    n, p = b.shape
    result = low.expand(n, p).clone()
    rows = torch.arange(n, device=b.device)
    x = result.clone()
    free = torch.zeros_like(b, dtype=torch.bool)
    at_top = torch.zeros_like(free)
    barred = torch.zeros_like(free)
    tolerance = _TOLERANCE * (1 + b.abs().amax(1) + (x @ gram).abs().amax(1))
    for _ in range(40 * p + 50):
        gradient = b - x @ gram
        gain = torch.where(at_top, -gradient, gradient)
        gain = torch.where(free | barred, -torch.inf, gain)
        best, entering = gain.max(1)
        done = best <= tolerance
        result[rows[done]] = x[done]
        if bool(done.all()):
            return result
        go = ~done
        rows, b, x, free, at_top = rows[go], b[go], x[go], free[go], at_top[go]
        barred, tolerance, entering = barred[go], tolerance[go], entering[go]
        ids = torch.arange(len(rows), device=b.device)
        upwards = ~at_top[ids, entering]
        free[ids, entering] = True
        at_top[ids, entering] = False
        x, free, at_top, stuck = _descend(gram, b, x, free, at_top, entering, upwards, low, high)
        barred = torch.where(stuck[:, None], barred, torch.zeros_like(barred))
        barred[ids[stuck], entering[stuck]] = True
    result[rows] = x
    return result


def _descend(
    gram: torch.Tensor,
    b: torch.Tensor,
    x: torch.Tensor,
    free: torch.Tensor,
    at_top: torch.Tensor,
    entering: torch.Tensor,
    upwards: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inner loop: minimise on the free set, shrinking it at the bounds, until the minimiser lies between them."""
    x, free, at_top = x.clone(), free.clone(), at_top.clone()
    stuck = torch.zeros(len(b), dtype=torch.bool, device=b.device)
    todo = torch.arange(len(b), device=b.device)
    for inner in range(b.shape[1] + 2):
        held = torch.where(free[todo], 0.0, x[todo])
        goal, _ = _minimise(gram, b[todo] - held @ gram, free[todo], False)
        goal = torch.where(free[todo], goal, x[todo])
        if inner == 0:
            ids = torch.arange(len(todo), device=b.device)
            moved = goal[ids, entering] - x[ids, entering]
            stuck = ~torch.where(upwards, moved > 0, moved < 0)
            if bool(stuck.any()):
                free[stuck, entering[stuck]] = False
                at_top[stuck, entering[stuck]] = ~upwards[stuck]
                todo, goal = todo[~stuck], goal[~stuck]
                if not len(todo):
                    break
        current, members = x[todo], free[todo]
        under, over = members & (goal < low), members & (goal > high)
        outside = under | over
        inside = ~outside.any(1)
        x[todo[inside]] = goal[inside]
        if bool(inside.all()):
            break
        out = ~inside
        todo, goal, current, members = todo[out], goal[out], current[out], members[out]
        under, over, outside = under[out], over[out], outside[out]
        wall = torch.where(under, low, high)
        gap = goal - current
        safe = torch.where(gap == 0, torch.ones_like(gap), gap)
        ratio = torch.where(outside, ((wall - current) / safe).clamp(0, 1), torch.inf)
        step = ratio.amin(1, keepdim=True)
        leaving = outside & (ratio <= step * (1 + 1e-12))
        following = torch.where(members, current + step * gap, current)
        x[todo] = torch.where(leaving, wall, torch.minimum(torch.maximum(following, low), high))
        free[todo] = members & ~leaving
        at_top[todo] = at_top[todo] | (leaving & over)
    return x, free, at_top, stuck
