"""Restoration: denoising and repair."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {"restore": "base", "compare": "base", "Mnf": "mnf"}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'torchspectral.restoration' has no attribute {name!r}")
    return getattr(import_module(f"torchspectral.restoration.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
