"""Gains of the columns of one line: over a homogeneous target, and the field's baselines."""

from __future__ import annotations

import numpy as np

from torchspectral.calibration.gain import columns
from torchspectral.calibration.gain.gains import Gains
from torchspectral.calibration.gain.task import BLOCK, Task, number_of, plain, width_of
from torchspectral.errors import BadInput
from torchspectral.io.statistics import row_blocks
from torchspectral.log import Step


def flat(task: Task) -> Gains:
    """Model (c) over columns of a homogeneous target, band by band.

    Raises
    ------
    BadInput
        The target is not homogeneous, or there are too few lines or columns.
    """
    chosen = task.settings
    bands, width = len(task.bands), width_of(task)
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
                raise BadInput(f"band {number_of(task, int(band))}: {err}") from None
            gain[band, at], error[band, at] = found.gain, found.error
            found_bands.append(
                {
                    "band": number_of(task, int(band)),
                    "held_out_before": plain(found.before),
                    "held_out_after": plain(found.after),
                    "agreement": plain(found.agreement),
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
    width = width_of(task)
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
    bands, width = len(task.bands), width_of(task)
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
    shape = (len(task.bands), width_of(task))
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
