"""Calibration: what an instrument did to the light, found from its own data, and undone."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

# Public name -> module of this package.
_PUBLIC: dict[str, str] = {
    "calibrate_gain": "gain.calibrating",
    "apply_gains": "gain.applying",
    "Gains": "gain.gains",
    "read_gains": "gain.files",
    "write_gains": "gain.files",
    "SelfCal": "gain.self_cal",
    "blind_deconvolution": "gain.deconvolution",
    "calibrate_reflectance": "reflectance",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
