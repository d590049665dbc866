"""AVIRIS-3 netCDF: miniatures with root coordinates, a scalar grid mapping, and every order of axes."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from affine import Affine

sys.path.insert(0, str(Path(__file__).parent))
from aviris_netcdf_miniature import LINE, write_aviris, write_observations

import torchspectral as ts
from torchspectral.errors import BandMismatch, BrokenProduct
from torchspectral.geo import grid_of, orthorectify

MAP = Affine(4.5, 0, 400000, 0, -4.5, 4300000)


def file_name(kind: str, tail: str = "_ORT") -> str:
    return f"{LINE}_L2A_OE_0b1e8d2c_{kind}{tail}.nc"


@pytest.mark.parametrize("order", ["byx", "yxb", "ybx", "bxy", "xyb"])
@pytest.mark.parametrize("named", [True, False])
def test_reflectance(tmp_path: Path, order: str, named: bool) -> None:
    path = tmp_path / file_name("RFL")
    stored = write_aviris(path, order=order, named=named)
    cube = ts.open(path)
    want = np.where(stored["cube"] == -9999, np.nan, stored["cube"])
    assert ts.describe(path)["reader"] == "aviris-netcdf" and cube.attrs["sensor"] == "AVIRIS-3"
    np.testing.assert_array_equal(cube.values, want)
    assert (cube.values < 0).any() and cube.attrs["quantity"] == "reflectance"
    np.testing.assert_allclose(cube["wavelength"].values, stored["wavelength"])
    assert (cube["fwhm"].values == 7.5).all() and cube.attrs["acquired"] == "2023-10-08T15:52:05Z"
    assert grid_of(cube).transform == MAP and grid_of(cube).crs.to_epsg() == 32610
    np.testing.assert_array_equal(cube[[7, 2], 1:5, [7, 0, 3]].values, want[[7, 2], 1:5][..., [7, 0, 3]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).values, cube.values)


@pytest.mark.parametrize("coordinates", [("y", "x"), ("northing", "easting")])
@pytest.mark.parametrize("up", [False, True])
def test_coordinates_of_the_root(tmp_path: Path, coordinates: tuple[str, str], up: bool) -> None:
    stored = write_aviris(tmp_path / "a.nc", coordinates=coordinates, up=up)
    cube = ts.open(tmp_path / "a.nc")
    assert grid_of(cube).transform == MAP
    np.testing.assert_array_equal(cube.values[:, 1:], stored["cube"][:, 1:])


def test_fill_value_that_is_not_stated(tmp_path: Path) -> None:
    write_aviris(tmp_path / "a.nc", fill=False)
    assert np.isnan(ts.open(tmp_path / "a.nc").values[:, 0, 0]).all()


@pytest.mark.parametrize(
    ("units", "factor"), [("uW nm-1 cm-2 sr-1", 10.0), ("", 10.0), ("uW/cm^2/SR/nm", 10.0), ("W m-2 sr-1 um-1", 1.0)]
)
def test_radiance_in_sensor_geometry(tmp_path: Path, units: str, factor: float) -> None:
    stored = write_aviris(tmp_path / f"{LINE}_L1B_RDN_x_RDN.nc", "radiance", units=units, swath=True)
    cube = ts.open(tmp_path / f"{LINE}_L1B_RDN_x_RDN.nc")
    assert cube.attrs["quantity"] == "radiance" and grid_of(cube).kind == "swath"
    np.testing.assert_allclose(cube.values[:, 1:], stored["cube"][:, 1:] * factor, rtol=1e-6)
    np.testing.assert_array_equal(cube["lat"].values, stored["lat"])


def test_companions(tmp_path: Path) -> None:
    path = tmp_path / file_name("RFL")
    write_aviris(path)
    assert "*_UNC*.nc, *_OBS*.nc" in " ".join(ts.open(path).attrs["history"])
    sigma = write_aviris(tmp_path / file_name("UNC"), "uncertainty", seed=2)
    angles = write_observations(tmp_path / f"{LINE}_L1B_ORT_b2_OBS_ORT.nc")
    assert ts.layers(path) == ["path_length", "sensor_zenith", "sun_zenith", "uncertainty", "utc_time"]
    both = ts.open(path, layers=["uncertainty", "sun_zenith"])
    np.testing.assert_array_equal(both["uncertainty"].values[:, 1:], sigma["cube"][:, 1:])
    np.testing.assert_array_equal(both["sun_zenith"].values[1:], angles["to_sun_zenith"][1:])
    assert np.isnan(both["sun_zenith"].values[0, 0])
    alone = ts.open(tmp_path / file_name("UNC"))
    assert alone.name == "reflectance_uncertainty"


def test_observations_alone_with_their_table(tmp_path: Path) -> None:
    path = tmp_path / f"{LINE}_L1B_ORT_b2_OBS.nc"
    stored = write_observations(path, table=True)
    layers = ts.open(path)
    assert layers.dims == ("layer", "y", "x") and layers["layer"].values.tolist() == [
        "path_length",
        "sensor_zenith",
        "sun_zenith",
        "utc_time",
    ]
    assert layers.attrs["layer_units"] == ["m", "degrees", "degrees", "hours"]
    flat = orthorectify(layers)
    # 1-based; negative numbers mark neighbours that stand in; 0 is empty.
    rows, cols = np.abs(stored["line"]), np.abs(stored["sample"])
    want = np.full((5, 4), np.nan, np.float32)
    seen = rows > 0
    path_length = np.where(stored["path_length"] == -9999, np.nan, stored["path_length"])
    want[seen] = path_length[rows[seen] - 1, cols[seen] - 1]
    np.testing.assert_array_equal(flat.values[0], want)
    assert grid_of(flat).transform == Affine(2, 0, 699, 0, -2, 4101)


def test_faults(tmp_path: Path) -> None:
    write_aviris(tmp_path / "a.nc", named=False)
    with h5py.File(tmp_path / "a.nc", "a") as file:
        del file["reflectance/wavelength"]
        file["reflectance/wavelength"] = np.arange(400.0, 413.0)
    with pytest.raises(BandMismatch, match="13 bands"):
        ts.open(tmp_path / "a.nc", reader="aviris-netcdf")
    write_aviris(tmp_path / "b.nc", "radiance", units="bananas")
    with pytest.raises(BrokenProduct, match="bananas"):
        ts.open(tmp_path / "b.nc")


def test_opening_reads_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_aviris(tmp_path / "a.nc", size=(1000, 1200), bands=230, chunks=(230, 32, 32), data=False)
    touched: list[str] = []
    plain = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, *a: (touched.append(self.name), plain(self, *a))[1])
    assert ts.describe(tmp_path / "a.nc")["shape"] == [230, 1000, 1200]
    assert "/reflectance/reflectance" not in touched
