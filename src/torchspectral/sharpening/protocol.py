"""How the field evaluates sharpening: Wald's protocol at reduced resolution.

The scene is seen through the MTF of a sensor `ratio` times coarser and decimated; sharpening the result must give the
scene back.

References
----------
Wald, Ranchin, Mangolini, "Fusion of satellite images of different spatial resolutions: assessing the quality of
resulting images", Photogramm. Eng. Remote Sens. 63 (1997).
Ciotola et al., "Hyperspectral pansharpening: critical review, tools and future perspectives", arXiv 2407.01355 (2024).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from torchspectral import sensors
from torchspectral.cube import check_cube, is_packed, make_cube, with_history
from torchspectral.engine.method import Input
from torchspectral.engine.roles import fit_grid
from torchspectral.errors import BadCube, BadSettings, GridMismatch, MissingMetadata, OutputExists
from torchspectral.geo import grid_of, place_coarser
from torchspectral.geo.lazy import LazyArray, missing_value, with_data
from torchspectral.log import Progress, Step, no_progress
from torchspectral.ops.interpolate import check_ratio
from torchspectral.ops.mtf import HS_GAIN, PAN_GAIN
from torchspectral.result import Report, Result
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.base import as_pan
from torchspectral.sharpening.degraded import BandMean, DegradedArray

PAN_RANGE = (450.0, 900.0)
NAMES = ("hs", "pan", "truth")
GUIDE_GAIN = 0.26
"""MTF gain of guides whose sensor is not known: that of Sentinel-2's 10 m bands."""


class WaldSettings(Settings):
    """Settings of Wald's protocol."""

    mtf_gain: float = setting(0.0, "MTF gain of the cube's bands; 0: the sensor's, 0.3 where unknown", ge=0, lt=1)
    pan_gain: float = setting(0.0, "MTF gain of the PAN; 0: the sensor's, 0.15 where unknown", ge=0, lt=1)
    normalize: bool = setting(True, "kernels sum to 1; the benchmark's do not and dim the image by up to 0.4 %")
    rounding: Literal["auto", "round", "truncate", "none"] = setting(
        "auto", "of degraded values; auto rounds integer cubes, the benchmark truncates"
    )
    pan_low: float = setting(
        0.0, "a PAN is made of the bands from here; 0: the sensor's PAN, else 450", unit="nm", ge=0
    )
    pan_high: float = setting(0.0, "and up to here; 0: the sensor's PAN, else 900", unit="nm", ge=0)
    snr: float | None = setting(None, "noise added to the degraded images, below the rms of each band", unit="dB")


