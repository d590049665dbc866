"""Channels: which may start an unmixing, and what an unmixing says of each of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchspectral.engine.method import Gram

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from torchspectral.result import Result

REACH = 2
"""A channel is compared with this many neighbours on each side; the best one counts."""

LEAST_SPREAD = 0.05
"""Of the correlations: on clean scenes their own spread is far too small to judge by."""

RUNNING = 51
"""Channels of the running median that weights are compared with."""

SUSPECT = 0.3
"""Share of the running median below which a channel is suggested as bad."""


def live_channels(gram: Gram) -> torch.Tensor:
    """Channels that vary over the scene, (bands,) bool: constant ones tell nothing of the mixture."""
    variance = gram.covariance.diagonal()
    power = gram.cross.diagonal() / max(gram.n, 1)
    return variance > 1e-12 * power.clamp_min(torch.finfo(power.dtype).tiny)


def clean_channels(gram: Gram, threshold: float) -> torch.Tensor:
    """Channels that look like their neighbours, (bands,) bool.

    Parameters
    ----------
    gram : Gram
    threshold : float
        Channels are left out whose best correlation with a near neighbour lies this many robust standard deviations
        (1.4826 times the median absolute deviation) below the median; 0: none but the constant ones.
    """
    live = live_channels(gram)
    if threshold <= 0 or int(live.sum()) < 2 * REACH + 1:
        return live
    spread = gram.covariance
    deviation = spread.diagonal().clamp_min(0).sqrt()
    scale = torch.where(live, deviation, torch.ones_like(deviation))
    correlation = spread / torch.outer(scale, scale)
    correlation = torch.where(live[:, None] & live[None, :], correlation, -1.0)
    best = torch.full_like(deviation, -1.0)
    for step in range(1, REACH + 1):
        near = correlation.diagonal(step)
        best[:-step] = torch.maximum(best[:-step], near)
        best[step:] = torch.maximum(best[step:], near)
    median = best[live].median()
    sigma = (1.4826 * (best[live] - median).abs().median()).clamp_min(LEAST_SPREAD)
    return live & ((best - median) / sigma > -threshold)


def band_quality(weight: Any, live: Any, wavelength: Any) -> dict[str, list[Any]]:
    """Table of what the weights say of each channel.

    Parameters
    ----------
    weight : array_like, shape (bands,)
        Channel weights of the last iteration.
    live : array_like of bool, shape (bands,)
        False for channels without any variation: they get weight 0 and are suggested as bad.
    wavelength : array_like, shape (bands,)
        [nm].

    Returns
    -------
    dict of str to list
        ``band`` (number among the bands that were used, from 1), ``wavelength_nm``, ``weight`` (the median is 1),
        ``relative`` (over the running median), ``suggested_bad`` (0 or 1).
    """
    alive = np.asarray(live, dtype=bool)
    values = np.where(alive, np.asarray(weight, dtype=np.float64), 0.0)
    median = float(np.median(values[alive])) if alive.any() else 1.0
    values = values / (median or 1.0)
    relative = values / np.maximum(_running_median(values, alive), np.finfo(float).tiny)
    bad = ~alive | (relative < SUSPECT)
    return {
        "band": list(range(1, values.size + 1)),
        "wavelength_nm": [float(v) for v in np.asarray(wavelength, dtype=np.float64)],
        "weight": values.tolist(),
        "relative": np.where(alive, relative, 0.0).tolist(),
        "suggested_bad": bad.astype(int).tolist(),
    }


def _running_median(values: np.ndarray, alive: np.ndarray) -> np.ndarray:
    half = RUNNING // 2
    out = np.ones(values.size)
    for i in range(values.size):
        part = slice(max(0, i - half), i + half + 1)
        near = values[part][alive[part]]
        out[i] = np.median(near) if near.size else 1.0
    return out


def band_quality_figure(table: pd.DataFrame) -> Figure:
    """Plot of a band-quality table: weight of each channel, suggested bad ones marked.

    Parameters
    ----------
    table : DataFrame
        The output ``band_quality`` of `rrlbs`.
    """
    from torchspectral.report import band_curves

    bad = np.asarray(table["suggested_bad"], dtype=bool)
    weight = np.asarray(table["weight"], dtype=np.float64)
    figure = band_curves(
        {"channel weight": weight},
        wavelength=table["wavelength_nm"].to_numpy(),
        label="weight (median 1)",
        title=f"Band quality: {int(bad.sum())} of {bad.size} bands suggested as bad",
    )
    axes = figure.axes[0]
    wave = table["wavelength_nm"].to_numpy(dtype=np.float64)
    x = wave if np.isfinite(wave).all() else table["band"].to_numpy(dtype=np.float64)
    if bad.any():
        axes.plot(x[bad], weight[bad], "x", color="#c0392b", label="suggested bad")
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return figure


def draw_band_quality(result: Result, *, overwrite: bool = False) -> Path | None:
    """Write the plot beside the band-quality table of a result in a folder; None where it has none.

    Raises
    ------
    OutputExists, OutputFailed
    """
    from torchspectral.report.files import write_whole
    from torchspectral.report.style import figure_png

    table = result.paths.get("band_quality")
    if table is None:
        return None
    picture = figure_png(band_quality_figure(result["band_quality"]))
    path = write_whole(Path(table).with_suffix(".png"), picture, overwrite=overwrite)
    result.paths["band_quality.png"] = str(path)
    return path
