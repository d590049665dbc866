"""Encoders that several rooms use: plain modules by name, ``torchspectral.create_model("spec-vit-s")``.

The rows of `models.yaml` are the names; `base` is the contract.
"""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {
    "Backbone": "base",
    "Bands": "base",
    "KeyMap": "base",
    "Match": "base",
    "SoftConResNet50": "softcon.resnet",
    "SoftConViT": "softcon.vit",
    "SpecMAE": "spectralearth.mae",
    "SpecResNet50": "spectralearth.resnet",
    "SpecViT": "spectralearth.vit",
    "SpectralAdapter": "spectralearth.adapter",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
