"""Gains of detectors from ground that several of them saw: cells in one pass, a solution a band, and a guard."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.calibration.gain.cells import CellSums
from torchspectral.calibration.gain.gains import Gains
from torchspectral.calibration.gain.ground import Line, lines_by_georeference, lines_by_shift, sum_cells
from torchspectral.calibration.gain.overlap import BandGains, residual_energy, solve_band
from torchspectral.calibration.gain.task import Task, number_of, plain
from torchspectral.errors import BadInput
from torchspectral.log import Step

LITTLE = 0.8
"""Share of the held-out residual that may be left before it is told."""


def overlap(task: Task) -> Gains:
    """Model (a): gains of every detector and band from common ground.

    Raises
    ------
    BadInput
        One line, no common ground, unconnected groups, or gains that do not hold on held-out ground.
    """
    chosen = task.settings
    if len(task.cubes) < 2:
        raise BadInput(
            "got one line, expected at least two that overlap with a shift across track: one line alone does not "
            "determine detector gains (for a homogeneous target use method flat; baselines are moments, polynomial)"
        )
    lines, cell = _lines(task)
    if chosen.registration == "bilinear":
        from torchspectral.calibration.gain.subpixel import solve_bilinear

        return solve_bilinear(task, lines, cell)
    used, held = sum_cells(lines, task.bands, dark=task.dark, ceiling=task.ceiling, progress=task.progress)
    both = used.merged(held)
    bands = len(task.bands)
    gain, offset, error = (np.full((bands, both.detectors), np.nan) for _ in range(3))
    per_band: list[dict[str, Any]] = []
    for band in range(bands):
        if not both.seen[band]:
            task.notes.append(f"band {number_of(task, band)}: no common ground, its gains stay NaN")
            continue
        noise = _noise_of(both, band, chosen.snr)
        found = _solve(task, both, band, noise)
        before, after = _held_out(task, used, held, band, noise)
        gain[band], offset[band], error[band] = found.gain, found.offset, found.error
        per_band.append(_band_record(task, band, found, before, after))
        _note(task, band, found)
        task.progress(Step("gains", (band + 1) / bands))
    if not per_band:
        raise BadInput("no two detectors saw the same ground: expected lines that overlap with different shifts")
    guard(per_band, task.notes)
    if any(line.along is not None for line in lines) and any(_is_map(c) for c in task.cubes):
        task.notes.append("columns of the raster are taken as detectors: right for lines in sensor geometry only")
    record = {"unit": "relative", "cell": cell, "bands": per_band}
    return task.gains(gain, offset if chosen.offset == "solve" else None, error, record)


def _lines(task: Task) -> tuple[list[Line], float | None]:
    if task.shifts is not None:
        return lines_by_shift(task.cubes, task.shifts), None
    return lines_by_georeference(task.cubes, task.settings.cell)


def _solve(task: Task, sums: CellSums, band: int, noise: float | None) -> BandGains:
    chosen = task.settings
    try:
        return solve_band(
            sums, band, groups=chosen.groups, offset=chosen.offset == "solve", noise_var=noise, ridge=chosen.ridge,
            device=task.device,
        )  # fmt: skip
    except BadInput as error:
        raise BadInput(f"band {number_of(task, band)}: {error}") from None


def _held_out(task: Task, used: CellSums, held: CellSums, band: int, noise: float | None) -> tuple[float, float]:
    """Residual on held-out ground with gains of 1, and with gains from the rest; NaN where there is too little."""
    if not held.seen[band] or not used.seen[band]:
        return math.nan, math.nan
    try:
        found = solve_band(
            used, band, groups="each", offset=task.settings.offset == "solve", noise_var=noise,
            ridge=task.settings.ridge, device=task.device,
        )  # fmt: skip
    except BadInput:
        return math.nan, math.nan
    one = np.where(np.isfinite(found.gain), 1.0, np.nan)
    shift = found.offset if task.settings.offset == "solve" else None
    before = residual_energy(held, band, one, np.zeros_like(one) if shift is not None else None)
    after = residual_energy(held, band, found.gain, shift)
    return math.sqrt(max(before, 0)), math.sqrt(max(after, 0))


def guard(per_band: list[dict[str, Any]], notes: list[str]) -> None:
    """Refuse gains that do not lower the residual on held-out ground; tell where they hardly do.

    Raises
    ------
    BadInput
    """
    known = [(b["held_out_before"], b["held_out_after"]) for b in per_band if b["held_out_before"] is not None]
    if not known:
        return
    before, after = (math.sqrt(np.mean(np.square(v))) for v in zip(*known, strict=True))
    if not after < before:
        raise BadInput(
            f"no gains written: on held-out ground the lines disagree by {100 * after:.3g} % with them and by "
            f"{100 * before:.3g} % without; are the shifts or the georeference right?"
        )
    if after > LITTLE * before:
        notes.append(
            f"the gains explain little: on held-out ground the lines disagree by {100 * after:.3g} % with them and by "
            f"{100 * before:.3g} % without; the detectors are alike, or the shifts or the georeference are not right"
        )


def _noise_of(sums: CellSums, band: int, snr: float | None) -> float | None:
    return None if snr is None else sums.power[band] / max(int(sums.seen[band]), 1) * 10 ** (-snr / 10)


def _note(task: Task, band: int, found: BandGains) -> None:
    lines = list(found.notes)
    if len(found.links.groups) > 1:
        lines.append(
            f"{len(found.links.groups)} unconnected groups, each calibrated by itself: between groups nothing is known"
        )
    if len(found.links.unseen):
        lines.append(f"{len(found.links.unseen)} detectors share no ground with another: NaN")
    for line in lines:
        # One line for many bands: the first stands for the others.
        kind = line.split(":")[0]
        if not any(kind in known for known in task.notes):
            task.notes.append(f"band {number_of(task, band)}: {line}")


def _band_record(task: Task, band: int, found: BandGains, before: float, after: float) -> dict[str, Any]:
    spread = np.sqrt(np.nanmean(found.error**2))
    return {
        "band": number_of(task, band),
        "groups": len(found.links.groups),
        "unseen": len(found.links.unseen),
        "spectral_gap": plain(found.links.gap),
        "weakly_linked": found.links.weak,
        "predicted_error": plain(found.links.predicted),
        "standard_error": plain(spread),
        "residual": plain(found.residual),
        "snr": plain(-20 * math.log10(found.residual)) if found.residual > 0 else None,
        "held_out_before": plain(before),
        "held_out_after": plain(after),
    }


def _is_map(cube: xr.DataArray) -> bool:
    from torchspectral.geo import grid_of

    return grid_of(cube).kind == "map"
