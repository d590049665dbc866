"""What a restoration took away: the residual as a cube, figures before and after, and a test with a weak target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from torchspectral.cube import check_cube
from torchspectral.errors import BadCube, BadInput
from torchspectral.io.statistics import values_of
from torchspectral.log import Progress, Step, no_progress
from torchspectral.restoration.base import strips

KEPT = 0.8
"""Least share of a weak target's matched-filter SNR that a restoration should keep."""
WINDOW = 96
CACHE_BYTES = 1 << 20
"""Of some bands of a strip in float64."""
CHANGED = 1e-6
"""Removed part, relative to a band's mean square, above which the band counts as changed."""


class _Difference(BackendArray):
    """Before less after, read where it is asked for."""

    def __init__(self, before: xr.DataArray, after: xr.DataArray) -> None:
        self.before, self.after = before, after
        self.shape, self.dtype = before.shape, np.dtype("float32")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        return (values_of(self.before[key]) - values_of(self.after[key])).astype(np.float32)


def residual(before: xr.DataArray, after: xr.DataArray) -> xr.DataArray:
    """What was removed, before less after, as a lazy cube in the units of the scene.

    Parameters
    ----------
    before, after : DataArray, dims (band, y, x)
        The same bands and pixels.
    """
    lazy = xr.Variable(before.dims, indexing.LazilyIndexedArray(_Difference(before, after)))
    attrs = {k: v for k, v in after.attrs.items() if k not in ("nodata", "packing")}
    return xr.DataArray(lazy, coords=after.coords, attrs=attrs, name="residual")


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
        ``bias`` (mean of it), ``noise_before, noise_after`` (standard deviation by Immerkaer's mask, which planes and
        straight edges do not raise, but detail of single pixels does: an upper bound), ``snr_before, snr_after``
        [dB, mean square over noise variance: a lower bound], ``likeness``
        (correlation of neighbours in the removed part: near 0 for noise, large where the scene shows in it) and ``edges``
        (correlation of its size with the gradient of the restored band), in the cube's units where no other is given.

    Raises
    ------
    BadCube
        The cubes differ in size.

    References
    ----------
    Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64(2), 1996.
    """
    return account(before, after, progress=progress)[0]


def account(
    before: xr.DataArray, after: xr.DataArray, *, progress: Progress = no_progress
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Figures of each band and of the whole scene, from one pass over both cubes.

    Parameters
    ----------
    before, after : DataArray, dims (band, y, x)

    Returns
    -------
    table : DataFrame
        See `compare`.
    figures : dict
        ``bands_changed`` (numbers, 1-based), ``median_snr_before, median_snr_after`` [dB], ``median_likeness,
        median_edges``, ``sam`` (mean spectral angle between before and after [degrees]), and ``account``: of each band
        its number, what was removed and the SNR before and after.

    Raises
    ------
    BadCube
        The cubes differ in size.
    """
    before, after = check_cube(before, what="before"), check_cube(after, what="after")
    if before.shape != after.shape:
        raise BadCube(f"got cubes of shape {before.shape} and {after.shape}, expected the same bands and pixels")
    sums: dict[str, Any] = {}
    last: tuple[np.ndarray, np.ndarray] | None = None
    for share, one, two in strips(before, after):
        above = (
            (one, two)
            if last is None
            else (np.concatenate(pair, axis=1) for pair in zip(last, (one, two), strict=True))
        )
        tall, restored = above
        _add(sums, _band_sums(tall, restored, tall.shape[1] - one.shape[1]))
        _add(sums, _angles(one, two))
        last = tall[:, -2:], restored[:, -2:]
        progress(Step("account", share))
    table = _table(before, sums)
    changed = sums["difference_square"] > CHANGED**2 * sums["square_before"]
    figures: dict[str, Any] = {"bands_changed": [int(b) for b in table["band"][changed]]}
    for key, digits in (("snr_before", 3), ("snr_after", 3), ("likeness", 4), ("edges", 4)):
        known = table[key][np.isfinite(table[key]) & changed] if key in ("likeness", "edges") else table[key]
        known = known[np.isfinite(known)]
        if len(known):
            figures[f"median_{key}"] = round(float(known.median()), digits)
    if sums["angles"]:
        figures["sam"] = round(float(np.degrees(sums["angle"] / sums["angles"])), 5)
    figures["account"] = {"band": [int(b) for b in table["band"]]} | {
        key: [float(f"{v:.4g}") if np.isfinite(v) else None for v in table[key]]
        for key in ("removed", "snr_before", "snr_after")
    }
    return table, figures


