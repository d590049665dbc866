"""Multi-aperture Fabry-Perot spectrometers: characterise the instrument, simulate it, turn its interferograms to spectra."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

# Public name -> module of this package.
_PUBLIC = {
    "phase": "formation",
    "transfer": "formation",
    "fabry_perot": "formation",
    "michelson": "formation",
    "Acquisition": "acquisition",
    "read_acquisition": "acquisition",
    "Characterization": "characterization",
    "FLAGS": "characterization",
    "FAILED": "characterization",
    "characterise": "characterising",
    "characterise_folder": "characterising",
    "calibrate_folder": "calibrating",
    "overview_figure": "figures",
    "fits_figure": "figures",
    "load_device": "device_files",
    "save_device": "device_files",
    "Recipe": "recipes",
    "read_recipe": "recipes",
    "read_options_list": "recipes",
    "published_recipe": "recipes",
    "published_devices": "recipes",
    "default_recipe": "recipes",
    "options_list": "recipes",
    "Geometry": "geometry",
    "read_geometry": "geometry",
    "forward_matrix": "forward",
    "simulate": "forward",
    "simulate_scene": "simulating",
    "subimages": "forward",
    "default_wavelengths": "forward",
    "reconstruct": "reconstruction",
    "invert": "inversion",
    "inversion_settings": "settings",
    "choose_strength": "strength",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
