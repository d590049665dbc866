"""Calibration: three verbs, each a function of its own; what they share.

``calibrate_gain`` finds relative gains of detectors or bands from scenes (lines that overlap, spectra that are known,
homogeneous targets) and returns them as `gain.gains.Gains`; ``apply_gains`` corrects a scene by them.
``calibrate_reflectance`` turns raw numbers into reflectance by a dark and a white reference.
The interferometer's part (`interferometer/`) works on devices and interferograms.

Order of work on raw data: dark, linearity, gain, then bad pixels, then geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube, good_bands, outside_bands
from torchspectral.errors import BadInput, BadSettings, BandMismatch

ROOM = "calibration"


def check_lines(scenes: Any) -> list[xr.DataArray]:
    """Cubes of the same bands and detectors.

    Raises
    ------
    BadCube, BadInput, BandMismatch
    """
    listed = [scenes] if isinstance(scenes, xr.DataArray) else list(scenes)
    if not listed:
        raise BadInput("got no scene, expected at least one")
    cubes = [check_cube(cube) for cube in listed]
    first = cubes[0]
    for number, cube in enumerate(cubes, 1):
        if cube.ndim != 3:
            raise BadInput(f"line {number} is a video, expected one image (band, y, x)")
        if "packing" in cube.attrs:
            raise BadInput(f"line {number} is packed integers (raw=True), expected physical values or raw numbers")
        if cube.sizes["band"] != first.sizes["band"]:
            raise BandMismatch(
                f"line {number} has {cube.sizes['band']} bands, the first {first.sizes['band']}: expected the same sensor"
            )
        away = np.abs(cube["wavelength"].values - first["wavelength"].values)
        if np.nanmax(np.nan_to_num(away)) > 1.0:
            raise BandMismatch(f"line {number} has bands up to {np.nanmax(away):.3g} nm off those of the first")
    return cubes


def pick(cube: xr.DataArray, bands: str | Sequence[int]) -> np.ndarray:
    """Indices of the bands that are worked on.

    Raises
    ------
    BadSettings
    """
    count = cube.sizes["band"]
    if isinstance(bands, str):
        if bands not in ("good", "all"):
            raise BadSettings(f"got bands={bands!r}, expected 'good', 'all' or a list of band indices from 0")
        found = good_bands(cube) if bands == "good" else np.arange(count)
    else:
        found = np.array(sorted({int(b) for b in bands}), dtype=np.int64)
        if problem := outside_bands(found, count):
            raise BadSettings(problem)
    if not found.size:
        raise BadInput("no band is marked good, expected at least one: bands='all' takes them all")
    return found
