"""DINO as SpectralEarth trains it: a student learns what its own moving average says of another view."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import nn

from torchspectral.backbones.base import Backbone
from torchspectral.backbones.spectralearth.sizes import features_at
from torchspectral.errors import BadSettings
from torchspectral.learn.average import follow, follower
from torchspectral.learn.heads.projection import DINOProjection
from torchspectral.learn.losses.dino import DINOLoss
from torchspectral.learn.recipe import Batch, TrainingSettings
from torchspectral.learn.schedules import cosine
from torchspectral.learn.views import ViewPlan
from torchspectral.pretraining.base import PretrainingRecipe
from torchspectral.pretraining.settings import PretrainingTraining
from torchspectral.settings import setting


class DINOTraining(PretrainingTraining):
    """Settings of SpectralEarth's DINO; shares of the steps are those of its 100 epochs."""

    learning_rate: float = setting(1e-3, "learning rate", gt=0)
    weight_decay: float = setting(1e-5, "weight decay", ge=0)
    warm_up: float = setting(0.2, "share of the steps in which the learning rate rises", ge=0, lt=1)
    crop_least: float = setting(0.05, "least share of a patch's area that a view shows", gt=0, le=1)
    outputs: int = setting(128, "length of the projections (32768 where the method was first published)", ge=2)
    hidden: int = setting(2048, "width of the projection head", ge=1)
    bottleneck: int = setting(256, "width of its last layer but one", ge=1)
    head_norm: bool = setting(False, "batch normalisation in the projection head")
    frozen: float = setting(0.01, "share of the steps in which the head's last layer does not learn", ge=0, le=1)
    student_temperature: float = setting(0.1, "temperature of the student", gt=0)
    teacher_temperature: float = setting(0.04, "temperature of the teacher after its warm-up", gt=0)
    first_temperature: float = setting(0.04, "temperature of the teacher at first", gt=0)
    temperature_warm_up: float = setting(
        0.1, "share of the steps in which the teacher's temperature goes there", ge=0, le=1
    )
    centre_momentum: float = setting(0.9, "momentum of the centre of the teacher's outputs", ge=0, le=1)
    momentum: float = setting(
        0.996, "momentum of the teacher at first; 1 after `momentum_share`, by a cosine", ge=0, le=1
    )
    momentum_share: float = setting(
        1.0, "share of the steps in which the teacher's momentum goes to 1 (published: 0.1, so that the teacher then stands)",
        gt=0, le=1,
    )  # fmt: skip
    locals: int = setting(0, "small views of a patch, which the student alone sees", ge=0)
    local_size: int = setting(48, "side of the small views", unit="pixel", ge=1)
    local_least: float = setting(0.05, "least share of a patch's area that a small view shows", gt=0, le=1)
    local_most: float = setting(0.4, "largest share of a patch's area that a small view shows", gt=0, le=1)
    export: Literal["teacher", "student"] = setting("teacher", "whose encoder is kept")


class DINONetwork(nn.Module):
    """Student and teacher with their heads, and the loss with its centre.

    Parameters
    ----------
    backbone : Backbone
    head : DINOProjection
    criterion : DINOLoss
    """

    def __init__(self, backbone: Backbone, head: DINOProjection, criterion: DINOLoss) -> None:
        super().__init__()
        self.backbone, self.head, self.criterion = backbone, head, criterion
        self.teacher, self.teacher_head = follower(backbone), follower(head)
        self.teacher.set_grad_checkpointing(False)  # type: ignore[operator]


