"""Overlapping groups of bands as one batch, and back, without a loop over groups."""

from __future__ import annotations

from functools import lru_cache

import torch

from torchspectral.errors import BadSettings


@lru_cache(maxsize=64)
def starts_of(bands: int, size: int, shared: int) -> tuple[int, ...]:
    """First band of each group; the last group is moved so that it ends with the last band.

    Parameters
    ----------
    bands : int
    size, shared : int
        Bands in a group, and bands that neighbours share.

    Raises
    ------
    BadSettings
        The groups do not advance, or there are fewer bands than a group holds.

    Examples
    --------
    >>> starts_of(31, 8, 2)
    (0, 6, 12, 18, 23)
    """
    if not 0 <= shared < size:
        raise BadSettings(f"got groups of {size} bands that share {shared}, expected fewer shared than in a group")
    if bands < size:
        raise BadSettings(f"got {bands} bands, expected at least the {size} of a group: set n_subs lower")
    step = size - shared
    count = max(1, -(-(bands - shared) // step))
    return tuple(min(group * step, bands - size) for group in range(count))


def _places(starts: tuple[int, ...], size: int, device: torch.device) -> torch.Tensor:
    first = torch.tensor(starts, device=device)
    return (first[:, None] + torch.arange(size, device=device)).reshape(-1)


def gather_groups(x: torch.Tensor, starts: tuple[int, ...], size: int) -> torch.Tensor:
    """Groups of bands as a batch: (n, bands, y, x) to (n groups, size, y, x), the groups of an image together."""
    taken = x[:, _places(starts, size, x.device)]
    return taken.reshape(x.shape[0] * len(starts), size, *x.shape[-2:])


def mean_of_groups(groups: torch.Tensor, starts: tuple[int, ...], bands: int, n: int) -> torch.Tensor:
    """Put groups back; bands that several groups hold get the mean of them.

    Parameters
    ----------
    groups : Tensor, shape (n groups, size, y, x)
    starts : tuple of int
    bands, n : int
        Of the result.

    Returns
    -------
    Tensor, shape (n, bands, y, x)
    """
    size, (height, width) = groups.shape[1], groups.shape[-2:]
    places = _places(starts, size, groups.device)
    hits = torch.bincount(places, minlength=bands).to(groups.dtype)
    whole = groups.new_zeros(n, bands, height, width)
    whole = whole.index_add(1, places, groups.reshape(n, len(starts) * size, height, width))
    return whole / hits[:, None, None]
