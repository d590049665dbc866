"""Writes miniature Landsat products from the layout of USGS; shares nothing with the reader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

SIZE = (8, 10)
ELEVATION = 40.0


def write_band(path: Path, values: np.ndarray, pixel: float = 30.0, nodata: float | None = None) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=values.shape[0], width=values.shape[1], dtype=values.dtype,
        nodata=nodata, crs="EPSG:32633", transform=Affine(pixel, 0, 500000, 0, -pixel, 4000000),
    ) as out:  # fmt: skip
        out.write(values, 1)


def odl(groups: dict[str, dict[str, object]], root: str = "LANDSAT_METADATA_FILE") -> str:
    lines = [f"GROUP = {root}"]
    for name, keys in groups.items():
        lines.append(f"  GROUP = {name}")
        for key, value in keys.items():
            lines.append(f"    {key} = " + (f'"{value}"' if isinstance(value, str) else f"{value}"))
        lines.append(f"  END_GROUP = {name}")
    return "\n".join([*lines, f"END_GROUP = {root}", "END", ""])


def write_l2(folder: Path, *, as_json: bool = False, sensor: str = "OLI_TIRS") -> dict[str, np.ndarray]:
    """A Collection 2 Level 2 product; Level 1 coefficients stand in a group of their own, as in real files."""
    stem = "LC08_L2SP_193024_20210601_20210609_02_T1"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    stored = {f"SR_B{n}": rng.integers(7273, 43636, SIZE).astype(np.uint16) for n in range(1, 8)}
    for values in stored.values():
        values[0, :2] = 0
    stored["ST_B10"] = rng.integers(40000, 50000, SIZE).astype(np.uint16)
    stored["ST_B10"][0, :2] = 0
    quality = np.full(SIZE, 1 << 6, np.uint16)
    quality[0, :2] = 1
    quality[1, 0], quality[1, 1], quality[1, 2] = 1 << 1, 1 << 3, 1 << 2
    quality[1, 3], quality[1, 4], quality[1, 5] = 1 << 4, 1 << 5, 1 << 7
    stored["QA_PIXEL"] = quality
    saturation = np.zeros(SIZE, np.uint16)
    saturation[2, 2], saturation[2, 3] = 1 << 3, 1 << 11  # band 4 saturated; terrain occlusion is no saturation
    stored["QA_RADSAT"] = saturation
    stored["ST_EMIS"] = rng.integers(9000, 9999, SIZE).astype(np.int16)
    stored["ST_EMIS"][0, 0] = -9999
    for name, values in stored.items():
        write_band(folder / f"{stem}_{name}.TIF", values, nodata=0 if name.startswith("SR_") else None)
    contents: dict[str, object] = {"LANDSAT_PRODUCT_ID": stem, "PROCESSING_LEVEL": "L2SP", "COLLECTION_NUMBER": 2}
    contents |= {f"FILE_NAME_BAND_{n}": f"{stem}_SR_B{n}.TIF" for n in range(1, 8)}
    contents |= {
        "FILE_NAME_BAND_ST_B10": f"{stem}_ST_B10.TIF",
        "FILE_NAME_EMISSIVITY": f"{stem}_ST_EMIS.TIF",
        "FILE_NAME_QUALITY_L1_PIXEL": f"{stem}_QA_PIXEL.TIF",
        "FILE_NAME_QUALITY_L1_RADIOMETRIC_SATURATION": f"{stem}_QA_RADSAT.TIF",
        "FILE_NAME_CLOUD_DISTANCE": f"{stem}_ST_CDIST.TIF",
    }
    groups: dict[str, dict[str, object]] = {
        "PRODUCT_CONTENTS": contents,
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": "LANDSAT_8", "SENSOR_ID": sensor, "DATE_ACQUIRED": "2021-06-01",
            "SCENE_CENTER_TIME": "10:01:02.1234567Z", "CLOUD_COVER": 12.5, "ROLL_ANGLE": -0.5, "SUN_AZIMUTH": 150.5,
            "SUN_ELEVATION": ELEVATION,
        },
        "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {
            **{f"REFLECTANCE_MULT_BAND_{n}": 2.75e-05 for n in range(1, 8)},
            **{f"REFLECTANCE_ADD_BAND_{n}": -0.2 for n in range(1, 8)},
        },
        "LEVEL2_SURFACE_TEMPERATURE_PARAMETERS": {
            "TEMPERATURE_MULT_BAND_ST_B10": 0.00341802, "TEMPERATURE_ADD_BAND_ST_B10": 149.0,
        },
        "LEVEL1_PROCESSING_RECORD": {f"FILE_NAME_BAND_{n}": f"LC08_L1TP_B{n}.TIF" for n in range(1, 12)},
        "LEVEL1_RADIOMETRIC_RESCALING": {
            **{f"REFLECTANCE_MULT_BAND_{n}": 2e-05 for n in range(1, 10)},
            **{f"REFLECTANCE_ADD_BAND_{n}": -0.1 for n in range(1, 10)},
        },
    }  # fmt: skip
    if as_json:
        (folder / f"{stem}_MTL.json").write_text(json.dumps({"LANDSAT_METADATA_FILE": {
            g: {k: str(v) for k, v in keys.items()} for g, keys in groups.items()}}))  # fmt: skip
    else:
        (folder / f"{stem}_MTL.txt").write_text(odl(groups))
    return stored


def write_l1(folder: Path, *, spacecraft: str = "LANDSAT_8", sensor: str = "OLI_TIRS") -> dict[str, np.ndarray]:
    """A Collection 2 Level 1 product: OLI with PAN and two thermal bands, or ETM+ with two gains of band 6."""
    oli = sensor.startswith("OLI")
    stem = "LC09_L1TP_193024_20220601_20220609_02_T1" if oli else "LE07_L1TP_193024_20020601_20200916_02_T1"
    labels = [str(n) for n in range(1, 12)] if oli else ["1", "2", "3", "4", "5", "6_VCID_1", "6_VCID_2", "7", "8"]
    thermal = {"10", "11"} if oli else {"6_VCID_1", "6_VCID_2"}
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(2)
    stored, contents, scaling = {}, {"LANDSAT_PRODUCT_ID": stem, "PROCESSING_LEVEL": "L1TP"}, {}
    for index, label in enumerate(labels):
        shape = (16, 20) if label == "8" else SIZE
        values = rng.integers(1, 60000 if oli else 255, shape).astype(np.uint16 if oli else np.uint8)
        values[0, 0] = 0
        stored[label] = values
        contents[f"FILE_NAME_BAND_{label}"] = f"{stem}_B{label}.TIF"
        write_band(folder / f"{stem}_B{label}.TIF", values, 15.0 if label == "8" else 30.0)
        scaling[f"RADIANCE_MULT_BAND_{label}"] = 0.01 + 0.001 * index
        scaling[f"RADIANCE_ADD_BAND_{label}"] = 0.1 * (index + 1)
        if label not in thermal:
            scaling[f"REFLECTANCE_MULT_BAND_{label}"] = 2e-05
            scaling[f"REFLECTANCE_ADD_BAND_{label}"] = -0.1
    stored["VZA"] = rng.integers(-100, 900, SIZE).astype(np.int16)
    write_band(folder / f"{stem}_VZA.TIF", stored["VZA"])
    contents["FILE_NAME_ANGLE_SENSOR_ZENITH_BAND_4"] = f"{stem}_VZA.TIF"
    groups: dict[str, dict[str, object]] = {
        "PRODUCT_CONTENTS": contents,
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": spacecraft, "SENSOR_ID": sensor, "DATE_ACQUIRED": "2022-06-01",
            "SCENE_CENTER_TIME": "10:01:02.1234567Z", "SUN_ELEVATION": ELEVATION, "SUN_AZIMUTH": 150.5,
        },
        "LEVEL1_RADIOMETRIC_RESCALING": scaling,
        "LEVEL1_THERMAL_CONSTANTS": {
            **{f"K1_CONSTANT_BAND_{n}": 774.8853 for n in thermal}, **{f"K2_CONSTANT_BAND_{n}": 1321.0789 for n in thermal},
        },
    }  # fmt: skip
    (folder / f"{stem}_MTL.txt").write_text(odl(groups))
    return stored
