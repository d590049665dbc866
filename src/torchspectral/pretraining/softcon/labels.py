"""Labels of scenes, from whatever a patch set knows of them."""

from __future__ import annotations

from typing import Literal

import torch

from torchspectral.errors import BadInput

Guidance = Literal["presence", "shares"]


def scene_labels(
    label: torch.Tensor | None,
    mask: torch.Tensor | None,
    classes: int,
    guidance: Guidance = "presence",
    valid: torch.Tensor | None = None,
) -> torch.Tensor:
    """One row a scene: which classes it has, or how much of each.

    Parameters
    ----------
    label : Tensor (n, 1, 1, 1) or (n, classes, 1, 1), optional
        Number of the class of each scene (negative: unlabelled), or one value a class. Looked at before `mask`.
    mask : Tensor (n, 1, y, x), optional
        Number of the class of each pixel; numbers that are no class (negative, or from `classes` on) are unlabelled.
    classes : int
    guidance : {"presence", "shares"}
        Multi-hot labels as published, or the share of each class in the labelled pixels (ours; from `mask` only, labels
        of whole scenes count as they are).
    valid : Tensor (n, 1, y, x), optional
        0 where a pixel of `mask` is nodata.

    Returns
    -------
    Tensor (n, classes), float32
        A row of zeros is an unlabelled scene.

    Raises
    ------
    BadInput
        Neither is there, or values that are no labels.

    References
    ----------
    Wang, Albrecht, Zhu, IEEE TGRS (2024): presence of nine classes of land cover in a scene.
    """
    if label is not None and label.shape[1] > 1:
        rows = label.flatten(1).float()
        if rows.shape[1] != classes or not bool((rows >= 0).all()):
            raise BadInput(f"got labels of {rows.shape[1]} values, expected {classes}, none of them negative")
        return (rows > 0).float() if guidance == "presence" else rows
    if label is not None:
        return _counted(label.flatten(1), classes)
    if mask is None:
        raise BadInput("got no labels: train on a patch set with labels of scenes or of pixels")
    pixels = mask.flatten(1)
    if valid is not None:
        pixels = torch.where(valid.flatten(1) > 0.5, pixels, -1)
    counts = _counted(pixels, classes)
    if guidance == "presence":
        return (counts > 0).float()
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def _counted(numbers: torch.Tensor, classes: int) -> torch.Tensor:
    """How often each class stands in each row, (n, classes)."""
    known = torch.isfinite(numbers) & (numbers >= 0) & (numbers < classes)
    index = torch.where(known, numbers, classes).long()
    counts = torch.zeros(len(numbers), classes + 1, device=numbers.device)
    return counts.scatter_add_(1, index, torch.ones_like(index, dtype=counts.dtype))[:, :classes]
