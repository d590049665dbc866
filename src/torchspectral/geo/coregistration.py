"""Co-registration: find how far a scene lies off a reference, and put it right."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import xarray as xr
from pyproj import Geod

from torchspectral import sensors
from torchspectral.cube import good_bands, is_packed, with_history
from torchspectral.errors import BadCube, BadInput, BadSettings, BandMismatch, GridMismatch
from torchspectral.geo.grids import Grid, grid_of, moved, place, to_ground
from torchspectral.geo.phase import Shift, refined_shift
from torchspectral.geo.warping import RADIUS, align, reproject
from torchspectral.log import get_logger
from torchspectral.result import Report, Result

_log = get_logger("geo")
_MIN_SIDE = 16


def coregister(
    moving: xr.DataArray,
    reference: xr.DataArray,
    *,
    bands: Sequence[int] | None = None,
    reference_bands: Sequence[int] | None = None,
    upsample: int = 20,
    max_shift: float | None = None,
    cutoff: float = 0.35,
    max_pixels: int = 2048,
    resample: bool | str = False,
) -> Result:
    """Measure the shift of `moving` against `reference` by phase correlation and correct it.

    Both are reduced to one image (bands of like wavelength), the reference is brought onto the pixels of `moving`
    (averaged where it is finer), and the shift that is common to the ground they share is found to a fraction of a
    pixel. By default no value changes: only the georeferencing moves.

    Parameters
    ----------
    moving : DataArray, shape (band, y, x)
        Scene to correct, on a map or rotated grid.
    reference : DataArray, shape (band or layer, y, x)
        Scene that lies right; any CRS and pixel size.
    bands, reference_bands : sequence of int, optional
        0-based bands whose mean is compared. By default the pair of good bands of nearest wavelength around 800 nm,
        where the reference states the width of its band the bands of `moving` weighted by that response; for a
        reference without wavelengths (a PAN) the bands that the sensor's PAN sees, else those of 450-750 nm.
    upsample : int
        Steps a pixel of the sub-pixel search.
    max_shift : float, optional
        Largest shift searched for [pixels of `moving`]; by default a quarter of the shared window's smaller side.
    cutoff : float
        Highest spatial frequency used [cycles/pixel], 0 < cutoff <= 0.5.
    max_pixels : int
        Largest side of the window compared (its middle is taken of larger scenes).
    resample : bool or str
        True or a resampling name: values are also resampled back onto the grid that `moving` had ("bilinear" for
        True).

    Returns
    -------
    Result
        ``cube``: the corrected scene. ``report.figures``: ``shift_rows, shift_cols`` [pixels; content of the
        reference found at (row + shift_rows, col + shift_cols) of `moving`], ``correction_x, correction_y`` [CRS
        units, added to all coordinates], ``correction_metres`` and its parts ``correction_east_metres,
        correction_north_metres``, ``quality`` (0..1), ``contrast``, ``second_peak``,
        ``correlation_before, correlation_after`` and ``weak``: then a note and a log warning say that the shift
        should not be trusted.

    Raises
    ------
    GridMismatch
        A scene is a swath or lies nowhere, or the two share too little ground.
    BadSettings
        An option out of its range.
    BadInput
        The shared ground is constant or nodata.
    """
    _check(upsample, max_shift, cutoff, max_pixels, resample)
    here = _map(moving, "the moving scene")
    _map(reference, "the reference")
    mine, theirs = _pick(moving, reference, bands, reference_bands)
    mine, weights = _responses(moving, reference, mine, theirs, chosen=bands is not None)
    target = _one_image(moving, mine, weights)
    source = _one_image(reference, theirs)
    finer = here.crs == grid_of(reference).crs and min(grid_of(reference).resolution) < 0.75 * min(here.resolution)
    fitted = reproject(source, like=here, resampling="average" if finer else "bilinear")
    a, b, window = _shared(target, fitted, max_pixels)
    shift = refined_shift(a, b, upsample=upsample, max_shift=max_shift, cutoff=cutoff)
    weak = shift.contrast < 8 or shift.second > 0.75
    report = _report(here, shift, weak, a, b)
    report.settings = {
        "bands": [int(i) for i in mine], "reference_bands": [int(i) for i in theirs], "upsample": upsample,
        "max_shift": max_shift, "cutoff": cutoff, "window": list(window), "resample": resample,
    }  # fmt: skip
    if weak:
        report.notes.append(
            f"the correlation peak is weak (contrast {shift.contrast:.1f}, second peak {shift.second:.2f}): "
            "do not trust this shift; give bands= that look alike, or a larger shared area"
        )
        _log.warning("coregister: %s", report.notes[-1])
    if math.hypot(shift.rows, shift.cols) > 1:
        report.notes.append(
            f"the scene lies {math.hypot(shift.rows, shift.cols):.2f} of its pixels off the reference, more than one: look "
            "whether both show the same place"
        )
        _log.warning("coregister: %s", report.notes[-1])
    fixed = place(moving, moved(here.transform, -shift.cols, -shift.rows), here.crs)
    figures = report.figures
    line = (
        f"co-registered: coordinates moved by {figures['correction_x']:.6g}, {figures['correction_y']:.6g} "
        f"(shift {shift.rows:.2f} rows, {shift.cols:.2f} cols, quality {shift.quality:.2f})"
    )
    fixed = with_history(fixed, line)
    if resample:
        name = "bilinear" if resample is True else str(resample)
        fixed = align(fixed, here, resampling=name)
        report.resampled.append(f"values resampled ({name}) back onto the grid of {here.height} x {here.width} pixels")
    report.history = list(fixed.attrs["history"])
    return Result({"cube": fixed}, report)


def _check(upsample: int, max_shift: float | None, cutoff: float, max_pixels: int, resample: bool | str) -> None:
    if not isinstance(upsample, int) or not 1 <= upsample <= 1000:
        raise BadSettings(f"got upsample {upsample!r}, expected a whole number from 1 to 1000")
    if max_shift is not None and not (math.isfinite(max_shift) and max_shift > 0):
        raise BadSettings(f"got max_shift {max_shift!r}, expected a positive number of pixels")
    if not 0 < cutoff <= 0.5:
        raise BadSettings(f"got cutoff {cutoff!r}, expected 0 < cutoff <= 0.5 cycles/pixel")
    if max_pixels < _MIN_SIDE:
        raise BadSettings(f"got max_pixels {max_pixels}, expected at least {_MIN_SIDE}")
    if isinstance(resample, str) and resample not in RADIUS:
        raise BadSettings(f"unknown resampling {resample!r}, expected one of {', '.join(RADIUS)}")


def _map(cube: xr.DataArray, what: str) -> Grid:
    if "time" in cube.dims:
        raise BadCube(
            f"{what} is a video of {cube.sizes['time']} frames, expected one image: pick one with isel(time=k)"
        )
    grid = grid_of(cube)
    if grid.kind not in ("map", "rotated"):
        fix = "call geo.orthorectify" if grid.kind == "swath" else "call geo.place with a transform"
        raise GridMismatch(f"{what} is on a {grid.kind} grid, expected a map grid: {fix} first")
    return grid


def _pick(
    moving: xr.DataArray, reference: xr.DataArray, bands: Sequence[int] | None, reference_bands: Sequence[int] | None
) -> tuple[list[int], list[int]]:
    """Bands to compare, of the moving scene and of the reference."""
    given = []
    for cube, chosen, what in ((moving, bands, "moving scene"), (reference, reference_bands, "reference")):
        if chosen is not None:
            wrong = [b for b in chosen if not 0 <= int(b) < cube.shape[0]]
            if wrong or not len(chosen):
                raise BandMismatch(f"band {wrong or 'list ()'} does not exist: the {what} has 0..{cube.shape[0] - 1}")
        given.append(None if chosen is None else [int(b) for b in chosen])
    wave, good = _waves(moving)
    ref_wave, ref_good = _waves(reference)
    mine, theirs = given
    if mine is None and theirs is None and good.size and ref_good.size:
        gap = np.abs(wave[good][:, None] - ref_wave[ref_good][None, :])
        near = gap <= max(10.0, float(gap.min()) + 1e-9)
        far = np.where(near, np.abs(wave[good][:, None] - 800.0), np.inf)
        at = np.unravel_index(int(np.argmin(far + 1e-6 * gap)), far.shape)
        return [int(good[at[0]])], [int(ref_good[at[1]])]
    if theirs is None:
        theirs = _like(ref_wave, ref_good, wave[mine] if mine is not None else None, reference.shape[0])
    if mine is None:
        wanted = ref_wave[theirs] if np.isfinite(ref_wave[theirs]).any() else None
        mine = _like(wave, good, wanted, moving.shape[0])
    return mine, theirs


def _waves(cube: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths (NaN where unknown) and the good bands that have one."""
    wave = cube["wavelength"].values if "wavelength" in cube.coords else np.full(cube.shape[0], np.nan)
    good = good_bands(cube)
    return wave, good[np.isfinite(wave[good])]


