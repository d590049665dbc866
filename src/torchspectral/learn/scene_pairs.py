"""Recipes whose pairs are made of whole scenes, the target and what resolution was taken from: what they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.learn.recipe import Recipe, Scene, TrainingSettings, common_bands
from torchspectral.learn.scenes import common_quantity, cubes_of


class ScenePairs(Recipe):
    """Base of such recipes; their settings have a field ``gain``, 0 where the scenes decide.

    Attributes
    ----------
    wavelength : ndarray, shape (bands,)
        Of the bands that are good in every scene [nm].
    index : ndarray of int, shape (bands,)
        Their positions in the scenes.
    quantity : str
    gain : float
        Values are divided by it.
    """

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        self.wavelength = np.zeros(0)
        self.index = np.zeros(0, dtype=np.int64)
        self.quantity = "dn"
        self.gain = float(self.settings.gain) or 1.0

    def prepare(self, scenes: Sequence[Scene]) -> None:
        """Common bands, quantity and gain of the scenes.

        Raises
        ------
        BandMismatch
            Bands or quantities differ.
        """
        self.wavelength, self.index = common_bands(scenes)
        cubes = cubes_of(scenes)
        self.quantity = common_quantity(cubes)
        if not self.settings.gain:
            self.gain = self.usual_gain(cubes)

    def usual_gain(self, cubes: Sequence[xr.DataArray]) -> float:
        """Gain where the settings leave it to the scenes; bands and quantity are known."""
        raise NotImplementedError

    def card(self) -> dict[str, Any]:
        """Quantity, bands, scale and ratio."""
        known = bool(np.isfinite(self.wavelength).all()) and self.wavelength.size > 0
        return {
            "quantity": self.quantity,
            "wavelengths": [float(w) for w in self.wavelength] if known else "any",
            "scale": {"rule": "fixed", "gain": self.gain, "offset": 0.0},
            "ratio": self.multiple,
        }
