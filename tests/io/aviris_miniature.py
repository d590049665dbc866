"""Writes miniature AVIRIS flight lines as their files are described; shares nothing with the reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CODES = {"int16": 2, "int32": 3, "float32": 4, "float64": 5}
AXES = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}
NG, CLASSIC, THREE = "ang20171108t184227", "f130522t01p00r05", "AV320250308t200738_003"
OBS_NAMES = (
    "Path length (m), To-sensor azimuth (deg), To-sensor zenith (deg), To-sun azimuth (deg), To-sun zenith (deg), "
    "Phase, Slope, Aspect, Cosine i, UTC time, Earth-sun distance (AU)"
)


def envi(path: Path, values: np.ndarray, keys: str = "", interleave: str = "bil") -> Path:
    """One ENVI pair, `values` as (band, y, x); the data file has no ending, as these products have it."""
    np.ascontiguousarray(values.transpose(AXES[interleave])).tofile(path)
    bands, lines, samples = values.shape
    text = (
        f"ENVI\ndescription = {{\n  a flight line }}\nsamples = {samples}\nlines = {lines}\nbands = {bands}\n"
        f"header offset = 0\nfile type = ENVI Standard\ndata type = {CODES[values.dtype.name]}\n"
        f"interleave = {interleave}\nbyte order = 0\n{keys}"
    )
    header = path.with_name(path.name + ".hdr")
    header.write_text(text)
    return header


def listed(values: np.ndarray, form: str = "{:.4f}") -> str:
    return "{ " + " , ".join(form.format(v) for v in values) + " }"


def classic_wavelengths() -> np.ndarray:
    """224 centres of four detectors that overlap: three steps back."""
    return np.concatenate(
        [
            np.linspace(365.9, 675.0, 32), np.linspace(653.0, 1262.0, 64), np.linspace(1253.0, 1870.0, 64),
            np.linspace(1866.0, 2496.0, 64),
        ]
    )  # fmt: skip


def classic(folder: Path, rows: int = 6, cols: int = 5) -> dict[str, np.ndarray]:
    """Rectified reflectance and radiance in integers, with the gains of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    wave = classic_wavelengths()
    keys = (
        f"wavelength units = Nanometers\nwavelength = {listed(wave)}\nfwhm = {listed(np.full(224, 9.8))}\n"
        "map info = { UTM , 1 , 1 , 579717.180 , 3714550.700 , 16.900 , 16.900 , 11 , North , WGS-84 , units=Meters , "
        "rotation=34.0000 }\n"
    )
    factors = rng.uniform(0.78, 1.05, 224).round(5)
    rfl = rng.integers(-20, 9000, (224, rows, cols)).astype(np.int16)
    rfl[:, 0, 0] = -50
    rfl[7, 2, 2] = -50  # a value like others
    rfl[:, 1, 1] = -9999
    extra = f"correction factors = {listed(factors, '{:.5f}')}\n"
    envi(folder / f"{CLASSIC}_rfl_v1_img", rfl, keys + extra, "bip")
    rdn = rng.integers(0, 3000, (224, rows, cols)).astype(np.int16)
    envi(folder / f"{CLASSIC}rdn_e_sc01_ort_img", rdn, keys, "bip")
    gains = np.where(np.arange(224) < 160, 300.0, 600.0)
    (folder / f"{CLASSIC}rdn_e.gain").write_text("".join(f"  {g:.6f}   {n}\n" for n, g in enumerate(gains, 1)))
    obs = rng.uniform(0, 90, (11, rows, cols))
    envi(folder / f"{CLASSIC}rdn_e_obs_ort", obs, keys.split("\n", 3)[3] + f"band names = {{{OBS_NAMES}}}\n")
    return {"rfl": rfl, "rdn": rdn, "gains": gains, "factors": factors, "wavelength": wave, "obs": obs}


def sensor_geometry(
    folder: Path, flight: str = NG, bands: int = 7, rows: int = 5, cols: int = 4, units: str = "Nanometers",
    with_loc: bool = True,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Unrectified radiance with angles, positions and a lookup table that fills some places from neighbours."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(8)
    wave = np.linspace(376.9, 2500.6, bands)
    factor = 1e-3 if units == "Micrometers" else 1.0
    rdn = rng.uniform(0.1, 12, (bands, rows, cols)).astype(np.float32)
    rdn[:, 4, 3] = -9999
    keys = f"wavelength units = {units}\nwavelength = {listed(wave * factor, '{:.6f}')}\ndata ignore value = -9999\n"
    envi(folder / f"{flight}_rdn_v2p11_img", rdn, keys)
    obs = rng.uniform(0, 90, (11, rows, cols))
    envi(folder / f"{flight}_obs", obs, f"band names = {{{OBS_NAMES}}}\n", "bip")
    easting = 500000.0 + 30.0 * np.arange(cols)[None] + 4.0 * np.arange(rows)[:, None]
    northing = 4100000.0 - 30.0 * np.arange(rows)[:, None] + 3.0 * np.arange(cols)[None]
    height = rng.uniform(10, 30, (rows, cols))
    envi(folder / f"{flight}_igm", np.stack([easting, northing, height]), "band names = {IGM Map X, IGM Map Y, Elev}\n")
    # A grid of 6 x 5 places; the sensor sees an inner part, one place is filled from its neighbour.
    glt = np.zeros((2, 6, 5), np.int32)
    glt[0, 0:rows, 0:cols] = np.arange(1, cols + 1)[None]
    glt[1, 0:rows, 0:cols] = np.arange(1, rows + 1)[:, None]
    glt[:, 5, 0] = (-1, -5)
    ground = "map info = {UTM, 1, 1, 499985.0, 4100015.0, 30, 30, 11, North, WGS-84, units=Meters}\n"
    envi(folder / f"{flight}_glt", glt, ground + "band names = {GLT Sample Lookup, GLT Line Lookup}\n", "bip")
    found = {"rdn": rdn, "obs": obs, "easting": easting, "northing": northing, "height": height, "glt": glt}
    if with_loc:
        lon, lat = -117 + easting * 1e-6, 37 + northing * 1e-7
        lon[0, 0] = lat[0, 0] = -9999
        envi(folder / f"{flight}_loc", np.stack([lon, lat, height]), "band names = {Longitude, Latitude, Elevation}\n")
        found |= {"lon": lon, "lat": lat}
    return found | {"wavelength": wave}
