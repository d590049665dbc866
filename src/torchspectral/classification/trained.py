"""Weights of this room for a scene: which method they are of, and whether the scene fits them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from torchspectral import registry
from torchspectral.engine.trained import trained
from torchspectral.errors import BadInput, BadSettings, BadWeights, MissingWeights
from torchspectral.weights.loading import load

METHODS = {"backbone-classifier": "backbone"}


def for_scene(
    method: str | None,
    weights: str | Path | None,
    cube: xr.DataArray,
    later: xr.DataArray | None,
    settings: dict[str, Any],
    options: Mapping[str, Any],
) -> tuple[str, Any, xr.DataArray, xr.DataArray | None, dict[str, Any], list[str]]:
    """Load weights and hold the scene against them.

    Returns
    -------
    method : str
    state : Weights
        With the constructor's arguments in its state.
    cube, later : DataArray
        As given, or resampled to the weights' bands.
    settings : dict
        With what the weights decide.
    notes : list of str

    Raises
    ------
    MissingWeights, BadWeights, BadSettings, BandMismatch, BadInput, MissingMetadata
    """
    if weights is None:
        raise MissingWeights(
            "the method backbone needs tuned weights: give weights=RUN, or tune a backbone: torchspectral train classify "
            "--backbone NAME --data SCENE --labels FILE -o RUN"
        )
    card = load(weights).card
    found = METHODS.get(card.model)
    if found is None:
        fitted = str(card.constructor.get("method", ""))
        if not fitted or fitted not in {c.name for c in registry.methods("classification")}:
            raise BadWeights(
                f"weights {card.name} are of {card.model or 'an unknown model'}, expected those of a classification: "
                "tune an encoder first (torchspectral train classify --weights ENCODER --data SCENE --labels FILE -o RUN)"
            )
        found = fitted
    if method is not None and method != found:
        raise BadSettings(f"weights {card.name} are of the method {found}, got method={method}: leave it out")
    loaded, cube, notes = trained(_as_own(registry.card("classification", found), card.model), weights, cube, options)
    if found != "backbone":
        return found, loaded, cube, later, settings, notes
    if (later is None) == (card.constructor.get("task") == "change"):
        raise BadInput(
            "these weights tell change between two dates: give the later scene (later=, --later)"
            if later is None
            else "got a later scene, but these weights look at one date: leave it out"
        )
    if later is not None:
        from torchspectral.classification.tuned.dates import check_later
        from torchspectral.weights.fit import check_fit

        if notes:
            later, more = check_fit(loaded.card, later, resample=True)
            notes += more
        check_later(cube, later)
    import torch

    from torchspectral.classification.tuned.network import BackboneClassifier
    from torchspectral.classification.tuned.tiling import tiling_of

    with torch.device("meta"):
        decided = tiling_of(BackboneClassifier(**loaded.card.constructor), int(settings.get("overlap", -1)))
    state = {**loaded.state, "constructor": dict(loaded.card.constructor)}
    state["class_names"] = list(loaded.card.constructor["class_names"])
    return found, replace(loaded, state=state), cube, later, {**decided, **settings}, notes


def _as_own(card: registry.Card, model: str) -> registry.Card:
    """The method's card under the name that its weights carry, for the check of `trained`."""
    return card.model_copy(update={"name": model}) if model else card
