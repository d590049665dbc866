"""Writes miniature PACE OCI files from the published structure; shares nothing with the reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from cf_netcdf_miniature import describe, dimension, variable

# The last two blue bands lie inside the range of red.
WAVES = {"blue": [350.0, 450, 550, 600.5, 605], "red": [600.0, 603, 700, 850], "SWIR": [940.0, 1250, 1250, 1615]}


def _places(group: h5py.Group, dims: list[Any], rows: int, cols: int) -> dict[str, np.ndarray]:
    y, x = np.mgrid[:rows, :cols]
    lon, lat = (-30 + 0.01 * x + 0.002 * y).astype(np.float32), (40 - 0.01 * y).astype(np.float32)
    variable(group, "longitude", lon, dims, units="degrees_east", _FillValue=-32767.0)
    variable(group, "latitude", lat, dims, units="degrees_north", _FillValue=-32767.0)
    return {"lon": lon, "lat": lat}


def write_l1b(
    path: Path, *, size: tuple[int, int] = (7, 9), packed: bool = False, seed: int = 0
) -> dict[str, np.ndarray]:
    rows, cols = size
    rng = np.random.default_rng(seed)
    stored: dict[str, np.ndarray] = {}
    with h5py.File(path, "w") as file:
        describe(
            file,
            title="PACE OCI Level-1B Data",
            instrument="OCI",
            platform="PACE",
            processing_level="L1B",
            time_coverage_start="2024-06-01T12:00:00.000Z",
        )
        ground = [dimension(file, "scans", rows), dimension(file, "pixels", cols)]
        bands = {name: dimension(file, f"{name}_bands", len(waves)) for name, waves in WAVES.items()}
        where, data, facts = (
            file.create_group(g) for g in ("geolocation_data", "observation_data", "sensor_band_parameters")
        )
        stored |= _places(where, ground, rows, cols)
        stored["zenith"] = rng.integers(0, 9000, (rows, cols)).astype(np.int16)
        variable(
            where,
            "solar_zenith",
            stored["zenith"],
            ground,
            scale_factor=0.01,
            add_offset=0.0,
            units="degrees",
            _FillValue=-32767,
        )
        stored["height"] = rng.integers(0, 500, (rows, cols)).astype(np.int16)
        variable(where, "height", stored["height"], ground, units="meters", _FillValue=-32767)
        stored["watermask"] = rng.integers(0, 2, (rows, cols)).astype(np.uint8)
        variable(where, "watermask", stored["watermask"], ground, _FillValue=255)
        for name, waves in WAVES.items():
            shape = (len(waves), rows, cols)
            dims = [bands[name], *ground]
            if packed:
                values: np.ndarray = rng.integers(0, 60000, shape).astype(np.uint16)
                values[0, 0, 0] = 65535
                variable(data, f"rhot_{name}", values, dims, scale_factor=2e-5, add_offset=0.0, _FillValue=65535)
                stored[name] = np.where(values == 65535, np.nan, values * 2e-5)
            else:
                values = rng.uniform(0, 1.1, shape).astype(np.float32)
                values[0, 0, 0] = -32767
                variable(data, f"rhot_{name}", values, dims, units="dimensionless", _FillValue=-32767.0)
                stored[name] = np.where(values == -32767, np.nan, values)
            stored[f"qual_{name}"] = rng.integers(0, 3, shape).astype(np.uint8)
            variable(data, f"qual_{name}", stored[f"qual_{name}"], dims, _FillValue=255)
            variable(facts, f"{name}_wavelength", np.array(waves, np.float32), [bands[name]], units="nm")
            if name == "SWIR":
                variable(facts, "SWIR_bandpass", np.array([45.0, 30, 30, 75], np.float32), [bands[name]], units="nm")
    return stored


def write_l2(
    path: Path, *, cubes: tuple[str, ...] = ("Rrs",), size: tuple[int, int] = (7, 9), seed: int = 0
) -> dict[str, np.ndarray]:
    rows, cols = size
    rng = np.random.default_rng(seed)
    waves = np.array([346.0, 400, 500, 600, 719], np.float32)
    stored: dict[str, np.ndarray] = {"waves": waves}
    with h5py.File(path, "w") as file:
        describe(file, title="OCI Level-2 Data AOP", instrument="OCI", platform="PACE", processing_level="L2")
        ground = [dimension(file, "number_of_lines", rows), dimension(file, "pixels_per_line", cols)]
        third = dimension(file, "wavelength_3d", len(waves))
        data, where, facts = (
            file.create_group(g) for g in ("geophysical_data", "navigation_data", "sensor_band_parameters")
        )
        variable(facts, "wavelength_3d", waves, [third], units="nm")
        variable(facts, "wavelength", np.arange(320.0, 340), [dimension(file, "number_of_bands", 20)], units="nm")
        stored |= _places(where, ground, rows, cols)
        for name in cubes:
            values = rng.integers(-30000, 30000, (rows, cols, len(waves))).astype(np.int16)
            values[0, 0] = -32767
            variable(
                data,
                name,
                values,
                [*ground, third],
                units="sr^-1",
                scale_factor=2e-6,
                add_offset=0.05,
                _FillValue=-32767,
            )
            stored[name] = np.where(values == -32767, np.nan, values * 2e-6 + 0.05)
        flags = rng.choice([0, 1, 2, 16, 512, 514], (rows, cols)).astype(np.int32)
        stored["flags"] = flags
        item = variable(
            data,
            "l2_flags",
            flags,
            ground,
            flag_meanings="ATMFAIL LAND PRODWARN HIGLINT HILT HISATZEN COASTZ SPARE STRAYLIGHT CLDICE",
        )
        item.attrs["flag_masks"] = np.array([1 << n for n in range(10)], np.int32)
    return stored
