"""Abundances by least squares: unconstrained, sum to one, non-negative, and fully constrained (FCLS), all exact.

The problem of a pixel y with endmembers E (bands x p) is min |E a - y|^2 with a >= 0 and, for FCLS, 1^T a = 1. Only
G = E^T E and b = E^T y enter, both in float64. Two exact solvers share the work:

* block principal pivoting for few endmembers: the answer of each of the 2^p active patterns is an affine map of b;
  pixels are sorted by pattern and each pattern costs one small matrix product (above a dozen endmembers each pixel
  has its own small system);
* a primal active set (Lawson and Hanson's, with the sum constraint) for many endmembers, for affinely dependent
  ones, and for the rare pixel on which pivoting does not end.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from torchspectral.errors import BadInput

Constraint = Literal["fcls", "scls", "nnls", "ucls"]

CHUNK = 32_768
PRODUCTS = 2048
"""Pixels whose float64 copy is made at a time: it should stay in the cache."""
MOST_PATTERNS = 12
"""Endmembers up to which all 2^p patterns are tabulated."""
MOST_PIVOTED = 64
"""Endmembers up to which pivoting, from the full pattern down, beats the active set, from one endmember up."""
FEW_PIVOTS = 2
_WORST_CONDITION = 1e10
_TOLERANCE = 1e-10


class AbundanceSolver:
    """Exact least-squares abundances for one set of endmembers.

    Parameters
    ----------
    endmembers : Tensor, shape (p, bands)
        Finite spectra.
    constraint : {"fcls", "scls", "nnls", "ucls"}
        Both constraints, sum to one, non-negative, none.

    Raises
    ------
    BadInput
        Spectra that are not finite, or all zero.

    References
    ----------
    Heinz and Chang, "Fully constrained least squares linear spectral mixture analysis method", TGRS 39(3), 2001.
    Kim and Park, "Fast nonnegative matrix factorization: an active-set-like method", SIAM J. Sci. Comput. 33, 2011
    (block principal pivoting). Lawson and Hanson, "Solving least squares problems", 1974, ch. 23.
    """

    def __init__(self, endmembers: torch.Tensor, constraint: Constraint = "fcls") -> None:
        spectra = endmembers.to(torch.float64)
        if spectra.ndim != 2 or not spectra.numel():
            raise BadInput(f"got endmembers of shape {tuple(spectra.shape)}, expected (endmember, band)")
        if not bool(torch.isfinite(spectra).all()):
            raise BadInput("an endmember has values that are not finite: drop its bad bands or the spectrum")
        peak = float(spectra.abs().max())
        if peak == 0:
            raise BadInput("all endmembers are zero: expected spectra of materials")
        self.constraint = constraint
        self.endmembers = spectra
        self.p = spectra.shape[0]
        self.sums_to_one = constraint in ("fcls", "scls")
        gram = spectra @ spectra.T
        # On the simplex a constant added to every entry of G and b changes nothing but the conditioning:
        # only affine independence is needed then, and p may be bands + 1.
        self._scale = float(gram.diagonal().mean())
        self._lift = self._scale if self.sums_to_one else 0.0
        self._gram = (gram + self._lift) / self._scale
        values = torch.linalg.eigvalsh(self._gram)
        self.condition = float(values[-1] / values[0].clamp_min(torch.finfo(torch.float64).tiny))
        self.independent = 0 < self.condition < _WORST_CONDITION
        self._maps: tuple[torch.Tensor, torch.Tensor] | None = None

    def solve(self, pixels: torch.Tensor) -> torch.Tensor:
        """Abundances, float64, shape (p, n), of pixels (bands, n); NaN where a pixel holds NaN."""
        out = pixels.new_empty((self.p, pixels.shape[1]), dtype=torch.float64)
        for start in range(0, pixels.shape[1], CHUNK):
            group = pixels[:, start : start + CHUNK]
            parts = [
                self._products(group[:, at : at + PRODUCTS].to(torch.float64))
                for at in range(0, group.shape[1], PRODUCTS)
            ]
            out[:, start : start + CHUNK] = self._solve(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))
        return out

    def kkt_violation(self, pixels: torch.Tensor, abundances: torch.Tensor) -> torch.Tensor:
        """Largest violation of the optimality conditions for each pixel, shape (n,).

        The gradient is divided by the mean squared norm of the endmembers, so that the figure has the unit of an
        abundance; it covers negative abundances, the sum, the gradient's sign and complementarity.
        """
        b = self._products(pixels.to(torch.float64))
        a = abundances.to(torch.float64)
        gradient = self._gram.to(a.device) @ a - b
        worst = torch.zeros_like(a[0])
        free = a > 1e-9 if self.constraint in ("fcls", "nnls") else torch.ones_like(a, dtype=torch.bool)
        if self.sums_to_one:
            worst = torch.maximum(worst, (a.sum(0) - 1).abs())
            gradient = gradient - (gradient * free).sum(0) / free.sum(0).clamp_min(1)
        worst = torch.maximum(worst, (gradient.abs() * free).amax(0))
        if self.constraint in ("fcls", "nnls"):
            worst = torch.maximum(worst, (-gradient * ~free).amax(0))
            worst = torch.maximum(worst, (-a).amax(0))
        return worst

    def _products(self, pixels: torch.Tensor) -> torch.Tensor:
        return (self.endmembers.to(pixels.device) @ pixels + self._lift) / self._scale

    def _solve(self, b: torch.Tensor) -> torch.Tensor:
        if self.constraint in ("ucls", "scls"):
            return self._equality(b)
        if self.independent and self.p <= MOST_PIVOTED:
            return self._pivot(b)
        return _primal(self._gram.to(b.device), b, self.sums_to_one)

    def _equality(self, b: torch.Tensor) -> torch.Tensor:
        inverse = torch.linalg.pinv(self._gram.to(b.device), hermitian=True, rtol=1e-12)
        a = inverse @ b
        if self.sums_to_one:
            weights = inverse.sum(1)
            a = a - weights[:, None] * ((a.sum(0) - 1) / weights.sum())[None, :]
        return a

    def _tables(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Affine map of each pattern: (2^p, p, p) and (2^p, p); bit i of a pattern says that abundance i is free."""
        if self._maps is None or self._maps[0].device != device:
            gram = self._gram.to(device)
            p = self.p
            bits = torch.arange(2**p, device=device)[:, None] >> torch.arange(p, device=device) & 1
            free = bits.to(torch.float64)
            eye = torch.eye(p, dtype=torch.float64, device=device)
            masked = gram * free[:, :, None] * free[:, None, :] + torch.diag_embed(1 - free)
            inverse = torch.linalg.inv(masked) * free[:, :, None] * free[:, None, :]
            constant = torch.zeros(2**p, p, dtype=torch.float64, device=device)
            if self.sums_to_one:
                weights = inverse.sum(2)
                total = weights.sum(1).clamp_min(torch.finfo(torch.float64).tiny)
                multiplier = weights / total[:, None]  # lambda = multiplier . b - 1 / total
                constant = weights / total[:, None]
                inverse = inverse - weights[:, :, None] * multiplier[:, None, :]
                dual = gram @ inverse - eye + multiplier[:, None, :]
                dual_constant = constant @ gram - 1 / total[:, None]
            else:
                dual = gram @ inverse - eye
                dual_constant = constant
            bound = (1 - free).bool()
            self._maps = (
                torch.where(bound[:, :, None], dual, inverse),
                torch.where(bound, dual_constant, constant),
            )
        return self._maps

    def _pivot(self, b: torch.Tensor) -> torch.Tensor:
        """Block principal pivoting of Kim and Park, from the full pattern; b is (p, n)."""
        p = self.p
        gram = self._gram.to(b.device)
        start = self._equality(b)
        infeasible = start < -_TOLERANCE
        result = start.clamp_min(0)
        open_ = infeasible.any(0).nonzero()[:, 0]
        products = b[:, open_].T.contiguous()
        infeasible = infeasible[:, open_].T
        free = torch.ones_like(infeasible)
        fewest = infeasible.sum(1)
        patience = torch.full_like(fewest, 3)
        # With its own system a pixel, a pixel that pivots for long is sooner done by the active set.
        for _ in range(10 * p + 50 if p <= MOST_PATTERNS else FEW_PIVOTS):
            if not len(open_):
                return result
            count = infeasible.sum(1)
            better = count < fewest
            fewest = torch.minimum(fewest, count)
            patience = torch.where(better, 3, patience - 1)
            # Murty's rule: after three rounds without progress only the highest infeasible index moves.
            highest = infeasible & (infeasible.flip(1).cumsum(1).flip(1) == 1)
            free = free ^ torch.where((patience >= 0)[:, None], infeasible, highest)
            if p <= MOST_PATTERNS:
                values = _by_pattern(*self._tables(b.device), free, products)
            else:
                values = _by_pixel(gram, free, products, self.sums_to_one)
            infeasible = values < -_TOLERANCE
            done = ~infeasible.any(1)
            result[:, open_[done]] = (values[done] * free[done]).clamp_min(0).T
            left = ~done
            open_, products, free = open_[left], products[left], free[left]
            infeasible, fewest, patience = infeasible[left], fewest[left], patience[left]
        if len(open_):
            result[:, open_] = _primal(gram, products.T, self.sums_to_one)
        return result


