"""What labels say of a batch, and how far logits are from it."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from torchspectral.classification.labels import IGNORED
from torchspectral.classification.tuned.network import DENSE
from torchspectral.learn.recipe import Batch


def truth_of(batch: Batch, task: str, classes: int, unlabelled: int = IGNORED) -> torch.Tensor:
    """Class indices (n, y, x) or (n,), -1 unknown; sets of classes (n, classes).

    The role ``label`` of patch sets goes before ``mask``.
    """
    if task in DENSE:
        marks = _marks(batch, unlabelled)
        return torch.where(batch["valid"][:, 0] > 0, marks, IGNORED) if "valid" in batch else marks
    if "label" in batch:
        label = batch["label"]
        if task == "multilabel":
            return label[:, :, 0, 0]
        return label[:, 0, 0, 0].long()
    marks = _marks(batch, unlabelled)
    counts = torch.stack([(marks == c).flatten(1).sum(1) for c in range(classes)], 1)
    if task == "multilabel":
        return (counts > 0).float()
    return torch.where(counts.sum(1) > 0, counts.argmax(1), IGNORED)


def _marks(batch: Batch, unlabelled: int) -> torch.Tensor:
    marks = batch["mask"][:, 0].long()
    return torch.where(marks == unlabelled, IGNORED, marks)


def loss_of(logits: torch.Tensor, truth: torch.Tensor, task: str, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Cross-entropy over what is labelled, weighted by class; 0 where nothing is."""
    if task == "multilabel":
        return binary_cross_entropy_with_logits(logits, truth.to(logits))
    if not bool((truth >= 0).any()):
        return logits.sum() * 0.0
    return cross_entropy(logits, truth.long(), weight=weights, ignore_index=IGNORED)


def share_right(logits: torch.Tensor, truth: torch.Tensor, task: str) -> dict[str, float]:
    """Share of the labelled places, or of all pairs of image and class, that are right."""
    if task == "multilabel":
        return {"accuracy": float(((logits > 0) == (truth > 0)).float().mean())}
    known = truth >= 0
    right = (logits.argmax(1) == truth)[known].float()
    return {"oa": float(right.mean()) if right.numel() else 1.0}
