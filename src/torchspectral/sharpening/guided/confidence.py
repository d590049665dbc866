"""How far guided fusion can be trusted, band by band and place by place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from torchspectral.engine.method import State, Tile
from torchspectral.ops.axis import AxisOperator, apply, correlation
from torchspectral.sharpening.guided.views import patterns, window_shape


def explained_around(
    tile: Tile,
    low: torch.Tensor,
    valid: torch.Tensor,
    state: State,
    window: int,
    share_of: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Share of each band's variance that the guides explain around each coarse core pixel, 0..1.

    Parameters
    ----------
    low, valid : Tensor, shape (n, K, y, x)
        Guides as the cube's sensor sees them, over the window, and where they are seen.
    state : dict
        Of the fit.
    window : int
        Side of the neighbourhood [coarse pixel].
    share_of : callable
        Share over the scene, (band,), with the kept guides that are True: for pixels where some are masked.

    Returns
    -------
    Tensor, shape (n, band, y, x)
        Float64.
    """
    kept = state["kept"].to(low.device)
    cube = tile["cube"].double()
    seen = valid[:, kept].all(1, keepdim=True)
    use = (seen & tile.valid).double()

    def column(name: str) -> torch.Tensor:
        return torch.as_tensor(state[name]).to(low.device, torch.float64)[None, :, None, None]

    coef = state["coef"].to(low.device, torch.float64)
    rest = cube - column("band_mean") - torch.einsum("kb,nkyx->nbyx", coef, low - column("low_mean"))
    inside = (
        slice(tile.inner.row - tile.window.row, tile.inner.row - tile.window.row + tile.inner.height),
        slice(tile.inner.col - tile.window.col, tile.inner.col - tile.window.col + tile.inner.width),
    )
    size = window | 1
    box = [correlation(n, np.full(size, 1 / size), "edge") for n in window_shape(tile)]
    rows, cols = (AxisOperator(b.matrix[s]) for b, s in zip(box, inside, strict=True))
    error, weight = apply(rest.square() * use, rows, cols), apply(use, rows, cols)
    variance = column("variance")
    flat = variance <= 0
    around = 1 - error / weight.clamp_min(1e-9) / torch.where(flat, 1.0, variance)
    around = torch.where(flat | (weight < 1e-9), 0.0, around).clamp(0, 1)
    seen = tile.core(seen)
    if not bool(kept.any()):
        return torch.zeros_like(around)
    if not bool(seen.all()):
        among = tile.core(valid)[:, kept]
        for item in range(around.shape[0]):
            flat_view = around[item].flatten(1)
            for chosen, where in patterns(among[item].flatten(1)):
                if not bool(chosen.all()):
                    flat_view[:, where] = share_of(chosen).to(around)[:, None]
    return around
