"""Raw cubes of line-scan cameras: miniatures of four makers, and the real Headwall files."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.errors import BadSettings, BandMismatch, BrokenProduct
from torchspectral.geo import grid_of
from torchspectral.io.opening import get_reader

sys.path.insert(0, str(Path(__file__).parent))
import line_scan_miniature as mini


def test_specim_capture(tmp_path: Path) -> None:
    made = mini.specim(tmp_path)
    capture = tmp_path / "leaf_0001" / "capture"
    for path in (capture / "leaf_0001.hdr", capture / "leaf_0001.raw", tmp_path / "leaf_0001", capture):
        cube = ts.open(path)
        assert cube.attrs["quantity"] == "dn" and cube.dtype == np.uint16
        np.testing.assert_array_equal(cube.values, made["scene"])
    facts = {k: cube.attrs[k] for k in ("integration_time", "frame_rate", "temperature", "serial", "acquired")}
    assert facts == {
        "integration_time": 8.25, "frame_rate": 50.0, "temperature": 38.25, "serial": "4210123",
        "acquired": "2023-05-01T08:09:10Z",
    }  # fmt: skip
    assert (cube.attrs["spectral_binning"], cube.attrs["spatial_binning"]) == (2, 1)
    assert "FX10e" in cube.attrs["sensor"] and cube.wavelength.values[1] == 420.5
    path = capture / "leaf_0001.hdr"
    assert ts.layers(path) == ["dark", "dark_mean", "white", "white_mean", "white_dark", "white_dark_mean"]
    both = ts.open(path, layers=ts.layers(path))
    for role in ("dark", "white", "white_dark"):
        assert both[role].dtype == np.uint16
        np.testing.assert_array_equal(both[role].values, made[role])
        mean = made[role].mean(axis=1, dtype="f8")
        np.testing.assert_allclose(both[f"{role}_mean"].values[:, 0], mean, rtol=1e-6)
        np.testing.assert_allclose(both[f"{role}_mean"][[4, 1], 0, 1:3].values, mean[[4, 1], 1:3], rtol=1e-6)
    assert both["white"].attrs["integration_time"] == 9.5
    # References are no scenes with references of their own.
    assert ts.layers(capture / "DARKREF_leaf_0001.hdr") == []
    again = pickle.loads(pickle.dumps(both))
    np.testing.assert_array_equal(again["white_mean"].values, both["white_mean"].values)


def test_lines_with_a_closed_shutter(tmp_path: Path) -> None:
    made = mini.specim(tmp_path, closed=2)
    capture = tmp_path / "leaf_0001" / "capture"
    for name in capture.glob("*REF_*"):
        name.unlink()
    cube = ts.open(capture / "leaf_0001.hdr")
    np.testing.assert_array_equal(cube.values, made["scene"][:, :3])
    assert grid_of(cube).shape == (3, 4) and any("lines 4 to 5" in line for line in cube.attrs["history"])
    both = ts.open(capture / "leaf_0001.hdr", layers=["dark", "dark_mean"])
    np.testing.assert_array_equal(both["dark"].values, made["scene"][:, 3:])
    np.testing.assert_allclose(both["dark_mean"].values[:, 0], made["scene"][:, 3:].mean(axis=1))
    np.testing.assert_array_equal(ts.open(capture / "leaf_0001.hdr", dark_lines="keep").values, made["scene"])
    with pytest.raises(BadSettings, match="cut, keep"):
        ts.open(capture / "leaf_0001.hdr", dark_lines="drop")


def test_headwall_folder(tmp_path: Path) -> None:
    made = mini.headwall(tmp_path)
    cube = ts.open(tmp_path / "raw_0")
    np.testing.assert_array_equal(cube.values, made["scene"])
    assert cube.attrs["sensor"] == "Headwall Hyperspec III" and cube.wavelength.values[2] == 441
    found = ts.open(tmp_path / "raw_0.hdr", layers=["dark", "white", "white_mean"])
    np.testing.assert_array_equal(found["dark"].values, made["dark"])
    np.testing.assert_array_equal(found["white"].values, made["white"])
    assert found["white"].dims == ("layer_white", "y_white", "x_white")


def test_reference_of_other_settings(tmp_path: Path) -> None:
    mini.headwall(tmp_path)
    other = mini.frames(2, 1, bands=5)
    (tmp_path / "darkReference.hdr").write_text(mini.header(other, ""))
    mini.bil(tmp_path / "darkReference", other)
    cube = ts.open(tmp_path / "raw_0")
    assert any("does not fit" in line for line in cube.attrs["history"])
    with pytest.raises(BandMismatch, match="5 bands and 4 samples, expected 6 bands"):
        ts.open(tmp_path / "raw_0", layers="dark")


def test_resonon(tmp_path: Path) -> None:
    made = mini.resonon(tmp_path)
    for path in (tmp_path / "Rock-3.bil", tmp_path / "Rock-3.bil.hdr"):
        cube = ts.open(path, layers="dark")
        np.testing.assert_array_equal(cube["cube"].values, made["scene"])
        np.testing.assert_array_equal(cube["dark"].values, made["dark"])
    attrs = cube["cube"].attrs
    assert (attrs["integration_time"], attrs["frame_rate"], attrs["gain"]) == (11.25, 62.5, 4.5)
    assert (attrs["sensor"], attrs["serial"], attrs["ceiling"]) == ("Resonon Pika L", "100064-1", 4095)
    assert attrs["acquired"] == "2022-03-04T05:06:07Z" and attrs["spectral_binning"] == 2


def test_hyspex_header_holds_its_background(tmp_path: Path) -> None:
    made = mini.hyspex(tmp_path)
    path = next(tmp_path.glob("*.hyspex"))
    cube = ts.open(path)
    np.testing.assert_array_equal(cube.values, made["scene"])
    attrs = cube.attrs
    assert attrs["integration_time"] == 13 and attrs["frame_rate"] == pytest.approx(33.333, abs=1e-3)
    assert (attrs["serial"], attrs["temperature"], attrs["dark_frames"]) == ("827", 40.25, 200)
    assert attrs["sensor"] == "HySpex VNIR_1800_SN0827" and attrs["pixel_size_y"] == 0.00036
    assert ts.layers(path) == ["dark", "responsivity", "efficiency"]
    found = ts.open(path, layers=["dark", "responsivity", "efficiency"])
    np.testing.assert_array_equal(found["dark"].values[:, 0], made["background"])
    np.testing.assert_array_equal(found["responsivity"][2:4, :, 1:3].values[:, 0], made["responsivity"][2:4, 1:3])
    np.testing.assert_array_equal(found["efficiency"].values[:, 0, 0], made["efficiency"])


def test_hyspex_without_and_with_a_damaged_block(tmp_path: Path) -> None:
    made = mini.hyspex(tmp_path, block=False)
    path = next(tmp_path.glob("*.hyspex"))
    np.testing.assert_array_equal(ts.open(path).values, made["scene"])
    assert ts.layers(path) == [] and ts.open(path).attrs["serial"] == "827"
    block = bytearray(mini.hyspex_block(np.zeros((6, 4)), np.zeros((6, 4)), np.zeros(6), 4096))
    block[1961:1969] = np.array([600, 4000], "<u4").tobytes()
    mini.bil(path, made["scene"], bytes(block))
    with pytest.raises(BrokenProduct, match="600 bands and 4000 samples"):
        ts.open(path)


def test_no_pixel_is_read_at_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini.specim(tmp_path)
    from torchspectral.io.raw import RawArray

    monkeypatch.setattr(RawArray, "read", lambda *a, **k: pytest.fail("pixels were read"))
    path = tmp_path / "leaf_0001" / "capture" / "leaf_0001.hdr"
    ts.open(path, layers=ts.layers(path))
    assert ts.describe(path)["reader"] == "line-scan"


def test_plain_envi_stays_plain(tmp_path: Path) -> None:
    values = mini.frames(3, 1)
    (tmp_path / "scene.hdr").write_text(mini.header(values, "description = {a scene}\n"))
    mini.bil(tmp_path / "scene.img", values)
    assert ts.describe(tmp_path / "scene.hdr")["reader"] == "envi"
    assert get_reader("line-scan").open(tmp_path / "scene.hdr", camera="resonon").attrs["sensor"] == "Resonon"
    with pytest.raises(BadSettings, match="headwall, specim, resonon, hyspex"):
        ts.open(tmp_path / "scene.hdr", reader="line-scan", camera="canon")


def test_real_headwall_files(samples: Path) -> None:
    folder = samples / "headwall"
    dark = ts.open(folder / "darkReference")
    plain = np.fromfile(folder / "darkReference", "<u2").reshape(1, 978, 1600).transpose(1, 0, 2)
    np.testing.assert_array_equal(dark.values, plain)
    assert dark.attrs["sensor"] == "Headwall Hyperspec III" and ts.layers(folder / "darkReference") == []
    # The reference is of the whole slit, the kernel was cut out of it.
    with pytest.raises(BandMismatch, match="978 bands and 1600 samples, expected 580 bands and 43 samples"):
        ts.open(folder / "corn-kernel-hyperspectral.raw", layers="dark")
