"""Weights of the unmixing networks: files in the authors' layout, or what this library saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from torchspectral import registry
from torchspectral.engine.trained import trained
from torchspectral.errors import BadSettings
from torchspectral.unmixing.networks.base import SceneNetwork
from torchspectral.weights import Weights


def weights_for(
    method: str, weights: str | Path, cube: xr.DataArray, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Weights, xr.DataArray, dict[str, Any], list[str]]:
    """Load weights for a scene.

    Parameters
    ----------
    method : str
        A network of the room.
    weights : str or path
        See `weights.find`.
    cube : DataArray, dims (band, y, x)
    settings : mapping
        What the user set; sizes that the weights tell are added.
    options : mapping
        Fields of `RunOptions`: ``bands`` and ``resample`` count here.

    Returns
    -------
    weights : Weights
    cube : DataArray
        As given, or resampled to the weights' bands.
    settings : dict
    notes : list of str
        What was resampled.

    Raises
    ------
    BadSettings
        The method has no network.
    MissingWeights, BadWeights, BandMismatch, BadInput, MissingMetadata, ProductNotFound, UnsafeInput
    """
    card = registry.card("unmixing", method)
    target = registry.load_target(card.target)
    if not (isinstance(target, type) and issubclass(target, SceneNetwork)):
        networks = [c.name for c in registry.methods("unmixing") if ".networks." in c.target]
        raise BadSettings(f"got weights for {method}, which has none: expected one of {', '.join(networks)}")
    loaded, fitted, notes = trained(card, weights, cube, options)
    return loaded, fitted, {**target.settings_of(loaded.state), **settings}, notes