def simulate_wald(
    cube: xr.DataArray,
    ratio: int = 4,
    pan: xr.DataArray | None = None,
    out: Path | str | None = None,
    *,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
    **settings: Any,
) -> Result:
    """Make a reduced-resolution pair with its truth.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        The scene; it becomes the truth. Lazy cubes stay lazy.
    ratio : int
        At least 2.
    pan : DataArray, optional
        The scene's PAN, `ratio` times finer (it is degraded too) or on the cube's grid (it is taken as it is). Without
        one it is made of the cube's bands.
    out : path, optional
        Folder for ``hs.tif``, ``pan.tif`` and ``truth.tif``; of scenes in sensor geometry ``hs.zarr`` and so on, which
        keep longitude and latitude.
    seed : int
        Of the noise.
    overwrite : bool
    progress : callable
    **settings
        Fields of `WaldSettings`.

    Returns
    -------
    Result
        ``hs`` (band, y / ratio, x / ratio), ``pan`` (1, y, x) and ``truth`` (band, y, x), each on its grid; rows and
        columns that do not fill a coarse pixel are cut off at the bottom and the right, and the report says so.

    Raises
    ------
    BadSettings, BadCube
    GridMismatch
        The scene is smaller than one coarse pixel, or the PAN does not fit.
    MissingMetadata
        No PAN, and no wavelengths to make one from.
    OutputExists, OutputFailed

    Examples
    --------
    >>> import torchspectral as ts
    >>> pair = ts.simulate_wald(ts.open("scene.tif"), 4)  # doctest: +SKIP
    >>> sharp = ts.sharpen(pair["hs"], pair["pan"])  # doctest: +SKIP
    >>> ts.score(sharp.primary, pair["truth"], ratio=4)  # doctest: +SKIP
    """
    made = WaldSettings.make(settings)
    ratio = check_ratio(ratio)
    if not isinstance(seed, int) or seed < 0:
        raise BadSettings(f"got seed={seed!r}, expected a whole number from 0")
    if out is not None and not overwrite:
        for name in NAMES:
            path = Path(out) / f"{name}{_suffix(cube)}"
            if path.exists():
                raise OutputExists(f"{path} exists: overwrite=True (--overwrite) replaces it")
    report = Report(method="sharpening/wald", settings={"ratio": ratio, **made.model_dump()}, seed=seed)
    truth = _truth(cube, ratio, report)
    sensor = sensors.match(truth)
    rounding = made.rounding
    if rounding == "auto":
        rounding = "round" if truth.dtype.kind in "iu" else "none"
    gains, said = _gains(truth, sensor, made.mtf_gain)
    report.notes.append(f"cube seen through an MTF of {said} at Nyquist, ratio {ratio}, values: {rounding}")
    common: dict[str, Any] = {"normalize": made.normalize, "rounding": rounding, "snr": made.snr}
    hs = _coarse(truth, ratio, gains, seed=2 * seed, **common)
    hs = with_history(hs, f"degraded by {ratio} (Wald's protocol)")
    fine = _pan(truth, cube, pan, ratio, sensor, made, seed=2 * seed + 1, report=report, **common)
    values = {"hs": hs, "pan": fine, "truth": truth}
    if truth.variable._in_memory:
        values = {name: value.load() for name, value in values.items()}
    if out is None:
        return Result(values, report)
    return _written(values, report, Path(out), overwrite, progress)


