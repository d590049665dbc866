"""The record of a labelling: every choice, so that the label set can be made again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.result import Result

NAME = "labels.json"
MOST_PIXELS = 100_000
"""Labelled pixels that the record lists; of more it keeps counts and a checksum of the label map."""

STRIP = 256


def label_record(
    result: Result, cube: xr.DataArray, *, labels: xr.DataArray | None, library: xr.DataArray | None, bands: Any
) -> dict[str, Any]:
    """Every choice behind a label set, and the figures that it is judged by, as plain values.

    Parameters
    ----------
    result : Result
        Of the method ``label``.
    cube : DataArray, dims (band, y, x)
    labels : DataArray (y, x), optional
        The drawn areas: each labelled pixel is listed by row and column, from 0.
    library : DataArray (spectrum, band), optional
        The spectra that were given.
    bands : "good", "all" or sequence
        As asked for.
    """
    spectra, report = result["endmembers"], result.report
    chosen: dict[str, Any] = {"from": "areas" if labels is not None else "spectra"}
    source = labels if labels is not None else library
    if source is not None:
        chosen["source"] = [str(s) for s in _list(source.attrs.get("source"))]
        chosen["history"] = [str(s) for s in _list(source.attrs.get("history"))]
    if labels is not None:
        chosen |= _pixels(np.asarray(labels.values), [str(n) for n in labels.attrs.get("class_names", [])])
    values = np.asarray(spectra.values, dtype=np.float64)
    wavelength = np.asarray(spectra["wavelength"].values, dtype=np.float64)
    return {
        "what": "label set for unmixing",
        "version": report.version,
        "scene": {
            "source": [str(s) for s in _list(cube.attrs.get("source"))],
            "shape": list(cube.shape),
            "quantity": str(cube.attrs.get("quantity", "")),
            "bands": bands if isinstance(bands, str) else [int(b) for b in bands],
        },
        "method": report.method,
        "settings": report.settings,
        "seed": report.seed,
        "counts": report.figures.get("counts", {}),
        "endmembers": {
            **chosen,
            "names": [str(n) for n in spectra["spectrum"].values],
            "wavelength_nm": _plain(wavelength),
            "values": _plain(values),
            "spread": _plain(np.asarray(result["spread"].values, dtype=np.float64)),
            "pixels_of_class": report.figures.get("pixels", {}),
        },
        "checks": {
            "condition_number": report.figures.get("condition_number"),
            "angles_rad": {
                k: [str(x) if k == "endmember" else float(x) for x in v] for k, v in result["angles"].items()
            },
            "nearest_in_library": report.figures.get("names", {}),
            "rmse": _mean(result["rmse"]),
            "warnings": report.notes,
        },
    }


def write_record(folder: Path, record: dict[str, Any]) -> Path:
    """Write a record as ``labels.json``.

    Raises
    ------
    OutputFailed
    """
    from torchspectral.report.files import write_whole

    # A line for each part, so that people can find their way and spectra do not fill thousands of lines.
    lines = [f" {json.dumps(key)}: {json.dumps(value, default=str)}" for key, value in record.items()]
    return write_whole(folder / NAME, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def _mean(rmse: xr.DataArray) -> float | None:
    """Root mean square over all pixels, read in strips."""
    squares, count = 0.0, 0
    for top in range(0, rmse.sizes["y"], STRIP):
        values = np.asarray(rmse.isel(y=slice(top, top + STRIP)).values, dtype=np.float64)
        known = values[np.isfinite(values)]
        squares, count = squares + float((known**2).sum()), count + known.size
    return float(np.sqrt(squares / count)) if count else None


def _pixels(values: np.ndarray, names: list[str]) -> dict[str, Any]:
    plane = values.reshape(values.shape[-2:])
    found: dict[str, Any] = {"checksum": hashlib.sha256(plane.astype("<i4").tobytes()).hexdigest()}
    rows, cols = np.nonzero(plane > 0)
    if rows.size > MOST_PIXELS:
        return found | {"labelled_pixels": int(rows.size)}
    classes = plane[rows, cols]
    listed = {
        (names[c] if c < len(names) else f"class {c}"): np.stack([rows, cols], axis=1)[classes == c].tolist()
        for c in np.unique(classes).tolist()
    }
    return found | {"pixels_row_col": listed}


def _plain(values: np.ndarray) -> Any:
    """Nested lists with null for NaN, enough digits for float32."""
    if values.ndim > 1:
        return [_plain(v) for v in values]
    return [float(f"{v:.9g}") if np.isfinite(v) else None for v in values]


def _list(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)
