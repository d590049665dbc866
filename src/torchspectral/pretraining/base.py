"""What pretraining is: an encoder learns from views of patches, and the encoder alone is kept.

A recipe says which views it wants (`plans`), which network it trains (`network`) and what its loss is. Here are the rest:
bands, statistics of the training patches, views, schedules, and the export of the encoder with its card.

Patches come from scenes or from a patch set: the role ``image`` (bands, y, x) in the scene's unit with ``valid`` (1, y, x),
``later`` where the data show the place at a second date, and ``label`` where they have one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr

from torchspectral.backbones.base import Backbone
from torchspectral.errors import BadInput, BadSettings, BandMismatch, closest
from torchspectral.geo.lazy import missing_value
from torchspectral.learn.patches import PatchStore
from torchspectral.learn.recipe import Batch, Recipe, Scene, TrainingSettings, common_bands
from torchspectral.learn.schedules import cosine, stepped, warmed_up
from torchspectral.learn.splits import TRAIN
from torchspectral.learn.views import View, ViewPlan, make_view
from torchspectral.registry import load_target
from torchspectral.settings import setting
from torchspectral.weights import create_model, models

DROPS = (0.6, 0.8)
"""Shares of the steps after which ``decay=steps`` takes a tenth of the rate."""
FAR = 10.0
"""Largest distance of a band from that of a backbone with fixed bands [nm]."""
QUANTILE_VALUES = 1_000_000
STORED = ("patch", "stride", "patches", "split", "held_out", "block", "guard", "holes", "broken", "sensor")


class PretrainingTraining(TrainingSettings):
    """Settings that every pretraining has; sizes and views are those of SpectralEarth."""

    backbone: str = setting("spec-vit-s", "encoder, see `torchspectral.create_model`")
    network: dict[str, Any] = setting({}, "arguments of the encoder over those of its size, such as {depth: 4}")
    start: str = setting("", "weights that the encoder begins from, a file, a run or a name; empty: fresh ones")
    batch: int = setting(64, "patches in a step, over all devices", ge=1)
    patch: int = setting(128, "side of a square patch", unit="pixel", ge=1)
    view: int = setting(0, "side of a view, which the encoder is built for; 0: that of the patch", unit="pixel", ge=0)
    patches: int = setting(1_000_000, "most training patches; more are thinned out evenly, seeded", ge=1)
    decay: str = setting(
        "cosine",
        "learning rate after the warm-up: cosine, constant, or steps (a tenth after 60 and 80 percent)",
        pattern="^(cosine|constant|steps)$",
    )
    warm_up: float = setting(0.0, "share of the steps in which the learning rate rises", ge=0, lt=1)
    final_rate: float = setting(0.0, "share of the learning rate after the last step of the cosine", ge=0, le=1)
    final_weight_decay: float = setting(
        -1.0, "weight decay after the last step, along a cosine; -1: as at first", ge=-1
    )
    decay_vectors: bool = setting(True, "weight decay also of biases and normalisations")
    crop_least: float = setting(0.08, "least share of a patch's area that a view shows", gt=0, le=1)
    crop_most: float = setting(1.0, "largest share of a patch's area that a view shows", gt=0, le=1)
    flips: bool = setting(True, "views are mirrored at random, in both directions")
    turns: bool = setting(False, "views are turned by quarters at random")
    blur: float = setting(0.5, "share of the views that are blurred", ge=0, le=1)
    blur_most: float = setting(2.0, "largest deviation of the blur", unit="pixel", gt=0.1)
    jitter: float = setting(
        0.0, "views are brighter or darker by a gain within 1 +- jitter, all bands alike", ge=0, lt=1
    )
    offset_jitter: float = setting(0.0, "views are moved within +- this, all bands alike", unit="scene's", ge=0)
    spectral_jitter: float = setting(0.0, "distort spectra by a smooth curve within 1 +- this", ge=0, lt=1)
    masked_bands: float = setting(0.0, "share of the bands that a view lacks, drawn at random", ge=0, lt=1)
    temporal: bool = setting(True, "the second view shows another date of the place, where the data have one")
    statistics_patches: int = setting(2000, "training patches that mean and deviation are computed from", ge=1)
    validate_patches: int = setting(512, "held-out patches that are validated on, evenly thinned; 0: all", ge=0)
    checkpointing: bool = setting(False, "recompute the encoder's blocks in the backward pass, to save memory")


class PretrainingRecipe(Recipe):
    """Base of the recipes of this room.

    Subclasses set the class attributes and write `plans`, `network`, `loss` and, where the trained network is more than
    ``network.backbone``, `encoder`.

    Attributes
    ----------
    families : tuple of str
        Beginnings of the names of backbones that the method trains.
    wavelength, fwhm : ndarray (bands,)
        Of the data [nm]; NaN, or empty widths, where unknown.
    quantity : str
    mean, std : ndarray (bands,)
        Over valid pixels of the training patches, in the data's unit; after `study`.
    done : int
        Optimiser steps that are done.
    """

    Settings: ClassVar[type[TrainingSettings]] = PretrainingTraining
    room: ClassVar[str] = "pretraining"
    lead: ClassVar[str] = "image"
    uses: ClassVar[tuple[str, ...]] = ("valid", "later", "label")
    exports: ClassVar[str] = "last"
    default_epochs: ClassVar[int] = 100
    families: ClassVar[tuple[str, ...]] = ("spec-vit-", "spec-resnet50", "enmap-vit-", "enmap-resnet50")
    sync_norm: bool = True

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        self.check_backbone()
        self.wavelength = np.zeros(0)
        self.fwhm = np.zeros(0)
        self.index = np.zeros(0, dtype=np.int64)
        self.quantity = "dn"
        self.mean = np.zeros(0)
        self.std = np.zeros(0)
        self.values: tuple[float, float] | None = None
        self.done = 0

    # What subclasses write

    def plans(self) -> tuple[ViewPlan, ...]:
        """The views of a sample, in order; those at odd places show the later date. By default one."""
        return (self.plan(),)

    def network(self, backbone: Backbone) -> torch.nn.Module:
        """What is trained, with the encoder in it; every tensor that the next step depends on is in its state."""
        raise NotImplementedError

    def encoder(self, network: torch.nn.Module) -> Backbone:
        """The encoder whose weights are kept."""
        found: Backbone = network.backbone  # type: ignore[assignment]
        return found

    # Data

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Common bands and quantity, held against what the backbone takes.

        Raises
        ------
        BandMismatch
            Scenes differ, or the backbone takes other bands.
        MissingMetadata
            The backbone computes with wavelengths and the scenes have none.
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
        if "fwhm" in first.coords:
            self.fwhm = np.asarray(first["fwhm"].values, dtype=np.float64)[self.index]
        self.check_bands()

    def check_bands(self) -> None:
        """Hold the data's bands against the backbone's.

        Raises
        ------
        BandMismatch, MissingMetadata
        """
        with torch.device("meta"):
            bands = self.backbone().bands
        known = bool(np.isfinite(self.wavelength).all())
        bands.check(len(self.index), self.wavelength.tolist() if known else None)
        if bands.fixed and bands.wavelengths is not None and known:
            gap = np.abs(np.asarray(bands.wavelengths) - self.wavelength)
            if gap.max() > FAR:
                worst = int(gap.argmax())
                raise BandMismatch(
                    f"band {worst + 1} of the data lies at {self.wavelength[worst]:g} nm and {self.settings.backbone} "
                    f"expects {bands.wavelengths[worst]:g} nm: resample the data, or choose a backbone for any bands"
                )

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Values of the good bands in the scene's unit, NaN where nodata."""
        cube = scene["cube"] if isinstance(scene, xr.Dataset) else scene
        values = np.asarray(cube.isel(band=self.index).values)
        image = values.astype(np.float32)
        nodata = None if values.dtype.kind == "f" else missing_value(cube)
        if nodata is not None:
            image[values == nodata] = np.nan
        return {"image": image}

    def store_settings(self) -> dict[str, Any]:
        """Patches hold plain values: only place and number of the patches matter."""
        return {name: getattr(self.settings, name) for name in STORED}

    def study(self, store: PatchStore) -> None:
        """Mean and standard deviation of each band over valid pixels, streamed in float64.

        Raises
        ------
        BadInput
            A band that does not vary.
        """
        count = store.count(TRAIN)
        index = np.unique(np.linspace(0, count - 1, min(self.settings.statistics_patches, count)).round().astype(int))
        bands = len(self.index)
        number, total, squares = 0, np.zeros(bands), np.zeros(bands)
        drawn: list[np.ndarray] = []
        each = max(QUANTILE_VALUES // len(index), 1)
        for place in index:
            sample = store.sample(TRAIN, int(place))
            seen = sample["valid"][0] > 0.5 if "valid" in sample else np.isfinite(sample["image"]).all(0)
            pixels = sample["image"][:, seen].astype(np.float64)
            number += pixels.shape[1]
            total += pixels.sum(1)
            squares += np.square(pixels).sum(1)
            drawn.append(pixels.ravel()[:: max(pixels.size // each, 1)].astype(np.float32))
        self.mean = total / max(number, 1)
        self.std = np.sqrt(np.maximum(squares / max(number, 1) - self.mean**2, 0))
        flat = np.flatnonzero(~(self.std > 1e-6 * np.maximum(np.abs(self.mean), 1e-12)))
        if flat.size:
            raise BadInput(
                f"band {int(self.index[flat[0]]) + 1} has the value {self.mean[flat[0]]:g} in all training patches: mark "
                "such bands as bad, or choose other data"
            )
        low, high = np.quantile(np.concatenate(drawn), (0.001, 0.999))
        self.values = (float(low), float(high))

    def references(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Mean spectrum of the valid pixels of each patch, and the class where a patch has one."""
        image, valid = batch["image"].double(), self._valid(batch["image"], batch.get("valid"))
        spectra = (image * valid).sum((-2, -1)) / valid.sum((-2, -1)).clamp(min=1)
        found = {"input": spectra.float()}
        label = batch.get("label")
        if label is not None and label[0].numel() == 1:
            found["labels"] = label.flatten().round().long()
        return found

    @staticmethod
    def _valid(image: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        return torch.ones_like(image[:, :1]) if valid is None else valid

    # Views

    def plan(self, **changed: Any) -> ViewPlan:
        """How a view is drawn by the settings."""
        s = self.settings
        plan: dict[str, Any] = {
            "size": self.view_size,
            "scale": (s.crop_least, s.crop_most),
            "flips": s.flips,
            "turns": s.turns,
            "blur": s.blur,
            "sigma": (0.1, s.blur_most),
            "gain": s.jitter,
            "offset": s.offset_jitter,
            "spectral": s.spectral_jitter,
            "masked_bands": s.masked_bands,
        }
        return ViewPlan(**{**plan, **changed})

    @property
    def view_size(self) -> int:
        """Side of the images that the encoder is built for [pixel]."""
        return int(self.settings.view or self.settings.patch)

    def sample(self, store: PatchStore, part: str, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A patch, and ``draws`` (views, numbers): what its views are made by."""
        arrays = store.sample(part, index, rng)
        bands, rows, cols = arrays["image"].shape
        drawn = [plan.draw(rows, cols, bands, rng) for plan in self.plans()]
        return {**arrays, "draws": np.stack(drawn), **self.draws(rng)}

    def draws(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """What else is random in a sample (noise that decides a mask); by default nothing."""
        return {}

    def views(self, batch: Batch) -> list[View]:
        """The views of a batch, in order, in the data's unit."""
        made = []
        for number, plan in enumerate(self.plans()):
            later = number % 2 == 1 and self.settings.temporal and "later" in batch
            image, valid = ("later", "later_valid") if later else ("image", "valid")
            made.append(make_view(batch[image], batch["draws"][:, number], plan, batch.get(valid)))
        return made

    def inputs(self, backbone: Backbone, view: View) -> torch.Tensor:
        """A view as the backbone sees it: standardised, nodata and masked bands at the mean."""
        x = backbone.as_input(view.values, self.mean.tolist(), self.std.tolist(), view.seen)
        return x.to(next(backbone.parameters()).dtype)

    def features(self, backbone: Backbone, x: torch.Tensor) -> torch.Tensor:
        """One vector an image, (n, dim), with the wavelengths where the backbone needs them."""
        if not backbone.bands.needs_wavelengths:
            return backbone.forward_features(x)
        return backbone.forward_features(x, torch.as_tensor(self.wavelength, dtype=torch.float32, device=x.device))

    def embed(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """What the encoder makes of whole patches, or of their middle where views are smaller."""
        encoder = self.encoder(model)
        size = self.view_size
        row, col = ((n - size) // 2 for n in batch["image"].shape[-2:])
        cut = (..., slice(row, row + size), slice(col, col + size))
        valid = batch["valid"][cut] > 0.5 if "valid" in batch else None
        return self.features(encoder, self.inputs(encoder, View(batch["image"][cut], valid)))

    # Network and weights

    def check_backbone(self) -> None:
        """Refuse backbones that the method does not train.

        Raises
        ------
        BadSettings
        """
        name = self.settings.backbone
        known = [found for found in models() if found.startswith(self.families)]
        if name not in known:
            raise BadSettings(f"{self.method} trains no backbone {name!r}: {closest(name, known)}")

    def constructor(self) -> dict[str, Any]:
        """Arguments of the encoder over those of its size."""
        return {**self._sized(self.settings.backbone), **self.settings.network}

    def _sized(self, name: str) -> dict[str, Any]:
        takes = inspect.signature(load_target(models()[name].target)).parameters
        known = {"image_size": self.view_size, "img_size": self.view_size, "bands": len(self.index)}
        return {key: value for key, value in known.items() if key in takes}

    def backbone(self) -> Backbone:
        """The encoder with fresh weights."""
        made: Any = create_model(self.settings.backbone, **self.constructor())
        return made

    def model_arguments(self) -> dict[str, Any]:
        """Arguments of the encoder."""
        return self.constructor()

    def exported_as(self) -> tuple[str, dict[str, Any]]:
        """The encoder's name and arguments."""
        return self.settings.backbone, self.constructor()

    def build(self) -> torch.nn.Module:
        """The whole network, its encoder fresh or from `start`."""
        backbone = self.backbone()
        self.begin_from(backbone)
        if self.settings.checkpointing:
            backbone.set_grad_checkpointing()
        return self.network(backbone)

    def begin_from(self, backbone: Backbone) -> None:
        """Load the weights of the setting `start` into the encoder, where it names any."""
        if self.settings.start:
            from torchspectral.weights import load

            load(self.settings.start, model=backbone)

    def exported(self, network: torch.nn.Module) -> torch.nn.Module:
        """A plain encoder with the weights of the trained one."""
        plain = self.backbone()
        state = self.encoder(network).state_dict()
        plain.load_state_dict({key: state[key] for key in plain.state_dict()})
        return plain

    def card(self) -> dict[str, Any]:
        """Bands, statistics and quantity of the training patches."""
        known = bool(self.wavelength.size and np.isfinite(self.wavelength).all())
        widths = known and self.fwhm.size == self.wavelength.size and bool(np.isfinite(self.fwhm).all())
        return {
            "quantity": self.quantity,
            "wavelengths": [float(w) for w in self.wavelength] if known else "any",
            "fwhm": [float(w) for w in self.fwhm] if widths else None,
            "scale": {"rule": "fixed", "gain": 1.0, "offset": 0.0},
            "mean": [float(v) for v in self.mean],
            "std": [float(v) for v in self.std],
            "values": self.values,
            "preprocessing": f"{self.quantity}, (x - mean) / std a band, statistics of the training patches; nodata at the "
            f"mean; pretrained by {self.method}",
        }

    # Optimiser and schedules

    @property
    def share_done(self) -> float:
        """Share of the steps that are done, 0..1."""
        return self.share(self.done)

    def share(self, step: int) -> float:
        """Share of the steps that are done at a step, 0..1; the last step's is 1."""
        return min(step / max(self.settings.steps - 1, 1), 1.0)

    def begin_step(self, step: int) -> None:
        """Remember where the training stands."""
        self.done = step

    def groups(self, parameters: Iterable[Any]) -> list[dict[str, Any]]:
        """Parameters with and without weight decay."""
        listed, s = list(parameters), self.settings
        bare = [] if s.decay_vectors else [p for p in listed if p.ndim <= 1]
        kept = {id(p) for p in bare}
        made = [{"params": [p for p in listed if id(p) not in kept], "weight_decay": s.weight_decay, "decays": True}]
        return [*made, {"params": bare, "weight_decay": 0.0, "decays": False}] if bare else made

    def optimiser(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.groups(parameters), lr=self.settings.learning_rate)

    def schedule(self, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Warm-up, then what the setting `decay` says."""
        return torch.optim.lr_scheduler.LambdaLR(optimiser, self.rate)

    def rate(self, step: int) -> float:
        """Share of the learning rate at a step."""
        s = self.settings
        if s.decay == "cosine":
            return warmed_up(step, s.steps, s.warm_up, s.final_rate)
        rising = warmed_up(step, s.steps, s.warm_up, 1.0)
        return rising * (stepped(step / s.steps, DROPS) if s.decay == "steps" else 1.0)

    def weight_decay(self, step: int) -> float:
        """Weight decay at a step."""
        s = self.settings
        return (
            s.weight_decay
            if s.final_weight_decay < 0
            else cosine(s.weight_decay, s.final_weight_decay, self.share(step))
        )

    def before_update(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
        """Set the weight decay of the step."""
        for group in optimiser.param_groups:
            if group.get("decays"):
                group["weight_decay"] = self.weight_decay(step)

    def scheduled(self, step: int) -> dict[str, float]:
        """The weight decay, where it changes."""
        return {"weight_decay": self.weight_decay(step)} if self.settings.final_weight_decay >= 0 else {}
