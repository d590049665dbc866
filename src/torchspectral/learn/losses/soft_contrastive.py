"""SoftCon's loss: contrast of views, guided by how alike the labels of two scenes are.

References
----------
Wang, Albrecht, Zhu, "Multi-label guided soft contrastive learning for efficient Earth observation pretraining",
IEEE TGRS (2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

from torchspectral.errors import BadInput, BadSettings
from torchspectral.learn.losses.contrastive import at_least_float32, check_pair, check_temperature
from torchspectral.learn.losses.gather import gather_batch


@dataclass(frozen=True)
class SoftTerms:
    """Value of the loss and its parts, scalars: ``total = contrast + weight * soft``."""

    total: torch.Tensor
    contrast: torch.Tensor
    soft: torch.Tensor


def check_labels(labels: torch.Tensor) -> None:
    """Refuse labels that are neither presence nor shares.

    Raises
    ------
    BadInput
    """
    if labels.ndim != 2:
        raise BadInput(f"got labels of shape {tuple(labels.shape)}, expected (scenes, classes)")
    if not bool((labels >= 0).all()) or not bool(torch.isfinite(labels).all()):
        raise BadInput("labels have values that are negative or not finite, expected presence (0, 1) or shares (0..1)")


def label_similarity(labels: torch.Tensor) -> torch.Tensor:
    """Cosine between the labels of scenes, (n, n), 0..1.

    Parameters
    ----------
    labels : Tensor (n, classes)
        Presence (0 or 1), or the share of each class (an extension of ours); rows of zeros are unlabelled and get 0.

    Raises
    ------
    BadInput
        Negative or not finite.
    """
    check_labels(labels)
    labels = at_least_float32(labels)
    rows = normalize(labels, dim=1)
    return rows @ rows.T


def soft_term(similarity: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean binary cross entropy of the views' similarity against the labels', over pairs of labelled scenes.

    Parameters
    ----------
    similarity : Tensor (n, n)
        Cosines of the first views (rows) and the second (columns).
    labels : Tensor (n, classes)
    temperature : float

    Returns
    -------
    Tensor, scalar
        0 where no scene is labelled.
    """
    known = labels.sum(1) > 0
    if not bool(known.any()):
        return similarity.sum() * 0
    target = label_similarity(labels[known]).clamp(0, 1).to(similarity.dtype)
    return binary_cross_entropy_with_logits(similarity[known][:, known] / temperature, target)


class SoftContrastive(nn.Module):
    """InfoNCE of two views plus the soft term between all scenes of the batch.

    Embeddings and labels of all processes are joined first. Scenes without a label take part in the contrast, not in
    the soft term.

    Parameters
    ----------
    temperature : float
        Above 0.
    weight : float
        Of the soft term, at least 0.
    """

    def __init__(self, temperature: float = 0.2, weight: float = 0.1) -> None:
        super().__init__()
        check_temperature(temperature)
        if not weight >= 0:
            raise BadSettings(f"weight={weight}, expected at least 0")
        self.temperature, self.weight = temperature, weight

    def terms(
        self, one: torch.Tensor, two: torch.Tensor, labels: torch.Tensor, queue: torch.Tensor | None = None
    ) -> SoftTerms:
        """The loss and its parts for one order of the views.

        Parameters
        ----------
        one, two : Tensor (n, features)
            Projections of two views of the same scenes; need not be normalised.
        labels : Tensor (n, classes)
            See `label_similarity`.
        queue : Tensor (keys, features), optional
            Earlier keys of a momentum encoder: they replace the batch as negatives of the contrast.

        Raises
        ------
        BadInput
        """
        check_pair(one, two)
        if labels.ndim != 2 or len(labels) != len(one):
            raise BadInput(f"got labels of shape {tuple(labels.shape)} for {len(one)} scenes, expected one row a scene")
        check_labels(labels)
        one, two = (gather_batch(normalize(at_least_float32(view), dim=1)) for view in (one, two))
        labels = gather_batch(at_least_float32(labels))
        similarity = one @ two.T
        logits, target = similarity, torch.arange(len(one), device=one.device)
        if queue is not None:
            logits = torch.cat([similarity.diagonal()[:, None], one @ normalize(queue.to(one.dtype), dim=1).T], 1)
            target = torch.zeros_like(target)
        contrast = cross_entropy(logits / self.temperature, target)
        soft = soft_term(similarity, labels, self.temperature)
        return SoftTerms(contrast + self.weight * soft, contrast, soft)

    def forward(
        self,
        first: tuple[torch.Tensor, torch.Tensor],
        second: tuple[torch.Tensor, torch.Tensor],
        labels: torch.Tensor,
        queue: torch.Tensor | None = None,
    ) -> SoftTerms:
        """Mean over both orders of the views.

        Parameters
        ----------
        first, second : pair of Tensor (n, features)
            Query and key of each view: the query of one view is held against the key of the other.
        labels, queue
            As for `terms`.
        """
        a = self.terms(first[0], second[1], labels, queue)
        b = self.terms(second[0], first[1], labels, queue)
        return SoftTerms((a.total + b.total) / 2, (a.contrast + b.contrast) / 2, (a.soft + b.soft) / 2)
