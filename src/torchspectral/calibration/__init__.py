"""Calibration: what an instrument did to the light, found from its own data, and undone."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

# Public name -> module of this package.
_PUBLIC: dict[str, str] = {}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
