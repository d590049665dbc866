"""Raw numbers of laboratories and drones to reflectance, by a dark and a white reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from torchspectral.calibration.base import pick
from torchspectral.calibration.exposure import Exposure, check_dark_exposure, exposure_of
from torchspectral.calibration.gain.applying import columns_of
from torchspectral.calibration.references import Frame, ceiling_of, frame_of
from torchspectral.cube import check_cube
from torchspectral.engine.method import Input, Method, Output, Scope, Size, State, Tile
from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch, MissingMetadata
from torchspectral.log import Progress, no_progress
from torchspectral.result import Report, Result
from torchspectral.settings import Settings, setting

SATURATED = 0.01
"""Most of the white panel's values that may be saturated."""


class ReflectanceSettings(Settings):
    """Settings of the conversion to reflectance."""

    saturation: float | None = setting(
        None, "stored values from here on are saturated: nodata; the header's or the converter's ceiling by default",
        unit="dn", allow_inf_nan=False,
    )  # fmt: skip
    dark: Literal["mean", "rows"] = setting(
        "mean", "take off the mean over the dark lines, or dark line by line (as many lines as the scene)"
    )
    white: Literal["columns", "spectrum"] = setting(
        "columns", "panel under every column, or one spectrum of a panel that fills a part of the width"
    )
    least: float = setting(
        0.01, "pixels of the detector whose white signal is below this share of the band's median are bad", ge=0, lt=1
    )
    spread: float = setting(
        10.0, "pixels of the detector whose dark noise is above this many times the band's median are bad", gt=1
    )


