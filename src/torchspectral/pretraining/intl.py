"""INTL and INTL-M: whitened views that are drawn together, kept from collapse by a trace loss."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import nn

from torchspectral.backbones.base import Backbone
from torchspectral.backbones.spectralearth.sizes import features_at
from torchspectral.errors import BadSettings
from torchspectral.learn.losses.intl import INTL, INTLLoss, momentum_at, projector
from torchspectral.learn.recipe import Batch, TrainingSettings
from torchspectral.learn.views import ViewPlan
from torchspectral.pretraining.base import PretrainingRecipe
from torchspectral.pretraining.settings import PretrainingTraining
from torchspectral.settings import setting

MULTI_CROP = (
    (1.0, 0.2, 1.0), (1.0, 0.2, 1.0), (6 / 7, 0.171, 0.857), (5 / 7, 0.143, 0.714), (4 / 7, 0.114, 0.571),
    (3 / 7, 0.086, 0.429),
)  # fmt: skip
"""Side over that of the first view (224, 224, 192, 160, 128, 96 pixels), least and largest share of the area."""


class INTLTraining(PretrainingTraining):
    """Settings of the paper's ImageNet runs of 100 epochs; gain and offset stand for its colours."""

    backbone: str = setting("intl-resnet50", "encoder, see `torchspectral.create_model`")
    batch: int = setting(256, "patches in a step, over all devices; the loss looks at all of them at once", ge=2)
    learning_rate: float = setting(0.5, "learning rate of a batch of 256; it grows with the batch", gt=0)
    weight_decay: float = setting(1e-5, "weight decay", ge=0)
    decay_vectors: bool = setting(False, "weight decay also of biases and normalisations")
    sgd_momentum: float = setting(0.9, "momentum of the optimiser", ge=0, lt=1)
    warm_up: float = setting(0.02, "share of the steps in which the learning rate rises", ge=0, lt=1)
    final_rate: float = setting(0.001, "share of the learning rate after the last step of the cosine", ge=0, le=1)
    multi_crop: bool = setting(False, "six views of falling size in place of two")
    blur: float = setting(
        1.0, "share of first views that are blurred; the second: a tenth of it; all of six: half", ge=0, le=1
    )
    jitter: float = setting(
        0.4, "views are brighter or darker by a gain within 1 +- jitter, all bands alike", ge=0, lt=1
    )
    hidden: int = setting(8192, "width of the projection", ge=1)
    outputs: int = setting(8192, "length of the embeddings, more than the batch (axis 0)", ge=2)
    layers: int = setting(3, "layers of the projection", ge=1)
    axis: int = setting(0, "0 whitens the samples over the features, 1 the features over the batch", ge=0, le=1)
    iterations: int = setting(4, "Newton steps of the whitening, T", ge=0)
    trade_off: float = setting(-1.0, "weight of the trace loss, beta; -1: 0.01 (log2 B - 3), B the whole batch", ge=-1)


class INTLMTraining(INTLTraining):
    """Settings of INTL-M: momentum encoder and multi-crop."""

    multi_crop: bool = setting(True, "six views of falling size in place of two")
    momentum: float = setting(0.996, "momentum of the target's networks at first; 1 after the last step", ge=0, le=1)


