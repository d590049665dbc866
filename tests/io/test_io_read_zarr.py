"""Zarr: stores written by xarray and by zarr alone, as CF conventions describe them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import torchspectral as ts
from torchspectral.errors import BadCube, BrokenProduct, MissingMetadata, TooLarge, UnknownName, UnsafeInput
from torchspectral.geo import grid_of

WKT = "EPSG:32633"


@pytest.fixture
def values() -> np.ndarray:
    found = np.random.default_rng(0).integers(0, 10000, (5, 12, 9)).astype("i2")
    found[:, 0, 0] = -32768
    return found


def store(path: Path, values: np.ndarray, order=("band", "y", "x"), fmt=3, ground=True, **attrs: object) -> Path:
    axes = tuple(("band", "y", "x").index(d) for d in order)
    variables: dict[str, object] = {
        "reflectance": (order, values.transpose(axes), {"grid_mapping": "spatial_ref", **attrs}),
        "quality": (("y", "x"), (values[0] > 0).astype("u1"), {"flag_meanings": "bad good"}),
    }
    coords: dict[str, object] = {
        "wavelength": ("band", [0.45, 0.55, 0.65, 0.85, 1.6], {"units": "um", "standard_name": "radiation_wavelength"}),
        "fwhm": ("band", [0.01] * 5),
        "good": ("band", np.array([1, 1, 0, 1, 1], "u1")),
    }
    if ground:
        variables["spatial_ref"] = ((), 0, {"crs_wkt": WKT, "GeoTransform": "500000 30 0 5800000 0 -30"})
        coords |= {"x": 500000 + 30 * (np.arange(9) + 0.5), "y": 5800000 - 30 * (np.arange(12) + 0.5)}
    dataset = xr.Dataset(variables, coords=coords)
    chunks = tuple({"band": 5, "y": 6, "x": 9}[d] for d in order)
    dataset.to_zarr(path, zarr_format=fmt, consolidated=False, encoding={"reflectance": {"chunks": chunks}})
    return path


@pytest.mark.parametrize("fmt", [2, 3])
@pytest.mark.parametrize("order", [("band", "y", "x"), ("y", "x", "band"), ("y", "band", "x")])
def test_scaled_integers_in_any_axis_order(
    tmp_path: Path, values: np.ndarray, fmt: int, order: tuple[str, ...]
) -> None:
    path = store(tmp_path / "a.zarr", values, order, fmt, scale_factor=1e-4, missing_value=np.int16(-32768))
    cube = ts.open(path)
    expected = values.astype("f4") / np.float32(10000)
    expected[values == -32768] = np.nan
    np.testing.assert_array_equal(cube.values, expected)
    np.testing.assert_array_equal(cube[[4, 1], 3:9, ::2].values, expected[[4, 1], 3:9, ::2])
    np.testing.assert_allclose(cube.wavelength, [450, 550, 650, 850, 1600])
    np.testing.assert_allclose(cube.fwhm, 10)
    assert cube.good.values.tolist() == [True, True, False, True, True] and cube.attrs["quantity"] == "reflectance"
    grid = grid_of(cube)
    assert grid.crs is not None and grid.crs.to_epsg() == 32633 and grid.transform.to_gdal()[0] == 500000
    assert cube.encoding["preferred_chunks"] == {"band": 5, "y": 6, "x": 9}
    np.testing.assert_array_equal(ts.open(path, raw=True).values, values)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).values, expected)
    assert ts.layers(path) == ["quality"]
    found = ts.open(path, layers="quality", window=(2, 3, 4, 5))
    np.testing.assert_array_equal(found["quality"].values, (values[0] > 0)[2:6, 3:8])


def test_plain_floats_without_ground(tmp_path: Path, values: np.ndarray) -> None:
    cube = ts.open(store(tmp_path / "a.zarr", values.astype("f4"), ground=False))
    assert grid_of(cube).kind == "none"
    np.testing.assert_array_equal(cube.values, values)


def test_latitudes_and_longitudes(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((4, 3, 6)).astype("f4")
    xr.Dataset(
        {"radiance": (("lat", "lon", "wavelength"), data, {"units": "uW/cm^2/sr/nm"})},
        coords={"lat": [50.3, 50.2, 50.1, 50.0], "lon": [10.0, 10.1, 10.2], "wavelength": np.linspace(400, 900, 6)},
    ).to_zarr(tmp_path / "a.zarr", consolidated=False)
    cube = ts.open(tmp_path / "a.zarr")
    assert cube.attrs["quantity"] == "radiance" and cube.wavelength.values[-1] == 900
    np.testing.assert_allclose(cube.values, data.transpose(2, 0, 1) * 10, rtol=1e-6)
    grid = grid_of(cube)
    assert grid.crs is not None and grid.crs.to_epsg() == 4326 and abs(grid.transform.f - 50.35) < 1e-6


def test_choice_by_key(tmp_path: Path) -> None:
    data = np.zeros((2, 3, 4), "f4")
    xr.Dataset({"a": (("band", "y", "x"), data), "b": (("band", "y", "x"), data + 1)}).to_zarr(tmp_path / "a.zarr")
    with pytest.raises(MissingMetadata, match="key="):
        ts.open(tmp_path / "a.zarr")
    assert float(ts.open(tmp_path / "a.zarr", key="b").max()) == 1
    with pytest.raises(UnknownName, match="no variable 'c'"):
        ts.open(tmp_path / "a.zarr", key="c")


def test_pickled_objects_and_unknown_codecs_are_refused(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("data", data=np.zeros((2, 3, 4), "f4"))
    meta = tmp_path / "a.zarr" / "data" / ".zarray"
    found = json.loads(meta.read_text())
    meta.write_text(json.dumps({**found, "dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}]}))
    with pytest.raises(UnsafeInput, match="pickle"):
        ts.open(tmp_path / "a.zarr")
    meta.write_text(json.dumps({**found, "dtype": "|O"}))
    with pytest.raises(UnsafeInput, match="objects"):
        ts.open(tmp_path / "a.zarr")
    meta.write_text(json.dumps({**found, "chunks": [10**5, 10**5, 10**5]}))
    with pytest.raises(TooLarge, match="blocks"):
        ts.open(tmp_path / "a.zarr")
    meta.write_text("{")
    with pytest.raises(BrokenProduct, match="JSON"):
        ts.open(tmp_path / "a.zarr")


def test_no_cube_inside(tmp_path: Path) -> None:
    xr.Dataset({"a": ("t", [1.0, 2.0])}).to_zarr(tmp_path / "a.zarr")
    with pytest.raises(BadCube, match="no 3-D variable"):
        ts.open(tmp_path / "a.zarr")
