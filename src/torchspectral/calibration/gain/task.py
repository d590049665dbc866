"""Lines that are to be calibrated, and what every tool asks of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.calibration.gain.gains import Gains
from torchspectral.errors import BadInput
from torchspectral.io.statistics import values_of
from torchspectral.log import Progress, no_progress

BLOCK = 2_000_000


@dataclass
class Task:
    """Lines and what is known of them.

    Attributes
    ----------
    cubes : sequence of DataArray
    bands : ndarray of int
        Bands that get gains; the others stay NaN.
    settings : Settings
    dark : ndarray, shape (bands, x) or (bands, 1), optional
        Of `bands`; taken off first.
    ceiling : float, optional
    shifts : sequence of pairs, optional
    library : ndarray, shape (spectra, bands), optional
        On `bands`.
    """

    cubes: Sequence[xr.DataArray]
    bands: np.ndarray
    settings: Any
    dark: np.ndarray | None = None
    ceiling: float | None = None
    shifts: Sequence[tuple[int, int]] | None = None
    library: np.ndarray | None = None
    device: str = "cpu"
    progress: Progress = no_progress
    notes: list[str] = field(default_factory=list)

    @property
    def wavelength(self) -> np.ndarray:
        """Of `bands` [nm]."""
        found: np.ndarray = self.cubes[0]["wavelength"].values[self.bands]
        return found

    def values(self, cube: xr.DataArray, rows: slice) -> np.ndarray:
        """Usable values of some lines, less the dark, (bands, lines, x)."""
        block = values_of(cube[self.bands, rows], self.ceiling)
        return block if self.dark is None else block - self.dark[:, None, :]

    def gains(self, gain: np.ndarray, offset: np.ndarray | None, error: np.ndarray, record: dict[str, Any]) -> Gains:
        """Gains of all bands, the dark folded into the offset."""
        total = self.cubes[0].sizes["band"]
        shift = np.zeros_like(gain) if offset is None else offset
        if self.dark is not None:
            shift = shift - gain * self.dark
        whole = [np.full((total, shift.shape[1] if n == 1 else gain.shape[1]), np.nan) for n in range(3)]
        if shift.shape != gain.shape:
            gain, error = (np.broadcast_to(a, shift.shape) for a in (gain, error))
            whole = [np.full((total, shift.shape[1]), np.nan) for _ in range(3)]
        for array, part in zip(whole, (gain, np.where(np.isnan(gain), np.nan, shift), error), strict=True):
            array[self.bands] = part
        return Gains.make(
            whole[0], offset=whole[1], error=whole[2], wavelength=self.cubes[0]["wavelength"].values,
            number=self.cubes[0]["number"].values, record=record,
        )  # fmt: skip


def width_of(task: Task) -> int:
    """Columns of the lines.

    Raises
    ------
    BadInput
        They have different ones.
    """
    widths = {cube.sizes["x"] for cube in task.cubes}
    if len(widths) > 1:
        raise BadInput(f"the lines have {sorted(widths)} columns, expected the same detectors in all of them")
    return int(widths.pop())


def number_of(task: Task, band: int) -> int:
    """The product's number of a band of the task."""
    return int(task.cubes[0]["number"].values[task.bands[band]])


def plain(value: float) -> float | None:
    """Six digits for a record; None where it is not finite."""
    return float(f"{float(value):.6g}") if math.isfinite(value) else None
