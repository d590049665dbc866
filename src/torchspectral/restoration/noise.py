"""The noise of a scene, band by band, without changing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from torchspectral.cube import check_image
from torchspectral.errors import BadInput, OutputExists, OutputFailed
from torchspectral.log import Progress, Step, no_progress
from torchspectral.result import Report, Result

FLAT = 1e-12
"""Variance relative to the mean square below which a band is dead."""


def noise(cube: xr.DataArray, *, progress: Progress = no_progress) -> Result:
    """Estimate the noise of each band, its stripes, and which bands and columns are dead.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Lazy cubes are streamed in strips; two passes.

    Returns
    -------
    Result
        ``bands``, a table with one row a band: ``band`` (1-based), ``wavelength`` [nm], ``valid`` (share of the
        pixels), ``mean``, ``noise`` (standard deviation by regressing the band on the others), ``noise_shift``
        (from differences of neighbours, which texture of the scene raises), ``snr`` [dB], ``stripes`` (mean absolute
        difference of the means of neighbouring columns), ``stripe_index`` (that over what noise and the scene's
        gradient along track would give: about 1 without stripes), ``dead_columns`` and ``dead`` (constant or
        without data); in the cube's units where no other is given.

    Raises
    ------
    BadCube, BadInput
        No cube, or no valid pixel.

    References
    ----------
    Bioucas-Dias and Nascimento, "Hyperspectral subspace identification", IEEE TGRS 46(8), 2008, sec. III (regression).

    Examples
    --------
    >>> import torchspectral as ts
    >>> ts.noise(ts.open("scene.tif"))["bands"]  # doctest: +SKIP
    """
    cube = check_image(cube)
    first = _first_pass(cube, progress)
    if not first["n"].any():
        raise BadInput("the scene has no valid pixel: all are nodata")
    pixels = cube.sizes["y"] * cube.sizes["x"]
    n = np.maximum(first["n"], 1)
    mean = first["sum"] / n
    variance = np.maximum(first["square"] / n - mean**2, 0)
    dead = (first["n"] == 0) | (variance <= FLAT * np.maximum(first["square"] / n, 1e-300))
    live = ~dead & (first["n"] >= 0.5 * first["n"].max())
    sigma = np.full(len(n), np.nan)
    sigma[dead & (first["n"] > 0)] = 0
    count, spread = _second_pass(cube, live, mean, progress)
    shift = np.sqrt(first["gap"] / np.maximum(first["pairs"], 1) / 2)
    sigma[live] = regression(count, spread) if live.sum() > 1 and count > live.sum() else shift[live]
    stripes, expected = _stripes(first)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = 10 * np.log10(np.maximum(first["square"] / n - sigma**2, 0) / sigma**2)
        index = stripes / expected
    table = pd.DataFrame(
        {
            "band": cube["number"].values,
            "wavelength": cube["wavelength"].values,
            "valid": first["n"] / pixels,
            "mean": np.where(first["n"] > 0, mean, np.nan),
            "noise": sigma,
            "noise_shift": np.where(first["pairs"] > 0, shift, np.nan),
            "snr": np.where(np.isfinite(snr), snr, np.nan),
            "stripes": stripes,
            "stripe_index": np.where(np.isfinite(index), index, np.nan),
            "dead_columns": ((first["low"] == first["high"]).sum(1)) * ~dead,
            "dead": dead,
        }
    )
    report = Report(method="restoration/noise", figures=_figures(table))
    if not (live.sum() > 1 and count > live.sum()):
        report.notes.append("too few bands or pixels for a regression: noise is from differences of neighbours")
    return Result({"bands": table}, report)


def regression(n: int, spread: np.ndarray) -> np.ndarray:
    """Standard deviation of the noise from a covariance of `n` pixels, divisor n less the bands, (bands,)."""
    import torch

    from torchspectral.restoration.subspace import live_bands, noise_of

    matrix = torch.from_numpy(np.ascontiguousarray(spread, dtype=np.float64))
    live, twin = live_bands(matrix)
    out = np.zeros(len(spread))
    if len(live):
        out[live.numpy()] = noise_of(n, matrix, live).numpy()
        for band, source in enumerate(twin.tolist()):
            if source != band:
                out[band] = out[source] * abs(spread[band, source] / spread[source, source])
    return out


def _first_pass(cube: xr.DataArray, progress: Progress) -> dict[str, np.ndarray]:
    from torchspectral.io.statistics import values_of
    from torchspectral.restoration.base import strip_of

    bands, rows, cols = cube.shape
    sums: dict[str, np.ndarray] = {k: np.zeros(bands) for k in ("n", "sum", "square", "gap", "pairs", "down", "downs")}
    sums |= {k: np.zeros((bands, cols)) for k in ("column", "count")}
    sums |= {"low": np.full((bands, cols), np.inf), "high": np.full((bands, cols), -np.inf)}
    row_sum, row_count = np.zeros((bands, rows)), np.zeros((bands, rows))
    for part in strip_of(cube):
        values = values_of(cube[:, part])
        valid = np.isfinite(values)
        filled = np.where(valid, values, 0)
        sums["n"] += valid.sum((1, 2))
        sums["sum"] += filled.sum((1, 2))
        sums["square"] += (filled**2).sum((1, 2))
        sums["column"] += filled.sum(1)
        sums["count"] += valid.sum(1)
        row_sum[:, part], row_count[:, part] = filled.sum(2), valid.sum(2)
        sums["low"] = np.minimum(sums["low"], np.where(valid, values, np.inf).min(1))
        sums["high"] = np.maximum(sums["high"], np.where(valid, values, -np.inf).max(1))
        for axis in (1, 2):
            gap = np.diff(values, axis=axis)
            sums["gap"] += np.nansum(gap**2, (1, 2))
            sums["pairs"] += np.isfinite(gap).sum((1, 2))
        progress(Step("noise", min(1.0, part.stop / rows) / 2))
    return sums | {"row": row_sum, "row_count": row_count}


def _second_pass(cube: xr.DataArray, live: np.ndarray, mean: np.ndarray, progress: Progress) -> tuple[int, np.ndarray]:
    from torchspectral.io.statistics import values_of
    from torchspectral.restoration.base import strip_of

    chosen = np.flatnonzero(live)
    cross, total, n = np.zeros((len(chosen), len(chosen))), np.zeros(len(chosen)), 0
    for part in strip_of(cube):
        values = values_of(cube[:, part])[chosen]
        pixels = values[:, np.isfinite(values).all(0)] - mean[chosen, None]
        cross += pixels @ pixels.T
        total += pixels.sum(1)
        n += pixels.shape[1]
        progress(Step("noise", 0.5 + min(1.0, part.stop / cube.sizes["y"]) / 2))
    n_ = max(n, 1)
    return n, cross / n_ - np.outer(total, total) / n_**2


def _stripes(first: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean absolute step between columns, and between rows scaled to as many pixels."""

    def steps(total: np.ndarray, count: np.ndarray) -> np.ndarray:
        if total.shape[1] < 2:
            return np.full(len(total), np.nan)
        means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        gaps = np.abs(np.diff(means, axis=1))
        known = np.isfinite(gaps).sum(1)
        return np.where(known > 0, np.nansum(gaps, 1) / np.maximum(known, 1), np.nan)

    across, along = steps(first["column"], first["count"]), steps(first["row"], first["row_count"])
    rows, cols = first["row"].shape[1], first["column"].shape[1]
    return across, along * np.sqrt(cols / rows)


