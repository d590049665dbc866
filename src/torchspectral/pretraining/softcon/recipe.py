"""How SoftCon is trained: two dates of a place, one of them masked, guided by land cover."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import xarray as xr
from torch import nn

from torchspectral.backbones.base import Backbone
from torchspectral.errors import BadInput, BadSettings
from torchspectral.io.labels import read_labels
from torchspectral.learn.losses.soft_contrastive import SoftTerms
from torchspectral.learn.patches import PatchStore
from torchspectral.learn.recipe import Batch, Scene, TrainingSettings
from torchspectral.learn.scenes import OpenedScene
from torchspectral.learn.schedules import cosine
from torchspectral.learn.splits import TRAIN
from torchspectral.learn.views import ViewPlan
from torchspectral.pretraining.base import PretrainingRecipe
from torchspectral.pretraining.settings import PretrainingTraining
from torchspectral.pretraining.softcon.labels import scene_labels
from torchspectral.pretraining.softcon.masking import draw_mask
from torchspectral.pretraining.softcon.network import SoftCon
from torchspectral.settings import setting
from torchspectral.weights.files import is_tensor, read_state
from torchspectral.weights.store import find

COARSE = 32
"""Side of hidden patches where the backbone has none of its own [pixel]."""


class SoftConTraining(PretrainingTraining):
    """Settings of SoftCon; where the paper's text was not at hand they are those of the MoCo recipe it stands on."""

    backbone: str = setting("softcon-vit-s", "encoder, see `torchspectral.create_model`")
    vision: str = setting(
        "", "file of a vision model of the same layout to go on from (DINOv2 for transformers, DINO for ResNet-50)"
    )
    first_layer: Literal["random", "rgb"] = setting(
        "random",
        "first layer with `vision`: fresh, or its filters for red, green and blue and their mean for other bands",
    )
    batch: int = setting(512, "patches in a step, over all devices", ge=2)
    patch: int = setting(264, "side of a square patch", unit="pixel", ge=1)
    view: int = setting(224, "side of a view; 0: that of the patch", unit="pixel", ge=0)
    learning_rate: float = setting(1e-4, "learning rate", gt=0)
    weight_decay: float = setting(0.1, "weight decay", ge=0)
    decay_vectors: bool = setting(False, "weight decay also of biases and normalisations")
    warm_up: float = setting(0.1, "share of the steps in which the learning rate rises", ge=0, lt=1)
    crop_least: float = setting(0.2, "least share of a patch's area that a view shows", gt=0, le=1)
    jitter: float = setting(
        0.4, "views are brighter or darker by a gain within 1 +- jitter, all bands alike", ge=0, lt=1
    )
    style: Literal["auto", "moco-v2", "moco-v3"] = setting(
        "auto", "moco-v2: a queue of keys; moco-v3: predictor, the batch as negatives; auto: v3 for transformers"
    )
    hidden: int = setting(0, "width of the projection; 0: 2048 (moco-v2) or 4096", ge=0)
    outputs: int = setting(0, "length of the projections; 0: 128 (moco-v2) or 256", ge=0)
    queue: int = setting(65536, "keys that moco-v2 keeps", ge=1)
    temperature: float = setting(0.2, "temperature of both terms", gt=0)
    weight: float = setting(0.1, "weight of the soft term, lambda", ge=0)
    momentum: float = setting(0.996, "momentum of the keys' networks at first; 1 after the last step", ge=0, le=1)
    masked: float = setting(0.5, "share of the views of which the queries see a part only", ge=0, le=1)
    mask_least: float = setting(0.1, "least share of a masked view's patches that is hidden", ge=0, lt=1)
    mask_most: float = setting(0.5, "largest share of a masked view's patches that is hidden", ge=0, lt=1)
    guidance: Literal["presence", "shares"] = setting(
        "presence",
        "labels: classes that a scene has, or (from labels of pixels) the share of each, an extension of ours",
    )
    classes: int = setting(255, "numbers from 0 to below this are classes, others unlabelled", ge=1, le=4096)
    labels: tuple[str, ...] = setting(
        (), "of plain scenes: class rasters, vectors or tables, one for all or one for each; patch sets bring their own"
    )