class Reflectance(Method):
    """(raw - dark) / (white - its dark) times the panel's reflectance and the ratio of exposures.

    State
    -----
    dark : Tensor, shape (bands, columns) or (bands, 1)
        Unused where dark lines come as a role.
    factor : Tensor, the same
        panel * (integration time of the white / of the scene) / (white - its dark); NaN at bad detector pixels.

    References
    ----------
    Schaepman-Strub, Schaepman, Painter, Dangel and Martonchik, "Reflectance quantities in optical remote sensing",
    Remote Sensing of Environment 103, 2006: what a panel of known reflectance makes of raw numbers.
    """

    Settings = ReflectanceSettings
    inputs = (Input("cube"), Input("dark", optional=True))
    outputs = (Output("cube"),)
    scope = Scope.PIXEL
    needs_fit = True
    state_keys = ("dark", "factor")

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Reflectance, (n, bands, y, x)."""
        cube = tile["cube"]
        factor = columns_of(state["factor"], tile, cube, "references")
        dark = tile["dark"] if "dark" in tile else columns_of(state["dark"], tile, cube, "dark frames")
        out = (cube - dark) * factor
        if self.settings.saturation is not None:
            out = out.where(cube < self.settings.saturation, torch.nan)
        return {"cube": out}

    def finish(self, outputs: dict[str, Any], state: State) -> dict[str, Any]:
        """Say that the values are reflectance now."""
        outputs["cube"].attrs.update(quantity="reflectance", units="1")
        outputs["cube"].name = "reflectance"
        return outputs

    def memory(self, size: Size) -> dict[str, int]:
        """Two copies."""
        return {"fit": 0, "apply": 2 * size.rows * size.cols * size.bands * 4}

    def figures(self, state: State) -> dict[str, Any]:
        """Bad pixels of the detector, in bands that have any good one."""
        bad = ~torch.isfinite(state["factor"])
        return {"bad_detector_pixels": int(bad[~bad.all(1)].sum())}


def calibrate_reflectance(
    raw: xr.DataArray,
    white: xr.DataArray,
    dark: xr.DataArray | float,
    *,
    white_dark: xr.DataArray | float | None = None,
    panel: xr.DataArray | float | None = None,
    integration_time: float | None = None,
    white_integration_time: float | None = None,
    bad_pixels: Any = None,
    settings: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Turn raw numbers into reflectance.

    Parameters
    ----------
    raw : DataArray, dims (band, y, x)
        Raw numbers, one column a detector; streamed.
    white : DataArray, dims (band or layer, y, x)
        Lines of the white panel, of the same columns and bands (with ``white="spectrum"`` of any columns).
    dark : DataArray or float
        Lines with the shutter closed at the scene's exposure, or a level.
    white_dark : DataArray or float, optional
        Dark at the panel's exposure; `dark` by default.
    panel : DataArray (spectrum, band), or float, optional
        Reflectance of the panel, 0..1, resampled to the bands; 1 by default.
    integration_time, white_integration_time : float, optional
        Of scene and panel [ms]; by default what the headers say.
    bad_pixels : array_like of bool, shape (bands, x), optional
        True: a bad pixel of the detector, besides those found by their dark noise and white signal.
    settings : mapping, optional
        Fields of `ReflectanceSettings`.
    out : path, optional
    **options
        Fields of `engine.RunOptions`: mask, dtype, workers, overwrite, resume, ... Bands that ``bands`` leaves out
        (default "all") come back NaN, and their panel may saturate.

    Returns
    -------
    Result
        ``cube``: float32 reflectance, NaN where the scene is saturated or the detector pixel is bad.

    Raises
    ------
    BadInput
        A panel that saturates, or is no brighter than the dark.
    BandMismatch, GridMismatch, BadSettings, OutputExists

    Examples
    --------
    >>> import torchspectral as ts
    >>> raw, white, dark = (ts.open(f"{name}.hdr") for name in ("leaf", "white", "dark"))  # doctest: +SKIP
    >>> ts.calibrate_reflectance(raw, white, dark, panel=0.99, out="leaf_refl.hdr")  # doctest: +SKIP
    """
    from torchspectral.engine import Review, RunOptions, run

    raw = check_cube(raw)
    chosen = ReflectanceSettings.make(settings or {})
    asked = RunOptions.make({"bands": "all", **options})
    used = pick(raw, asked.bands)
    if raw.attrs.get("quantity", "dn") == "reflectance":
        raise BadInput("the scene is reflectance already, expected raw numbers")
    if chosen.saturation is None:
        ceiling = ceiling_of(raw)
        chosen = ReflectanceSettings.make({**chosen.model_dump(), "saturation": ceiling})
    notes: list[str] = []
    shape = (raw.sizes["band"], raw.sizes["x"])
    dark_frame, white_frame = _reference(dark, shape, "dark"), _white(white, raw, chosen, used)
    own = white_dark if white_dark is not None else dark
    white_level = _reference(own, (shape[0], white_frame.mean.shape[1]), "dark of the white panel", chosen.white)
    times = exposure_of(raw, white_frame, integration_time, white_integration_time, notes)
    if white_dark is None and abs(times.ratio - 1) > 0.01:
        notes.append("the dark of the scene stands for that of the panel, whose exposure is another: give white_dark")
    check_dark_exposure(dark, times, notes)
    factor = _factor(white_frame, white_level, _panel(panel, raw), times, chosen, notes)
    factor = np.where(_bad(dark_frame, bad_pixels, shape, chosen, notes), np.nan, factor)
    left_out = np.setdiff1d(np.arange(shape[0]), used)
    if left_out.size:
        factor[left_out] = np.nan
        notes.append(f"{left_out.size} of {shape[0]} bands were not chosen: nodata")
    if not np.isfinite(factor).any():
        raise BadInput("every detector pixel is bad by the references, expected a panel that is brighter than the dark")
    roles = {"cube": raw}
    if chosen.dark == "rows":
        roles["dark"] = _dark_rows(dark, raw)
    state = {
        "dark": torch.from_numpy(np.nan_to_num(dark_frame.mean).astype(np.float32)),
        "factor": torch.from_numpy(factor.astype(np.float32)),
    }
    levels = {"panel": panel, "dark": dark, "white_dark": white_dark}
    stated: dict[str, Any] = {name: float(value) for name, value in levels.items() if isinstance(value, int | float)}
    stated |= {
        name: value
        for name, value in (("integration_time", integration_time), ("white_integration_time", white_integration_time))
        if value is not None
    }
    stated["bands"] = asked.bands
    review = Review(_noted(notes, times, chosen, stated))
    everything = RunOptions.make({**options, "bands": "all"})
    return run(Reflectance(chosen), roles, out=out, options=everything, state=state, progress=progress, review=review)


