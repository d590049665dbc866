"""Statistics of the sensors that an encoder of any bands learnt from, kept among its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from torchspectral.errors import BadWeights, BandMismatch

PREFIX = "statistics"
OPTIONAL = rf"{PREFIX}\.\d+\..*"
"""Pattern of their keys, for a card's `optional_keys`: the network itself has none of them."""
NEAR = 1.0
"""Distance up to which bands are taken for the same [nm]."""


class SensorStatistics(nn.ModuleList):
    """Wavelengths [nm], mean and deviation of each band, and pixel size [m] of each sensor, as buffers.

    Parameters
    ----------
    sensors : sequence of (wavelengths, mean, std, resolution)
        The statistics in the unit of the training data.
    """

    def __init__(self, sensors: Sequence[tuple[Sequence[float], Sequence[float], Sequence[float], float]]) -> None:
        super().__init__()
        for wavelengths, mean, std, resolution in sensors:
            one = nn.Module()
            for name, values in (
                ("wavelengths", wavelengths),
                ("mean", mean),
                ("std", std),
                ("resolution", resolution),
            ):
                one.register_buffer(name, torch.tensor(np.asarray(values), dtype=torch.float64))
            self.append(one)


def sensor_statistics(
    state: Mapping[str, Any], wavelengths: Sequence[float]
) -> tuple[list[float], list[float], float] | None:
    """Mean and deviation of each band, and pixel size [m], of the sensor with these bands; None where there is none.

    Parameters
    ----------
    state : mapping
        Of a weights file, see `weights.load`.
    wavelengths : sequence of float
        Of the scene's bands, in order [nm].

    Raises
    ------
    BadWeights
        A sensor's statistics are not complete.
    """
    asked = np.asarray(wavelengths, dtype=np.float64)
    for number in _numbers(state):
        waves, mean, std, side = (_kept(state, number, name) for name in ("wavelengths", "mean", "std", "resolution"))
        if waves.shape == asked.shape and bool((np.abs(waves - asked) <= NEAR).all()):
            return mean.tolist(), std.tolist(), float(side)
    return None


def statistics_for(
    state: Mapping[str, Any], wavelengths: Sequence[float], name: str, otherwise: str
) -> tuple[list[float], list[float], float] | None:
    """As `sensor_statistics`, where weights of several sensors must have learnt from the scene's; None of other weights.

    Parameters
    ----------
    state, wavelengths
        As there.
    name : str
        Of the weights.
    otherwise : str
        What else a user may ask for.

    Raises
    ------
    BadWeights
    BandMismatch
        No sensor has the scene's bands.
    """
    numbers = _numbers(state)
    found = sensor_statistics(state, wavelengths)
    if found is not None or not numbers:
        return found
    known = " or ".join(_told(_kept(state, number, "wavelengths")) for number in numbers)
    raise BandMismatch(
        f"weights {name} have statistics of several sensors, and of none with these bands: got "
        f"{_told(np.asarray(wavelengths, dtype=np.float64))}, expected {known}, each within {NEAR:g} nm: choose these bands, "
        f"resample the scene to them, or ask for {otherwise}"
    )


def _numbers(state: Mapping[str, Any]) -> list[int]:
    found = [key.split(".") for key in state if key.startswith(f"{PREFIX}.")]
    return sorted({int(words[1]) for words in found if words[1].isdigit()})


def _kept(state: Mapping[str, Any], number: int, name: str) -> np.ndarray:
    key = f"{PREFIX}.{number}.{name}"
    if key not in state:
        raise BadWeights(f"the weights keep statistics of sensor {number} without its {name} ({key}): export them anew")
    return np.asarray(state[key])


def _told(waves: np.ndarray) -> str:
    if not np.isfinite(waves).all():
        return f"{waves.size} bands, some without a wavelength"
    return f"{waves.size} bands of {waves.min():.0f}-{waves.max():.0f} nm"
