"""Spectra: resampling by spectral response, indices by wavelength, continuum removal, natural-colour pictures.

Everything works on cubes ``(band, y, x)``, videos and spectra ``(spectrum, band)``; lazy cubes stay lazy.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "Bands": "bands",
    "Coverage": "matrix",
    "spectral_matrix": "matrix",
    "apply_matrix": "matrix",
    "resample": "resampling",
    "Index": "index_table",
    "list_indices": "indices",
    "spectral_index": "indices",
    "remove_continuum": "continuum",
    "absorption": "continuum",
    "upper_hull": "hull",
    "rgb_bands": "picture",
    "rgb_picture": "picture",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'torchspectral.spectra' has no attribute {name!r}")
    return getattr(import_module(f"torchspectral.spectra.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