def _truth(cube: xr.DataArray, ratio: int, report: Report) -> xr.DataArray:
    cube = check_cube(cube)
    if cube.ndim != 3:
        raise BadCube(f"got a video of {cube.sizes['time']} frames, expected one image: pick one with isel(time=k)")
    if is_packed(cube):
        raise BadCube("got stored integers (opened raw), expected physical values: open the product without raw=True")
    rows, cols = (cube.sizes[d] // ratio * ratio for d in ("y", "x"))
    if min(rows, cols) == 0:
        raise GridMismatch(
            f"got a scene of {cube.sizes['y']} x {cube.sizes['x']} pixels, expected at least {ratio} x {ratio}"
        )
    cut = cube.sizes["y"] - rows, cube.sizes["x"] - cols
    if any(cut):
        report.dropped.append(
            f"{cut[0]} rows at the bottom and {cut[1]} columns at the right, to a multiple of {ratio}"
        )
        cube = cube.isel(y=slice(0, rows), x=slice(0, cols))
    return cube


def _gains(cube: xr.DataArray, sensor: sensors.Sensor | None, given: float) -> tuple[np.ndarray, str]:
    """MTF gain of each band, and how to say it."""
    bands = cube.sizes["band"]
    if given:
        return np.full(bands, given), f"{given:g} (given)"
    if sensor is not None and sensor.bands:
        wave = np.asarray(cube["wavelength"].values, dtype=np.float64)
        known = np.asarray(sensor.mtf, dtype=np.float64)
        if np.isfinite(wave).all():
            gains = known[np.abs(wave[:, None] - sensor.wavelength[None, :]).argmin(1)]
            if ((gains > 0) & (gains < 1)).all():
                low, high = gains.min(), gains.max()
                return gains, f"{low:g}" + (f" to {high:g}" if high > low else "") + f" ({sensor.name})"
    return np.full(bands, HS_GAIN), f"{HS_GAIN:g} (assumed)"


def _coarse(
    cube: xr.DataArray, ratio: int, gains: np.ndarray, *, normalize: bool, rounding: str, snr: float | None, seed: int
) -> xr.DataArray:
    missing = missing_value(cube)
    nodata = None if cube.dtype.kind == "f" else missing
    array = DegradedArray(cube.variable, ratio, gains, normalize=normalize, rounding=rounding, nodata=nodata, seed=seed)
    if snr is not None:
        array.noise = _rms(array) * 10 ** (-snr / 20)
    return place_coarser(with_data(cube, array), cube, ratio)


def _rms(array: DegradedArray) -> np.ndarray:
    """Root mean square of each band, streamed."""
    squares, count = np.zeros(array.shape[0]), np.zeros(array.shape[0])
    bands, cols = np.arange(array.shape[0]), np.arange(array.shape[2])
    for top in range(0, array.shape[1], 64):
        block = array.compute(bands, np.arange(top, min(top + 64, array.shape[1])), cols).astype(np.float64)
        if array.nodata is not None:
            block[block == array.nodata] = np.nan
        squares += np.nansum(block**2, axis=(1, 2))
        count += np.isfinite(block).sum(axis=(1, 2))
    return np.sqrt(squares / np.maximum(count, 1))


def _pan(
    truth: xr.DataArray,
    cube: xr.DataArray,
    pan: xr.DataArray | None,
    ratio: int,
    sensor: sensors.Sensor | None,
    made: WaldSettings,
    *,
    report: Report,
    **common: Any,
) -> xr.DataArray:
    if pan is not None:
        return _given_pan(truth, cube, as_pan(pan), ratio, sensor, made, report=report, **common)
    array, said = _band_mean(truth, sensor, made)
    report.notes.append(said)
    out = place_coarser(_one_band(array, truth), truth, 1)
    if made.snr is None:
        return out
    noisy = out.load()
    rms = float(np.sqrt(np.nanmean(noisy.values.astype(np.float64) ** 2)))
    draw = np.random.Generator(np.random.Philox(key=[common["seed"], 0])).standard_normal(noisy.shape)
    return noisy + (rms * 10 ** (-made.snr / 20) * draw).astype(np.float32)


def _band_mean(cube: xr.DataArray, sensor: sensors.Sensor | None, made: WaldSettings) -> tuple[BandMean, str]:
    """PAN made of the good bands in a range, and how to say it."""
    wave = np.asarray(cube["wavelength"].values, dtype=np.float64)
    if not np.isfinite(wave).any():
        raise MissingMetadata(
            "the cube has no wavelengths to make a PAN from: give pan=, or set the wavelength coordinate [nm]"
        )
    own = sensor.pan.range if sensor is not None and sensor.pan is not None else None
    low, high = made.pan_low or (own or PAN_RANGE)[0], made.pan_high or (own or PAN_RANGE)[1]
    chosen = np.flatnonzero((wave >= low) & (wave <= high) & np.asarray(cube["good"].values, dtype=bool))
    if chosen.size == 0:
        raise MissingMetadata(
            f"no good band lies between {low:g} and {high:g} nm (the cube has {np.nanmin(wave):g} to "
            f"{np.nanmax(wave):g} nm): give pan=, or pan_low and pan_high"
        )
    nodata = None if cube.dtype.kind == "f" else missing_value(cube)
    whose = f"the PAN of {sensor.name}" if own and sensor is not None and not made.pan_low else "no PAN was given"
    return BandMean(cube.variable, chosen, nodata), (
        f"PAN made as the mean of {chosen.size} bands from {wave[chosen].min():g} to {wave[chosen].max():g} nm "
        f"({whose})"
    )


def _one_band(array: LazyArray, like: xr.DataArray) -> xr.DataArray:
    kept = {k: v for k, v in like.attrs.items() if k not in ("glt", "nodata", "packing")}
    blank = make_cube(
        np.empty((1, 1, 1), array.dtype), quantity=like.attrs.get("quantity", "dn"), attrs=kept, name="pan"
    )
    return with_data(blank, array)


def _given_pan(
    truth: xr.DataArray,
    cube: xr.DataArray,
    pan: xr.DataArray,
    ratio: int,
    sensor: sensors.Sensor | None,
    made: WaldSettings,
    *,
    report: Report,
    **common: Any,
) -> xr.DataArray:
    pan, zoom = fit_grid(pan, check_cube(cube), Input("pan", ratio="any"), False, report)
    if zoom not in (1, ratio):
        raise GridMismatch(
            f"got a PAN {zoom} times finer than the cube, expected {ratio} times (it is degraded too) or the same grid"
        )
    rows, cols = (truth.sizes[d] * zoom for d in ("y", "x"))
    pan = pan.isel(y=slice(0, rows), x=slice(0, cols))
    if zoom == 1:
        report.notes.append("PAN on the cube's grid: taken as it is")
        return pan
    own = sensor.pan.mtf if sensor is not None and sensor.pan is not None else PAN_GAIN
    gain = made.pan_gain or own
    report.notes.append(f"PAN seen through an MTF of {gain:g} at Nyquist")
    return _coarse(pan, ratio, np.array([gain]), **common)


def degraded_guides(
    cube: xr.DataArray, guides: Any, ratio: int, *, seed: int = 0, snr: float | None = None
) -> tuple[xr.DataArray, str]:
    """Guides of a scene as Wald's protocol has them: `ratio` times coarser, on the scene's own grid.

    Parameters
    ----------
    cube : DataArray
        The scene, before it is degraded.
    guides : DataArray or a list of them
        Finer than the scene, see `sharpen`.
    ratio : int
    seed, snr
        Of noise, as in `simulate_wald`.

    Returns
    -------
    guides : DataArray, shape (K, y, x)
        NaN where a guide is masked.
    note : str
        What was done, for a report.

    Raises
    ------
    GridMismatch
        The guides are not `ratio` times finer than the scene.
    """
    from torchspectral.sharpening.guided.stack import assemble
    from torchspectral.sharpening.pairs import Done

    cube = check_cube(cube)
    found = assemble(cube, guides, done=Done())
    zoom = found.image.sizes["x"] // cube.sizes["x"]
    if zoom != ratio:
        raise GridMismatch(
            f"got guides {zoom} times finer than the cube, expected {ratio} times: they are degraded too"
        )
    rows, cols = (cube.sizes[d] // ratio * ratio * zoom for d in ("y", "x"))
    window = {"y": slice(0, rows), "x": slice(0, cols)}
    image = found.image.isel(window).where(found.valid.isel(window).values > 0)
    sensor = sensors.match(image)
    gains, said = _gains(image, sensor, 0.0 if sensor is not None else GUIDE_GAIN)
    out = _coarse(image, ratio, gains, normalize=True, rounding="none", snr=snr, seed=seed)
    return out.load(), f"guides seen through an MTF of {said} at Nyquist, {ratio} times coarser"


def _written(
    values: dict[str, xr.DataArray], report: Report, folder: Path, overwrite: bool, progress: Progress
) -> Result:
    from torchspectral.io import open_product, save

    folder.mkdir(parents=True, exist_ok=True)
    paths, opened = {}, {}
    for number, (name, value) in enumerate(values.items()):
        path = save(value, folder / f"{name}{_suffix(value)}", overwrite=overwrite, orthorectify=False, report=report)
        paths[name], opened[name] = str(path), open_product(path)
        progress(Step(f"write {name}", (number + 1) / len(values)))
    return Result(opened, report, paths)


def _suffix(cube: Any) -> str:
    """Of files that keep where the pixels lie."""
    placed = isinstance(cube, xr.DataArray) and {"y", "x"} <= set(cube.dims)
    return ".zarr" if placed and grid_of(cube).kind == "swath" else ".tif"
