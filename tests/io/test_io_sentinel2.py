"""Sentinel-2: the real copy, and miniature SAFE products and items of all kinds of offset."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

sys.path.insert(0, str(Path(__file__).parent))
from sentinel2_miniature import BANDS, CENTRES, SIZES, UL, write_item, write_safe, zip_safe

import torchspectral as ts
from torchspectral.errors import BadSettings, BrokenProduct, MissingMetadata
from torchspectral.geo import grid_of
from torchspectral.io.masks import apply_mask, clear_mask
from torchspectral.io.readers.stacks import StackArray

PER_BAND = {i: -1000.0 - i for i in range(13)}


def physical(dn: np.ndarray, offset: float) -> np.ndarray:
    return np.where((dn == 0) | (dn == 65535), np.nan, (dn.astype(np.float64) + offset) / 10000)


@pytest.mark.parametrize("resolution", [10, 20, 60])
@pytest.mark.parametrize("item", [True, False])
def test_the_real_copy(samples: Path, resolution: int, item: bool) -> None:
    folder = samples / "sentinel2"
    cube = ts.open(folder / "S2A_29RKH_20200219_0_L2A.json" if item else folder, resolution=resolution)
    names = [b for b in SIZES[resolution] if b != "B10"]
    names = sorted(names, key=lambda b: CENTRES[BANDS.index(b)])
    want = []
    for name in names:
        with rasterio.open(folder / f"{name}.tif") as source:
            want.append(physical(source.read(1), 0.0))
            transform = source.transform
    np.testing.assert_allclose(cube.values, want, rtol=1e-6)
    assert cube["name"].values.tolist() == names and grid_of(cube).transform == transform
    assert cube.shape == ({10: 4, 20: 6, 60: 2}[resolution], *[{10: 1098, 20: 549, 60: 183}[resolution]] * 2)
    assert cube.attrs["quantity"] == "reflectance" and cube.hsi.sensor.name == "sentinel-2a"
    assert any("02.14 has no offset" in line for line in cube.attrs["history"])
    assert any("taken from the files" in line for line in cube.attrs["history"])


def test_the_real_classification(samples: Path) -> None:
    folder = samples / "sentinel2"
    with rasterio.open(folder / "SCL.tif") as source:
        classes = source.read(1)
    ds = ts.open(folder, layers=["scl", "aot", "cirrus", "bands_20m"])
    np.testing.assert_array_equal(ds["scl"].values, classes)
    np.testing.assert_array_equal(ds["cirrus"].values, (classes == 10).repeat(2, 0).repeat(2, 1))
    assert ds["bands_20m"].shape == (6, 549, 549) and ds["aot"].shape == (183, 183)
    mask, used = clear_mask(folder)
    want = ~np.isin(classes, [0, 3, 8, 9, 10]).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(mask.values[0], want)
    assert used == ["cloud", "cirrus", "shadow", "nodata"]
    assert np.isnan(apply_mask(ts.open(folder), mask).values[:, ~want]).all()


@pytest.mark.parametrize("level", ["L1C", "L2A"])
@pytest.mark.parametrize("resolution", [10, 20, 60])
def test_offsets_of_each_band(tmp_path: Path, level: str, resolution: int) -> None:
    safe, stored = write_safe(tmp_path, level, offsets=PER_BAND)
    cube = ts.open(safe, resolution=resolution)
    names = [b for b in SIZES[resolution] if b in stored]
    names.sort(key=lambda b: CENTRES[BANDS.index(b)])
    assert cube["name"].values.tolist() == names
    want = [physical(stored[b], PER_BAND[BANDS.index(b)]) for b in names]
    np.testing.assert_allclose(cube.values, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cube["wavelength"].values, [CENTRES[BANDS.index(b)] for b in names])
    np.testing.assert_allclose(cube["fwhm"].values, 9.3333333, rtol=1e-6)
    assert cube["number"].values.tolist() == [BANDS.index(b) + 1 for b in names]
    assert grid_of(cube).transform == Affine(resolution, 0, UL[0], 0, -resolution, UL[1])
    assert cube.attrs["sun_zenith"] == 38.5 and cube.attrs["view_zenith"] == 5.5 and cube.attrs["level"] == level
    assert cube.attrs["acquired"] == "2024-08-30T10:11:21.919283Z" and cube.hsi.sensor.name == "sentinel-2b"


def test_before_baseline_4_there_is_no_offset(tmp_path: Path) -> None:
    safe, stored = write_safe(tmp_path, baseline="02.14")
    np.testing.assert_allclose(ts.open(safe).values[1], physical(stored["B03"], 0.0), rtol=1e-5)
    other, stored = write_safe(tmp_path / "x", baseline="05.00")
    with pytest.raises(MissingMetadata, match="BOA_ADD_OFFSET"):
        ts.open(other)
    cube = ts.open(other, boa_offset=-1000)
    np.testing.assert_allclose(cube.values[1], physical(stored["B03"], -1000.0), rtol=1e-5, atol=1e-6)


def test_folder_metadata_or_zip(tmp_path: Path) -> None:
    safe, stored = write_safe(tmp_path / "in", offsets=PER_BAND)
    archive = zip_safe(safe, tmp_path / "a b.zip")
    before = sorted(tmp_path.rglob("*"))
    for path in (safe, safe.parent, safe / "MTD_MSIL2A.xml", archive):
        cube = ts.open(path)
        np.testing.assert_allclose(cube.values[2], physical(stored["B04"], -1003.0), rtol=1e-5, atol=1e-6)
    clone = pickle.loads(pickle.dumps(cube))
    np.testing.assert_array_equal(clone[1:3, 4:9, 2:5].values, cube.values[1:3, 4:9, 2:5])
    assert "cloud" in ts.layers(archive) and sorted(tmp_path.rglob("*")) == before


def test_all_bands_on_one_grid_on_request(tmp_path: Path) -> None:
    safe, stored = write_safe(tmp_path, offsets=PER_BAND)
    cube = ts.open(safe, resolution=20, resample="repeat")
    names = [b for b in BANDS if b in stored]
    assert cube["name"].values.tolist() == names and cube.shape == (12, 18, 18)
    fine = physical(stored["B02"], -1001.0).reshape(18, 2, 18, 2)
    at = names.index("B02")
    np.testing.assert_allclose(cube.values[at][3:, 3:], fine.mean(axis=(1, 3))[3:, 3:], rtol=1e-5)
    assert np.isnan(cube.values[at][:3, :3]).all()
    coarse = physical(stored["B01"], -1000.0).repeat(3, 0).repeat(3, 1)
    np.testing.assert_allclose(cube.values[0], coarse, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(cube[:, 5:11, 7:8].values, cube.values[:, 5:11, 7:8])
    assert any("resampled from 10 m, pixels averaged" in line for line in cube.attrs["history"])
    own = ts.open(safe, resolution=20, resample="product")
    assert own.sizes["band"] == 9
    np.testing.assert_allclose(own.values[0], physical(stored["B02_20m"], -1001.0), rtol=1e-5, atol=1e-6)
    with pytest.raises(BadSettings, match="repeat"):
        ts.open(safe, resolution=10, resample="product")


def test_layers_of_level_2(tmp_path: Path) -> None:
    safe, stored = write_safe(tmp_path, offsets=PER_BAND)
    ds = ts.open(
        safe, layers=["scl", "cloud", "saturated", "aot", "wvp", "cloud_probability", "sun_zenith", "bands_60m"]
    )
    np.testing.assert_array_equal(ds["cloud"].values, np.isin(stored["SCL"], [8, 9]).repeat(2, 0).repeat(2, 1))
    at_top = np.zeros((36, 36), bool)
    at_top[6, 6] = True
    np.testing.assert_array_equal(ds["saturated"].values, at_top | (stored["SCL"] == 1).repeat(2, 0).repeat(2, 1))
    assert np.isnan(ds["cube"].values[2, 6, 6]) and ts.open(safe, raw=True).values[2, 6, 6] == 65535
    np.testing.assert_allclose(ds["aot"], 0.15, rtol=1e-6)
    np.testing.assert_allclose(ds["wvp"], 2.5, rtol=1e-6)
    assert (ds["cloud_probability"].values == 40).all() and ds["bands_60m"].shape == (2, 6, 6)
    np.testing.assert_allclose(ds["sun_zenith"].values[:, :2], [[38, 38.5], [39, 39.5], [40, 40.5]])
    angle = ts.open(safe, layers=["view_azimuth"])["view_azimuth"]
    np.testing.assert_allclose(angle.values[0, 0], 359.5, atol=1e-3)  # the mean of 0 and 359
    assert float(angle["x_view_azimuth"][0]) == UL[0] and float(angle["y_view_azimuth"][0]) == UL[1]
    coarse = ts.open(safe, resolution=60, layers=["cloud"])["cloud"]
    want = np.isin(stored["SCL"], [8, 9]).reshape(6, 3, 6, 3).any(axis=(1, 3))
    np.testing.assert_array_equal(coarse.values, want)


def test_layers_of_level_1(tmp_path: Path) -> None:
    safe, _ = write_safe(tmp_path, "L1C", offsets=PER_BAND)
    ds = ts.open(safe, layers=["cloud", "cirrus", "snow", "saturated"])
    for name, pixel in (("cloud", 1), ("cirrus", 2), ("snow", 3)):
        want = np.zeros((36, 36), bool)
        want[6 * pixel : 6 * pixel + 6, 6 * pixel : 6 * pixel + 6] = True
        np.testing.assert_array_equal(ds[name].values, want)
    assert ds["saturated"].values.sum() == 1


@pytest.mark.parametrize(
    "shape, offset",
    [
        ({"flag": True}, 0.0), ({"flag": True, "offset": -0.1}, 0.0), ({"flag": False, "offset": -0.1}, -1000.0),
        ({"offset": -0.1}, -1000.0), ({"baseline": "02.14"}, 0.0), ({"offset": 0}, 0.0),
        ({"flag": True, "scale": False}, 0.0),
    ],
    ids=str,
)  # fmt: skip
def test_offsets_that_archives_may_have_removed(tmp_path: Path, shape: dict, offset: float) -> None:
    path, stored = write_item(tmp_path, **shape)
    cube = ts.open(path)
    want = [physical(stored[b], offset) for b in ("B02", "B03", "B04", "B08")]
    np.testing.assert_allclose(cube.values, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [{}, {"flag": False}, {"flag": False, "offset": 0}, {"baseline": None}], ids=str)
def test_offsets_are_never_guessed(tmp_path: Path, shape: dict) -> None:
    path, stored = write_item(tmp_path, **shape)
    with pytest.raises(MissingMetadata, match=r"boa_offset=-1000 .* or 0"):
        ts.open(path)
    np.testing.assert_allclose(
        ts.open(path, boa_offset=-1000).values[0], physical(stored["B02"], -1000), rtol=1e-5, atol=1e-6
    )
    assert "bands_20m" in ts.layers(path)


def test_several_tiles_and_missing_bands(tmp_path: Path) -> None:
    safe, _ = write_safe(tmp_path, offsets=PER_BAND)
    (safe / "GRANULE" / "L2A_T32TXX_x" / "IMG_DATA").mkdir(parents=True)
    (safe / "GRANULE" / "L2A_T32TXX_x" / "IMG_DATA" / "a.txt").write_text("x")
    with pytest.raises(BrokenProduct, match="2 tiles"):
        ts.open(safe)
    path, _ = write_item(tmp_path / "i", flag=True, bands=("B02", "B03"))
    with pytest.raises(BrokenProduct, match=r"no bands of 20 m.*it has those of 10 m"):
        ts.open(path, resolution=20)
    with pytest.raises(BadSettings, match="10, 20 or 60"):
        ts.open(path, resolution=15)


def test_opening_reads_no_pixel_of_a_full_tile(tmp_path: Path, monkeypatch) -> None:
    path, _ = write_item(tmp_path, flag=True, bands=("B02", "B03", "B04", "B08"))
    for band in ("B02", "B03", "B04", "B08"):
        with rasterio.open(
            tmp_path / f"{band}.tif", "w", driver="GTiff", width=10980, height=10980, count=1, dtype="uint16", tiled=True,
            sparse_ok=True, compress="deflate", crs="EPSG:32632", transform=Affine(10, 0, UL[0], 0, -10, UL[1]),
        ):  # fmt: skip
            pass
    reads = []
    real = StackArray.read
    monkeypatch.setattr(StackArray, "read", lambda self, *a: reads.append(a) or real(self, *a))
    cube = ts.open(path)
    ts.describe(path)
    assert cube.shape == (4, 10980, 10980) and reads == []
    assert np.isnan(cube[1:3, 5000:5004, 7000:7003].values).all() and len(reads) == 1
