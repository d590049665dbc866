"""What a backbone begins with: published weights, a run of pretraining, or, when asked, random numbers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from torchspectral.backbones.base import Backbone
from torchspectral.errors import BadSettings, BadWeights, MissingWeights, UnknownName, closest
from torchspectral.registry import load_target
from torchspectral.weights import Weights, load
from torchspectral.weights.networks import create_model, models
from torchspectral.weights.store import family, listing

RANDOM = "random"


def encoder(name: str, arguments: Mapping[str, Any] | None = None) -> Backbone:
    """A backbone by name, with fresh weights.

    Raises
    ------
    UnknownName
        There is no such network, or it is none that gives features.
    BadSettings
    """
    if name not in models():
        raise UnknownName(f"no backbone {name!r}: {closest(name, backbone_names())}")
    made = create_model(name, **dict(arguments or {}))
    if not isinstance(made, Backbone):
        raise UnknownName(f"{name} is a network without features for heads: {closest(name, backbone_names())}")
    return made


def backbone_names() -> list[str]:
    """Names of networks that are meant as backbones."""
    return [
        n
        for n, card in models().items()
        if ".backbones." in card.target and not any(w in n for w in ("-mae-", "classifier"))
    ]


def find_start(backbone: str, initial: str) -> tuple[str, Weights | None]:
    """Name of the backbone, and the weights that it begins with; None for random ones, which must be asked for.

    Parameters
    ----------
    backbone : str
        "" takes the one that the weights belong to.
    initial : str
        File, run or name of weights; "random"; "" takes the only weights of this backbone on the machine.

    Raises
    ------
    MissingWeights
        None were given and there are none, or several.
    BadWeights
        They are of another model.
    UnknownName, BadSettings
    """
    if backbone and backbone not in models():
        raise UnknownName(f"no backbone {backbone!r}: {closest(backbone, backbone_names())}")
    if initial == RANDOM:
        if not backbone:
            raise BadSettings("got initial=random without a backbone: give --backbone NAME")
        return backbone, None
    if not initial:
        if not backbone:
            raise BadSettings("got neither a backbone nor weights: give --backbone NAME, or --weights FILE|RUN")
        initial = _only(backbone)
    weights = load(initial)
    model = weights.card.model
    if not backbone:
        if model not in models():
            raise BadSettings(f"{initial}: its card names no backbone: give --backbone NAME too")
        backbone = model
    if model in models() and model != backbone:
        raise BadWeights(f"weights {weights.card.name} are of {model}, expected weights of {backbone}")
    return backbone, weights


def _only(backbone: str) -> str:
    known = [e for e in listing() if family(e.name) == backbone]
    here = [e.name for e in known if e.path is not None]
    if len(here) == 1:
        return here[0]
    ask = f"give --weights FILE|RUN|NAME, or ask for untrained ones: --set {'initial'}={RANDOM}"
    if here:
        raise MissingWeights(f"there are several weights of {backbone} ({', '.join(here)}): {ask}")
    names = ", ".join(e.name for e in known)
    more = f"; known by name: {names} (torchspectral weights list says where from)" if names else ""
    raise MissingWeights(f"no weights of {backbone} are on this machine{more}: {ask}")


def arguments_of(
    backbone: str, start: Weights | None, given: dict[str, Any], patch: int, facts: dict[str, Any]
) -> dict[str, Any]:
    """Constructor arguments of the backbone: those of its weights, of the user, and what the scenes decide.

    Parameters
    ----------
    facts : dict
        ``bands``, ``wavelengths`` and ``resolution`` of the scenes, taken where the constructor has such an argument.
    """
    target = load_target(models()[backbone].target)
    names = inspect.signature(target).parameters
    own = dict(start.card.constructor) if start is not None and start.card.model == backbone else {}
    for drop in ("num_classes",):
        own.pop(drop, None)
    if "image_size" in names and patch:
        own["image_size"] = patch
    decided = {k: v for k, v in facts.items() if k in names and v is not None}
    if "bands" in decided and "wavelengths" in decided and decided["bands"] == own.get("bands", 12):
        decided.pop("wavelengths")
    return {**own, **decided, **given}


def declared(backbone: str, arguments: dict[str, Any]) -> Backbone:
    """The backbone without memory for its weights, for what it declares."""
    with torch.device("meta"):
        return encoder(backbone, arguments)


def native_patch(backbone: str, start: Weights | None, given: dict[str, Any]) -> int:
    """Side of the images that a backbone was made for [pixel]."""
    target = load_target(models()[backbone].target)
    names = inspect.signature(target).parameters
    own = dict(start.card.constructor) if start is not None and start.card.model == backbone else {}
    known = {**models()[backbone].defaults, **own, **given}
    if "image_size" in known:
        return int(known["image_size"])
    default = names["image_size"].default if "image_size" in names else 64
    return 32 if "less-vit-v2" in backbone else int(default)
