"""Writes miniature PRISMA products from the published layout; shares nothing with the reader."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from pyproj import Transformer

# Stored in descending order; the first SWIR and last three VNIR bands are unused (wavelength 0), as in real products.
VNIR = np.round(np.linspace(1010.0, 402.0, 66), 3)
SWIR = np.round(np.linspace(2497.0, 920.0, 173), 3)
MIN_MAX = {"Vnir": (0.01, 0.91), "Swir": (-0.02, 0.71), "Pan": (0.0, 0.83)}


def write_product(
    path: Path, level: str = "L2D", *, size: tuple[int, int] = (7, 9), anchor: str = "center", pan: str = "six",
    counts: tuple[int, int] = (66, 173), empty: bool = True, chunked: bool = False, seed: int = 0, registered: bool = True,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Write one product and return what was stored."""
    rows, cols = size
    rng = np.random.default_rng(seed)
    nv, ns = counts
    vnir = rng.integers(1, 65536, (rows, nv, cols)).astype(np.uint16)
    swir = rng.integers(1, 65536, (rows, ns, cols)).astype(np.uint16)
    wave_v, wave_s = VNIR[:nv].copy(), SWIR[:ns].copy()
    wave_v[-3:] = 0
    wave_s[:2] = 0
    vnir[2, 5, 3] = 0
    if empty:
        vnir[0, :, :2] = 0
        swir[0, :, :2] = 0
        vnir[4, :, 5] = 0
    pan_shape = {"six": (6 * rows, 6 * cols), "centred": (6 * (rows - 1) + 1, 6 * (cols - 1) + 1)}.get(pan, (5, 5))
    panchromatic = rng.integers(1, 65536, pan_shape).astype(np.uint16)
    panchromatic[0, 0] = 0
    stored = {"vnir": vnir, "swir": swir, "pan": panchromatic, "wave_v": wave_v, "wave_s": wave_s}
    options = {"chunks": (min(rows, 16), nv, min(cols, 64))} if chunked else {}
    with h5py.File(path, "w") as file:
        names = ("HCO", "PCO") if registered else ("HRC", "PRC")
        hco, pco = (f"HDFEOS/SWATHS/PRS_{level}_{kind}" for kind in names)
        kind = "PIXEL_SAT_ERR_MATRIX" if level == "L1" else "PIXEL_L2_ERR_MATRIX"
        file.create_dataset(f"{hco}/Data Fields/VNIR_Cube", data=vnir, **options)
        file.create_dataset(f"{hco}/Data Fields/SWIR_Cube", data=swir)
        error_v = np.zeros(vnir.shape, np.uint8)
        error_v[1, 4, 2] = 3
        file.create_dataset(f"{hco}/Data Fields/VNIR_{kind}", data=error_v)
        file.create_dataset(f"{hco}/Data Fields/SWIR_{kind}", data=np.zeros(swir.shape, np.uint8))
        file.create_dataset(f"{pco}/Data Fields/Cube", data=panchromatic)
        file.create_dataset(f"{pco}/Data Fields/{kind}", data=np.zeros(pan_shape, np.uint8))
        cloud = np.zeros((rows, cols), np.uint8)
        cloud[3, 3:6], cloud[5, 5] = 1, 10
        if level == "L1":
            file.create_dataset(f"{hco}/Data Fields/Cloud_Mask", data=cloud)
        else:
            for name in ("Observing_Angle", "Rel_Azimuth_Angle", "Solar_Zenith_Angle"):
                file.create_dataset(f"{hco}/Geometric Fields/{name}", data=np.full((rows, cols), 7.5, np.float32))
        x = 500015.0 + 30 * np.arange(cols)[None] + 3 * np.arange(rows)[:, None] * (level != "L2D")
        y = 5000985.0 - 30 * np.arange(rows)[:, None] + 0 * np.arange(cols)[None]
        lon, lat = Transformer.from_crs(32632, 4326, always_xy=True).transform(*np.broadcast_arrays(x, y))
        stored["lon"], stored["lat"] = lon.astype(np.float32), lat.astype(np.float32)
        for tail in ("_VNIR", "_SWIR") if level == "L1" else ("",):
            file[f"{hco}/Geolocation Fields/Latitude{tail}"] = stored["lat"]
            file[f"{hco}/Geolocation Fields/Longitude{tail}"] = stored["lon"]
        file["KDP_AUX/Cw_Vnir_Matrix"] = (wave_v[None] + 0.1 * np.arange(cols)[:, None]).astype(np.float32)
        file["KDP_AUX/Cw_Swir_Matrix"] = (wave_s[None] + 0.1 * np.arange(cols)[:, None]).astype(np.float32)
        file["KDP_AUX/Fwhm_Vnir_Matrix"] = np.full((cols, nv), 11.0, np.float32)
        file["KDP_AUX/Fwhm_Swir_Matrix"] = np.full((cols, ns), 12.0, np.float32)
        put = file.attrs
        put["List_Cw_Vnir"], put["List_Cw_Swir"] = wave_v.astype(np.float32), wave_s.astype(np.float32)
        put["List_Fwhm_Vnir"] = np.linspace(11, 13, nv).astype(np.float32)
        put["List_Fwhm_Swir"] = np.linspace(10, 12, ns).astype(np.float32)
        put["List_Cw_Vnir_Flags"] = (wave_v > 0).astype(np.int8)
        put["List_Cw_Swir_Flags"] = (wave_s > 0).astype(np.int8)
        put["Processing_Level"] = np.bytes_(level)
        put["Product_StartTime"] = np.bytes_("2021-06-01T10:11:12.345678")
        put["Product_StopTime"] = np.bytes_("2021-06-01T10:11:16.6")
        put["Sun_zenith_angle"], put["Sun_azimuth_angle"] = np.float32(25.5), np.float32(140.25)
        if level == "L1":
            for name, factor in (("Vnir", 100.0), ("Swir", 250.0), ("Pan", 50.0)):
                put[f"ScaleFactor_{name}"], put[f"Offset_{name}"] = np.float32(factor), np.float32(1.5)
        else:
            for name, (low, high) in MIN_MAX.items():
                put[f"L2Scale{name}Min"], put[f"L2Scale{name}Max"] = np.float32(low), np.float32(high)
        if level == "L2D":
            put["Epsg_Code"] = np.uint32(32632)
            west, north = 500000.0, 5001000.0
            inset, steps = (15.0, 1) if anchor == "center" else (0.0, 0)
            wide, high = (cols - steps) * 30.0, (rows - steps) * 30.0
            if anchor == "neither":
                wide += 77.0
            for corner, dx, dy in (("UL", 0, 0), ("UR", wide, 0), ("LL", 0, high), ("LR", wide, high)):
                put[f"Product_{corner}corner_easting"] = np.float32(west + inset + dx)
                put[f"Product_{corner}corner_northing"] = np.float64(north - inset - dy)
    return stored


def physical(stored: dict[str, np.ndarray], level: str) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Values (band, y, x), wavelengths, detectors and stored numbers, bands sorted, by plain loops."""
    gone = ~(stored["vnir"].any(axis=1) | stored["swir"].any(axis=1))
    found = []
    for cube, wave, name, first in (("vnir", "wave_v", "Vnir", 1), ("swir", "wave_s", "Swir", 67)):
        for band, centre in enumerate(stored[wave]):
            if centre == 0:
                continue
            dn = stored[cube][:, band].astype(np.float64)
            if level == "L1":
                value = dn / {"Vnir": 100.0, "Swir": 250.0}[name] - 1.5
            else:
                low, high = (float(np.float32(v)) for v in MIN_MAX[name])
                value = low + dn * (high - low) / 65535
            value[gone] = np.nan
            found.append((float(np.float32(centre)), value, cube, first + band))
    found.sort(key=lambda item: item[0])
    return (
        np.stack([f[1] for f in found]), np.array([f[0] for f in found]), [f[2] for f in found],
        np.array([f[3] for f in found]),
    )  # fmt: skip
