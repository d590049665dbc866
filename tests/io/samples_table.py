"""What the README of the real samples states of each file, and its values by a path that shares nothing with a reader."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import rasterio
import scipy.io

Plain = Callable[[Path], np.ndarray]


@dataclass(frozen=True)
class Sample:
    """One row: `path` below the samples, how it opens, and what then must hold; None is not looked at.

    `wavelength` are the first and last centre [nm], `bad` the product's numbers of bad bands, `nodata` the number of
    raw integers, `transform` as GDAL orders it, `classes` the values of labels (count or list).
    """

    path: str
    shape: tuple[int, ...]
    plain: Plain
    opens: str = "cube"
    options: dict[str, Any] = field(default_factory=dict)
    quantity: str = "dn"
    dtype: str = ""
    wavelength: tuple[float, float] | None = None
    within: float = 1e-3
    fwhm: tuple[float, float] | None = None
    bad: list[int] | int | None = None
    nodata: int | None = None
    scale: float | None = None
    epsg: int | None = None
    transform: tuple[float, ...] | None = None
    kind: str = ""
    history: str = ""
    layers: tuple[str, ...] = ()
    classes: list[int] | int | None = None
    rtol: float = 0.0


# --- independent paths -------------------------------------------------------------------------------------------


def gdal(scale: float = 1.0, offset: float = 0.0, nodata: float | None = None) -> Plain:
    """All bands of a raster, by GDAL, with arithmetic in float64."""

    def read(path: Path) -> np.ndarray:
        with rasterio.open(path) as file:
            stored = file.read()
        if scale == 1.0 and nodata is None:
            return stored
        return np.where(stored == nodata, np.nan, stored * scale + offset)

    return read


def mat(key: str, factor: float = 1.0) -> Plain:
    return lambda path: np.moveaxis(scipy.io.loadmat(path)[key], -1, 0) * (1 if factor == 1.0 else factor)


def plane(key: str) -> Plain:
    return lambda path: scipy.io.loadmat(path)[key]


def flat(dtype: str, disk: tuple[int, int, int], axes: tuple[int, int, int], nodata: float | None = None) -> Plain:
    """A flat binary file: sizes on disk, and the axes that make it (band, y, x)."""

    def read(path: Path) -> np.ndarray:
        data = path if path.suffix != ".hdr" else path.with_suffix("")
        values = np.fromfile(data, dtype).reshape(disk).transpose(axes)
        return values if nodata is None else np.where(values == nodata, np.nan, values)

    return read


def stack(folder: str, names: list[str], scale: Any, offset: Any, nodata: int) -> Plain:
    """One raster a band."""

    def read(path: Path) -> np.ndarray:
        out = []
        for name, a, b in zip(
            names, np.broadcast_to(scale, len(names)), np.broadcast_to(offset, len(names)), strict=True
        ):
            with rasterio.open((path if path.is_dir() else path.parent) / folder / name) as file:
                stored = file.read(1)
            out.append(np.where(stored == nodata, np.nan, stored * a + b))
        return np.stack(out)

    return read


def landsat5(path: Path) -> np.ndarray:
    text = next(path.glob("*MTL.txt")).read_text()
    bands = [1, 2, 3, 4, 5, 7, 6]
    facts = {
        w: [float(re.search(rf"RADIANCE_{w}_BAND_{b}\s*=\s*(\S+)", text)[1]) for b in bands] for w in ("MULT", "ADD")
    }
    return stack("", [f"LT52240631988227CUB02_B{b}.TIF" for b in bands], facts["MULT"], facts["ADD"], 255)(path)


def neon(path: Path) -> np.ndarray:
    with h5py.File(path, "r") as file:
        stored = file["SJER/Reflectance/Reflectance_Data"][()]
    return np.where(stored == -9999, np.nan, stored / 10000.0).transpose(2, 0, 1)


def emit(name: str) -> Plain:
    def read(path: Path) -> np.ndarray:
        with h5py.File(path, "r") as file:
            stored = file[name][()]
        return np.where(stored == -9999, np.nan, stored).transpose(2, 0, 1)

    return read


def berlin(path: Path) -> np.ndarray:
    return np.fromfile(path.with_suffix(".sli"), "<f8").reshape(75, 177) / 10000


def asd(path: Path) -> np.ndarray:
    """Spectrum at byte 484, the white reference after a header of flag, two times and a description."""
    data = path.read_bytes()
    target = np.frombuffer(data, "<f8", 2151, 484)
    at = 484 + target.nbytes
    (length,) = struct.unpack_from("<h", data, at + 18)
    return (target / np.frombuffer(data, "<f8", 2151, at + 20 + length))[None]


def columns(pattern: str) -> Plain:
    return lambda path: pd.read_csv(path).filter(regex=pattern).to_numpy()


def text(column: int) -> Plain:
    return lambda path: np.loadtxt(path)[None, :, column]


def signatures(path: Path) -> np.ndarray:
    entries = scipy.io.loadmat(path)["spectralSignatures"].reshape(-1)
    return np.stack([entry["reflectance"].reshape(-1) for entry in entries])


# --- the rows ----------------------------------------------------------------------------------------------------

TILES = [
    (64, 32), (96, 0), (96, 32), (96, 96), (128, 0), (128, 32), (128, 96), (128, 128), (160, 64), (160, 96), (160, 128),
    (160, 160), (192, 64), (192, 96),
]  # fmt: skip
S2 = {
    "AOT": 183, "B01": 183, "B02": 1098, "B03": 1098, "B04": 1098, "B05": 549, "B06": 549, "B07": 549, "B08": 1098,
    "B09": 183, "B11": 549, "B12": 549, "B8A": 549, "SCL": 549,
}  # fmt: skip
L8 = "LC08_L2SP_001062_20201031_20201106_02_T2"
L5 = "LT52240631988227CUB02"
MASKS = ("cloud", "cirrus", "shadow", "snow", "water", "nodata")


def tile_ground(x: int, y: int) -> tuple[float, ...]:
    return 362175.0 + 30 * x, 30.0, 0.0, 5809965.0 - 30 * y, 0.0, -30.0


ROWS = [
    # EnMAP: DN times the band scale, six bands wholly nodata.
    *(
        Sample(
            f"enmap/images/enmap_potsdam_tile_{x}_{y}.tif", (224, 32, 32), gdal(1e-4, nodata=-32768), quantity="reflectance",
            wavelength=(418.24, 2445.53), fwhm=(5.0, 13.0), bad=[130, 131, 132, 133, 134, 135], epsg=32633, scale=1e-4,
            nodata=-32768, transform=tile_ground(x, y), kind="map", rtol=1e-6,
        )
        for x, y in TILES
    ),
    *(
        Sample(
            f"enmap/labels/enmap_potsdam_tile_{x}_{y}.tif", (32, 32), lambda p: gdal()(p)[0], opens="labels",
            epsg=32633, transform=tile_ground(x, y), classes=6,
        )
        for x, y in TILES
    ),
    Sample(
        "enmap/enmap_potsdam_landcover.tif", (200, 330), lambda p: gdal()(p)[0], opens="labels", epsg=32633, classes=6,
        transform=tile_ground(0, 0),
    ),
    Sample("enmap/landcover_potsdam_point.gpkg", (120,), lambda p: np.zeros(120), opens="vectors"),
    Sample("enmap/veg-cover-fraction_potsdam_point.gpkg", (200,), lambda p: np.zeros(200), opens="vectors"),
    # EMIT: swaths with their lookup table.
    Sample(
        "emit/EMIT_L1B_OBS_001_20220827T060753_9999999_999.nc", (11, 200, 200), emit("obs"), opens="layers", kind="swath",
        layers=("elevation", "sun_zenith"), dtype="float32",
    ),
    Sample(
        "emit/EMIT_L2A_MASK_001_20220827T060753_9999999_999.nc", (8, 200, 200), emit("mask"), opens="layers", kind="swath",
        layers=("cloud", "cirrus", "water", "spacecraft", "dilated_cloud", "aod550", "interpolated_bands"),
    ),
    # AVIRIS.
    Sample("aviris/sandiego_plane.mat", (189, 100, 100), mat("data"), dtype="uint16", kind="none", layers=("map",)),
    Sample(
        "aviris/salton_sea_roi.mat", (224, 51, 56), mat("I"), options={"quantity": "reflectance"}, quantity="reflectance",
        wavelength=(365.9136593, 2496.216), within=0.1, fwhm=(9.0, 13.0), layers=("rgb",), rtol=1e-6,
        history="taken as micrometres",
    ),
    Sample(
        "aviris/aviris_vi_demo_90x90x224.mat", (224, 90, 90), mat("hsi_img", 1e-4), quantity="reflectance",
        options={"quantity": "reflectance", "scale": 1e-4}, wavelength=(365.9, 2496.2), within=0.1, rtol=1e-6,
    ),
    Sample(
        "aviris/pixels/AV320250308t200738_rdn.img", (284, 1, 1), flat("<f4", (284, 1, 1), (0, 1, 2)), quantity="radiance",
        wavelength=(389.75, 2494.0), kind="swath", layers=("sun_zenith", "elevation", "obs"), options={}, scale=10.0,
        rtol=1e-6,
    ),
    Sample("aviris/pixels/AV320250308t200738_obs.img", (11, 1, 1), flat("<f8", (11, 1, 1), (0, 1, 2)), rtol=1e-6),
    Sample("aviris/pixels/AV320250308t200738_loc.img", (3, 1, 1), flat("<f8", (3, 1, 1), (0, 1, 2)), rtol=1e-6),
    Sample(
        "aviris/pixels/ang20171108t184227_rdn_v2p11_BeckmanLawn.txt", (1, 425), text(1), opens="library",
        wavelength=(376.859985, 2500.5), within=0.1, rtol=1e-6,
    ),
    Sample(
        "aviris/pixels/BeckmanLawn.txt", (1, 2151), text(1), opens="library", quantity="reflectance",
        wavelength=(350, 2500), rtol=1e-6,
    ),
    Sample("hydice/HYDICE_data.mat", (162, 100, 80), mat("data"), dtype="uint16", kind="none", layers=("map",)),
    # CASI: reflectance below 0 stays.
    Sample(
        "casi/an_hsi_image_sub_for_demo.mat", (72, 51, 88), mat("hsi_img_sub"), options={"quantity": "reflectance"},
        quantity="reflectance", wavelength=(367.7, 1043.4), layers=("mask_sub",),
    ),
    Sample(
        "casi/an_hsi_img_for_tgt_det_demo.mat", (72, 36, 36), mat("hsi_sub"), options={"quantity": "reflectance"},
        quantity="reflectance", wavelength=(367.7, 1043.4), layers=("gtImg_sub",),
    ),
    Sample(
        "casi/an_hsi_img_for_class_demo.mat", (72, 31, 20), mat("hsi_sub"), options={"quantity": "reflectance"},
        quantity="reflectance", wavelength=(367.7, 1043.4),
    ),
    Sample(
        "casi/tgt_lab_spectra.mat", (9, 2301), signatures, opens="library", quantity="reflectance", wavelength=(200, 2500)
    ),
    Sample(
        "rosis/pavia_fusion_pair.mat", (103, 80, 50), mat("I1"), wavelength=(430.0, 860.0), layers=("rgb1",), rtol=1e-6,
        history="taken as micrometres",
    ),
    Sample(
        "neon/neon_sjer_subset.h5", (426, 30, 30), neon, quantity="reflectance", wavelength=(383.5, 2511.9), within=0.1,
        epsg=32611, transform=(257000.0, 1.0, 0.0, 4112000.0, 0.0, -1.0), kind="map", scale=1e-4, nodata=-9999, rtol=1e-6,
    ),
    Sample(
        "headwall/corn-kernel-hyperspectral.raw", (580, 31, 43), flat("<u2", (31, 580, 43), (1, 0, 2)), dtype="uint16",
        wavelength=(366.551, 1048.421), kind="none",
    ),
    Sample(
        "headwall/darkReference", (978, 1, 1600), flat("<u2", (1, 978, 1600), (1, 0, 2)), dtype="uint16",
        wavelength=(379.027, 1000.9), within=0.1, kind="none",
    ),
    # Sentinel-2: whole product by its item, and each COG.
    *(
        Sample(
            f"sentinel2/{name}", (4, 1098, 1098), stack("", ["B02.tif", "B03.tif", "B04.tif", "B08.tif"], 1e-4, 0, 0),
            quantity="reflectance", wavelength=(492.4, 832.8), within=1.0, epsg=32629, scale=1e-4, nodata=0, kind="map",
            layers=(*MASKS, "scl", "bands_20m"), rtol=1e-6,
        )
        for name in ("", "S2A_29RKH_20200219_0_L2A.json")
    ),
    *(
        Sample(f"sentinel2/{name}.tif", (1, size, size), gdal(), epsg=32629, nodata=0, kind="map")
        for name, size in S2.items()
    ),
    # Landsat: two collections, and a plain TIFF.
    *(
        Sample(
            f"landsat/LC08_L2SP/{name}", (7, 386, 379),
            stack("", [f"{L8}_SR_B{b}.TIF" for b in range(1, 8)], 2.75e-5, -0.2, 0), quantity="reflectance",
            wavelength=(443, 2200), within=2.0, epsg=32620, scale=2.75e-5, nodata=0, kind="map", layers=MASKS, rtol=2e-6,
        )
        for name in ("", f"{L8}_MTL.txt", f"{L8}_MTL.json", f"{L8}_SR_stac.json")
    ),
    *(
        Sample(f"landsat/LC08_L2SP/{L8}_{name}.TIF", (1, 386, 379), gdal(), epsg=32620)
        for name in ("QA_PIXEL", *(f"SR_B{b}" for b in range(1, 8)))
    ),
    Sample(
        "landsat/LT05_L1", (7, 310, 287), landsat5, quantity="radiance", epsg=32622, nodata=255, kind="map", rtol=1e-5
    ),
    *(Sample(f"landsat/LT05_L1/{L5}_B{b}.TIF", (1, 310, 287), gdal(), epsg=32622) for b in range(1, 8)),
    Sample("landsat/L7_ETMs.tif", (6, 352, 349), gdal(), dtype="uint8", kind="map"),
    Sample("labels/Indian_pines_gt.mat", (145, 145), plane("indian_pines_gt"), opens="labels", classes=17),
    Sample("labels/PaviaU_gt.mat", (610, 340), plane("paviaU_gt"), opens="labels", classes=10),
    Sample("labels/Salinas_gt.mat", (512, 217), plane("salinas_gt"), opens="labels", classes=17),
    Sample(
        "traits/ely_plsr_data.csv", (178, 1901), columns(r"^Wave_"), opens="library", wavelength=(500, 2400), rtol=1e-6
    ),
    Sample(
        "traits/soilmoisture_dataset.csv", (679, 125), columns(r"^\d+$"), opens="library", wavelength=(454, 950),
        quantity="reflectance", rtol=1e-6,
    ),
    *(
        Sample(
            f"speclib/roberts2017_urban.{end}", (3725, 224),
            lambda p: np.fromfile(p.with_suffix(".sli"), "<f4").reshape(3725, 224), opens="library",
        )
        for end in ("sli", "hdr")
    ),
    *(
        Sample(
            f"speclib/library_berlin.{end}", (75, 177), berlin, opens="library", quantity="reflectance",
            wavelength=(460, 2409), scale=1e-4, rtol=1e-12,
        )
        for end in ("sli", "hdr")
    ),
    Sample(
        "speclib/ribb00001.asd", (1, 2151), asd, opens="library", quantity="reflectance", wavelength=(350, 2500), rtol=1e-6
    ),
    Sample(
        "speclib/ecostress_snow_mixtures", (216, 500, 1), flat("<f4", (500, 216, 1), (1, 0, 2)), wavelength=(350, 2500)
    ),
    Sample(
        "envi_headers/engeomap/cubus_gamsberg_subset", (189, 25, 10), flat("<f4", (189, 25, 10), (0, 1, 2)),
        wavelength=(426.820007, 2324.9), within=0.1, history="without units taken as nanometres",
    ),
    Sample(
        "unmixing/emit/emit20250324t221005_jpl_unmix_ex", (285, 10, 10), flat("<f4", (10, 285, 10), (1, 0, 2), -9999),
        options={"quantity": "reflectance"}, quantity="reflectance", wavelength=(381.0055927, 2492.9), within=0.1,
        history="without units taken as nanometres",
    ),
    Sample(
        "unmixing/jasper/jasperRidge2_R198.mat", (198, 100, 100),
        lambda p: scipy.io.loadmat(p)["Y"].reshape(198, 100, 100).transpose(0, 2, 1), dtype="uint16",
        layers=("abundances",), history="column by column",
    ),
    Sample(
        "unmixing/samson/samson_1.mat", (156, 95, 95),
        lambda p: scipy.io.loadmat(p)["V"].reshape(156, 95, 95).transpose(0, 2, 1), rtol=1e-6,
    ),
]  # fmt: skip

HEADERS = {
    # Headers without their data, which the test makes: wavelengths [nm], widths, flags.
    "envi_headers/envi_wl_fwhm.hdr": ([400, 500], [10, 20], [False, True]),
    "envi_headers/envi_wl_implicit_nm.hdr": ([400, 500], [np.nan, np.nan], [True, True]),
    "envi_headers/envi_wl_implicit_um.hdr": ([400, 500], [np.nan, np.nan], [True, True]),
}

NO_PRODUCT = {
    "README.md": "this list",
    "restoration_splits.json": "splits",
    "enmap/enmap_potsdam_srf.geojson": "responses of a sensor, as features without geometry",
    "emit/emit20220815t042838_ch4_target.txt": "absorption of a gas, not a spectrum of a pixel",
    "emit/mineral_grouping_matrix_20230503.csv": "legend of the mineral product",
    "aviris/pixels/20170320_ang20170228_wavelength_fit.txt": "band centres of a sensor",
    "aviris/pixels/AV320250308t200738_loc.txt": "source of the .img",
    "aviris/pixels/AV320250308t200738_obs.txt": "source of the .img",
    "aviris/pixels/AV320250308t200738_rdn.txt": "source of the .img",
    "landsat/LT05_L1/LT52240631988227CUB02_MTL.txt": "opens as its folder",
    "speclib/library_berlin.csv": "attributes of library_berlin.sli",
    "speclib/library_berlin.json": "colours of library_berlin.sli",
    "speclib/library_berlin.gpkg": "the same library as a QGIS table",
    "speclib/roberts2017_urban.csv": "attributes of roberts2017_urban.sli",
    "traits/prospect_coefficients.README.md": "text",
    "traits/prospect_coefficients.npz": "coefficients of a model",
}
"""Files of the README that hold no image, spectra or labels of their own, and what they are."""

OWN_LISTS = ("unmixing", "irca", "weights", "pansharpening")
"""Folders with lists of their own."""
