"""Spectra: resampling by spectral response, indices by wavelength, continuum removal, natural-colour pictures.

Everything works on cubes ``(band, y, x)``, videos and spectra ``(spectrum, band)``; lazy cubes stay lazy.
"""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

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
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
