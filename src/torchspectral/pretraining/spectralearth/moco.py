"""MoCo-v2 as SpectralEarth trains it: a view must find its other view among a queue of earlier patches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from torchspectral.backbones.base import Backbone
from torchspectral.learn.average import follow, follower
from torchspectral.learn.heads.projection import ContrastiveProjection
from torchspectral.learn.losses.contrastive import InfoNCE
from torchspectral.learn.recipe import Batch, TrainingSettings
from torchspectral.learn.views import ViewPlan
from torchspectral.pretraining.base import PretrainingRecipe
from torchspectral.pretraining.settings import PretrainingTraining
from torchspectral.settings import setting


class MoCoTraining(PretrainingTraining):
    """Settings of SpectralEarth's MoCo-v2; shares of the steps are those of its 100 epochs."""

    learning_rate: float = setting(1e-3, "learning rate (the authors' model file has 0.06)", gt=0)
    weight_decay: float = setting(1e-4, "weight decay (L2)", ge=0)
    decay: str = setting(
        "steps",
        "learning rate after the warm-up: steps (a tenth after 60 and 80 percent), cosine or constant",
        pattern="^(cosine|constant|steps)$",
    )
    sgd_momentum: float = setting(0.9, "momentum of the optimiser", ge=0, lt=1)
    hidden: int = setting(2048, "width of the projection head", ge=1)
    outputs: int = setting(128, "length of the projections", ge=1)
    temperature: float = setting(0.1, "temperature of the similarities", gt=0)
    queue: int = setting(32768, "projections of earlier patches that are held against; 0: those of the batch", ge=0)
    momentum: float = setting(0.999, "momentum of the encoder of the keys", ge=0, le=1)
    symmetric: bool = setting(False, "each of the two views is query and key in turn")
    export: Literal["queries", "keys"] = setting("queries", "whose encoder is kept")


class MoCoNetwork(nn.Module):
    """Encoders of queries and keys with their heads, and the loss with its queue.

    Parameters
    ----------
    backbone : Backbone
    head : ContrastiveProjection
    criterion : InfoNCE
    """

    def __init__(self, backbone: Backbone, head: ContrastiveProjection, criterion: InfoNCE) -> None:
        super().__init__()
        self.backbone, self.head, self.criterion = backbone, head, criterion
        self.keys, self.keys_head = follower(backbone), follower(head)
        self.keys.set_grad_checkpointing(False)  # type: ignore[operator]


class MoCoRecipe(PretrainingRecipe):
    """MoCo-v2 with two temporal views.

    References
    ----------
    Chen, Fan, Girshick, He, "Improved baselines with momentum contrastive learning", arXiv 2003.04297 (2020); Braham et
    al., "SpectralEarth", IEEE JSTARS (2025).
    """

    Settings: ClassVar[type[TrainingSettings]] = MoCoTraining
    method: ClassVar[str] = "spectralearth-moco"

    def plans(self) -> tuple[ViewPlan, ...]:
        """Two views alike."""
        return self.plan(), self.plan()

    def network(self, backbone: Backbone) -> nn.Module:
        """Both encoders and the queue."""
        s = self.settings
        head = ContrastiveProjection(backbone.dim, s.hidden, s.outputs)
        return MoCoNetwork(backbone, head, InfoNCE(s.outputs, s.queue, s.temperature))

    def encoder(self, network: nn.Module) -> Backbone:
        """The encoder of the queries, or of the keys."""
        found: Any = network.backbone if self.settings.export == "queries" else network.keys
        return found  # type: ignore[no-any-return]

    def optimiser(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """SGD with momentum."""
        s = self.settings
        return torch.optim.SGD(self.groups(parameters), lr=s.learning_rate, momentum=s.sgd_momentum)

    def projections(self, model: Any, batch: Batch) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Queries of one view (or both), and the keys of the other, (n, outputs) each."""
        one, two = (self.inputs(model.backbone, view) for view in self.views(batch))
        pairs = [(one, two), (two, one)] if self.settings.symmetric else [(one, two)]
        with torch.no_grad():
            keys = [model.keys_head(self.features(model.keys, key)) for _, key in pairs]
        return [model.head(self.features(model.backbone, query)) for query, _ in pairs], keys

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Cross entropy of the right key against the queue."""
        queries, keys = self.projections(model, batch)
        criterion: Any = model.criterion
        terms = [criterion(query, key, update=False) for query, key in zip(queries, keys, strict=True)]
        if model.training and self.settings.queue:
            criterion.enqueue(nn.functional.normalize(keys[0].float(), dim=1))
        found: torch.Tensor = torch.stack(terms).mean()
        return found

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Loss; share of the patches whose view is nearer to its other view than to any other of the batch; mean
        similarity of views of different patches (near 1 is a collapse).
        """
        queries, keys = self.projections(model, batch)
        query, key = (nn.functional.normalize(x.float(), dim=1) for x in (queries[0], keys[0]))
        alike = query @ key.T
        right = (alike.argmax(1) == torch.arange(len(alike), device=alike.device)).float().mean()
        others = (alike.sum() - alike.trace()) / max(alike.numel() - len(alike), 1)
        loss = model.criterion(queries[0], keys[0])  # type: ignore[operator]
        return {"loss": float(loss), "found": float(right), "similarity": float(others)}

    def after_step(self, model: nn.Module, step: int) -> None:
        """The encoder of the keys moves towards that of the queries."""
        follow(model.keys, model.backbone, self.settings.momentum)  # type: ignore[arg-type]
        follow(model.keys_head, model.head, self.settings.momentum)  # type: ignore[arg-type]
