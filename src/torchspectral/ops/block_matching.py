"""Alike patches of a stack of images, found for all images together."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

BLOCK = 1 << 18
"""Values that are worked on at a time: what a cache holds."""


def positions(size: int, patch: int, step: int) -> torch.Tensor:
    """Where reference patches begin along one axis: every `step`, and the last that fits, shape (n,)."""
    starts = list(range(0, size - patch + 1, step))
    if starts[-1] != size - patch:
        starts.append(size - patch)
    return torch.tensor(starts)


def match_patches(
    images: torch.Tensor, *, patch: int = 8, step: int = 4, search: int = 10, count: int = 16
) -> torch.Tensor:
    """For each reference patch the patches that are most alike, by the distance summed over all images.

    Parameters
    ----------
    images : Tensor, shape (k, y, x)
        Sides of at least `patch`. Where each has noise of variance one, one matching serves all and is the more
        reliable the more there are.
    patch : int
        Side of a patch [pixel].
    step : int
        Distance of reference patches [pixel].
    search : int
        Largest shift of a patch from its reference [pixel].
    count : int
        Patches of a group, the reference itself among them; fewer where the window does not hold as many.

    Returns
    -------
    Tensor of int64, shape (references, count)
        Index of the upper left pixel of each patch in the flattened image, most alike first.

    Notes
    -----
    A shift costs one subtraction of the images and one box sum; no pair of patches is ever gathered. Every sum runs over
    the same pixels in the same order wherever the patch lies, so that a tile finds what the scene finds. Memory: one
    float per shift and reference, (2 search + 1)^2 / step^2 times the image.

    References
    ----------
    Dabov, Foi, Katkovnik and Egiazarian, "Image denoising by sparse 3-D transform-domain collaborative filtering", IEEE
    TIP 16(8), 2007, sec. III.
    """
    _, height, width = images.shape
    rows, cols = (positions(n, patch, step).to(images.device) for n in (height, width))
    # Beyond the border lies infinity: a patch that hangs over it is infinitely far away.
    framed = F.pad(images, (search, search, search, search), value=math.inf)
    rights = torch.arange(-search, search + 1, device=images.device)
    found, shifts = [], []
    for down in range(-search, search + 1):
        if height - abs(down) < patch:
            continue
        strip = framed[:, search + down : search + down + height]
        for some in rights[(width - rights.abs()) >= patch].split(max(1, BLOCK // (height * width))):
            first = search + int(some[0])
            moved = strip[:, :, first : first + width + len(some) - 1].unfold(2, width, 1)
            square: torch.Tensor | float = 0.0
            for image, other in zip(images, moved, strict=True):
                square = (other - image[:, None]).square_().add_(square)
            assert isinstance(square, torch.Tensor)
            found.append(_box(_box(square, rows, patch, 0), cols, patch, 2).transpose(0, 1).reshape(len(some), -1))
            shifts.append(down * width + some)
    distance, shift = torch.cat(found), torch.cat(shifts)
    # First also where all is equal: every pixel must be covered by its own patch.
    distance[shift == 0] = -1
    nearest = distance.topk(min(count, len(distance)), 0, largest=False)
    start = (rows[:, None] * width + cols).reshape(-1)
    # A group at the edge may hold fewer patches than asked for: the reference takes the empty places.
    return torch.where(torch.isfinite(nearest.values), start + shift[nearest.indices], start).T.contiguous()


def _box(values: torch.Tensor, starts: torch.Tensor, length: int, axis: int) -> torch.Tensor:
    """Sums of `length` values from each start on, added one after the other."""
    total = values.index_select(axis, starts)
    for offset in range(1, length):
        total += values.index_select(axis, starts + offset)
    return total
