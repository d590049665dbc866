"""Embedding: a vector for each cell of a scene, by a backbone."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {"embed": "base", "BackboneEmbedding": "method", "EmbeddingSettings": "method"}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
