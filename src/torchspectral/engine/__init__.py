"""The engine: the only way from a scene to a method and back; see `engine.run` and `engine.method`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Public name -> module; torch is imported only where a method runs.
_PUBLIC = {
    "run": "running",
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
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'torchspectral.engine' has no attribute {name!r}")
    return getattr(import_module(f"torchspectral.engine.{module}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
