"""Classification: a class for every pixel."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {
    "classify": "base",
    "SpectralAngleMapper": "spectral_angle",
    "BackboneMethod": "tuned.method",
    "PCALDA": "baselines.pca_lda",
    "SVM": "baselines.svm",
    "RandomForest": "baselines.random_forest",
    "areas": "products",
    "cross_spectral": "protocol",
    "spectral_configurations": "protocol",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
