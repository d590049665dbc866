"""Gains of bands from spectra that pixels are made of: sums in one pass, a part of the scene held out."""

from __future__ import annotations

import numpy as np

from torchspectral.calibration.gain.gains import Gains
from torchspectral.calibration.gain.spectral_gain import solve_spectral
from torchspectral.calibration.gain.task import BLOCK, Task, plain
from torchspectral.errors import BadInput
from torchspectral.io.statistics import row_blocks
from torchspectral.log import Step


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
        "held_out_before": plain(found.before),
        "held_out_after": plain(found.after),
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
