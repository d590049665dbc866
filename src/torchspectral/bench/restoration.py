"""Restoration methods compared on scenes that are made noisy: scores against the scene, one row a method and noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from torchspectral import metrics, registry
from torchspectral.bench.shared import bench_folder, write_tables
from torchspectral.errors import BadInput, TorchspectralError
from torchspectral.log import Progress, Step, no_progress
from torchspectral.report.tables import mean_std
from torchspectral.restoration.base import restore
from torchspectral.restoration.degradation import degrade
from torchspectral.result import Report, Result

RECIPES = ("gaussian:30", "noniid", "icvl-mixture")


def bench_restoration(
    scenes: Sequence[xr.DataArray],
    *,
    methods: Sequence[str] | None = None,
    recipes: Sequence[str] = RECIPES,
    out: str | Path,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Result:
    """Compare restoration methods; writes tables (CSV, Markdown, LaTeX).

    Parameters
    ----------
    scenes : sequence of DataArray, dims (band, y, x)
        The truth: each is degraded by every recipe.
    methods : sequence of str, optional
        Cards of the room; by default all that need no weights.
    recipes : sequence of str
        See `synth.make_recipe`.
    out : path
        Folder.
    seed : int
        Of the noise of the first scene; the next has the next.
    overwrite : bool

    Returns
    -------
    Result
        ``scores``, a list of rows: ``method, noise``, ``PSNR`` [dB] and ``SSIM`` (means over bands, values divided by
        the scene's largest), ``SAM`` [degrees], ``seconds``, with mean and deviation where there are several scenes; a
        method that failed has a ``note``. The row "noisy" is the input.

    Raises
    ------
    UnknownName, OutputExists
    BadInput
        No scene, or no method could be run.
    """
    if not scenes:
        raise BadInput("got no scene to compare methods on, expected at least one")
    cards = [registry.card("restoration", n) for n in methods] if methods else registry.methods("restoration")
    names = [c.name for c in cards if methods or "weights" not in c.needs]
    folder = bench_folder(out, overwrite=overwrite)
    rows: list[dict[str, Any]] = []
    for number, recipe in enumerate(recipes):
        parts: dict[str, list[dict[str, float]]] = {"noisy": []}
        notes: dict[str, str] = {}
        for index, scene in enumerate(scenes):
            noisy = degrade(scene, recipe, seed + index)["cube"]
            parts["noisy"].append(_scores(noisy, scene))
            for place, name in enumerate(names):
                progress(Step(f"{recipe} {name}", (number + place / len(names)) / len(recipes)))
                try:
                    made = restore(noisy, method=name, seed=seed, account=False)
                except TorchspectralError as error:
                    notes[name] = str(error)
                    continue
                found = _scores(made["cube"], scene) | {"seconds": float(made.report.seconds["total"])}
                parts.setdefault(name, []).append(found)
        for name in ("noisy", *names):
            row: dict[str, Any] = {"method": name, "noise": recipe}
            if parts.get(name):
                values = {key: [p[key] for p in parts[name]] for key in parts[name][0]}
                row |= {key: mean_std(v) if len(v) > 1 else v[0] for key, v in values.items()}
            rows.append(row | ({"note": notes[name]} if name in notes else {}))
    if not any("seconds" in row for row in rows):
        raise BadInput(f"no method could be run: {rows[-1].get('note', '')}")
    paths = write_tables(folder, "scores", rows, digits=3, overwrite=overwrite)
    report = Report(method="bench/restore", figures={"methods": names, "scenes": len(scenes)}, seed=seed)
    return Result({"scores": rows}, report, paths)


def _scores(cube: xr.DataArray, truth: xr.DataArray) -> dict[str, float]:
    one, other = (torch.from_numpy(np.asarray(c.values, dtype=np.float32)) for c in (cube, truth))
    live = other.isfinite().any(2).any(1) & one.isfinite().any(2).any(1)
    one, other = one[live], other[live]
    valid = (one.isfinite() & other.isfinite()).all(0)
    peak = float(other[:, valid].max())
    one, other = one.nan_to_num() / peak, other.nan_to_num() / peak
    return {
        "PSNR": metrics.measure(metrics.MPSNR(), one, other, valid),
        "SSIM": metrics.measure(metrics.MSSIM(), one, other, valid),
        "SAM": metrics.measure(metrics.MeanAngle(degrees=True), one, other, valid),
    }
