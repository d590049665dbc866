"""How the networks of this room are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import xarray as xr

from torchspectral.engine.device import parse_device
from torchspectral.errors import UnknownName, closest
from torchspectral.learn.recipe import Batch, Recipe, Scene, TrainingSettings
from torchspectral.learn.scene_pairs import ScenePairs, cubes_of
from torchspectral.ops.interpolate import check_ratio, interpolation_halo
from torchspectral.ops.mtf import HS_GAIN, kernel_size
from torchspectral.settings import setting
from torchspectral.sharpening.deep.prior_fit import PriorPlan, PriorScene, prior_image
from torchspectral.sharpening.deep.prior_method import DEEP_PRIOR, INTERPOLATED_PRIOR
from torchspectral.sharpening.training_pairs import wald_pairs


class SharpeningTraining(TrainingSettings):
    """Settings that the training of every sharpening network has; batch and rate are the benchmark's."""

    batch: int = setting(64, "patches in a step, over all devices", ge=1)
    patch: int = setting(96, "side of a square patch on the fine grid, a multiple of the ratio", unit="pixel", ge=4)
    learning_rate: float = setting(1e-4, "learning rate", gt=0)
    ratio: int = setting(4, "resolution ratio", ge=2)
    gain: float = setting(0.0, "values are divided by it; 0: 65536 for raw numbers, 1 for reflectance", ge=0)
    mtf_gain: float = setting(0.0, "MTF gain of the cube's bands; 0: the sensor's, 0.3 where unknown", ge=0, lt=1)


