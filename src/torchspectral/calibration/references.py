"""Dark frames and white panels: means over their lines, in one streaming pass, and what of them can be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadInput
from torchspectral.io.statistics import row_blocks

FULL_SCALES = {
    1: (127.0, 255.0),
    2: tuple(float(2**bits - 1) for bits in (10, 12, 14, 15, 16)),
    4: tuple(float(2**bits - 1) for bits in (10, 12, 14, 15, 16, 31, 32)),
}
"""Largest number of usual converters, and of the types that hold them, by bytes of the stored type."""


@dataclass(frozen=True)
class Frame:
    """A reference, averaged over its lines.

    Attributes
    ----------
    mean, deviation : ndarray, shape (bands, x)
        NaN where no line has a value; standard deviation over lines (0 with one line).
    saturated : ndarray, shape (bands, x)
        Share of the lines at or above the ceiling.
    lines : int
    attrs : dict
        ``integration_time`` [ms] and what else is known of the exposure.
    """

    mean: np.ndarray
    deviation: np.ndarray
    saturated: np.ndarray
    lines: int
    attrs: dict[str, Any] = field(default_factory=dict)


def ceiling_of(cube: xr.DataArray) -> float | None:
    """Stored value at which a camera saturates: what the header says, else the converter's full scale, if it is reached.

    The largest value of the scene counts as full scale where it is that of an 8, 10, 12, 14 or 16 bit converter, or of a signed or wider type; one
    pass over integers, none over floats.
    """
    stated = cube.attrs.get("ceiling")
    if stated is not None and float(stated) > 0:
        return float(stated)
    if cube.dtype.kind not in "iu":
        return None
    high = max(float(np.max(_raw(cube, rows))) for rows in row_blocks(cube))
    return high if high in FULL_SCALES[min(cube.dtype.itemsize, 4)] else None


def frame_of(cube: xr.DataArray, ceiling: float | None = None, *, what: str = "reference") -> Frame:
    """Mean and spread over the lines of a reference.

    Parameters
    ----------
    cube : DataArray, dims (band or layer, y, x)
        Streamed; sums in float64.
    ceiling : float, optional
        Values from here on are saturated; they count in the mean, and are told.
    what : str
        Its name in refusals.

    Raises
    ------
    BadInput
        No values.
    """
    if cube.ndim != 3 or 0 in cube.shape:
        raise BadInput(f"got a {what} of shape {cube.shape}, expected (bands, lines, columns)")
    bands, lines, cols = cube.shape
    count, total, square, full = (np.zeros((bands, cols)) for _ in range(4))
    nodata = cube.attrs.get("nodata")
    start: np.ndarray | None = None
    for rows in row_blocks(cube):
        stored = _raw(cube, rows)
        values = stored.astype(np.float64)
        good = np.isfinite(values)
        if nodata is not None and stored.dtype.kind in "iu":
            good &= stored != nodata
        # Deviations from the first line keep the squares small.
        start = np.where(good[:, 0], values[:, 0], 0.0) if start is None else start
        away = np.where(good, values - start[:, None], 0.0)
        count += good.sum(1)
        total += away.sum(1)
        square += (away**2).sum(1)
        if ceiling is not None:
            full += (good & (values >= ceiling)).sum(1)
    if start is None or not count.any():
        raise BadInput(f"the {what} has no values: all are nodata")
    n = np.maximum(count, 1)
    variance = np.maximum(square / n - (total / n) ** 2, 0)
    mean = np.where(count > 0, start + total / n, np.nan)
    return Frame(mean, np.sqrt(variance), full / n, lines, dict(cube.attrs))


def _raw(cube: xr.DataArray, rows: slice) -> np.ndarray:
    return np.asarray(cube[:, rows].values)
