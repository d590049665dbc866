"""What a restoration took away: the residual as a cube, figures before and after, and a test with a weak target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from torchspectral.errors import BadInput
from torchspectral.log import Progress, no_progress
from torchspectral.restoration.base import compare, strips, values_of

KEPT = 0.8
"""Least share of a weak target's matched-filter SNR that a restoration should keep."""
WINDOW = 96
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


def account(
    before: xr.DataArray, after: xr.DataArray, *, progress: Progress = no_progress
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Figures of each band and of the whole scene.

    Parameters
    ----------
    before, after : DataArray, dims (band, y, x)

    Returns
    -------
    table : DataFrame
        See `base.compare`.
    figures : dict
        ``median_snr_before, median_snr_after`` [dB], ``sam`` (mean spectral angle between before and after [degrees])
        and ``bands_changed`` (numbers, 1-based).
    """
    table = compare(before, after, progress=progress)
    total, count = 0.0, 0
    for _, one, two in strips(before, after):
        live = np.isfinite(one).any((1, 2)) & np.isfinite(two).any((1, 2))
        one, two = one[live], two[live]
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = (one * two).sum(0) / np.sqrt((one**2).sum(0) * (two**2).sum(0))
        angles = np.arccos(np.clip(cosine[np.isfinite(cosine)], -1, 1))
        total, count = total + float(angles.sum()), count + angles.size
    power = table["removed"] ** 2 + 10 ** (table["snr_after"].fillna(0) / 10) * table["noise_after"] ** 2
    changed = table["removed"] ** 2 > CHANGED**2 * power
    figures: dict[str, Any] = {"bands_changed": [int(b) for b in table["band"][changed]]}
    for key in ("snr_before", "snr_after"):
        known = table[key][np.isfinite(table[key])]
        if len(known):
            figures[f"median_{key}"] = round(float(known.median()), 3)
    if count:
        figures["sam"] = round(float(np.degrees(total / count)), 5)
    return table, figures


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
        shape = np.asarray(spectrum, dtype=float).ravel()
        if len(shape) != len(live):
            raise BadInput(f"got a target of {len(shape)} bands, expected {len(live)}, those of the scene")
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
