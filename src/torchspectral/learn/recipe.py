"""What a trainable method tells the training floor: its recipe.

A room offers its recipes through one function in ``torchspectral/<room>/training.py``::

    def recipe(method: str, settings: Mapping[str, Any] | None = None) -> Recipe: ...

which raises `UnknownName` for a method that is not trained. The network itself is a row of
``torchspectral/<room>/models.yaml`` (see `weights.create_model`). What a recipe does not say (splits, patches, loop,
checkpoints, run folder, card) is the business of `learn`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr

from torchspectral.errors import BadSettings, BandMismatch
from torchspectral.learn.augment import augment
from torchspectral.learn.splits import HELD_OUT
from torchspectral.settings import Settings, setting

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from torchspectral.engine.method import Window
    from torchspectral.learn.patches import PatchStore
    from torchspectral.learn.scenes import OpenedScene

Scene = xr.DataArray | xr.Dataset
"""An opened cube, or a Dataset with `cube` and the layers that the recipe asked for."""

Batch = dict[str, "torch.Tensor"]
"""Role to tensor (n, channel, y, x), float32, in the working scale."""


LOOP_ONLY = frozenset({
    "steps", "batch", "learning_rate", "decay", "weight_decay", "clip", "precision", "accumulate", "flips", "jitter",
    "spectral_jitter", "validate_every", "validate_patches", "checkpoint_every", "loader_workers", "cache",
    "monitor_every", "monitor_samples",
})  # fmt: skip
"""Settings of every training that do not change what the patch store holds."""


class TrainingSettings(Settings):
    """Settings that every training has; a recipe subclasses it, sets its paper's defaults and adds its own fields."""

    steps: int = setting(1000, "optimiser steps", ge=1)
    batch: int = setting(16, "patches in a step, over all devices", ge=1)
    patch: int = setting(32, "side of a square patch on the lead grid", unit="pixel", ge=1)
    stride: int = setting(0, "distance of neighbouring patches of the store; 0: half a patch", unit="pixel", ge=0)
    patches: int = setting(20000, "most training patches in the store; more are thinned out evenly, seeded", ge=1)
    learning_rate: float = setting(1e-4, "learning rate", gt=0)
    decay: str = setting(
        "constant",
        "learning rate over the steps: constant, or cosine down to a hundredth",
        pattern="^(constant|cosine)$",
    )
    weight_decay: float = setting(0.0, "weight decay (L2)", ge=0)
    clip: float = setting(0.0, "largest norm of the gradient; 0: not clipped", ge=0)
    accumulate: int = setting(
        1,
        "parts that a batch is worked off in, one after the other, to save memory; what is computed over a batch (batch "
        "normalisation, negatives) is computed over a part",
        ge=1,
    )
    precision: str = setting("32", "arithmetic: 32, bf16-mixed, 16-mixed, 64", pattern="^(32|64|bf16-mixed|16-mixed)$")
    split: str = setting(
        "blocks", "blocks: spatially disjoint; random: patches at random (leaks)", pattern="^(blocks|random)$"
    )
    held_out: float = setting(0.2, "share of the ground that validates", gt=0, lt=1)
    block: int = setting(0, "side of the blocks that are dealt out; 0: chosen from the scene", unit="pixel", ge=0)
    guard: int = setting(-1, "ground left out between the parts; -1: an eighth of a block", unit="pixel", ge=-1)
    flips: bool = setting(True, "augment with flips and quarter turns")
    jitter: float = setting(0.0, "augment with a gain of each sample within 1 +- jitter", ge=0, lt=1)
    spectral_jitter: float = setting(0.0, "augment with a smooth spectral curve within 1 +- this", ge=0, lt=1)
    validate_every: int = setting(100, "steps between validations", ge=1)
    validate_patches: int = setting(0, "held-out patches that are validated on, evenly thinned; 0: all", ge=0)
    checkpoint_every: int = setting(200, "steps between checkpoints", ge=1)
    loader_workers: int = setting(0, "processes that read patches", ge=0)
    monitor_every: int = setting(
        0,
        "passes over the training patches between looks at the embeddings (more for few patches, so that embedding "
        "takes at most 4 % of the time); 0: not monitored",
        ge=0,
    )
    monitor_samples: int = setting(1000, "held-out patches whose embeddings are looked at", ge=10, le=2000)
    cache: int = setting(256, "patches are kept in memory where all of them are at most this", unit="MiB", ge=0)
    holes: float = setting(0.5, "most of a patch that may be nodata, for methods that use masks", ge=0, lt=1)
    broken: str = setting(
        "refuse", "broken files of a patch set: refuse, or skip and count them", pattern="^(refuse|skip)$"
    )
    sensor: str = setting("", "which of the sensors, or band counts, of a patch set that has several")


