"""Writes miniature AVIRIS-3 netCDF files from the published layout; shares nothing with the reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from cf_netcdf_miniature import describe, dimension, grid_mapping, variable

LINE = "AV320231008t155205_003"


def write_aviris(
    path: Path, group: str = "reflectance", *, order: str = "byx", size: tuple[int, int] = (6, 8), bands: int = 10,
    coordinates: tuple[str, str] = ("northing", "easting"), named: bool = True, units: str = "", fill: bool = True,
    swath: bool = False, up: bool = False, seed: int = 0, chunks: Any = None, data: bool = True,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Root: coordinates and a scalar grid mapping; group: cube, wavelength, fwhm. Returns (band, y, x), north first."""
    rows, cols = size
    rng = np.random.default_rng(seed)
    stored: dict[str, np.ndarray] = {}
    north = 4300000.0 - 4.5 * (np.arange(rows) + 0.5)
    east = 400000.0 + 4.5 * (np.arange(cols) + 0.5)
    with h5py.File(path, "w") as file:
        describe(file, title="AVIRIS-3 scene", instrument="AVIRIS-3", time_coverage_start="2023-10-08T15:52:05Z")
        inner = file.create_group(group)
        wave = dimension(inner, "wavelength", np.linspace(390.59, 2492.36, bands))
        describe(wave, units="nanometers")
        if swath:
            dims = {"y": dimension(file, "lines", rows), "x": dimension(file, "samples", cols), "b": wave}
            y, x = np.mgrid[:rows, :cols]
            stored["lon"], stored["lat"] = -120 + 1e-4 * (x + 0.3 * y), 37 - 1e-4 * y
            for key in ("lon", "lat"):
                variable(file, key, stored[key], [dims["y"], dims["x"]])
        else:
            dims = {
                "y": dimension(file, coordinates[0], north[::-1] if up else north),
                "x": dimension(file, coordinates[1], east),
                "b": wave,
            }
            grid_mapping(file, "transverse_mercator", 32610)
        shape = {"b": bands, "y": rows, "x": cols}
        if data:
            cube = rng.uniform(-0.02, 0.8, (bands, rows, cols)).astype(np.float32)
            cube[:, 0, 0] = -9999
            stored["cube"] = cube
            values = (cube[:, ::-1] if up else cube).transpose(["byx".index(k) for k in order])
            item = variable(inner, group, values, [dims[k] for k in order] if named else [])
        else:
            item = inner.create_dataset(group, [shape[k] for k in order], np.float32, chunks=chunks)
            for axis, key in enumerate(order):
                item.dims[axis].attach_scale(dims[key])
        if fill:
            describe(item, _FillValue=-9999.0)
        if units:
            describe(item, units=units)
        if not swath:
            describe(item, grid_mapping="transverse_mercator")
        variable(inner, "fwhm", np.full(bands, 7.5), [wave])
        stored["wavelength"] = np.linspace(390.59, 2492.36, bands)
    return stored


def write_observations(
    path: Path, *, size: tuple[int, int] = (6, 8), table: bool = False, seed: int = 3
) -> dict[str, np.ndarray]:
    """Observation parameters in sensor geometry or, without lookup table, on the map of the reflectance."""
    rows, cols = size
    rng = np.random.default_rng(seed)
    stored = {}
    with h5py.File(path, "w") as file:
        if table:
            dims = [dimension(file, "lines", rows), dimension(file, "samples", cols)]
            y, x = np.mgrid[:rows, :cols]
            for key, values in (("lon", -120 + 1e-4 * (x + 0.5)), ("lat", 37 - 1e-4 * (y + 0.5))):
                variable(file, key, values, dims)
        else:
            dims = [
                dimension(file, "northing", 4300000.0 - 4.5 * (np.arange(rows) + 0.5)),
                dimension(file, "easting", 400000.0 + 4.5 * (np.arange(cols) + 0.5)),
            ]
            grid_mapping(file, "transverse_mercator", 32610)
        group = file.create_group("observation_parameters")
        for key, units in (
            ("path_length", "m"),
            ("to_sensor_zenith", "degrees"),
            ("to_sun_zenith", "degrees"),
            ("utc_time", "hours"),
        ):
            stored[key] = rng.uniform(1, 80, (rows, cols)).astype(np.float32)
            stored[key][0, 0] = -9999
            variable(group, key, stored[key], dims, units=units, _FillValue=-9999.0)
        if table:
            inner = file.create_group("geolocation_lookup_table")
            north, east = (
                dimension(inner, "northing", 4100 - 2.0 * np.arange(5)),
                dimension(inner, "easting", 700 + 2.0 * np.arange(4)),
            )
            mapping = {"grid_mapping": "transverse_mercator"}
            grid_mapping(inner, "transverse_mercator", 32610)
            stored["sample"] = rng.integers(1, cols + 1, (5, 4)).astype(np.int32)
            stored["line"] = rng.integers(1, rows + 1, (5, 4)).astype(np.int32)
            stored["sample"][0, 0] = stored["line"][0, 0] = 0
            stored["sample"][1, 1], stored["line"][1, 1] = -2, -3
            variable(inner, "sample", stored["sample"], [north, east], **mapping)
            variable(inner, "line", stored["line"], [north, east], **mapping)
    return stored
