"""Two cubes compared: figures over the scene and of each band, streamed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BandMismatch,
    GridMismatch,
    UnknownName,
    closest,
    missing_dependency,
)
from torchspectral.log import Progress, Step, no_progress
from torchspectral.result import Report, Result

if TYPE_CHECKING:
    import torch

    from torchspectral.metrics.base import Metric

STRIP_BYTES = 64 << 20
NEAR = 0.05
"""How far grids may lie apart [pixels]."""
DEFAULTS = ("ERGAS", "SAM", "Q2n", "PSNR", "SSIM", "UQI", "RMSE", "MAE", "R2")


def score(
    out: xr.DataArray,
    truth: xr.DataArray,
    *,
    metrics: Iterable[str | Metric] | None = None,
    ratio: int | None = None,
    crop: int | tuple[int, int] = 0,
    data_range: float | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Result:
    """Compare an output with the truth.

    Parameters
    ----------
    out, truth : DataArray, dims (band, y, x)
        Same bands and same grid; lazy cubes are read strip by strip. Values where either is nodata do not count: a band
        that is empty in either is left out, then pixels where any remaining band is; the report says how many.
    metrics : iterable of str or Metric, optional
        Names of `DEFAULTS`, or instances with options; all by default. Windows that the image is too small for are
        left out of the default set only, and noted.
    ratio : int, optional
        Resolution ratio that ERGAS divides by; 1 by default.
    crop : int or (int, int)
        Pixels left out at each edge, or (first, last) of rows and columns alike.
    data_range : float, optional
        Span of the values for SSIM and peak for PSNR; by default the truth's largest less its smallest value for SSIM
        and its largest for PSNR.
    device : str
        "cpu", "cuda", "cuda:N" or "auto".
    progress : callable

    Returns
    -------
    Result
        ``scores`` (table: metric, value, best, ideal) and ``bands`` (table: band, wavelength and a column for each
        metric that has a figure a band). ``report.figures`` has the same figures by metric name.

    Raises
    ------
    BandMismatch, GridMismatch
        The cubes do not fit; nothing is resampled.
    BadInput
        Nothing valid is left to compare.
    UnknownName, BadSettings
    MissingDependency
        torch is not installed.

    Examples
    --------
    >>> import torchspectral as ts
    >>> ts.score(ts.open("sharp.tif"), ts.open("truth.tif"), ratio=4)["scores"]  # doctest: +SKIP
    """
    import pandas as pd  # type: ignore[import-untyped]

    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise missing_dependency("score", error) or error from error
    out, truth = check_cube(out, what="output"), check_cube(truth, what="truth")
    _check_bands(out, truth)
    _check_grids(out, truth)
    _check_options(metrics, ratio, crop, data_range)
    report = Report(method="score", settings={"ratio": ratio, "crop": crop, "data_range": data_range})
    pair = _Pair(out, truth, crop, _device(device))
    report.dropped += pair.drop_empty()
    names = metrics is None
    wanted = list(DEFAULTS if metrics is None else metrics)
    if not wanted:
        raise BadSettings(f"got no metric, expected some of {', '.join(DEFAULTS)}")
    low, high = pair.limits() if _needs_limits(wanted, data_range) else (0.0, 1.0)
    made = [_make(m, ratio or 1, data_range, high - low or 1.0) for m in wanted]
    pair.stream(made, progress)
    if pair.skipped:
        report.dropped.append(
            f"{pair.skipped} of {pair.rows * pair.cols} pixels that are nodata in a band of either cube"
        )
    if pair.skipped == pair.rows * pair.cols:
        raise BadInput("no pixel is valid in all bands of both cubes: nothing to compare")
    rows, table = [], {"band": pair.index + 1, "wavelength": np.asarray(truth["wavelength"].values)[pair.index]}
    for metric in made:
        try:
            value = metric.compute()
        except BadInput as error:
            if not names:
                raise
            report.notes.append(str(error))
            continue
        rows.append({"metric": metric.name, "value": value, "best": metric.best, "ideal": metric.ideal})
        report.figures[metric.name] = value
        curve = metric.bands()
        if curve is not None:
            table[metric.name] = curve.cpu().numpy()
    curves = pd.DataFrame(table)
    report.figures["bands"] = {k: [_plain(v) for v in column] for k, column in table.items()}
    infinite = int(np.isinf(table["PSNR"]).sum()) if "PSNR" in table else 0
    if infinite:
        report.notes.append(f"{infinite} bands are perfect: their PSNR is infinite")
    return Result({"scores": pd.DataFrame(rows), "bands": curves}, report)


def _check_options(metrics: Any, ratio: Any, crop: Any, data_range: Any) -> None:
    for name, value in (("ratio", ratio), ("data_range", data_range)):
        if value is not None and (not isinstance(value, Real) or not float(value) > 0):
            raise BadSettings(f"got {name}={value!r}, expected a positive number")
    sides = (crop,) if isinstance(crop, Integral) else crop
    if not isinstance(sides, Sequence) or len(sides) > 2 or any(not isinstance(n, Integral) for n in sides):
        raise BadSettings(f"got crop={crop!r}, expected pixels from 0, or (first, last)")
    if metrics is not None and (isinstance(metrics, str) or not isinstance(metrics, Iterable)):
        raise BadSettings(f"got metrics={metrics!r}, expected a list of names such as {DEFAULTS[0]!r}")


def _plain(value: Any) -> float | int | None:
    number = value.item() if hasattr(value, "item") else value
    return number if isinstance(number, int) or math.isfinite(number) else None


class _Pair:
    """Two cubes, cropped, with the bands that are compared."""

    def __init__(self, out: xr.DataArray, truth: xr.DataArray, crop: int | tuple[int, int], device: Any) -> None:
        first, last = (crop, crop) if isinstance(crop, (int, Integral)) else (crop[0], crop[-1])
        rows, cols = (truth.sizes[d] - first - last for d in ("y", "x"))
        if first < 0 or last < 0:
            raise BadSettings(f"got crop={crop}, expected pixels from 0")
        if min(rows, cols) < 1:
            raise BadSettings(
                f"got crop={crop} for an image of {truth.sizes['y']} x {truth.sizes['x']} pixels: nothing would be left"
            )
        window = {"y": slice(first, first + rows), "x": slice(first, first + cols)}
        self.out, self.truth = out.isel(window), truth.isel(window)
        self.rows, self.cols, self.device = rows, cols, device
        self.index = np.arange(truth.sizes["band"])
        self.skipped = 0

    def read(self, rows: slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Output, truth (zero where nodata) and where both are valid, of some rows."""
        import torch

        pair = [_values(cube.isel(y=rows), self.index) for cube in (self.out, self.truth)]
        valid = np.isfinite(pair[0]).all(0) & np.isfinite(pair[1]).all(0)
        images = [torch.from_numpy(np.where(valid, p, 0)).to(self.device) for p in pair]
        return images[0], images[1], torch.from_numpy(valid).to(self.device)

    def strips(self, align: int = 1) -> list[slice]:
        """Runs of rows; the last one is never shorter than `align` where there are more."""
        bytes_a_row = self.cols * len(self.index) * 8 * 4
        step = max(1, STRIP_BYTES // bytes_a_row)
        step = max(align, step // align * align)
        starts = list(range(0, self.rows, step))
        if len(starts) > 1 and self.rows - starts[-1] < align:
            starts.pop()
        ends = [*starts[1:], self.rows]
        return [slice(a, b) for a, b in zip(starts, ends, strict=True)]

    def drop_empty(self) -> list[str]:
        """Leave out bands that are wholly nodata in either cube."""
        seen = [np.zeros(len(self.index), dtype=bool) for _ in range(2)]
        for rows in self.strips():
            for which, cube in enumerate((self.out, self.truth)):
                todo = np.flatnonzero(~seen[which])
                if todo.size:
                    values = _values(cube.isel(y=rows), todo)
                    seen[which][todo] = np.isfinite(values).any((1, 2))
        kept = seen[0] & seen[1]
        if not kept.any():
            raise BadInput("no band has values in both cubes: nothing to compare")
        self.index = np.flatnonzero(kept)
        lost = int((~kept).sum())
        return [f"{lost} of {kept.size} bands that are empty in the output or the truth"] if lost else []

    def limits(self) -> tuple[float, float]:
        """Smallest and largest valid value of the truth."""
        low, high = math.inf, -math.inf
        for rows in self.strips():
            values = _values(self.truth.isel(y=rows), self.index)
            if np.isfinite(values).any():
                low, high = min(low, float(np.nanmin(values))), max(high, float(np.nanmax(values)))
        return low, high

    def stream(self, metrics: list[Metric], progress: Progress) -> None:
        """Feed all strips to all metrics."""
        align = math.lcm(*(m.align for m in metrics))
        context = max(m.context for m in metrics)
        strips = self.strips(align)
        for number, rows in enumerate(strips):
            end = min(rows.stop + context, self.rows)
            out, truth, valid = self.read(slice(rows.start, end))
            core = rows.stop - rows.start
            self.skipped += int((~valid[:core]).sum())
            for metric in metrics:
                used = min(core + metric.context, end - rows.start)
                metric.update(out[:, :used], truth[:, :used], valid[:used], context=used - core)
            progress(Step("score", (number + 1) / len(strips)))


def _values(cube: xr.DataArray, bands: np.ndarray) -> np.ndarray:
    """Some bands as float64, NaN where nodata or infinite."""
    whole = bands.size == cube.sizes["band"]
    stored = (cube if whole else cube.isel(band=bands)).values
    packing = cube.attrs.get("packing")
    nodata = packing.get("nodata") if packing else cube.attrs.get("nodata")
    values = stored.astype(np.float64)
    if stored.dtype.kind == "f":
        values[~np.isfinite(values)] = np.nan
    elif nodata is not None:
        values[stored == nodata] = np.nan
    if packing:
        count = cube.sizes["band"]
        scale, offset = (
            np.broadcast_to(np.asarray(packing[key], dtype=np.float64), (count,))[bands][:, None, None]
            for key in ("scale", "offset")
        )
        values = values * scale + offset
    return values


def _makers() -> Mapping[str, Callable[[float, float | None, float], Metric]]:
    from torchspectral import metrics as m

    return {
        "ERGAS": lambda ratio, given, span: m.ERGAS(ratio),
        "SAM": lambda ratio, given, span: m.SAM(),
        "Q2n": lambda ratio, given, span: m.Q2n(),
        "PSNR": lambda ratio, given, span: m.PSNR(given),
        "SSIM": lambda ratio, given, span: m.SSIM(given if given is not None else span),
        "UQI": lambda ratio, given, span: m.UQI(),
        "RMSE": lambda ratio, given, span: m.RMSE(),
        "MAE": lambda ratio, given, span: m.MAE(),
        "R2": lambda ratio, given, span: m.R2(),
    }


def _make(metric: str | Metric, ratio: float, given: float | None, span: float) -> Metric:
    if not isinstance(metric, str):
        return metric.reset()
    makers = _makers()
    known = {name.lower(): make for name, make in makers.items()}
    if metric.lower() not in known:
        raise UnknownName(f"no metric {metric!r}: {closest(metric.lower(), tuple(known))}")
    return known[metric.lower()](ratio, given, span)


def _needs_limits(wanted: Iterable[str | Metric], data_range: float | None) -> bool:
    return data_range is None and any(isinstance(m, str) and m.lower() == "ssim" for m in wanted)


def _check_bands(out: xr.DataArray, truth: xr.DataArray) -> None:
    if out.ndim != 3 or truth.ndim != 3:
        raise GridMismatch(f"got dims {out.dims} and {truth.dims}, expected (band, y, x) twice: pick one frame")
    if out.sizes["band"] != truth.sizes["band"]:
        raise BandMismatch(
            f"got {out.sizes['band']} bands to compare with {truth.sizes['band']}: pick the same bands of both"
        )
    gap = np.abs(np.asarray(out["wavelength"].values) - np.asarray(truth["wavelength"].values))
    if np.isfinite(gap).any() and float(np.nanmax(gap)) > 1.0:
        band = int(np.nanargmax(gap))
        raise BandMismatch(
            f"band {band + 1} lies {gap[band]:.1f} nm off the truth's, expected at most 1 nm: pick the same bands"
        )


def _check_grids(out: xr.DataArray, truth: xr.DataArray) -> None:
    """Sizes always; places where both say where they lie."""
    if out.shape[-2:] != truth.shape[-2:]:
        raise GridMismatch(
            f"got {out.shape[-2]} x {out.shape[-1]} pixels to compare with {truth.shape[-2]} x {truth.shape[-1]}: "
            "bring both to one grid first (geo.align)"
        )
    if not ("spatial_ref" in out.coords and "spatial_ref" in truth.coords):
        return
    here, there = (cube["spatial_ref"].attrs for cube in (out, truth))
    if here.get("grid_kind") == "swath" or there.get("grid_kind") == "swath":
        return
    one, two = (attrs.get("crs_wkt") or attrs.get("spatial_ref") or "" for attrs in (here, there))
    if one != two and _other_crs(one, two):
        raise GridMismatch("the output and the truth have different CRS: bring both to one grid first (geo.align)")
    rotated = "rotated" in (here.get("grid_kind"), there.get("grid_kind"))
    moved = rotated and here.get("GeoTransform") != there.get("GeoTransform")
    for axis in ("y", "x"):
        a, b = (np.asarray(cube[axis].values, dtype=np.float64) for cube in (out, truth))
        pixel = abs(b[-1] - b[0]) / (b.size - 1) if b.size > 1 else np.inf
        off = float(np.abs(a - b).max()) / pixel
        if moved or off > NEAR:
            raise GridMismatch(
                f"the output lies {off:.2f} pixels off the truth in {axis}, expected at most {NEAR}: bring both to one "
                "grid first (geo.align)"
            )


def _other_crs(one: str, two: str) -> bool:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    if not one or not two:
        return True
    try:
        return bool(CRS.from_user_input(one) != CRS.from_user_input(two))
    except CRSError:
        return True


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split())[:120]
        raise BadSettings(f"got device={name!r}, expected auto, cpu or cuda[:n] ({said})") from None
    return device
