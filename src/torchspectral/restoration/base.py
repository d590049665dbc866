"""Restoration: a cleaner cube on the same bands and the same grid, and an account of what was taken away.

Every method returns **cube** first. `compare` measures, band by band, what any method removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from torchspectral.cube import check_cube
from torchspectral.errors import BadCube, BadInput, BadSettings
from torchspectral.log import Progress, Step, no_progress
from torchspectral.result import Result

ROOM = "restoration"
STRIP_BYTES = 64 << 20


def restore(
    cube: xr.DataArray,
    *,
    method: str = "mnf",
    settings: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    state: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Restore a noisy scene.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Lazy cubes are streamed.
    method : str
        A card of the room, see ``methods("restoration")``.
    settings : mapping, optional
        Fields of the method's settings.
    weights : str or path, optional
        For methods that are trained; a name in the store or a file.
    state : mapping, optional
        What an earlier fit found; the scene is then not fitted.
    out : path, optional
        File for the cube, or folder (existing, or a name that ends in "/") for all values.
    **options
        Fields of `engine.RunOptions`.

    Returns
    -------
    Result
        ``cube``, further values of the method ("mnf": the table ``bands`` with noise and SNR before and after, and
        the root mean square of what was removed).

    Raises
    ------
    BadSettings, UnknownName, BadInput, MissingWeights, TooLarge

    Examples
    --------
    >>> import torchspectral as ts
    >>> clean = ts.restore(ts.open("scene.tif"), method="mnf", settings={"components": 12})  # doctest: +SKIP
    """
    from torchspectral import registry
    from torchspectral.engine import RunOptions, run

    card = registry.card(ROOM, method)
    known = dict(state) if state is not None else None
    if weights is not None:
        if known is not None:
            raise BadSettings("got weights and a state, expected one of them")
        from torchspectral.weights import load

        known = dict(load(weights).state)
    made = registry.create(ROOM, card.name, dict(settings or {}))
    missing = [key for key in getattr(made, "state_keys", ()) if known is not None and key not in known]
    if missing:
        raise BadInput(f"the state has no {', '.join(missing)}: expected what an earlier fit of {method} found")
    return run(
        made, {"cube": check_cube(cube)}, out=out, options=RunOptions.make(options), state=known, progress=progress
    )


def compare(before: xr.DataArray, after: xr.DataArray, *, progress: Progress = no_progress) -> pd.DataFrame:
    """Measure what a restoration removed from each band, streaming both cubes.

    Parameters
    ----------
    before, after : DataArray, dims (band, y, x)
        The same bands and pixels; NaN is left out.

    Returns
    -------
    DataFrame, one row a band
        ``band`` (1-based), ``wavelength`` [nm], ``pixels``, ``removed`` (root mean square of before - after),
        ``bias`` (mean of it), ``noise_before, noise_after`` (standard deviation from differences of neighbours
        across and along track), ``snr_before, snr_after`` [dB, mean square over noise variance],
        in the cube's units where no other is given.

    Raises
    ------
    BadCube
        The cubes differ in size.
    """
    before, after = check_cube(before, what="before"), check_cube(after, what="after")
    if before.shape != after.shape:
        raise BadCube(f"got cubes of shape {before.shape} and {after.shape}, expected the same bands and pixels")
    sums: dict[str, np.ndarray] = {}
    last: tuple[np.ndarray, np.ndarray] | None = None
    for share, one, two in _strips(before, after):
        _add(sums, _sums(one, two))
        _add(sums, _differences(one, two, axis=2))
        _add(sums, _differences(one, two, axis=1))
        if last is not None:
            above = np.concatenate([last[0], one[:, :1]], axis=1)
            _add(sums, _differences(above, np.concatenate([last[1], two[:, :1]], axis=1), axis=1))
        last = one[:, -1:], two[:, -1:]
        progress(Step("compare", share))
    with np.errstate(invalid="ignore", divide="ignore"):
        n, pairs = sums["n"], sums["pairs"]
        noise = {key: np.sqrt(sums[f"gap_{key}"] / pairs / 2) for key in ("before", "after")}
        snr = {key: 10 * np.log10(sums[f"square_{key}"] / n / noise[key] ** 2) for key in noise}
        return pd.DataFrame(
            {
                "band": before["number"].values,
                "wavelength": before["wavelength"].values,
                "pixels": n.astype(np.int64),
                "removed": np.sqrt(sums["difference_square"] / n),
                "bias": sums["difference"] / n,
                "noise_before": noise["before"],
                "noise_after": noise["after"],
                "snr_before": snr["before"],
                "snr_after": snr["after"],
            }
        )


def _strips(before: xr.DataArray, after: xr.DataArray) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Share done and the two cubes in float64, a strip of rows at a time."""
    bands, rows, cols = before.shape
    height = max(1, STRIP_BYTES // (bands * cols * 8))
    for top in range(0, rows, height):
        strip = slice(top, top + height)
        yield min(1.0, (top + height) / rows), _values(before[:, strip]), _values(after[:, strip])


def _values(cube: xr.DataArray) -> np.ndarray:
    values = np.asarray(cube.values)
    nodata = cube.attrs.get("nodata")
    out = values.astype(np.float64)
    if nodata is not None and values.dtype.kind in "iu":
        out[values == nodata] = np.nan
    return out


def _sums(one: np.ndarray, two: np.ndarray) -> dict[str, np.ndarray]:
    valid = np.isfinite(one) & np.isfinite(two)
    difference = np.where(valid, one - two, 0)
    return {
        "n": valid.sum((1, 2)),
        "difference": difference.sum((1, 2)),
        "difference_square": (difference**2).sum((1, 2)),
        "square_before": (np.where(valid, one, 0) ** 2).sum((1, 2)),
        "square_after": (np.where(valid, two, 0) ** 2).sum((1, 2)),
    }


def _differences(one: np.ndarray, two: np.ndarray, axis: int) -> dict[str, np.ndarray]:
    first, second = np.diff(one, axis=axis), np.diff(two, axis=axis)
    valid = np.isfinite(first) & np.isfinite(second)
    return {
        "pairs": valid.sum((1, 2)),
        "gap_before": (np.where(valid, first, 0) ** 2).sum((1, 2)),
        "gap_after": (np.where(valid, second, 0) ** 2).sum((1, 2)),
    }


def _add(sums: dict[str, np.ndarray], more: Mapping[str, np.ndarray]) -> None:
    for key, values in more.items():
        sums[key] = sums[key] + values if key in sums else values
