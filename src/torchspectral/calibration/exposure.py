"""Integration times of a capture and its references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.calibration.references import Frame
from torchspectral.errors import BadSettings, MissingMetadata


@dataclass(frozen=True)
class Exposure:
    """Integration times of scene and panel [ms]; None where unknown."""

    scene: float | None
    white: float | None

    @property
    def ratio(self) -> float:
        """White over scene; 1 where either is unknown."""
        return self.white / self.scene if self.scene and self.white else 1.0


def exposure_of(
    raw: xr.DataArray, white: Frame, given: float | None, given_white: float | None, notes: list[str]
) -> Exposure:
    """Integration times, given or of the headers.

    Raises
    ------
    BadSettings
        Not positive.
    MissingMetadata
        One was given and the other is unknown.
    """
    for name, value in (("integration_time", given), ("white_integration_time", given_white)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise BadSettings(f"got {name}={value}, expected milliseconds above 0")
    scene = given if given is not None else _stated_time(raw.attrs)
    other = given_white if given_white is not None else _stated_time(white.attrs)
    if (given is None) != (given_white is None) and (scene is None or other is None):
        lacking = "scene" if scene is None else "white panel"
        raise MissingMetadata(f"the integration time of the {lacking} is not known: give it too")
    if scene is None or other is None:
        notes.append("integration times are not known: taken as equal for scene and panel")
        return Exposure(None, None)
    return Exposure(float(scene), float(other))


def _stated_time(attrs: Mapping[str, Any]) -> float | None:
    """Milliseconds that a header tells; None where it says nothing, or nothing that can be."""
    try:
        found = float(attrs.get("integration_time") or 0)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) and found > 0 else None


def check_dark_exposure(dark: Any, times: Exposure, notes: list[str]) -> None:
    """Note a dark that was taken at another integration time than the scene."""
    at = _stated_time(dark.attrs) if isinstance(dark, xr.DataArray) else None
    if at is not None and times.scene is not None and abs(at / times.scene - 1) > 0.01:
        notes.append(f"the dark was taken with {at:g} ms, the scene with {times.scene:g} ms: their dark signals differ")
