"""Training: splits, patch stores, the loop, run folders. A finished run is a set of weights with a card.

`torchspectral.train` is ``learn.train.train``.
"""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

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
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
