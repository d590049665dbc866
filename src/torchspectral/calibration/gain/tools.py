"""What each practical tool does with the lines that it is given: sums in one pass, then gains, then a guard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.calibration.gain import columns
from torchspectral.calibration.gain.cells import CellSums
from torchspectral.calibration.gain.gains import Gains
from torchspectral.calibration.gain.ground import Line, lines_by_georeference, lines_by_shift, sum_cells
from torchspectral.calibration.gain.overlap import BandGains, residual_energy, solve_band
from torchspectral.calibration.gain.spectral_gain import solve_spectral
from torchspectral.errors import BadInput, BadSettings
from torchspectral.io.statistics import row_blocks, values_of
from torchspectral.log import Progress, Step, no_progress

BLOCK = 2_000_000
LITTLE = 0.8
"""Share of the held-out residual that may be left before it is told."""


@dataclass
class Task:
    """Lines and what is known of them.

    Attributes
    ----------
    cubes : sequence of DataArray
    bands : ndarray of int
        Bands that get gains; the others stay NaN.
    settings : Settings
    dark : ndarray, shape (bands, x) or (bands, 1), optional
        Of `bands`; taken off first.
    ceiling : float, optional
    shifts : sequence of pairs, optional
    library : ndarray, shape (spectra, bands), optional
        On `bands`.
    """

    cubes: Sequence[xr.DataArray]
    bands: np.ndarray
    settings: Any
    dark: np.ndarray | None = None
    ceiling: float | None = None
    shifts: Sequence[tuple[int, int]] | None = None
    library: np.ndarray | None = None
    device: str = "cpu"
    progress: Progress = no_progress
    notes: list[str] = field(default_factory=list)

    @property
    def wavelength(self) -> np.ndarray:
        """Of `bands` [nm]."""
        found: np.ndarray = self.cubes[0]["wavelength"].values[self.bands]
        return found

    def values(self, cube: xr.DataArray, rows: slice) -> np.ndarray:
        """Usable values of some lines, less the dark, (bands, lines, x)."""
        block = values_of(cube[self.bands, rows], self.ceiling)
        return block if self.dark is None else block - self.dark[:, None, :]

    def gains(self, gain: np.ndarray, offset: np.ndarray | None, error: np.ndarray, record: dict[str, Any]) -> Gains:
        """Gains of all bands, the dark folded into the offset."""
        total = self.cubes[0].sizes["band"]
        shift = np.zeros_like(gain) if offset is None else offset
        if self.dark is not None:
            shift = shift - gain * self.dark
        whole = [np.full((total, shift.shape[1] if n == 1 else gain.shape[1]), np.nan) for n in range(3)]
        if shift.shape != gain.shape:
            gain, error = (np.broadcast_to(a, shift.shape) for a in (gain, error))
            whole = [np.full((total, shift.shape[1]), np.nan) for _ in range(3)]
        for array, part in zip(whole, (gain, np.where(np.isnan(gain), np.nan, shift), error), strict=True):
            array[self.bands] = part
        return Gains.make(
            whole[0], offset=whole[1], error=whole[2], wavelength=self.cubes[0]["wavelength"].values,
            number=self.cubes[0]["number"].values, record=record,
        )  # fmt: skip


# Overlap


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
            task.notes.append(f"band {_number(task, band)}: no common ground, its gains stay NaN")
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
        raise BadInput(f"band {_number(task, band)}: {error}") from None


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
            task.notes.append(f"band {_number(task, band)}: {line}")


def _band_record(task: Task, band: int, found: BandGains, before: float, after: float) -> dict[str, Any]:
    spread = np.sqrt(np.nanmean(found.error**2))
    return {
        "band": _number(task, band),
        "groups": len(found.links.groups),
        "unseen": len(found.links.unseen),
        "spectral_gap": _plain(found.links.gap),
        "weakly_linked": found.links.weak,
        "predicted_error": _plain(found.links.predicted),
        "standard_error": _plain(spread),
        "residual": _plain(found.residual),
        "snr": _plain(-20 * math.log10(found.residual)) if found.residual > 0 else None,
        "held_out_before": _plain(before),
        "held_out_after": _plain(after),
    }


# Known spectra


def spectral(task: Task) -> Gains:
    """Model (c) over bands: one gain a band, from spectra that pixels are made of.

    Raises
    ------
    BadInput
        No library, too few pixels, or gains that the guard refuses.
    """
    if task.library is None:
        raise BadInput("got no library, expected spectra that the scene is made of (--library)")
    chosen = task.settings
    bands = len(task.bands)
    sums = [np.zeros((bands, bands)) for _ in range(2)]
    counts = [0, 0]
    for cube in task.cubes:
        for rows in row_blocks(cube, BLOCK):
            values = task.values(cube, rows)
            good = np.isfinite(values).all(0)
            apart = _held_blocks(rows, values.shape[-1], chosen.block, chosen.held_out)
            for n, part in enumerate((good & ~apart, good & apart)):
                pixels = values[:, part]
                sums[n] += pixels @ pixels.T
                counts[n] += pixels.shape[1]
            task.progress(Step("spectral", rows.stop / cube.sizes["y"]))
    if min(counts) < bands:
        raise BadInput(
            f"got {counts[0]} pixels to fit and {counts[1]} held out, expected at least {bands} (the bands) in each"
        )
    found = solve_spectral(
        sums[0], sums[1], task.library, task.wavelength, sizes=list(chosen.k), ridges=list(chosen.ridge),
        degree=chosen.degree,
    )  # fmt: skip
    task.notes.append(
        f"{found.undetermined} of {bands} directions over bands are not determined by the scene: the prior holds them at 1"
    )
    if chosen.degree >= 0:
        task.notes.append(
            f"gains are free of polynomials of wavelength up to degree {chosen.degree}: those cannot be known"
        )
    record = {
        "unit": "relative",
        "k": found.k,
        "ridge": found.ridge,
        "pixels": counts[0],
        "pixels_held_out": counts[1],
        "held_out_before": _plain(found.before),
        "held_out_after": _plain(found.after),
        "undetermined_directions": found.undetermined,
        "undetermined_share": [round(float(v), 4) for v in found.weakest],
        "tried": found.table,
    }
    return task.gains(found.gain[:, None], None, found.error[:, None], record)


def _held_blocks(rows: slice, width: int, block: int, share: float) -> np.ndarray:
    """Which pixels of some rows are held out: blocks by a hash of their place, (rows, width)."""
    y = np.arange(rows.start, rows.stop)[:, None] // block
    x = np.arange(width)[None, :] // block
    mixed = (y * np.int64(73856093)) ^ (x * np.int64(19349663))
    mixed = (mixed ^ (mixed >> 13)) * np.int64(1274126177) % np.int64(1 << 31)
    out: np.ndarray = (mixed ^ (mixed >> 16)) % 1000 < 1000 * share
    return out


# Columns of one line


def flat(task: Task) -> Gains:
    """Model (c) over columns of a homogeneous target, band by band.

    Raises
    ------
    BadInput
        The target is not homogeneous, or there are too few lines or columns.
    """
    chosen = task.settings
    bands, width = len(task.bands), _width(task)
    lines = sum(cube.sizes["y"] for cube in task.cubes)
    if lines < 4:
        raise BadInput(f"got {lines} lines, expected at least 4 to fit and to test on")
    gain, error = (np.full((bands, width), np.nan) for _ in range(2))
    count = _moments(task)[2]
    sound = count >= 0.5 * np.maximum(count.max(1, keepdims=True), 1)
    found_bands = []
    per = max(1, int(BLOCK // max(1, width * width)))
    for start in range(0, bands, per):
        part = np.arange(start, min(start + per, bands))
        sums = _line_sums(task, part, sound[part])
        for n, band in enumerate(part):
            at = np.flatnonzero(sound[band])
            try:
                found = columns.solve_flat(
                    sums[0][n][np.ix_(at, at)], sums[1][n][np.ix_(at, at)], chosen.terms, chosen.ridge
                )
            except BadInput as err:
                raise BadInput(f"band {_number(task, int(band))}: {err}") from None
            gain[band, at], error[band, at] = found.gain, found.error
            found_bands.append(
                {
                    "band": _number(task, int(band)),
                    "held_out_before": _plain(found.before),
                    "held_out_after": _plain(found.after),
                    "agreement": _plain(found.agreement),
                    "undetermined_directions": found.undetermined,
                }
            )
        task.progress(Step("flat", (start + len(part)) / bands))
    task.notes.append(f"smooth gains across track ({chosen.terms} cosines) are not determined and stay 1")
    return task.gains(gain, None, error, {"unit": "relative", "bands": found_bands})


def _line_sums(task: Task, part: np.ndarray, sound: np.ndarray) -> list[np.ndarray]:
    """Sums of y y^T over the two halves of all lines, both (bands, x, x).

    Columns that are not `sound` (bands, x) are 0; lines with a gap in a sound column are left out.
    """
    width = _width(task)
    sums = [np.zeros((len(part), width, width)) for _ in range(2)]
    inner = Task(
        task.cubes, task.bands[part], task.settings, None if task.dark is None else task.dark[part], task.ceiling
    )
    half, passed = sum(cube.sizes["y"] for cube in task.cubes) // 2, 0
    for cube in task.cubes:
        for rows in row_blocks(cube, BLOCK):
            values = inner.values(cube, rows)
            apart = passed + np.arange(rows.start, rows.stop) >= half
            for n, lines in enumerate((~apart, apart)):
                for b in range(len(part)):
                    some = values[b, lines]
                    some = some[np.isfinite(some[:, sound[b]]).all(1)]
                    some = np.where(sound[b], some, 0.0)
                    sums[n][b] += some.T @ some
        passed += cube.sizes["y"]
    return sums


def _width(task: Task) -> int:
    widths = {cube.sizes["x"] for cube in task.cubes}
    if len(widths) > 1:
        raise BadInput(f"the lines have {sorted(widths)} columns, expected the same detectors in all of them")
    return int(widths.pop())


def moments(task: Task) -> Gains:
    """Column moment matching over all lines."""
    mean, deviation, _ = _moments(task)
    gain, offset = columns.moment_matching(mean, deviation if task.settings.model == "gain-offset" else None)
    return _baseline(task, gain, offset)


def polynomial(task: Task) -> Gains:
    """Low-order polynomial flat field over all lines."""
    gain = columns.polynomial_flat_field(_moments(task)[0], task.settings.degree)
    return _baseline(task, gain, None)


def histogram(task: Task) -> Gains:
    """Gain and offset nearest to histogram matching of columns."""
    chosen = task.settings
    bands, width = len(task.bands), _width(task)
    levels = np.linspace(0, 1, chosen.levels)
    total = sum(cube.sizes["y"] for cube in task.cubes)
    every = max(1, -(-total // chosen.lines))
    gain, offset = (np.full((bands, width), np.nan) for _ in range(2))
    per = max(1, int(BLOCK // max(1, width * min(total, chosen.lines))))
    for start in range(0, bands, per):
        part = np.arange(start, min(start + per, bands))
        inner = Task(task.cubes, task.bands[part], chosen, None if task.dark is None else task.dark[part], task.ceiling)
        picked = [inner.values(c, rows)[:, ::every] for c in task.cubes for rows in row_blocks(c, BLOCK * every)]
        values = np.concatenate(picked, axis=1)
        for n, band in enumerate(part):
            if np.isfinite(values[n]).any():
                quantiles = columns.histogram_quantiles(values[n], levels)
                gain[band], offset[band] = columns.histogram_gain(quantiles)
        task.progress(Step("histogram", (start + len(part)) / bands))
    return _baseline(task, gain, offset)


def _moments(task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviation and count of each column, (bands, x)."""
    shape = (len(task.bands), _width(task))
    count, total, square = (np.zeros(shape) for _ in range(3))
    for cube in task.cubes:
        for rows in row_blocks(cube, BLOCK):
            values = task.values(cube, rows)
            good = np.isfinite(values)
            values = np.where(good, values, 0)
            count += good.sum(1)
            total += values.sum(1)
            square += (values**2).sum(1)
            task.progress(Step("columns", rows.stop / cube.sizes["y"]))
    if not count.any():
        raise BadInput("the lines have no valid pixel: all are nodata, saturated or masked out")
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        return mean, np.sqrt(np.maximum(square / count - mean**2, 0)), count


def _baseline(task: Task, gain: np.ndarray, offset: np.ndarray | None) -> Gains:
    task.notes.append(
        "a baseline: it takes every difference between columns for gain, the scene's own too; fair over thousands of lines"
    )
    return task.gains(gain, offset, np.full(gain.shape, np.nan), {"unit": "relative"})


def _is_map(cube: xr.DataArray) -> bool:
    from torchspectral.geo import grid_of

    return grid_of(cube).kind == "map"


def _number(task: Task, band: int) -> int:
    return int(task.cubes[0]["number"].values[task.bands[band]])


def _plain(value: float) -> float | None:
    return float(f"{float(value):.6g}") if math.isfinite(value) else None


TOOLS = {
    "overlap": overlap, "spectral": spectral, "flat": flat, "moments": moments, "histogram": histogram,
    "polynomial": polynomial,
}  # fmt: skip


def unknown(method: str) -> BadSettings:
    """Error about a method that does not exist."""
    from torchspectral.errors import closest

    return BadSettings(f"unknown gain method {method!r}: {closest(method, tuple(TOOLS))}")
