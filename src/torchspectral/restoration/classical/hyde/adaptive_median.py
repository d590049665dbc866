"""Adaptive median filter: the window grows until its median is no impulse."""

from __future__ import annotations

import torch

from torchspectral.ops.non_local_means import mirrored

CHUNK = 1 << 22
"""Values of windows that are gathered at a time."""


def adaptive_median(images: torch.Tensor, window: int = 21) -> torch.Tensor:
    """Values that are the least or largest of their window give way to its median.

    The smallest window whose median lies strictly between its least and largest value decides; a value strictly between
    these two stays. Where no window up to the largest has such a median, the last median is taken.

    Parameters
    ----------
    images : Tensor, shape (k, y, x)
        Mirrored at the edges.
    window : int
        Side of the largest window, odd [pixel].

    References
    ----------
    Hwang and Haddad, "Adaptive median filters: new algorithms and results", IEEE TIP 4(4), 1995.
    """
    images, half = images.contiguous(), window // 2
    wide = mirrored(images, half)
    out = images.clone()
    width = wide.shape[-1]
    for image, padded, answer in zip(images, wide.reshape(len(wide), -1), out.reshape(len(out), -1), strict=True):
        values = image.reshape(-1)
        rows = torch.arange(image.shape[0], device=image.device) + half
        cols = torch.arange(image.shape[1], device=image.device) + half
        place = (rows[:, None] * width + cols).reshape(-1)
        pending = torch.arange(len(values), device=image.device)
        for reach in range(1, half + 1):
            side = torch.arange(-reach, reach + 1, device=image.device)
            offsets = (side[:, None] * width + side).reshape(-1)
            last, left = reach == half, []
            for part in pending.split(max(1, CHUNK // len(offsets))):
                windows = padded[place[part][:, None] + offsets]
                low, high = windows.amin(1), windows.amax(1)
                middle = windows.median(1).values
                own = values[part]
                sound = (middle > low) & (middle < high)
                settled = sound | last
                keep = (own > low) & (own < high) & sound
                answer[part[settled]] = torch.where(keep, own, middle)[settled]
                left.append(part[~settled])
            pending = torch.cat(left)
            if not len(pending):
                break
    return out