def _by_pattern(
    maps: torch.Tensor, constants: torch.Tensor, free: torch.Tensor, products: torch.Tensor
) -> torch.Tensor:
    """Abundances where free and multipliers elsewhere, by the tabulated map of each row's pattern, (n, p)."""
    powers = 2.0 ** torch.arange(free.shape[1], device=free.device, dtype=torch.float32)
    pattern = (free.to(torch.float32) @ powers).to(torch.int32)
    if products.device.type == "cpu":
        return _grouped(maps, constants, pattern, products)
    return _gathered(maps, constants, pattern, products)


def _gathered(
    maps: torch.Tensor, constants: torch.Tensor, pattern: torch.Tensor, products: torch.Tensor
) -> torch.Tensor:
    """Each row with a copy of its map: best where memory is fast and calls are dear."""
    return torch.baddbmm(constants[pattern][..., None], maps[pattern], products[..., None])[..., 0]


def _grouped(
    maps: torch.Tensor, constants: torch.Tensor, pattern: torch.Tensor, products: torch.Tensor
) -> torch.Tensor:
    """Rows sorted by pattern, one product a pattern; numpy's calls cost a third of torch's, and there may be many."""
    key = pattern.numpy().astype(np.uint16)
    order = np.argsort(key, kind="stable")
    rows = products.numpy()[order]
    counts = np.bincount(key, minlength=len(maps))
    present = np.flatnonzero(counts)
    ends = np.cumsum(counts[present])
    table = maps.numpy()
    values = np.empty_like(rows)
    start = 0
    for number, end in zip(present.tolist(), ends.tolist(), strict=True):
        np.dot(rows[start:end], table[number].T, out=values[start:end])
        start = end
    values += constants.numpy()[key[order]]
    out = np.empty_like(values)
    out[order] = values
    return torch.from_numpy(out)


