"""Which backbone a weights file is of, which bands that takes, and which of the file's keys fit it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from torchspectral.backbones.base import LEAST_MATCH, Backbone, Bands, Match
from torchspectral.errors import TorchspectralError
from torchspectral.registry import load_target
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.files import card_of, is_tensor, read_state, strip_prefixes
from torchspectral.weights.networks import create_model, models
from torchspectral.weights.store import find

SHOWN = 8
"""Keys of each kind that are listed."""


def recognise(name: str | Path) -> dict[str, Any] | None:
    """Say which backbone a weights file is of.

    The card decides where there is one; a file of an encoder's authors is held against all encoders of known size.

    Parameters
    ----------
    name : str or path
        See `weights.find`.

    Returns
    -------
    dict or None
        ``backbone``, ``arguments``, ``says`` ("card" or "keys"), ``match`` (share of the backbone's keys, 0..1), ``bands``
        (in words), ``dimensions``, ``patch`` [pixel], ``absent``, ``shapes`` and ``unused`` (the first keys of each, and
        how many more); None where it is no backbone.

    Raises
    ------
    MissingWeights, ProductNotFound, BadWeights, UnsafeInput
    """
    path = find(name)
    card = card_of(path)
    state = {k: v for k, v in read_state(path).items() if is_tensor(v)}
    own = models().get(card.model)
    facts, says = card.constructor, "card"
    if "backbone" in facts:  # tuned weights: an encoder with a head
        own, card_arguments = models().get(str(facts["backbone"])), dict(facts.get("arguments") or {})
        state = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
    else:
        card_arguments = {k: v for k, v in facts.items() if k != "num_classes"}
    if card.model and own is None:
        return None
    found: tuple[str, dict[str, Any], Backbone, Match] | None = None
    if own is not None:
        made = _empty(own.name, card_arguments)
        if made is None:
            return None
        state = {card.rename(k): v for k, v in strip_prefixes(state).items()}
        found = own.name, card_arguments, made, made.key_map.match(state, made.state_dict())
    else:
        found, says = _best(state), "keys"
    if found is None:
        return None
    model, arguments, made, match = found
    return {
        "backbone": model,
        "arguments": arguments,
        "says": says,
        "match": round(match.share, 4),
        "bands": bands_in_words(made.bands, card),
        "dimensions": made.dim,
        "patch": made.stride,
        "absent": _first(match.absent),
        "shapes": _first(match.shapes),
        "unused": _first(match.unused),
    }


def _best(state: Mapping[str, Any]) -> tuple[str, dict[str, Any], Backbone, Match] | None:
    """The encoder of which most keys are filled: the family by the keys' names, then its size by their shapes."""
    families: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, arguments in _candidates(state):
        families.setdefault(models()[name].target, []).append((name, arguments))
    ranked = []
    for target, sizes in families.items():
        made = _empty(*sizes[0])
        if made is None:
            continue
        own = made.state_dict()
        match = made.key_map.match(state, own)
        named = 1 - len(match.absent) / max(sum(not made.key_map.is_optional(k) for k in own), 1)
        if named >= LEAST_MATCH / 2:
            ranked.append((-named, len(match.unused), target))
    best: tuple[str, dict[str, Any], Backbone, Match] | None = None
    for *_, target in sorted(ranked):
        for name, arguments in families[target]:
            made = _empty(name, arguments)
            if made is None:
                continue
            match = made.key_map.match(_adapted(made, state), made.state_dict())
            if match.share >= LEAST_MATCH / 2 and (best is None or match.share > best[3].share):
                best = name, arguments, made, match
            if match.share == 1:
                return best
    return best


def _candidates(state: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Encoders by name, with arguments that only the file tells: modality, number of bands."""
    first = next((v for k, v in state.items() if k.endswith(("patch_embed.proj.weight", "conv1.weight"))), None)
    bands = int(first.shape[1]) if first is not None and first.ndim == 4 else 0
    for name, card in models().items():
        if ".backbones." not in card.target:
            continue
        target = load_target(card.target)
        if not (isinstance(target, type) and issubclass(target, Backbone)):
            continue
        takes = inspect.signature(target).parameters
        if any(p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in takes.values()):
            continue  # a head for a number of classes
        if "modality" in takes and bands == 2:
            yield name, {"modality": "sentinel-1"}
        elif "bands" in takes and "depth" in takes and "stem" in takes and bands:
            yield name, {"bands": bands}
        else:
            yield name, {}


def _adapted(made: Backbone, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state with its tables of positions as large as the encoder's."""
    try:
        return made.adapt_state(dict(state))
    except (TorchspectralError, RuntimeError, ValueError, NotImplementedError):
        return state


def _empty(name: str, arguments: dict[str, Any]) -> Backbone | None:
    """An encoder without memory for its weights."""
    try:
        with torch.device("meta"):
            made = create_model(name, **arguments)
    except TorchspectralError:
        return None
    return made if isinstance(made, Backbone) else None


def bands_in_words(bands: Bands, card: WeightsCard | None = None) -> str:
    """What an encoder takes, and what its weights were trained on."""
    if bands.count is not None:
        count = f"exactly {bands.count} bands"
    else:
        count = (
            f"{bands.minimum} bands or more" if bands.maximum is None else f"{bands.minimum} to {bands.maximum} bands"
        )
    if bands.needs_wavelengths:
        count += " of any wavelength, which it computes with"
    words = [count]
    if bands.names:
        words.append(", ".join(bands.names))
    trained = card.wavelengths if card is not None and card.wavelengths != "any" else bands.wavelengths
    if trained:
        whose = "its card" if card is not None and card.wavelengths != "any" else "the published weights"
        words.append(f"{len(trained)} from {min(trained):g} to {max(trained):g} nm by {whose}")
    return "; ".join(words)


def _first(keys: tuple[str, ...]) -> list[str]:
    more = [f"and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
    return [*keys[:SHOWN], *more]