def _like(wave: np.ndarray, good: np.ndarray, wanted: np.ndarray | None, count: int) -> list[int]:
    if good.size == 0:
        return list(range(count))
    if wanted is not None and np.isfinite(wanted).any():
        return sorted({int(good[np.argmin(np.abs(wave[good] - w))]) for w in wanted[np.isfinite(wanted)]})
    visible = good[(wave[good] >= 450) & (wave[good] <= 750)]
    return [int(i) for i in (visible if visible.size else good)]


def _responses(
    moving: xr.DataArray, reference: xr.DataArray, mine: list[int], theirs: list[int], *, chosen: bool
) -> tuple[list[int], np.ndarray | None]:
    """Bands of the moving scene that the reference's one band sees, and how much of each; the mean where unknown."""
    wave, good = _waves(moving)
    if chosen or len(theirs) != 1 or good.size == 0:
        return mine, None
    ref_wave, _ = _waves(reference)
    centre = float(ref_wave[theirs[0]])
    width = float(reference["fwhm"].values[theirs[0]]) if "fwhm" in reference.coords else float("nan")
    if not (math.isfinite(centre) and math.isfinite(width)):
        sensor = sensors.match(moving)
        if math.isfinite(centre) or reference.shape[0] != 1 or sensor is None or sensor.pan is None:
            return mine, None
        low, high = sensor.pan.range
        seen = good[(wave[good] >= low) & (wave[good] <= high)]
        return ([int(i) for i in seen], None) if seen.size else (mine, None)
    response = np.exp2(-((2 * (wave[good] - centre) / width) ** 2))
    keep = response > 0.01
    if not keep.any():
        return mine, None
    return [int(i) for i in good[keep]], response[keep] / response[keep].sum()


