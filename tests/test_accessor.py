"""The `.hsi` accessor on map, rotated, swath and placeless cubes."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
import xarray as xr
from affine import Affine

import torchspectral as ts
from torchspectral import sensors
from torchspectral.errors import BadSettings, BandMismatch, GridMismatch
from torchspectral.geo.grids import grid_of, place, place_swath

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # affine 3: * becomes @

WAVE = np.linspace(420, 2400, 60)
MAP = Affine(30, 0, 500_000, 0, -30, 5_800_000)


def plain(rows: int = 12, cols: int = 16, **facts) -> xr.DataArray:
    values = np.random.default_rng(0).random((WAVE.size, rows, cols)).astype(np.float32)
    return ts.make_cube(values, wavelength=WAVE, quantity="reflectance", **facts)


def on_map() -> xr.DataArray:
    return place(plain(), MAP, 32633)


def swath() -> xr.DataArray:
    rows, cols = np.mgrid[0:12, 0:16]
    return place_swath(plain(), 61.6 + 0.0005 * cols + 0.0001 * rows, 36.4 - 0.0005 * rows)


def test_at_finds_the_same_pixel_every_way() -> None:
    from pyproj import Transformer

    cube = on_map()
    x, y = MAP * (5.3, 7.8)
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    expect = cube.isel(y=7, x=5)
    for found in (cube.hsi.at(x, y), cube.hsi.at(lon=lon, lat=lat), cube.hsi.at(row=7, col=5)):
        xr.testing.assert_identical(found, expect)
    assert cube.hsi.at(*(MAP * (16, 12))).equals(cube.isel(y=11, x=15))


def test_at_on_rotated_and_swath_grids() -> None:
    turned = Affine.translation(500_000, 5_800_000) * Affine.rotation(25) * Affine.scale(4, -4)
    cube = place(plain(), turned, 32611)
    xr.testing.assert_identical(cube.hsi.at(*(turned * (3.5, 9.5))), cube.isel(y=9, x=3))
    other = swath()
    lon, lat = float(other["lon"][4, 6]), float(other["lat"][4, 6])
    xr.testing.assert_identical(other.hsi.at(lon=lon + 1e-4, lat=lat), other.isel(y=4, x=6))
    with pytest.raises(GridMismatch, match="lies outside the image"):
        other.hsi.at(lon=lon + 1, lat=lat)


def test_at_refuses() -> None:
    cube = on_map()
    for bad in ({}, {"x": 1.0}, {"x": 1.0, "y": 1.0, "row": 1, "col": 1}, {"row": 1}):
        with pytest.raises(BadSettings, match="one place"):
            cube.hsi.at(**bad)
    with pytest.raises(GridMismatch, match="12 rows x 16 cols"):
        cube.hsi.at(row=12, col=0)
    with pytest.raises(GridMismatch, match="spans"):
        cube.hsi.at(0.0, 0.0)
    with pytest.raises(GridMismatch, match="give row and col"):
        plain().hsi.at(1.0, 1.0)
    with pytest.raises(GridMismatch, match="finite"):
        cube.hsi.at(float("nan"), 1.0)
    with pytest.raises(GridMismatch, match="no CRS"):
        place(plain(), MAP).hsi.at(lon=1.0, lat=1.0)


@pytest.mark.parametrize("make", [on_map, swath, plain], ids=["map", "swath", "none"])
def test_windows_keep_pixels_in_place(make) -> None:
    cube = make()
    cut = cube.hsi.window(row=3, col=4, height=5, width=6)
    assert cut.shape == (60, 5, 6)
    np.testing.assert_array_equal(cut.values, cube.values[:, 3:8, 4:10])
    if make is on_map:
        expect = MAP * Affine.translation(4, 3)
        assert grid_of(cut).transform == expect
        assert cut["spatial_ref"].attrs["GeoTransform"] == " ".join(repr(float(v)) for v in expect.to_gdal())
        assert cube.hsi.window(bbox=grid_of(cut).bounds).identical(cut)
        again = cut.hsi.window(row=1, col=1, height=1, width=1)
        assert grid_of(again).transform == MAP * Affine.translation(5, 4)
    if make is swath:
        np.testing.assert_array_equal(cut["lon"].values, cube["lon"].values[3:8, 4:10])
    assert cube.hsi.window(row=10).shape == (60, 2, 16)


def test_rotated_window() -> None:
    turned = Affine.translation(500_000, 5_800_000) * Affine.rotation(25) * Affine.scale(4, -4)
    cut = place(plain(), turned, 32611).hsi.window(row=2, col=3, height=4, width=5)
    assert grid_of(cut).transform.almost_equals(turned * Affine.translation(3, 2))


def test_window_agrees_with_rioxarray() -> None:
    rioxarray = pytest.importorskip("rioxarray")
    assert rioxarray
    cut = on_map().hsi.window(row=3, col=4, height=5, width=6)
    assert cut.rio.transform().almost_equals(MAP * Affine.translation(4, 3))
    assert cut.rio.crs.to_epsg() == 32633


def test_window_refuses() -> None:
    with pytest.raises(BadSettings, match="either"):
        plain().hsi.window()
    with pytest.raises(BadSettings, match="either"):
        on_map().hsi.window(row=1, bbox=(0, 0, 1, 1))
    with pytest.raises(GridMismatch, match="leaves the image"):
        plain().hsi.window(row=3, col=4, height=50, width=6)
    with pytest.raises(GridMismatch, match="outside the scene"):
        on_map().hsi.window(bbox=(0, 0, 1, 1))


def test_bands_sensor_index_and_resampling() -> None:
    good = np.ones(WAVE.size, dtype=bool)
    good[[3, 30]] = False
    cube = plain(good=good, attrs={"sensor": "EMIT"})
    assert cube.hsi.drop_bad().sizes["band"] == 58
    assert cube.hsi.sensor.name == "emit"
    assert cube.hsi.index("ndvi", tolerance=40).shape == (1, 12, 16)
    assert cube.hsi.resample("sentinel-2a").sizes["band"] == 13
    assert cube.hsi.remove_continuum(low=500, high=900).shape == cube.shape
    with pytest.raises(BandMismatch, match="nothing would be left"):
        plain(good=~np.ones(WAVE.size, dtype=bool)).hsi.drop_bad()
    mean = cube.hsi.spectrum(np.eye(12, 16, dtype=bool))
    np.testing.assert_allclose(mean.values[0], cube.values[:, np.eye(12, 16, dtype=bool)].mean(axis=1), rtol=1e-6)


def test_pictures_take_the_sensors_wavelengths() -> None:
    enmap = sensors.get("enmap")
    values = np.random.default_rng(0).random((224, 4, 4)).astype("f4")
    cube = ts.make_cube(values, wavelength=enmap.wavelength, quantity="reflectance")
    np.testing.assert_allclose(cube.hsi.rgb().attrs["wavelengths"], enmap.rgb, atol=4)
    infrared = cube.isel(band=slice(140, None)).assign_attrs(sensor="enmap")
    assert min(infrared.hsi.rgb().attrs["wavelengths"]) > 1400


def test_plots_have_the_axes_they_promise() -> None:
    cube = on_map()
    assert [a.get_xlabel() for a in cube.hsi.plot().axes] == ["column"]
    both = cube.hsi.plot("both", pixels=[(1, 2), (3, 4)])
    assert [a.get_xlabel() for a in both.axes] == ["column", "wavelength [nm]"]
    assert [line.get_label() for line in both.axes[1].lines] == ["row 1, col 2", "row 3, col 4"]
    assert both.axes[1].get_ylabel() == "reflectance"
    assert cube.hsi.plot("spectra").axes[0].lines[0].get_label() == "mean of the central 9 x 9"
    with pytest.raises(BadSettings, match="rgb, spectra or both"):
        cube.hsi.plot("cube")


def test_notebook_view_is_safe_and_complete() -> None:
    cube = on_map().assign_attrs(sensor="<script>alert(1)</script>", acquired="2022-07-24")
    page = cube.hsi._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "12 y" in page and "UTM zone 33N, 30 x 30" in page and "2022-07-24" in page
    png = base64.b64decode(re.search(r"base64,([A-Za-z0-9+/=]+)", page).group(1))
    assert png.startswith(b"\x89PNG")
    assert "hsi of" in repr(cube.hsi)
    empty = plain(good=np.zeros(WAVE.size, dtype=bool))
    assert "no good band" in empty.hsi._repr_html_()
    assert "img" not in on_map().isel(band=0).hsi._repr_html_()
    assert "lies nowhere" in plain().hsi._repr_html_() and "swath" in swath().hsi._repr_html_()
