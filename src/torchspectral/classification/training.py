"""How the networks of this room are trained: backbones with heads, on labelled pixels, images or pairs of dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import xarray as xr
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from torchspectral.backbones.starting import arguments_of, declared, find_start, native_patch
from torchspectral.classification.labels import IGNORED, Classes, with_labels
from torchspectral.classification.spectral_angle import MOST_CLASSES, class_colours
from torchspectral.classification.tuned.evaluation import Tally, predict_image, probabilities
from torchspectral.classification.tuned.network import DENSE, BackboneClassifier
from torchspectral.classification.tuned.studies import Studies, study_patches
from torchspectral.engine.method import Window
from torchspectral.errors import BadInput, BadSettings, BandMismatch, UnknownName, closest
from torchspectral.geo.grids import grid_of
from torchspectral.io.statistics import values_of
from torchspectral.learn.patch_sets.store import labels_of
from torchspectral.learn.recipe import Batch, Recipe, Scene, TrainingSettings, common_bands
from torchspectral.learn.scenes import OpenedScene
from torchspectral.learn.splits import HELD_OUT
from torchspectral.settings import setting
from torchspectral.weights import Weights
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.fit import band_problem, check_fit

HEADS = {"linear": "linear", "knn": "knn"}


class BackboneTraining(TrainingSettings):
    """Settings of tuning; rate, decay and batch are SpectralEarth's."""

    backbone: str = setting("", "encoder, see `torchspectral weights list`; decided by its weights where empty")
    initial: str = setting(
        "", "weights to begin from: file, run or name; empty: the only ones on the machine; random, when asked for"
    )
    arguments: dict[str, Any] = setting({}, "of the backbone's constructor, beyond those of its weights")
    labels: list[str] = setting([], "files of labels: one for all scenes, or one for each")
    field: str = setting("", "column of a vector or table that holds the classes")
    later: list[str] = setting([], "task=change: a later scene for each scene, on the same pixels")
    ignore: list[int] = setting([], "labels that do not count, beside 0")
    tuning: Literal["linear", "knn", "frozen", "full", "lora", "adapter"] = setting(
        "linear",
        "what learns: a linear layer; nothing (neighbours vote); the head; everything; low-rank updates and the head; "
        "the spectral adapter and the head",
    )
    head: Literal["auto", "linear", "fcn", "conv", "upernet"] = setting(
        "auto", "on the features; auto: linear for tuning=linear and for images, else conv for transformers and fcn"
    )
    task: Literal["pixels", "scenes", "multilabel", "change"] = setting(
        "pixels",
        "classes of pixels; the commonest class of a patch; all classes of a patch; classes of change between two dates",
    )
    batch: int = setting(8, "patches in a step, over all devices", ge=1)
    steps: int = setting(500, "optimiser steps", ge=1)
    patch: int = setting(0, "side of a patch; 0: the backbone's own, or less for small scenes", unit="pixel", ge=0)
    learning_rate: float = setting(1e-3, "learning rate of the head", gt=0)
    backbone_rate: float = setting(1.0, "learning rate of what learns in the backbone, of that of the head", gt=0)
    decay: str = setting("cosine", "learning rate: constant, or cosine to a hundredth", pattern="^(constant|cosine)$")
    weight_decay: float = setting(1e-4, "weight decay (AdamW)", ge=0)
    unfrozen: int = setting(0, "first blocks of the backbone that learn too, with tuning=frozen", ge=0)
    class_weights: Literal["median", "none"] = setting(
        "median", "in the loss: median of the class frequencies over each class's own, or equal"
    )
    statistics: Literal["auto", "weights", "train"] = setting(
        "auto", "means and deviations of the input: those of the weights' card, or of the training patches"
    )
    resample: bool = setting(False, "resample scenes that do not fit to the backbone's bands by spectral response")
    width: int = setting(512, "channels of UPerNet", ge=1)
    k: int = setting(20, "tuning=knn: neighbours that vote", ge=1)
    temperature: float = setting(0.07, "tuning=knn: votes weigh exp(cosine / temperature)", gt=0)
    bank: int = setting(2000, "tuning=knn: labelled features that are kept, shared among the classes", ge=2)
    rank: int = setting(8, "tuning=lora: rank of the updates", ge=1)
    alpha: float = setting(16.0, "tuning=lora: the update counts alpha / rank", gt=0)
    targets: list[str] = setting([], "tuning=lora: names of layers; by default those of the attention")
    reuse: bool = setting(True, "frozen backbones: compute the features of each patch once, without augmentation")
    holes: float = setting(0.95, "most of a patch that may be nodata", ge=0, lt=1)
    flips: bool = setting(True, "augment with flips and quarter turns (not where features are reused)")


