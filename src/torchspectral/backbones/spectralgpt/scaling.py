"""The three scalings of the published runs: pretraining, patches of segmentation and change, fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from torchspectral.errors import BandMismatch

EUROSAT_MEAN = (752.4, 884.3, 1144.2, 1297.5, 1624.9, 2194.6, 2422.2, 2517.8, 2581.6, 2645.5, 2368.5, 1805.1)
"""Means of the twelve bands over EuroSAT [reflectance times 10 000]."""
EUROSAT_STD = (1108.0, 1155.2, 1183.6, 1368.1, 1370.3, 1355.6, 1416.5, 1474.8, 1439.3, 1582.3, 1455.5, 1343.5)
"""Standard deviations of the same."""


def scale(
    x: torch.Tensor,
    mode: Literal["mu2sigma", "minmax", "minmax-patch"] = "mu2sigma",
    *,
    mean: Sequence[float] = EUROSAT_MEAN,
    std: Sequence[float] = EUROSAT_STD,
) -> torch.Tensor:
    """Bring images to 0..1 as a published run did.

    Parameters
    ----------
    x : Tensor (n, bands, y, x)
        Reflectance times 10 000 for "mu2sigma", any unit else; NaN stays NaN and does not count.
    mode : {"mu2sigma", "minmax", "minmax-patch"}
        "mu2sigma": from two standard deviations below the mean to two above, in 256 steps; fine-tuning on EuroSAT and
        BigEarthNet, and the default for the released weights. "minmax": from the least to the largest value of each
        image and band, (max - min + 1e-10) wide; pretraining, and pictures of reconstructions. "minmax-patch": the
        same without 1e-10 (SegMunich, OSCD); constant bands become 0 where the published code divides 0 by 0.
    mean, std : sequence of float (bands,)
        For "mu2sigma".

    Returns
    -------
    Tensor (n, bands, y, x), float32

    Raises
    ------
    BandMismatch
        Not one mean and standard deviation a band.
    """
    x = x.float()
    if mode == "mu2sigma":
        if not len(mean) == len(std) == x.shape[1]:
            raise BandMismatch(
                f"got {len(mean)} means and {len(std)} deviations, expected one for each of {x.shape[1]}"
            )
        centre, width = (torch.tensor(list(v), device=x.device, dtype=x.dtype)[:, None, None] for v in (mean, std))
        return ((x - (centre - 2 * width)) / (4 * width) * 255).clamp(0, 255).trunc() / 255
    finite = torch.isfinite(x)
    low = torch.where(finite, x, torch.inf).amin((-2, -1), keepdim=True)
    high = torch.where(finite, x, -torch.inf).amax((-2, -1), keepdim=True)
    if mode == "minmax":
        return (x - low) / (high - low + 1e-10)
    return (x - low) / torch.where(high > low, high - low, 1.0)
