"""How the networks of this room are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr

from torchspectral.errors import BandMismatch, UnknownName, closest
from torchspectral.learn.recipe import Batch, Recipe, Scene, TrainingSettings, common_bands
from torchspectral.ops.interpolate import check_ratio, interpolation_halo
from torchspectral.ops.mtf import kernel_size
from torchspectral.settings import setting
from torchspectral.sharpening.protocol import wald_pairs


class SharpeningTraining(TrainingSettings):
    """Settings that the training of every sharpening network has; batch and rate are the benchmark's."""

    batch: int = setting(64, "patches in a step, over all devices", ge=1)
    patch: int = setting(96, "side of a square patch on the fine grid, a multiple of the ratio", unit="pixel", ge=4)
    learning_rate: float = setting(1e-4, "learning rate", gt=0)
    ratio: int = setting(4, "resolution ratio", ge=2)
    gain: float = setting(0.0, "values are divided by it; 0: 65536 for raw numbers, 1 for reflectance", ge=0)
    mtf_gain: float = setting(0.0, "MTF gain of the cube's bands; 0: the sensor's, 0.3 where unknown", ge=0, lt=1)


class SharpeningRecipe(Recipe):
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

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        self.multiple = check_ratio(self.settings.ratio)
        self.reach = kernel_size(self.multiple) // 2 + self.multiple * interpolation_halo(self.multiple)
        self.wavelength = np.zeros(0)
        self.index = np.zeros(0, dtype=np.int64)
        self.fwhm = np.zeros(0)
        self.quantity = "dn"
        self.gain = float(self.settings.gain) or 1.0

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Common bands, quantity and gain of the scenes.

        Raises
        ------
        BandMismatch
            Bands or quantities differ.
        """
        self.wavelength, self.index = common_bands(scenes)
        cubes = [scene["cube"] if isinstance(scene, xr.Dataset) else scene for scene in scenes]
        quantities = {str(cube.attrs.get("quantity", "dn")) for cube in cubes}
        if len(quantities) > 1:
            raise BandMismatch(
                f"got scenes of {' and '.join(sorted(quantities))}, expected one quantity in all of them"
            )
        self.quantity = quantities.pop()
        first = cubes[0]
        self.fwhm = (
            np.asarray(first["fwhm"].values, dtype=np.float64)[self.index] if "fwhm" in first.coords else np.zeros(0)
        )
        if not self.settings.gain:
            self.gain = 65536.0 if self.quantity == "dn" else 1.0

    def model_arguments(self) -> dict[str, Any]:
        """Bands and widths of the network."""
        return {"bands": len(self.index), **{name: getattr(self.settings, name) for name in self.constructor}}

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Truth, interpolated degraded image and PAN on the fine grid."""
        pan = None
        if isinstance(scene, xr.Dataset):
            pan, scene = scene.get("pan"), scene["cube"]
        made = wald_pairs(
            scene.isel(band=self.index), self.multiple, pan=pan, gain=self.gain, mtf_gain=self.settings.mtf_gain
        )
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
        """Bands, scale and ratio."""
        known = bool(np.isfinite(self.wavelength).all()) and self.wavelength.size > 0
        widths = known and self.fwhm.size == self.wavelength.size and bool(np.isfinite(self.fwhm).all())
        return {
            "quantity": self.quantity,
            "wavelengths": [float(w) for w in self.wavelength] if known else "any",
            "fwhm": [float(w) for w in self.fwhm] if widths else None,
            "scale": {"rule": "fixed", "gain": self.gain, "offset": 0.0},
            "ratio": self.multiple,
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


class HyperDSNetRecipe(SharpeningRecipe):
    """Hyper-DSNet: mean squared error; peak and mean spectrum are those of each patch, as published."""

    Settings: ClassVar[type[TrainingSettings]] = HyperDSNetTraining
    method: ClassVar[str] = "hyper-dsnet"
    model: ClassVar[str] = "hyper-dsnet"
    network_inputs: ClassVar[tuple[str, ...]] = ("pan", "upsampled", "hs")
    scaled: ClassVar[tuple[str, ...]] = ("target", "pan", "upsampled", "hs")


_RECIPES: dict[str, type[Recipe]] = {
    recipe.method: recipe for recipe in (HyperPNNRecipe, HSpeNetRecipe, HyperDSNetRecipe)
}


def recipe(method: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Recipe of a method of this room.

    Raises
    ------
    UnknownName
        The method is not trained.
    BadSettings
    """
    cls = _RECIPES.get(method)
    if cls is None:
        raise UnknownName(f"no training for method {method!r} in sharpening: {closest(method, tuple(_RECIPES))}")
    return cls(cls.Settings.make(dict(settings or {})))