def _by_pixel(gram: torch.Tensor, free: torch.Tensor, products: torch.Tensor, sums_to_one: bool) -> torch.Tensor:
    """As `_by_pattern`, by one small system a row."""
    values = torch.empty_like(products)
    chunk = max(64, 4_000_000 // gram.shape[0] ** 2)
    for start in range(0, len(products), chunk):
        rows = slice(start, start + chunk)
        goal, level = _minimise(gram, products[rows], free[rows], sums_to_one)
        values[rows] = torch.where(free[rows], goal, goal @ gram - products[rows] + level[:, None])
    return values


def _primal(gram: torch.Tensor, b: torch.Tensor, sums_to_one: bool) -> torch.Tensor:
    """Lawson and Hanson's active set for a batch of pixels, with or without the sum constraint; b is (p, n).

    Free sets stay (affinely) independent by construction, so that `gram` may be singular.
    """
    p, n = gram.shape[0], b.shape[1]
    out = torch.full((n, p), torch.nan, dtype=torch.float64, device=b.device)
    finite = torch.isfinite(b).all(0)
    where = finite.nonzero()[:, 0]
    chunk = max(64, min(8192, 2_000_000 // max(p, 1)))
    for start in range(0, len(where), chunk):
        part = where[start : start + chunk]
        out[part] = _primal_chunk(gram, b[:, part].T.contiguous(), sums_to_one)
    return out.T


def _primal_chunk(gram: torch.Tensor, b: torch.Tensor, sums_to_one: bool) -> torch.Tensor:
    n, p = b.shape
    result = torch.zeros_like(b)
    rows = torch.arange(n, device=b.device)
    a = torch.zeros_like(b)
    free = torch.zeros_like(b, dtype=torch.bool)
    level = torch.zeros(n, dtype=torch.float64, device=b.device)
    if sums_to_one:
        first = (gram.diagonal() / 2 - b).argmin(1)
        a[rows, first] = 1.0
        free[rows, first] = True
        level = b[rows, first] - gram[first, first]
    barred = torch.zeros_like(free)
    tolerance = _TOLERANCE * (1 + b.abs().amax(1))
    for _ in range(20 * p + 50):
        gain = b - a @ gram - level[:, None]
        gain = torch.where(free | barred, -torch.inf, gain)
        best, entering = gain.max(1)
        done = best <= tolerance
        result[rows[done]] = a[done]
        if bool(done.all()):
            return result
        go = ~done
        rows, b, a, free, barred = rows[go], b[go], a[go], free[go], barred[go]
        tolerance, entering = tolerance[go], entering[go]
        ids = torch.arange(len(rows), device=b.device)
        free[ids, entering] = True
        a, free, level, stuck = _descend(gram, b, a, free, entering, sums_to_one)
        # An index that rounding throws out at once is barred until something else has moved.
        barred = torch.where(stuck[:, None], barred, torch.zeros_like(barred))
        barred[ids[stuck], entering[stuck]] = True
    result[rows] = a
    return result


def _descend(
    gram: torch.Tensor,
    b: torch.Tensor,
    a: torch.Tensor,
    free: torch.Tensor,
    entering: torch.Tensor,
    sums_to_one: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inner loop: minimise on the free set, shrinking it at the boundary, until the minimiser is positive."""
    n, p = b.shape
    a, free = a.clone(), free.clone()
    level = torch.zeros(n, dtype=torch.float64, device=b.device)
    stuck = torch.zeros(n, dtype=torch.bool, device=b.device)
    todo = torch.arange(n, device=b.device)
    for inner in range(p + 2):
        goal, multiplier = _minimise(gram, b[todo], free[todo], sums_to_one)
        if inner == 0:
            reach = goal.gather(1, entering[:, None])[:, 0]
            stuck = ~(reach > 0)
            free[todo[stuck], entering[stuck]] = False
            if bool(stuck.any()):
                goal, multiplier = _minimise(gram, b, free, sums_to_one)
        current, members = a[todo], free[todo]
        outside = members & ~(goal > 0)
        inside = ~outside.any(1)
        a[todo[inside]] = goal[inside]
        level[todo[inside]] = multiplier[inside]
        if bool(inside.all()):
            break
        move = ~inside
        todo, goal, current, members, outside = todo[move], goal[move], current[move], members[move], outside[move]
        ratio = torch.where(outside, current / (current - goal).clamp_min(1e-300), torch.inf)
        step = ratio.amin(1, keepdim=True).clamp(0, 1)
        moved = current + step * (goal - current) * members
        leaving = outside & (ratio <= step * (1 + 1e-12))
        free[todo] = members & ~leaving
        a[todo] = torch.where(leaving, 0.0, moved).clamp_min(0)
    return a, free, level, stuck


def _minimise(
    gram: torch.Tensor, b: torch.Tensor, free: torch.Tensor, sums_to_one: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimiser on each row's free set (zero elsewhere) and the multiplier of the sum."""
    n = len(b)
    count = free.sum(1)
    most = max(int(count.max()), 1)
    index = torch.argsort(free.to(torch.int8), dim=1, descending=True, stable=True)[:, :most]
    real = torch.arange(most, device=b.device)[None, :] < count[:, None]
    both = real[:, :, None] & real[:, None, :]
    eye = torch.eye(most, dtype=torch.float64, device=b.device)
    system = torch.where(both, gram[index[:, :, None], index[:, None, :]], eye)
    right = torch.where(real, b.gather(1, index), 0.0)
    sides = torch.stack([right, real.to(torch.float64)], dim=2)
    solved, _ = torch.linalg.solve_ex(system, sides)
    goal = solved[:, :, 0] * real
    multiplier = torch.zeros(n, dtype=torch.float64, device=b.device)
    if sums_to_one:
        weights = solved[:, :, 1] * real
        multiplier = (goal.sum(1) - 1) / weights.sum(1)
        goal = goal - weights * multiplier[:, None]
    return torch.zeros_like(b).scatter(1, index, goal * real), multiplier


def fcls(pixels: torch.Tensor, endmembers: torch.Tensor) -> torch.Tensor:
    """Fully constrained abundances, (p, n) float64, of pixels (bands, n) for endmembers (p, bands)."""
    return AbundanceSolver(endmembers, "fcls").solve(pixels)


def nnls(pixels: torch.Tensor, endmembers: torch.Tensor) -> torch.Tensor:
    """Non-negative abundances, (p, n) float64, of pixels (bands, n) for endmembers (p, bands)."""
    return AbundanceSolver(endmembers, "nnls").solve(pixels)


def scls(pixels: torch.Tensor, endmembers: torch.Tensor) -> torch.Tensor:
    """Abundances that sum to one, (p, n) float64, of pixels (bands, n) for endmembers (p, bands)."""
    return AbundanceSolver(endmembers, "scls").solve(pixels)


def ucls(pixels: torch.Tensor, endmembers: torch.Tensor) -> torch.Tensor:
    """Unconstrained abundances, (p, n) float64, of pixels (bands, n) for endmembers (p, bands)."""
    return AbundanceSolver(endmembers, "ucls").solve(pixels)
