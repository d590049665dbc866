"""Hyper-MAE: channels and places are hidden apart from each other; scenes of any sensors side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import nn

from torchspectral.backbones.base import Backbone
from torchspectral.backbones.less_vit import HyperMAE
from torchspectral.backbones.less_vit import statistics as kept_statistics
from torchspectral.backbones.less_vit.encoder import two_deviations
from torchspectral.backbones.less_vit.hyper_mae import Reconstruction
from torchspectral.backbones.less_vit.masking import sample_channels
from torchspectral.backbones.less_vit.spectra import RADAR_WAVELENGTHS
from torchspectral.errors import BadCube, BadSettings
from torchspectral.geo.lazy import missing_value
from torchspectral.learn.losses.gather import from_first, mean_over_processes
from torchspectral.learn.patches import PatchStore
from torchspectral.learn.recipe import Batch, Scene, TrainingSettings
from torchspectral.learn.scenes import common_quantity, cubes_of
from torchspectral.learn.views import GAIN, KNOTS, OFFSET, SIGMA, View, ViewPlan, make_view
from torchspectral.pretraining.base import PretrainingRecipe
from torchspectral.pretraining.hyper_mae.sensors import Sensor, alike, sort_by_sensor, statistics_of, waves_of
from torchspectral.pretraining.hyper_mae.settings import HyperMAETraining, HyperMAEv1Training
from torchspectral.weights import models


class HyperMAERecipe(PretrainingRecipe):
    """Hyper-MAE of the second paper: rotary embedding of wavelengths, channels sampled before they are hidden.

    Scenes may be of different sensors: patches carry the number of theirs, channels of narrower sensors are stored with
    empty ones behind, and each step adds the losses of the sensors in its batch, weighted by their patches.

    References
    ----------
    Si et al., "Towards Scalable Foundation Model for Multi-modal and Hyperspectral Geospatial Data", arXiv 2503.12843
    (2025). "LESSViT: Robust Hyperspectral Representation Learning under Spectral Configuration Shift", arXiv 2605.18541.
    """

    Settings: ClassVar[type[TrainingSettings]] = HyperMAETraining
    method: ClassVar[str] = "hyper-mae"
    families: ClassVar[tuple[str, ...]] = ("less-vit-",)
    uses: ClassVar[tuple[str, ...]] = ("valid",)
    unused: ClassVar[tuple[str, ...]] = ("temporal", "crop_least", "crop_most", "masked_bands")
    default_epochs: ClassVar[int] = 200

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        s = self.settings
        if s.channel_least > s.channel_most:
            raise BadSettings(f"channels left out from {s.channel_least} to {s.channel_most}, expected rising shares")
        if s.view > s.patch:
            raise BadSettings(f"view={s.view} with patch={s.patch}, expected views that fit into a patch")
        self.layers = ("radar",) if s.radar else ()  # type: ignore[misc]
        self.sensors: list[Sensor] = []
        self.statistics: list[tuple[np.ndarray, np.ndarray]] = []
        self.radar_statistics = (np.zeros(2), np.ones(2))

    # Data

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Sort the scenes by sensor; their quantity must be one.

        Raises
        ------
        BandMismatch, MissingMetadata
        """
        self.sensors = sort_by_sensor(scenes, self.pixel)
        cubes = cubes_of(scenes)
        self.quantity = common_quantity(cubes)
        largest = max(self.sensors, key=lambda sensor: len(sensor.index))
        self.index, self.wavelength = np.array(largest.index), np.array(largest.wavelength)
        if len(self.sensors) == 1 and "fwhm" in cubes[0].coords:
            self.fwhm = np.asarray(cubes[0]["fwhm"].values, dtype=np.float64)[self.index]

    @property
    def pixel(self) -> float:
        """Side of a pixel where scenes do not say it [m]: of the settings, or the backbone's."""
        if self.settings.resolution:
            return float(self.settings.resolution)
        with torch.device("meta"):
            return float(self.backbone().resolution)  # type: ignore[arg-type]

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Channels of the scene's sensor and empty ones behind, the sensor's number, and radar where it is used."""
        cube = cubes_of([scene])[0]
        number = next(i for i, sensor in enumerate(self.sensors) if alike(np.array(sensor.every), waves_of(cube)))
        values = np.asarray(cube.isel(band=list(self.sensors[number].index)).values)
        nodata = None if values.dtype.kind == "f" else missing_value(cube)
        image = np.zeros((self.channels, *values.shape[1:]), dtype=np.float32)
        image[: len(values)] = values
        if nodata is not None:
            image[: len(values)][values == nodata] = np.nan
        found = {"image": image}
        if len(self.sensors) > 1:
            found["sensor"] = np.full((1, *values.shape[1:]), number, dtype=np.float32)
        if self.settings.radar:
            assert isinstance(scene, xr.Dataset)
            found["radar"] = np.asarray(scene["radar"].values, dtype=np.float32)
            if found["radar"].shape != (2, *values.shape[1:]):
                raise BadCube(
                    f"got radar of shape {found['radar'].shape}, expected VV and VH on the cube's {values.shape[1:]} pixels"
                )
        return found

    @property
    def channels(self) -> int:
        """Channels of the widest sensor."""
        return max(len(sensor.index) for sensor in self.sensors)

    def store_settings(self) -> dict[str, Any]:
        """Radar as well."""
        return {**super().store_settings(), "radar": self.settings.radar}

    def study(self, store: PatchStore) -> None:
        """Mean and standard deviation of each band of each sensor, and of radar, over valid pixels.

        Raises
        ------
        BadInput
            A band that does not vary, or a sensor without a patch.
        """
        if len(self.sensors) == 1:
            super().study(store)
            self.statistics = [(self.mean, self.std)]
        else:
            most = self.settings.statistics_patches
            self.statistics = [
                statistics_of(store, "image", len(s.index), most, number) for number, s in enumerate(self.sensors)
            ]
            widest = max(range(len(self.sensors)), key=lambda i: len(self.sensors[i].index))
            self.mean, self.std = self.statistics[widest]
        if self.settings.radar:
            self.radar_statistics = statistics_of(store, "radar", 2, self.settings.statistics_patches)

    def sample(self, store: PatchStore, part: str, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A patch, what its view is made by, its sensor as one number, and noise of channels and places."""
        found = super().sample(store, part, index, rng)
        if "sensor" in found:
            found["sensor"] = found["sensor"][:, :1, :1]
        return found

    def draws(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Noise of channels, then of places: those of least noise are seen."""
        places = (self.view_size // self.patch_size) ** 2
        channels = self.channels + (2 if self.settings.radar else 0)
        return {
            "channel_noise": rng.random(channels, dtype=np.float32), "place_noise": rng.random(places, dtype=np.float32)
        }  # fmt: skip

    def plans(self) -> tuple[ViewPlan, ...]:
        """One view, cut out at the resolution of the patch: places are told in metres."""
        share = (self.view_size / self.settings.patch) ** 2
        return (self.plan(scale=(share, share), ratio=(1.0, 1.0)),)

    # Network

    @cached_property
    def patch_size(self) -> int:
        """Pixels a side of a token."""
        return int(self.arguments()["patch_size"])

    def arguments(self) -> dict[str, Any]:
        """Arguments of encoder and decoder: those of the size, and of the settings over them."""
        s, known = self.settings, models()
        size = s.backbone.removeprefix("less-vit")
        of_size = known.get(f"hyper-mae{size}", known[s.backbone]).defaults
        own = {
            "mask_ratio": s.mask_ratio, "channel_mask_ratio": s.channel_mask_ratio, "norm_pix": s.norm_pix, "drop": s.drop,
            "attn_drop": s.attn_drop, "drop_path": s.drop_path, "decoder_rope": s.decoder_rope, "channel_dropout": None,
        }  # fmt: skip
        return {**of_size, **known[s.backbone].defaults, **own, **s.decoder, **self.constructor()}

    def network(self, backbone: Backbone) -> nn.Module:
        """The encoder with a decoder; what nobody uses does not learn."""
        made = HyperMAE(**self.arguments())
        made.encoder.load_state_dict(backbone.state_dict())
        if self.settings.checkpointing:
            made.set_grad_checkpointing()
        if not self.settings.radar:
            for part in (made.encoder.radar_patch_embed, made.decoder.decoder_radar_pred):
                part.requires_grad_(False)
        return made

    def encoder(self, network: nn.Module) -> Backbone:
        """The encoder inside."""
        found: Any = network.encoder
        inner: Backbone = found
        return inner

    def exported_as(self) -> tuple[str, dict[str, Any]]:
        """The encoder's name and arguments; its pixels are those of the one sensor that it learnt from."""
        name, arguments = super().exported_as()
        if len(self.sensors) == 1:
            arguments = {**arguments, "resolution": self.sensors[0].resolution}
        return name, arguments

    def exported(self, network: nn.Module) -> nn.Module:
        """The encoder, with the statistics of its sensors where there are several."""
        plain = super().exported(network)
        if len(self.sensors) > 1:
            sensors = [
                (s.wavelength, *statistics, s.resolution)
                for s, statistics in zip(self.sensors, self.statistics, strict=True)
            ]
            plain.add_module(kept_statistics.PREFIX, kept_statistics.SensorStatistics(sensors))  # type: ignore[arg-type]
        return plain

    # Loss

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Mean over the patches of all sensors of the errors of hidden places and hidden channels.

        Channels are drawn once for the batch of all processes, and what is averaged over valid patches is averaged over
        those of all processes.
        """
        view = self.views(batch)[0]
        s = self.settings
        radar = make_view(batch["radar"], _radar_draws(batch), self.plans()[0], batch.get("valid")) if s.radar else None
        if model.encoder.perception_radius is not None:  # type: ignore[union-attr]  # one mask of places for the batch
            batch = {**batch, "place_noise": from_first(batch["place_noise"][:1]).expand_as(batch["place_noise"])}
        channels = self._drawn_channels(view.values.device) if model.training else [None] * len(self.sensors)
        which = batch["sensor"].flatten().round().long() if "sensor" in batch else None
        rows = (
            [torch.arange(len(view.values))] if which is None else [which.cpu() == n for n in range(len(self.sensors))]
        )
        found = [self._of_sensor(model, batch, n, channels[n], view, radar, rows[n]) for n in range(len(self.sensors))]
        terms, counts = (torch.stack(parts) for parts in zip(*found, strict=True))
        patches = torch.tensor([len(view.values[r]) for r in rows], dtype=torch.float64, device=view.values.device)
        patches_of_all, counts_of_all = mean_over_processes(patches), mean_over_processes(counts)
        shares = (patches_of_all / len(view.values))[:, None] * counts / counts_of_all.clamp(min=1e-12)
        return (terms * shares.to(terms.dtype)).sum()

    def _drawn_channels(self, device: torch.device) -> Sequence[torch.Tensor | None]:
        """Channels of each sensor that a step looks at."""
        s = self.settings
        if s.channel_most <= 0:
            return [None] * len(self.sensors)
        drawn = []
        for sensor in self.sensors:
            kept = torch.zeros(len(sensor.index), device=device)
            kept[sample_channels(len(sensor.index), (s.channel_least, s.channel_most)).to(device)] = 1.0
            drawn.append(torch.nonzero(from_first(kept) > 0.5)[:, 0])
        return drawn

    def _of_sensor(
        self,
        model: Any,
        batch: Batch,
        number: int,
        drawn: torch.Tensor | None,
        view: View,
        radar: View | None,
        rows: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Terms of the loss of a sensor's patches, and over how many hidden places or channels each is a mean."""
        images = view.values[rows]
        if not len(images):
            none = images.new_zeros(9 if radar is not None else 2)
            return none, none.double()
        sensor = self.sensors[number]
        valid = None if view.valid is None else view.valid[rows]
        images = self._scaled(images[:, : len(sensor.index)], self.statistics[number], valid)
        waves = torch.tensor(sensor.wavelength, device=images.device)
        if drawn is not None:
            images, waves = images[:, drawn], waves[drawn]
        images = images.to(next(model.parameters()).dtype)
        channels, places = batch["channel_noise"][rows], batch["place_noise"][rows]
        if radar is None:
            noise = (channels[:, : len(waves)], places)
            return optical_terms(model(images, waves, resolution=sensor.resolution, noise=noise))
        other = self._scaled(radar.values[rows], self.radar_statistics, valid).to(images.dtype)
        two = {"radar": other, "radar_wavelengths": torch.tensor(RADAR_WAVELENGTHS, device=images.device)}
        seen = {"optical": len(waves), "radar": 2, "all": len(waves) + 2}
        found = [
            radar_terms(
                model(images, waves, **two, visible=v, resolution=sensor.resolution, noise=(channels[:, -n:], places))
            )
            for v, n in seen.items()
        ]
        return torch.cat([terms for terms, _ in found]), torch.cat([counts for _, counts in found])

    @staticmethod
    def _scaled(x: torch.Tensor, statistics: tuple[np.ndarray, np.ndarray], valid: torch.Tensor | None) -> torch.Tensor:
        """Two deviations about the mean as 0..1; nodata is 0."""
        return two_deviations(x, statistics[0].tolist(), statistics[1].tolist(), valid)

    def embed(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """What the encoder makes of the middle of each patch, sensor by sensor."""
        encoder: Any = self.encoder(model)
        size = self.view_size
        row, col = ((n - size) // 2 for n in batch["image"].shape[-2:])
        cut = (..., slice(row, row + size), slice(col, col + size))
        which = batch["sensor"].flatten(1)[:, 0].round().long() if "sensor" in batch else None
        found = batch["image"].new_zeros(len(batch["image"]), encoder.dim)
        for number, sensor in enumerate(self.sensors):
            rows = torch.ones(len(found), dtype=torch.bool) if which is None else (which == number).cpu()
            if not bool(rows.any()):
                continue
            valid = batch["valid"][rows][cut] > 0.5 if "valid" in batch else None
            images = self._scaled(batch["image"][rows][cut][:, : len(sensor.index)], self.statistics[number], valid)
            waves = torch.tensor(sensor.wavelength, device=images.device)
            found[rows] = encoder.forward_features(images, waves, resolution=sensor.resolution).to(found.dtype)
        return found

    def optimiser(self, parameters: Any) -> torch.optim.Optimizer:
        """AdamW with the betas of masked autoencoders."""
        return torch.optim.AdamW(self.groups(parameters), lr=self.settings.learning_rate, betas=(0.9, 0.95))

    def card(self) -> dict[str, Any]:
        """Bands and statistics of the one sensor; of several, in words."""
        found = super().card()
        words = f"{self.quantity}, two deviations about the mean as 0..1, nodata 0; pretrained by {self.method}"
        if len(self.sensors) == 1:
            return {**found, "preprocessing": words}
        told = "; ".join(
            f"{len(s.index)} bands of {s.wavelength[0]:.0f}-{s.wavelength[-1]:.0f} nm, {s.resolution:g} m"
            for s in self.sensors
        )
        many = {"wavelengths": "any", "fwhm": None, "mean": None, "std": None, "values": None}
        return {
            **found, **many, "optional_keys": [kept_statistics.OPTIONAL],
            "preprocessing": f"{words}; statistics of each sensor's own patches, kept among the weights as "
            f"{kept_statistics.PREFIX}.N: {told}",
        }  # fmt: skip


class HyperMAEv1Recipe(HyperMAERecipe):
    """Hyper-MAE of the first paper: sines and cosines of place and wavelength, added once; radar beside optical bands.

    With radar, a step adds three losses: of optical bands alone, of radar alone, and of both.

    References
    ----------
    Si et al., arXiv 2503.12843 (2025), section 3.3.
    """

    Settings: ClassVar[type[TrainingSettings]] = HyperMAEv1Training
    method: ClassVar[str] = "hyper-mae-v1"
    default_epochs: ClassVar[int] = 300


def _radar_draws(batch: Batch) -> torch.Tensor:
    """Place and symmetry of the view are those of the optical one; brightness stays."""
    drawn = batch["draws"][:, 0].clone()
    drawn[:, SIGMA:] = 0.0
    drawn[:, GAIN] = 1.0
    drawn[:, OFFSET + 1 :] = 1.0
    return drawn[:, : OFFSET + 1 + KNOTS + 2]


def optical_terms(made: Reconstruction) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors over hidden places and over hidden channels, and how many of them hold anything, (2,) each."""
    seen = (made.target != 0).any(-1)
    counted = ((made.position_mask > 0) & seen.any(1), (made.channel_mask > 0) & seen.any(2))
    return torch.stack([made.position_loss, made.channel_loss]), torch.stack([c.sum() for c in counted]).double()


def radar_terms(made: Reconstruction) -> tuple[torch.Tensor, torch.Tensor]:
    """The same with radar: error over hidden places, over hidden optical channels, over hidden radar channels, (3,) each.

    As in `reconstruction_loss`, their sum is the loss.
    """
    hidden = made.channel_mask
    error = (made.prediction - made.target).square().mean((-2, -1)) * hidden
    counts = [hidden[:, part].sum() for part in (slice(0, -2), slice(-2, None))]
    halves = [
        error[:, part].sum() / count.clamp(min=1) / 2
        for part, count in zip((slice(0, -2), slice(-2, None)), counts, strict=True)
    ]
    return torch.stack([made.position_loss, *halves]), torch.stack([made.position_mask.sum(), *counts]).double()
