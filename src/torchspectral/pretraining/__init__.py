"""Pretraining: encoders learn from patches without labels. `torchspectral.train("pretrain", METHOD, DATA, out=RUN)`."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {
    "PretrainingRecipe": "base",
    "PretrainingTraining": "settings",
    "DINORecipe": "spectralearth.dino",
    "MAERecipe": "spectralearth.mae",
    "MoCoRecipe": "spectralearth.moco",
    "HyperMAERecipe": "hyper_mae.recipe",
    "HyperMAEv1Recipe": "hyper_mae.recipe",
    "INTLMRecipe": "intl",
    "INTLRecipe": "intl",
    "SoftConRecipe": "softcon.recipe",
    "SpectralGPTRecipe": "spectralgpt",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