def _table(cube: xr.DataArray, sums: dict[str, Any]) -> pd.DataFrame:
    n, pairs = sums["n"], sums["pairs"]
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = {key: _noise(sums, key) for key in ("before", "after")}
        snr = {key: 10 * np.log10(sums[f"square_{key}"] / n / noise[key] ** 2) for key in noise}
        bias = sums["difference"] / n
        power = sums["difference_square"] / n - bias**2
        likeness = 1 - sums["gap_removed"] / pairs / (2 * np.where(power > 0, power, np.nan))
        k, size, slope = sums["edge_n"], sums["edge_size"], sums["edge_slope"]
        shared = sums["edge_both"] / k - size * slope / k**2
        spread = (sums["edge_size_square"] / k - (size / k) ** 2) * (sums["edge_slope_square"] / k - (slope / k) ** 2)
        edges = shared / np.sqrt(np.where(spread > 0, spread, np.nan))
    return pd.DataFrame(
        {
            "band": cube["number"].values,
            "wavelength": cube["wavelength"].values,
            "pixels": n.astype(np.int64),
            "removed": np.sqrt(np.where(n > 0, sums["difference_square"] / np.maximum(n, 1), np.nan)),
            "bias": bias,
            "noise_before": noise["before"],
            "noise_after": noise["after"],
            "snr_before": snr["before"],
            "snr_after": snr["after"],
            "likeness": likeness,
            "edges": edges,
        }
    )