class SoftConRecipe(PretrainingRecipe):
    """Contrast of two views with a soft term that draws scenes together as far as their labels agree.

    References
    ----------
    Wang, Albrecht, Zhu, "Multi-label guided soft contrastive learning for efficient Earth observation pretraining",
    IEEE TGRS (2024), arXiv 2405.20462.
    """

    Settings: ClassVar[type[TrainingSettings]] = SoftConTraining
    method: ClassVar[str] = "softcon"
    families: ClassVar[tuple[str, ...]] = (
        "softcon-", "spec-vit-", "spec-resnet50", "enmap-vit-", "enmap-resnet50", "intl-resnet",
    )  # fmt: skip
    uses: ClassVar[tuple[str, ...]] = ("valid", "later", "label", "mask")

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        s = self.settings
        if s.mask_least > s.mask_most:
            raise BadSettings(f"hidden shares from {s.mask_least} to {s.mask_most}, expected rising ones")
        if s.vision and s.start:
            raise BadSettings("got both vision and start: give one file to begin from")
        self.hidden_side = COARSE

    # Labels

    def attach(self, scenes: list[OpenedScene]) -> list[OpenedScene]:
        """Lay labels of pixels on plain scenes.

        Raises
        ------
        BadSettings, BadInput, GridMismatch, ProductNotFound
        """
        files = self.settings.labels
        if files and len(files) not in (1, len(scenes)):
            raise BadSettings(
                f"got {len(files)} files of labels for {len(scenes)} scenes, expected one, or one for each"
            )
        if not files:
            return scenes
        found = []
        for number, scene in enumerate(scenes):
            file = Path(files[number if len(files) > 1 else 0]).expanduser()
            plane = read_labels(file, like=scene.cube)
            facts = file.stat()
            digest = hashlib.sha256(f"{scene.fingerprint} {facts.st_size} {facts.st_mtime_ns}".encode()).hexdigest()
            both = xr.Dataset({"cube": scene.cube, "mask": plane.astype(np.int16) - 1})
            found.append(replace(scene, scene=both, fingerprint=digest))
        return found

    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """The image, and the number of the class of each pixel where there are labels (-1: none)."""
        found = super().pairs(scene)
        if isinstance(scene, xr.Dataset) and "mask" in scene:
            found["mask"] = np.asarray(scene["mask"].values, dtype=np.float32)[None]
        return found

    def store_settings(self) -> dict[str, Any]:
        """Whether there are labels."""
        return {**super().store_settings(), "labels": list(self.settings.labels)}

    def study(self, store: PatchStore) -> None:
        """Statistics; and whether there are labels at all.

        Raises
        ------
        BadInput
        """
        super().study(store)
        if "-vit-" in self.settings.backbone:
            with torch.device("meta"):
                self.hidden_side = int(self.backbone().stride)
        if not {"label", "mask"} & set(store.sample(TRAIN, 0)):
            raise BadInput(
                "the patches have no labels, which guide this method: give a patch set with labels, or labels=FILE for "
                "scenes (a land-cover raster)"
            )

    def labels_of(self, batch: Batch) -> torch.Tensor:
        """One row a scene; see `scene_labels`."""
        s = self.settings
        label = batch.get("label")
        classes = label.shape[1] if label is not None and label.shape[1] > 1 else s.classes
        return scene_labels(label, batch.get("mask"), classes, s.guidance, batch.get("valid"))

    # Views

    def plans(self) -> tuple[ViewPlan, ...]:
        """Two views, the second of the later date."""
        return (self.plan(), self.plan())

    def draws(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Hidden patches of both views."""
        s = self.settings
        if not s.masked:
            return {}
        side = max(self.view_size // self.hidden_side, 1)
        drawn = [draw_mask(side, side, (s.mask_least, s.mask_most), s.masked, rng) for _ in range(2)]
        return {"hidden": np.concatenate(drawn)}

    # Network

    def network(self, backbone: Backbone) -> nn.Module:
        """Networks of queries and keys, and the queue."""
        s = self.settings
        style = s.style
        if style == "auto":
            style = "moco-v3" if "-vit-" in s.backbone else "moco-v2"
        wide = style == "moco-v3"
        if not s.masked and hasattr(backbone, "mask_token"):
            backbone.mask_token.requires_grad_(False)  # type: ignore[operator]
        return SoftCon(
            backbone, style, s.hidden or (4096 if wide else 2048), s.outputs or (256 if wide else 128), s.queue,
            s.temperature, s.weight,
        )  # fmt: skip

    def begin_from(self, backbone: Backbone) -> None:
        """Load the weights of `start`, or those of a vision model.

        Raises
        ------
        BadSettings
            The backbone has not the layout of a vision model.
        BadWeights, MissingWeights, ProductNotFound
        """
        s = self.settings
        if not s.vision:
            super().begin_from(backbone)
            return
        if not hasattr(backbone, "load_vision"):
            raise BadSettings(
                f"{s.backbone} has not the layout of a vision model: choose a softcon- backbone, or leave vision"
            )
        state = {key: value for key, value in read_state(find(s.vision)).items() if is_tensor(value)}
        backbone.load_vision(state, s.first_layer, where=s.vision)  # type: ignore[operator]

    # Loss

    def terms(self, model: nn.Module, batch: Batch) -> SoftTerms:
        """Both terms of a batch."""
        seen = [self.inputs(self.encoder(model), view) for view in self.views(batch)]
        hidden: Sequence[torch.Tensor | None] = (None, None)
        if "hidden" in batch:
            hidden = [batch["hidden"][:, :1], batch["hidden"][:, 1:]]
        return model(seen, self.labels_of(batch), hidden)

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Contrast and soft term."""
        return self.terms(model, batch).total

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Loss and its terms, and the share of patches with a label."""
        terms = self.terms(model, batch)
        known = (self.labels_of(batch).sum(1) > 0).float().mean()
        return {
            "loss": float(terms.total), "contrast": float(terms.contrast), "soft": float(terms.soft),
            "labelled": float(known),
        }  # fmt: skip

    def key_momentum(self, step: int) -> float:
        """Momentum of the keys' networks at a step."""
        return cosine(self.settings.momentum, 1.0, self.share(step))

    def after_step(self, model: nn.Module, step: int) -> None:
        """The keys' networks move towards the queries'."""
        model.follow(self.key_momentum(step - 1))  # type: ignore[operator]

    def scheduled(self, step: int) -> dict[str, float]:
        """Momentum of the keys' networks."""
        return {**super().scheduled(step), "key_momentum": self.key_momentum(step)}
