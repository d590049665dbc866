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
from torchspectral.learn.splits import TRAIN


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
    groups: list[list[Scene]] = []
    for scene in scenes:
        near = next((g for g in groups if alike(waves_of(cube_of(g[0])), waves_of(cube_of(scene)))), None)
        if near is None:
            groups.append([scene])
        else:
            near.append(scene)
    return [_sensor(members, resolution) for members in groups]


def _sensor(scenes: Sequence[Scene], resolution: float) -> Sensor:
    wavelength, index = common_bands(scenes)
    if not np.isfinite(wavelength).all():
        raise MissingMetadata("a band has no wavelength, which Hyper-MAE computes with: give all bands one [nm]")
    metres = [side_of_pixel(cube_of(scene), resolution) for scene in scenes]
    if max(metres) > 1.05 * min(metres):
        raise BandMismatch(
            f"got scenes of one sensor with pixels of {min(metres):g} to {max(metres):g} m, expected one size: resample them"
        )
    every = waves_of(cube_of(scenes[0]))
    return Sensor(tuple(map(float, wavelength)), tuple(map(int, index)), tuple(map(float, every)), metres[0])


def side_of_pixel(cube: xr.DataArray, otherwise: float) -> float:
    """Side of a pixel [m], of the cube's grid where it lies on one."""
    grid = grid_of(cube)
    if grid.kind not in ("map", "rotated"):
        return otherwise
    side = sum(grid.resolution) / 2
    return side * DEGREE if grid.crs is not None and grid.crs.is_geographic else side


def cube_of(scene: Scene) -> xr.DataArray:
    """The cube of a scene."""
    return scene["cube"] if isinstance(scene, xr.Dataset) else scene


def waves_of(cube: xr.DataArray) -> np.ndarray:
    """Wavelengths of all bands [nm]."""
    return np.asarray(cube["wavelength"].values, dtype=np.float64)


def alike(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two lists of bands are those of one sensor."""
    return one.size == two.size and bool(np.allclose(one, two, rtol=0, atol=1.0, equal_nan=True))


def moments(store: PatchStore, role: str, sensor: int | None, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each band over the valid pixels of a sensor's training patches, at most 2000 of them."""
    count, number = store.count(TRAIN), 0
    total, squares = np.zeros(bands), np.zeros(bands)
    for place in np.unique(np.linspace(0, count - 1, min(2000, count)).round().astype(int)):
        sample = store.sample(TRAIN, int(place))
        if sensor is not None and round(float(sample["sensor"].flat[0])) != sensor:
            continue
        seen = sample["valid"][0] > 0.5 if "valid" in sample else np.ones(sample[role].shape[1:], dtype=bool)
        pixels = sample[role][:bands, seen].astype(np.float64)
        number += pixels.shape[1]
        total += pixels.sum(1)
        squares += np.square(pixels).sum(1)
    mean = total / max(number, 1)
    deviation = np.sqrt(np.maximum(squares / max(number, 1) - mean**2, 0))
    if not number or not bool((deviation > 0).all()):
        which = "of radar" if sensor is None else f"of sensor {sensor + 1}"
        raise BadInput(f"{number} pixels {which} to train on, in which a band does not vary: give more scenes of it")
    return mean, deviation