def _band_sums(tall: np.ndarray, restored: np.ndarray, seen: int) -> dict[str, np.ndarray]:
    """All sums of each band over a strip below `seen` rows of the one before, some bands at a time: they stay in cache."""
    bands, rows, cols = tall.shape
    step = max(1, CACHE_BYTES // (8 * rows * cols))
    near = slice(max(seen - 1, 0), None)
    found: list[dict[str, np.ndarray]] = []
    for start in range(0, bands, step):
        one, two = tall[start : start + step], restored[start : start + step]
        across = _differences(one[:, seen:], two[:, seen:], axis=2)
        along = _differences(one[:, near], two[:, near], axis=1)
        part = {key: across[key] + along[key] for key in across}
        part |= _sums(one[:, seen:], two[:, seen:]) | _bends(one, two) | _edges(one[:, near], two[:, near])
        found.append(part)
    return {key: np.concatenate([part[key] for part in found]) for key in found[0]}


def _sums(one: np.ndarray, two: np.ndarray) -> dict[str, np.ndarray]:
    difference = one - two
    valid = np.isfinite(difference)
    difference = np.where(valid, difference, 0)
    return {
        "n": valid.sum((1, 2)),
        "difference": difference.sum((1, 2)),
        "difference_square": (difference**2).sum((1, 2)),
        "square_before": (np.where(valid, one, 0) ** 2).sum((1, 2)),
        "square_after": (np.where(valid, two, 0) ** 2).sum((1, 2)),
    }


def _differences(one: np.ndarray, two: np.ndarray, axis: int) -> dict[str, np.ndarray]:
    first, second = np.diff(one, axis=axis), np.diff(two, axis=axis)
    removed = first - second
    valid = np.isfinite(removed)
    return {
        "pairs": valid.sum((1, 2)),
        "gap_before": (np.where(valid, first, 0) ** 2).sum((1, 2)),
        "gap_after": (np.where(valid, second, 0) ** 2).sum((1, 2)),
        "gap_removed": (np.where(valid, removed, 0) ** 2).sum((1, 2)),
    }


def _bends(one: np.ndarray, two: np.ndarray) -> dict[str, np.ndarray]:
    """Sums of the size of second differences across of second differences along track."""
    first, second = (np.abs(np.diff(np.diff(x, 2, axis=2), 2, axis=1)) for x in (one, two))
    valid = np.isfinite(first) & np.isfinite(second)
    return {
        "bends": valid.sum((1, 2)),
        "bend_before": np.where(valid, first, 0).sum((1, 2)),
        "bend_after": np.where(valid, second, 0).sum((1, 2)),
    }


def _noise(sums: Mapping[str, Any], key: str) -> np.ndarray:
    """Standard deviation of the noise of each band; from differences of neighbours where a scene is too narrow."""
    found = np.sqrt(np.pi / 2) / 6 * sums[f"bend_{key}"] / sums["bends"]
    return np.where(sums["bends"] > 0, found, np.sqrt(sums[f"gap_{key}"] / sums["pairs"] / 2))


def _edges(one: np.ndarray, two: np.ndarray) -> dict[str, np.ndarray]:
    """Sums for the correlation of the size of what was removed with the gradient of what was left."""
    corner = two[:, :-1, :-1]
    down, right = two[:, 1:, :-1] - corner, two[:, :-1, 1:] - corner
    slope = np.sqrt(down * down + right * right)  # float64: no overflow, and a third of hypot's time
    size = np.abs(one[:, :-1, :-1] - corner)
    valid = np.isfinite(slope) & np.isfinite(size)
    slope, size = np.where(valid, slope, 0), np.where(valid, size, 0)
    return {
        "edge_n": valid.sum((1, 2)),
        "edge_size": size.sum((1, 2)),
        "edge_slope": slope.sum((1, 2)),
        "edge_both": (size * slope).sum((1, 2)),
        "edge_size_square": (size**2).sum((1, 2)),
        "edge_slope_square": (slope**2).sum((1, 2)),
    }


def _angles(one: np.ndarray, two: np.ndarray) -> dict[str, Any]:
    live = np.isfinite(one).any((1, 2)) & np.isfinite(two).any((1, 2))
    if not live.any():
        return {"angle": 0.0, "angles": 0}
    if not live.all():
        one, two = one[live], two[live]
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.einsum("byx,byx->yx", one, two)
        cosine /= np.sqrt(np.einsum("byx,byx->yx", one, one) * np.einsum("byx,byx->yx", two, two))
    angles = np.arccos(np.clip(cosine[np.isfinite(cosine)], -1, 1))
    return {"angle": float(angles.sum()), "angles": angles.size}


def _add(sums: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, values in more.items():
        sums[key] = sums[key] + values if key in sums else values


def weak_target(
    cube: xr.DataArray, restore: Callable[[xr.DataArray], xr.DataArray], *, spectrum: Any = None, seed: int = 0
) -> dict[str, float]:
    """How much of a rare, weak target a restoration keeps.

    A spectrum with a peak of three standard deviations of the noise is added to 1 % of the pixels of the scene's
    centre; the matched filter of the noisy pixels measures it there before and after.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
    restore : callable
        From a cube to its restored cube.
    spectrum : array_like, shape (band,), optional
        Shape of the target; by default a narrow feature at a random place.
    seed : int
        Of the places and the feature.

    Returns
    -------
    dict
        ``target_snr_before``, ``target_snr_after`` (mean response of the target over the deviation of the others) and
        ``target_kept`` (their ratio).

    Raises
    ------
    BadInput
        Too few valid pixels, or a spectrum of another length.

    References
    ----------
    Reed, Mallett and Brennan, "Rapid convergence rate in adaptive arrays", IEEE Trans. Aerospace Electron. Syst. 10(6),
    1974 (the filter).
    """
    from torchspectral.restoration.noise import regression

    rows, cols = cube.shape[1:]
    top, left = max(0, (rows - WINDOW) // 2), max(0, (cols - WINDOW) // 2)
    part = cube[:, top : top + WINDOW, left : left + WINDOW]
    values = values_of(part)
    live = np.isfinite(values).mean((1, 2)) > 0.5
    if "good" in part.coords:
        live &= part["good"].values.astype(bool)
    valid = np.isfinite(values[live]).all(0)
    if valid.sum() <= 2 * live.sum() or not live.any():
        raise BadInput(
            f"the centre of the scene has {int(valid.sum())} valid pixels of {int(live.sum())} bands, expected more than "
            "twice as many pixels as bands to test with a weak target"
        )
    pixels = values[live][:, valid]
    centred = pixels - pixels.mean(1, keepdims=True)
    spread = centred @ centred.T / pixels.shape[1]
    noise = regression(pixels.shape[1], spread)
    rng = np.random.default_rng(seed)
    if spectrum is None:
        place = rng.uniform(0.2, 0.8) * len(noise)
        shape = np.exp(-0.5 * ((np.arange(len(noise)) - place) / max(1.5, 0.03 * len(noise))) ** 2)
    else:
        shape = check_target(spectrum, len(live))
        shape = shape[live] / max(float(np.abs(shape[live] / np.maximum(noise, 1e-300)).max()), 1e-300)
        shape = shape / np.maximum(noise, 1e-300)
    target = 3 * noise * shape
    hit = np.zeros(valid.shape, dtype=bool)
    places = np.flatnonzero(valid)
    hit.flat[rng.choice(places, max(1, len(places) // 100), replace=False)] = True
    planted = values.copy()
    planted[np.ix_(np.flatnonzero(live))] += target[:, None, None] * hit
    noisy = part.copy(data=planted.astype(np.float32))
    noisy.attrs = {k: v for k, v in noisy.attrs.items() if k not in ("nodata", "packing")}
    after = np.asarray(restore(noisy).values, dtype=np.float64)[live]
    ridge = 1e-6 * np.trace(spread) / len(spread)
    weights = np.linalg.solve(spread + ridge * 1e-3 * np.eye(len(spread)), target)
    snr = [_contrast(np.tensordot(weights, x, 1), hit, valid) for x in (planted[live], after)]
    return {
        "target_snr_before": round(snr[0], 3),
        "target_snr_after": round(snr[1], 3),
        "target_kept": round(snr[1] / snr[0], 4) if snr[0] > 0 else float("nan"),
    }


def check_target(spectrum: Any, bands: int) -> np.ndarray:
    """The target's spectrum as an array, one value a band of the scene.

    Raises
    ------
    BadInput
    """
    shape = np.asarray(spectrum, dtype=float).ravel()
    if len(shape) != bands:
        raise BadInput(f"got a target of {len(shape)} bands, expected {bands}, those of the scene")
    return shape


def _contrast(scores: np.ndarray, hit: np.ndarray, valid: np.ndarray) -> float:
    others = scores[valid & ~hit]
    return float((scores[hit].mean() - others.mean()) / max(float(others.std()), 1e-300))


def notes_of(figures: Mapping[str, Any]) -> list[str]:
    """Warnings that the figures call for."""
    kept = figures.get("target_kept")
    if kept is None:
        return []
    said = f"a weak target kept {kept:.0%} of its matched-filter SNR"
    return [said if kept >= KEPT else f"{said}, less than {KEPT:.0%}: look for rare targets in the scene as it was"]
