"""Synthetic scenes with known truth: pure recipes, the same arrays for the same arguments."""

from __future__ import annotations

from torchspectral.synth.scenes import SyntheticScene, material_spectra, mixed_scene, smooth_maps

__all__ = ["SyntheticScene", "material_spectra", "mixed_scene", "smooth_maps"]
