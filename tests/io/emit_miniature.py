"""Writes miniature EMIT products from the published layout, with h5py alone; shares nothing with the reader."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

SCENE = "20230316T045133_2307503_005"
WKT = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
    'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],UNIT["degree",0.0174532925199433,'
    'AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]]'
)
GEOTRANSFORM = np.array([10.0, 0.0005, -0.0, 50.0, -0.0, -0.0005])
OBS = [
    "Path length (sensor-to-ground in meters)", "To-sensor azimuth", "To-sensor zenith", "To-sun azimuth", "To-sun zenith",
    "Solar phase", "Slope", "Aspect", "Cosine(i)", "UTC Time", "Earth-sun distance (AU)",
]  # fmt: skip
MASK = [
    "Cloud flag",
    "Cirrus flag",
    "Water flag",
    "Spacecraft Flag",
    "Dilated Cloud Flag",
    "AOD550",
    "H2O (g cm-2)",
    "Aggregate Flag",
]


def name_of(kind: str, version: str = "001") -> str:
    level = {"RAD": "L1B", "OBS": "L1B", "MIN": "L2B", "MINUNCERT": "L2B"}.get(kind, "L2A")
    return f"EMIT_{level}_{kind}_{version}_{SCENE}.nc"


def positions(rows: int, cols: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Longitudes and latitudes of a sheared swath, and its 1-based lookup table (0 where empty)."""
    y, x = np.mgrid[:rows, :cols]
    west, step, _, north, _, down = GEOTRANSFORM
    lon = west + (x + 0.5 + 0.4 * y) * step
    lat = north + (y + 0.5) * down
    width = cols + int(0.4 * rows) + 1
    glt_x, glt_y = np.zeros((2, rows, width), np.int32)
    for i in range(rows):
        for j in range(width):
            sensor = round(j - 0.4 * i)
            if 0 <= sensor < cols:
                glt_x[i, j], glt_y[i, j] = sensor + 1, i + 1
    return lon, lat, glt_x, glt_y


