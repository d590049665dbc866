"""Weights for a scene: found, held against the method and the scene's bands, quantity and values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from torchspectral.engine.roles import choose_bands
from torchspectral.errors import BadWeights, MissingWeights
from torchspectral.registry import Card
from torchspectral.result import Report
from torchspectral.weights import Weights, check_fit, load


def trained(
    card: Card,
    weights: str | Path | None,
    cube: xr.DataArray,
    options: Mapping[str, Any],
    *,
    any_bands: bool = False,
    recognise: Callable[[Weights], Weights] | None = None,
) -> tuple[Weights, xr.DataArray, list[str]]:
    """Load the weights that a method is to use on a scene.

    Parameters
    ----------
    card : Card
        Of the method; its own default weights are taken where none are given.
    weights : str or path, optional
        See `weights.find`.
    cube : DataArray, dims (band, y, x)
    options : mapping
        Fields of `RunOptions`: ``bands`` and ``resample`` count here.
    any_bands : bool
        The method takes other numbers of bands than its network was built for; wavelengths on the card still bind.

    recognise : callable, optional
        Gives a file without a card of its own the card that it is known by.

    Returns
    -------
    weights : Weights
    cube : DataArray
        As given, or resampled to the weights' bands.
    notes : list of str
        What was resampled.

    Raises
    ------
    MissingWeights
        None are given and the method has none of its own.
    BadWeights
        They belong to another model.
    BandMismatch, BadInput, MissingMetadata, ProductNotFound, UnsafeInput
    """
    if not weights and not card.weights:
        raise MissingWeights(
            f"{card.name} needs trained weights: give weights=FILE or a name of `torchspectral weights list`, or train: "
            f"torchspectral train {card.verb} --method {card.name} --data SCENES -o RUN"
        )
    loaded = load(weights or card.weights)
    loaded = recognise(loaded) if recognise is not None else loaded
    model = loaded.card.model
    if model and model != card.name and not model.startswith(f"{card.name}-"):
        raise BadWeights(f"weights {loaded.card.name} are for {model}, expected weights of {card.name}")
    chosen = choose_bands(cube, options.get("bands", "good"), Report())
    wanted = loaded.card
    if any_bands:
        free = {key: value for key, value in wanted.constructor.items() if key != "bands"}
        wanted = wanted.model_copy(update={"constructor": free})
    fitted, notes = check_fit(wanted, cube.isel(band=chosen), resample=bool(options.get("resample", False)))
    return loaded, fitted if notes else cube, notes
