"""Synthetic scenes with known truth, and degradations of real ones: pure recipes, the same for the same arguments."""

from __future__ import annotations

from torchspectral.synth.mixtures import Mixture, MixtureSettings, mixture
from torchspectral.synth.recipes import RECIPES, Degraded, Recipe, degrade_array, make_recipe
from torchspectral.synth.scenes import SyntheticScene, low_rank_cube, material_spectra, mixed_scene, smooth_maps

__all__ = [
    "RECIPES",
    "Degraded",
    "Mixture",
    "MixtureSettings",
    "Recipe",
    "SyntheticScene",
    "degrade_array",
    "low_rank_cube",
    "make_recipe",
    "material_spectra",
    "mixed_scene",
    "mixture",
    "smooth_maps",
]
