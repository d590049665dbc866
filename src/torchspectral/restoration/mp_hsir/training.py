"""Training of MP-HSIR: one network for all tasks, each patch damaged by one of them.

References
----------
Wu et al., "MP-HSIR: a multi-prompt framework for universal hyperspectral image restoration", arXiv 2503.09131 (2025).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import xarray as xr

from torchspectral.errors import BadSettings, BandMismatch, UnknownName, closest
from torchspectral.learn.recipe import Scene, TrainingSettings
from torchspectral.learn.scenes import cubes_of
from torchspectral.restoration.degrading_recipe import RestorationRecipe, RestorationTraining
from torchspectral.restoration.mp_hsir.bridge import Bridge, model_grid
from torchspectral.restoration.mp_hsir.tasks import NATURAL, REMOTE, read_text_features
from torchspectral.settings import setting

TURNS = 8
"""Flips and quarter turns of a square, the first of which changes nothing."""


class TaskTraining(RestorationTraining):
    """Settings of the training on several tasks."""

    batch: int = setting(32, "patches in a step, over all devices", ge=1)
    learning_rate: float = setting(2e-4, "learning rate; 1e-4 for remote sensing", gt=0)
    weight_decay: float = setting(0.01, "weight decay of AdamW", ge=0)
    noise: str = setting("all", "tasks, with commas, such as gaussian,blur; all: those that the network knows")
    stages: bool = setting(False, "gaussian:blind begins with sigma 50 alone")
    flips: bool = setting(False, "augment with flips and quarter turns before the damage")
    turn_damaged: bool = setting(
        True,
        "turn each damaged patch and its truth alike, by one of the seven flips and quarter turns that change it: "
        "stripes then run along track, too",
    )
    reversal: bool = setting(False, "augment by turning the order of the bands round, with probability 1/2")
    grid: str = setting(
        "scenes",
        "bands of the network: scenes, those that all scenes share; paper, the published evenly spaced ones (400 to "
        "700 nm in 31 steps for natural scenes, 400 to 1000 nm in 100); or FIRST:LAST:COUNT in nm. Scenes of any sensor "
        "that covers half of them are interpolated",
        pattern=r"^(scenes|paper|[0-9.]+:[0-9.]+:[0-9]+)$",
    )


class MPHSIRTraining(TaskTraining):
    """Settings of the training of MP-HSIR (natural scenes: 100 epochs; remote sensing: 300 at half the rate)."""

    clamp: bool = setting(True, "the output is clamped to 0..1 before the loss")
    distance: Literal["mse", "l1"] = setting("l1", "loss: mean squared error, or mean absolute difference")
    text_features: Path | None = setting(
        None,
        "file (.npy, .safetensors) of the task prompts' CLIP features, tasks x 512: the learned prompts begin from them, "
        "and the weights keep them",
    )
    text_mode: Literal["auto", "learned", "paper", "released"] = setting(
        "auto",
        "what text features do: nothing after the start, as the paper has it, or as the released code; auto: paper",
    )


class TaskRecipe(RestorationRecipe):
    """A network for several tasks; each sample is degraded by one of them."""

    Settings: ClassVar[type[TrainingSettings]] = TaskTraining
    fixed_bands: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = REMOTE

    def asked(self, noise: str) -> list[str]:
        """Names of the tasks, each with its own ranges.

        Raises
        ------
        UnknownName
            The network does not know the task.
        """
        names = self.tasks if noise == "all" else [name.strip() for name in noise.split(",")]
        for name in names:
            if name.split(":")[0] not in self.tasks:
                raise UnknownName(f"no task {name!r} of this network: {closest(name, self.tasks)}")
        prefix = "mp-hsir-remote" if "haze" in self.tasks else "mp-hsir"
        return [f"{prefix}:{name}" for name in names]

    def choose_bands(self, cubes: Sequence[xr.DataArray]) -> None:
        """The bands of the grid that is asked for, which every scene must reach.

        Raises
        ------
        BadSettings, BandMismatch, MissingMetadata
        """
        if self.settings.grid == "scenes":
            super().choose_bands(cubes)
            return
        self.wavelength = self._grid()
        for cube in cubes:
            self._there(cube)

    def _grid(self) -> np.ndarray:
        if self.settings.grid == "paper":
            haze = "haze" in self.tasks
            found = model_grid(100 if haze else 31, len(REMOTE if haze else NATURAL))
            assert found is not None
            return found
        first, last, count = self.settings.grid.split(":")
        if not 0 < float(first) < float(last) or not 1 < int(count) <= 4096:
            raise BadSettings(f"got grid={self.settings.grid}, expected FIRST:LAST:COUNT with rising wavelengths in nm")
        return np.linspace(float(first), float(last), int(count))

    def bands_of(self, cube: xr.DataArray) -> np.ndarray:
        """Good bands of a scene; where it is interpolated, each has its own."""
        if self.settings.grid == "scenes":
            return super().bands_of(cube)
        good = (
            np.asarray(cube["good"].values, dtype=bool) if "good" in cube.coords else np.ones(cube.sizes["band"], bool)
        )
        if not good.any():
            raise BandMismatch("a scene has no band that is marked good: nothing to train on")
        return np.flatnonzero(good)

    def _there(self, cube: xr.DataArray) -> np.ndarray:
        wavelength = np.asarray(cube["wavelength"].values, dtype=np.float64)
        return Bridge.build(wavelength[self.bands_of(cube)], self.wavelength).there

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Clean values in the working scale, on the network's bands."""
        found = super().pairs(scene)
        if self.settings.grid == "scenes":
            return found
        (cube,) = cubes_of([scene])
        there = self._there(cube).astype(np.float32)
        return {"target": np.tensordot(there, found["target"], 1)}

    def model_arguments(self) -> dict[str, Any]:
        """Bands and tasks."""
        return super().model_arguments() | {"tasks": len(self.tasks)}

    def optimiser(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(parameters, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)

    def paper_rate(self, done: float) -> float:
        """Linear warm-up over a tenth of the steps, then a cosine down to 1e-6."""
        least = min(1e-6 / self.settings.learning_rate, 1.0)
        if done < 0.1:
            return (done + 1 / self.settings.steps) / (0.1 + 1 / self.settings.steps)
        return least + (1 - least) * (1 + math.cos(math.pi * (done - 0.1) / 0.9)) / 2

    def turned(self, noisy: torch.Tensor, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both turned alike, sample by sample, never as they were."""
        if not self.settings.turn_damaged:
            return noisy, clean
        codes = torch.randint(1, TURNS, (len(clean),)).tolist()
        pairs = [_turn(torch.stack(pair), code) for *pair, code in zip(noisy, clean, codes, strict=True)]
        both = torch.stack(pairs, 1)
        return both[0], both[1]


class MPHSIRRecipe(TaskRecipe):
    """MP-HSIR: one network for all tasks, told which."""

    Settings: ClassVar[type[TrainingSettings]] = MPHSIRTraining

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        self.text: torch.Tensor | None = None
        if self.settings.text_features is not None:
            features = read_text_features(self.settings.text_features)
            if len(features) != len(self.tasks):
                raise BadSettings(
                    f"got text features of {len(features)} tasks and a network of {len(self.tasks)}: expected a row for "
                    f"each of {', '.join(self.tasks)}"
                )
            self.text = torch.from_numpy(features)
        elif self.settings.text_mode in ("paper", "released"):
            raise BadSettings(
                f"got text_mode={self.settings.text_mode} without text features: give text_features=FILE, or leave the "
                "mode out"
            )

    def model_arguments(self) -> dict[str, Any]:
        """Bands, tasks, and what text features do."""
        arguments = super().model_arguments()
        if self.text is None or self.settings.text_mode == "learned":
            return arguments
        mode = "paper" if self.settings.text_mode == "auto" else self.settings.text_mode
        return arguments | {"text_mode": mode, "stored_text": True}

    def fresh(self) -> torch.nn.Module:
        """The network; its learned prompts begin from the text features where there are some."""
        network = super().fresh()
        if self.text is not None:
            network.start_from(self.text)  # type: ignore[operator]
        return network

    def restored(
        self, model: torch.nn.Module, noisy: torch.Tensor, tasks: list[int], facts: list[dict[str, Any]]
    ) -> torch.Tensor:
        """The network's output, told the task of each sample."""
        numbers = [self.tasks.index(name.split(":")[1]) for name in self.names]
        told = torch.tensor([numbers[task] for task in tasks], device=noisy.device)
        out: torch.Tensor = model(noisy, told)
        return out


def _turn(images: torch.Tensor, code: int) -> torch.Tensor:
    """Quarter turns (code % 4), then mirrored where code > 3."""
    turned = torch.rot90(images, code % 4, (-2, -1))
    return turned.flip(-1) if code > 3 else turned