def write_emit(
    folder: Path, kind: str, *, size: tuple[int, int] = (12, 9), bands: int = 20, float_glt: bool = False,
    units: str | None = "uW/cm^2/SR/nm", location: bool = True, version: str = "001", name: str = "", seed: int = 0,
    chunks: tuple[int, int, int] | None = None, data: bool = True, fill: bool = True,
) -> tuple[Path, dict[str, np.ndarray]]:  # fmt: skip
    """Write one product; returns its path and what was stored."""
    rows, cols = size
    rng = np.random.default_rng(seed)
    path = folder / (name or name_of(kind, version))
    stored: dict[str, np.ndarray] = {}
    with h5py.File(path, "w") as file:
        _globals(file, kind)
        count = {"OBS": 11, "MASK": 8}.get(kind, bands)
        dims = {"downtrack": rows, "crosstrack": cols, "bands": count}
        for dim, length in dims.items():
            file[dim] = np.zeros(length, np.float32)
            file[dim].make_scale(dim)

        def cube(
            variable: str, dtype: str, last: str = "bands", long: str = "", depth: int | None = None
        ) -> h5py.Dataset:
            shape = (rows, cols, depth or dims[last])
            item = file.create_dataset(variable, shape, dtype, chunks=chunks or (min(rows, 5), min(cols, 4), shape[2]))
            for axis, dim in enumerate(("downtrack", "crosstrack", last)):
                if dim in file and file[dim].shape == (shape[axis],):
                    item.dims[axis].attach_scale(file[dim])
            if fill and dtype != "u1":
                item.attrs["_FillValue"] = np.array([-9999.0], np.float32)
            if long:
                item.attrs["long_name"] = long
            return item

        def put(item: h5py.Dataset, values: np.ndarray) -> None:
            stored[item.name.strip("/")] = values
            item[...] = values

        group = file.create_group("sensor_band_parameters")
        if kind in ("RAD", "RFL", "RFLUNCERT"):
            variable = {"RAD": "radiance", "RFL": "reflectance", "RFLUNCERT": "reflectance_uncertainty"}[kind]
            item = cube(variable, "<f4", long=variable)
            if kind == "RAD" and units is not None:
                item.attrs["units"] = units
            if data:
                values = rng.uniform(-0.02, 1.0, (rows, cols, bands)).astype(np.float32)
                values[0, :2] = -9999
                values[3, 3, 4] = 0.0
                put(item, values)
            wave = np.linspace(381.0055927, 2492.9238, bands).astype(np.float32)
            stored["wavelengths"], stored["fwhm"] = wave, np.full(bands, 8.41, np.float32)
            for key in ("wavelengths", "fwhm"):
                group[key] = stored[key]
                group[key].attrs["units"] = "nm"
            if kind != "RAD":
                good = np.ones(bands, np.float32)
                good[bands // 2 : bands // 2 + 3] = 0
                group["good_wavelengths"] = stored["good"] = good
        elif kind == "OBS":
            item = cube("obs", "<f4", long="Observation Data")
            put(item, rng.uniform(0, 90, (rows, cols, 11)).astype(np.float32))
            group["observation_bands"] = np.array(OBS, dtype=h5py.string_dtype())
        elif kind == "MASK":
            values = (rng.random((rows, cols, 8)) < 0.15).astype(np.float32)
            values[..., 5:7] = rng.uniform(0.1, 2.0, (rows, cols, 2))
            values[0, 0] = -9999
            put(cube("mask", "<f4", long="Masks"), values)
            packed = (rng.random((rows, cols, 36)) < 0.02).astype(np.uint8) * rng.integers(
                1, 256, (rows, cols, 36)
            ).astype(np.uint8)
            put(cube("band_mask", "u1", last="packed_wavelength_bands", depth=36), packed)
            group["mask_bands"] = np.array(MASK, dtype=h5py.string_dtype())
        else:
            _minerals(file, kind, rows, cols, rng, stored)
        if location:
            _location(file, rows, cols, float_glt, stored)
    return path, stored


def _globals(file: h5py.File, kind: str) -> None:
    put = file.attrs
    put["sensor"] = np.bytes_("EMIT (Earth Surface Mineral Dust Source Investigation)")
    put["instrument"], put["platform"] = np.bytes_("EMIT"), np.bytes_("ISS")
    put["time_coverage_start"] = np.bytes_("2023-03-16T04:51:33+0000")
    put["time_coverage_end"] = np.bytes_("2023-03-16T04:51:45+0000")
    put["flight_line"] = np.bytes_("emit20230316t045133_o07503_s000")
    put["software_build_version"] = np.bytes_("010611")
    put["title"] = np.bytes_(f"EMIT {kind} 60 m V001")
    put["spatial_ref"], put["geotransform"] = np.bytes_(WKT), GEOTRANSFORM


def _location(file: h5py.File, rows: int, cols: int, float_glt: bool, stored: dict[str, np.ndarray]) -> None:
    lon, lat, glt_x, glt_y = positions(rows, cols)
    elev = 100.0 + 3.0 * np.arange(rows * cols, dtype=np.float64).reshape(rows, cols)
    group = file.create_group("location")
    for key, values in (("lon", lon), ("lat", lat), ("elev", elev)):
        group[key] = stored[key] = values
        group[key].attrs["_FillValue"] = np.array([-9999.0])
    stored["glt_x"], stored["glt_y"] = glt_x, glt_y
    for key, table in (("glt_x", glt_x), ("glt_y", glt_y)):
        group[key] = np.where(table == 0, np.nan, table).astype(np.float32) if float_glt else table


def _minerals(
    file: h5py.File, kind: str, rows: int, cols: int, rng: np.random.Generator, stored: dict[str, np.ndarray]
) -> None:
    tails = ("band_depth", "mineral_id") if kind == "MIN" else ("band_depth_unc", "fit")
    for number in (1, 2):
        for tail in tails:
            key = f"group_{number}_{tail}"
            if tail == "mineral_id":
                values = rng.integers(0, 4, (rows, cols)).astype(np.int16)
            else:
                values = rng.uniform(0, 0.3, (rows, cols)).astype(np.float32)
                values[0, 0] = -9999
            file[key] = stored[key] = values
            if values.dtype.kind == "f":
                file[key].attrs["_FillValue"] = np.array([-9999.0], np.float32)
            for axis, dim in enumerate(("downtrack", "crosstrack")):
                file[key].dims[axis].attach_scale(file[dim])
    if kind == "MIN":
        group = file.create_group("mineral_metadata")
        group["index"] = np.array([1, 2, 3], np.int32)
        group["name"] = np.array(["Calcite WS272", "Goethite WS222", "Kaolinite KGa-1"], dtype=h5py.string_dtype())
        group["group"] = np.array([2, 1, 2], np.int32)
        group["url"] = np.array(["a", "b", "c"], dtype=h5py.string_dtype())
