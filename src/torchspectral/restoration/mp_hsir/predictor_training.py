"""Training of the network that says which degradations an image has."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from torchspectral.errors import BadSettings
from torchspectral.learn.recipe import Batch, TrainingSettings
from torchspectral.restoration.mp_hsir.tasks import NATURAL, REMOTE
from torchspectral.restoration.mp_hsir.training import TaskRecipe, TaskTraining
from torchspectral.settings import setting

COMPLEX_WEIGHT = 3.0
"""What a sample with complex noise counts that is not recognised."""


class PredictorTraining(TaskTraining):
    """Settings of the training of the predictor (natural scenes: 1000 epochs, remote sensing: 4000)."""

    batch: int = setting(64, "patches in a step, over all devices", ge=1)
    width: int = setting(64, "channels of the first stage; 128 for 100 bands", ge=16, multiple_of=16)


class PredictorRecipe(TaskRecipe):
    """Binary cross entropy of each task; lost bands are none of them, the values themselves tell."""

    Settings: ClassVar[type[TrainingSettings]] = PredictorTraining
    tasks: ClassVar[tuple[str, ...]] = tuple(task for task in REMOTE if task != "bands")
    monitor: ClassVar[str] = "right"
    mode: ClassVar[str] = "max"

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        for name in ("clamp", "distance"):
            if getattr(self.settings, name) != PredictorTraining.model_fields[name].default:
                raise BadSettings(f"got {name}={getattr(self.settings, name)}, which is for networks that restore")

    def model_arguments(self) -> dict[str, Any]:
        """Bands, tasks and width."""
        return super().model_arguments() | {"width": self.settings.width}

    def wanted(self, tasks: list[int], like: torch.Tensor) -> torch.Tensor:
        """The tasks of each sample, (n, tasks) of 0 and 1."""
        numbers = [self.tasks.index(self.names[task].split(":")[1]) for task in tasks]
        return torch.nn.functional.one_hot(torch.tensor(numbers), len(self.tasks)).to(like)

    def entropy(self, logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Binary cross entropy, complex noise with its own weight."""
        weight = torch.ones(len(self.tasks), device=logits.device)
        weight[self.tasks.index("complex")] = COMPLEX_WEIGHT
        return torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), wanted, pos_weight=weight)

    def misfit(
        self,
        model: torch.nn.Module,
        noisy: torch.Tensor,
        clean: torch.Tensor,
        tasks: list[int],
        facts: list[dict[str, Any]],
    ) -> torch.Tensor:
        """Loss of a degraded batch."""
        return self.entropy(model(noisy), self.wanted(tasks, noisy))

    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
        """Loss, and the share of samples whose task has the largest output; fixed degradations."""
        noisy, tasks, _ = self.always_alike(batch["target"].float())
        wanted = self.wanted(tasks, noisy)
        logits = model(noisy).float()
        right = (logits.argmax(1) == wanted.argmax(1)).float().mean()
        return {"loss": float(self.entropy(logits, wanted)), "right": float(right)}


class NaturalPredictorRecipe(PredictorRecipe):
    """The same for natural scenes, without haze."""

    tasks: ClassVar[tuple[str, ...]] = tuple(task for task in NATURAL if task != "bands")
