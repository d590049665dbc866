"""PACE OCI: miniatures after the published file structure."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pace_miniature import WAVES, write_l1b, write_l2

import torchspectral as ts
from torchspectral.errors import BadSettings, BandMismatch, UnknownName
from torchspectral.geo import grid_of, orthorectify
from torchspectral.io.masks import clear_mask

ALL = [(w, d, n) for d, waves in WAVES.items() for n, w in enumerate(waves)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("overlap", "want"),
    [
        ("wavelength", sorted(ALL, key=lambda b: b[0])),
        ("detector", ALL),
        ("blue", [b for b in ALL if b[1] != "red" or b[0] > 605]),
        ("red", [b for b in ALL if b[1] != "blue" or b[0] < 600]),
    ],
)
def test_level1(tmp_path: Path, packed: bool, overlap: str, want: list) -> None:
    path = tmp_path / "PACE_OCI.20240601T120000.L1B.V3.nc"
    stored = write_l1b(path, packed=packed)
    cube = ts.open(path, overlap=overlap)
    assert cube["wavelength"].values.tolist() == [b[0] for b in want]
    assert cube["detector"].values.tolist() == [b[1] for b in want]
    np.testing.assert_allclose(cube.values, np.stack([stored[d][n] for _, d, n in want]), rtol=1e-6)
    assert cube["number"].values.tolist() == [ALL.index(b) + 1 for b in want]
    assert (
        cube.attrs["quantity"] == "reflectance" and grid_of(cube).kind == "swath" and cube.attrs["sensor"] == "PACE OCI"
    )
    np.testing.assert_array_equal(cube["lon"].values, stored["lon"])
    assert cube["fwhm"].values[-1] == 75 and np.isnan(cube["fwhm"].values[0])
    np.testing.assert_allclose(cube[[8, 1, 4], 2:6, 3].values, cube.values[[8, 1, 4], 2:6, 3])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).values, cube.values)


def test_layers_of_level1(tmp_path: Path) -> None:
    path = tmp_path / "a.nc"
    stored = write_l1b(path)
    assert set(ts.layers(path)) == {"sun_zenith", "elevation", "watermask", "water", "quality"}
    both = ts.open(path, overlap="detector", layers=["sun_zenith", "elevation", "water", "quality"])
    np.testing.assert_allclose(both["sun_zenith"].values, stored["zenith"] * 0.01, rtol=1e-5)
    np.testing.assert_array_equal(both["elevation"].values, stored["height"])
    np.testing.assert_array_equal(both["water"].values, stored["watermask"] == 1)
    np.testing.assert_array_equal(both["quality"].values, np.concatenate([stored[f"qual_{d}"] for d in WAVES]))


def test_level2(tmp_path: Path) -> None:
    path = tmp_path / "PACE_OCI.20240601T120000.L2.OC_AOP.V3.nc"
    stored = write_l2(path, cubes=("Rrs", "Rrs_unc"))
    cube = ts.open(path)
    np.testing.assert_allclose(cube.values, stored["Rrs"].transpose(2, 0, 1), rtol=1e-5, atol=1e-8)
    assert cube.attrs["units"] == "sr-1" and "water-leaving" in " ".join(cube.attrs["history"])
    np.testing.assert_array_equal(cube["wavelength"].values, stored["waves"])
    np.testing.assert_allclose(
        ts.open(path, key="Rrs_unc").values, stored["Rrs_unc"].transpose(2, 0, 1), rtol=1e-5, atol=1e-8
    )
    mask, flags = clear_mask(path, "cloud-free")
    assert flags == ["cloud"]
    np.testing.assert_array_equal(mask.values[0], (stored["flags"] & 512) == 0)
    layer = ts.open(path, layers=["l2_flags", "saturated"])
    np.testing.assert_array_equal(layer["l2_flags"].values, stored["flags"])
    np.testing.assert_array_equal(layer["saturated"].values, (stored["flags"] & 16) != 0)
    flat = orthorectify(cube)
    assert grid_of(flat).kind == "map" and np.isfinite(flat.values[0]).any()


def test_bad_asks(tmp_path: Path) -> None:
    write_l1b(tmp_path / "a.nc")
    write_l2(tmp_path / "b.nc")
    with pytest.raises(BadSettings, match="wavelength, detector, blue, red"):
        ts.open(tmp_path / "a.nc", overlap="vnir")
    with pytest.raises(BadSettings, match="do not overlap"):
        ts.open(tmp_path / "b.nc", overlap="blue")
    with pytest.raises(BadSettings, match="only L2"):
        ts.open(tmp_path / "a.nc", key="Rrs")
    with pytest.raises(UnknownName, match="Rrs"):
        ts.open(tmp_path / "b.nc", key="rrs")
    write_l1b(tmp_path / "c.nc")
    with h5py.File(tmp_path / "c.nc", "a") as file:
        del file["sensor_band_parameters/red_wavelength"]
        file["sensor_band_parameters/red_wavelength"] = np.arange(600.0, 607.0)
    with pytest.raises(BandMismatch, match="rhot_red"):
        ts.open(tmp_path / "c.nc")
