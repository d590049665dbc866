"""Training: splits, patch stores, the loop, run folders. A finished run is a set of weights with a card.

`torchspectral.train` is ``learn.train.train``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Recipe": "recipe",
    "TrainingSettings": "recipe",
    "common_bands": "recipe",
    "find_recipe": "train",
    "PatchStore": "patches",
    "build_store": "patches",
    "open_scenes": "scenes",
    "block_split": "splits",
    "random_split": "splits",
    "folds": "splits",
    "leakage": "splits",
    "Run": "runs",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'torchspectral.learn' has no attribute {name!r}")
    return getattr(import_module(f"torchspectral.learn.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
