"""How a restoration network is trained: clean patches, degraded anew at every step, under the paper's rates.

The schedules are those of the papers, stretched over the steps that are asked for (the papers: 80 epochs of 53,000
patches of ICVL in batches of 16 for HSDT and MAN, 100 or 300 epochs in batches of 32 for MP-HSIR).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import xarray as xr

from torchspectral.errors import BadInput, BadSettings, MissingMetadata
from torchspectral.geo.lazy import missing_value
from torchspectral.learn.recipe import Batch, Recipe, Scene, TrainingSettings, common_bands
from torchspectral.learn.scenes import common_quantity, cubes_of
from torchspectral.restoration.degradation import read_recipe
from torchspectral.restoration.degraded import DegradedCube, value_range
from torchspectral.settings import setting
from torchspectral.synth import Recipe as Degradation
from torchspectral.synth import degrade_array
from torchspectral.synth.draws import TorchDraw
from torchspectral.synth.noise import Gaussian

SIGMAS = (10, 30, 50, 70)
COMPLEX = ("icvl-noniid", "icvl-impulse", "icvl-stripe", "icvl-deadline")
"""What the published training on complex noise goes round."""
WARM_STAGE = 3 / 8
"""Share of the steps, 30 of 80 epochs, in which blind training sees sigma 50 alone."""

Rates = tuple[tuple[float, float], ...]
HSDT_GAUSSIAN: Rates = (
    (0, 1e-3), (20, 1e-4), (30, 1e-3), (45, 1e-4), (55, 5e-5), (60, 1e-5), (65, 5e-6), (75, 1e-6), (80, 1e-6),
)  # fmt: skip
HSDT_COMPLEX: Rates = ((0, 1e-3), (10, 5e-4), (15, 1e-4), (20, 5e-5), (25, 1e-5), (40, 1e-5))


class RestorationTraining(TrainingSettings):
    """Settings that the training of every restoration network has; batch, patch and rate are those of HSDT and MAN."""

    batch: int = setting(16, "patches in a step, over all devices", ge=1)
    patch: int = setting(64, "side of a square patch, a multiple of 8", unit="pixel", ge=8, multiple_of=8)
    learning_rate: float = setting(1e-3, "learning rate at the top of the paper's schedule", gt=0)
    decay: str = setting(
        "paper",
        "learning rate over the steps: the paper's schedule, constant, or cosine down to a hundredth",
        pattern="^(paper|constant|cosine)$",
    )
    noise: str = setting(
        "gaussian:blind",
        "degradation, see `synth.make_recipe`; several, with commas, are drawn in turn. gaussian:blind goes round 10, "
        "30, 50, 70; icvl-complex goes round none, impulse, stripe and dead line",
    )
    stages: bool = setting(True, "gaussian:blind begins with sigma 50 alone, for three eighths of the steps")
    scale: Literal["auto", "max", "range", "fixed"] = setting(
        "auto",
        "what 0..1 is: each scene over its largest value, its smallest and largest value (the papers), or values over "
        "the gain; auto: reflectance as it is, else the largest value",
    )
    gain: float = setting(1.0, "values are divided by it where scale=fixed", gt=0)
    reversal: bool = setting(True, "augment by turning the order of the bands round, with probability 1/2")
    start: str = setting("", "weights to begin from, a file, a run or a name: complex noise goes on from Gaussian")
    clamp: bool = setting(False, "the output is clamped to 0..1 before the loss, as MP-HSIR has it")
    distance: Literal["mse", "l1"] = setting("mse", "loss: mean squared error, or mean absolute difference")


class RestorationRecipe(Recipe):
    """A network that is shown degraded patches and held against the clean ones.

    The scenes are taken for clean. Degradations follow from the seed and the step alone, so that a resumed run sees
    the same ones.
    """

    Settings: ClassVar[type[TrainingSettings]] = RestorationTraining
    room: ClassVar[str] = "restoration"
    lead: ClassVar[str] = "target"
    scaled: ClassVar[tuple[str, ...]] = ("target",)
    reach = 1
    gaussian: ClassVar[Rates] = HSDT_GAUSSIAN
    complex: ClassVar[Rates] = HSDT_COMPLEX
    fixed_bands: ClassVar[bool] = False
    """Whether the network is built for a number of bands."""

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        self.names = self.asked(self.settings.noise)
        self.degradations = [self._read(name) for name in self.names]
        self.wavelength = np.zeros(0)
        self.index = np.zeros(0, dtype=np.int64)
        self.quantity = "dn"
        self.rule = "fixed"
        self.ranges: dict[tuple[str, ...], tuple[float, float]] = {}
        self._plan: Any = None

    def asked(self, noise: str) -> list[str]:
        """Names of the degradations that the setting asks for."""
        return [name.strip() for name in noise.split(",")]

    def _read(self, name: str) -> list[Degradation]:
        """What a name goes round."""
        if name == "gaussian:blind":
            return [read_recipe(f"gaussian:{sigma}") for sigma in SIGMAS]
        if name == "icvl-complex":
            return [read_recipe(kind) for kind in COMPLEX]
        made = read_recipe(name)
        if any(part.strip().startswith(("down", "imresize")) for part in name.split("+")):
            raise BadSettings(f"got noise {name!r}, expected a degradation that keeps the size of the image")
        return [made]

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Common bands, quantity and scale; with ``scale`` max or range each scene is read through once.

        Raises
        ------
        BandMismatch, BadInput, MissingMetadata
        """
        cubes = cubes_of(scenes)
        self.choose_bands(cubes)
        self.quantity = common_quantity(cubes)
        if any("haze" in name for name in self.names) and not np.isfinite(self.wavelength).all():
            raise MissingMetadata(
                "haze depends on the wavelength, and not all bands have one: set it, or name the degradations without "
                "haze (noise=...)"
            )
        rule = self.settings.scale
        self.rule = rule if rule != "auto" else "fixed" if self.quantity == "reflectance" else "max"
        if self.rule == "fixed":
            return
        for cube in cubes:
            nodata = None if cube.dtype.kind == "f" else missing_value(cube)
            plain = DegradedCube(cube.variable, (), gain=1.0, offset=0.0, nodata=nodata, seed=0, working=True)
            low, high = value_range(plain, self.bands_of(cube))
            low = low if self.rule == "range" else min(0.0, low)
            if not high > low:
                raise BadInput(f"{_name(cube)} has no values to scale by (from {low:g} to {high:g})")
            known = self.ranges.get(_key(cube))
            self.ranges[_key(cube)] = (low, high) if known is None else (min(low, known[0]), max(high, known[1]))

    def choose_bands(self, cubes: Sequence[xr.DataArray]) -> None:
        """Bands that the network sees: those that are good in every scene."""
        self.wavelength, self.index = common_bands(cubes)

    def bands_of(self, cube: xr.DataArray) -> np.ndarray:
        """Positions of the bands of a scene that are read."""
        return self.index

    def model_arguments(self) -> dict[str, Any]:
        """Bands, where the network has a fixed number of them."""
        return {"bands": len(self.wavelength)} if self.fixed_bands else {}

    def build(self) -> torch.nn.Module:
        """The network with fresh weights, or those of `start`."""
        if not self.settings.start:
            return self.fresh()
        from torchspectral.weights import load

        network = super().build()
        load(self.settings.start, model=network)
        return network

    def fresh(self) -> torch.nn.Module:
        """The network with fresh weights."""
        return super().build()

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Clean values in the working scale."""
        (cube,) = cubes_of([scene])
        values = np.asarray(cube.isel(band=self.bands_of(cube)).values)
        clean = values.astype(np.float32)
        nodata = None if values.dtype.kind == "f" else missing_value(cube)
        if nodata is not None:
            clean[values == nodata] = np.nan
        if self.rule == "fixed":
            return {"target": clean / np.float32(self.settings.gain)}
        low, high = self.ranges[_key(cube)]
        if self.rule == "max":
            low = 0.0
        return {"target": (clean - np.float32(low)) / np.float32(high - low)}

    @property
    def step(self) -> int:
        """Optimiser steps that were made."""
        return int(self._plan.last_epoch) if self._plan is not None else 0

    def schedule(self, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """The paper's rates over the steps of this training."""
        self._plan = torch.optim.lr_scheduler.LambdaLR(optimiser, self.rate)
        return self._plan

    def rate(self, step: int) -> float:
        """Share of the learning rate at a step."""
        s = self.settings
        done = min(step / s.steps, 1.0)
        if s.decay == "constant":
            return 1.0
        if s.decay == "cosine":
            return 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2
        return self.paper_rate(done)

    def paper_rate(self, done: float) -> float:
        """The paper's rate over its largest, at a share of the steps; the second stage begins with an epoch of warm-up."""
        second = self.names[0].startswith("icvl-")
        table = self.complex if second else self.gaussian
        total = table[-1][0]
        epoch = done * total
        rate = [value for start, value in table if start <= epoch][-1] / 1e-3
        begin = 0.0 if second else WARM_STAGE * total
        if self.settings.stages and begin <= epoch < begin + 1:
            rate *= min(epoch - begin + total / self.settings.steps, 1.0)
        return rate

    def degraded(
        self, clean: torch.Tensor, first: int, generator: torch.Generator | None, step: int | None = None
    ) -> tuple[torch.Tensor, list[int], list[dict[str, Any]]]:
        """Degrade each sample of a batch.

        Parameters
        ----------
        clean : Tensor, shape (n, band, y, x)
        first : int
            Number of the first sample, which decides where the rounds stand.
        generator : torch.Generator, optional
            By default torch's own.
        step : int, optional
            Of the training, for its stages; None: the last stage.

        Returns
        -------
        Tensor, shape (n, band, y, x); number of each sample's degradation; and what was drawn for it
        """
        made, tasks, facts = [], [], []
        early = self.settings.stages and step is not None and step < WARM_STAGE * self.settings.steps
        draw = TorchDraw(generator, clean.device)
        for number, image in enumerate(clean.float(), start=first):
            task = int(draw.integers(0, len(self.names), 1)[0]) if len(self.names) > 1 else 0
            rounds = self.degradations[task]
            at = number % len(rounds)
            if early and self.names[task] == "gaussian:blind":
                at = SIGMAS.index(50)
            found = degrade_array(image, rounds[at], draw, wavelength=self.wavelength)
            made.append(found.values)
            tasks.append(task)
            facts.append(found.facts.chosen)
        return torch.stack(made), tasks, facts

    def always_alike(self, clean: torch.Tensor) -> tuple[torch.Tensor, list[int], list[dict[str, Any]]]:
        """`degraded` for validation: the same patches are always degraded alike."""
        seed = torch.Generator(clean.device).manual_seed(int(float(clean.double().abs().sum()) * 1000) % 2**31)
        return self.degraded(clean, 0, seed)

    def restored(
        self, model: torch.nn.Module, noisy: torch.Tensor, tasks: list[int], facts: list[dict[str, Any]]
    ) -> torch.Tensor:
        """The network's output, (n, band, y, x); volumes of one channel by default."""
        out: torch.Tensor = model(noisy[:, None])[:, 0]
        return out

    def compared(self, out: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        """Loss of an output."""
        out = out.float().clamp(0, 1) if self.settings.clamp else out.float()
        distance = torch.nn.functional.l1_loss if self.settings.distance == "l1" else torch.nn.functional.mse_loss
        return distance(out, clean)

    def misfit(
        self,
        model: torch.nn.Module,
        noisy: torch.Tensor,
        clean: torch.Tensor,
        tasks: list[int],
        facts: list[dict[str, Any]],
    ) -> torch.Tensor:
        """Loss of a degraded batch."""
        return self.compared(self.restored(model, noisy, tasks, facts), clean)

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Loss of a batch that is degraded here."""
        clean = batch["target"].float()
        if self.settings.reversal:
            turn = torch.rand(len(clean)) < 0.5
            clean = torch.where(turn.to(clean.device)[:, None, None, None], clean.flip(1), clean)
        noisy, tasks, facts = self.degraded(clean, self.step * self.settings.batch, None, self.step)
        noisy, clean = self.turned(noisy, clean)
        loss = self.misfit(model, noisy, clean, tasks, facts)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # A layer that this step did not use still takes part in the exchange of gradients.
            loss = loss + 0.0 * sum(p.sum() for p in model.parameters() if p.requires_grad)
        return loss

    def turned(self, noisy: torch.Tensor, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Damaged and clean patches as the network is to see them in training."""
        return noisy, clean

    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
        """Loss, MPSNR [dB] and spectral angle [deg] of the output, and MPSNR of the input to beat; fixed noise."""
        from torchspectral.metrics import MPSNR, MeanAngle

        clean = batch["target"].float()
        noisy, tasks, facts = self.always_alike(clean)
        out = self.restored(model, noisy, tasks, facts)
        quality, plain, angle = MPSNR(cap=100), MPSNR(cap=100), MeanAngle(degrees=True)
        sums = np.zeros(3)
        for made, low, truth in zip(out.float(), noisy, clean, strict=True):
            sums += [m.reset().update(a, truth).compute() for m, a in ((quality, made), (plain, low), (angle, made))]
        psnr, before, sam = sums / len(clean)
        return {"loss": float(self.compared(out, clean)), "psnr": psnr, "psnr_input": before, "sam": sam}

    def evaluate(self, model: torch.nn.Module, scene: Scene) -> Mapping[str, float]:
        """Figures of held-out ground, cut at the bottom and the right to a multiple of 8, which the networks divide."""
        rows, cols = (scene.sizes[d] // 8 * 8 for d in ("y", "x"))
        return super().evaluate(model, scene.isel(y=slice(0, rows), x=slice(0, cols)))

    def card(self) -> dict[str, Any]:
        """Bands, scale and the noise that the network has seen (8-bit units)."""
        known = self.fixed_bands and bool(np.isfinite(self.wavelength).all()) and self.wavelength.size > 0
        said = {
            "fixed": f"values divided by {self.settings.gain:g}",
            "max": "each scene divided by its largest value",
            "range": "each scene brought from its smallest and largest value to 0..1",
        }[self.rule]
        gain = self.settings.gain if self.rule == "fixed" else 1.0
        return {
            "quantity": self.quantity,
            "wavelengths": [float(w) for w in self.wavelength] if known else "any",
            "scale": {"rule": self.rule, "gain": gain, "offset": 0.0},
            "noise": self.noise_range(),
            "preprocessing": f"{said}; degraded by {self.settings.noise}",
        }

    def noise_range(self) -> tuple[float, float] | None:
        """Deviations that were seen [8-bit units]; None where the degradation is no noise."""
        if any(
            name.startswith(("icvl-", "noniid", "mp-hsir:complex", "mp-hsir-remote:complex"))
            or name == "gaussian:blind"
            for name in self.names
        ):
            return float(SIGMAS[0]), float(SIGMAS[-1])
        limits = [
            (step.low, step.high)
            for rounds in self.degradations
            for one in rounds
            for step in one.steps
            if isinstance(step, Gaussian)
        ]
        return (min(low for low, _ in limits), max(high for _, high in limits)) if limits else None


def _key(cube: xr.DataArray) -> tuple[str, ...]:
    """Files of a scene; cubes in memory without any are scaled together."""
    opened = cube.encoding.get("source") or cube.variable.encoding.get("source")
    return tuple(str(path) for path in cube.attrs.get("source", (opened,) if opened else ()))


def _name(cube: xr.DataArray) -> str:
    return ", ".join(_key(cube)) or "a cube"
