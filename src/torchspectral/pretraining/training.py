"""The recipes of this room by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchspectral import registry
from torchspectral.learn.recipe import Recipe

ROOM = "pretraining"


def recipe(method: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a pretraining method.

    Parameters
    ----------
    method : str
        As ``torchspectral methods pretraining`` lists it.
    settings : mapping, optional
        Fields of the recipe's settings.

    Raises
    ------
    UnknownName, BadSettings, MissingDependency
    """
    made: Recipe = registry.create(ROOM, method, dict(settings or {}))
    return made
