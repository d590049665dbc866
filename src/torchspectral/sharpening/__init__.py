"""Sharpening: a hyperspectral image brought to the resolution of a panchromatic one.

See `base.sharpen` for the task, `protocol` for how the field evaluates it, `whole.fuse` for tensors.
"""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {"sharpen": "base", "simulate_wald": "protocol", "wald_pairs": "training_pairs", "fuse": "whole"}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
