"""AVIRIS flight lines in ENVI files: miniatures, and the real pixel of AVIRIS-3."""

from __future__ import annotations

import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from pyproj import Transformer

import torchspectral as ts
from torchspectral.errors import BadSettings, BandMismatch, BrokenProduct, MissingMetadata
from torchspectral.geo import grid_of, orthorectify

sys.path.insert(0, str(Path(__file__).parent))
import aviris_miniature as mini


def test_classic_reflectance(tmp_path: Path) -> None:
    made = mini.classic(tmp_path)
    path = tmp_path / f"{mini.CLASSIC}_rfl_v1_img"
    expected = made["rfl"].astype("f4") / np.float32(10000)
    expected[:, 0, 0] = expected[:, 1, 1] = np.nan
    for given in (path, path.with_name(path.name + ".hdr"), tmp_path):
        cube = ts.open(given)
        assert cube.attrs["quantity"] == "reflectance" and cube.attrs["sensor"] == "AVIRIS-Classic"
        np.testing.assert_array_equal(cube.values, expected)
    np.testing.assert_allclose(cube.wavelength, made["wavelength"], atol=1e-3)
    assert "".join(cube.detector.values) == "A" * 32 + "B" * 64 + "C" * 64 + "D" * 64
    assert any("step back before band 33, 97, 161" in line for line in cube.attrs["history"])
    assert cube.attrs["acquired"] == "2013-05-22" and cube.attrs["level"] == "L2"
    grid = grid_of(cube)
    assert grid.kind == "rotated" and grid.crs.to_epsg() == 32611
    assert grid.transform * (0, 0) == (579717.18, 3714550.7)
    # A window of one band asks the others before it calls a pixel empty.
    np.testing.assert_array_equal(cube[7, 2].values, expected[7, 2])
    np.testing.assert_array_equal(cube[[7, 3], 0:3, 0:3].values, expected[[7, 3], 0:3, 0:3])
    raw = ts.open(path, raw=True)
    np.testing.assert_array_equal(raw.values, made["rfl"])
    assert raw.attrs["packing"] == {"scale": [1e-4], "offset": [0.0], "nodata": -9999}


def test_bands_sorted_on_request_and_correction_factors(tmp_path: Path) -> None:
    made = mini.classic(tmp_path)
    path = tmp_path / f"{mini.CLASSIC}_rfl_v1_img"
    plain = ts.open(path)
    cube = ts.open(path, overlap="wavelength")
    order = np.argsort(made["wavelength"], kind="stable")
    assert (np.diff(cube.wavelength) >= 0).all() and cube.number.values.tolist() == (order + 1).tolist()
    np.testing.assert_array_equal(cube.values, plain.values[order])
    np.testing.assert_array_equal(plain.correction_factor, made["factors"])
    undone = ts.open(path, correction="undo")
    np.testing.assert_allclose(undone.values, plain.values / made["factors"][:, None, None], rtol=1e-6)
    applied = ts.open(path, correction="apply")
    np.testing.assert_allclose(applied.values, plain.values * made["factors"][:, None, None], rtol=1e-6)
    with pytest.raises(BadSettings, match="none, apply, undo"):
        ts.open(path, correction="yes")


def test_classic_radiance_needs_its_gains(tmp_path: Path) -> None:
    made = mini.classic(tmp_path)
    path = tmp_path / f"{mini.CLASSIC}rdn_e_sc01_ort_img"
    cube = ts.open(path)
    assert cube.attrs["quantity"] == "radiance" and cube.attrs["level"] == "L1B"
    np.testing.assert_allclose(cube.values, made["rdn"] / made["gains"][:, None, None] * 10, rtol=1e-6)
    gains = tmp_path / f"{mini.CLASSIC}rdn_e.gain"
    lines = gains.read_text().splitlines()
    gains.write_text("\n".join(lines[:-1]))
    with pytest.raises(BandMismatch, match="223 gains for 224 bands"):
        ts.open(path)
    gains.write_text("\n".join(["high 1", *lines[1:]]))
    with pytest.raises(BrokenProduct, match="no gain file"):
        ts.open(path)
    gains.unlink()
    counts = ts.open(path)
    assert counts.attrs["quantity"] == "dn" and counts.dtype == np.int16
    assert any("no .gain file" in line for line in counts.attrs["history"])