class Recipe(ABC):
    """How one method is trained.

    Subclasses set the class attributes and write `prepare`, `model_arguments`, `pairs`, `loss` and `card`; the rest
    has defaults.

    Attributes
    ----------
    room, method : str
        As in the registry's card.
    model : str
        Name for `weights.create_model`.
    lead : str
        Role whose grid is that of the scene; patches and splits are counted in its pixels.
    scaled : tuple of str
        Roles whose values `jitter` multiplies.
    multiple : int
        Patch origins and sizes are multiples of it (the ratio of the coarsest role).
    reach : int
        How far a value that `pairs` returns draws on its surroundings [lead pixels] (filters, interpolation). Blocks
        of a large scene are read with this margin, which is then thrown away; it never reaches into another part.
    layers : tuple of str
        Layers to open with each scene (``("pan",)``); scenes then are Datasets.
    uses : tuple of str
        Roles beyond those of `pairs` that the training can use, all (channel, y, x) float32. ``valid`` (1, y, x): 1
        where every role has a value; patches with holes are then kept, and hold 0 there. From patch sets also
        ``later`` (the lead role at another date of the place, else at the same one; ``later_valid`` with it), ``label``
        ((1, 1, 1) number of the class, (classes, 1, 1) of several, or (targets, 1, 1)) and ``mask`` ((1, y, x), number
        of the class of each pixel); the last two only where the set has them, see `learn.patch_sets.labels_of`.
    monitor, mode : str
        Figure of `validate` that picks the best checkpoint, "min" or "max".
    exports : {"best", "last"}
        Checkpoint whose weights the run becomes; with "last", the held-out ground is not evaluated as a whole.
    default_epochs : int
        The paper's passes over the training patches, where neither epochs nor steps are given; 0: the setting `steps`.
    sync_norm : bool
        Batch normalisation over the batches of all processes.

    Parameters
    ----------
    settings : TrainingSettings
        An instance of the class's own `Settings`.
    """

    Settings: ClassVar[type[TrainingSettings]] = TrainingSettings
    room: ClassVar[str] = ""
    method: ClassVar[str] = ""
    model: ClassVar[str] = ""
    lead: ClassVar[str] = "target"
    scaled: ClassVar[tuple[str, ...]] = ()
    multiple: int = 1
    reach: int = 0
    layers: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    monitor: ClassVar[str] = "loss"
    mode: ClassVar[str] = "min"
    exports: ClassVar[str] = "best"
    default_epochs: ClassVar[int] = 0
    sync_norm: bool = False

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        self.settings: Any = settings if settings is not None else self.Settings.make()

    def attach(self, scenes: list[OpenedScene]) -> list[OpenedScene]:
        """Add to the opened scenes what the recipe has from elsewhere, such as labels; before `prepare`."""
        return scenes

    def chooses(self, scene: int, window: Window) -> bool:
        """Whether a patch of this place is worth cutting, where something is known of it without reading the cube."""
        return True

    def class_counts(self, scene: int, window: Window) -> np.ndarray | None:
        """Labelled pixels of each class in a window: blocks are then dealt out so that both parts get every class."""
        return None

    @abstractmethod
    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Look at the opened, lazy scenes before anything is read: bands, wavelengths, scale, ratio.

        Called once at the start and again on resume, with the same scenes; must be deterministic.

        Raises
        ------
        BandMismatch, BadCube, MissingMetadata
            The scenes do not fit together or the method.
        """

    @abstractmethod
    def model_arguments(self) -> dict[str, Any]:
        """Constructor arguments of the network, plain values (they go into the card)."""

    @abstractmethod
    def pairs(self, scene: Scene) -> dict[str, np.ndarray]:
        """Make the network's inputs and targets from a scene, or a block of one, that is in memory.

        Returns
        -------
        dict of str to ndarray
            Role to float32 array (channel, y, x) in the working scale, NaN where there is no value. The lead has the
            pixels of `scene`, cropped at the bottom and the right to a multiple of `multiple`; a role on another grid
            covers the same ground with a whole number of pixels a `multiple`.
        """

    def arrays(self, scene: Scene) -> dict[str, np.ndarray]:
        """`pairs`, with the role ``valid`` and 0 in place of NaN where the recipe uses masks."""
        made = self.pairs(scene)
        lead = made.get(self.lead)
        if "valid" not in self.uses or lead is None:
            return made
        alike = [role for role, array in made.items() if array.shape[-2:] == lead.shape[-2:]]
        seen = np.all([np.isfinite(made[role]).all(0) for role in alike], axis=0)
        filled = {role: np.where(np.isfinite(made[role]), made[role], np.float32(0)) for role in alike}
        return {**made, **filled, "valid": seen[None].astype(np.float32)}

    def study(self, store: PatchStore) -> None:  # noqa: B027
        """Look at the patches before the network is built, such as for their statistics; again on resume."""

    def sample(self, store: PatchStore, part: str, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One sample as the loss will see it (in a batch), of the training part augmented.

        Everything random is drawn from `rng`, which follows from (seed, epoch, index): it is then the same in whatever
        process, and after whatever interruption.
        """
        arrays = store.sample(part, index, rng)
        if part == HELD_OUT:
            return arrays
        s = self.settings
        return augment(arrays, rng, flips=s.flips, jitter=s.jitter, spectral=s.spectral_jitter, scaled=self.scaled)

    @abstractmethod
    def loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Scalar to minimise; the forward pass is done here."""

    @property
    def open_ended(self) -> bool:
        """Whether a run may go on to more steps than it was begun for: no plan stretches with their number."""
        return bool(self.settings.decay == "constant")

    def store_settings(self) -> dict[str, Any]:
        """Settings that decide what the patch store holds; by default all but those of the loop."""
        return {k: v for k, v in self.settings.model_dump(mode="json").items() if k not in LOOP_ONLY}

    @abstractmethod
    def card(self) -> dict[str, Any]:
        """Fields of `WeightsCard` that only the recipe knows: quantity, scale, wavelengths, ratio, preprocessing, ..

        `learn` adds model, constructor, metrics, trained_on, sha256 and the licence of the user's choice.
        """

    def begin_step(self, step: int) -> None:  # noqa: B027
        """Called before the loss with the number of optimiser steps that are done."""

    def before_update(  # noqa: B027
        self, model: torch.nn.Module, optimiser: torch.optim.Optimizer, step: int
    ) -> None:
        """Called with the gradients of a step, `step` being the number of steps done, before the optimiser uses them."""

    def after_step(self, model: torch.nn.Module, step: int) -> None:  # noqa: B027
        """Called after each optimiser step with the number of steps that are done, this one included.

        For moving averages and the like. What it changes must be in the network's state, so that a resumed run goes on
        alike.
        """

    def scheduled(self, step: int) -> dict[str, float]:
        """Numbers that change by plan, for the curves."""
        return {}

    def exported(self, network: torch.nn.Module) -> torch.nn.Module:
        """What the run's weights are: the whole network, or the encoder in it."""
        return network

    def exported_as(self) -> tuple[str, dict[str, Any]]:
        """Name and constructor arguments of what `exported` returns, for `weights.create_model`."""
        return self.model, self.model_arguments()

    def validate(self, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
        """Figures of one batch of validation patches, without gradient; averaged over the patches."""
        return {"loss": float(self.loss(model, batch))}

    def embed(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Embeddings (n, d) of a batch, without gradient, for `monitor_every`.

        By default what ``forward_features`` of the network, or of its ``backbone``, makes of the lead role.

        Raises
        ------
        BadSettings
            The network has no embeddings.
        """
        places = (model, getattr(model, "backbone", None))
        encoder: Any = next((m for m in places if hasattr(m, "forward_features")), None)
        if encoder is None:
            raise BadSettings(f"the network of {self.method} has no embeddings to monitor: leave monitor_every at 0")
        found: torch.Tensor = encoder.forward_features(batch[self.lead])
        return found

    def references(self, batch: Batch) -> dict[str, torch.Tensor]:
        """What the embeddings of a batch are held against: ``labels`` (n,) of whole numbers, ``input`` (n, d).

        By default the mean spectrum of each patch of the lead role.
        """
        return {"input": batch[self.lead].mean((-2, -1))}

    def optimiser(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """The paper's optimiser; Adam by default."""
        import torch

        s = self.settings
        return torch.optim.Adam(parameters, lr=s.learning_rate, weight_decay=s.weight_decay)

    def optimiser_of(self, network: torch.nn.Module) -> torch.optim.Optimizer:
        """`optimiser` of every parameter that learns; override it where parameters are treated by name."""
        return self.optimiser(p for p in network.parameters() if p.requires_grad)

    def schedule(self, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler | None:
        """Learning-rate schedule, stepped once an optimiser step; that of the setting `decay` by default."""
        from torch.optim.lr_scheduler import CosineAnnealingLR

        s = self.settings
        if s.decay == "constant":
            return None
        return CosineAnnealingLR(optimiser, T_max=s.steps, eta_min=s.learning_rate / 100)

    def build(self) -> torch.nn.Module:
        """The network with fresh weights, to be seeded by the caller."""
        from torchspectral.weights import create_model

        return create_model(self.model, **self.model_arguments())

    def evaluate(self, model: torch.nn.Module, scene: Scene) -> Mapping[str, float]:
        """Figures of a whole held-out scene in memory; by default `validate` on all of it as one patch."""
        import torch

        arrays = self.arrays(scene)
        batch = {role: torch.from_numpy(np.nan_to_num(a))[None] for role, a in arrays.items()}
        model.eval()
        with torch.no_grad():
            return self.validate(model, batch)

    def pooled(self, means: dict[str, float], model: torch.nn.Module) -> dict[str, float]:
        """Figures of all held-out ground, from their means over its areas; counts of `evaluate` say more."""
        return means

    def advice(self, folder: Path) -> list[str]:
        """Notes for the report of a finished run: what was not done, and what to do next."""
        return []

    def illustrate(self, folder: Path) -> None:  # noqa: B027
        """Write tables and pictures of the evaluation into a finished run's folder."""


def common_bands(scenes: Sequence[Scene], *, tolerance: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths and good bands that all scenes share; the usual first line of `Recipe.prepare`.

    Parameters
    ----------
    scenes : sequence of Scene
    tolerance : float
        Largest difference of a band's wavelength between scenes [nm].

    Returns
    -------
    wavelength : ndarray, shape (bands,)
        Of the bands that are good in every scene [nm].
    index : ndarray of int, shape (bands,)
        Their positions in the scenes.

    Raises
    ------
    BandMismatch
        Band counts or wavelengths differ, or no band is good in all scenes.
    """
    cubes = [scene["cube"] if isinstance(scene, xr.Dataset) else scene for scene in scenes]
    first = cubes[0]
    wave = np.asarray(first["wavelength"].values, dtype=np.float64)
    good = np.ones(wave.size, dtype=bool)
    for number, cube in enumerate(cubes, start=1):
        if cube.sizes["band"] != wave.size:
            raise BandMismatch(
                f"scene {number} has {cube.sizes['band']} bands and the first has {wave.size}: "
                "resample them to one sensor first (torchspectral convert --resample SENSOR)"
            )
        other = np.asarray(cube["wavelength"].values, dtype=np.float64)
        gap = np.abs(other - wave)
        if np.isfinite(gap).any() and np.nanmax(gap) > tolerance:
            raise BandMismatch(
                f"scene {number} lies {np.nanmax(gap):.1f} nm off the first at band {int(np.nanargmax(gap)) + 1}, "
                f"expected at most {tolerance:g} nm: resample them to one sensor first"
            )
        good &= np.asarray(cube["good"].values, dtype=bool) if "good" in cube.coords else True
    if not good.any():
        raise BandMismatch("no band is marked good in all scenes: nothing to train on")
    return wave[good], np.flatnonzero(good)
