"""Sharpening: a hyperspectral image brought to the resolution of a panchromatic one.

See `base.sharpen` for the task, `protocol` for how the field evaluates it, `whole.fuse` for tensors.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {"sharpen": "base", "simulate_wald": "protocol", "wald_pairs": "protocol", "fuse": "whole"}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
