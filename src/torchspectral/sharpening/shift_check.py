"""A cheap look at whether cube and PAN show the same ground in the same place: some blocks, one shift."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from torchspectral import sensors
from torchspectral.cube import good_bands
from torchspectral.engine.method import Window
from torchspectral.log import get_logger
from torchspectral.ops.mtf import HS_GAIN, kernel_size
from torchspectral.result import Report
from torchspectral.sharpening.guided.operators import SPLINE_REACH
from torchspectral.sharpening.guided.registration import Found, cut_pieces, find_shift
from torchspectral.sharpening.pairs import as_floats

WARN = 0.3
"""Shift that is told [coarse pixels]."""
LIMIT = 2.0
BLOCKS = 2
"""Blocks along each side of a large scene."""
SIDE = 64
BANDS = 24
"""Bands that are read at most."""
_log = get_logger("sharpening")


def tell_shift(cube: xr.DataArray, fine: xr.DataArray, report: Report) -> None:
    """Measure the shift, write it into the report, and warn above `WARN` coarse pixels.

    Parameters
    ----------
    cube : DataArray, shape (band, y, x)
    fine : DataArray, shape (1, R y, R x)
    report : Report
        Gets ``figures["pan_shift"]`` (rows, cols [coarse pixels]) where the estimate can be trusted.
    """
    if fine.sizes["y"] % cube.sizes["y"] or fine.sizes["x"] % cube.sizes["x"] or fine.sizes["x"] <= cube.sizes["x"]:
        return  # resampled by the engine: it lies where its coordinates say
    found, ratio = estimate(cube, fine)
    if not found.trusted or found.deviation > 0.1 * ratio or found.after > 0.6:
        report.notes.append("shift between PAN and cube: not measured, the two have too little in common")
        return
    rows, cols = found.rows / ratio, found.cols / ratio
    report.figures["pan_shift"] = [round(rows, 3), round(cols, 3)]
    size = float(np.hypot(rows, cols))
    if size > WARN:
        line = (
            f"the PAN lies {rows:+.2f} rows and {cols:+.2f} columns (of the cube's pixels) off the cube, more than "
            f"{WARN}: detail will stand beside its place; torchspectral coregister puts it right"
        )
        report.notes.append(line)
        _log.warning("sharpen: %s", line)


def estimate(cube: xr.DataArray, fine: xr.DataArray) -> tuple[Found, int]:
    """Shift of a one-band image against the mean of the bands in its range, and the ratio of the grids.

    Reads at most `BLOCKS` x `BLOCKS` blocks of `SIDE` pixels and `BANDS` bands.
    """
    ratio = fine.sizes["x"] // cube.sizes["x"]
    chosen = _bands_of_pan(cube)
    coarse, finer = as_floats(cube), as_floats(fine)
    reach = -(-(kernel_size(ratio) // 2 + SPLINE_REACH + 1) // ratio) + 3
    rows, cols = cube.sizes["y"], cube.sizes["x"]
    pieces = []
    for top in _starts(rows):
        for left in _starts(cols):
            height, width = min(SIDE, rows - top), min(SIDE, cols - left)
            a, b = max(top - reach, 0), max(left - reach, 0)
            c, d = min(top + height + reach, rows), min(left + width + reach, cols)
            window = Window(a, b, c - a, d - b)
            band = np.asarray(coarse.isel(band=chosen, y=slice(a, c), x=slice(b, d)).values, dtype=np.float64)
            image = np.asarray(
                finer.isel(y=slice(a * ratio, c * ratio), x=slice(b * ratio, d * ratio)).values, dtype=np.float64
            )
            wanted, seen = band.mean(0), np.isfinite(image[0])
            if not np.isfinite(wanted).any() or not seen.any():
                continue
            blocks = seen.reshape(c - a, ratio, d - b, ratio).all((1, 3))
            weight = torch.from_numpy((np.isfinite(wanted) & _eroded(blocks)).astype(np.float64))
            filled = np.where(seen, image[0], image[0][seen].mean())
            known = np.where(np.isfinite(wanted), wanted, np.nanmean(wanted))
            pieces += cut_pieces(
                Window(top, left, height, width),
                window,
                (rows, cols),
                torch.from_numpy(known)[None],
                weight,
                torch.from_numpy(filled)[None],
                reach,
                every=True,
            )
    return find_shift(pieces, ratio, HS_GAIN, limit=LIMIT), ratio


def _starts(size: int) -> list[int]:
    if size <= BLOCKS * SIDE:
        return list(range(0, size, SIDE))
    places = (np.arange(BLOCKS) + 0.5) / BLOCKS * size - SIDE / 2
    return [int(p) for p in places]


def _eroded(seen: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return np.asarray(binary_erosion(seen, np.ones((5, 5)), border_value=1))


def _bands_of_pan(cube: xr.DataArray) -> np.ndarray:
    good = good_bands(cube)
    wave = np.asarray(cube["wavelength"].values, dtype=np.float64)
    sensor = sensors.match(cube)
    low, high = sensor.pan.range if sensor is not None and sensor.pan is not None else (450.0, 900.0)
    inside = good[(wave[good] >= low) & (wave[good] <= high)] if np.isfinite(wave).any() else good
    inside = inside if inside.size else good
    return inside[:: max(1, -(-inside.size // BANDS))]