class DINORecipe(PretrainingRecipe):
    """DINO with two temporal views; small views where asked for.

    References
    ----------
    Caron et al., "Emerging properties in self-supervised vision transformers", ICCV (2021); Braham et al.,
    "SpectralEarth", IEEE JSTARS (2025).
    """

    Settings: ClassVar[type[TrainingSettings]] = DINOTraining
    method: ClassVar[str] = "spectralearth-dino"

    def plans(self) -> tuple[ViewPlan, ...]:
        """Two large views, then the small ones."""
        s = self.settings
        small = self.plan(size=s.local_size, scale=(s.local_least, s.local_most)) if s.locals else None
        return (self.plan(), self.plan(), *([small] * s.locals if small else []))

    def network(self, backbone: Backbone) -> nn.Module:
        """Student, teacher and centre."""
        s = self.settings
        if s.locals and s.local_size % backbone.stride:
            raise BadSettings(
                f"local_size={s.local_size}, expected a multiple of the backbone's {backbone.stride} pixels"
            )
        head = DINOProjection(backbone.dim, s.outputs, s.hidden, s.bottleneck, s.head_norm)
        criterion = DINOLoss(
            s.outputs, s.teacher_temperature, s.first_temperature, round(s.temperature_warm_up * s.steps),
            s.student_temperature, s.centre_momentum,
        )  # fmt: skip
        return DINONetwork(backbone, head, criterion)

    def encoder(self, network: nn.Module) -> Backbone:
        """The teacher, or the student."""
        found: Any = network.teacher if self.settings.export == "teacher" else network.backbone
        return found  # type: ignore[no-any-return]

    def projections(self, model: Any, batch: Batch) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What the teacher says of the large views and the student of all, (n, outputs) each."""
        seen = [self.inputs(model.backbone, view) for view in self.views(batch)]
        with torch.no_grad():
            teacher = list(model.teacher_head(features_at(model.teacher, torch.cat(seen[:2]))).chunk(2))
        student = list(model.head(features_at(model.backbone, torch.cat(seen[:2]))).chunk(2))
        if seen[2:]:
            small = torch.cat(seen[2:])
            student += model.head(features_at(model.backbone, small)).chunk(len(seen) - 2)
        return teacher, student

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Cross entropy over pairs of different views."""
        teacher, student = self.projections(model, batch)
        found: torch.Tensor = model.criterion(teacher, student, self.done)  # type: ignore[operator]
        return found

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Loss; entropy of what the teacher says of a view and of all views together (0..1 of the largest possible: of
        a view near 1, or of all near 0, is a collapse); share of patches whose two views are given the same output.
        """
        teacher, student = self.projections(model, batch)
        criterion: Any = model.criterion
        said = torch.softmax((torch.cat(teacher).float() - criterion.center[0]) / criterion.temperature(self.done), -1)
        top = torch.log(torch.tensor(float(said.shape[1])))
        return {
            "loss": float(criterion(teacher, student, self.done)),
            "entropy": float(_entropy(said).mean() / top),
            "entropy_of_all": float(_entropy(said.mean(0)) / top),
            "agreement": float((student[0].argmax(1) == teacher[1].argmax(1)).float().mean()),
        }

    def before_update(self, model: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
        """Weight decay of the step; the head's last layer waits at first."""
        super().before_update(model, optimiser, step)
        head: Any = model.head
        head.drop_last_gradient(0 if step < self.settings.frozen * self.settings.steps else head.frozen_epochs)

    def teacher_momentum(self, step: int) -> float:
        """Momentum of the teacher at a step."""
        return cosine(self.settings.momentum, 1.0, self.share(step) / self.settings.momentum_share)

    def after_step(self, model: nn.Module, step: int) -> None:
        """The teacher moves towards the student."""
        momentum = self.teacher_momentum(step - 1)
        follow(model.teacher, model.backbone, momentum)  # type: ignore[arg-type]
        follow(model.teacher_head, model.head, momentum)  # type: ignore[arg-type]

    def scheduled(self, step: int) -> dict[str, float]:
        """Momentum of the teacher."""
        return {**super().scheduled(step), "teacher_momentum": self.teacher_momentum(step)}


def _entropy(shares: torch.Tensor) -> torch.Tensor:
    return -(shares * torch.log(shares.clamp(min=1e-12))).sum(-1)
