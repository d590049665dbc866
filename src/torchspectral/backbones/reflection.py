"""Images brought to the size that an encoder takes, without values of our own making."""

from __future__ import annotations

import torch


def reflected(x: torch.Tensor, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    """Rows `top` to `bottom` and columns `left` to `right` of an image; beyond its edges it is reflected, as often as
    it takes.
    """
    for axis, (start, stop) in ((-2, (top, bottom)), (-1, (left, right))):
        n = x.shape[axis]
        if start >= 0 and stop <= n:
            x = x.narrow(axis, start, stop - start)
            continue
        period = max(2 * (n - 1), 1)
        place = torch.arange(start, stop, device=x.device) % period
        x = x.index_select(axis, torch.minimum(place, period - place) if n > 1 else place * 0)
    return x
