"""Statistics of the sensors that an encoder of any bands learnt from, kept among its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

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
    """
    asked = np.asarray(wavelengths, dtype=np.float64)
    numbers = sorted({int(key.split(".")[1]) for key in state if key.startswith(f"{PREFIX}.")})
    for number in numbers:
        waves, mean, std, side = (
            np.asarray(state[f"{PREFIX}.{number}.{name}"]) for name in ("wavelengths", "mean", "std", "resolution")
        )
        if waves.shape == asked.shape and bool((np.abs(waves - asked) <= NEAR).all()):
            return mean.tolist(), std.tolist(), float(side)
    return None
