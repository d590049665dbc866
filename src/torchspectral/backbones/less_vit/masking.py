"""Which channels and places Hyper-MAE keeps."""

from __future__ import annotations

import torch

from torchspectral.errors import BadSettings


def channels_to_keep(count: int, ratio: float) -> int:
    """Channels left at a mask ratio: at least 2, where there are 2."""
    return min(max(int(count * (1 - ratio)), 2), count)


def places_to_keep(count: int, ratio: float) -> int:
    """Places left at a mask ratio: at least 1."""
    return max(int(count * (1 - ratio)), 1)


def draw_masks(
    images: int,
    channels: int,
    rows: int,
    places: int,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise for channels (images, channels), then for places (rows, places)."""
    source = device if generator is None else generator.device
    of_channels = torch.rand(images, channels, generator=generator, device=source)
    of_places = torch.rand(rows, places, generator=generator, device=source)
    return of_channels.to(device), of_places.to(device)


def sample_channels(count: int, dropout: tuple[float, float], generator: torch.Generator | None = None) -> torch.Tensor:
    """Hierarchical channel sampling: channels that a batch keeps, in order.

    Parameters
    ----------
    count : int
    dropout : (float, float)
        Share that is left out, drawn evenly between these, 0..1.
    generator : torch.Generator, optional

    Returns
    -------
    Tensor of int, at least 2 where there are 2

    Raises
    ------
    BadSettings

    References
    ----------
    arXiv 2605.18541, hierarchical channel sampling (0.7 to 0.8 left out of 120 channels).
    """
    low, high = dropout
    if not 0 <= low <= high < 1:
        raise BadSettings(f"got channel dropout from {low} to {high}, expected 0 <= low <= high < 1")
    device = None if generator is None else generator.device
    share = low + (high - low) * float(torch.rand((), generator=generator, device=device))
    keep = channels_to_keep(count, share)
    return torch.randperm(count, generator=generator, device=device)[:keep].sort().values
