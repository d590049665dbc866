"""Scene values become what a backbone sees; nodata becomes the mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torchspectral.errors import BadInput, BandMismatch


def standardise(
    x: torch.Tensor,
    mean: Sequence[float] | torch.Tensor,
    std: Sequence[float] | torch.Tensor,
    valid: torch.Tensor | None = None,
) -> torch.Tensor:
    """(x - mean) / std, one of each a band.

    Parameters
    ----------
    x : Tensor (n, bands, y, x)
        In the unit of the statistics (SpectralEarth: reflectance x 10000).
    mean, std : sequence of float or Tensor (bands,)
        Of the weights card.
    valid : Tensor of bool, broadcast to x, optional
        False where nodata; default: where x is not NaN. Nodata becomes 0, the band's mean: leave these pixels out of
        losses and metrics.

    Returns
    -------
    Tensor, float32

    Raises
    ------
    BandMismatch
        Not one mean and deviation a band.
    BadInput
        A deviation that is not positive.
    """
    centre = torch.as_tensor(mean, dtype=torch.float32, device=x.device)
    width = torch.as_tensor(std, dtype=torch.float32, device=x.device)
    if x.ndim != 4 or centre.shape != (x.shape[1],) or width.shape != (x.shape[1],):
        raise BandMismatch(
            f"got an input of shape {tuple(x.shape)}, {centre.numel()} means and {width.numel()} deviations, expected "
            "(images, bands, rows, columns) and one of each a band: choose the statistics of this sensor"
        )
    if not bool((width > 0).all()):
        raise BadInput("a standard deviation is 0, negative or NaN: leave that band out, or correct the statistics")
    seen = ~torch.isnan(x) if valid is None else valid & ~torch.isnan(x)
    scaled = (x.float() - centre[:, None, None]) / width[:, None, None]
    return torch.where(seen, scaled, 0)


def two_deviations(
    x: torch.Tensor, mean: Sequence[float], std: Sequence[float], valid: torch.Tensor | None = None
) -> torch.Tensor:
    """Values two standard deviations below the mean become 0, two above 1, beyond clipped; nodata is 0.

    Parameters
    ----------
    x : Tensor (n, bands, y, x)
    mean, std : sequence of float (bands,)
    valid : Tensor of bool, broadcast to x, optional

    Raises
    ------
    BandMismatch, BadInput
    """
    seen = ~torch.isnan(x) if valid is None else valid & ~torch.isnan(x)
    return torch.where(seen, (standardise(x, mean, std, valid) / 4 + 0.5).clamp(0, 1), 0)
