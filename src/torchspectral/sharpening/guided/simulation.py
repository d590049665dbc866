"""Guides made of a hyperspectral scene, as a finer multispectral sensor would have seen it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from torchspectral import sensors
from torchspectral.cube import check_cube, make_cube
from torchspectral.errors import BadSettings, BandMismatch, UnknownName, closest
from torchspectral.geo import grid_of, place
from torchspectral.ops.axis import apply
from torchspectral.ops.mtf import HS_GAIN
from torchspectral.result import Report, Result
from torchspectral.sharpening.guided.operators import low_pairs, run_pairs, shift_operator
from torchspectral.sharpening.pairs import as_floats
from torchspectral.spectra.matrix import apply_matrix, spectral_matrix

SENSOR = "sentinel-2a"
BANDS = ("B2", "B3", "B4", "B8")
"""The 10 m bands of Sentinel-2."""
COARSE_BANDS = ("B5", "B6", "B7", "B8A", "B11", "B12")
"""Its 20 m bands."""


def simulate_guides(
    cube: xr.DataArray,
    *,
    sensor: str = SENSOR,
    bands: Sequence[str] = BANDS,
    coarse_bands: Sequence[str] = (),
    snr: float | None = None,
    shift: tuple[float, float] = (0.0, 0.0),
    seed: int = 0,
) -> Result:
    """Guide bands on the cube's own grid, and coarser ones on a grid of half as many pixels.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        With wavelengths; held in memory. It is usually the truth of `simulate_wald`.
    sensor : str
        Whose spectral responses are used.
    bands, coarse_bands : sequence of str
        Names of its bands; those that the cube does not see are left out, and the report says so.
    snr : float, optional
        Noise that is added, below the root mean square of each band [dB].
    shift : (float, float)
        Rows and columns by which the content of the guides is moved [pixels].
    seed : int
        Of the noise.

    Returns
    -------
    Result
        ``guides`` (K, y, x) and, with coarse bands that the cube sees, ``coarse`` (K', y // 2, x // 2), centred on
        their footprints.

    Raises
    ------
    UnknownName, BandMismatch, MissingMetadata, BadSettings
    """
    if snr is not None and not np.isfinite(snr):
        raise BadSettings(f"got snr={snr!r}, expected decibels or None")
    cube = as_floats(check_cube(cube))
    made = sensors.get(sensor)
    report = Report(
        method="sharpening/guides",
        settings={"sensor": made.name, "bands": list(bands), "coarse_bands": list(coarse_bands), "snr": snr,
                  "shift": list(shift)},
        seed=seed,
    )  # fmt: skip
    weights, coverage = spectral_matrix(cube, made)
    values = {}
    rng = np.random.default_rng(seed)
    for name, wanted in (("guides", bands), ("coarse", coarse_bands)):
        index = [_index(made, band) for band in wanted]
        unseen = [made.names[i] for i in index if not coverage.good[i]]
        if unseen:
            report.dropped.append(f"bands of {made.title} that the scene does not see: {', '.join(unseen)}")
        index = [i for i in index if coverage.good[i]]
        if not index:
            continue
        image = apply_matrix(np.asarray(cube.values, dtype=np.float64), weights[index])
        values[name] = _seen(cube, image, made, index, name == "coarse", shift, snr, rng)
    if not values:
        raise BandMismatch(f"the scene sees none of the bands {', '.join(bands)} of {made.title}: choose others")
    return Result(values, report)


def _index(sensor: sensors.Sensor, band: str) -> int:
    if band not in sensor.names:
        raise UnknownName(f"{sensor.name} has no band {band!r}: {closest(band, sensor.names)}")
    return sensor.names.index(band)


def _seen(
    cube: xr.DataArray,
    image: np.ndarray,
    sensor: sensors.Sensor,
    index: list[int],
    coarse: bool,
    shift: tuple[float, float],
    snr: float | None,
    rng: np.random.Generator,
) -> xr.DataArray:
    hole = ~np.isfinite(image)
    values = torch.from_numpy(np.where(hole, np.nanmean(image), image))
    grid = grid_of(cube)
    if any(shift):
        values = apply(values, *(shift_operator(n, -d) for n, d in zip(image.shape[-2:], shift, strict=True)))
    if coarse:
        rows, cols = (n // 2 * 2 for n in image.shape[-2:])
        values = run_pairs(values[..., :rows, :cols], low_pairs((rows, cols), 2, HS_GAIN, (-0.5, -0.5)))
        hole = hole[:, :rows, :cols].reshape(-1, rows // 2, 2, cols // 2, 2).any((2, 4))
        grid = grid.window(0, 0, rows, cols).scaled(0.5)
    out = values.numpy()
    if snr is not None:
        level = np.sqrt((out**2).mean((1, 2), keepdims=True)) * 10 ** (-snr / 20)
        out = out + level * rng.standard_normal(out.shape)
    out = np.where(hole, np.nan, out).astype(np.float32)
    made = make_cube(
        out,
        wavelength=sensor.wavelength[index],
        fwhm=sensor.fwhm[index],
        quantity=cube.attrs.get("quantity", "dn"),
        attrs={
            "sensor": sensor.name,
            "history": [*cube.attrs.get("history", []), f"guides of {sensor.title} simulated"],
        },
    )
    return made if grid.kind not in ("map", "rotated") else place(made, grid.transform, grid.crs)