def _noted(notes: Sequence[str], times: Exposure, chosen: ReflectanceSettings, stated: Mapping[str, Any]) -> Any:
    def look(values: Mapping[str, Any], report: Report) -> None:
        report.notes += list(notes)
        report.options = {**report.options, **stated}
        report.figures["integration_time_ratio"] = round(times.ratio, 9)
        if chosen.saturation is not None:
            report.figures["ceiling"] = chosen.saturation

    return look


def _reference(value: Any, shape: tuple[int, int], what: str, white: str = "columns") -> Frame:
    """A dark as a frame of the scene's bands and columns."""
    if isinstance(value, xr.DataArray):
        found = frame_of(value, what=what)
        if found.mean.shape[0] != shape[0]:
            raise BandMismatch(f"the {what} has {found.mean.shape[0]} bands, expected {shape[0]} as the scene")
        if found.mean.shape[1] not in (1, shape[1]):
            if white != "spectrum":
                raise GridMismatch(f"the {what} has {found.mean.shape[1]} columns, expected {shape[1]} as the scene")
            mean = np.nanmean(found.mean, axis=1, keepdims=True)
            return Frame(mean, np.zeros_like(mean), np.zeros_like(mean), found.lines, found.attrs)
        return found
    try:
        level = float(value)
    except (TypeError, ValueError):
        raise BadSettings(f"got {type(value).__name__} as {what}, expected frames or a level") from None
    if not np.isfinite(level):
        raise BadSettings(f"got {level} as {what}, expected frames or a finite level")
    one = np.full((shape[0], 1), level)
    return Frame(one, np.zeros_like(one), np.zeros_like(one), 0)


def _white(white: xr.DataArray, raw: xr.DataArray, chosen: ReflectanceSettings, used: np.ndarray) -> Frame:
    """The panel's mean frame, refused where it saturates.

    Raises
    ------
    BadInput, BandMismatch, GridMismatch
    """
    if not isinstance(white, xr.DataArray):
        raise BadInput(f"got {type(white).__name__} as white reference, expected lines of the panel (bands, y, x)")
    ceiling = chosen.saturation
    own = ceiling_of(white)
    ceiling = own if ceiling is None else ceiling if own is None else min(own, ceiling)
    frame = frame_of(white, ceiling, what="white reference")
    bands, columns = frame.mean.shape
    if bands != raw.sizes["band"]:
        raise BandMismatch(f"the white reference has {bands} bands, expected {raw.sizes['band']} as the scene")
    if chosen.white == "columns" and columns != raw.sizes["x"]:
        raise GridMismatch(
            f"the white reference has {columns} columns, expected {raw.sizes['x']} as the scene: cut both alike, or set "
            "white=spectrum for one spectrum of the panel"
        )
    share = frame.saturated.mean(1)
    worst = used[share[used] > SATURATED]
    if worst.size:
        listed = ", ".join(str(int(raw["number"].values[b])) for b in worst[:8])
        raise BadInput(
            f"the white panel saturates: in {worst.size} of {bands} bands (numbers {listed}{', ...' if worst.size > 8 else ''}) "
            f"up to {100 * share[used].max():.3g} % of its values are at {ceiling:g} or above: take the panel again with a "
            "shorter integration time (its ratio to the scene's is accounted for), or leave these bands out (bands=, --bands)"
        )
    if chosen.white == "spectrum":
        mean = np.nanmean(frame.mean, axis=1, keepdims=True)
        return Frame(mean, np.zeros_like(mean), share[:, None], frame.lines, frame.attrs)
    return frame