class INTLRecipe(PretrainingRecipe):
    """INTL: every view is held against the first.

    The loss is that of the whole batch, over all devices; a batch in parts (`accumulate`) is another loss and is refused.

    References
    ----------
    Weng, Ni, Song, Luo, Anwer, Khan, Khan, Huang, "Modulate your spectrum in self-supervised learning", ICLR 2024,
    arXiv:2305.16789.
    """

    Settings: ClassVar[type[TrainingSettings]] = INTLTraining
    method: ClassVar[str] = "intl"
    families: ClassVar[tuple[str, ...]] = (
        "intl-resnet", "spec-vit-", "spec-resnet50", "enmap-vit-", "enmap-resnet50", "softcon-",
    )  # fmt: skip
    averaged: ClassVar[bool] = False

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        s = self.settings
        if s.accumulate > 1:
            raise BadSettings(
                f"accumulate={s.accumulate}: the whitening needs the whole batch at once: leave it at 1, lower batch"
            )
        if (s.outputs <= s.batch) if s.axis == 0 else (s.batch <= s.outputs):
            want = "more outputs than patches" if s.axis == 0 else "more patches than outputs"
            raise BadSettings(f"outputs={s.outputs} with batch={s.batch}: axis {s.axis} needs {want} in a batch")

    def plans(self) -> tuple[ViewPlan, ...]:
        """Two views as large as the encoder's images, or six of which the later ones are smaller."""
        s = self.settings
        if not s.multi_crop:
            return (self.plan(), self.plan(blur=s.blur / 10))
        plans = []
        for side, least, most in MULTI_CROP:
            size = max(round(side * self.view_size / self.steps_of_size), 1) * self.steps_of_size
            plans.append(self.plan(size=min(size, self.view_size), scale=(least, most), blur=s.blur / 2))
        return tuple(plans)

    @cached_property
    def steps_of_size(self) -> int:
        """Sides of views are multiples of it: the patch of a transformer."""
        if "-vit-" not in self.settings.backbone:
            return 1
        with torch.device("meta"):
            return int(self.backbone().stride)

    def network(self, backbone: Backbone) -> nn.Module:
        """Encoder, projector and loss; with averaged copies for INTL-M."""
        s = self.settings
        criterion = INTLLoss(
            s.axis, s.iterations, "auto" if s.trade_off < 0 else s.trade_off, momentum=self.averaged, guard=False
        )
        return INTL(_Features(backbone), projector(backbone.dim, s.hidden, s.outputs, s.layers), criterion)

    def encoder(self, network: nn.Module) -> Backbone:
        """The encoder that learns."""
        found: Any = network.backbone
        inner: Backbone = found.backbone
        return inner

    def momentum(self, step: int) -> float | None:
        """Momentum of the target's networks in a step; None where there are none."""
        return None

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Similarity with the first view, and trace loss; the target's networks move before the forward pass."""
        encoder = self.encoder(model)
        seen = [self.inputs(encoder, view) for view in self.views(batch)]
        return model(seen, self.momentum(self.done) if model.training else None)

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Loss and its parts, and the effective rank of the embeddings: 1 is a collapse.

        The loss of a batch of another size than the training's is another loss: compare its parts.
        """
        loss: Any = model.loss
        value = float(self.loss(model, batch))
        parts = {name: float(part) for name, part in loss.parts.items() if name != "trade_off"}
        return {"loss": value, **parts, "effective_rank": loss.effective_rank()}

    def optimiser(self, parameters: Any) -> torch.optim.Optimizer:
        """SGD; the rate grows with the batch."""
        s = self.settings
        rate = s.learning_rate * s.batch / 256
        return torch.optim.SGD(self.groups(parameters), lr=rate, momentum=s.sgd_momentum)


class INTLMRecipe(INTLRecipe):
    """INTL-M: averaged networks make the target from the first view.

    References
    ----------
    Weng et al., ICLR 2024, arXiv:2305.16789.
    """

    Settings: ClassVar[type[TrainingSettings]] = INTLMTraining
    method: ClassVar[str] = "intl-m"
    averaged: ClassVar[bool] = True

    def momentum(self, step: int) -> float:
        """From that of the settings to 1, along half a cosine."""
        return momentum_at(step, self.settings.steps, self.settings.momentum)

    def scheduled(self, step: int) -> dict[str, float]:
        """Momentum of the target's networks."""
        return {**super().scheduled(step), "target_momentum": self.momentum(step)}


class _Features(nn.Module):
    """An encoder as a function from images of any size to features."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return features_at(self.backbone, x)
