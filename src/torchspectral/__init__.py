"""torchspectral: open any hyperspectral product, run the field's published methods, get georeferenced results.

>>> import torchspectral as ts
>>> cube = ts.open("scene.tif")            # doctest: +SKIP
>>> result = ts.unmix(cube, k=5)           # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from torchspectral import accessor as _accessor  # noqa: F401  registers `.hsi`
from torchspectral.lazy import lookup

__version__ = "0.1.0"

# Public name -> module:attribute; nothing heavy is imported before it is asked for.
_PUBLIC = {
    "open": "torchspectral.io:open_product",
    "layers": "torchspectral.io:list_layers",
    "describe": "torchspectral.io:describe",
    "save": "torchspectral.io:save",
    "convert": "torchspectral.engine.convert:convert",
    "make_cube": "torchspectral.cube:make_cube",
    "make_layers": "torchspectral.cube:make_layers",
    "make_spectra": "torchspectral.cube:make_spectra",
    "run": "torchspectral.engine:run",
    "RunOptions": "torchspectral.engine:RunOptions",
    "methods": "torchspectral.registry:methods",
    "create_method": "torchspectral.registry:create",
    "create_model": "torchspectral.weights:create_model",
    "sharpen": "torchspectral.sharpening.base:sharpen",
    "simulate_wald": "torchspectral.sharpening.protocol:simulate_wald",
    "degrade": "torchspectral.restoration.degradation:degrade",
    "simulate_guides": "torchspectral.sharpening.guided.simulation:simulate_guides",
    "score": "torchspectral.metrics.score:score",
    "unmix": "torchspectral.unmixing.base:unmix",
    "endmembers": "torchspectral.unmixing.base:endmembers",
    "simulate_mixture": "torchspectral.unmixing.protocol:simulate_mixture",
    "unmixing_set": "torchspectral.unmixing.protocol:unmixing_set",
    "calibrate_gain": "torchspectral.calibration.gain.calibrating:calibrate_gain",
    "apply_gains": "torchspectral.calibration.gain.applying:apply_gains",
    "calibrate_reflectance": "torchspectral.calibration.reflectance:calibrate_reflectance",
    "reconstruct": "torchspectral.calibration.interferometer.reconstruction:reconstruct",
    "restore": "torchspectral.restoration.base:restore",
    "noise": "torchspectral.restoration.noise:noise",
    "superres": "torchspectral.superresolution.base:superres",
    "classify": "torchspectral.classification.base:classify",
    "embed": "torchspectral.embedding.base:embed",
    "train": "torchspectral.learn.train:train",
    "diagnose": "torchspectral.diagnosis.base:diagnose",
    "coregister": "torchspectral.geo:coregister",
    "resample": "torchspectral.spectra:resample",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
