"""How the networks of this room are trained: on scenes whose resolution is taken away bicubically.

The papers' schedules are in epochs of patch lists; here they are in optimiser steps. ESSAformer's authors published no
training: its recipe is ours, after that of SSPSR, whose framework they name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import xarray as xr

from torchspectral.cube import nodata_mask
from torchspectral.errors import BadSettings, UnknownName, closest
from torchspectral.learn.recipe import Batch, Recipe, Scene, TrainingSettings
from torchspectral.learn.scene_pairs import ScenePairs, cubes_of
from torchspectral.ops.resize import imresize
from torchspectral.settings import setting

STRIP = 64
LEAST_MEAN = 0.02
"""Of a band; darker ones count as if they were as bright."""


class SuperResolutionTraining(TrainingSettings):
    """Settings that the training of every network of the room has."""

    batch: int = setting(8, "patches in a step, over all devices", ge=1)
    patch: int = setting(64, "side of a square patch on the fine grid, a multiple of the scale", unit="pixel", ge=4)
    learning_rate: float = setting(1e-4, "learning rate", gt=0)
    scale: int = setting(4, "how many times finer the output is", ge=2)
    gain: float = setting(
        0.0, "values are divided by it; 0: 1 for reflectance, else the largest value of the scenes", ge=0
    )
    quiet_start: bool = setting(
        False, "begin as bicubic interpolation (essaformer: with residual=bicubic), not with random weights in its way"
    )
    start: str = setting("", "weights to begin from, a file, a run or a name")


class SuperResolutionRecipe(ScenePairs):
    """A network on pairs of a scene and its bicubically degraded copy.

    Roles: ``target`` (the scene), ``low`` (degraded as MATLAB's ``imresize`` does), ``upsampled`` (enlarged again).
    """

    Settings: ClassVar[type[TrainingSettings]] = SuperResolutionTraining
    room: ClassVar[str] = "superresolution"
    scaled: ClassVar[tuple[str, ...]] = ("target", "low", "upsampled")
    monitor: ClassVar[str] = "psnr"
    mode: ClassVar[str] = "max"

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        self.multiple = self.settings.scale
        self.reach = 5 * self.settings.scale

    def usual_gain(self, cubes: Sequence[xr.DataArray]) -> float:
        """1 for reflectance, else the largest value of the scenes."""
        return 1.0 if self.quantity == "reflectance" else max(peak(cube.isel(band=self.index)) for cube in cubes)

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Truth, degraded and enlarged image."""
        cube = cubes_of([scene])[0].isel(band=self.index)
        rows, cols = (cube.sizes[d] // self.multiple * self.multiple for d in ("y", "x"))
        values = cube.where(~nodata_mask(cube)).values[:, :rows, :cols] / self.gain
        target = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        low = imresize(target, 1 / self.multiple)
        return {"target": target.numpy(), "low": low.numpy(), "upsampled": imresize(low, self.multiple).numpy()}

    def build(self) -> torch.nn.Module:
        """The network with fresh weights, or those of `start`."""
        network = super().build()
        if self.settings.start:
            from torchspectral.weights import load

            load(self.settings.start, model=network)
        elif self.settings.quiet_start:
            self.quieten(network)
        return network

    def quieten(self, network: torch.nn.Module) -> None:
        """Change fresh weights so that the network interpolates bicubically."""
        raise NotImplementedError

    def predict(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """The network's output for a batch."""
        raise NotImplementedError

    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
        """Mean absolute difference, PSNR and spectral angle, and the PSNR of bicubic interpolation to beat."""
        from torchspectral.metrics import MPSNR, SAM

        out = self.predict(model, batch)
        psnr, plain, angle = MPSNR(1.0, cap=100.0), MPSNR(1.0, cap=100.0), SAM()
        for made, up, truth in zip(out, batch["upsampled"], batch["target"], strict=True):
            psnr.update(made, truth)
            plain.update(up, truth)
            angle.update(made, truth)
        loss = float((out.detach() - batch["target"]).abs().mean())
        return {"loss": loss, "psnr": psnr.compute(), "psnr_bicubic": plain.compute(), "sam": angle.compute()}

    def card(self) -> dict[str, Any]:
        """Bands, scale, ratio and how the scenes were degraded."""
        made = f"scenes degraded bicubically, antialiased, by {self.multiple}; divided by {self.gain:g}"
        return {**super().card(), "preprocessing": made}


def peak(cube: xr.DataArray) -> float:
    """Largest valid value of a cube, read in strips; 1 where there is none above zero."""
    best = 0.0
    for top in range(0, cube.sizes["y"], STRIP):
        part = cube.isel(y=slice(top, top + STRIP))
        values = part.where(~nodata_mask(part)).values
        if np.isfinite(values).any():
            best = max(best, float(np.nanmax(values)))
    return best or 1.0


class ESSAformerTraining(SuperResolutionTraining):
    """Settings of the training of ESSAformer; none were published."""

    dim: int = setting(256, "channels", ge=1)
    dropout: float = setting(0.2, "share of channels that is dropped, three times a refinement", ge=0, lt=1)
    residual: Literal["none", "bicubic"] = setting("none", "what the network's output is added to; published: none")
    tv_weight: float = setting(0.0, "weight of the total variation over space and bands; SSPSR: 0.001", ge=0)
    relative: bool = setting(False, "hold each band's difference against its mean, so that dark bands count alike")


class ESSAformerRecipe(SuperResolutionRecipe):
    """ESSAformer: mean absolute difference."""

    Settings: ClassVar[type[TrainingSettings]] = ESSAformerTraining
    method: ClassVar[str] = "essaformer"
    model: ClassVar[str] = "essaformer"

    def model_arguments(self) -> dict[str, Any]:
        """Bands, width and scale."""
        s = self.settings
        return {
            "bands": len(self.index),
            "dim": s.dim,
            "scale": s.scale,
            "dropout": s.dropout,
            "residual": s.residual,
        }

    def quieten(self, network: torch.nn.Module) -> None:
        """The last layer at zero: what is left is the residual."""
        for parameter in network.get_submodule("conv_last").parameters():
            torch.nn.init.zeros_(parameter)

    def predict(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """The network's output for a batch."""
        out: torch.Tensor = model(batch["low"])
        return out

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Mean absolute difference, of each band over its mean where that is asked for, and the variation."""
        from torchspectral.superresolution.spectral_mixup.losses import tv_spatial, tv_spectral

        out = self.predict(model, batch)
        off = (out - batch["target"]).abs()
        if self.settings.relative:
            off = off / batch["target"].abs().mean((-2, -1), keepdim=True).clamp_min(LEAST_MEAN)
        loss = off.mean()
        weight = self.settings.tv_weight
        return loss + tv_spatial(out, weight) + tv_spectral(out, weight) if weight else loss


def recipe(method: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Recipe of a method of this room.

    Raises
    ------
    UnknownName
        The method is not trained.
    BadSettings
    """
    from torchspectral.superresolution.spectral_mixup.training import SpectralMixupRecipe

    known: dict[str, type[Recipe]] = {r.method: r for r in (ESSAformerRecipe, SpectralMixupRecipe)}
    cls = known.get(method)
    if cls is None:
        raise UnknownName(f"no training for method {method!r} in superresolution: {closest(method, tuple(known))}")
    made = cls(cls.Settings.make(dict(settings or {})))
    if made.settings.patch % made.settings.scale:
        raise BadSettings(f"got patches of {made.settings.patch} pixels, expected a multiple of the scale")
    return made
