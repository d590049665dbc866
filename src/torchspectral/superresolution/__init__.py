"""Super-resolution of a single hyperspectral image."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {
    "superres": "base",
    "Interpolation": "interpolation",
    "ESSAformer": "essaformer.method",
    "SpectralMixup": "spectral_mixup.method",
    "quality": "protocol",
    "consistency": "protocol",
    "degrade": "protocol",
    "chikusei_parts": "protocol",
    "ESSAformerNetwork": "essaformer.network",
    "DeepShare": "spectral_mixup.network",
    "mix_spectra": "spectral_mixup.mixing",
    "mixing_matrix": "spectral_mixup.mixing",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
