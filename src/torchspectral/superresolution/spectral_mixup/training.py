"""Training with spectral mixup, an auxiliary RGB task and scenes that have no finer truth.

The authors take an optimiser step after each part of an iteration: the labelled batch, its mixtures, batches of RGB
images, and, in the first half of the training, unlabelled batches. Here every step is one such part, in this order
(`part_of`), each with a batch of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from torchspectral.cube import nodata_mask
from torchspectral.errors import BadInput, BadSettings, BandMismatch
from torchspectral.learn.recipe import Batch, Scene, TrainingSettings
from torchspectral.learn.scenes import open_scenes
from torchspectral.ops.resize import imresize
from torchspectral.settings import setting
from torchspectral.superresolution.spectral_mixup.losses import hybrid_loss
from torchspectral.superresolution.spectral_mixup.mixing import mix_spectra, mixing_matrix
from torchspectral.superresolution.spectral_mixup.projection import cube_to_eight, read_projection, rgb_to_eight
from torchspectral.superresolution.training import SuperResolutionRecipe, SuperResolutionTraining

EPOCHS = 10
"""Of the published schedule; steps are dealt out to them evenly."""


class SpectralMixupTraining(SuperResolutionTraining):
    """Settings of the training with spectral mixup."""

    n_subs: int = setting(8, "bands in a group; the RGB task needs 8, or a projection of its own", ge=1)
    n_ovls: int = setting(2, "bands that neighbouring groups share", ge=0)
    n_feats: int = setting(256, "channels", ge=16)
    res_scale: float = setting(0.1, "share of a residual block that is added", gt=0)
    mixups: int = setting(1, "mixed batches an iteration (theta of mixup)", ge=0)
    rgb_batches: int = setting(3, "batches of RGB images an iteration (theta of RGB)", ge=0)
    unlabelled_batches: int = setting(3, "unlabelled batches an iteration, while they are used", ge=0)
    unlabelled_until: float = setting(0.5, "share of the training in which unlabelled batches are used", ge=0, le=1)
    tv_weight: float = setting(1e-3, "weight of the variations in the loss", ge=0)
    rgb: str = setting("", "folder or list of RGB images; empty: pseudo-colours of the scenes")
    unlabelled: str = setting("", "folder or list of scenes without finer truth; empty: the scenes as they are")
    projection: str = setting("", "table of numbers, bands x n_subs, in place of the camera's response")
    mended: bool = setting(False, "0.66 in place of the authors' 0.76 in the matrix from RGB to pseudo-colours")
    pool: int = setting(512, "patches kept of the RGB images, and of the unlabelled scenes", ge=1)


class SpectralMixupRecipe(SuperResolutionRecipe):
    """DeepShare with spectral mixup: mean absolute difference and variations."""

    Settings: ClassVar[type[TrainingSettings]] = SpectralMixupTraining
    method: ClassVar[str] = "spectral-mixup"
    model: ClassVar[str] = "spectral-mixup"

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        self.matrix = np.zeros((0, 0), dtype=np.float32)
        self.pools: dict[str, np.ndarray] = {}
        self._plan: torch.optim.lr_scheduler.LRScheduler | None = None

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """As for all, and the matrix to pseudo-colours where a task needs it."""
        super().prepare(scenes)
        s = self.settings
        if not (s.rgb_batches or s.unlabelled_batches):
            return
        if s.projection:
            self.matrix = read_projection(s.projection, len(self.index), s.n_subs)
        elif s.n_subs == 8:
            self.matrix = cube_to_eight(self.wavelength, s.mended)
        else:
            raise BandMismatch(
                f"the RGB task has 8 pseudo-colours and n_subs={s.n_subs}: give a projection of your own "
                "(projection=FILE.csv), or set rgb_batches=0 and unlabelled_batches=0"
            )
        if s.rgb and s.n_subs != 8:
            raise BandMismatch(f"RGB images become 8 pseudo-colours, got n_subs={s.n_subs}: leave rgb empty")

    def model_arguments(self) -> dict[str, Any]:
        """Bands, groups, width and scale."""
        s = self.settings
        return {
            "bands": len(self.index),
            "n_subs": s.n_subs,
            "n_ovls": s.n_ovls,
            "n_feats": s.n_feats,
            "scale": s.scale,
            "res_scale": s.res_scale,
        }

    def quieten(self, network: torch.nn.Module) -> None:
        """What is enlarged goes straight through, and nothing is added.

        Raises
        ------
        BadSettings
            There are fewer channels than bands to go through.
        """
        if self.settings.n_feats < len(self.index):
            raise BadSettings(
                f"got n_feats={self.settings.n_feats} for {len(self.index)} bands and a quiet start, expected at least as "
                "many: the enlarged bands go through the channels"
            )
        for kind in ("", "_RGB"):
            trunk, skip, final = (network.get_submodule(f"{name}{kind}") for name in ("trunk", "skip_conv", "final"))
            for layer in (skip, final):
                torch.nn.init.dirac_(layer.get_parameter("weight"))
                torch.nn.init.zeros_(layer.get_parameter("bias"))
            torch.nn.init.zeros_(trunk.get_parameter("head.weight"))
            for name, parameter in trunk.named_parameters():
                if name.endswith("bias"):
                    torch.nn.init.zeros_(parameter)

    def schedule(self, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler | None:
        """0.3 from the fifth of ten parts on, 0.09 in the last but for another 0.3 there, as published.

        With ``decay=cosine`` that of the base class. Its count of steps says which part of an iteration comes.
        """
        plan = super().schedule(optimiser) if self.settings.decay == "cosine" else None
        self._plan = plan or torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        return self._plan

    def _rate(self, step: int) -> float:
        epoch = min(step * EPOCHS // max(self.settings.steps, 1), EPOCHS - 1) + 1
        return float(0.3 ** (epoch // 5) * (0.3 if epoch == EPOCHS else 1.0))

    def part_of(self, step: int) -> str:
        """What a step trains on: labelled, mixed, rgb or unlabelled."""
        s = self.settings
        always = ["labelled"] + ["mixed"] * s.mixups + ["rgb"] * s.rgb_batches
        first = round(s.unlabelled_until * s.steps)
        if step < first:
            order = always + ["unlabelled"] * s.unlabelled_batches
            return order[step % len(order)]
        return always[(step - first) % len(always)]

    def predict(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """The network's output for a batch."""
        out: torch.Tensor = model(batch["low"], batch["upsampled"])
        return out

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Loss of the part of an iteration that this step is."""
        part = self.part_of(self._plan.last_epoch if self._plan is not None else 0)
        weight = self.settings.tv_weight
        if part == "rgb":
            target = self._colours(batch)
            low = imresize(target, 1 / self.multiple)
            return hybrid_loss(model(low, imresize(low, self.multiple), "rgb"), target, weight)
        if part == "unlabelled":
            return self._agreement(model, self._coarse(batch))
        if part == "mixed":
            bands = batch["target"].shape[1]
            matrix = mixing_matrix(bands, uniform=torch.rand(bands, bands, dtype=torch.float64).numpy())
            batch = {role: mix_spectra(image, matrix) for role, image in batch.items()}
        return hybrid_loss(self.predict(model, batch), batch["target"], weight)

    def _agreement(self, model: torch.nn.Module, low: torch.Tensor) -> torch.Tensor:
        """Pseudo-colours of the super-resolved cube against super-resolved pseudo-colours; both are learned from."""
        up = imresize(low, self.multiple)
        matrix = torch.from_numpy(self.matrix).to(low)
        small, large = (torch.einsum("bk,nbyx->nkyx", matrix, image) for image in (low, up))
        seen = torch.einsum("bk,nbyx->nkyx", matrix, model(low, up))
        return hybrid_loss(seen, model(small, large, "rgb"), self.settings.tv_weight)

    def _colours(self, batch: Batch) -> torch.Tensor:
        """A batch of pseudo-colours on the fine grid."""
        if self.settings.rgb:
            return self._drawn("rgb", self.settings.patch, batch["target"])
        return torch.einsum("bk,nbyx->nkyx", torch.from_numpy(self.matrix).to(batch["target"]), batch["target"])

    def _coarse(self, batch: Batch) -> torch.Tensor:
        """A batch of cubes at the sensor's own resolution, of the size of the degraded ones."""
        target, size = batch["target"], batch["low"].shape[-1]
        if self.settings.unlabelled:
            return self._drawn("unlabelled", size, target)
        row, col = (int(torch.randint(n - size + 1, ())) for n in target.shape[-2:])
        return target[..., row : row + size, col : col + size]

    def _drawn(self, kind: str, size: int, like: torch.Tensor) -> torch.Tensor:
        """Patches of a pool, at random; the pool is cut at its first use."""
        if kind not in self.pools:
            self.pools[kind] = self._pool(kind, size)
        pool = self.pools[kind]
        chosen = torch.randint(len(pool), (like.shape[0],)).numpy()
        return torch.from_numpy(pool[chosen]).to(like)

    def _pool(self, kind: str, size: int) -> np.ndarray:
        """Patches (n, channel, y, x) without nodata from evenly spread places of the images."""
        s = self.settings
        scenes = open_scenes(s.rgb if kind == "rgb" else s.unlabelled)
        rng = np.random.default_rng(len(scenes))
        found: list[np.ndarray] = []
        for scene in scenes:
            cube = scene.cube
            rows, cols = scene.shape
            if min(rows, cols) < size:
                continue
            for _ in range(-(-s.pool // len(scenes))):
                row, col = int(rng.integers(rows - size + 1)), int(rng.integers(cols - size + 1))
                window = cube.isel(y=slice(row, row + size), x=slice(col, col + size))
                values = self._colour_values(window) if kind == "rgb" else self._cube_values(window)
                if np.isfinite(values).all():
                    found.append(values.astype(np.float32))
        if not found:
            raise BadInput(f"the {kind} images have no {size} x {size} pixels without nodata: expected larger images")
        return np.stack(found)

    def _colour_values(self, window: Any) -> np.ndarray:
        if window.sizes["band"] != 3:
            raise BandMismatch(f"got an image of {window.sizes['band']} bands as RGB, expected 3: red, green, blue")
        whole = np.iinfo(window.dtype).max if window.dtype.kind in "iu" else 1.0
        values: np.ndarray = np.einsum("ck,cyx->kyx", rgb_to_eight(self.settings.mended), window.values / whole)
        return values

    def _cube_values(self, window: Any) -> np.ndarray:
        if window.sizes["band"] <= int(self.index.max()):
            raise BandMismatch(f"got an unlabelled scene of {window.sizes['band']} bands, expected those of the others")
        chosen = window.isel(band=self.index)
        values: np.ndarray = chosen.where(~nodata_mask(chosen)).values / self.gain
        return values
