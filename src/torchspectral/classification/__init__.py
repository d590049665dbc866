"""Classification: a class for every pixel."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {"classify": "base", "SpectralAngleMapper": "spectral_angle"}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'torchspectral.classification' has no attribute {name!r}")
    return getattr(import_module(f"torchspectral.classification.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
