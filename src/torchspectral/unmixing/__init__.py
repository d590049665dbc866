"""Unmixing: endmembers and abundances."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "unmix": "base",
    "endmembers": "base",
    "Vca": "vca_fcls",
    "VcaFcls": "vca_fcls",
    "Fcls": "vca_fcls",
    "score": "scoring",
    "UnmixingScore": "scoring",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'torchspectral.unmixing' has no attribute {name!r}")
    return getattr(import_module(f"torchspectral.unmixing.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
