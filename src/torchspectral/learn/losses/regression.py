"""Errors of several targets at once."""

from __future__ import annotations

import torch

from torchspectral.errors import BadInput


def relative_error(predicted: torch.Tensor, target: torch.Tensor, baseline: torch.Tensor | float = 0.0) -> torch.Tensor:
    """HyperView's score: mean over the targets of the squared error relative to that of a constant predictor.

    Parameters
    ----------
    predicted, target : Tensor (n, targets)
    baseline : Tensor (targets,) or float
        What the constant predictor says; 0 for standardised targets.

    Returns
    -------
    Tensor, scalar
        1 for a model as good as the constant.

    Raises
    ------
    BadInput
        Shapes differ, or a target equals the constant in all samples.

    References
    ----------
    Nalepa et al., "The HYPERVIEW challenge: estimating soil parameters from hyperspectral images", ICIP (2022).
    """
    if predicted.shape != target.shape or predicted.ndim != 2 or not len(target):
        raise BadInput(f"got {tuple(predicted.shape)} and {tuple(target.shape)}, expected two of (samples, targets)")
    constant = (target - baseline).square().mean(0)
    if bool((constant == 0).any()):
        raise BadInput("a target equals the baseline in all samples: the error relative to it is undefined")
    return ((predicted - target).square().mean(0) / constant).mean()
