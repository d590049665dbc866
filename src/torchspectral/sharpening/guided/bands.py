"""Bands of the cube as guided fusion speaks of them: which lie beyond the guides, and what they are called."""

from __future__ import annotations

import math

import numpy as np
import torch

from torchspectral.engine.method import SceneInfo

OUTSIDE = 50.0
"""Width of a guide band whose width is not known [nm]."""


def outside_of(info: SceneInfo, kept: torch.Tensor) -> torch.Tensor:
    """Bands beyond the wavelengths of the kept guides, bool (band,); none where the guides have no wavelengths."""
    centres = np.asarray(info.bands_of.get("guides", ()), dtype=np.float64)
    used = kept.numpy()
    centres = centres[used] if centres.size == used.size else centres[:0]
    centres = centres[np.isfinite(centres)]
    wave = np.asarray(info.wavelength, dtype=np.float64)
    if centres.size == 0:
        return torch.zeros(wave.size, dtype=torch.bool)
    beyond = (wave < centres.min() - OUTSIDE) | (wave > centres.max() + OUTSIDE)
    return torch.from_numpy(beyond & np.isfinite(wave))


def layer_names(info: SceneInfo) -> list[str]:
    """A name for each band: its number and wavelength."""
    return [
        f"band {number + 1}" + (f" ({wave:.1f} nm)" if math.isfinite(wave) else "")
        for number, wave in enumerate(np.asarray(info.wavelength, dtype=np.float64))
    ]
