"""Bands of SoftCon's two modalities, their statistics, and how values become the network's input."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch

from torchspectral.backbones.base import Bands
from torchspectral.errors import BandMismatch

Modality = Literal["sentinel-2", "sentinel-1"]
STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "sentinel-2": (
        (1612.9, 1397.6, 1322.3, 1373.1, 1561.0, 2108.4, 2390.7, 2318.7, 2581.0, 837.7, 22.0, 2195.2, 1537.4),
        (791.0, 854.3, 878.7, 1144.9, 1127.5, 1164.2, 1276.0, 1249.5, 1345.9, 577.5, 47.5, 1340.0, 1142.9),
    ),
    "sentinel-1": ((-12.59, -20.26), (5.26, 5.91)),
}
"""Mean and standard deviation a band: top-of-atmosphere reflectance x 10000 (level 1C), backscatter [dB]."""


@lru_cache(maxsize=2)
def softcon_bands(modality: Modality = "sentinel-2") -> Bands:
    """B1 to B8, B8A, B9 to B12 of Sentinel-2, or VV and VH of Sentinel-1."""
    if modality == "sentinel-1":
        return Bands(names=("VV", "VH"), minimum=2, maximum=2)
    from torchspectral.sensors import get

    sensor = get("sentinel-2a")
    return Bands(
        wavelengths=tuple(float(w) for w in sensor.wavelength),
        fwhm=tuple(float(w) for w in sensor.fwhm),
        names=tuple(sensor.names),
    )


def in_steps(
    x: torch.Tensor,
    mean: Sequence[float] | torch.Tensor | None = None,
    std: Sequence[float] | torch.Tensor | None = None,
    modality: Modality = "sentinel-2",
) -> torch.Tensor:
    """Values as the published weights saw them: two standard deviations about the mean to 0..1, in 256 steps.

    Parameters
    ----------
    x : Tensor (n, bands, y, x)
        Sentinel-2: reflectance x 10000 at the top of the atmosphere; Sentinel-1: backscatter [dB]. NaN (nodata)
        becomes the mean.
    mean, std : sequence of float, optional
        One a band; default: of the SSL4EO-S12 set.
    modality : {"sentinel-2", "sentinel-1"}
        Whose statistics to take where none are given.

    Returns
    -------
    Tensor, float32
        0, 1/255, .. 1; steps are rounded down, as a cast to uint8 does.

    Raises
    ------
    BandMismatch
        Not one mean and deviation a band.
    """
    known = STATISTICS[modality]
    centre = torch.as_tensor(known[0] if mean is None else mean, dtype=torch.float32, device=x.device)
    width = torch.as_tensor(known[1] if std is None else std, dtype=torch.float32, device=x.device)
    if x.ndim != 4 or len(centre) != x.shape[1] or len(width) != x.shape[1]:
        raise BandMismatch(
            f"got an input of shape {tuple(x.shape)} with {len(centre)} means and {len(width)} deviations, expected "
            "(images, bands, rows, columns) and one of each a band"
        )
    centre, width = centre[:, None, None], width[:, None, None]
    x = torch.where(torch.isnan(x), centre, x.float())
    return ((x - (centre - 2 * width)) / (4 * width) * 255).clamp(0, 255).floor() / 255