def test_angles_of_a_rectified_image(tmp_path: Path) -> None:
    made = mini.classic(tmp_path)
    path = tmp_path / f"{mini.CLASSIC}_rfl_v1_img"
    assert ts.layers(path)[:3] == ["path_length", "sensor_azimuth", "sensor_zenith"] and ts.layers(path)[-1] == "obs"
    both = ts.open(path, layers=["sun_zenith", "obs"], window=(1, 2, 3, 2))
    np.testing.assert_array_equal(both["sun_zenith"].values, made["obs"][4, 1:4, 2:4])
    np.testing.assert_array_equal(both["obs"].values, made["obs"][:, 1:4, 2:4])
    assert both["layer_obs"].values.tolist()[10] == "earth_sun_distance"


@pytest.mark.parametrize(("flight", "units"), [(mini.NG, "Nanometers"), (mini.THREE, "Micrometers")])
def test_sensor_geometry_is_a_swath_with_its_lookup_table(tmp_path: Path, flight: str, units: str) -> None:
    made = mini.sensor_geometry(tmp_path, flight, units=units)
    cube = ts.open(tmp_path / f"{flight}_rdn_v2p11_img")
    expected = made["rdn"] * np.float32(10)
    expected[:, 4, 3] = np.nan
    np.testing.assert_allclose(cube.values, expected, rtol=1e-6)
    np.testing.assert_allclose(cube.wavelength, made["wavelength"], atol=1e-3)
    assert cube.attrs["sensor"] == {"a": "AVIRIS-NG", "A": "AVIRIS-3"}[flight[0]]
    assert cube.attrs["acquired"] in ("2017-11-08T18:42:27Z", "2025-03-08T20:07:38Z")
    assert grid_of(cube).kind == "swath" and np.isnan(cube.lon.values[0, 0])
    np.testing.assert_array_equal(cube.lon.values[1:], made["lon"][1:])
    np.testing.assert_array_equal(cube[:, 1:3, 2:].lat.values, made["lat"][1:3, 2:])
    glt = np.abs(made["glt"])
    seen = (glt != 0).all(axis=0)
    wanted = np.full((7, 6, 5), np.nan, np.float32)
    wanted[:, seen] = expected[:, glt[1][seen] - 1, glt[0][seen] - 1]
    for value in (cube, pickle.loads(pickle.dumps(cube))):
        on_map = orthorectify(value)
        np.testing.assert_allclose(on_map.values, wanted, rtol=1e-6)
        assert grid_of(on_map).transform[:6] == (30, 0, 499985, 0, -30, 4100015)
    assert cube.attrs["glt"].filled and cube.attrs["glt"] == pickle.loads(pickle.dumps(cube.attrs["glt"]))


def test_positions_on_the_map_become_degrees(tmp_path: Path) -> None:
    made = mini.sensor_geometry(tmp_path, with_loc=False)
    cube = ts.open(tmp_path / f"{mini.NG}_rdn_v2p11_img")
    lon, lat = Transformer.from_crs(32611, 4326, always_xy=True).transform(made["easting"], made["northing"])
    np.testing.assert_allclose(cube.lon.values, lon, atol=1e-10)
    np.testing.assert_allclose(cube[:, 2:4, 1:3].lat.values, lat[2:4, 1:3], atol=1e-10)
    found = ts.open(tmp_path / f"{mini.NG}_rdn_v2p11_img", layers=["easting", "elevation"])
    np.testing.assert_array_equal(found["easting"].values, made["easting"])
    np.testing.assert_array_equal(found["elevation"].values, made["height"])


def test_nothing_is_read_at_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini.sensor_geometry(tmp_path)
    from torchspectral.io.raw import RawArray

    monkeypatch.setattr(RawArray, "read", lambda *a, **k: pytest.fail("pixels were read"))
    cube = ts.open(tmp_path / f"{mini.NG}_rdn_v2p11_img")
    assert "glt" in cube.attrs and len(ts.layers(tmp_path / f"{mini.NG}_rdn_v2p11_img")) == 17
    assert ts.describe(tmp_path / f"{mini.NG}_rdn_v2p11_img")["grid"]["kind"] == "swath"


def test_metadata_of_a_full_size_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchspectral.io.raw import RawArray

    path = tmp_path / f"{mini.NG}_rdn_v2p11_img"
    mini.envi(path, np.zeros((230, 1, 1), np.float32), f"wavelength = {mini.listed(np.linspace(380, 2500, 230))}\n")
    mini.envi(tmp_path / f"{mini.NG}_loc", np.zeros((3, 1, 1)))
    for file, item, bands in ((path, 4, 230), (tmp_path / f"{mini.NG}_loc", 8, 3)):
        header = file.with_name(file.name + ".hdr")
        text = header.read_text().replace("samples = 1\n", "samples = 1000\n").replace("lines = 1\n", "lines = 1200\n")
        header.write_text(text)
        with file.open("r+b") as out:
            out.truncate(item * bands * 1000 * 1200)
    monkeypatch.setattr(RawArray, "read", lambda *a, **k: pytest.fail("pixels were read"))
    cube = ts.open(path)
    assert cube.shape == (230, 1200, 1000) and grid_of(cube).kind == "swath"


