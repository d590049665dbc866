"""Cube -> file -> cube gives the same cube: values, band facts, attributes, ground, nodata."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import torchspectral as ts
from torchspectral.errors import BadCube, BadSettings, OutputFailed
from torchspectral.geo import GLT, grid_of, place, place_swath

SUFFIXES = (".tif", ".hdr", ".zarr")
NORTH_UP = Affine(30.0, 0.0, 362175.25, 0.0, -30.0, 5809965.5)
GRIDS = {
    "none": (None, None),
    "utm": (NORTH_UP, 32633),
    "south-up": (Affine(2.5, 0, 100.125, 0, 2.5, -7), 32719),
    "degrees": (Affine(1 / 3600, 0, 12.1, 0, -1 / 3600, 52.4), 4326),
    "oblong": (Affine(0.1, 0, 5e5, 0, -0.3, 5e6), 3857),
    "no crs": (Affine(2, 0, 17, 0, -2, 23), None),
    "rotated": (Affine(25.5, -16.25, 362175.25, -16.25, -25.5, 5809965.5), 32611),
    "sheared": (Affine(3.0, 0.4, 100.0, 0.1, -2.0, 200.0), 25832),
    "rotated, no crs": (Affine(0.65, -1.89, 0.0, -1.89, -0.65, 0.0), None),
    "polar": (Affine(1000, 0, -3e6, 0, -1000, 3e6), 3413),
}
text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
attribute = st.one_of(
    text, st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.lists(text, max_size=3)
)


def same(got, cube, *, dtype=None) -> None:
    assert got.dims == cube.dims and got.shape == cube.shape and got.name == cube.name
    assert got.dtype == (dtype or cube.dtype)
    np.testing.assert_array_equal(got.values, cube.values)
    assert got.attrs == cube.attrs
    for name in ("wavelength", "fwhm", "good", "number", "detector") if "band" in cube.dims else ("layer",):
        np.testing.assert_array_equal(got[name].values, cube[name].values, err_msg=name)
        assert got[name].dtype.kind == cube[name].dtype.kind
    here, there = grid_of(got), grid_of(cube)
    assert here.kind == there.kind and here.transform == there.transform and here.crs == there.crs
    for axis in "xy":
        np.testing.assert_array_equal(got[axis].values, cube[axis].values)


@st.composite
def cubes(draw):
    shape = tuple(draw(st.integers(1, n)) for n in (5, 19, 23))
    kind = draw(st.sampled_from(["float32", "float32", "float64", "uint8", "int16", "uint16", "int32", "uint32"]))
    random = np.random.default_rng(draw(st.integers(0, 9)))
    attrs = draw(st.dictionaries(text.filter(bool).map("x_{}".format), attribute, max_size=3))
    attrs["history"] = draw(st.lists(text, max_size=2))
    if kind.startswith("float"):
        values = random.normal(0, 1, shape).astype(kind)
        values[random.random(shape) < 0.2] = np.nan
        quantity = draw(st.sampled_from(["reflectance", "radiance", "dn"]))
    else:
        info = np.iinfo(kind)
        values = random.integers(info.min, info.max, shape, dtype=kind, endpoint=True)
        quantity = "dn"
        if draw(st.booleans()):
            attrs["nodata"] = int(info.min)
            values[random.random(shape) < 0.2] = info.min
    waves = draw(st.lists(st.floats(350, 14000), min_size=shape[0], max_size=shape[0]))
    cube = ts.make_cube(
        values,
        wavelength=waves if draw(st.booleans()) else None,
        fwhm=random.uniform(1, 20, shape[0]) if draw(st.booleans()) else None,
        good=random.random(shape[0]) < 0.7,
        number=random.integers(1, 300, shape[0]),
        detector=draw(st.sampled_from([None, ["vnir"] * shape[0], ["swir é"] * shape[0]])),
        quantity=quantity,
        attrs=attrs,
    )
    return place(cube, *GRIDS[draw(st.sampled_from(sorted(GRIDS)))])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cube=cubes(), suffix=st.sampled_from(SUFFIXES))
def test_cube_comes_back_exactly(tmp_path_factory, cube, suffix) -> None:
    path = ts.save(cube, tmp_path_factory.mktemp("trip") / f"cube{suffix}")
    same(ts.open(path), cube)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("grid", sorted(GRIDS))
def test_every_grid_comes_back_exactly(tmp_path, suffix, grid) -> None:
    cube = place(
        ts.make_cube(np.random.default_rng(0).random((2, 5, 7), dtype="f4"), quantity="reflectance"), *GRIDS[grid]
    )
    same(ts.open(ts.save(cube, tmp_path / f"cube{suffix}")), cube)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_pixel_of_one_band(tmp_path, suffix) -> None:
    cube = place(ts.make_cube(np.full((1, 1, 1), np.nan, "f4"), quantity="radiance"), NORTH_UP, 32633)
    same(ts.open(ts.save(cube, tmp_path / f"pixel{suffix}")), cube)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_packed_integers_stay_as_stored(tmp_path, suffix) -> None:
    stored = np.random.default_rng(1).integers(-32000, 32000, (3, 40, 50)).astype("i2")
    stored[:, :4] = -9999
    packing = {"scale": [1e-4, 2e-4, 0.013], "offset": [0.0, -0.1, 5.5], "nodata": -9999}
    cube = ts.make_cube(stored, quantity="reflectance", attrs={"packing": packing})
    path = ts.save(place(cube, NORTH_UP, 32633), tmp_path / f"packed{suffix}")
    raw = ts.open(path, raw=True)
    assert raw.dtype == np.int16 and raw.attrs["packing"] == packing
    np.testing.assert_array_equal(raw.values, stored)
    physical = ts.open(path)
    expected = np.where(stored == -9999, np.nan, stored * np.array(packing["scale"])[:, None, None])
    expected += np.array(packing["offset"])[:, None, None]
    np.testing.assert_allclose(physical.values, expected, rtol=1e-6, atol=1e-6)
    # Cut and saved again, it is still the same integers.
    again = ts.save(raw[:, 2:9, 3:8], tmp_path / f"again{suffix}")
    np.testing.assert_array_equal(ts.open(again, raw=True).values, stored[:, 2:9, 3:8])
    assert grid_of(ts.open(again)).transform == Affine(30, 0, NORTH_UP.c + 90, 0, -30, NORTH_UP.f - 60)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_layers_with_classes(tmp_path, suffix) -> None:
    names, colours = ["none", "forêt, dense", "water {deep}"], [[0, 0, 0], [0, 120, 30], [10, 20, 250]]
    layers = ts.make_layers(
        np.random.default_rng(2).integers(0, 3, (1, 30, 31)).astype("u1"),
        ["classes"],
        attrs={"class_names": names, "class_colors": colours, "nodata": 0, "history": ["é"]},
        name="classes",
    )
    layers = place(layers, NORTH_UP, 32633)
    same(ts.open(ts.save(layers, tmp_path / f"classes{suffix}")), layers)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_float_layers(tmp_path, suffix) -> None:
    values = np.random.default_rng(3).random((3, 9, 8), dtype="f4")
    values[1, 2:4] = np.nan
    layers = ts.make_layers(values, ["soil", "grass, green", "residual"], name="abundances")
    same(ts.open(ts.save(layers, tmp_path / f"abundances{suffix}")), layers)


def test_swath_in_zarr_keeps_lon_lat_and_lookup_table(tmp_path) -> None:
    rows, cols = 12, 9
    lat, lon = np.mgrid[50 : 50.1 : rows * 1j, 10 : 10.1 : cols * 1j]
    tables = np.zeros((2, 14, 11), int)
    tables[0, 1:13, 1:10] = np.arange(1, cols + 1)
    tables[1, 1:13, 1:10] = np.arange(1, rows + 1)[:, None]
    glt = GLT(*tables, Affine(0.01, 0, 9.99, 0, -0.01, 50.11), 4326)
    values = np.random.default_rng(0).random((4, rows, cols), dtype="f4")
    cube = place_swath(ts.make_cube(values, quantity="radiance"), lon, lat, glt)
    got = ts.open(ts.save(cube, tmp_path / "swath.zarr", orthorectify=False))
    assert grid_of(got).kind == "swath" and got.attrs["glt"] == glt
    np.testing.assert_array_equal(got["lon"].values, lon)
    np.testing.assert_array_equal(got["lat"].values, lat)
    np.testing.assert_array_equal(got.values, values)


def test_swaths_are_orthorectified_unless_told_not_to(tmp_path) -> None:
    lat, lon = np.mgrid[50.1:50:12j, 10:10.1:9j]
    cube = place_swath(ts.make_cube(np.ones((2, 12, 9), "f4"), quantity="radiance"), lon, lat)
    for suffix in SUFFIXES:
        got = ts.open(ts.save(cube, tmp_path / f"map{suffix}"))
        assert grid_of(got).kind == "map" and np.nanmax(got.values) == 1
        assert any("orthorectified" in line for line in got.attrs["history"])
    for suffix in (".tif", ".hdr"):
        got = ts.open(ts.save(cube, tmp_path / f"raw{suffix}", orthorectify=False))
        assert grid_of(got).kind == "none" and got.shape == cube.shape
        assert "sensor geometry" in got.attrs["history"][-1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_band_names_come_back_and_others_see_them(tmp_path, suffix) -> None:
    names = ["blue", "red edge", "SWIR1"]
    cube = ts.make_cube(np.ones((3, 4, 5), "f4"), wavelength=[450.0, 705.0, 1610.0])
    path = ts.save(cube.assign_coords(name=("band", names)), tmp_path / f"named{suffix}")
    assert list(ts.open(path)["name"].values) == names
    plain = ts.save(cube, tmp_path / f"plain{suffix}")
    if suffix == ".hdr":  # GDAL puts the wavelength behind the name by itself
        wanted = ["blue (450.0 Nanometers)", "band 1 (450.0 Nanometers)"]
    elif suffix == ".tif":
        wanted = ["blue", "band 1 (450.0 Nanometers)"]
    else:
        return
    data = [p.with_suffix(".img") if suffix == ".hdr" else p for p in (path, plain)]
    seen = []
    for file in data:
        with rasterio.open(file) as dataset:
            seen.append(dataset.descriptions[0])
    assert seen == wanted


@pytest.mark.parametrize("suffix", [".sli", ".csv"])
def test_spectra_come_back(tmp_path, suffix) -> None:
    from torchspectral.io.libraries import read_library

    values = np.random.default_rng(5).random((3, 11), dtype="f4")
    wave = np.linspace(400.1, 2450.7, 11)
    spectra = ts.make_spectra(
        values, ["soil", "grass (dry)", "water"], wavelength=wave, fwhm=wave / 90, attrs={"quantity": "reflectance"}
    )
    got = read_library(ts.save(spectra, tmp_path / f"library{suffix}"))
    np.testing.assert_array_equal(got.values, values)
    assert list(got["spectrum"].values) == ["soil", "grass (dry)", "water"]
    np.testing.assert_allclose(got["wavelength"].values, wave, rtol=1e-12)
    np.testing.assert_allclose(got["fwhm"].values, wave / 90, rtol=1e-9)
    assert got.attrs["quantity"] == "reflectance" and got.dtype == np.float32


def test_real_scene_through_every_format(samples, tmp_path) -> None:
    source = ts.open(samples / "enmap" / "images" / "enmap_potsdam_tile_96_32.tif")
    path = samples / "enmap" / "images" / "enmap_potsdam_tile_96_32.tif"
    for suffix in SUFFIXES:
        same(ts.open(ts.save(source, tmp_path / f"scene{suffix}")), source)
        raw = ts.open(path, raw=True)
        again = ts.open(ts.save(raw, tmp_path / f"raw{suffix}"), raw=True)
        assert again.attrs["packing"] == raw.attrs["packing"] and again.dtype == raw.dtype
        np.testing.assert_array_equal(again.values, raw.values)


def test_payload_is_plain_json(tmp_path) -> None:
    import rasterio

    cube = ts.make_cube(np.ones((2, 3, 4), "f4"), wavelength=[500.5, np.nan], quantity="reflectance")
    with rasterio.open(ts.save(cube, tmp_path / "a.tif")) as dataset:
        tags = dataset.tags(ns="TORCHSPECTRAL")
    assert json.loads(tags["bands"])["wavelength"] == [500.5, None]
    assert json.loads(tags["nodata"]) == "nan" and json.loads(tags["packing"]) is None


def packed_by_band():
    stored = (np.random.default_rng(0).random((4, 6, 7)) * 1000).astype("i2")
    packing = {"scale": [0.1, 0.2, 0.3, 0.4], "offset": [1.0, 2.0, 3.0, 4.0], "nodata": -1}
    cube = ts.make_cube(stored, quantity="radiance", attrs={"packing": packing})
    scale, offset = (np.array(packing[k])[:, None, None] for k in ("scale", "offset"))
    return cube, stored * scale + offset


@pytest.mark.parametrize("suffix", [".tif", ".hdr", ".zarr"])
def test_picked_bands_of_a_packed_cube_keep_their_scale(tmp_path, suffix):
    cube, truth = packed_by_band()
    whole = ts.save(cube, tmp_path / f"whole{suffix}")
    picked = ts.open(whole, raw=True, bands=[2, 0])
    again = ts.open(ts.save(picked, tmp_path / f"picked{suffix}"))
    np.testing.assert_allclose(again.values, truth[[2, 0]], rtol=1e-6)
    np.testing.assert_allclose(ts.open(whole, bands=[3, 1]).values, truth[[3, 1]], rtol=1e-6)
    with pytest.raises(BadCube, match="4 values of scale for the 2 bands"):
        ts.save(cube.isel(band=[2, 0]), tmp_path / f"torn{suffix}")


def test_header_of_the_source_is_not_overwritten(tmp_path):
    source = ts.save(ts.make_cube(np.ones((3, 4, 5), dtype="f4")), tmp_path / "s.hdr")
    before = source.read_bytes()
    with pytest.raises(OutputFailed, match="input itself"):
        ts.save(ts.open(source).isel(band=[0]), tmp_path / "s.dat", overwrite=True)
    assert source.read_bytes() == before
    assert ts.open(source).shape == (3, 4, 5)


@pytest.mark.parametrize("name", ["n" * 300 + ".tif", "zero\0.tif"])
def test_names_that_the_system_refuses(tmp_path, name):
    with pytest.raises(OutputFailed, match="cannot write") as caught:
        ts.save(ts.make_cube(np.ones((1, 2, 2))), tmp_path / name)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadSettings, match="got 5 as a name"):
        ts.save(ts.make_cube(np.ones((1, 2, 2))), 5)
