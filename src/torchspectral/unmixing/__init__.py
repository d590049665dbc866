"""Unmixing: endmembers and abundances."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

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
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
