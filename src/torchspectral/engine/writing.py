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
from torchspectral.log import Progress, get_logger
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
        if raw is not None and dtype is None and _adoptable(value, path):
            from torchspectral.io.writers.envi import adopt

            raw.close()
            adopt(raw, value, path, overwrite=overwrite, report=report)
        elif isinstance(value, xr.DataArray) and kind != "table":
            options = {"dtype": dtype} if dtype and kind == "cube" and value.dtype.kind == "f" else {}
            save(value, path, overwrite=overwrite, report=report, progress=progress, **options)
        else:
            save(value, path, overwrite=overwrite, report=report, progress=progress)
        get_logger("engine").info("wrote %s", path)
        if isinstance(value, xr.DataArray) and kind in ("cube", "layers"):
            found[name] = _reopened(value, path, open_product)
        else:
            found[name] = load_written(value)
    return found


def _adoptable(value: Any, path: Path) -> bool:
    return isinstance(value, xr.DataArray) and value.ndim == 3 and is_envi(path) and grid_of(value).kind != "swath"


def _reopened(value: xr.DataArray, path: Path, open_product: Any) -> Any:
    opened = open_product(path)
    if isinstance(opened, xr.DataArray) and opened.name != value.name:
        opened = opened.rename(value.name)
    return opened
