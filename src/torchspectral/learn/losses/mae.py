"""Error of masked autoencoders over the patches that the encoder did not see.

References
----------
He et al., "Masked autoencoders are scalable vision learners", CVPR (2022).
"""

from __future__ import annotations

import torch

from torchspectral.errors import BadInput
from torchspectral.learn.losses.gather import mean_over_processes

EPSILON = 1e-6


def masked_error(
    predicted: torch.Tensor,
    target: torch.Tensor,
    *,
    normalised: bool = True,
    valid: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared error over masked patches; the mean over processes is that over all of their values.

    Parameters
    ----------
    predicted, target : Tensor (n, masked, values)
        Values of each masked patch.
    normalised : bool
        Bring each patch of the target to mean 0 and standard deviation 1 first (unbiased variance + 1e-6).
    valid : Tensor of bool (n, masked, values), optional
        False where the target is nodata: these values count neither in the error nor in the patch's mean and variance.

    Returns
    -------
    Tensor, scalar
        0 where nothing is valid.

    Raises
    ------
    BadInput
        Shapes differ.
    """
    if predicted.shape != target.shape or predicted.ndim != 3 or (valid is not None and valid.shape != target.shape):
        shapes = [tuple(t.shape) for t in (predicted, target, *([] if valid is None else [valid]))]
        raise BadInput(f"got shapes {shapes}, expected one shape (images, masked patches, values)")
    if valid is None:
        valid = torch.ones((), dtype=torch.bool, device=target.device).expand(target.shape)
    target = torch.where(valid, target, 0).to(predicted.dtype)
    if normalised:
        count = valid.sum(-1, keepdim=True)
        mean = target.sum(-1, keepdim=True) / count.clamp(min=1)
        centred = torch.where(valid, target - mean, 0)
        variance = centred.square().sum(-1, keepdim=True) / (count - 1).clamp(min=1)
        target = centred / (variance + EPSILON).sqrt()
    wrong = torch.where(valid, predicted - target, 0).square()
    return wrong.sum() / mean_over_processes(valid.sum()).clamp(min=1).to(wrong.dtype)
