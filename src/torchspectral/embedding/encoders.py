"""Which encoder a user means, with which weights, and what these say about bands, scale and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from torchspectral.backbones.base import Backbone, Bands, describe
from torchspectral.backbones.less_vit.statistics import PREFIX
from torchspectral.backbones.starting import RANDOM, encoder, find_start, native_patch
from torchspectral.errors import BadSettings, BadWeights
from torchspectral.weights import Weights, load
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.networks import models
from torchspectral.weights.store import listing

TUNED = "backbone-classifier"
"""Model of weights that hold an encoder with a head."""


@dataclass
class Encoder:
    """An encoder with weights.

    Attributes
    ----------
    name, arguments : str, dict
        For `create_model`.
    network : Backbone
    card : WeightsCard
        What the weights say about bands, scale and statistics.
    trained : bool
    size : int
        Side of its training images [pixel].
    notes : list of str
    statistics : dict
        Those of the sensors that the weights learnt from, where there were several; see `less_vit.statistics`.
    """

    name: str
    arguments: dict[str, Any]
    network: Backbone
    card: WeightsCard
    trained: bool
    size: int
    notes: list[str] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)

    @property
    def bands(self) -> Bands:
        """What the network takes."""
        return self.network.bands

    def wanted(self, own_bands: bool) -> WeightsCard:
        """The card that a scene is held against: with the bands that the weights were trained on, or free ones."""
        free = self.card.model_copy(update={"wavelengths": "any", "fwhm": None, "constructor": {}})
        if own_bands or self.bands.needs_wavelengths:
            return free
        if self.card.wavelengths != "any":
            return self.card
        known = self.bands.wavelengths
        if known is None or not (self.trained or self.bands.fixed):
            return free
        return free.model_copy(
            update={"wavelengths": list(known), "fwhm": list(self.bands.fwhm) if self.bands.fwhm else None}
        )


def find_encoder(
    backbone: str | None,
    weights: str | Path | None,
    *,
    initial: str = "trained",
    network: Mapping[str, Any] | None = None,
    window: int = 0,
    bands: int = 0,
    seed: int = 0,
) -> Encoder:
    """The encoder with its weights.

    Parameters
    ----------
    backbone : str, optional
        By default the one that the weights belong to.
    weights : str or path, optional
        A run, a file or a name; of tuned weights the encoder is taken, a file without a card may be of its authors. By
        default the only weights of the backbone on this machine.
    initial : {"trained", "random"}
    network : mapping, optional
        Constructor arguments over those of the weights or the size.
    window : int
        Side of the images that it will see; tables of positions are resampled to it. 0: as trained.
    bands : int
        Of the scene, for random encoders that are built for a count.
    seed : int
        Of random weights.

    Raises
    ------
    BadSettings, UnknownName, MissingWeights, ProductNotFound, BadWeights, UnsafeInput
    """
    given = dict(network or {})
    if initial == RANDOM:
        if weights is not None:
            raise BadSettings("got weights and initial=random, expected one of them")
        return _random(backbone or "", given, window, bands, seed)
    tuned = _tuned(backbone, weights, given, window) if weights is not None else None
    if tuned is not None:
        return tuned
    name, start = find_start(backbone or "", str(weights) if weights is not None else "")
    assert start is not None
    if not issubclass_of_backbone(name, given):
        raise BadWeights(
            f"weights {start.card.name} are of {name}, which has no features to embed by: give an encoder's"
        )
    if start.card.model:
        return _known(name, start, given, window)
    return _foreign(name, start, given, window)


def issubclass_of_backbone(name: str, arguments: dict[str, Any]) -> bool:
    """Whether a network is an encoder."""
    from torchspectral.registry import load_target

    target = load_target(models()[name].target)
    return isinstance(target, type) and issubclass(target, Backbone)


def _random(name: str, given: dict[str, Any], window: int, bands: int, seed: int) -> Encoder:
    find_start(name, RANDOM)
    size = native_patch(name, None, given)
    arguments = _sized(name, given, window, bands)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = encoder(name, arguments)
    note = f"{name} has random weights (seed {seed}): its vectors are those of an untrained encoder"
    return Encoder(name, arguments, made, WeightsCard(name=f"{name}.random"), False, window or size, [note])


def _sized(name: str, given: dict[str, Any], window: int, bands: int = 0) -> dict[str, Any]:
    """Arguments with the sides of the images and the number of bands, where the constructor has such."""
    import inspect

    from torchspectral.registry import load_target

    takes = inspect.signature(load_target(models()[name].target)).parameters
    sizes = {key: window for key in ("image_size", "img_size") if key in takes and window}
    counted = {"bands": bands} if "bands" in takes and bands and "bands" not in given else {}
    return {**counted, **given, **sizes}


def _known(name: str, start: Weights, given: dict[str, Any], window: int) -> Encoder:
    """Weights whose card says what they are."""
    own = {k: v for k, v in start.card.constructor.items() if k != "num_classes"}
    arguments = {**own, **_sized(name, {**own, **given}, window)}
    size = native_patch(name, start, given)
    made = encoder(name, arguments)
    made.load_matched(start.state, where=str(start.path))
    return Encoder(name, arguments, made, start.card, True, window or size, statistics=_of_sensors(start))


def _of_sensors(start: Weights) -> dict[str, Any]:
    return {key: value for key, value in start.state.items() if key.startswith(f"{PREFIX}.")}


def _tuned(backbone: str | None, weights: str | Path, given: dict[str, Any], window: int) -> Encoder | None:
    """The encoder of weights that were tuned for a task; None where they are none such."""
    loaded = load(weights)
    if loaded.card.model != TUNED:
        return None
    facts = loaded.card.constructor
    name = str(facts.get("backbone", ""))
    if backbone and backbone != name:
        raise BadWeights(f"weights {loaded.card.name} are of {name}, expected weights of {backbone}")
    own = dict(facts.get("arguments") or {})
    arguments = {**own, **_sized(name, {**own, **given}, window)}
    made = encoder(name, arguments)
    tensors = {k: v for k, v in loaded.state.items() if isinstance(v, torch.Tensor)}
    made.load_matched(
        {k.removeprefix("backbone."): v for k, v in tensors.items() if k.startswith("backbone.")},
        where=str(loaded.path),
    )
    waves = facts.get("wavelengths")
    fields = {
        "mean": tensors["mean"].tolist() if "mean" in tensors else loaded.card.mean,
        "std": tensors["std"].tolist() if "std" in tensors else loaded.card.std,
        "wavelengths": list(waves) if waves and loaded.card.wavelengths == "any" else loaded.card.wavelengths,
    }
    card = loaded.card.model_copy(update=fields)
    note = f"the encoder {name} of the tuned weights {card.name}, without their head"
    return Encoder(name, arguments, made, card, True, window or int(facts.get("patch", 0)), [note])


def _foreign(name: str, start: Weights, given: dict[str, Any], window: int) -> Encoder:
    """A file without a card: bands, scale and statistics are those of the published weights of that network."""
    cards = {e.card.name: e.card for e in listing() if e.card.model == name}
    tried: list[tuple[float, Backbone, dict[str, Any], WeightsCard]] = []
    for card in cards.values() or [start.card]:
        own = {k: v for k, v in card.constructor.items() if k != "num_classes"}
        arguments = {**own, **_sized(name, {**own, **given}, window)}
        if any(other[2] == arguments for other in tried):
            continue
        made = encoder(name, arguments)
        match = made.key_map.match(made.adapt_state(dict(start.state)), made.state_dict())
        tried.append((match.share - len(match.shapes), made, arguments, card))
    _, made, arguments, card = max(tried, key=lambda found: found[0])
    match = made.load_matched(start.state, where=str(start.path))
    notes = [f"{start.path.name} has no card: {describe(match, name, 3)}"]
    if cards:
        notes.append(f"bands, scale and statistics are taken to be those of the published weights {card.name}")
    size = native_patch(name, Weights({}, card, start.path), given)
    plain = card.model_copy(update={"name": start.card.name, "sha256": ""})
    return Encoder(name, arguments, made, plain, True, window or size, notes, _of_sensors(start))
