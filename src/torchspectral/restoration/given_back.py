"""What is removed from clear bands, kept white: the share that neighbouring pixels have in common is given back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from torchspectral.engine.method import Source, Tile

CLEAR = 30.0
"""SNR [dB] above which a band is clear: losing some of its signal costs more than leaving some of its noise."""
LAGS = ((0, 0), (0, 1), (1, 0))
TURNS = 8
"""Times that the shares across and along track are fitted to each other."""

Removed = Callable[[Tile], torch.Tensor]


def smoothed(removed: torch.Tensor, axis: int) -> torch.Tensor:
    """Under the kernel 1/4, 1/2, 1/4 along an axis, with nothing beyond the edges."""
    out, n = removed / 2, removed.shape[axis]
    out.narrow(axis, 1, n - 1).add_(removed.narrow(axis, 0, n - 1), alpha=0.25)
    out.narrow(axis, 0, n - 1).add_(removed.narrow(axis, 1, n - 1), alpha=0.25)
    return out


def give(removed: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """What goes back of the removed part (n, bands, y, x), zero where nodata is, with `shares` (2, bands).

    The kernels lie between 0 and 1 in frequency and the shares sum to 1 at most: nothing is ever added that had not been
    removed.
    """
    across, along = shares[:, :, None, None].to(removed.device, removed.dtype)
    return across * smoothed(removed, -1) + along * smoothed(removed, -2)


def shares_to_give(
    source: Source, removed: Removed, bands: torch.Tensor, likeness: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Least shares of the smoothed removed part after whose return neighbours are no more alike than `likeness`.

    Parameters
    ----------
    source : Source
        One pass.
    removed : callable
        The removed part of a tile, (1, len(bands), y, x), zero where nodata is.
    bands : Tensor of int
    likeness : float
        Largest correlation of neighbours, across and along track.

    Returns
    -------
    shares : Tensor, shape (2, len(bands))
        Across and along track.
    given : Tensor, shape (len(bands),)
        By how much the variance of the removed part falls, 0..1.
    """
    products, pairs = source.reduce(partial(_products, removed=removed), lambda a, b: (a[0] + b[0], a[1] + b[1]))
    power, *lagged = products / pairs.clamp_min(1)[:, None, None, None]
    shares = power.new_zeros(2, len(bands))
    above = [(one + one.mT) / 2 - likeness * power for one in lagged]
    for _ in range(TURNS):
        for axis, form in enumerate(above):
            other = shares[1 - axis]
            least = _least_root(
                form[:, axis + 1, axis + 1],
                other * form[:, 1, 2] - form[:, 0, axis + 1],
                form[:, 0, 0] - 2 * other * form[:, 0, 2 - axis] + other.square() * form[:, 2 - axis, 2 - axis],
            )
            shares[axis] = torch.minimum(least, 1 - other)
    weights = torch.stack([torch.ones_like(shares[0]), -shares[0], -shares[1]], 1)
    left = torch.einsum("bi,bij,bj->b", weights, power, weights)
    return shares, (1 - left / power[:, 0, 0].clamp_min(1e-300)).clamp(0, 1)


def _least_root(square: torch.Tensor, half: torch.Tensor, constant: torch.Tensor) -> torch.Tensor:
    """Least value from 0 to 1 at which ``square v^2 + 2 half v + constant`` is no more than 0; 1 where there is none."""
    inside = half.square() - square * constant
    # The form of the root that does not cancel: constant / (-half + sqrt(inside)).
    below = inside.clamp_min(0).sqrt() - half
    root = torch.where((inside >= 0) & (below > 0), constant / below.clamp_min(1e-300), 1.0)
    return torch.where(constant > 0, root.clamp(0, 1), 0.0)


def _products(tile: Tile, removed: Removed) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums over pairs of core pixels and their neighbours of the removed part and its two smoothed forms.

    Returns
    -------
    products : Tensor, shape (3 lags, bands, 3, 3)
    pairs : Tensor, shape (3 lags,)
    """
    rest, valid = removed(tile)[0], tile.valid[0, 0]
    top, left = tile.inner.row - tile.window.row, tile.inner.col - tile.window.col
    sums = torch.zeros(len(LAGS), len(rest), 3, 3, dtype=torch.float64)
    pairs = torch.zeros(len(LAGS), dtype=torch.float64)
    places = []
    for number, (down, right) in enumerate(LAGS):
        bottom = min(top + tile.inner.height, valid.shape[0] - down)
        end = min(left + tile.inner.width, valid.shape[1] - right)
        if bottom <= top or end <= left:
            continue
        here = slice(top, bottom), slice(left, end)
        there = slice(top + down, bottom + down), slice(left + right, end + right)
        both = valid[here] & valid[there]
        pairs[number] = both.sum()
        places.append((number, here, there, both))
    for band, values in enumerate(rest.double()):
        fields = torch.stack([values, smoothed(values, -1), smoothed(values, -2)])
        for number, here, there, both in places:
            sums[number, band] = (fields[:, *here] * both).flatten(1) @ fields[:, *there].flatten(1).T
    return sums, pairs