def _one_image(cube: xr.DataArray, bands: list[int], weights: np.ndarray | None = None) -> xr.DataArray:
    """Weighted mean of some bands as float32, shape (1, y, x), NaN where any of them is nodata."""
    some = cube.isel({cube.dims[0]: bands})
    mean: np.ndarray = np.zeros(some.shape[1:], dtype=np.float64)
    nodata = cube.attrs["packing"].get("nodata") if is_packed(cube) else cube.attrs.get("nodata")
    for number in range(len(bands)):
        values = some[number].values
        band = values.astype(np.float64)
        if values.dtype.kind in "iu" and nodata is not None:
            band[values == nodata] = np.nan
        mean += band / len(bands) if weights is None else band * weights[number]
    image = xr.DataArray(mean[None].astype(np.float32), dims=("layer", "y", "x"), coords={"layer": ["image"]})
    grid = grid_of(cube)
    return place(image, grid.transform, grid.crs)


def _shared(
    moving: xr.DataArray, fitted: xr.DataArray, max_pixels: int
) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int]]:
    """The two images on the window where both are known, and that window (row, col, height, width)."""
    a, b = moving.values[0].astype(np.float64), fitted.values[0].astype(np.float64)
    known = np.isfinite(a) & np.isfinite(b)
    rows, cols = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    if rows.size < _MIN_SIDE or cols.size < _MIN_SIDE:
        raise GridMismatch(
            f"the two scenes share {rows.size} x {cols.size} pixels of ground, expected at least "
            f"{_MIN_SIDE} x {_MIN_SIDE}: are CRS and scene right?"
        )
    out = []
    for index in (rows, cols):
        first, last = int(index[0]), int(index[-1]) + 1
        if last - first > max_pixels:
            first += (last - first - max_pixels) // 2
            last = first + max_pixels
        out.append(slice(first, last))
    a, b = a[out[0], out[1]], b[out[0], out[1]]
    both = np.isfinite(a) & np.isfinite(b)
    if both.mean() < 0.05 or np.nanstd(a[both]) == 0 or np.nanstd(b[both]) == 0:
        raise BadInput("the shared ground is constant or nearly all nodata in these bands: choose others by bands=")
    window = out[0].start, out[1].start, out[0].stop - out[0].start, out[1].stop - out[1].start
    return a, b, window


def _report(here: Grid, shift: Shift, weak: bool, a: np.ndarray, b: np.ndarray) -> Report:
    x0, y0 = to_ground(here.transform, here.width / 2, here.height / 2)
    x1, y1 = to_ground(here.transform, here.width / 2 - shift.cols, here.height / 2 - shift.rows)
    if here.crs is not None and here.crs.is_geographic:
        azimuth, _, metres = Geod(ellps="WGS84").inv(x0, y0, x1, y1)
        east, north = metres * math.sin(math.radians(azimuth)), metres * math.cos(math.radians(azimuth))
    else:
        unit = here.crs.axis_info[0].unit_conversion_factor if here.crs is not None and here.crs.axis_info else 1.0
        east, north = (x1 - x0) * unit, (y1 - y0) * unit
        metres = math.hypot(east, north)
    row, col = round(shift.rows), round(shift.cols)
    rows, cols = a.shape
    after = (
        a[max(0, row) : rows + min(0, row), max(0, col) : cols + min(0, col)],
        b[max(0, -row) : rows - max(0, row), max(0, -col) : cols - max(0, col)],
    )
    return Report(
        method="geo/coregister",
        figures={
            "shift_rows": float(shift.rows),
            "shift_cols": float(shift.cols),
            "correction_x": float(x1 - x0),
            "correction_y": float(y1 - y0),
            "correction_metres": float(metres),
            "correction_east_metres": float(east),
            "correction_north_metres": float(north),
            "quality": shift.quality,
            "contrast": shift.contrast,
            "second_peak": shift.second,
            "correlation_before": _correlation(a, b),
            "correlation_after": _correlation(*after),
            "weak": bool(weak),
        },
    )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3 or np.std(a[known]) == 0 or np.std(b[known]) == 0:
        return float("nan")
    return float(np.corrcoef(a[known], b[known])[0, 1])