def _figures(table: pd.DataFrame) -> dict[str, Any]:
    alive = table[~table["dead"]]
    figures: dict[str, Any] = {"bands": len(table), "dead_bands": [int(b) for b in table["band"][table["dead"]]]}
    for key in ("noise", "snr", "stripe_index"):
        known = alive[key].dropna()
        if len(known):
            figures[f"median_{key}"] = float(f"{known.median():.6g}")
    known = alive.dropna(subset=["snr"]).sort_values("snr")
    figures["noisiest_bands"] = [int(b) for b in known["band"][:5]]
    figures["striped_bands"] = [int(b) for b in alive["band"][alive["stripe_index"] > 3]]
    figures["dead_columns"] = int(table["dead_columns"].sum())
    return figures


def write(result: Result, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write the table (.csv) or a figure of noise and signal-to-noise ratio over the bands (.png, .pdf, .svg).

    Raises
    ------
    OutputExists, OutputFailed
    """
    target = Path(path)
    if target.suffix.lower() == ".csv":
        from torchspectral.io import save

        return save(result["bands"], target, overwrite=overwrite)
    if target.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise OutputFailed(f"cannot write the noise as {target.name}: expected .csv, .png, .pdf or .svg")
    if target.exists() and not overwrite:
        raise OutputExists(f"{target} exists: ask to overwrite, or choose another name")
    from matplotlib.figure import Figure

    from torchspectral.io.raw import picture_file

    table = result["bands"]
    wave = table["wavelength"].to_numpy(float)
    known = bool(np.isfinite(wave).all())
    x = wave if known else table["band"].to_numpy(float)
    figure = Figure(figsize=(9, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.semilogy(x, table["noise"], ".-", ms=3, label="regression")
    upper.semilogy(x, table["noise_shift"], ".-", ms=3, label="differences of neighbours")
    upper.set_ylabel("noise")
    upper.legend(frameon=False)
    lower.plot(x, table["snr"], ".-", ms=3)
    lower.set_ylabel("SNR [dB]")
    lower.set_xlabel("wavelength [nm]" if known else "band")
    for band in np.flatnonzero(table["dead"]):
        lower.axvline(x[band], color="0.8", zorder=0)
    with picture_file(target) as part:
        figure.savefig(part, dpi=120)
    return target
