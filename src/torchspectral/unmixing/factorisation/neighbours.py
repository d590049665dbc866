"""Neighbouring pixels: how alike they are, tile by tile, and the sparse graph that they make."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch

from torchspectral.engine.method import Source, Tile
from torchspectral.unmixing.factorisation.start import Start

STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Half of the eight neighbours; each pair is met once."""


def _pairs(rows: int, cols: int) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Slices of a pixel and of its neighbour, for each step."""
    for down, right in STEPS:
        here = slice(0, rows - down), slice(max(0, -right), cols - max(0, right))
        there = slice(down, rows), slice(max(0, right), cols + min(0, right))
        yield here, there


def _pair_values(
    cube: torch.Tensor, valid: torch.Tensor
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice], torch.Tensor, torch.Tensor]]:
    """Squared distance of each pixel (bands, y, x) to a neighbour, and whether both are valid."""
    for here, there in _pairs(*valid.shape):
        apart = ((cube[(slice(None), *here)] - cube[(slice(None), *there)]) ** 2).sum(0)
        yield here, there, apart, valid[here] & valid[there]


def _scaled(tile: Tile, start: Start) -> tuple[torch.Tensor, torch.Tensor]:
    clean = start.clean.to(tile.lead.device)
    return start.pixels(tile["cube"][0][clean].to(torch.float64)), tile.valid[0, 0]


def _distance_sums(tile: Tile, start: Start) -> tuple[int, float]:
    """Pairs, and the sum of their squared distances; a pair belongs to the tile whose core holds its first pixel."""
    cube, valid = _scaled(tile, start)
    core = torch.zeros_like(valid)
    top, left = tile.inner.row - tile.window.row, tile.inner.col - tile.window.col
    core[top : top + tile.inner.height, left : left + tile.inner.width] = True
    count, total = 0, 0.0
    for here, _, apart, both in _pair_values(cube, valid):
        both = both & core[here]
        count += int(both.sum())
        total += float(apart[both].sum())
    return count, total


def mean_distance(source: Source, start: Start) -> float:
    """Mean squared distance of neighbouring pixels over the clean channels: the default sigma of similarities.

    Needs tiles with a halo of one pixel.
    """
    count, total = source.reduce(
        partial(_distance_sums, start=start), lambda one, other: (one[0] + other[0], one[1] + other[1])
    )
    return total / count if count and total > 0 else 1.0


def similarity(tile: Tile, start: Start, sigma: float) -> torch.Tensor:
    """Mean of exp(-|y_i - y_j|^2 / sigma) over the valid ones of the eight neighbours, core pixels (y, x); 1 for none."""
    cube, valid = _scaled(tile, start)
    total, count = torch.zeros_like(cube[0]), torch.zeros_like(cube[0])
    for here, there, apart, both in _pair_values(cube, valid):
        alike = torch.where(both, torch.exp(-apart / sigma), 0.0)
        for place in (here, there):
            total[place] += alike
            count[place] += both
    return tile.core(torch.where(count > 0, total / count.clamp_min(1), 1.0))


def pixel_graph(
    y: torch.Tensor,
    valid: torch.Tensor,
    *,
    kind: Literal["grid", "knn"] = "grid",
    neighbours: int = 8,
    measure: Literal["distance", "angle", "none"] = "distance",
    sigma: float | None = None,
) -> torch.Tensor:
    """Symmetric weights between pixels as a sparse matrix, (n, n): about 8 n entries, never n x n.

    Parameters
    ----------
    y : Tensor, shape (bands, n)
        Valid pixels in row order.
    valid : Tensor of bool, shape (rows, cols)
    kind : {"grid", "knn"}
        The eight neighbours on the ground, or the spectrally nearest pixels wherever they lie.
    neighbours : int
        Of kNN.
    measure : {"distance", "angle", "none"}
        exp(-d / sigma) of the squared distance or squared spectral angle; or 1.
    sigma : float, optional
        Mean of d over the pairs by default.
    """
    n = y.shape[1]
    if kind == "grid":
        one, other = _grid_pairs(valid)
    else:
        one, other = _nearest_pairs(y, min(neighbours, n - 1))
    d = _pair_distance(y, one, other, measure)
    scale = sigma if sigma is not None else (float(d.mean()) if d.numel() else 1.0)
    weight = torch.exp(-d / scale) if scale > 0 else torch.ones_like(d)
    index = torch.stack([torch.cat([one, other]), torch.cat([other, one])])
    # A pair that each found in the other stands twice: averaged over both directions, its weight stays as it is.
    count = torch.ones_like(weight).repeat(2)
    graph, pairs = (_sparse(index, v, n) for v in (torch.cat([weight, weight]), count))
    return _sparse(graph.indices(), graph.values() / pairs.values(), n)


def _sparse(index: torch.Tensor, values: torch.Tensor, n: int) -> torch.Tensor:
    return torch.sparse_coo_tensor(index, values, (n, n), check_invariants=False).coalesce()


def _grid_pairs(valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    number = torch.full(valid.shape, -1, dtype=torch.int64, device=valid.device)
    number[valid] = torch.arange(int(valid.sum()), device=valid.device)
    ones, others = [], []
    for here, there in _pairs(*valid.shape):
        both = valid[here] & valid[there]
        ones.append(number[here][both])
        others.append(number[there][both])
    return torch.cat(ones), torch.cat(others)


def _nearest_pairs(y: torch.Tensor, neighbours: int, chunk: int = 1024) -> tuple[torch.Tensor, torch.Tensor]:
    """Each pixel and its nearest spectra; `chunk` x n distances at a time."""
    norm = (y**2).sum(0)
    ones, others = [], []
    for first in range(0, y.shape[1], chunk):
        part = torch.arange(first, min(first + chunk, y.shape[1]), device=y.device)
        apart = norm[None, :] - 2 * y[:, part].T @ y
        apart[torch.arange(len(part), device=y.device), part] = torch.inf
        found = torch.topk(apart, neighbours, dim=1, largest=False).indices
        ones.append(part.repeat_interleave(neighbours))
        others.append(found.reshape(-1))
    return torch.cat(ones), torch.cat(others)


def _pair_distance(
    y: torch.Tensor, one: torch.Tensor, other: torch.Tensor, measure: str, chunk: int = 65_536
) -> torch.Tensor:
    if measure == "none":
        return y.new_zeros(len(one))
    parts = []
    norm = y.norm(dim=0).clamp_min(1e-12)
    for first in range(0, len(one), chunk):
        i, j = one[first : first + chunk], other[first : first + chunk]
        if measure == "angle":
            cosine = (y[:, i] * y[:, j]).sum(0) / (norm[i] * norm[j])
            parts.append(torch.arccos(cosine.clamp(-1, 1)) ** 2)
        else:
            parts.append(((y[:, i] - y[:, j]) ** 2).sum(0))
    return torch.cat(parts) if parts else y.new_zeros(0)
