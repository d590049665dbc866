"""Statistics of the spectra of a region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube, make_spectra
from torchspectral.errors import BadCube, BadInput, BadSettings, GridMismatch
from torchspectral.spectra.lazy import to_float

STATS = ("mean", "std", "min", "max")
_BLOCK_BYTES = 64 * 2**20


def region_spectrum(cube: xr.DataArray, mask: Any = None, stats: Sequence[str] = ("mean", "std")) -> xr.DataArray:
    """Statistics of each band over all pixels or over those under a mask; reads the cube in strips of rows.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
    mask : array_like of bool, shape (y, x), optional
        True where pixels count.
    stats : sequence of {"mean", "std", "min", "max"}

    Returns
    -------
    DataArray, dims (spectrum, band)
        float64, one spectrum a statistic; NaN for bands without a finite value. Sums run in float64 about the first
        value seen, so that large offsets cost no digits.

    Raises
    ------
    BadCube
        A video.
    BadSettings
        Unknown statistic.
    GridMismatch
        The mask has another size.
    BadInput
        No pixel counts.
    """
    cube = check_cube(cube)
    if "time" in cube.dims:
        raise BadCube("got a video, expected a cube (band, y, x): take one frame with .isel(time=n)")
    unknown = [s for s in stats if s not in STATS]
    if unknown or not stats:
        raise BadSettings(
            f"got statistics {', '.join(map(str, unknown)) or 'none'}, expected some of {', '.join(STATS)}"
        )
    bands, rows, cols = cube.shape
    use = np.ones((rows, cols), dtype=bool) if mask is None else np.asarray(mask).astype(bool)
    if use.shape != (rows, cols):
        raise GridMismatch(f"the mask has shape {use.shape}, expected {(rows, cols)} as the cube")
    count, total, square = np.zeros(bands), np.zeros(bands), np.zeros(bands)
    low, high, origin = np.full(bands, np.inf), np.full(bands, -np.inf), np.full(bands, np.nan)
    strip = max(1, _BLOCK_BYTES // max(1, bands * cols * 8))
    for top in range(0, rows, strip):
        here = use[top : top + strip]
        if not here.any():
            continue
        block = to_float(cube.isel(y=slice(top, top + strip)).values, cube.attrs.get("nodata"))[:, here]
        values = block.astype(np.float64)
        finite = np.isfinite(values)
        first = values[np.arange(bands), finite.argmax(axis=1)]
        origin = np.where(np.isnan(origin) & finite.any(axis=1), first, origin)
        shifted = np.where(finite, values - np.nan_to_num(origin)[:, None], 0.0)
        count += finite.sum(axis=1)
        total += shifted.sum(axis=1)
        square += (shifted**2).sum(axis=1)
        low = np.minimum(low, np.where(finite, values, np.inf).min(axis=1))
        high = np.maximum(high, np.where(finite, values, -np.inf).max(axis=1))
    if not count.any():
        raise BadInput("no valid pixel counts: the mask is empty or every pixel under it is nodata")
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = total / count
        found = {
            "mean": origin + shift,
            "std": np.sqrt(np.clip(square / count - shift**2, 0, None)),
            "min": np.where(count > 0, low, np.nan),
            "max": np.where(count > 0, high, np.nan),
        }
    out = make_spectra(
        np.stack([found[s] for s in stats]),
        list(stats),
        wavelength=cube["wavelength"].values,
        fwhm=cube["fwhm"].values,
        attrs={k: cube.attrs[k] for k in ("quantity", "units", "sensor", "acquired", "source") if k in cube.attrs},
    )
    out = out.assign_coords(good=("band", cube["good"].values), pixels=("band", count.astype(np.int64)))
    return out
