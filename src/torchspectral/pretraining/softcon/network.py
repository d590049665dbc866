"""Queries, keys and queue of soft contrastive pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import normalize

from torchspectral.learn.average import follow, follower
from torchspectral.learn.heads.projection import ContrastiveProjection
from torchspectral.learn.losses.contrastive import InfoNCE
from torchspectral.learn.losses.intl import projector
from torchspectral.learn.losses.soft_contrastive import SoftContrastive, SoftTerms
from torchspectral.pretraining.softcon.masking import encode_masked

Style = Literal["moco-v2", "moco-v3"]


class SoftCon(nn.Module):
    """An encoder that learns, and its moving average that makes the keys.

    Parameters
    ----------
    backbone : Module
        A `Backbone`.
    style : {"moco-v2", "moco-v3"}
        Two-layer projection and a queue of earlier keys (ResNet); or three layers, a predictor for the queries, and the
        batch as negatives (transformers).
    hidden, outputs : int
        Widths of the projection.
    queue : int
        Keys that are kept, with "moco-v2".
    temperature, weight : float
        See `SoftContrastive`.

    Attributes
    ----------
    backbone, projection, predictor : Module
        Of the queries.
    momentum_backbone, momentum_projection : Module
        Of the keys; moved by `follow` after each step.
    queue : InfoNCE
        Holder of the earlier keys, saved with the network; empty with "moco-v3".

    References
    ----------
    Wang, Albrecht, Zhu, "Multi-label guided soft contrastive learning for efficient Earth observation pretraining",
    IEEE TGRS (2024). Chen, Fan, Girshick, He, "Improved baselines with momentum contrastive learning" (2020). Chen, Xie,
    He, "An empirical study of training self-supervised vision transformers", ICCV (2021).
    """

    def __init__(
        self,
        backbone: nn.Module,
        style: Style = "moco-v2",
        hidden: int = 2048,
        outputs: int = 128,
        queue: int = 65536,
        temperature: float = 0.2,
        weight: float = 0.1,
    ) -> None:
        super().__init__()
        dim = int(backbone.dim)  # type: ignore[arg-type]
        self.backbone = backbone
        self.projection: nn.Module
        self.predictor: nn.Module
        if style == "moco-v2":
            self.projection, self.predictor = ContrastiveProjection(dim, hidden, outputs), nn.Identity()
        else:
            self.projection = projector(dim, hidden, outputs, 3)
            self.predictor = projector(outputs, hidden, outputs, 2)
        self.momentum_backbone, self.momentum_projection = follower(backbone), follower(self.projection)
        self.queue = InfoNCE(outputs, queue if style == "moco-v2" else 0, temperature)
        self.loss = SoftContrastive(temperature, weight)

    def forward(
        self, views: Sequence[torch.Tensor], labels: torch.Tensor, hidden: Sequence[torch.Tensor | None] = (None, None)
    ) -> SoftTerms:
        """Loss of one batch; in training its keys go into the queue afterwards.

        Parameters
        ----------
        views : two Tensor (n, bands, y, x)
        labels : Tensor (n, classes)
            Rows of zeros are unlabelled.
        hidden : two Tensor (n, 1, rows, cols) or None
            Patches that the queries' branch does not see.

        Raises
        ------
        BadInput, BandMismatch
        """
        seen = [encode_masked(self.backbone, v, h) for v, h in zip(views, hidden, strict=True)]
        queries = [self.predictor(self.projection(feature)) for feature in seen]
        with torch.no_grad():
            keys = [self.momentum_projection(self.momentum_backbone.forward_features(v)) for v in views]  # type: ignore[operator]
        with torch.autocast(queries[0].device.type, enabled=False):
            earlier = self.queue.keys if len(self.queue.keys) else None
            terms = self.loss((queries[0], keys[0]), (queries[1], keys[1]), labels, earlier)
            if earlier is not None and self.training:
                for key in keys:
                    self.queue.enqueue(normalize(key.float(), dim=1))
        return terms

    def follow(self, momentum: float) -> None:
        """Move the keys' networks towards the queries'; `momentum` 0..1."""
        follow(self.momentum_backbone, self.backbone, momentum)
        follow(self.momentum_projection, self.projection, momentum)
