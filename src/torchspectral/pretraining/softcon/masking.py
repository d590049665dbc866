"""Siamese masking: the queries' branch sees an image with patches hidden, the keys' branch sees all of it."""

from __future__ import annotations

import inspect

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate


def draw_mask(
    rows: int, cols: int, ratio: tuple[float, float], probability: float, rng: np.random.Generator
) -> np.ndarray:
    """Which patches of one view are hidden.

    Parameters
    ----------
    rows, cols : int
        Of patches.
    ratio : (float, float)
        The share that is hidden is drawn evenly between these, 0..1.
    probability : float
        That a view is masked at all.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32 (1, rows, cols)
        1 where hidden.

    References
    ----------
    Zhou et al., "iBOT: image BERT pre-training with online tokenizer", ICLR (2022): half of the views, shares from 0.1
    to 0.5.
    """
    share = rng.uniform(*ratio) if rng.random() < probability else 0.0
    hidden = np.zeros(rows * cols, dtype=np.float32)
    hidden[rng.permutation(rows * cols)[: int(share * rows * cols)]] = 1.0
    return hidden.reshape(1, rows, cols)


def takes_masks(backbone: nn.Module) -> bool:
    """Whether a backbone has a token of its own for hidden patches (``forward(..., masks=...)``)."""
    return "masks" in inspect.signature(backbone.forward).parameters


def encode_masked(backbone: nn.Module, images: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
    """Features (n, dim) of images of which a backbone does not see some patches.

    Parameters
    ----------
    backbone : Module
        A `Backbone`. Where it has no mask token, hidden patches become 0, the mean of standardised values.
    images : Tensor (n, bands, y, x)
    hidden : Tensor (n, 1, rows, cols), optional
        1 where hidden; None: nothing is.
    """
    if hidden is None:
        return backbone.forward_features(images)  # type: ignore[operator]
    if takes_masks(backbone):
        return backbone(images, masks=hidden.flatten(1) > 0.5)
    seen = interpolate(1 - hidden, images.shape[-2:], mode="nearest")
    return backbone.forward_features(images * seen.to(images.dtype))  # type: ignore[operator]
