"""A small recipe for the tests: undo a gain of two with one convolution and dropout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

import torchspectral as ts
from torchspectral.learn.recipe import Batch, Recipe, Scene, TrainingSettings, common_bands
from torchspectral.settings import setting


class ToyNetwork(torch.nn.Module):
    """One 3x3 layer with dropout and batch normalisation: state, buffers and random numbers all matter."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(bands)
        self.drop = torch.nn.Dropout2d(0.3)
        self.layer = torch.nn.Conv2d(bands, bands, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.drop(self.norm(x)))


class ToySettings(TrainingSettings):
    steps: int = setting(12, "steps", ge=1)
    batch: int = setting(4, "batch", ge=1)
    patch: int = setting(8, "patch", ge=1)
    learning_rate: float = setting(1e-2, "rate", gt=0)
    jitter: float = setting(0.1, "jitter", ge=0)
    validate_every: int = setting(5, "validate", ge=1)
    checkpoint_every: int = setting(3, "checkpoint", ge=1)
    explode: bool = setting(False, "make the loss infinite")


class ToyRecipe(Recipe):
    Settings: ClassVar[type[TrainingSettings]] = ToySettings
    room = "sharpening"
    method = "toy"
    model = "toy"
    lead = "target"
    scaled = ("target", "input")
    reach = 4
    multiple = 2

    def prepare(self, scenes: Sequence[Scene]) -> None:
        self.wavelength, self.index = common_bands(scenes)

    def model_arguments(self) -> dict[str, Any]:
        return {"bands": len(self.index)}

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        rows, cols = (scene.sizes[d] // 2 * 2 for d in ("y", "x"))
        full = scene.values.astype(np.float32)[:, :rows, :cols]
        return {"target": full, "input": full * 2, "coarse": full[:, ::2, ::2]}

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        out = model(batch["input"])
        assert batch["coarse"].shape[-1] * 2 == batch["target"].shape[-1]
        return (out - batch["target"]).square().mean() * (float("inf") if self.settings.explode else 1.0)

    def card(self) -> dict[str, Any]:
        return {"quantity": "reflectance", "wavelengths": self.wavelength.tolist(), "scale": {"rule": "physical"}}

    def build(self) -> torch.nn.Module:
        return ToyNetwork(**self.model_arguments())


def recipe(method: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    return ToyRecipe(ToySettings.make(dict(settings or {})))


def toy_scene(rows: int = 48, cols: int = 56, bands: int = 3, seed: int = 0):
    data = np.random.default_rng(seed).uniform(0, 1, (bands, rows, cols)).astype(np.float32)
    return ts.make_cube(data, wavelength=np.linspace(450, 850, bands), quantity="reflectance")
