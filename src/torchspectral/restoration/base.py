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
from torchspectral.errors import BadCube, BadInput, BadSettings, BadWeights
from torchspectral.log import Progress, Step, no_progress
from torchspectral.result import Result

ROOM = "restoration"
STRIP_BYTES = 64 << 20


def restore(
    cube: xr.DataArray,
    *,
    method: str | None = None,
    settings: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    state: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    residual: Path | str | None = None,
    weak_target: Any = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Restore a noisy scene; without a method, nothing about its noise need be known.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Lazy cubes are streamed.
    method : str, optional
        A card of the room, see ``methods("restoration")``. By default "fast-eigen", which estimates the noise and takes
        its robust form where outliers, stripes or dead columns stand out; "wavelet" where there are too few bands or
        pixels to tell signal from noise across bands. The report says what was chosen and why.
    settings : mapping, optional
        Fields of the method's settings.
    weights : str or path, optional
        For methods that are trained; a name in the store or a file.
    state : mapping, optional
        What an earlier fit found; the scene is then not fitted.
    out : path, optional
        File for the cube, or folder (existing, or a name that ends in "/") for all values.
    residual : path, optional
        File for what was removed, before less after.
    weak_target : bool or array_like of shape (band,), optional
        Test how much of a rare, weak target survives (True: of a narrow feature; else of this spectrum): the report
        says which share of its matched-filter SNR is kept, and warns below 80 %.
    **options
        Fields of `engine.RunOptions`.

    Returns
    -------
    Result
        ``cube`` and further values of the method ("mnf": the table ``bands`` with noise and SNR before and after, and
        the root mean square of what was removed). Without a method, or with `residual`, also ``account``, the table of
        `compare`, and in the report the mean spectral angle between before and after and the bands that changed.

    Raises
    ------
    BadSettings, UnknownName, BadInput, MissingWeights, TooLarge

    Examples
    --------
    >>> import torchspectral as ts
    >>> clean = ts.restore(ts.open("scene.tif"), residual="removed.tif")  # doctest: +SKIP
    """
    from torchspectral import registry
    from torchspectral.engine import RunOptions, run

    cube = check_cube(cube)
    reasons: list[str] = []
    blind = method is None
    if method is None:
        method, reasons = choose(cube, options.get("bands", "good"))
    card = registry.card(ROOM, method)
    cube, values, notes = check_cube(cube), dict(settings or {}), list[str]()
    known: Any = dict(state) if state is not None else None
    if weights is not None and known is not None:
        raise BadSettings("got weights and a state, expected one of them")
    if "weights" in card.needs and known is None:
        known, cube, values, notes = _trained(card, weights, cube, values, options)
    elif weights is not None:
        from torchspectral.weights import load

        known = dict(load(weights).state)
    made = registry.create(ROOM, card.name, values)
    missing = [key for key in getattr(made, "state_keys", ()) if known is not None and key not in known]
    if missing:
        raise BadInput(f"the state has no {', '.join(missing)}: expected what an earlier fit of {method} found")
    result = run(made, {"cube": cube}, out=out, options=RunOptions.make(options), state=known, progress=progress)
    result.report.resampled += notes
    result.report.notes += reasons
    if blind and result.report.figures.get("robust"):
        result.report.notes.append("outliers, stripes or dead columns stand out: the robust form was taken")
    _add_account(result, cube, made, known, blind, residual, weak_target, options, progress)
    return result


def choose(cube: xr.DataArray, bands: Any = "good") -> tuple[str, list[str]]:
    """Method for a scene of which nothing is known, and why."""
    count = cube.sizes["band"]
    if bands == "good" and "good" in cube.coords:
        count = int(cube["good"].values.sum())
    elif not isinstance(bands, str):
        count = len(bands)
    pixels = cube.sizes["y"] * cube.sizes["x"]
    if count < 3 or pixels < 2 * count:
        return "wavelet", [
            f"wavelet was chosen: {count} bands and {pixels} pixels are too few to tell signal from noise across bands"
        ]
    return "fast-eigen", [f"fast-eigen was chosen: {count} bands tell the noise of each other, whatever its level"]


def _add_account(
    result: Result,
    cube: xr.DataArray,
    made: Any,
    known: Any,
    blind: bool,
    residual: Path | str | None,
    weak_target: Any,
    options: Mapping[str, Any],
    progress: Progress,
) -> None:
    from torchspectral.engine import RunOptions, run

    if not blind and residual is None and weak_target is None:
        return
    from torchspectral.restoration import account

    table, figures = account.account(cube, result["cube"], progress=progress)
    result.values_by_name["account"] = table
    if residual is not None:
        from torchspectral.io import save

        made_file = save(account.residual(cube, result["cube"]), residual, overwrite=bool(options.get("overwrite")))
        result.paths["residual"] = str(made_file)
    if weak_target is not None and weak_target is not False:
        same = {k: v for k, v in options.items() if k in ("bands", "seed", "device")}

        def again(part: xr.DataArray) -> xr.DataArray:
            fresh = type(made)(made.settings)
            return run(fresh, {"cube": part}, options=RunOptions.make(same), state=known)["cube"]

        spectrum = None if weak_target is True else weak_target
        figures |= account.weak_target(cube, again, spectrum=spectrum, seed=int(options.get("seed", 0)))
    result.report.figures.update(figures)
    result.report.notes += account.notes_of(figures)


def _trained(
    card: Any, weights: str | Path | None, cube: xr.DataArray, settings: dict[str, Any], options: Mapping[str, Any]
) -> tuple[Any, xr.DataArray, dict[str, Any], list[str]]:
    """Weights for a scene; the settings that they decide, where the user said nothing else; what was resampled."""
    from dataclasses import replace

    from torchspectral.engine.trained import trained
    from torchspectral.registry import load_target
    from torchspectral.weights.files import strip_prefixes

    target = load_target(card.target)
    loaded, cube, notes = trained(card, weights, cube, options, any_bands=getattr(target, "any_bands", False))
    if getattr(target, "marker", ()):
        loaded = replace(loaded, state=strip_prefixes(loaded.state, dict.fromkeys(target.marker)))
    decided = target.settings_of(loaded.state) if hasattr(target, "settings_of") else {}
    if loaded.card.scale.rule == "fixed" and "range" in target.Settings.model_fields and "range" not in settings:
        gain, offset = loaded.card.scale.gain, loaded.card.scale.offset
        if isinstance(gain, list) or isinstance(offset, list):
            raise BadWeights(
                f"weights {loaded.card.name}: {card.name} works with one range of values, the card has one a band"
            )
        decided |= {"range": "fixed", "low": offset, "high": offset + gain}
    if loaded.card.noise is not None:
        loaded = replace(loaded, state={**loaded.state, "noise_range": list(loaded.card.noise)})
    return loaded, cube, {**decided, **settings}, notes


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
    for share, one, two in strips(before, after):
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


def strip_of(cube: xr.DataArray) -> Iterator[slice]:
    """Rows of a cube, a strip that fits into `STRIP_BYTES` at a time."""
    bands, rows, cols = cube.shape
    height = max(1, STRIP_BYTES // (bands * cols * 8))
    for top in range(0, rows, height):
        yield slice(top, min(top + height, rows))


def strips(before: xr.DataArray, after: xr.DataArray) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Share done and the two cubes in float64, a strip of rows at a time."""
    rows = before.sizes["y"]
    for strip in strip_of(before):
        yield strip.stop / rows, values_of(before[:, strip]), values_of(after[:, strip])


def values_of(cube: xr.DataArray) -> np.ndarray:
    """Values in float64, NaN for nodata."""
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
