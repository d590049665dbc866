"""CF netCDF and plain HDF5 of any writer: miniatures, and the faults of drivers that guess the order of axes."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from cf_netcdf_miniature import describe, dimension, grid_mapping, variable, write_cf

import torchspectral as ts
from torchspectral.errors import BadCube, BadSettings, MissingMetadata, UnknownName, UnknownProduct, UnsafeInput
from torchspectral.geo import grid_of, orthorectify

ORDERS = ("byx", "bxy", "ybx", "yxb", "xby", "xyb")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("group", ["", "products/level2"])
def test_any_order_of_axes(tmp_path: Path, order: str, group: str) -> None:
    path = tmp_path / "a.nc"
    want = write_cf(path, order=order, group=group)
    cube = ts.open(path)
    assert cube.shape == (6, 5, 7) and cube.dtype == np.float32 and cube.attrs["quantity"] == "reflectance"
    np.testing.assert_allclose(cube.values, want["values"], rtol=0, atol=1e-6)
    assert cube.values[2, 3, 3] == np.float32(0.01)
    np.testing.assert_allclose(cube["wavelength"].values, want["waves"])
    assert (cube["fwhm"].values == 10).all() and cube.attrs["acquired"] == "2024-05-06T07:08:09Z"
    grid = grid_of(cube)
    assert grid.transform == Affine(30, 0, 500000, 0, -30, 5000000) and grid.crs.to_epsg() == 32632
    np.testing.assert_allclose(
        cube[[5, 0, 3], 1:4, [6, 2]].values, want["values"][[5, 0, 3], 1:4][..., [6, 2]], atol=1e-6
    )
    raw = ts.open(path, raw=True)
    np.testing.assert_array_equal(raw.values, want["stored"])
    assert raw.attrs["packing"] == {"scale": [1e-4], "offset": [0.01], "nodata": -32768}
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).values, cube.values)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), order=st.sampled_from(ORDERS), up=st.booleans())
def test_windows(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, order: str, up: bool) -> None:
    path = tmp_path_factory.mktemp("w") / "a.nc"
    want = write_cf(path, order=order, up=up)["values"]
    key = tuple(
        data.draw(st.one_of(st.slices(n), st.lists(st.integers(0, n - 1), min_size=1, max_size=4, unique=True)))
        for n in (6, 5, 7)
    )
    got = ts.open(path)
    for axis, part in zip(("band", "y", "x"), key, strict=True):
        got = got.isel({axis: part})
    for axis, part in enumerate(key):
        want = want[(slice(None),) * axis + (part,)]
    np.testing.assert_allclose(got.values, want, atol=1e-6)


@pytest.mark.parametrize("mapping", ["crs_wkt", "spatial_ref", "cf"])
def test_grid_mappings(tmp_path: Path, mapping: str) -> None:
    write_cf(tmp_path / "a.nc", mapping=mapping)
    crs = grid_of(ts.open(tmp_path / "a.nc")).crs
    assert crs.coordinate_operation.method_name == "Transverse Mercator"
    assert {p.name: p.value for p in crs.coordinate_operation.params}["Longitude of natural origin"] == 9


def test_rows_from_south_to_north_are_turned(tmp_path: Path) -> None:
    want = write_cf(tmp_path / "a.nc", up=True)
    cube = ts.open(tmp_path / "a.nc")
    np.testing.assert_allclose(cube.values, want["values"], atol=1e-6)
    assert grid_of(cube).transform == Affine(30, 0, 500000, 0, -30, 5000000)
    assert "rows turned" in " ".join(cube.attrs["history"])


def test_micrometres(tmp_path: Path) -> None:
    want = write_cf(tmp_path / "a.nc", units="um", packed=False)
    cube = ts.open(tmp_path / "a.nc")
    np.testing.assert_allclose(cube["wavelength"].values, want["waves"])
    np.testing.assert_allclose(cube["fwhm"].values, 10)
    np.testing.assert_allclose(cube.values, want["values"].astype(np.float32))


def write_bands(path: Path, *, attrs: bool = True) -> dict[str, np.ndarray]:
    """What water processors write: one variable a band on latitudes and longitudes in single precision."""
    rng = np.random.default_rng(1)
    stored = {f"rhos_{w}": rng.random((4, 6)).astype(np.float32) for w in (1610, 443, 665)}
    stored["rhos_443"][0, 0] = np.nan
    stored |= {f"rhot_{w}": rng.random((4, 6)).astype(np.float32) for w in (443, 665)}
    with h5py.File(path, "w") as file:
        lat = dimension(file, "lat", (50 - 0.00027 * np.arange(4)).astype(np.float32))
        lon = dimension(file, "lon", (10 + 0.00027 * np.arange(6)).astype(np.float32))
        describe(lat, units="degrees_north")
        describe(file, sensor="Water Imager", isodate="2023-01-02T03:04:05Z", sza=33.5)
        for name, values in stored.items():
            more = {"wavelength": float(name.split("_")[1]) + 0.4, "units": "1"} if attrs else {}
            variable(file, name, values, [lat, lon], **more)
        variable(file, "l2_flags", rng.integers(0, 8, (4, 6)).astype(np.int32), [lat, lon])
    return stored


def test_one_variable_a_band(tmp_path: Path) -> None:
    stored = write_bands(tmp_path / "a.nc")
    cube = ts.open(tmp_path / "a.nc")
    assert cube.sizes["band"] == 3 and "rhot (key= opens them)" in " ".join(cube.attrs["history"])
    cube = ts.open(tmp_path / "a.nc", key="rhos")
    np.testing.assert_allclose(cube["wavelength"].values, [443.4, 665.4, 1610.4])
    for band, name in enumerate(("rhos_443", "rhos_665", "rhos_1610")):
        np.testing.assert_array_equal(cube.values[band], stored[name])
    assert cube.attrs["quantity"] == "reflectance" and cube.attrs["sun_zenith"] == 33.5
    grid = grid_of(cube)
    assert grid.kind == "map" and grid.crs.to_epsg() == 4326 and abs(grid.transform.a - 0.00027) < 1e-6
    assert ts.open(tmp_path / "a.nc", key="rhot").sizes["band"] == 2
    assert ts.open(tmp_path / "a.nc", layers=["l2_flags"])["l2_flags"].dtype == np.int32


def test_names_alone_give_wavelengths(tmp_path: Path) -> None:
    write_bands(tmp_path / "a.nc", attrs=False)
    np.testing.assert_allclose(ts.open(tmp_path / "a.nc", key="rhos")["wavelength"].values, [443, 665, 1610])


def write_swath(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    lat, lon = np.mgrid[:8, :9]
    lon, lat = 10 + 0.01 * lon + 0.002 * lat, 50 - 0.01 * lat
    values = rng.uniform(0, 80, (8, 9, 4)).astype(np.float32)
    values[0, 0, 1] = 9.969209968386869e36
    with h5py.File(path, "w") as file:
        data, where, bands = (file.create_group(g) for g in ("observation", "geolocation", "bands"))
        dims = [dimension(file, "rows", 8), dimension(file, "columns", 9), dimension(file, "channels", 4)]
        variable(where, "longitude", lon, dims[:2], units="degrees_east")
        variable(where, "latitude", lat, dims[:2], units="degrees_north")
        item = data.create_dataset("radiance", values.shape, np.float32, fillvalue=np.float32(9.969209968386869e36))
        item[...] = values
        describe(item, units="mW m-2 sr-1 nm-1")
        for axis, dim in enumerate(dims):
            item.dims[axis].attach_scale(dim)
        variable(bands, "wavelength", np.array([400.0, 500, 600, 700]), dims[2:], units="nm")
    return lon, lat, values


def test_swath_in_groups(tmp_path: Path) -> None:
    lon, lat, values = write_swath(tmp_path / "a.nc")
    cube = ts.open(tmp_path / "a.nc")
    assert cube.shape == (4, 8, 9) and cube.attrs["quantity"] == "radiance" and grid_of(cube).kind == "swath"
    np.testing.assert_array_equal(cube["lon"].values, lon)
    np.testing.assert_array_equal(cube["lat"].values[2:4, 3], lat[2:4, 3])
    np.testing.assert_allclose(cube["wavelength"].values, [400, 500, 600, 700])
    # What netCDF fills without saying so is nodata.
    assert np.isnan(cube.values[1, 0, 0]) and np.isfinite(cube.values).sum() == values.size - 1
    seen = orthorectify(cube).values[0]
    assert np.isin(seen[np.isfinite(seen)], values[..., 0]).all()


def test_what_other_tools_make_of_a_product(tmp_path: Path) -> None:
    """An orthorectified EMIT scene, as xarray writes it: no groups any more, but still the attributes of EMIT."""
    values = np.random.default_rng(0).random((4, 5, 3)).astype(np.float32)
    values[0, 0] = -9999
    with h5py.File(tmp_path / "a.nc", "w") as file:
        describe(file, instrument="EMIT", title="EMIT L2A Reflectance", sensor="EMIT")
        dims = [
            dimension(file, "latitude", 50 - 0.5 * np.arange(4)),
            dimension(file, "longitude", 9 + 0.5 * np.arange(5)),
        ]
        dims.append(dimension(file, "wavelengths", np.array([500.0, 1400.0, 2000.0])))
        grid_mapping(file, "spatial_ref", 4326, by="spatial_ref")
        variable(file, "good_wavelengths", np.array([1.0, 0.0, 1.0]), dims[2:])
        variable(file, "elev", np.ones((4, 5)), dims[:2])
        variable(file, "reflectance", values, dims, _FillValue=-9999.0)
    cube = ts.open(tmp_path / "a.nc")
    assert ts.describe(tmp_path / "a.nc")["reader"] == "cf-netcdf" and cube.attrs["sensor"] == "EMIT"
    np.testing.assert_array_equal(cube.values, np.where(values == -9999, np.nan, values).transpose(2, 0, 1))
    assert cube["good"].values.tolist() == [True, False, True] and ts.layers(tmp_path / "a.nc") == ["elev"]
    assert grid_of(cube).transform == Affine(0.5, 0, 8.75, 0, -0.5, 50.25) and grid_of(cube).crs.to_epsg() == 4326


def test_plain_hdf5_without_names(tmp_path: Path) -> None:
    data = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"] = data
        file["wavelength"] = [500.0, 600, 700]
    cube = ts.open(tmp_path / "a.h5")
    np.testing.assert_array_equal(cube.values, data.transpose(2, 0, 1))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["cube"] = data
    with pytest.raises(MissingMetadata, match="band_axis"):
        ts.open(tmp_path / "b.h5")
    np.testing.assert_array_equal(ts.open(tmp_path / "b.h5", band_axis=0).values, data)
    scaled = ts.open(tmp_path / "b.h5", band_axis=2, scale=0.1, quantity="reflectance")
    np.testing.assert_allclose(scaled.values[0, 1], data[1, :, 0] * 0.1, rtol=1e-6)
    with pytest.raises(BadSettings, match="0, 1 or 2"):
        ts.open(tmp_path / "b.h5", band_axis=3)


def test_several_cubes_ask_for_a_key(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        dims = [dimension(file, "band", 3), dimension(file, "y", 4), dimension(file, "x", 5)]
        for n, name in enumerate(("first", "second", "first_uncertainty")):
            variable(file, name, np.full((3, 4, 5), n, np.float32), dims)
        variable(file, "height", np.ones((4, 5), np.float32), dims[1:])
    with pytest.raises(MissingMetadata, match="first, second"):
        ts.open(tmp_path / "a.nc")
    assert float(ts.open(tmp_path / "a.nc", key="second").mean()) == 1
    assert ts.open(tmp_path / "a.nc", key="height").shape == (1, 4, 5)
    with pytest.raises(UnknownName, match="second"):
        ts.open(tmp_path / "a.nc", key="secnd")


def test_uncertainty_and_flags_are_layers(tmp_path: Path) -> None:
    write_cf(tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc", "a") as file:
        dims = [file["wavelength"], file["y"], file["x"]]
        variable(file, "reflectance_uncertainty", np.full((6, 5, 7), 0.02, np.float32), dims)
        flags = variable(
            file,
            "quality",
            np.arange(35, dtype=np.uint8).reshape(5, 7) % 4,
            dims[1:],
            flag_meanings="clear cloud snow water",
        )
        flags.attrs["flag_values"] = np.arange(4, dtype=np.uint8)
    assert ts.layers(tmp_path / "a.nc") == ["quality", "reflectance_uncertainty"]
    both = ts.open(tmp_path / "a.nc", layers=["quality", "reflectance_uncertainty"])
    assert both["reflectance_uncertainty"].shape == (6, 5, 7) and both["quality"].dtype == np.uint8
    from torchspectral.io.masks import clear_mask

    mask, used = clear_mask(tmp_path / "a.nc", "land")
    assert used == ["cloud", "snow", "water"]
    np.testing.assert_array_equal(mask.values[0], np.arange(35).reshape(5, 7) % 4 == 0)


def test_unsigned_integers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        dims = [dimension(file, "band", 2), dimension(file, "y", 3), dimension(file, "x", 4)]
        values = np.arange(24).reshape(2, 3, 4) * 2700
        variable(file, "counts", values.astype(np.uint16).view(np.int16), dims, _Unsigned="true", _FillValue=-1)
    cube = ts.open(tmp_path / "a.nc")
    assert cube.dtype == np.uint16 and cube.attrs["nodata"] == 65535
    np.testing.assert_array_equal(cube.values, values)


def test_uneven_coordinates_are_said(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        dims = [dimension(file, "band", 2), dimension(file, "lat", [1.0, 2, 4]), dimension(file, "lon", [1.0, 2, 3, 4])]
        variable(file, "v", np.ones((2, 3, 4), np.float32), dims)
    cube = ts.open(tmp_path / "a.nc")
    assert grid_of(cube).kind == "none" and "not evenly spaced" in " ".join(cube.attrs["history"])


def test_rotated_geotransform(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        dims = [dimension(file, "band", 2), dimension(file, "y", 3), dimension(file, "x", 4)]
        grid_mapping(file, "crs", 32611, transform="100 3 1 200 1 -3")
        variable(file, "v", np.ones((2, 3, 4), np.float32), dims, grid_mapping="crs")
    grid = grid_of(ts.open(tmp_path / "a.nc"))
    assert grid.kind == "rotated" and grid.transform == Affine(3, 1, 100, 1, -3, 200)


def test_what_is_no_cube(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["table"] = np.arange(5)
        file.create_group("things")
    with pytest.raises(UnknownProduct, match=r"HDF5 file \(with table, things\)"):
        ts.open(tmp_path / "a.h5")
    with pytest.raises(BadCube, match=r"no 3-D variable.*table \(5,\)"):
        ts.open(tmp_path / "a.h5", reader="cf-netcdf")
    (tmp_path / "b.nc").write_bytes(b"CDF\x01" + bytes(40))
    with pytest.raises(UnknownProduct, match="nccopy"):
        ts.open(tmp_path / "b.nc")
    (tmp_path / "c.nc").write_bytes(b"hello, this is text")
    with pytest.raises(UnknownProduct, match="does not start as one"):
        ts.open(tmp_path / "c.nc")


def test_files_that_reach_out_are_refused_by_name(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "link.nc", "w") as file:
        file["cube"] = h5py.ExternalLink("other.h5", "/x")
    with h5py.File(tmp_path / "storage.nc", "w") as file:
        file.create_dataset("cube", (3, 4, 5), np.uint8, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    with h5py.File(tmp_path / "virtual.nc", "w") as file:
        layout = h5py.VirtualLayout((3, 4, 5), np.uint8)
        layout[0] = h5py.VirtualSource("other.h5", "x", (4, 5))
        file.create_virtual_dataset("cube", layout)
    for name, said in (("link", "links to another file"), ("storage", "another file"), ("virtual", "virtual dataset")):
        with pytest.raises(UnsafeInput, match=said):
            ts.open(tmp_path / f"{name}.nc")


def test_opening_reads_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.nc", "w") as file:
        dims = [
            dimension(file, "wavelength", np.linspace(400, 2500, 230)),
            dimension(file, "y", 1000 - np.arange(1000.0)),
            dimension(file, "x", np.arange(1200.0)),
        ]
        item = file.create_dataset("reflectance", (230, 1000, 1200), np.float32, chunks=(16, 64, 64))
        for axis, dim in enumerate(dims):
            item.dims[axis].attach_scale(dim)
    touched: list[str] = []
    plain = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, *a: (touched.append(self.name), plain(self, *a))[1])
    assert ts.describe(tmp_path / "a.nc")["shape"] == [230, 1000, 1200]
    assert "/reflectance" not in touched
