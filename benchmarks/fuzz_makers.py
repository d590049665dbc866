"""Miniature products for `fuzz.py`: name to what writes it into a folder and returns what is opened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import aviris_miniature
import aviris_netcdf_miniature
import cf_netcdf_miniature
import desis_miniature
import emit_miniature
import enmap_miniature
import hyperion_miniature
import landsat_miniature
import line_scan_miniature
import matlab_miniature
import mosaic_miniature
import neon_miniature
import numpy as np
import pace_miniature
import prisma_miniature
import sentinel2_miniature

import torchspectral as ts


def _first(pattern: str, write: Callable[[Path], Any]) -> Callable[[Path], Path]:
    """Write, then open the first file of a pattern."""

    def make(folder: Path) -> Path:
        write(folder)
        return sorted(folder.glob(pattern))[0]

    return make


def _file(name: str, write: Callable[[Path], Any]) -> Callable[[Path], Path]:
    """Write one file of a name."""

    def make(folder: Path) -> Path:
        write(folder / name)
        return folder / name

    return make


def _zipped(write: Callable[[Path], Any], pack: Callable[[Path, Path], Path], name: str) -> Callable[[Path], Path]:
    """Write a product and leave its archive alone."""

    def make(folder: Path) -> Path:
        made = write(folder / "p")
        inner = made[0] if isinstance(made, tuple) and isinstance(made[0], Path) and made[0].is_dir() else folder / "p"
        archive = Path(pack(inner, folder / name))
        shutil.rmtree(folder / "p")
        return archive

    return make


def _ours(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        cube = ts.make_cube(
            rng.random((6, 9, 8), dtype=np.float32),
            wavelength=np.linspace(450, 900, 6),
            fwhm=np.full(6, 10.0),
            quantity="reflectance",
        )
        return Path(ts.save(cube, folder / name))

    return make


def _uncompressed_matlab(folder: Path) -> Path:
    import scipy.io

    rng = np.random.default_rng(0)
    scipy.io.savemat(
        folder / "Y.mat",
        {"data": rng.integers(0, 9000, (9, 8, 6), dtype=np.uint16), "wavelength": np.linspace(450, 900, 6)},
    )
    return folder / "Y.mat"


def _vectors(name: str) -> Callable[[Path], Path]:
    """A few polygons in a format that keeps its table in binary."""

    def make(folder: Path) -> Path:
        import geopandas
        from shapely.geometry import box

        boxes = [box(0.1 * i, 0.1, 0.1 * i + 0.08, 0.5) for i in range(5)]
        geopandas.GeoDataFrame({"class": [1, 2, 3, 2, 1]}, geometry=boxes, crs="EPSG:4326").to_file(folder / name)
        return folder / name

    return make


def _mosaic(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = mosaic_miniature.write(folder / name, mosaic_miniature.frame(4, 16, 20))
        mosaic_miniature.calibration(folder / "frame.xml", 4, (0, 0, 20, 16))
        return path

    return make


def _numbers(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        values = np.random.default_rng(0).random((9, 8, 6)).astype("f4")
        if name.endswith(".npy"):
            np.save(folder / name, values)
        else:
            np.savez(folder / name, cube=values, wavelength=np.linspace(450, 900, 6))
        return folder / name

    return make


def _text(name: str, text: str) -> Callable[[Path], Path]:
    return _file(name, lambda path: path.write_text(text))


OFFSETS = dict.fromkeys(range(13), -1000.0)
SVC = "/*** Spectra Vista SIG Data ***/\nname= a.sig\ndata=\n" + "".join(
    f"{350 + i}.0 9.0 3.0 33.3\n" for i in range(9)
)
ECOSTRESS = (
    "Name: Quartz\nX Units: Wavelength (micrometers)\nY Units: Reflectance (percent)\n\n2.5 30\n1.5 20\n0.4 10\n"
)
USGS = "USGS Digital Spectral Library splib06a\n 0.4 0.5 0.01\n 0.5 0.6 0.01\n"
POINTS = "row,col,class\n" + "".join(f"{i},{2 * i},{1 + i % 3}\n" for i in range(20))
GEOJSON = (
    '{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"class":2},"geometry":'
    '{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,0]]]}}]}'
)

MAKERS: dict[str, Callable[[Path], Any]] = {
    "enmap-l2a": lambda f: enmap_miniature.write_product(f)[0],
    "enmap-l1b": lambda f: enmap_miniature.write_product(f, "L1B", gain=1e-6, rpc=True)[0],
    "enmap-zip": _zipped(enmap_miniature.write_product, enmap_miniature.zip_product, "ENMAP01-x.ZIP"),
    "prisma-l2d": _file("PRS_L2D_STD_1.he5", prisma_miniature.write_product),
    "prisma-l1": _file("PRS_L1_STD_1.he5", lambda p: prisma_miniature.write_product(p, "L1")),
    "emit-rad": lambda f: emit_miniature.write_emit(f, "RAD")[0],
    "emit-rfl": lambda f: (emit_miniature.write_emit(f, "MASK"), emit_miniature.write_emit(f, "RFL"))[1][0],
    "emit-min": lambda f: emit_miniature.write_emit(f, "MIN")[0],
    "aviris-classic": _first("*rfl*.hdr", aviris_miniature.classic),
    "aviris-ng": _first("*rdn*.hdr", aviris_miniature.sensor_geometry),
    "aviris-netcdf": _file("AV320231008t193312_005_L2A_OE_main_x_RFL_ORT.nc", aviris_netcdf_miniature.write_aviris),
    "cf-netcdf": _file("a.nc", cf_netcdf_miniature.write_cf),
    "pace-l1b": _file("PACE_OCI.20240405T151500.L1B.nc", pace_miniature.write_l1b),
    "pace-l2": _file("PACE_OCI.20240405T151500.L2.OC_AOP.nc", pace_miniature.write_l2),
    "neon": _file("NEON_D01_SITE_DP3_x_reflectance.h5", neon_miniature.write_neon),
    "desis": _first("*METADATA.xml", desis_miniature.write_product),
    "desis-zip": _zipped(desis_miniature.write_product, desis_miniature.zip_product, "DESIS-x.zip"),
    "hyperion": _first("*MTL*", lambda f: hyperion_miniature.write_scene(f, bands=[8, 9, 10, 79, 80])),
    "landsat-l2": _first("*MTL*", landsat_miniature.write_l2),
    "landsat-l2-json": _first("*MTL*", lambda f: landsat_miniature.write_l2(f, as_json=True)),
    "landsat-l1": _first("*MTL*", landsat_miniature.write_l1),
    "sentinel2-l2a": lambda f: sentinel2_miniature.write_safe(f, offsets=OFFSETS)[0],
    "sentinel2-l1c": lambda f: sentinel2_miniature.write_safe(f, "L1C", offsets=OFFSETS)[0],
    "sentinel2-zip": _zipped(
        partial(sentinel2_miniature.write_safe, offsets=OFFSETS), sentinel2_miniature.zip_safe, "S2A_x.zip"
    ),
    "stac-item": lambda f: sentinel2_miniature.write_item(f, flag=True)[0],
    "specim": _first("**/capture/leaf*.hdr", line_scan_miniature.specim),
    "headwall": _first("**/*.hdr", line_scan_miniature.headwall),
    "resonon": _first("**/*.hdr", line_scan_miniature.resonon),
    "hyspex": _first("**/*.hyspex", line_scan_miniature.hyspex),
    "matlab-v5": _uncompressed_matlab,
    "matlab-v73": _file(
        "a.mat",
        lambda p: matlab_miniature.save(p, "v7.3", data=np.random.default_rng(0).random((9, 8, 6)).astype("f4")),
    ),
    "our-cog": _ours("a.tif"),
    "our-envi": _ours("a.hdr"),
    "our-zarr": _ours("a.zarr"),
    "mosaic-png": _mosaic("frame.png"),
    "mosaic-tif": _mosaic("frame.tif"),
    "numpy": _numbers("a.npy"),
    "numpy-npz": _numbers("a.npz"),
    "library-sli": _first(
        "*.sli",
        lambda f: ts.save(ts.make_spectra(np.ones((3, 5), "f4"), list("abc"), wavelength=range(5, 10)), f / "a.sli"),
    ),
    "library-svc": _text("a.sig", SVC),
    "library-ecostress": _text("a.txt", ECOSTRESS),
    "library-usgs": _text("splib06_a.txt", USGS),
    "library-csv": _text("a.csv", "wavelength,fwhm,a,b\n" + "".join(f"{400 + i},5,0.1,0.2\n" for i in range(9))),
    "labels-csv": _text("a.csv", POINTS),
    "labels-gpkg": _vectors("a.gpkg"),
    "labels-shp": _vectors("a.shp"),
    "labels-geojson": _text("a.geojson", GEOJSON),
}
