"""Alike patches of a stack of images, found for all images together."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


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
    found, shifts = [], []
    for down in range(-search, search + 1):
        top, bottom = max(0, -down), min(height, height - down)
        if bottom - top < patch:
            continue
        inside_y = (rows >= top) & (rows + patch <= bottom)
        for right in range(-search, search + 1):
            left, end = max(0, -right), min(width, width - right)
            if end - left < patch:
                continue
            inside_x = (cols >= left) & (cols + patch <= end)
            moved = images[:, top + down : bottom + down, left + right : end + right]
            square = (images[:, top:bottom, left:end] - moved).square().sum(0)
            lines = F.avg_pool2d(square[None, None], (patch, 1), 1)[0, 0, rows[inside_y] - top]
            sums = F.avg_pool2d(lines[None, None], (1, patch), 1)[0, 0][:, cols[inside_x] - left]
            distance = images.new_full((len(rows), len(cols)), math.inf)
            distance[inside_y.nonzero(), inside_x.nonzero()[:, 0]] = sums
            if not (down or right):
                # First also where all is equal: every pixel must be covered by its own patch.
                distance.fill_(-1)
            found.append(distance.reshape(-1))
            shifts.append(down * width + right)
    nearest = torch.stack(found).topk(min(count, len(found)), 0, largest=False)
    start = (rows[:, None] * width + cols).reshape(-1)
    place = start + torch.tensor(shifts, device=images.device)[nearest.indices]
    # A group at the edge may hold fewer patches than asked for: the reference takes the empty places.
    return torch.where(torch.isfinite(nearest.values), place, start).T.contiguous()
