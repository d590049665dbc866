"""From patches to what a backbone sees: bands, statistics and views.

Patches come from scenes or from a patch set: the role ``image`` (bands, y, x) in the scene's unit with ``valid`` (1, y, x),
``later`` where the data show the place at a second date, and ``label`` where they have one.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from torchspectral.backbones.base import Backbone
from torchspectral.errors import BadInput, BadSettings, BandMismatch, closest
from torchspectral.geo.lazy import missing_value
from torchspectral.learn.patches import PatchStore
from torchspectral.learn.recipe import Batch, Recipe, Scene, TrainingSettings, common_bands
from torchspectral.learn.scenes import common_quantity, cubes_of
from torchspectral.learn.views import View, ViewPlan, make_view
from torchspectral.log import get_logger
from torchspectral.pretraining.settings import PretrainingTraining
from torchspectral.pretraining.statistics import band_statistics
from torchspectral.registry import load_target
from torchspectral.weights import create_model, models

FAR = 10.0
"""Largest distance of a band from that of a backbone with fixed bands [nm]."""
STORED = ("patch", "stride", "patches", "split", "held_out", "block", "guard", "holes", "broken", "sensor")


class ViewRecipe(Recipe):
    """Views of patches for a backbone: the part of a pretraining that looks at the data.

    Subclasses say in `plans` which views they want.

    Attributes
    ----------
    families : tuple of str
        Beginnings of the names of backbones that the method trains.
    unused : tuple of str
        Settings of every pretraining that the method does not look at, and refuses.
    wavelength, fwhm : ndarray (bands,)
        Of the data [nm]; NaN, or empty widths, where unknown.
    index : ndarray of int (bands,)
        Positions of the bands in the scenes.
    quantity : str
    mean, std : ndarray (bands,)
        Over valid pixels of the training patches, in the data's unit; after `study`.
    """

    Settings: ClassVar[type[TrainingSettings]] = PretrainingTraining
    room: ClassVar[str] = "pretraining"
    lead: ClassVar[str] = "image"
    uses: ClassVar[tuple[str, ...]] = ("valid", "later", "label")
    unused: ClassVar[tuple[str, ...]] = ()
    families: ClassVar[tuple[str, ...]] = ("spec-vit-", "spec-resnet50", "enmap-vit-", "enmap-resnet50")

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        for name in self.unused:
            value, usual = getattr(self.settings, name), type(self.settings).model_fields[name].default
            if value != usual:
                raise BadSettings(f"{name}={value}: {self.method} does not look at it: leave it at {usual}")
        self.check_backbone()
        self.one_date = ""
        self.wavelength = np.zeros(0)
        self.fwhm = np.zeros(0)
        self.index = np.zeros(0, dtype=np.int64)
        self.quantity = "dn"
        self.mean = np.zeros(0)
        self.std = np.zeros(0)
        self.values: tuple[float, float] | None = None

    def encoder(self, network: torch.nn.Module) -> Backbone:
        """The encoder whose weights are kept."""
        found: Backbone = network.backbone  # type: ignore[assignment]
        return found

    # The backbone

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
        cubes = cubes_of(scenes)
        self.quantity = common_quantity(cubes)
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
        cube = cubes_of([scene])[0]
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
        """Mean and standard deviation of each band over valid pixels.

        Raises
        ------
        BadInput
            A band that does not vary.
        """
        self._look_for_dates(store)
        found = band_statistics(store, "image", len(self.index), self.settings.statistics_patches)
        self.mean, self.std, self.values = found.mean, found.std, found.values
        if found.flat.size:
            worst = int(found.flat[0])
            raise BadInput(
                f"band {int(self.index[worst]) + 1} has the value {self.mean[worst]:g} in all training patches: mark "
                "such bands as bad, or choose other data"
            )

    def _look_for_dates(self, store: PatchStore) -> None:
        if self.settings.temporal and "later" in self.uses and len(self.plans()) > 1 and "later" not in store.roles:
            self.one_date = (
                "all views of a place show one date: dates are paired where the data are a patch set with several files a "
                "place (layout of SpectralEarth), not across a folder of scenes"
            )
            get_logger("pretraining").info(self.one_date)

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

    def plans(self) -> tuple[ViewPlan, ...]:
        """The views of a sample, in order; those at odd places show the later date. By default one."""
        return (self.plan(),)

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
