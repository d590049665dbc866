"""`calibrate_gain`: relative gains from scenes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.calibration.base import check_lines, pick
from torchspectral.calibration.gain.files import check_path, record_path, write_gains
from torchspectral.calibration.gain.settings import METHODS
from torchspectral.calibration.gain.task import Task
from torchspectral.calibration.gain.tools import TOOLS, unknown
from torchspectral.calibration.references import ceiling_of, frame_of
from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch, OutputExists
from torchspectral.log import Progress, no_progress
from torchspectral.result import Report, Result

KEPT = ("sensor", "platform", "serial", "product", "acquired", "integration_time", "quantity")


def calibrate_gain(
    scenes: xr.DataArray | Sequence[xr.DataArray],
    *,
    method: str = "overlap",
    shifts: Sequence[tuple[int, int]] | None = None,
    dark: xr.DataArray | float | None = None,
    library: xr.DataArray | None = None,
    bands: str | Sequence[int] = "good",
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
    out: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Result:
    """Find relative gains of detectors or bands from the scenes themselves.

    Parameters
    ----------
    scenes : DataArray or sequence of them, dims (band, y, x)
        Lines in sensor geometry, one column a detector; streamed. Nodata and masked pixels (see `io.masks.apply_mask`:
        clouds, water) are left out, saturated ones too.
    method : str
        "overlap": gains of every detector and band from ground that several detectors saw, in lines that overlap with
        shifts across track. "spectral": one gain a band, from a library of spectra that the scene is made of. "flat":
        column gains on homogeneous targets. Baselines: "moments", "histogram", "polynomial".
    shifts : sequence of (int, int), optional
        Of "overlap": cell (along, across) of each line's first pixel, in pixels; else from the georeference.
    dark : DataArray, shape (bands, lines, x), or float, optional
        Dark frames, averaged over their lines, or a level; taken off first and folded into the offsets.
    library : DataArray, dims (spectrum, band), optional
        Of "spectral"; resampled to the bands by their response.
    bands : {"good", "all"} or sequence of int
        Others get NaN.
    settings : mapping, optional
        Fields of the method's settings: `gain.settings`.
    device : str
        Where forms of thousands of detectors are solved: auto, cpu, cuda or cuda:N.
    out : path, optional
        .csv, .npz or .hdr; a JSON record stands beside it.

    Returns
    -------
    Result
        ``gains`` (`Gains`): calibrated = gain * raw + offset. The report tells links, errors and held-out residuals.

    Raises
    ------
    BadInput
        Gains that the data cannot determine: one line, detectors in unconnected groups, no ripple, no homogeneous
        target, or gains that do not lower the residual on held-out data.
    BadSettings, BandMismatch, GridMismatch, OutputExists

    References
    ----------
    Ling and Strohmer, "Self-Calibration and Bilinear Inverse Problems via Linear Least Squares", SIAM J. Imaging
    Sciences 11(1), 2018.

    Examples
    --------
    >>> import torchspectral as ts
    >>> lines = [ts.open("line1.hdr"), ts.open("line2.hdr")]  # doctest: +SKIP
    >>> found = ts.calibrate_gain(lines, shifts=[(0, 0), (0, 7)], out="gains.csv")  # doctest: +SKIP
    >>> ts.apply_gains(lines[0], found["gains"], out="line1_clean.tif")  # doctest: +SKIP
    """
    if method not in TOOLS:
        raise unknown(method)
    chosen: Any = METHODS[method].make(settings or {})
    if shifts is not None and method != "overlap":
        raise BadSettings(f"got shifts with method {method}, expected them with overlap alone")
    if library is not None and method != "spectral":
        raise BadSettings(f"got a library with method {method}, expected it with spectral alone")
    path = check_path(out, overwrite=overwrite) if out is not None else None
    _refuse_taken(path, overwrite)
    from torchspectral.engine.device import parse_device

    device = str(parse_device(device))
    started = time.perf_counter()
    cubes = check_lines(scenes)
    report = Report(method="gain", options={"method": method}, settings=chosen.model_dump(), device=device)
    report.inputs = {f"line {n}": _name(cube) for n, cube in enumerate(cubes, 1)}
    used = pick(cubes[0], bands)
    # Checked before anything is read: gains of nothing cost a pass.
    ceiling = chosen.saturation
    if ceiling is None:
        ceilings = [c for c in map(ceiling_of, cubes) if c is not None]
        ceiling = min(ceilings) if ceilings else None
    task = Task(
        cubes,
        used,
        chosen,
        _dark(dark, cubes[0], used),
        ceiling,
        shifts,
        _library(library, cubes[0], used),
        device,
        progress,
    )
    gains = TOOLS[method](task)
    if not np.isfinite(gains.gain).any():
        raise BadInput("no gains written: no detector has a usable signal in any band: are all values zero or nodata?")
    if not (gains.gain[np.isfinite(gains.gain)] > 0).all():
        raise BadInput("no gains written: some are not above 0; is the dark level above the signal?")
    gains.record.update(
        {
            "method": method,
            "settings": chosen.model_dump(),
            "lines": [_facts(cube) for cube in cubes],
            "ceiling": ceiling,
            "dark": "taken off: in the offsets" if dark is not None else None,
            "notes": task.notes,
        }
    )
    if shifts is not None:
        gains.record["shifts"] = [[int(v) for v in s] for s in shifts]
    report.notes = list(task.notes)
    report.figures = _figures(gains.gain, gains.record)
    report.seconds["total"] = round(time.perf_counter() - started, 3)
    result = Result({"gains": gains}, report)
    if path is not None:
        write_gains(gains, path, overwrite=overwrite)
        _write_run(report, path)
        result.paths = {"gains": str(path), "record": str(record_path(path))}
    return result


def _refuse_taken(path: Path | None, overwrite: bool) -> None:
    if path is None:
        return
    if not path.parent.is_dir():
        from torchspectral.errors import OutputFailed

        raise OutputFailed(f"the folder {path.parent} does not exist: make it first")
    if path.is_dir() and not overwrite:
        raise OutputExists(f"{path} is a folder, expected the name of a file")


def _write_run(report: Report, path: Path) -> None:
    import torchspectral
    from torchspectral.io.writers.run_yaml import run_path, write_run

    report.version = torchspectral.__version__
    file = run_path(path)
    part = file.with_name(f".{file.name}.partial")
    write_run(part, report, path)
    part.replace(file)


def _dark(dark: Any, cube: xr.DataArray, used: np.ndarray) -> np.ndarray | None:
    if dark is None:
        return None
    if isinstance(dark, xr.DataArray):
        mean = frame_of(dark).mean
        if len(mean) != cube.sizes["band"]:
            raise BandMismatch(
                f"the dark frames have {len(mean)} bands, the lines {cube.sizes['band']}: expected as many"
            )
        if mean.shape[1] not in (1, cube.sizes["x"]):
            raise GridMismatch(f"the dark frames have {mean.shape[1]} columns, the lines {cube.sizes['x']}")
        found: np.ndarray = mean[used]
        return found
    level = float(dark)
    if not np.isfinite(level):
        raise BadSettings(f"got dark={dark}, expected a finite level or dark frames")
    return np.full((len(used), 1), level)


def _library(library: xr.DataArray | None, cube: xr.DataArray, used: np.ndarray) -> np.ndarray | None:
    if library is None:
        return None
    if not isinstance(library, xr.DataArray) or library.dims != ("spectrum", "band"):
        raise BadInput("got no spectra as library, expected a DataArray with dims (spectrum, band): see make_spectra")
    target = cube.isel(band=used)
    if library.sizes["band"] == target.sizes["band"] and _same(library, target):
        values = np.asarray(library.values, dtype=np.float64)
    else:
        from torchspectral.spectra import resample

        values = np.asarray(resample(library, target).values, dtype=np.float64)
    short = ~np.isfinite(values).all(0)
    if short.any():
        at = target["wavelength"].values[short]
        raise BandMismatch(
            f"the library does not cover {int(short.sum())} of {len(used)} bands ({at.min():.0f} to {at.max():.0f} nm): "
            "choose bands that it covers, or another library"
        )
    return values


def _same(library: xr.DataArray, target: xr.DataArray) -> bool:
    one = library["wavelength"].values if "wavelength" in library.coords else np.full(library.sizes["band"], np.nan)
    other = target["wavelength"].values
    return bool(
        np.isnan(one).all() or np.isnan(other).all() or np.allclose(one, other, atol=0.5, rtol=0, equal_nan=True)
    )


def _name(cube: xr.DataArray) -> str:
    source = cube.attrs.get("source") or []
    return str(source[0]) if source else f"array of shape {tuple(cube.shape)}"


def _facts(cube: xr.DataArray) -> dict[str, Any]:
    known = {k: cube.attrs[k] for k in KEPT if cube.attrs.get(k) not in (None, "")}
    return {"input": _name(cube), "lines": [1, int(cube.sizes["y"])], "detectors": int(cube.sizes["x"]), **known}


def _figures(gain: np.ndarray, record: Mapping[str, Any]) -> dict[str, Any]:
    per_band = record.get("bands") or []
    figures: dict[str, Any] = {
        "bands": int(np.isfinite(gain).any(1).sum()),
        "detectors": int(gain.shape[1]),
        "without_gain": int(np.isnan(gain).sum()),
        "spread": float(f"{float(np.nanstd(gain)):.6g}"),
    }
    for key in ("spectral_gap", "standard_error", "held_out_before", "held_out_after"):
        known = [b[key] for b in per_band if b.get(key) is not None] or (
            [record[key]] if record.get(key) is not None else []
        )
        if known:
            figures[key] = min(known) if key == "spectral_gap" else float(f"{float(np.median(known)):.6g}")
    for key in ("k", "ridge", "undetermined_directions"):
        if key in record:
            figures[key] = record[key]
    return figures