def test_companions_that_do_not_belong(tmp_path: Path) -> None:
    mini.sensor_geometry(tmp_path)
    image = tmp_path / f"{mini.NG}_rdn_v2p11_img"
    mini.envi(tmp_path / f"{mini.NG}_obs", np.zeros((11, 3, 3)))
    with pytest.raises(BrokenProduct, match="3 x 3 pixels, expected 5 x 4"):
        ts.open(image, layers="sun_zenith")
    table = np.full((2, 6, 5), 77, np.int32)
    ground = "map info = {UTM, 1, 1, 499985.0, 4100015.0, 30, 30, 11, North, WGS-84, units=Meters}\n"
    mini.envi(tmp_path / f"{mini.NG}_glt", table, ground)
    with pytest.raises(BrokenProduct, match="looks up row 77 and column 77"):
        orthorectify(ts.open(image))


def test_folders(tmp_path: Path) -> None:
    made = mini.sensor_geometry(tmp_path / f"{mini.NG}_rdn_v2p11")
    rfl = tmp_path / f"{mini.NG}_rfl_v2p9"
    rfl.mkdir()
    mini.envi(rfl / f"{mini.NG}_corr_v2p9_img", made["rdn"] / 100)
    cube = ts.open(rfl)
    # The geometry lies in the sister folder.
    assert cube.attrs["quantity"] == "reflectance" and grid_of(cube).kind == "swath"
    mini.envi(rfl / f"{mini.NG}_rfl_v3_img", made["rdn"])
    with pytest.raises(MissingMetadata, match="several images"):
        ts.open(rfl)
    mini.sensor_geometry(rfl, mini.THREE)
    with pytest.raises(MissingMetadata, match="several flight lines"):
        ts.open(rfl)


def test_our_own_files_and_foreign_names_stay_with_envi(tmp_path: Path) -> None:
    mini.sensor_geometry(tmp_path)
    cube = ts.open(tmp_path / f"{mini.NG}_rdn_v2p11_img")
    out = tmp_path / "out"
    out.mkdir()
    ts.save(cube, out / f"{mini.NG}_rdn_mine.hdr", orthorectify=False)
    again = ts.open(out / f"{mini.NG}_rdn_mine.hdr")
    assert again.attrs["quantity"] == "radiance"
    np.testing.assert_array_equal(again.values, cube.values)
    mini.envi(tmp_path / "field_rfl", np.ones((2, 3, 4), np.float32))
    assert "sensor" not in ts.open(tmp_path / "field_rfl").attrs


def test_real_pixel(samples: Path) -> None:
    folder = samples / "aviris" / "pixels"
    cube = ts.open(folder / "AV320250308t200738_rdn.img")
    text = np.loadtxt(folder / "AV320250308t200738_rdn.txt")
    np.testing.assert_allclose(cube.values[:, 0, 0], text[:, 1] * 10, rtol=1e-6)
    np.testing.assert_allclose(cube.wavelength, text[:, 0] * 1000, atol=1e-3)
    assert cube.attrs["quantity"] == "radiance" and grid_of(cube).kind == "swath"
    loc = np.loadtxt(folder / "AV320250308t200738_loc.txt")
    found = ts.open(folder / "AV320250308t200738_rdn.hdr", layers=["elevation", "sun_zenith", "utc_time"])
    assert (cube.lon.item(), cube.lat.item(), found["elevation"].item()) == tuple(loc.reshape(-1))
    obs = np.loadtxt(folder / "AV320250308t200738_obs.txt").reshape(-1)
    assert (found["sun_zenith"].item(), found["utc_time"].item()) == (obs[4], obs[9])


def test_a_companion_that_promises_a_million_bands_is_no_layer(tmp_path: Path) -> None:
    mini.classic(tmp_path)
    scene = sorted(tmp_path.glob("*rfl*.hdr"))[0]
    before = ts.layers(scene)
    header = next(iter(sorted(tmp_path.glob("*obs*.hdr"))))
    text = header.read_text()
    header.write_text(
        "\n".join("bands = 9000000" if re.match(r"bands\b", line) else line for line in text.splitlines())
    )
    after = ts.layers(scene)
    assert "obs" in before and "obs" not in after and len(after) < len(before)
