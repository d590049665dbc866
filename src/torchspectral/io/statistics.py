"""Statistics of every band of a scene of any size, in one streaming pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.log import Progress, Step, no_progress

BLOCK_VALUES = 16_000_000  # about 64 MB of float32


def row_blocks(cube: xr.DataArray, values: int = BLOCK_VALUES) -> Iterator[slice]:
    """Row slices of full width that hold at most `values` values each, aligned to the storage's own blocks."""
    rows = cube.sizes["y"]
    step = max(1, values // max(1, cube.sizes["x"] * cube.sizes.get("band", cube.sizes.get("layer", 1))))
    tall = (cube.encoding.get("preferred_chunks") or {}).get("y", 1)
    if 1 < tall <= step:
        step -= step % tall
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def values_of(cube: xr.DataArray, ceiling: float | None = None) -> np.ndarray:
    """Values in float64, NaN for nodata, for what is not finite and for what is at or above `ceiling`."""
    stored = np.asarray(cube.values)
    out = stored.astype(np.float64)
    nodata = cube.attrs.get("nodata")
    if nodata is not None and stored.dtype.kind in "iu":
        out[stored == nodata] = np.nan
    if ceiling is not None:
        out[out >= ceiling] = np.nan
    if stored.dtype.kind == "f":
        out[~np.isfinite(out)] = np.nan
    return out


def band_statistics(cube: xr.DataArray, *, progress: Progress = no_progress) -> list[dict[str, Any]]:
    """Minimum, mean, standard deviation, maximum and share of nodata of each band.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        May be lazy; read once, about 64 MB at a time. Sums are float64.

    Returns
    -------
    list of dict
        One a band: number, wavelength [nm], good, min, mean, std, max (quantity's unit; NaN where all is nodata),
        nodata (0..1).
    """
    bands = cube.sizes["band"]
    count = np.zeros(bands, np.int64)
    mean, spread = np.zeros(bands), np.zeros(bands)
    low, high = np.full(bands, np.inf), np.full(bands, -np.inf)
    nodata = cube.attrs.get("nodata")
    for rows in row_blocks(cube):
        block = cube.isel(y=rows).values.reshape(bands, -1)
        valid = (
            np.isfinite(block)
            if block.dtype.kind == "f"
            else (block != nodata if nodata is not None else np.ones(block.shape, bool))
        )
        n = valid.sum(axis=1)
        some = n > 0
        if some.any():
            total = np.sum(block, axis=1, dtype=np.float64, where=valid)
            centre = total / np.maximum(n, 1)
            around = np.zeros(bands)
            for band in np.flatnonzero(some):
                values = block[band][valid[band]]
                low[band], high[band] = min(low[band], values.min()), max(high[band], values.max())
                around[band] = np.square(values - centre[band]).sum()
            # Chan's update of mean and squared deviations, stable for values far from zero.
            both = np.maximum(count + n, 1)
            step = np.where(some, centre - mean, 0.0)
            spread += around + step**2 * count * n / both
            mean += step * n / both
            count += n
        progress(Step("statistics", rows.stop / cube.sizes["y"]))
    pixels = cube.sizes["y"] * cube.sizes["x"]
    seen = count > 0
    std = np.where(seen, np.sqrt(spread / np.maximum(count, 1)), np.nan)
    return [
        {
            "band": int(cube["number"].values[b]) if "number" in cube.coords else b + 1,
            "wavelength": float(cube["wavelength"].values[b]) if "wavelength" in cube.coords else float("nan"),
            "good": bool(cube["good"].values[b]) if "good" in cube.coords else True,
            "min": float(low[b]) if seen[b] else float("nan"),
            "mean": float(mean[b]) if seen[b] else float("nan"),
            "std": float(std[b]),
            "max": float(high[b]) if seen[b] else float("nan"),
            "nodata": 1.0 - count[b] / pixels,
        }
        for b in range(bands)
    ]
