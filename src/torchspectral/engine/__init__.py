"""The engine: the only way from a scene to a method and back; see `engine.run` and `engine.method`."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

# Public name -> module; torch is imported only where a method runs.
_PUBLIC = {
    "run": "running",
    "Review": "running",
    "RunOptions": "running",
    "stream": "streaming",
    "Method": "method",
    "Input": "method",
    "Output": "method",
    "Scope": "method",
    "Scale": "method",
    "BandRule": "method",
    "SceneInfo": "method",
    "Size": "method",
    "Source": "method",
    "State": "method",
    "Tile": "method",
    "Window": "method",
    "Gram": "method",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