class SharpeningRecipe(ScenePairs):
    """A network on pairs of Wald's protocol: scenes become the truth, their degraded copies the input.

    Scenes that come with a layer ``pan`` (a Dataset) use it, others a PAN made of their bands.

    Attributes
    ----------
    network_inputs : tuple of str
        Roles that the network is called with, in order: ``pan``, ``upsampled``, ``hs`` (the degraded image itself).
    """

    Settings: ClassVar[type[TrainingSettings]] = SharpeningTraining
    room: ClassVar[str] = "sharpening"
    lead: ClassVar[str] = "target"
    network_inputs: ClassVar[tuple[str, ...]] = ("pan", "upsampled")
    constructor: ClassVar[tuple[str, ...]] = ("features",)
    """Settings that the network's constructor gets beside the bands."""
    last_layer: ClassVar[str] = ""
    """Layer that begins at zero with ``quiet_start``."""

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        self.multiple = check_ratio(self.settings.ratio)
        self.reach = kernel_size(self.multiple) // 2 + self.multiple * interpolation_halo(self.multiple)
        self.fwhm = np.zeros(0)

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Common bands, quantity and gain of the scenes, and the widths of the first one's bands.

        Raises
        ------
        BandMismatch
            Bands or quantities differ.
        """
        super().prepare(scenes)
        first = cubes_of(scenes[:1])[0]
        widths = first["fwhm"].values if "fwhm" in first.coords else np.full(first.sizes["band"], np.nan)
        self.fwhm = np.asarray(widths, dtype=np.float64)[self.index]

    def usual_gain(self, cubes: Sequence[xr.DataArray]) -> float:
        """65536 for raw numbers, 1 for all else."""
        return 65536.0 if self.quantity == "dn" else 1.0

    def model_arguments(self) -> dict[str, Any]:
        """Bands and widths of the network."""
        return {"bands": len(self.index), **{name: getattr(self.settings, name) for name in self.constructor}}

    def build(self) -> torch.nn.Module:
        """The network with fresh weights."""
        network = super().build()
        if self.last_layer and self.settings.quiet_start:
            for parameter in network.get_submodule(self.last_layer).parameters():
                torch.nn.init.zeros_(parameter)
        return network

    def made(self, scene: Scene) -> dict[str, np.ndarray]:
        """All images of the pairs, (1, band, y, x) each, see `wald_pairs`."""
        pan = None
        if isinstance(scene, xr.Dataset):
            pan, scene = scene.get("pan"), scene["cube"]
        return wald_pairs(
            scene.isel(band=self.index), self.multiple, pan=pan, gain=self.gain, mtf_gain=self.settings.mtf_gain
        )

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Truth, interpolated degraded image and what the network is called with."""
        made = self.made(scene)
        return {role: made[role][0] for role in dict.fromkeys(("target", "upsampled", *self.network_inputs))}

    def distance(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The paper's loss of an output, (n, band, y, x) both: mean squared error."""
        return torch.nn.functional.mse_loss(out, target)

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Loss of a batch."""
        return self.distance(model(*(batch[role] for role in self.network_inputs)), batch["target"])

    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
        """Loss, ERGAS and spectral angle, and the ERGAS of plain interpolation to beat."""
        from torchspectral.metrics import ERGAS, SAM

        out = model(*(batch[role] for role in self.network_inputs))
        ergas, plain, angle = ERGAS(self.multiple), ERGAS(self.multiple), SAM()
        for made, low, truth in zip(out, batch["upsampled"], batch["target"], strict=True):
            ergas.update(made, truth)
            plain.update(low, truth)
            angle.update(made, truth)
        loss = float(self.distance(out, batch["target"]))
        return {"loss": loss, "ergas": ergas.compute(), "ergas_exp": plain.compute(), "sam": angle.compute()}

    def card(self) -> dict[str, Any]:
        """Bands with their widths, scale and ratio."""
        facts = super().card()
        widths = facts["wavelengths"] != "any" and bool(np.isfinite(self.fwhm).all())
        return facts | {
            "fwhm": [float(w) for w in self.fwhm] if widths else None,
            "preprocessing": f"Wald's protocol at ratio {self.multiple}; values divided by {self.gain:g}",
        }


class HyperPNNTraining(SharpeningTraining):
    """Settings of the training of HyperPNN (the benchmark: 5000 epochs)."""

    features: int = setting(64, "channels between encoder and decoder", ge=1)


class HyperPNNRecipe(SharpeningRecipe):
    """HyperPNN: mean squared error."""

    Settings: ClassVar[type[TrainingSettings]] = HyperPNNTraining
    method: ClassVar[str] = "hyperpnn"
    model: ClassVar[str] = "hyperpnn"
    scaled: ClassVar[tuple[str, ...]] = ("target", "pan", "upsampled")


class HSpeNetTraining(SharpeningTraining):
    """Settings of the training of HSpeNet (the benchmark: 4000 epochs)."""

    features: int = setting(64, "channels of the spectral branch", ge=1)
    growth: int = setting(16, "channels of the PAN branch and of each dense layer", ge=1)
    angle_weight: float = setting(0.1, "share of the spectral angle's cosine in the loss", ge=0, le=1)


class HSpeNetRecipe(SharpeningRecipe):
    """HSpeNet: mean squared error and the mean cosine of the spectral angle."""

    Settings: ClassVar[type[TrainingSettings]] = HSpeNetTraining
    method: ClassVar[str] = "hspenet"
    model: ClassVar[str] = "hspenet"
    scaled: ClassVar[tuple[str, ...]] = ("target", "pan", "upsampled")
    constructor: ClassVar[tuple[str, ...]] = ("features", "growth")

    def distance(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """``(1 - w) MSE + w (1 - mean cosine)``."""
        cosine = torch.nn.functional.cosine_similarity(out, target, dim=1).mean()
        w = self.settings.angle_weight
        return (1 - w) * torch.nn.functional.mse_loss(out, target) + w * (1 - cosine)


class HyperDSNetTraining(SharpeningTraining):
    """Settings of the training of Hyper-DSNet (the benchmark: 5000 epochs)."""

    batch: int = setting(32, "patches in a step, over all devices", ge=1)
    features: int = setting(16, "channels of each of the three sizes of layers", ge=1)
    quiet_start: bool = setting(
        False, "begin as plain interpolation, the last layer at zero: without it large rates kill the first layers"
    )


class HyperDSNetRecipe(SharpeningRecipe):
    """Hyper-DSNet: mean squared error; peak and mean spectrum are those of each patch, as published."""

    Settings: ClassVar[type[TrainingSettings]] = HyperDSNetTraining
    method: ClassVar[str] = "hyper-dsnet"
    model: ClassVar[str] = "hyper-dsnet"
    last_layer: ClassVar[str] = "convlast"
    network_inputs: ClassVar[tuple[str, ...]] = ("pan", "upsampled", "hs")
    scaled: ClassVar[tuple[str, ...]] = ("target", "pan", "upsampled", "hs")


class PriorTraining(SharpeningTraining):
    """Settings of the training of a network behind a deep prior; the prior is fitted once on each piece of ground."""

    features: int = setting(64, "channels of the network", ge=1)
    prior: Literal["deep", "interpolated"] = setting(
        "deep", "what the network corrects: the deep prior, or the interpolated image, which costs nothing"
    )
    prior_iterations: int = setting(1500, "optimiser steps of the prior", ge=1)
    prior_rate: float = setting(1e-3, "learning rate of the prior", gt=0)
    prior_channels: int = setting(128, "channels of the prior's network", ge=1)
    prior_seed: int = setting(0, "of the prior's noise and first weights", ge=0)
    prior_device: str = setting("cpu", "where the prior is fitted: auto, cpu, cuda or cuda:N")
    prior_clip: bool = setting(True, "keep the prior within 0..1 of the working scale, as the authors do")


class PriorRecipe(SharpeningRecipe):
    """A network that corrects a deep prior: mean absolute difference.

    The pairs hold what the prior draws of each degraded piece of ground, which takes the longest part of the training.
    """

    Settings: ClassVar[type[TrainingSettings]] = PriorTraining
    network_inputs: ClassVar[tuple[str, ...]] = ("pan", "prior")
    scaled: ClassVar[tuple[str, ...]] = ("target", "pan", "upsampled", "prior")

    def plan(self) -> PriorPlan:
        """How the prior is fitted."""
        raise NotImplementedError

    def distance(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean absolute difference."""
        return torch.nn.functional.l1_loss(out, target)

    def made(self, scene: Scene) -> dict[str, np.ndarray]:
        """The pairs, with the prior of the degraded image."""
        arrays = super().made(scene)
        arrays["prior"] = self._deep(arrays) if self.settings.prior == "deep" else arrays["upsampled"]
        if self.settings.prior_clip:
            arrays["prior"] = arrays["prior"].clip(0, 1)
        return arrays

    def _deep(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        hole = np.isnan(arrays["hs"]).any(1, keepdims=True)
        device = parse_device(self.settings.prior_device)
        low, pan = (torch.from_numpy(np.nan_to_num(arrays[role])).to(device) for role in ("hs", "pan"))
        known = PriorScene(low, pan, torch.from_numpy(~hole).to(low))
        drawn: np.ndarray = prior_image(self.plan(), known, self.settings.prior_seed).cpu().numpy()
        return drawn

    def card(self) -> dict[str, Any]:
        """As for all, and which prior the network corrects."""
        facts = super().card()
        what = DEEP_PRIOR if self.settings.prior == "deep" else INTERPOLATED_PRIOR
        return facts | {"preprocessing": f"{facts['preprocessing']}; {what}"}


class DHPDARNTraining(PriorTraining):
    """Settings of the training of DHP-DARN (the benchmark: 1500 epochs)."""

    learning_rate: float = setting(1e-3, "learning rate", gt=0)
    prior_iterations: int = setting(10_000, "optimiser steps of the prior", ge=1)
    prior_rate: float = setting(1e-2, "learning rate of the prior", gt=0)


class DHPDARNRecipe(PriorRecipe):
    """DARN behind a deep hyperspectral prior."""

    Settings: ClassVar[type[TrainingSettings]] = DHPDARNTraining
    method: ClassVar[str] = "dhp-darn"
    model: ClassVar[str] = "dhp-darn"

    def plan(self) -> PriorPlan:
        """DHP."""
        s = self.settings
        return PriorPlan(
            "dhp", s.prior_iterations, s.prior_rate, channels=s.prior_channels, mtf_gain=s.mtf_gain or HS_GAIN
        )


class DIPHyperKiteTraining(PriorTraining):
    """Settings of the training of DIP-HyperKite (the benchmark: 2500 epochs, the rate a tenth each 1000)."""

    batch: int = setting(2, "patches in a step, over all devices", ge=1)
    learning_rate: float = setting(1e-3, "learning rate", gt=0)
    weight_decay: float = setting(1e-4, "weight decay (L2)", ge=0)
    decay: str = setting(
        "step",
        "learning rate over the steps: a tenth after each 40 percent of them (step), constant, or cosine down to a "
        "hundredth",
        pattern="^(step|constant|cosine)$",
    )
    features: int = setting(32, "channels of the first level; twice and four times as many on the next", ge=1)
    quiet_start: bool = setting(False, "begin as the prior itself, the last layer at zero")
    prior_drop: int = setting(1300, "step after which the prior's learning rate is a tenth; 0: never", ge=0)
    prior_pan_weight: float = setting(0.6, "weight of the PAN in the prior's loss", ge=0)


class DIPHyperKiteRecipe(PriorRecipe):
    """HyperKite behind a deep image prior."""

    Settings: ClassVar[type[TrainingSettings]] = DIPHyperKiteTraining
    method: ClassVar[str] = "dip-hyperkite"
    model: ClassVar[str] = "dip-hyperkite"
    last_layer: ClassVar[str] = "final_conv"

    def plan(self) -> PriorPlan:
        """DIP."""
        s = self.settings
        return PriorPlan(
            "dip",
            s.prior_iterations,
            s.prior_rate,
            drop=s.prior_drop,
            pan_weight=s.prior_pan_weight,
            channels=s.prior_channels,
        )

    def schedule(self, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler | None:
        """A tenth after 40 % of the steps, and again after 80 %: 1000 of the benchmark's 2500 epochs."""
        if self.settings.decay != "step":
            return super().schedule(optimiser)
        return torch.optim.lr_scheduler.StepLR(optimiser, max(1, round(0.4 * self.settings.steps)), 0.1)


_RECIPES: dict[str, type[Recipe]] = {
    recipe.method: recipe
    for recipe in (HyperPNNRecipe, HSpeNetRecipe, HyperDSNetRecipe, DHPDARNRecipe, DIPHyperKiteRecipe)
}


def recipe(method: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Recipe of a method of this room.

    Raises
    ------
    UnknownName
        The method is not trained.
    BadSettings
    """
    from torchspectral.sharpening.zero_shot.training import RECIPES as zero_shot  # it builds on this module

    known = {**_RECIPES, **zero_shot}
    cls = known.get(method)
    if cls is None:
        raise UnknownName(f"no training for method {method!r} in sharpening: {closest(method, tuple(known))}")
    return cls(cls.Settings.make(dict(settings or {})))
