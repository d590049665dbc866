"""Scenes of several sensors side by side: their bands, their pixels and their statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from torchspectral.errors import BadInput, BandMismatch, MissingMetadata
from torchspectral.geo.grids import grid_of
from torchspectral.learn.patches import PatchStore
from torchspectral.learn.recipe import Scene, common_bands
from torchspectral.learn.scenes import cubes_of
from torchspectral.pretraining.statistics import band_statistics


@dataclass(frozen=True)
class Sensor:
    """Scenes with the same bands.

    Attributes
    ----------
    wavelength : tuple of float
        Of the good bands [nm].
    index : tuple of int
        Their positions in the scenes.
    every : tuple of float
        Of all bands [nm].
    resolution : float
        Side of a pixel [m].
    """

    wavelength: tuple[float, ...]
    index: tuple[int, ...]
    every: tuple[float, ...]
    resolution: float


DEGREE = 111_320.0
"""Metres of a degree of latitude."""


def sort_by_sensor(scenes: Sequence[Scene], resolution: float) -> list[Sensor]:
    """The sensors of scenes, in the order of their first scene.

    Parameters
    ----------
    scenes : sequence of Scene
        Those whose bands lie at the same wavelengths within 1 nm are of one sensor.
    resolution : float
        Side of a pixel where a scene does not say it [m].

    Raises
    ------
    BandMismatch
        Pixels of one sensor differ in size.
    MissingMetadata
        A band without a wavelength.
    """
    groups: list[list[xr.DataArray]] = []
    for cube in cubes_of(scenes):
        near = next((g for g in groups if alike(waves_of(g[0]), waves_of(cube))), None)
        if near is None:
            groups.append([cube])
        else:
            near.append(cube)
    return [_sensor(members, resolution) for members in groups]


def _sensor(cubes: Sequence[xr.DataArray], resolution: float) -> Sensor:
    wavelength, index = common_bands(cubes)
    if not np.isfinite(wavelength).all():
        raise MissingMetadata("a band has no wavelength, which Hyper-MAE computes with: give all bands one [nm]")
    metres = [side_of_pixel(cube, resolution) for cube in cubes]
    if max(metres) > 1.05 * min(metres):
        raise BandMismatch(
            f"got scenes of one sensor with pixels of {min(metres):g} to {max(metres):g} m, expected one size: resample them"
        )
    every = waves_of(cubes[0])
    return Sensor(tuple(map(float, wavelength)), tuple(map(int, index)), tuple(map(float, every)), metres[0])


def side_of_pixel(cube: xr.DataArray, otherwise: float) -> float:
    """Side of a pixel [m], of the cube's grid where it lies on one."""
    grid = grid_of(cube)
    if grid.kind not in ("map", "rotated"):
        return otherwise
    side = sum(grid.resolution) / 2
    return side * DEGREE if grid.crs is not None and grid.crs.is_geographic else side


def waves_of(cube: xr.DataArray) -> np.ndarray:
    """Wavelengths of all bands [nm]."""
    return np.asarray(cube["wavelength"].values, dtype=np.float64)


def alike(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two lists of bands are those of one sensor."""
    return one.size == two.size and bool(np.allclose(one, two, rtol=0, atol=1.0, equal_nan=True))


def statistics_of(
    store: PatchStore, role: str, bands: int, most: int, sensor: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each band over the valid pixels of a sensor's training patches, or of all.

    Raises
    ------
    BadInput
        There is none, or a band does not vary.
    """
    found = band_statistics(
        store, role, bands, most, None if sensor is None else lambda s: round(float(s["sensor"].flat[0])) == sensor
    )
    if not found.pixels or found.flat.size:
        which = "of radar" if sensor is None else f"of sensor {sensor + 1}"
        raise BadInput(
            f"{found.pixels} pixels {which} to train on, in which a band does not vary: give more scenes of it"
        )
    return found.mean, found.std
