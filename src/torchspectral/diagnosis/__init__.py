"""Diagnosis: what a representation has learnt, in numbers, curves, pictures and words."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {"diagnose": "base", "DiagnosisSettings": "base"}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
