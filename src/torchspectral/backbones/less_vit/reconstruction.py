"""Targets and loss of Hyper-MAE."""

from __future__ import annotations

import torch


def standardise_patches(patches: torch.Tensor) -> torch.Tensor:
    """Each patch with mean 0 and unbiased variance 1 (+ 1e-6)."""
    mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def image_of_patches(patches: torch.Tensor, grid_size: tuple[int, int]) -> torch.Tensor:
    """Patches (n, C, N, p * p) back in their places, (n, C, H, W)."""
    n, c, _, pixels = patches.shape
    side, (rows, cols) = round(pixels**0.5), grid_size
    return patches.reshape(n, c, rows, cols, side, side).transpose(3, 4).reshape(n, c, rows * side, cols * side)


def reconstruction_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    channel_mask: torch.Tensor,
    position_mask: torch.Tensor,
    radar: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Error over hidden places, and error over hidden channels.

    Parameters
    ----------
    prediction, target : Tensor (n, C, N, p * p)
    channel_mask, position_mask : Tensor (n, C), (n, N)
        1 where hidden.
    radar : int
        The last so many channels are radar beside optical ones: each term is then the mean of both parts, without a
        test for nodata, as in the first paper's code.

    Returns
    -------
    Tensor ()
        Mean over hidden places of the mean error over all channels, hidden or not.
    Tensor ()
        Mean over hidden channels of the mean error over all places.

    Notes
    -----
    Without radar, pixels whose target is exactly 0 are nodata: they do not count, nor do places and channels that hold
    nothing else.

    References
    ----------
    arXiv 2503.12843 (2025), section 3.3.
    """
    squared = (prediction - target).square()
    if radar:
        parts = [slice(0, -radar), slice(-radar, None)]
        error = squared.mean(-1)
        position = sum(_mean(error[:, part].mean(1), position_mask) for part in parts) / 2
        channel = sum(_mean(error[:, part].mean(2), channel_mask[:, part]) for part in parts) / 2
        return torch.as_tensor(position), torch.as_tensor(channel)
    valid = (target != 0).to(squared.dtype)
    error = (squared * valid).sum(-1) / (valid.sum(-1) + 1e-8)
    seen = valid.amax(-1)  # n, C, N
    position = _mean(error.mean(1), position_mask * seen.amax(1))
    channel = _mean(error.mean(2), channel_mask * seen.amax(2))
    return position, channel


def _mean(error: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    return (error * counted).sum() / counted.sum().clamp(min=1.0)
