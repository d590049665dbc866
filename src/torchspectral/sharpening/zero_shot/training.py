"""How the networks that are adapted on the scene are trained beforehand."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from torchspectral.learn.recipe import Batch, TrainingSettings
from torchspectral.ops.mtf import HS_GAIN, mtf_kernel
from torchspectral.settings import setting
from torchspectral.sharpening.training import SharpeningRecipe, SharpeningTraining
from torchspectral.sharpening.zero_shot.correlation import LocalCorrelation
from torchspectral.sharpening.zero_shot.full_resolution import FullResolution
from torchspectral.sharpening.zero_shot.losses import (
    SensorView,
    correlation_threshold,
    reflected_filter,
    spectral_loss,
    structural_loss,
)


class RPNNTraining(SharpeningTraining):
    """Settings of the training of R-PNN (the authors: 200 epochs of full-resolution patches, first bands only)."""

    batch: int = setting(4, "patches in a step, over all devices", ge=1)
    learning_rate: float = setting(1e-5, "learning rate", gt=0)
    ratio: int = setting(6, "resolution ratio", ge=2)
    alpha: float = setting(0.5, "weight of the structural loss", ge=0)
    band: int = setting(0, "band to train on, from 0; -1: another one at random in each step", ge=-1)


class RPNNRecipe(SharpeningRecipe):
    """R-PNN's losses, which need no truth; the truth of Wald's protocol only validates."""

    Settings: ClassVar[type[TrainingSettings]] = RPNNTraining
    method: ClassVar[str] = "r-pnn"
    model: ClassVar[str] = "r-pnn"
    network_inputs: ClassVar[tuple[str, ...]] = ("pan", "upsampled", "hs")
    scaled: ClassVar[tuple[str, ...]] = ("target", "pan", "upsampled", "hs")

    def model_arguments(self) -> dict[str, Any]:
        """None: the network sees one band at a time."""
        return {}

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Spectral and structural loss of one band."""
        s, bands = self.settings, batch["hs"].shape[1]
        band = int(torch.randint(bands, ())) if s.band < 0 else min(s.band, bands - 1)
        one = slice(band, band + 1)
        up, low, pan = batch["upsampled"][:, one], batch["hs"][:, one], batch["pan"]
        ratio, gain = self.multiple, s.mtf_gain or HS_GAIN
        view = SensorView.of(ratio, gain, normalize=True)
        scope = int(model.scope)  # type: ignore[arg-type]
        x = _reflected(torch.cat([up, pan], 1), scope)
        smooth = reflected_filter(x[:, 1:], mtf_kernel(float(ratio), gain, 41, normalize=True))
        cut = slice(scope, -scope)
        threshold = correlation_threshold(x[:, :1], smooth, 3 * ratio, clip_cross=True)[..., cut, cut]
        out = model(x)
        field = LocalCorrelation(pan, -(-ratio // 2), clip_cross=True)(out)
        total: torch.Tensor = spectral_loss(view(out), view.crop(low)) + s.alpha * structural_loss(field, threshold)[0]
        return total

    def sharpened(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """All bands, one after another."""
        scope = int(model.scope)  # type: ignore[arg-type]
        bands = [
            model(_reflected(torch.cat([band, batch["pan"]], 1), scope)) for band in batch["upsampled"].split(1, dim=1)
        ]
        return torch.cat(bands, 1)

    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
        """Loss, ERGAS and spectral angle, and the ERGAS of plain interpolation to beat."""
        return _validated(self, model, batch)

    def card(self) -> dict[str, Any]:
        """As for all; any bands, and only a start."""
        return super().card() | {"wavelengths": "any", "fwhm": None, "role": "start"}


class ZPNNTraining(SharpeningTraining):
    """Settings of the training of Z-PNN's PNN."""

    batch: int = setting(4, "patches in a step, over all devices", ge=1)
    learning_rate: float = setting(1e-5, "learning rate", gt=0)
    beta: float = setting(0.36, "weight of the structural loss", ge=0)
    supervised: bool = setting(False, "mean absolute difference to the truth instead, as for A-PNN")


class ZPNNRecipe(SharpeningRecipe):
    """Z-PNN's losses, which need no truth, or the supervised one of A-PNN."""

    Settings: ClassVar[type[TrainingSettings]] = ZPNNTraining
    method: ClassVar[str] = "z-pnn"
    model: ClassVar[str] = "z-pnn"
    network_inputs: ClassVar[tuple[str, ...]] = ("pan", "upsampled", "hs")
    scaled: ClassVar[tuple[str, ...]] = ("target", "pan", "upsampled", "hs")
    constructor: ClassVar[tuple[str, ...]] = ()

    def usual_gain(self, cubes: Any) -> float:
        """2048 for raw numbers, 1 for all else."""
        return 2048.0 if self.quantity == "dn" else 1.0

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Full-resolution losses, or the mean absolute difference."""
        s, up, ratio = self.settings, batch["upsampled"], self.multiple
        scope = int(model.scope)  # type: ignore[arg-type]
        out = model(torch.cat([up, batch["pan"]], 1))
        if s.supervised:
            cut = slice(scope, -scope or None)
            return torch.nn.functional.l1_loss(out, batch["target"][..., cut, cut])
        bands = up.shape[1]
        places = [(ratio // 2, ratio // 2)] * bands
        goal = FullResolution(up, batch["pan"], ratio, (s.mtf_gain or HS_GAIN,) * bands, places, scope)
        spectral, structural, _ = goal(out)
        return spectral + s.beta * structural

    def sharpened(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """The image, with repeated edges for the network."""
        x = torch.cat([batch["upsampled"], batch["pan"]], 1)
        out: torch.Tensor = model(torch.nn.functional.pad(x, (int(model.scope),) * 4, mode="replicate"))  # type: ignore[arg-type]
        return out

    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
        """Loss, ERGAS and spectral angle, and the ERGAS of plain interpolation to beat."""
        return _validated(self, model, batch)

    def card(self) -> dict[str, Any]:
        """As for all; only a start."""
        return super().card() | {"role": "start"}


def _validated(recipe: Any, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
    from torchspectral.metrics import ERGAS, SAM

    out = recipe.sharpened(model, batch)
    ergas, plain, angle = ERGAS(recipe.multiple), ERGAS(recipe.multiple), SAM()
    for made, low, truth in zip(out, batch["upsampled"], batch["target"], strict=True):
        ergas.update(made, truth)
        plain.update(low, truth)
        angle.update(made, truth)
    loss = float(recipe.loss(model, batch))
    return {"loss": loss, "ergas": ergas.compute(), "ergas_exp": plain.compute(), "sam": angle.compute()}


def _reflected(x: torch.Tensor, scope: int) -> torch.Tensor:
    return torch.nn.functional.pad(x, (scope,) * 4, mode="reflect")


RECIPES = {recipe.method: recipe for recipe in (RPNNRecipe, ZPNNRecipe)}
