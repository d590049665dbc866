"""GeoTIFF: miniatures written with plain rasterio, and the real tiles."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

import torchspectral as ts
from torchspectral.errors import BandMismatch, BrokenProduct, GridMismatch
from torchspectral.geo import grid_of


def write(
    path: Path, values: np.ndarray, tags=(), imagery=(), descriptions=(), scale=None, offset=0.0, **profile
) -> Path:
    bands, rows, cols = values.shape
    ds_tags = profile.pop("ds_tags", {})
    domain = profile.pop("domain", {})
    gcps = profile.pop("gcps", None)
    settings = {"driver": "GTiff", "dtype": values.dtype, "count": bands, "height": rows, "width": cols, **profile}
    with rasterio.open(path, "w", **settings) as target:
        target.write(values)
        for n, row in enumerate(tags, 1):
            target.update_tags(n, **row)
        for n, row in enumerate(imagery, 1):
            target.update_tags(n, ns="IMAGERY", **row)
        for n, text in enumerate(descriptions, 1):
            target.set_band_description(n, text)
        if scale is not None:
            target.scales = [scale] * bands
            target.offsets = [offset] * bands
        if ds_tags:
            target.update_tags(**ds_tags)
        if domain:
            target.update_tags(ns="ENVI", **domain)
        if gcps:
            target.gcps = (gcps, rasterio.crs.CRS.from_epsg(4326))
    return path


@pytest.fixture
def values() -> np.ndarray:
    found = np.random.default_rng(0).integers(0, 10000, (3, 40, 50)).astype("i2")
    found[:, 2, 3] = -9999
    return found


WAVE = ["450.125", "550.5", "1650.0"]


def test_scale_nodata_and_band_tags(tmp_path: Path, values: np.ndarray) -> None:
    tags = [
        {"wavelength": w, "wavelength_units": "Nanometers", "fwhm": "10.5", "bbl": b}
        for w, b in zip(WAVE, "101", strict=True)
    ]
    imagery = [{"CENTRAL_WAVELENGTH_UM": "0.9"}] * 3
    transform = Affine(30, 0, 500000, 0, -30, 5800000)
    path = write(
        tmp_path / "a.tif", values, tags, imagery, scale=1e-4, offset=-0.1, nodata=-9999, crs="EPSG:32633",
        transform=transform, tiled=True, blockxsize=16, blockysize=16,
    )  # fmt: skip
    cube = ts.open(path)
    expected = values * 1e-4 - 0.1
    expected[values == -9999] = np.nan
    np.testing.assert_allclose(cube.values, expected, rtol=1e-5, atol=1e-7)
    assert cube.wavelength.values.tolist() == [450.125, 550.5, 1650.0] and cube.fwhm.values.tolist() == [10.5] * 3
    assert cube.good.values.tolist() == [True, False, True] and cube.attrs["quantity"] == "reflectance"
    grid = grid_of(cube)
    assert grid.transform == transform and grid.crs is not None and grid.crs.to_epsg() == 32633
    assert cube.encoding["preferred_chunks"] == {"band": 3, "y": 16, "x": 16}
    raw = ts.open(path, raw=True)
    assert raw.dtype == np.int16 and raw.attrs["packing"]["nodata"] == -9999
    np.testing.assert_array_equal(raw.values, values)


def test_where_wavelengths_are_looked_for(tmp_path: Path, values: np.ndarray) -> None:
    imagery = [{"CENTRAL_WAVELENGTH_UM": w, "FWHM_UM": "0.010"} for w in ("0.450", "0.551", "1.650")]
    names = [f"band {n} ({w} Nanometers)" for n, w in enumerate(WAVE, 1)]
    a = ts.open(write(tmp_path / "a.tif", values, imagery=imagery, descriptions=names))
    assert a.wavelength.values.tolist() == [450, 551, 1650] and a.fwhm.values.tolist() == [10] * 3
    b = ts.open(write(tmp_path / "b.tif", values, descriptions=names))
    assert b.wavelength.values.tolist() == [450.125, 550.5, 1650.0] and "name" not in b.coords
    c = ts.open(
        write(
            tmp_path / "c.tif", values, domain={"wavelength": "{0.45, 0.55, 1.65}", "wavelength_units": "Micrometers"}
        )
    )
    assert c.wavelength.values.tolist() == [450, 550, 1650]
    d = write(tmp_path / "d.tif", values)
    assert np.isnan(ts.open(d).wavelength).all()
    (tmp_path / "d.hdr").write_text(
        "ENVI\nsamples=50\nlines=40\nbands=3\nwavelength units = nm\nwavelength = {400,500,600}\n"
    )
    assert ts.open(d).wavelength.values.tolist() == [400, 500, 600]
    assert ts.open(d, wavelength=[0.7, 0.8, 0.9], wavelength_units="um").wavelength.values.tolist() == [700, 800, 900]
    with pytest.raises(BandMismatch, match="2 wavelengths for 3 bands"):
        ts.open(d, wavelength=[700, 800])


def test_counts_stay_integers(tmp_path: Path, values: np.ndarray) -> None:
    cube = ts.open(write(tmp_path / "a.tif", values, nodata=-9999))
    assert cube.dtype == np.int16 and cube.attrs["nodata"] == -9999 and cube.attrs["quantity"] == "dn"
    np.testing.assert_array_equal(cube.values, values)
    physical = ts.open(tmp_path / "a.tif", scale=1e-4)
    assert physical.dtype == np.float32 and physical.attrs["quantity"] == "reflectance"
    assert np.isnan(physical.values[0, 2, 3])
    other = ts.open(tmp_path / "a.tif", scale=1e-4, nodata=int(values[0, 0, 0]), quantity="radiance")
    assert np.isnan(other.values[0, 0, 0]) and other.attrs["quantity"] == "radiance"


def test_rotated_no_crs_and_ground_control_points(tmp_path: Path, values: np.ndarray) -> None:
    turned = Affine.translation(1000, 2000) * Affine.rotation(20) * Affine.scale(5, -5)
    grid = grid_of(ts.open(write(tmp_path / "a.tif", values, crs="EPSG:32633", transform=turned)))
    assert grid.kind == "rotated" and np.allclose(grid.transform[:6], turned[:6])
    assert grid_of(ts.open(write(tmp_path / "b.tif", values))).kind == "none"
    points = [GroundControlPoint(0, 0, 10, 50), GroundControlPoint(0, 49, 11, 50), GroundControlPoint(39, 0, 10, 49)]
    cube = ts.open(write(tmp_path / "c.tif", values, gcps=points))
    assert grid_of(cube).kind == "none" and any("control points" in line for line in cube.attrs["history"])


def test_mask_of_the_file(tmp_path: Path) -> None:
    values = np.ones((2, 20, 30), dtype="f4")
    path = write(tmp_path / "a.tif", values)
    valid = np.ones((20, 30), dtype=bool)
    valid[3:5, 7] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
        target.write_mask(valid)
    assert ts.layers(path) == ["mask"]
    found = ts.open(path, layers=["mask"])
    np.testing.assert_array_equal(np.isnan(found["cube"].values[1]), ~valid)
    assert found["mask"].dtype == bool
    np.testing.assert_array_equal(found["mask"].values, valid)


def test_colour_table_means_classes(tmp_path: Path) -> None:
    path = tmp_path / "classes.tif"
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=1, height=4, width=5) as target:
        target.write(np.arange(20, dtype="u1").reshape(1, 4, 5) % 3)
        target.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255), 2: (0, 255, 0, 255)})
    assert ts.layers(path) == ["labels"]
    assert ts.open(path, layers="labels")["labels"].attrs["class_colors"][:3] == [[0, 0, 0], [255, 0, 0], [0, 255, 0]]


def test_threads_and_pickles_read_the_same(tmp_path: Path, values: np.ndarray) -> None:
    cube = ts.open(
        write(tmp_path / "a.tif", values, scale=1e-4, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    )
    again = pickle.loads(pickle.dumps(cube))
    whole = cube.values
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda n: again[:, n : n + 5, n : n + 7].values, range(30)))
    for n, part in enumerate(parts):
        np.testing.assert_array_equal(part, whole[:, n : n + 5, n : n + 7])


def test_truncated(tmp_path: Path, values: np.ndarray) -> None:
    path = write(tmp_path / "a.tif", values)
    data = path.read_bytes()
    path.write_bytes(data[:-4000])
    with pytest.raises(BrokenProduct):
        _ = ts.open(path).values
    (tmp_path / "b.tif").write_bytes(data[:100])
    with pytest.raises(BrokenProduct):
        ts.open(tmp_path / "b.tif")


def test_real_enmap_tiles_are_reflectance(samples: Path) -> None:
    for path in sorted((samples / "enmap" / "images").glob("*.tif")):
        cube = ts.open(path)
        assert cube.attrs["quantity"] == "reflectance" and cube.shape == (224, 32, 32)
        assert np.flatnonzero(~cube.good.values).tolist() == [129, 130, 131, 132, 133, 134]
    with rasterio.open(path) as plain:
        stored = plain.read()
        wave = [float(plain.tags(n)["wavelength"]) for n in range(1, 225)]
        expected = stored.astype("f8") * 1e-4
        expected[stored == -32768] = np.nan
        np.testing.assert_allclose(cube.values, expected, rtol=1e-6)
        assert grid_of(cube).transform == plain.transform
    assert cube.wavelength.values.tolist() == wave
    assert np.isnan(cube.values[129:135]).all() and cube.attrs["acquired"] == "2022-07-24T10:45:26Z"


def test_window_bbox_and_bands_of_a_real_tile(samples: Path) -> None:
    path = samples / "enmap" / "images" / "enmap_potsdam_tile_128_0.tif"
    whole = ts.open(path)
    cut = ts.open(path, window=(4, 6, 10, 8), bands="good")
    np.testing.assert_array_equal(cut.values, whole.values[whole.good.values][:, 4:14, 6:14])
    west, _, _, north = grid_of(whole).bounds
    box = ts.open(path, bbox=(west + 60, north - 150, west + 120, north - 30))
    assert box.shape == (224, 4, 2) and grid_of(box).transform.c == west + 60
    red = ts.open(path, bands=[650.0, 550.0])
    assert np.allclose(red.wavelength, [650, 550], atol=5)
    with pytest.raises(GridMismatch, match="outside the scene"):
        ts.open(path, bbox=(0, 0, 1, 1))


def test_real_multispectral(samples: Path) -> None:
    for name in ("landsat/L7_ETMs.tif", "sentinel2/B02.tif", "enmap/enmap_potsdam_landcover.tif"):
        cube = ts.open(samples / name)
        with rasterio.open(samples / name) as plain:
            np.testing.assert_array_equal(cube.values, plain.read())
            assert grid_of(cube).transform == plain.transform
    landsat = samples / "landsat/LC08_L2SP/LC08_L2SP_001062_20201031_20201106_02_T2_SR_B1.TIF"
    assert ts.open(landsat).attrs["nodata"] == 0
