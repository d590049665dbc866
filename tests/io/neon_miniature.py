"""Writes miniature NEON AOP files from the published layout; shares nothing with the reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

MAP_INFO = "UTM,  1.000,  1.000,       512000.00,       4112000.0,       2.0000000,       2.0000000,  11,  North,  WGS-84,  units=Meters, 0"


def write_neon(
    path: Path, *, site: str = "SOAP", kind: str = "Reflectance", size: tuple[int, int] = (8, 9), bands: int = 24,
    scalar: bool = True, order: str = "yxb", labels: bool = False, factor: float | None = 10000.0, units: str = "",
    ancillary: bool = True, windows: bool = True, mode: str = "w", seed: int = 0, map_info: str = MAP_INFO,
    data: bool = True, chunks: Any = (4, 4, 8),
) -> dict[str, np.ndarray]:  # fmt: skip
    """Write one site into a file; returns what was stored, the cube as (y, x, band)."""
    rows, cols = size
    rng = np.random.default_rng(seed)
    stored: dict[str, np.ndarray] = {"wavelength": np.round(np.linspace(383.5343, 2511.8945, bands), 4)}
    with h5py.File(path, mode) as file:
        group = file.create_group(f"{site}/{kind}")
        shape = tuple({"y": rows, "x": cols, "b": bands}[k] for k in order)
        item = group.create_dataset(
            f"{kind}_Data",
            shape,
            np.int16,
            chunks=tuple(min(a, b) for a, b in zip(chunks, shape, strict=True)),
            compression="gzip",
        )
        if data:
            cube = rng.integers(-300, 9000, (rows, cols, bands)).astype(np.int16)
            cube[0, 0] = -9999
            cube[1, 1, 3] = 0
            item[...] = cube.transpose(["yxb".index(k) for k in order])
            stored["cube"] = cube

        def number(value: float) -> Any:
            return np.float64(value) if scalar else np.array([value])

        if factor is not None:
            item.attrs["Scale_Factor"] = number(factor)
        item.attrs["Data_Ignore_Value"] = number(-9999.0)
        if labels:
            item.attrs["Dimension_Labels"] = ", ".join(
                {"y": "Line", "x": "Sample", "b": "Wavelength"}[k] for k in order
            )
        if units:
            item.attrs["Units"] = np.bytes_(units)
        if windows:
            group.attrs["Band_Window_1_Nanometers"] = np.array([1340, 1445])
            group.attrs["Band_Window_2_Nanometers"] = np.bytes_("1790,1955")
        meta = group.create_group("Metadata")
        spectral = meta.create_group("Spectral_Data")
        spectral["Wavelength"] = stored["wavelength"]
        spectral["Wavelength"].attrs["Units"] = np.bytes_("Nanometers")
        spectral["FWHM"] = stored["fwhm"] = np.round(np.linspace(5.4, 6.2, bands), 3)
        place = meta.create_group("Coordinate_System")
        if scalar:
            place["Map_Info"], place["EPSG Code"] = np.bytes_(map_info), np.bytes_("32611")
        else:
            place["Map_Info"] = np.array([map_info], dtype=h5py.string_dtype())
            place["EPSG Code"] = np.array(["32611"], dtype=h5py.string_dtype())
        if ancillary:
            images = meta.create_group("Ancillary_Imagery")
            stored["slope"] = rng.uniform(0, 40, (rows, cols)).astype(np.float32)
            images["Slope"] = stored["slope"]
            stored["aod"] = rng.integers(0, 400, (rows, cols)).astype(np.int16)
            images["Aerosol_Optical_Depth"] = stored["aod"]
            images["Aerosol_Optical_Depth"].attrs["Scale_Factor"] = number(1000.0)
            stored["elevation"] = rng.uniform(300, 900, (rows, cols)).astype(np.float32)
            images["Smooth_Surface_Elevation"] = stored["elevation"]
            images["Weather_Quality_Indicator"] = rng.integers(0, 255, (rows, cols, 3)).astype(np.uint8)
            stored["zenith"] = rng.uniform(0, 20, (rows, cols)).astype(np.float32)
            stored["zenith"][0, 0] = -9999
            meta["to-sensor_Zenith_Angle"] = stored["zenith"]
            meta["to-sensor_Zenith_Angle"].attrs["Data_Ignore_Value"] = number(-9999.0)
            meta["Logs/Solar_Zenith_Angle"] = np.float32(31.5)
            meta["Logs/Solar_Azimuth_Angle"] = np.float32(140.25)
    return stored
