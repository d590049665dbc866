"""Overlap with sub-pixel registration: every pixel sees four ground cells bilinearly, solved band by band by LSQR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchspectral.calibration.gain.gains import Gains
from torchspectral.calibration.gain.ground import HELD_EVERY, HELD_ROWS, Line, ground_coordinates
from torchspectral.errors import BadInput, GridMismatch, TooLarge
from torchspectral.io.statistics import values_of

if TYPE_CHECKING:
    from torchspectral.calibration.gain.task import Task

MOST = 20_000_000
"""Most pixels of all lines together: the sparse operator takes some 100 bytes for each."""


def solve_bilinear(task: Task, lines: Sequence[Line], cell: float | None) -> Gains:
    """Gains of every band by LSQR on the sparse stack.

    Raises
    ------
    BadInput
        Unconnected groups, or gains that do not hold on held-out ground.
    GridMismatch, TooLarge
    """
    from scipy.sparse import csr_array

    from torchspectral.calibration.gain.by_overlap import guard
    from torchspectral.calibration.gain.interpolating import detectors_linked, solve_rows

    if task.settings.offset != "none" or task.settings.ridge or task.settings.snr is not None:
        raise BadInput("registration=bilinear solves for gains alone: expected offset=none, ridge=0 and no snr")
    if task.shifts is not None or cell is None:
        raise GridMismatch("registration=bilinear needs georeferenced lines: whole shifts are solved by nearest")
    pixels = sum(line.cube.sizes["y"] * line.cols for line in lines)
    if pixels > MOST:
        raise TooLarge(f"registration=bilinear on {pixels} pixels, expected at most {MOST}: use nearest, or a window")
    rows, cols = _places(task, cell)
    high, wide = int(np.nanmax(rows)) + 2, int(np.nanmax(cols)) + 2
    detector = np.concatenate([np.tile(np.arange(line.cols), line.cube.sizes["y"]) for line in lines])
    r, c = np.floor(rows).astype(np.int64), np.floor(cols).astype(np.int64)
    fr, fc = rows - r, cols - c
    index = np.stack([r * wide + c, r * wide + c + 1, (r + 1) * wide + c, (r + 1) * wide + c + 1], axis=1)
    weight = np.stack([(1 - fr) * (1 - fc), (1 - fr) * fc, fr * (1 - fc), fr * fc], axis=1)
    operator = csr_array((weight.ravel(), index.ravel(), np.arange(0, 4 * len(r) + 1, 4)), shape=(len(r), high * wide))
    detectors = lines[0].cols
    apart = (r // HELD_ROWS % HELD_EVERY == HELD_EVERY // 2) & ((r + 1) // HELD_ROWS == r // HELD_ROWS)
    gain, error = (np.full((len(task.bands), detectors), np.nan) for _ in range(2))
    record: list[dict[str, Any]] = []
    for n, band in enumerate(task.bands):
        one = _one_band(task, int(n))
        good = np.isfinite(one)
        groups = detectors_linked(detector[good], operator[good])
        if groups > 1:
            raise BadInput(f"the detectors fall into {groups} unconnected groups without common ground, expected one")
        s, _, residual, spread = solve_rows(detector[good], one[good], operator[good], detectors)
        mean = np.nanmean(s)
        before, after = _held_out(detector[good], one[good], operator[good], apart[good], detectors)
        gain[n], error[n] = s / mean, np.where(np.isfinite(s), spread, np.nan)
        number = int(task.cubes[0]["number"].values[band])
        facts = {"band": number, "groups": 1, "standard_error": float(f"{spread:.6g}"), "residual": residual}
        record.append({**facts, "held_out_before": before, "held_out_after": after})
    guard(record, task.notes)
    return task.gains(gain, None, error, {"unit": "relative", "cell": cell, "bands": record})


def _held_out(
    detector: np.ndarray, values: np.ndarray, operator: Any, apart: np.ndarray, detectors: int
) -> tuple[float | None, float | None]:
    """Residual on held-out ground with gains of 1, and with gains from the rest; None where there is too little."""
    from scipy.sparse.linalg import lsqr

    from torchspectral.calibration.gain.interpolating import solve_rows

    if not apart.any() or apart.all():
        return None, None
    s = solve_rows(detector[~apart], values[~apart], operator[~apart], detectors)[0]
    s = s / np.nanmean(s)
    at = apart & np.isfinite(s[detector])
    found = []
    for gain in (np.ones(detectors), s):
        target = values[at] * gain[detector[at]]
        size = float(np.linalg.norm(target))
        found.append(float(lsqr(operator[at], target, atol=1e-10, btol=1e-10)[3]) / size if size else None)
    return found[0], found[1]


def _one_band(task: Task, n: int) -> np.ndarray:
    parts = []
    for cube in task.cubes:
        block = values_of(cube[task.bands[n : n + 1]], task.ceiling)[0]
        parts.append((block if task.dark is None else block - task.dark[n][None, :]).ravel())
    return np.concatenate(parts)


def _places(task: Task, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Ground coordinates of all pixels in cells, of one origin."""
    found = ground_coordinates(task.cubes)
    x, y = (np.concatenate([np.ravel(place[n]) for place in found]) for n in (0, 1))
    if not np.isfinite(x + y).all():
        raise GridMismatch(
            "registration=bilinear needs coordinates of every pixel: cut the lines to where they are known"
        )
    return (y - y.min()) / cell, (x - x.min()) / cell
