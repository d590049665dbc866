"""A cheap look at whether cube and finer image show the same ground in the same place: some blocks, one shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr

from torchspectral import sensors
from torchspectral.cube import good_bands
from torchspectral.engine.method import Window
from torchspectral.log import get_logger
from torchspectral.ops.mtf import HS_GAIN, kernel_size
from torchspectral.result import Report
from torchspectral.sharpening.guided.operators import SPLINE_REACH, centre_offset
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
    chosen = _bands_of_pan(cube)
    found, ratio = estimate(cube, fine, np.full((1, chosen.size), 1 / chosen.size), chosen)
    _tell(found, ratio, report, "pan_shift", "the PAN lies", "torchspectral coregister puts it right")


def tell_guide_shift(
    inputs: Mapping[str, xr.DataArray], report: Report, *, compared: Sequence[int] = (), centres: str = "benchmark"
) -> None:
    """The same for guides that are not registered.

    Parameters
    ----------
    inputs : mapping
        Roles of guided fusion: ``cube``, ``guides``, ``guide_valid``, and ``responses`` where they are known.
    report : Report
        Gets ``figures["guide_shift"]`` (rows, cols [coarse pixels]) where the estimate can be trusted.
    compared : sequence of int
        Guides that are looked at, numbers from 0; empty: all.
    centres : {"benchmark", "footprint"}
        Where a coarse pixel stands at even ratios, see `guided.regress`.
    """
    cube, guides = inputs["cube"], inputs["guides"]
    which = np.array([k for k in compared if k < guides.sizes["band"]] or range(guides.sizes["band"]))
    if "responses" in inputs:
        weights = np.asarray(inputs["responses"].values, dtype=np.float64)[which]
        weights[:, ~np.isin(np.arange(cube.sizes["band"]), good_bands(cube))] = 0
        seen = weights.any(1)
        which, chosen = which[seen], np.flatnonzero(weights.any(0))
        mixes = weights[np.ix_(seen, chosen)]
    else:
        chosen = _bands_of_pan(cube)
        mixes = np.full((which.size, chosen.size), 1 / chosen.size)
    ratio, found = guides.sizes["x"] // cube.sizes["x"], Found()
    if which.size:
        found, ratio = estimate(
            cube,
            guides.isel(band=which),
            mixes,
            chosen,
            centre_offset(ratio, centres),
            inputs["guide_valid"].isel(band=which),
        )
    _tell(found, ratio, report, "guide_shift", "the guides lie", "register_shift=true undoes it")


def _tell(found: Found, ratio: int, report: Report, figure: str, who: str, remedy: str) -> None:
    if not found.trusted or found.deviation > 0.1 * ratio or found.after > 0.6:
        other = "PAN" if figure == "pan_shift" else "guides"
        report.notes.append(f"shift between {other} and cube: not measured, the two have too little in common")
        return
    rows, cols = found.rows / ratio, found.cols / ratio
    report.figures[figure] = [round(rows, 3), round(cols, 3)]
    if float(np.hypot(rows, cols)) > WARN:
        line = (
            f"{who} {rows:+.2f} rows and {cols:+.2f} columns (of the cube's pixels) off the cube, more than {WARN}: "
            f"detail will stand beside its place; {remedy}"
        )
        report.notes.append(line)
        _log.warning("sharpen: %s", line)


def estimate(
    cube: xr.DataArray,
    fine: xr.DataArray,
    mixes: np.ndarray,
    chosen: np.ndarray,
    offset: float = 0.0,
    valid: xr.DataArray | None = None,
) -> tuple[Found, int]:
    """Shift of fine images against mixtures of the cube's bands, and the ratio of the grids.

    Reads at most `BLOCKS` x `BLOCKS` blocks of `SIDE` pixels of the bands in question.

    Parameters
    ----------
    cube : DataArray, shape (band, y, x)
    fine : DataArray, shape (K, R y, R x)
    mixes : ndarray, shape (K, n)
        Weight of each chosen band in what each fine image is compared with.
    chosen : ndarray of int, shape (n,)
        Bands of the cube.
    offset : float
        See `guided.operators.centre_offset`.
    valid : DataArray, shape (K, R y, R x), optional
        0 where a fine image is masked.
    """
    ratio = fine.sizes["x"] // cube.sizes["x"]
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
            here = {"y": slice(a * ratio, c * ratio), "x": slice(b * ratio, d * ratio)}
            image = np.asarray(finer.isel(here).values, dtype=np.float64)
            if valid is not None:
                image[valid.isel(here).values == 0] = np.nan
            wanted, seen = np.einsum("kb,byx->kyx", mixes, band), np.asarray(np.isfinite(image).all(0))
            there = np.asarray(np.isfinite(wanted).all(0))
            if not there.any() or not seen.any():
                continue
            blocks = np.asarray(seen.reshape(c - a, ratio, d - b, ratio).all((1, 3)))
            weight = torch.from_numpy((there & _eroded(blocks)).astype(np.float64))
            filled = np.where(seen, image, image[:, seen].mean(1)[:, None, None])
            known = np.where(there, wanted, wanted[:, there].mean(1)[:, None, None])
            pieces += cut_pieces(
                Window(top, left, height, width),
                window,
                (rows, cols),
                torch.from_numpy(known),
                weight,
                torch.from_numpy(filled),
                reach,
                every=True,
            )
    return find_shift(pieces, ratio, HS_GAIN, offset=offset, limit=LIMIT), ratio


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
