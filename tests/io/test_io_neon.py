"""NEON AOP: the real SJER subset, and miniatures of flight lines, tiles and radiance."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from affine import Affine

sys.path.insert(0, str(Path(__file__).parent))
from neon_miniature import write_neon

import torchspectral as ts
from torchspectral.errors import BandMismatch, MissingMetadata, UnknownName
from torchspectral.geo import grid_of


def test_real_subset(samples: Path) -> None:
    path = samples / "neon" / "neon_sjer_subset.h5"
    cube = ts.open(path)
    with h5py.File(path, "r") as file:
        stored = file["SJER/Reflectance/Reflectance_Data"][()]
        waves = file["SJER/Reflectance/Metadata/Spectral_Data/Wavelength"][()]
    assert ts.describe(path)["reader"] == "neon" and cube.shape == (426, 30, 30)
    np.testing.assert_array_equal(cube.values, (stored / np.float32(10000)).astype(np.float32).transpose(2, 0, 1))
    np.testing.assert_allclose(cube["wavelength"].values, waves, rtol=0, atol=1e-8)
    assert 383 < waves[0] < 384 and 2511 < waves[-1] < 2512 and cube["good"].values.all()
    grid = grid_of(cube)
    # Map_Info gives the outer corner of the first pixel.
    assert grid.transform == Affine(1, 0, 257000, 0, -1, 4112000) and grid.crs.to_epsg() == 32611
    raw = ts.open(path, raw=True)
    np.testing.assert_array_equal(raw.values, stored.transpose(2, 0, 1))
    assert raw.attrs["packing"] == {"scale": [1e-4], "offset": [0.0], "nodata": -9999}


@pytest.mark.parametrize("scalar", [True, False])
@pytest.mark.parametrize(("order", "labels"), [("yxb", False), ("yxb", True), ("byx", False), ("byx", True)])
def test_values(tmp_path: Path, scalar: bool, order: str, labels: bool) -> None:
    path = tmp_path / "NEON_D17_SOAP_DP3_reflectance.h5"
    stored = write_neon(path, scalar=scalar, order=order, labels=labels)
    cube = ts.open(path)
    want = np.where(stored["cube"] == -9999, np.nan, stored["cube"] / 10000).transpose(2, 0, 1)
    np.testing.assert_allclose(cube.values, want, rtol=1e-6)
    # Negative reflectance is kept, 0 is a value, only -9999 is nodata.
    assert (cube.values < 0).sum() == (stored["cube"][stored["cube"] != -9999] < 0).sum() > 0
    assert cube.values[3, 1, 1] == 0 and np.isnan(cube.values[:, 0, 0]).all() and cube.dtype == np.float32
    np.testing.assert_allclose(cube["wavelength"].values, stored["wavelength"])
    np.testing.assert_allclose(cube["fwhm"].values, stored["fwhm"])
    wave = stored["wavelength"]
    assert (
        cube["good"].values.tolist()
        == (~(((wave >= 1340) & (wave <= 1445)) | ((wave >= 1790) & (wave <= 1955)))).tolist()
    )
    assert grid_of(cube).transform == Affine(2, 0, 512000, 0, -2, 4112000) and grid_of(cube).crs.to_epsg() == 32611
    assert cube.attrs["sun_zenith"] == 31.5 and cube.attrs["sun_azimuth"] == 140.25
    np.testing.assert_allclose(cube[[20, 1, 9], 2:5, [8, 0]].values, want[[20, 1, 9], 2:5][..., [8, 0]], rtol=1e-6)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).values, cube.values)


def test_layers(tmp_path: Path) -> None:
    stored = write_neon(tmp_path / "a.h5")
    assert set(ts.layers(tmp_path / "a.h5")) == {
        "slope", "aerosol_optical_depth", "elevation", "weather_quality_indicator", "sensor_zenith",
    }  # fmt: skip
    both = ts.open(
        tmp_path / "a.h5", layers=["slope", "aerosol_optical_depth", "sensor_zenith", "weather_quality_indicator"]
    )
    np.testing.assert_array_equal(both["slope"].values, stored["slope"])
    np.testing.assert_allclose(both["aerosol_optical_depth"].values, stored["aod"] / 1000, rtol=1e-6)
    zenith = both["sensor_zenith"].values
    assert np.isnan(zenith[0, 0]) and np.array_equal(zenith[1:], stored["zenith"][1:])
    assert both["weather_quality_indicator"].shape == (3, 8, 9)
    with pytest.raises(UnknownName, match="slope"):
        ts.open(tmp_path / "a.h5", layers=["slop"])


@pytest.mark.parametrize(("units", "factor"), [("microwatts/cm^2/nm/sr", 10.0), ("", 10.0), ("W/m2/sr/um", 1.0)])
def test_radiance(tmp_path: Path, units: str, factor: float) -> None:
    stored = write_neon(tmp_path / "a.h5", kind="Radiance", factor=100.0, units=units)
    cube = ts.open(tmp_path / "a.h5")
    assert cube.attrs["quantity"] == "radiance"
    want = np.where(stored["cube"] == -9999, np.nan, stored["cube"] / 100 * factor).transpose(2, 0, 1)
    np.testing.assert_allclose(cube.values, want, rtol=1e-6)
    assert ("without units" in " ".join(cube.attrs["history"])) == (not units)


def test_several_sites_ask(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_neon(path)
    other = write_neon(path, site="SJER", mode="a", seed=4, ancillary=False)
    with pytest.raises(MissingMetadata, match="SJER, SOAP"):
        ts.open(path)
    cube = ts.open(path, key="SJER")
    np.testing.assert_array_equal(
        cube.values[:, 2:], (other["cube"][2:] / np.float32(10000)).astype(np.float32).transpose(2, 0, 1)
    )
    assert "slope" in ts.layers(path)
    assert ts.open(path, key="SOAP", layers=["slope"])["slope"].shape == (8, 9)
    with pytest.raises(UnknownName, match="SJER"):
        ts.open(path, key="SJEr")


def test_rotated_map_info(tmp_path: Path) -> None:
    write_neon(
        tmp_path / "a.h5", map_info="UTM, 1, 1, 500000, 4000000, 1, 1, 11, North, WGS-84, units=Meters, rotation=30"
    )
    assert grid_of(ts.open(tmp_path / "a.h5")).kind == "rotated"


def test_faults(tmp_path: Path) -> None:
    write_neon(tmp_path / "a.h5", factor=None)
    with pytest.raises(MissingMetadata, match="Scale_Factor"):
        ts.open(tmp_path / "a.h5")
    write_neon(tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5", "a") as file:
        place = "SOAP/Reflectance/Metadata/Spectral_Data/Wavelength"
        del file[place]
        file[place] = np.arange(400.0, 423.0)
    with pytest.raises(BandMismatch, match="23 bands"):
        ts.open(tmp_path / "b.h5")


def test_opening_reads_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_neon(tmp_path / "a.h5", size=(1000, 1200), bands=230, data=False, ancillary=False, chunks=(64, 64, 32))
    touched: list[str] = []
    plain = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, *a: (touched.append(self.name), plain(self, *a))[1])
    assert ts.describe(tmp_path / "a.h5")["shape"] == [230, 1000, 1200]
    assert not any(name.endswith("Reflectance_Data") for name in touched)
