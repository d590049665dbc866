"""Frames of snapshot-mosaic sensors: lattices, phases, interpolation, spectral correction."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

import torchspectral as ts
from torchspectral.errors import (
    BadCube,
    BadSettings,
    BandMismatch,
    BrokenProduct,
    GridMismatch,
    MissingMetadata,
    UnknownName,
    UnsafeInput,
)

sys.path.insert(0, str(Path(__file__).parent))
import mosaic_miniature as mini


@pytest.mark.parametrize("size", [2, 3, 4, 5])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".img"])
def test_every_filter_is_a_band(tmp_path: Path, size: int, suffix: str) -> None:
    values = mini.frame(size, 6 * size + 1, 4 * size + 2)
    path = mini.write(tmp_path / f"frame{suffix}", values)
    mini.calibration(tmp_path / "sensor.xml", size, (1, 0, 4 * size + 1, 6 * size + 1))
    cube = ts.open(path, reader="mosaic", calibration=tmp_path / "sensor.xml")
    assert cube.shape == (size * size, 6, 4) and cube.dtype == np.uint16 and cube.attrs["quantity"] == "dn"
    assert (np.diff(cube.wavelength) > 0).all()
    for band in range(size * size):
        number = int(cube.number[band]) - 1
        row, col = divmod(number, size)
        assert float(cube.wavelength[band]) == mini.PEAKS[size][number]
        assert float(cube.fwhm[band]) == pytest.approx(10 + number / 10)
        assert cube.attrs["mosaic"]["phase"][str(number + 1)] == [row, col]
        np.testing.assert_array_equal(cube.values[band], values[row : 6 * size : size, 1 + col : 1 + 4 * size : size])
    assert cube.attrs["mosaic"]["area"] == [0, 1, 6 * size, 4 * size]
    assert any("the rest left out" in line for line in cube.attrs["history"])
    np.testing.assert_array_equal(cube[[3, 1], 2:5, ::2].values, cube.values[[3, 1], 2:5, ::2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).values, cube.values)


def test_calibration_beside_the_frame_decides(tmp_path: Path) -> None:
    values = mini.frame(4, 16, 20)
    for suffix in (".png", ".tif", ".img"):
        path = mini.write(tmp_path / f"frame{suffix}", values)
    mini.calibration(tmp_path / "frame.xml", 4, (0, 0, 20, 16))
    for suffix in (".png", ".tif", ".img"):
        path = tmp_path / f"frame{suffix}"
        assert ts.open(path).shape == (16, 4, 5) and ts.open(path).attrs["sensor"] == "CMV2K-SSM4x4"
        assert ts.describe(path)["reader"] == "mosaic"
    (tmp_path / "frame.xml").write_text("<other/>")
    assert ts.open(tmp_path / "frame.tif").shape == (1, 16, 20)
    with pytest.raises(MissingMetadata, match=r"pattern=\(4, 4\)"):
        ts.open(tmp_path / "frame.png")


def test_pattern_without_calibration(tmp_path: Path) -> None:
    values = mini.frame(2, 8, 6, dtype="uint8")
    path = mini.write(tmp_path / "frame.png", values)
    cube = ts.open(path, pattern=(2, 2))
    assert np.isnan(cube.wavelength).all() and cube.number.values.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(cube.values[2], values[1::2, ::2])
    named = ts.open(path, pattern=(2, 2), wavelength=[640, 530, 460, 800])
    assert named.number.values.tolist() == [3, 2, 1, 4] and named.wavelength.values.tolist() == [460, 530, 640, 800]
    np.testing.assert_array_equal(named.values[0], values[1::2, ::2])
    cut = ts.open(path, pattern=(2, 2), area=(2, 1, 5, 5))
    np.testing.assert_array_equal(cut.values[1], values[2:6:2, 2:6:2])
    wide = ts.open(path, pattern=(2, 3))
    assert wide.shape == (6, 4, 2)


@pytest.mark.parametrize("size", [2, 4, 5])
def test_bilinear_agrees_with_scipy(tmp_path: Path, size: int) -> None:
    rows, cols = 4 * size, 3 * size
    values = mini.frame(size, rows, cols)
    path = mini.write(tmp_path / "frame.tif", values)
    mini.calibration(tmp_path / "frame.xml", size, (0, 0, cols, rows))
    cube = ts.open(path, demosaic="bilinear")
    assert cube.shape == (size * size, rows, cols) and cube.dtype == np.float32
    assert cube.attrs["mosaic"]["step"] == [1, 1]
    got = cube.values
    for band in range(size * size):
        row, col = divmod(int(cube.number[band]) - 1, size)
        ys, xs = np.arange(row, rows, size), np.arange(col, cols, size)
        lattice = RegularGridInterpolator((ys, xs), values[row::size, col::size].astype("f8"))
        yy, xx = np.meshgrid(
            np.clip(np.arange(rows), ys[0], ys[-1]), np.clip(np.arange(cols), xs[0], xs[-1]), indexing="ij"
        )
        np.testing.assert_allclose(got[band], lattice((yy, xx)), rtol=1e-5, atol=1e-3)
        # Where the filter lies the value is its own.
        np.testing.assert_array_equal(got[band][row::size, col::size], values[row::size, col::size])
    window = cube[1:3, size + 1 : 3 * size, 2 : size + 3].values
    np.testing.assert_array_equal(window, got[1:3, size + 1 : 3 * size, 2 : size + 3])


def test_no_pixel_is_read_at_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchspectral.io.readers.geotiff import RasterArray

    path = mini.write(tmp_path / "frame.png", mini.frame(5, 1085, 2045))
    mini.calibration(tmp_path / "frame.xml", 5, (0, 3, 2045, 1080))
    monkeypatch.setattr(RasterArray, "read", lambda *a, **k: pytest.fail("pixels were read"))
    assert ts.open(path).shape == (25, 216, 409) and ts.open(path, demosaic="bilinear").shape == (25, 1080, 2045)


def test_nodata_spreads_no_further_than_its_neighbours(tmp_path: Path) -> None:
    values = mini.frame(2, 8, 8) + 1
    values[2, 2] = 0
    path = mini.write(tmp_path / "frame.png", values.astype("uint16"))
    lattice = ts.open(path, pattern=(2, 2), nodata=0)
    assert lattice.attrs["nodata"] == 0
    cube = ts.open(path, pattern=(2, 2), demosaic="bilinear", nodata=0)
    gone = np.isnan(cube.values)
    assert gone[0, 1:4, 1:4].all() and gone.sum() == 9


def test_correction_makes_virtual_bands(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    values = mini.frame(4, 12, 16)
    path = mini.write(tmp_path / "frame.png", values)
    waves, matrix = [610.0, 500.0, 550.0], rng.normal(size=(3, 16))
    mini.calibration(
        tmp_path / "frame.xml", 4, (0, 0, 16, 12), matrices={"hsi_reflectance": (waves, matrix), "raw": (waves, matrix)}
    )
    filters = np.stack([values[r::4, c::4] for r in range(4) for c in range(4)]).astype("f8")
    cube = ts.open(path, correction="hsi_reflectance")
    assert cube.wavelength.values.tolist() == [500, 550, 610] and cube.fwhm.values.tolist() == [12, 12, 12]
    expected = np.tensordot(matrix[[1, 2, 0]], filters, axes=1)
    np.testing.assert_allclose(cube.values, expected, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(cube[[2], 1:3, 1:4].values, expected[[2], 1:3, 1:4], rtol=1e-4, atol=1e-2)
    full = ts.open(path, correction="raw", demosaic="bilinear")
    assert full.shape == (3, 12, 16) and "phase" not in full.attrs["mosaic"]
    with pytest.raises(MissingMetadata, match="several corrections"):
        ts.open(path, correction=True)
    with pytest.raises(UnknownName, match="no correction 'hsi'"):
        ts.open(path, correction="hsi")


def test_what_is_refused(tmp_path: Path) -> None:
    path = mini.write(tmp_path / "frame.png", mini.frame(4, 16, 20))
    xml = tmp_path / "sensor.xml"
    mini.calibration(xml, 4, (0, 0, 20, 16))
    for options, error, message in (
        ({"pattern": (5, 5)}, BandMismatch, "describes 4 x 4"),
        ({"pattern": 4}, BadSettings, "expected \\(rows, columns\\)"),
        ({"demosaic": "vng"}, BadSettings, "none, bilinear"),
        ({"correction": True}, MissingMetadata, "no correction matrix"),
        ({"area": (0, 0, 17, 20)}, GridMismatch, "leaves the frame of 16 x 20"),
        ({"area": (0, 0, 3, 20)}, GridMismatch, "less than one pattern"),
    ):
        with pytest.raises(error, match=message):
            ts.open(path, calibration=xml, **options)
    with pytest.raises(BadSettings, match="2 x 2 to 16 x 16"):
        ts.open(path, pattern=(1, 99))
    mini.calibration(xml, 4, (0, 0, 2048, 1088))
    with pytest.raises(GridMismatch, match="was the frame cut"):
        ts.open(path, calibration=xml)
    mini.calibration(xml, 4, (0, 0, 20, 16), layout="LINESCAN")
    with pytest.raises(MissingMetadata, match="expected MOSAIC"):
        ts.open(path, calibration=xml)
    mini.calibration(xml, 4, (0, 0, 20, 16), peaks=[500.0] * 15)
    with pytest.raises(BrokenProduct, match="describes 15 filters"):
        ts.open(path, calibration=xml)
    mini.calibration(xml, 4, (0, 0, 20, 16), matrices={"m": ([500.0], np.ones((1, 9)))})
    with pytest.raises(BrokenProduct, match="virtual band of 9 coefficients"):
        ts.open(path, calibration=xml)
    mini.calibration(xml, 4, (0, 0, 20, 16), head='<!DOCTYPE a [<!ENTITY b "c">]>')
    with pytest.raises(UnsafeInput, match="document type"):
        ts.open(path, calibration=xml)
    xml.write_text("<sensor_calibration/>")
    with pytest.raises(MissingMetadata, match="no filter_zone"):
        ts.open(path, calibration=xml)


def test_colour_pictures_are_no_frames(tmp_path: Path) -> None:
    import rasterio

    with rasterio.open(tmp_path / "rgb.png", "w", driver="PNG", height=4, width=4, count=3, dtype="uint8") as out:
        out.write(np.zeros((3, 4, 4), "uint8"))
    with pytest.raises(BadCube, match="3 bands"):
        ts.open(tmp_path / "rgb.png", reader="mosaic", pattern=(2, 2))