class BackboneRecipe(Recipe):
    """A backbone with a head, on labels.

    References
    ----------
    Protocol: Braham et al., "SpectralEarth", IEEE JSTARS (2025).
    """

    Settings: ClassVar[type[TrainingSettings]] = BackboneTraining
    room: ClassVar[str] = "classification"
    method: ClassVar[str] = "backbone"
    model: ClassVar[str] = "backbone-classifier"
    lead: ClassVar[str] = "image"
    scaled: ClassVar[tuple[str, ...]] = ("image",)
    uses: ClassVar[tuple[str, ...]] = ("valid", "later", "label", "mask")

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        s = self.settings
        if s.unfrozen and s.tuning != "frozen":
            raise BadSettings(f"got unfrozen={s.unfrozen} with tuning={s.tuning}, expected tuning=frozen")
        if s.tuning in HEADS and s.head not in ("auto", "linear"):
            raise BadSettings(f"got head={s.head} with tuning={s.tuning}: choose tuning=frozen for this head")
        self.backbone: str = s.backbone
        self.start: Weights | None = None
        self.unlabelled = IGNORED
        self.classes = Classes((), (), ())
        self.wavelength, self.fwhm, self.index = np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64)
        self.quantity, self.resolution = "dn", None
        self.arguments: dict[str, Any] = {}
        self.notes: list[str] = []
        self.marked: list[np.ndarray] = []
        self.studies: Studies | None = None
        self.tally: Tally | None = None
        self.store: Any = None
        self.beginning = 0
        self._nothing = torch.nn.Parameter(torch.zeros(()))

    # Scenes

    def attach(self, scenes: list[OpenedScene]) -> list[OpenedScene]:
        """Bring scenes to the backbone's bands where asked for, and put labels and later dates beside them."""
        s = self.settings
        self.backbone, self.start = find_start(s.backbone, s.initial)
        if scenes[0].patch_set is not None:
            self._of_patch_set(scenes)
            return scenes
        fitted = [self._fitted(scene) for scene in scenes]
        if s.task == "change":
            from torchspectral.classification.tuned.dates import with_later

            fitted = with_later(fitted, s.later, self._fitted)
        elif s.later:
            raise BadSettings(f"got later scenes with task={s.task}, expected task=change")
        made, self.classes, notes = with_labels(fitted, s.labels, s.field, s.ignore)
        self.notes += notes
        return made

    def _of_patch_set(self, scenes: list[OpenedScene]) -> None:
        """Classes of patch sets, which hold their own labels.

        Raises
        ------
        BadSettings, BadInput, BandMismatch
        """
        s = self.settings
        if s.labels or s.later or s.ignore:
            raise BadSettings("got labels, later or ignore with a patch set, which has its own: leave them out")
        if s.resample:
            raise BadSettings("got resample=true with a patch set, whose files are read as they are: leave it out")
        kinds = {"pixels": ("pixels",), "change": ("pixels",), "multilabel": ("multi",)}.get(s.task, ("single",))
        facts = labels_of([scene.cube for scene in scenes], *kinds)
        names = [str(name) for name in facts["classes"]]
        if len(names) < 2 or len(names) > MOST_CLASSES:
            raise BadInput(f"the patch set has {len(names)} classes, expected 2 to {MOST_CLASSES}")
        spread = class_colours(len(names) + 1)[1:]
        colors = tuple((int(c[0]), int(c[1]), int(c[2])) for c in spread)
        self.classes = Classes(tuple(range(1, len(names) + 1)), tuple(names), colors)
        self.unlabelled = IGNORED if facts.get("ignore") is None else int(facts["ignore"])
        for scene in scenes:
            self._to_bands(scene.cube)

    def _fitted(self, scene: OpenedScene) -> OpenedScene:
        """A scene whose bands the backbone takes."""
        whole = scene.cube
        good = np.flatnonzero(whole["good"].values) if "good" in whole.coords else np.arange(whole.sizes["band"])
        cube, card = self._to_bands(whole.isel(band=good))
        if card is None and good.size == whole.sizes["band"]:
            return scene
        if not isinstance(scene.scene, xr.Dataset):
            return replace(scene, scene=cube)
        rest: dict[str, Any] = {
            str(n): (("y", "x"), a.squeeze().data, a.attrs)
            for n, a in scene.scene.items()
            if n not in ("cube", "later")
        }
        if "later" in scene.scene:
            later = whole.copy(data=scene.scene["later"].variable._data).isel(band=good)
            later = later if card is None else check_fit(card, later, resample=True)[0]
            rest["later"] = (("band", "y", "x"), later.variable._data, later.attrs)
        return replace(scene, scene=xr.Dataset({"cube": cube, **rest}, attrs=scene.scene.attrs))

    def _to_bands(self, cube: xr.DataArray) -> tuple[xr.DataArray, WeightsCard | None]:
        """A cube as the backbone takes it, and the card whose bands it was resampled to, if it was.

        Raises
        ------
        BandMismatch, MissingMetadata
        """
        known = declared(self.backbone, self._arguments(cube))
        card = self.start.card if self.start is not None and self.start.card.wavelengths != "any" else None
        if card is None and known.bands.wavelengths is not None:
            fwhm = None if known.bands.fwhm is None else list(known.bands.fwhm)
            card = WeightsCard(name=self.backbone, wavelengths=list(known.bands.wavelengths), fwhm=fwhm)
        used = None
        if card is not None:
            card = card.model_copy(update={"quantity": "any", "values": None, "constructor": {}})
            placed = bool(np.isfinite(cube["wavelength"].values).all())
            problem = band_problem(card, cube) if placed else "the scene has no wavelengths"
            if problem and self.settings.resample:
                cube, notes = check_fit(card, cube, resample=True)
                self.notes += notes
                used = card
            elif problem and known.bands.fixed and known.bands.wavelengths is not None:
                check_fit(card, cube)
            elif problem and self.start is not None:
                self.notes.append(f"{problem}: the backbone takes the scene's own bands")
        known.bands.check(cube.sizes["band"], _known(cube["wavelength"].values))
        return cube, used

    def _arguments(self, cube: xr.DataArray) -> dict[str, Any]:
        metres = None
        grid = grid_of(cube)
        if grid.kind in ("map", "rotated") and grid.crs is not None and not grid.crs.is_geographic:
            metres = float(np.mean(grid.resolution))
        facts = {"bands": cube.sizes["band"], "wavelengths": _known(cube["wavelength"].values), "resolution": metres}
        return arguments_of(self.backbone, self.start, dict(self.settings.arguments), self.settings.patch, facts)

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Bands, quantity and size of the patches.

        Raises
        ------
        BandMismatch, BadInput, BadSettings
        """
        self.wavelength, self.index = common_bands(scenes)
        cubes = [scene["cube"] if isinstance(scene, xr.Dataset) else scene for scene in scenes]
        quantities = {str(cube.attrs.get("quantity", "dn")) for cube in cubes}
        if len(quantities) > 1:
            raise BandMismatch(f"got scenes of {' and '.join(sorted(quantities))}, expected one quantity in all")
        self.quantity = quantities.pop()
        first = cubes[0]
        if "fwhm" in first.coords:
            self.fwhm = np.asarray(first["fwhm"].values, dtype=np.float64)[self.index]
        self.marked = [
            self.classes.indices(scene["labels"].values) for scene in scenes if isinstance(scene, xr.Dataset)
        ]
        self._choose_sizes([(cube.sizes["y"], cube.sizes["x"]) for cube in cubes])
        self.arguments = self._arguments(first)
        self._check_tuning()
        if self.marked:
            self._check_labels(cubes)

    def _check_tuning(self) -> None:
        """Refuse what this backbone cannot do before anything is cut; a network without weights tells."""
        tuning = self.settings.tuning
        with torch.device("meta"):
            BackboneClassifier(**self.model_arguments())
        known = declared(self.backbone, self.arguments)
        if tuning == "adapter" and not any("spectral_adapter" in name for name, _ in known.named_parameters()):
            raise BadSettings(f"{self.backbone} has no spectral adapter: choose tuning=lora, frozen or full")
        if tuning == "lora" and not any(isinstance(m, torch.nn.Linear) for m in known.modules()):
            raise BadSettings(
                f"{self.backbone} has no linear layers for low-rank updates: choose tuning=frozen or full"
            )

    def _choose_sizes(self, shapes: list[tuple[int, int]]) -> None:
        """The side of patches and blocks, where the user left them open."""
        s = self.settings
        size = s.patch
        if not size:
            size = native_patch(self.backbone, self.start, dict(s.arguments))
            stride = declared(self.backbone, self._plain_arguments()).stride
            smallest = min(min(shape) for shape in shapes)
            ground = sum(rows * cols for rows, cols in shapes)
            whole = all(rows < 2 * size and cols < 2 * size for rows, cols in shapes) and len(shapes) > 3
            while (
                not (whole and size <= smallest)
                and size >= 2 * stride
                and (ground < 12 * size * size or size > smallest)
            ):
                size = max(size // 2 // stride * stride, stride)
        update: dict[str, Any] = {"patch": size}
        alike = all(rows < 2 * size and cols < 2 * size for rows, cols in shapes)
        if s.split == "blocks" and not s.block and len(shapes) > 1 and alike:
            update |= {"block": max(max(shape) for shape in shapes), "guard": 0}
            self.notes.append("scenes are no larger than two patches: whole scenes are held out")
        self.settings = s.model_copy(update=update)

    def _plain_arguments(self) -> dict[str, Any]:
        facts = {"bands": len(self.index), "wavelengths": _known(self.wavelength)}
        return arguments_of(self.backbone, self.start, dict(self.settings.arguments), self.settings.patch, facts)

    def _check_labels(self, cubes: Sequence[xr.DataArray]) -> None:
        for marks, cube in zip(self.marked, cubes, strict=True):
            rows = np.flatnonzero((marks >= 0).any(1))
            if not rows.size:
                continue
            for start in range(int(rows[0]), int(rows[-1]) + 1, 256):
                strip = slice(start, start + 256)
                if not (marks[strip] >= 0).any():
                    continue
                first = values_of(cube.isel(band=[int(self.index[0])], y=strip))[0]
                if (np.isfinite(first) & (marks[strip] >= 0)).any():
                    return
        raise BadInput("every labelled pixel is nodata in the scene, expected labels on valid data: check the labels")

    def chooses(self, scene: int, window: Window) -> bool:
        """Only patches with a label are cut."""
        return bool((self.marked[scene][window.slices] >= 0).any())

    def class_counts(self, scene: int, window: Window) -> np.ndarray:
        """Labelled pixels of each class."""
        marks = self.marked[scene][window.slices]
        return np.bincount(marks[marks >= 0].astype(np.int64), minlength=len(self.classes.numbers))

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Physical values and class indices (-1 unlabelled) of a block."""
        if not isinstance(scene, xr.Dataset):  # a patch of a set, whose labels come from elsewhere
            return {"image": values_of(scene.isel(band=self.index)).astype(np.float32)}
        image = values_of(scene["cube"].isel(band=self.index)).astype(np.float32)
        made = {"image": image, "mask": self.classes.indices(scene["labels"].values)[None].astype(np.float32)}
        if self.settings.task == "change":
            made["later"] = values_of(scene["later"].isel(band=self.index)).astype(np.float32)
        return made

    # The network

    def model_arguments(self) -> dict[str, Any]:
        """Constructor of the network as it is trained."""
        s = self.settings
        head = self._head()
        made: dict[str, Any] = {
            "backbone": self.backbone,
            "arguments": self.arguments,
            "class_names": list(self.classes.names),
            "class_numbers": list(self.classes.numbers),
            "class_colors": [list(c) for c in self.classes.colors],
            "bands": len(self.index),
            "patch": s.patch,
            "wavelengths": _known(self.wavelength),
            "head": head,
            "task": s.task,
        }
        if head == "upernet":
            made["width"] = s.width
        if head == "knn":
            made |= {"bank": s.bank, "k": s.k, "temperature": s.temperature}
        return made

    def _head(self) -> str:
        s = self.settings
        if s.tuning in HEADS:
            return HEADS[s.tuning]
        if s.head != "auto":
            return str(s.head)
        if s.task not in DENSE:
            return "linear"
        known = declared(self.backbone, self.arguments or self._plain_arguments())
        return "conv" if len(known.map_dims) == 1 and known.stride & (known.stride - 1) == 0 else "fcn"

    def fresh(self) -> BackboneClassifier:
        """The network with the weights that it begins with, always the same, without statistics and updates."""
        # Features are computed before the loop builds its network: both must begin with the same random numbers.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.beginning)
            network = super().build()
        assert isinstance(network, BackboneClassifier)
        if self.start is not None:
            network.backbone.load_matched(self.start.state, where=str(self.start.path))
        return network

    def build(self) -> torch.nn.Module:
        """The network at its first step."""
        s = self.settings
        network = self.fresh()
        if self.studies is not None:
            self.studies.give(network)
        if s.tuning == "lora":
            from torchspectral.classification.tuned.lora import add_lora

            add_lora(network, s.rank, s.alpha, targets=s.targets)
        network.frozen = s.tuning in ("linear", "knn", "frozen", "lora", "adapter") and not s.unfrozen
        for name, parameter in network.backbone.named_parameters():
            parameter.requires_grad_(self._learns(network, name))
        return network

    def _learns(self, network: BackboneClassifier, name: str) -> bool:
        s = self.settings
        if s.tuning in ("full", "lora", "adapter"):
            return s.tuning == "full" or ("lora_" if s.tuning == "lora" else "spectral_adapter") in name
        if s.unfrozen:
            from torchspectral.classification.tuned.blocks import block_of

            place = block_of(name)
            return place is not None and place < s.unfrozen
        return False

    def study(self, store: Any) -> None:
        """Statistics, class weights, the bank of neighbours and reusable features, from the training patches."""
        self.store = store
        self.beginning = int(str(store.attrs.get("key", "0"))[:12], 16)
        self.studies = study_patches(self, store)
        self.notes += [n for n in self.studies.notes if n not in self.notes]

    def sample(self, store: Any, part: str, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A sample, or its features where they are reused."""
        kept = self.studies.features.get(part) if self.studies is not None else None
        if kept is None:
            return super().sample(store, part, index, rng)
        arrays = store.sample(part, index)
        left = {role: arrays[role] for role in ("mask", "label", "valid") if role in arrays}
        return {**{f"feature{i}": f for i, f in enumerate(kept[index])}, **left}

    def optimiser_of(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        """AdamW, the backbone at a rate of its own; of neighbours nothing is learnt by steps."""
        s = self.settings
        assert isinstance(network, BackboneClassifier)
        inside = [p for p in network.backbone.parameters() if p.requires_grad]
        known = {id(p) for p in inside}
        head = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
        groups: list[Any] = [{"params": head, "lr": s.learning_rate}] if head else []
        if inside:
            groups.append({"params": inside, "lr": s.learning_rate * s.backbone_rate})
        return torch.optim.AdamW(groups or [self._nothing], lr=s.learning_rate, weight_decay=s.weight_decay)

    # Loss and figures

    def logits(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Logits of a batch of images, or of features."""
        assert isinstance(model, BackboneClassifier)
        if "feature0" in batch:
            features = [batch[f"feature{i}"] for i in range(sum(name.startswith("feature") for name in batch))]
            size = (int(batch["valid"].shape[-2]), int(batch["valid"].shape[-1]))
            high, wide = (model._side(n) for n in size)
            found = model.decide(features, (high, wide))
            return found[..., : size[0], : size[1]] if model.task in DENSE else found
        return model(batch["image"], batch.get("valid"), batch.get("later"), batch.get("later_valid"))

    def truth(self, batch: Batch) -> torch.Tensor:
        """Class indices (n, y, x) or (n,), -1 unknown; sets of classes (n, classes)."""
        return truth_of(batch, self.settings.task, len(self.classes.numbers), self.unlabelled)

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Weighted cross-entropy over what is labelled."""
        logits, truth = self.logits(model, batch).float(), self.truth(batch)
        weights = self.studies.weights.to(logits) if self.studies is not None else None
        if self.settings.task == "multilabel":
            return binary_cross_entropy_with_logits(logits, truth.to(logits))
        if not bool((truth >= 0).any()):
            found = logits.sum() * 0.0
        else:
            found = cross_entropy(logits, truth.long(), weight=weights, ignore_index=IGNORED)
        return found + self._nothing.to(found.device) * 0 if self.settings.tuning == "knn" else found

    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
        """Loss and share right; the figures of the held-out ground come at the end of the run."""
        logits, truth = self.logits(model, batch).float(), self.truth(batch)
        loss = float(self.loss(model, batch))
        if self.settings.task == "multilabel":
            return {"loss": loss, "accuracy": float(((logits > 0) == (truth > 0)).float().mean())}
        known = truth >= 0
        right = (logits.argmax(1) == truth)[known].float()
        return {"loss": loss, "oa": float(right.mean()) if right.numel() else 1.0}

    def evaluate(self, model: torch.nn.Module, scene: Scene) -> Mapping[str, float]:
        """Add held-out ground to the tally; its figures are those of all ground so far."""
        assert isinstance(model, BackboneClassifier)
        self.tally = self.tally or Tally(self.classes.names, self.settings.task)
        arrays = {role: torch.from_numpy(a) for role, a in self.arrays(scene).items()}
        model.eval()
        with torch.no_grad():
            if model.task in DENSE:
                found = predict_image(model, arrays["image"], arrays["valid"], arrays.get("later"))
                marks = self.truth({role: a[None] for role, a in arrays.items()})[0]
                self.tally.update(found, marks.long().numpy())
            else:
                self._tally_patches(model, arrays)
        return {}

    def _tally_patches(self, model: BackboneClassifier, arrays: dict[str, torch.Tensor]) -> None:
        size = self.settings.patch
        rows, cols = arrays["image"].shape[-2:]
        for row in range(0, rows - size + 1, size):
            for col in range(0, cols - size + 1, size):
                cut = {r: a[None, :, row : row + size, col : col + size] for r, a in arrays.items()}
                self.add_to_tally(model, cut)

    def add_to_tally(self, model: BackboneClassifier, batch: Batch) -> None:
        """Add a batch of patches."""
        self.tally = self.tally or Tally(self.classes.names, self.settings.task)
        found, truth = probabilities(model, self.logits(model, batch).float()), self.truth(batch)
        if self.settings.task == "multilabel":
            self.tally.update(found, truth.cpu().numpy())
        else:
            self.tally.update(found.movedim(1, 0), truth.cpu().long().numpy())

    def pooled(self, means: dict[str, float], model: torch.nn.Module) -> dict[str, float]:
        """Figures of all held-out ground, from its counts; of the held-out patches where no ground was held out."""
        assert isinstance(model, BackboneClassifier)
        if self.tally is None and self.store is not None:
            with torch.no_grad():
                for index in range(self.store.count(HELD_OUT)):
                    arrays = self.sample(self.store, HELD_OUT, index, np.random.default_rng(0))
                    self.add_to_tally(model, {role: torch.from_numpy(np.array(a))[None] for role, a in arrays.items()})
        return self.tally.figures() if self.tally is not None and self.tally.counted else means

    def exported(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network with low-rank updates merged."""
        if self.settings.tuning == "lora":
            from torchspectral.classification.tuned.lora import merge_lora

            merge_lora(network)
        return network

    def illustrate(self, folder: Path) -> None:
        """Confusion matrix as CSV and picture, and the figures of each class."""
        import pandas as pd  # type: ignore[import-untyped]

        from torchspectral.metrics.classes import confusion_csv, confusion_figure
        from torchspectral.report.files import write_whole
        from torchspectral.report.style import figure_png

        if self.tally is None or not self.tally.counted:
            return
        table = pd.DataFrame(self.tally.table()).to_csv(index=False)
        write_whole(folder / "classes.csv", table.encode())
        if not self.tally.several:
            write_whole(folder / "confusion.csv", confusion_csv(self.tally.confusion).encode())
            write_whole(folder / "confusion.png", figure_png(confusion_figure(self.tally.confusion)))

    def embed(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Features of the images."""
        assert isinstance(model, BackboneClassifier)
        if "feature0" in batch:
            return batch["feature0"].mean((-2, -1))
        return model.backbone.forward_features(model.standardised(batch["image"], batch.get("valid")), model.waves)

    def references(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Commonest class and mean spectrum of each patch."""
        found = {"labels": truth_of(batch, "scenes", len(self.classes.numbers), self.unlabelled).cpu()}
        if "image" in batch:
            found["input"] = batch["image"].mean((-2, -1))
        return found

    def card(self) -> dict[str, Any]:
        """What scenes must be."""
        known = _known(self.wavelength)
        widths = known is not None and self.fwhm.size == len(known) and bool(np.isfinite(self.fwhm).all())
        assert self.studies is not None
        s = self.settings
        start = self.start.card.name if self.start is not None else "random numbers"
        return {
            "quantity": self.quantity,
            "wavelengths": known if known is not None else "any",
            "fwhm": [float(w) for w in self.fwhm] if widths else None,
            "scale": {"rule": "fixed", "gain": 1.0, "offset": 0.0},
            "values": self.studies.limits,
            "preprocessing": "; ".join(
                [f"{self.backbone} from {start}, tuning {s.tuning}, head {self._head()}", self.studies.how, *self.notes]
            ),
        }


def truth_of(batch: Batch, task: str, classes: int, unlabelled: int = IGNORED) -> torch.Tensor:
    """What a batch's labels say, see `BackboneRecipe.truth`; the role ``label`` of patch sets goes before ``mask``."""
    if task in DENSE:
        marks = _marks(batch, unlabelled)
        return torch.where(batch["valid"][:, 0] > 0, marks, IGNORED) if "valid" in batch else marks
    if "label" in batch:
        label = batch["label"]
        if task == "multilabel":
            return label[:, :, 0, 0]
        return label[:, 0, 0, 0].long()
    marks = _marks(batch, unlabelled)
    counts = torch.stack([(marks == c).flatten(1).sum(1) for c in range(classes)], 1)
    if task == "multilabel":
        return (counts > 0).float()
    return torch.where(counts.sum(1) > 0, counts.argmax(1), IGNORED)


def _marks(batch: Batch, unlabelled: int) -> torch.Tensor:
    marks = batch["mask"][:, 0].long()
    return torch.where(marks == unlabelled, IGNORED, marks)


def _known(wavelength: Any) -> list[float] | None:
    values = np.asarray(wavelength, dtype=np.float64)
    return [float(w) for w in values] if values.size and np.isfinite(values).all() else None


def recipe(method: str | None, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Recipe of a method of this room.

    Raises
    ------
    UnknownName
        The method is not trained.
    BadSettings, MissingWeights, BadWeights
    """
    if (method or "backbone") != "backbone":
        raise UnknownName(
            f"no training for method {method!r} in classification: {closest(str(method), ('backbone',))}; the others learn "
            "from the labels of the scene itself: torchspectral classify SCENE --method NAME --labels FILE -o MAP"
        )
    return BackboneRecipe(BackboneTraining.make(dict(settings or {})))