def _panel(panel: Any, raw: xr.DataArray) -> np.ndarray:
    """Reflectance of the panel on the scene's bands, (bands, 1).

    Raises
    ------
    BandMismatch
        It does not cover the bands.
    BadSettings, BadInput
    """
    bands = raw.sizes["band"]
    if panel is None:
        return np.ones((bands, 1))
    if not isinstance(panel, xr.DataArray):
        level = float(panel)
        if not 0 < level <= 1.2:
            raise BadSettings(f"got panel={level:g}, expected a reflectance in 0..1 (0.99, not 99)")
        return np.full((bands, 1), level)
    if panel.dims != ("spectrum", "band") or panel.sizes["spectrum"] < 1:
        raise BadInput(f"got a panel with dims {panel.dims}, expected spectra (spectrum, band)")
    if panel.sizes["spectrum"] > 1:
        raise BadInput(f"got {panel.sizes['spectrum']} spectra of the panel, expected one")
    from torchspectral.spectra import resample

    if not np.isfinite(raw["wavelength"].values).any():
        raise MissingMetadata(
            "the scene has no wavelengths to bring the panel's spectrum to: give wavelength= when opening"
        )
    values = np.asarray(resample(panel, raw).values, dtype=np.float64)[0]
    short = ~np.isfinite(values)
    if short.any():
        at = raw["wavelength"].values[short]
        raise BandMismatch(
            f"the panel's spectrum does not cover {int(short.sum())} of {bands} bands ({np.nanmin(at):.0f} to "
            f"{np.nanmax(at):.0f} nm): expected factors for all bands, or a scene cut to those"
        )
    if values.min() <= 0 or values.max() > 1.2:
        raise BadInput(
            f"the panel's reflectance runs from {values.min():g} to {values.max():g}, expected 0..1: is it in percent?"
        )
    return values[:, None]


def _factor(
    white: Frame, dark: Frame, panel: np.ndarray, times: Exposure, chosen: ReflectanceSettings, notes: list[str]
) -> np.ndarray:
    signal = white.mean - dark.mean
    level = np.nanmedian(signal, axis=1, keepdims=True)
    dim = np.flatnonzero(~(level[:, 0] > 0))
    if dim.size == len(level):
        raise BadInput("the white panel is no brighter than the dark in any band: were the two mixed up?")
    if dim.size:
        notes.append(f"{dim.size} bands have no white signal: nodata")
    good = (signal > chosen.least * level) & (signal > 0) & (level > 0)
    lost = int((~good).sum()) - dim.size * signal.shape[1]
    if lost:
        notes.append(f"{lost} detector pixels have hardly any white signal: nodata")
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.where(good, panel * times.ratio / signal, np.nan)
    return found


def _bad(dark: Frame, given: Any, shape: tuple[int, int], chosen: ReflectanceSettings, notes: list[str]) -> np.ndarray:
    bad = np.zeros(shape, bool)
    if dark.lines > 2 and dark.mean.shape == shape:
        level = np.nanmedian(dark.deviation, axis=1, keepdims=True)
        noisy = (dark.deviation > chosen.spread * level) & (level > 0)
        bad |= noisy | ~np.isfinite(dark.mean)
        if noisy.any():
            notes.append(
                f"{int(noisy.sum())} detector pixels have {chosen.spread:g} times the usual dark noise: nodata"
            )
    if given is not None:
        mask = np.asarray(given).astype(bool)
        if mask.shape != shape:
            raise GridMismatch(f"got bad pixels of shape {mask.shape}, expected {shape} (bands, columns)")
        bad |= mask
        notes.append(f"{int(mask.sum())} detector pixels were given as bad: nodata")
    return bad


def _dark_rows(dark: Any, raw: xr.DataArray) -> xr.DataArray:
    if not isinstance(dark, xr.DataArray) or dark.shape != raw.shape:
        got = tuple(dark.shape) if isinstance(dark, xr.DataArray) else "a level"
        raise GridMismatch(f"dark=rows takes dark off line by line: got {got}, expected the scene's {tuple(raw.shape)}")
    like = dark if "band" in dark.dims else dark.rename({"layer": "band"}).drop_vars("band")
    out = raw.copy(data=like.variable.to_base_variable() if not like.variable._in_memory else like.values)
    out.attrs = (
        {**raw.attrs, "nodata": dark.attrs.get("nodata")}
        if dark.attrs.get("nodata") is not None
        else {k: v for k, v in raw.attrs.items() if k != "nodata"}
    )
    return out
