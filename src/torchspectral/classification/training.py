"""How the networks of this room are trained: backbones with heads, on labelled pixels, images or pairs of dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from torchspectral.classification.tuned.data import TuningData
from torchspectral.classification.tuned.held_out import HeldOut
from torchspectral.classification.tuned.learning import (
    check_settings,
    check_tuning,
    head_of,
    network_arguments,
    parameter_groups,
    set_learning,
)
from torchspectral.classification.tuned.network import DENSE, BackboneClassifier
from torchspectral.classification.tuned.studies import Studies, study_patches
from torchspectral.classification.tuned.truth import loss_of, share_right, truth_of
from torchspectral.engine.method import Window
from torchspectral.errors import UnknownName, closest
from torchspectral.learn.recipe import Batch, Recipe, Scene, TrainingSettings
from torchspectral.learn.scenes import OpenedScene
from torchspectral.settings import setting


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
        check_settings(self.settings)
        self.data = TuningData(self.settings)
        self.studies: Studies | None = None
        self.held_out: HeldOut | None = None
        self.store: Any = None
        self.beginning = 0
        self._nothing = torch.nn.Parameter(torch.zeros(()))

    # Scenes

    def attach(self, scenes: list[OpenedScene]) -> list[OpenedScene]:
        """Bring scenes to the backbone's bands where asked for, and put labels and later dates beside them."""
        return self.data.attach(scenes)

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Bands, quantity and size of the patches.

        Raises
        ------
        BandMismatch, BadInput, BadSettings
        """
        self.settings = self.settings.model_copy(update=self.data.prepare(scenes))
        check_tuning(self.settings, self.data)

    def chooses(self, scene: int, window: Window) -> bool:
        """Only patches with a label are cut."""
        return self.data.chooses(scene, window)

    def class_counts(self, scene: int, window: Window) -> np.ndarray:
        """Labelled pixels of each class."""
        return self.data.class_counts(scene, window)

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Physical values and class indices (-1 unlabelled) of a block."""
        return self.data.pairs(scene)

    def study(self, store: Any) -> None:
        """Statistics, class weights, the bank of neighbours and reusable features, from the training patches."""
        self.store = store
        self.beginning = int(str(store.attrs.get("key", "0"))[:12], 16)
        self.studies = study_patches(self, store)
        self.data.notes += [n for n in self.studies.notes if n not in self.data.notes]

    def sample(self, store: Any, part: str, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A sample, or its features where they are reused."""
        if self.studies is None or part not in self.studies.features:
            return super().sample(store, part, index, rng)
        return self.unchanged(store, part, index)

    def unchanged(self, store: Any, part: str, index: int) -> dict[str, np.ndarray]:
        """A sample without augmentation, or its features where they are reused."""
        kept = self.studies.features.get(part) if self.studies is not None else None
        arrays: dict[str, np.ndarray] = store.sample(part, index)
        if kept is None:
            return arrays
        left: dict[str, np.ndarray] = {role: arrays[role] for role in ("mask", "label", "valid") if role in arrays}
        return {**{f"feature{i}": f for i, f in enumerate(kept[index])}, **left}

    # The network

    def model_arguments(self) -> dict[str, Any]:
        """Constructor of the network as it is trained."""
        return network_arguments(self.settings, self.data)

    def fresh(self) -> BackboneClassifier:
        """The network with the weights that it begins with, always the same, without statistics and updates."""
        # Features are computed before the loop builds its network: both must begin with the same random numbers.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.beginning)
            network = super().build()
        assert isinstance(network, BackboneClassifier)
        start = self.data.start
        if start is not None:
            network.backbone.load_matched(start.state, where=str(start.path))
        return network

    def build(self) -> torch.nn.Module:
        """The network at its first step."""
        network = self.fresh()
        if self.studies is not None:
            self.studies.give(network)
        set_learning(network, self.settings)
        return network

    def optimiser_of(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        """AdamW, the backbone at a rate of its own; of neighbours nothing is learnt by steps."""
        s = self.settings
        assert isinstance(network, BackboneClassifier)
        groups: list[Any] = [*parameter_groups(network, s)] or [self._nothing]
        return torch.optim.AdamW(groups, lr=s.learning_rate, weight_decay=s.weight_decay)

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
        return truth_of(batch, self.settings.task, len(self.data.classes.numbers), self.data.unlabelled)

    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Weighted cross-entropy over what is labelled."""
        logits = self.logits(model, batch).float()
        weights = self.studies.weights.to(logits) if self.studies is not None else None
        found = loss_of(logits, self.truth(batch), self.settings.task, weights)
        return found + self._nothing.to(found.device) * 0 if self.settings.tuning == "knn" else found

    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
        """Loss and share right; the figures of the held-out ground come at the end of the run."""
        logits, truth = self.logits(model, batch).float(), self.truth(batch)
        return {"loss": float(self.loss(model, batch)), **share_right(logits, truth, self.settings.task)}

    def evaluate(self, model: torch.nn.Module, scene: Scene) -> Mapping[str, float]:
        """Add held-out ground to the counts; `pooled` has the figures of all of it."""
        assert isinstance(model, BackboneClassifier)
        self.held_out = self.held_out or HeldOut(self)
        self.held_out.add_scene(model, scene)
        return {}

    def pooled(self, means: dict[str, float], model: torch.nn.Module) -> dict[str, float]:
        """Figures of all held-out ground, from its counts; of the held-out patches where no ground was held out."""
        assert isinstance(model, BackboneClassifier)
        if self.store is not None:
            with torch.no_grad():
                if self.held_out is None:
                    self.held_out = HeldOut(self)
                    self.held_out.add_store(model, self.store)
                self.held_out.add_training(model, self.store)
        return self.held_out.figures() or means if self.held_out is not None else means

    # What comes of it

    def exported(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network with low-rank updates merged."""
        if self.settings.tuning == "lora":
            from torchspectral.classification.tuned.lora import merge_lora

            merge_lora(network)
        return network

    def illustrate(self, folder: Path) -> None:
        """Confusion matrix as CSV and picture, and the figures of each class."""
        if self.held_out is not None:
            self.held_out.write(folder)

    def embed(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Features of the images."""
        assert isinstance(model, BackboneClassifier)
        if "feature0" in batch:
            return batch["feature0"].mean((-2, -1))
        return model.backbone.forward_features(model.standardised(batch["image"], batch.get("valid")), model.waves)

    def references(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Commonest class and mean spectrum of each patch."""
        classes = len(self.data.classes.numbers)
        found = {"labels": truth_of(batch, "scenes", classes, self.data.unlabelled).cpu()}
        if "image" in batch:
            found["input"] = batch["image"].mean((-2, -1))
        return found

    def card(self) -> dict[str, Any]:
        """What scenes must be."""
        data, s = self.data, self.settings
        known = data.wavelengths
        widths = known is not None and data.fwhm.size == len(known) and bool(np.isfinite(data.fwhm).all())
        assert self.studies is not None
        start = data.start.card.name if data.start is not None else "random numbers"
        how = f"{data.backbone} from {start}, tuning {s.tuning}, head {head_of(s, data)}"
        return {
            "quantity": data.quantity,
            "wavelengths": known if known is not None else "any",
            "fwhm": [float(w) for w in data.fwhm] if widths else None,
            "scale": {"rule": "fixed", "gain": 1.0, "offset": 0.0},
            "values": self.studies.limits,
            "preprocessing": "; ".join([how, self.studies.how, *data.notes]),
        }


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
