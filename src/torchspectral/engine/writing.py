"""Values into files: each appears under its name when it is complete, scratch files are adopted where they can be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from torchspectral.engine.paths import Paths, is_envi
from torchspectral.engine.scratch import FileScratch
from torchspectral.geo import grid_of
from torchspectral.io.raw import output_failed
from torchspectral.log import Progress, Step, get_logger
from torchspectral.result import Report


def load_written(value: Any) -> Any:
    """The value in memory."""
    return value.load() if isinstance(value, xr.DataArray) else value


def write_values(
    made: Mapping[str, Any],
    paths: Paths,
    kinds: Mapping[str, str],
    scratch: Mapping[str, FileScratch],
    *,
    dtype: str | None,
    overwrite: bool,
    report: Report,
    progress: Progress,
) -> dict[str, Any]:
    """Write each value that has a file, and open what was written.

    Parameters
    ----------
    scratch : dict of name to FileScratch
        Values that are scratch files as they stand: an ENVI product takes the file over without a copy.

    Returns
    -------
    dict
        Rasters and spectra lazily opened from their files, tables as they are, values without a file in memory.

    Raises
    ------
    OutputFailed, OutputExists
    """
    from torchspectral.io import open_product, save

    found: dict[str, Any] = {}
    for name, value in made.items():
        path = paths.files.get(name)
        if path is None:
            found[name] = load_written(value)
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_failed(path, error) from error
        kind = kinds.get(name, "")
        raw = scratch.get(name)
        if raw is not None and dtype is None and _adoptable(value, raw, path):
            from torchspectral.io.writers.envi import adopt

            raw.close()
            adopt(raw, value, path, overwrite=overwrite, report=report)
        elif isinstance(value, xr.DataArray) and "time" in value.dims:
            found[name] = _write_frames(value, path, dtype, overwrite=overwrite, report=report, progress=progress)
            continue
        elif isinstance(value, xr.DataArray):
            options: dict[str, Any] = {"dtype": dtype} if dtype and kind == "cube" and value.dtype.kind == "f" else {}
            if raw is not None:
                raw.close()
                options["raw"] = raw
            save(value, path, overwrite=overwrite, report=report, progress=progress, **options)
        else:
            save(value, path, overwrite=overwrite, report=report, progress=progress)
        get_logger("engine").info("wrote %s", path)
        if isinstance(value, xr.DataArray) and kind in ("cube", "layers"):
            found[name] = _reopened(value, path, open_product)
        else:
            found[name] = load_written(value)
    return found


def frame_path(path: Path, number: int) -> Path:
    """File of one frame of a video, counted from 1."""
    return path.with_name(f"{path.stem}-{number:05d}{path.suffix}")


def _write_frames(
    video: xr.DataArray, path: Path, dtype: str | None, *, overwrite: bool, report: Report, progress: Progress
) -> xr.DataArray:
    """One file a frame: no raster format keeps a video of cubes."""
    from torchspectral.engine.values import stacked
    from torchspectral.io import open_product, save

    opened = []
    count = video.sizes["time"]
    options = {"dtype": dtype} if dtype and video.dtype.kind == "f" and "band" in video.dims else {}
    for n in range(count):
        frame = video.isel(time=n)
        frame = frame.drop_vars([c for c in frame.coords if c == "time"])
        file = frame_path(path, n + 1)
        save(frame, file, overwrite=overwrite, report=report if n == 0 else None, **options)
        opened.append(open_product(file))
        progress(Step("write", (n + 1) / count))
    report.notes.append(
        f"{video.name}: {count} frames in files {frame_path(path, 1).name} to {frame_path(path, count).name}"
    )
    return stacked(opened, video)


def _adoptable(value: Any, raw: FileScratch, path: Path) -> bool:
    """Whether the scratch file is the data file of the output: a .bil or .bip name promises another order."""
    if not isinstance(value, xr.DataArray) or not is_envi(path) or grid_of(value).kind == "swath":
        return False
    return path.suffix.lower() not in (".bsq", ".bil", ".bip") or path.suffix.lower()[1:] == raw.interleave


def _reopened(value: xr.DataArray, path: Path, open_product: Any) -> Any:
    opened = open_product(path)
    if isinstance(opened, xr.DataArray) and opened.name != value.name:
        opened = opened.rename(value.name)
    return opened
