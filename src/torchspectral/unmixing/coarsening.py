"""A classification scene seen by coarser pixels: spectra of its classes, and their shares in windows, in strips of rows.

References
----------
Zhu, "Hyperspectral unmixing: ground truth labeling, datasets, benchmark performances and survey", arXiv 1708.05125 (2017).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from torchspectral.cube import good_bands
from torchspectral.errors import BadInput
from torchspectral.log import Progress, Step
from torchspectral.settings import Settings, setting

MOST_MEDOID = 2000
"""Pixels of a class that the medoid is looked for among, evenly drawn."""


STRIP_BYTES = 64 << 20
"""Values of the scene that are held at once [bytes]."""


class UnmixingSetSettings(Settings):
    """Settings of `unmixing_set`."""

    window: int = setting(4, "side of the window that becomes one pixel (s)", unit="pixel", ge=1, le=1024)
    tau: float = setting(1.0, "least labelled share of a window that is kept", gt=0, le=1)
    quantile: float = setting(
        0.95,
        "pixels of a class whose angle to its mean lies above this quantile are left out of its spectrum",
        gt=0,
        le=1,
    )
    centre: Literal["mean", "medoid"] = setting(
        "mean", "spectrum of a class: mean, or the pixel with the least sum of angles to the others"
    )


def _strips(cube: xr.DataArray, s: int) -> list[slice]:
    """Rows in whole windows, few enough to hold."""
    row = cube.sizes["band"] * cube.sizes["x"] * 8
    height = max(1, STRIP_BYTES // (row * s)) * s
    return [slice(top, min(top + height, cube.sizes["y"])) for top in range(0, cube.sizes["y"], height)]


def _read(cube: xr.DataArray, rows: slice) -> np.ndarray:
    """A strip as float64, NaN for nodata."""
    stored = cube.isel(y=rows).values
    values = stored.astype(np.float64)
    nodata = cube.attrs.get("nodata")
    if nodata is not None and stored.dtype.kind in "iu":
        values[stored == nodata] = np.nan
    return values


def class_spectra(
    cube: xr.DataArray,
    classes: np.ndarray,
    numbers: list[int],
    names: list[str],
    made: UnmixingSetSettings,
    progress: Progress,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Spectra (class, band) and how many pixels each rests on; angles are over the good bands."""
    good = good_bands(cube)
    strips = _strips(cube, made.window)
    sums, counts = np.zeros((len(numbers), cube.sizes["band"])), np.zeros(len(numbers))

    def pixels(rows: slice, number: int, block: np.ndarray) -> np.ndarray:
        here = block[:, classes[rows] == number]
        return here[:, np.isfinite(here[good]).all(0)]

    for n, rows in enumerate(strips):
        block = _read(cube, rows)
        for i, number in enumerate(numbers):
            chosen = pixels(rows, number, block)
            sums[i] += np.nan_to_num(chosen).sum(1)
            counts[i] += chosen.shape[1]
        progress(Step("class means", (n + 1) / len(strips)))
    if not counts.all():
        missing = ", ".join(names[i] for i in np.flatnonzero(counts == 0))
        raise BadInput(f"no labelled pixel of {missing} has data, expected at least one of every class")
    means = sums / counts[:, None]
    angles: list[list[np.ndarray]] = [[] for _ in numbers]
    for n, rows in enumerate(strips):
        block = _read(cube, rows)
        for i, number in enumerate(numbers):
            angles[i].append(_angles(pixels(rows, number, block)[good], means[i][good]))
        progress(Step("angles", (n + 1) / len(strips)))
    joined = [np.concatenate(parts) for parts in angles]
    limits = [float(np.quantile(a, made.quantile)) for a in joined]
    kept = [a <= limit for a, limit in zip(joined, limits, strict=True)]
    totals = np.zeros_like(sums)
    drawn: list[list[np.ndarray]] = [[] for _ in numbers]
    places = [_evenly(int(flags.sum())) for flags in kept]
    seen, met = np.zeros(len(numbers), dtype=int), np.zeros(len(numbers), dtype=int)
    for rows in strips:
        block = _read(cube, rows)
        for i, number in enumerate(numbers):
            every = pixels(rows, number, block)
            chosen = every[:, kept[i][seen[i] : seen[i] + every.shape[1]]]
            seen[i] += every.shape[1]
            totals[i] += np.nan_to_num(chosen).sum(1)
            if made.centre == "medoid":
                index = np.arange(met[i], met[i] + chosen.shape[1])
                drawn[i].append(chosen[:, np.isin(index, places[i])])
            met[i] += chosen.shape[1]
    used = np.array([int(flags.sum()) for flags in kept])
    spectra = totals / used[:, None]
    if made.centre == "medoid":
        spectra = np.stack([_medoid(np.concatenate(parts, axis=1), good) for parts in drawn])
    table = pd.DataFrame(
        {"class": numbers, "name": names, "pixels": counts.astype(int), "used": used, "largest_angle": limits}
    )
    return spectra, table


def _evenly(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, MOST_MEDOID)).round().astype(int))


def _angles(pixels: np.ndarray, mean: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(pixels, axis=0) * np.linalg.norm(mean)
    cosine = np.divide(mean @ pixels, norm, out=np.zeros_like(norm), where=norm > 0)
    return np.arccos(np.clip(cosine, -1, 1))


def _medoid(pixels: np.ndarray, good: np.ndarray) -> np.ndarray:
    unit = pixels[good] / np.maximum(np.linalg.norm(pixels[good], axis=0), 1e-300)
    sums = np.arccos(np.clip(unit.T @ unit, -1, 1)).sum(1)
    chosen: np.ndarray = pixels[:, int(sums.argmin())]
    return chosen


def coarsen(
    cube: xr.DataArray, classes: np.ndarray, numbers: list[int], made: UnmixingSetSettings, progress: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coarse values (band, y, x), shares (class, y, x) and where the labelled share is large enough."""
    s, good = made.window, good_bands(cube)
    rows, cols = cube.sizes["y"] // s, cube.sizes["x"] // s
    coarse = np.full((cube.sizes["band"], rows, cols), np.nan, dtype=np.float32)
    shares = np.full((len(numbers), rows, cols), np.nan, dtype=np.float32)
    kept = np.zeros((rows, cols), dtype=bool)
    strips = _strips(cube, s)
    for n, strip in enumerate(strips):
        top, bottom = strip.start // s, min(strip.stop // s, rows)
        if bottom <= top:
            continue
        block = _read(cube, slice(top * s, bottom * s))[:, :, : cols * s]
        label = classes[top * s : bottom * s, : cols * s]
        labelled = (label > 0) & np.isfinite(block[good]).all(0)
        shape = (bottom - top, s, cols, s)
        count = labelled.reshape(shape).sum((1, 3))
        enough = count >= max(made.tau * s * s - 1e-9, 1)
        total = np.where(labelled, block, 0.0).reshape(len(block), *shape).sum((2, 4))
        with np.errstate(invalid="ignore", divide="ignore"):
            coarse[:, top:bottom] = np.where(enough, total / count, np.nan)
            for i, number in enumerate(numbers):
                own = (labelled & (label == number)).reshape(shape).sum((1, 3))
                shares[i, top:bottom] = np.where(enough, own / count, np.nan)
        kept[top:bottom] = enough
        progress(Step("windows", (n + 1) / len(strips)))
    return coarse, shares, kept
