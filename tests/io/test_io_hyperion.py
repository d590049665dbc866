"""Hyperion: miniatures with one file a band, as USGS names them."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

sys.path.insert(0, str(Path(__file__).parent))
from hyperion_miniature import CENTRES, STEM, write_scene, zip_scene

import torchspectral as ts
from torchspectral.errors import UnknownProduct
from torchspectral.geo import grid_of
from torchspectral.io.readers.stacks import StackArray

SOME = [5, 8, 20, 29, 31, 50, 56, 57, 60, 71, 77, 78, 79, 110, 150, 224, 230]


def physical(stored: dict[int, np.ndarray], number: int) -> np.ndarray:
    out = stored[number] / (40.0 if number <= 70 else 80.0)
    out[0, :3] = np.nan
    return out


def test_every_band_its_centre_and_its_scale(tmp_path: Path) -> None:
    stored = write_scene(tmp_path / "p")
    cube = ts.open(tmp_path / "p")
    assert cube.shape == (242, 6, 7) and cube.attrs["quantity"] == "radiance" and cube.dtype == np.float32
    numbers = cube["number"].values
    assert (np.diff(cube["wavelength"].values) >= 0).all() and sorted(numbers) == list(range(1, 243))
    for number, centre in CENTRES.items():
        assert cube["wavelength"].values[numbers == number][0] == centre
    bad = sorted(numbers[~cube["good"].values].tolist())
    assert bad == [*range(1, 8), *range(58, 77), *range(225, 243)]
    np.testing.assert_allclose(cube.values, [physical(stored, int(n)) for n in numbers], rtol=1e-6)
    assert np.isfinite(cube.values[list(numbers).index(150), 3, 3])  # 0 in one band alone is a value
    assert cube["detector"].values[list(numbers).index(70)] == "vnir"
    assert cube["detector"].values[list(numbers).index(71)] == "swir"
    assert grid_of(cube).transform == Affine(30, 0, 100000, 0, -30, 200000)
    assert cube.attrs["sun_zenith"] == 37.75 and cube.attrs["view_zenith"] == 8.5 and cube.attrs["sun_azimuth"] == 299.5
    assert cube.attrs["acquired"] == "2006-05-10T01:58:12Z" and cube.hsi.sensor.name == "hyperion"


@pytest.mark.parametrize("level", ["L1T", "L1GST"])
def test_folder_mtl_band_or_zip(tmp_path: Path, level: str) -> None:
    stored = write_scene(tmp_path / "p", bands=SOME, level=level)
    archive = zip_scene(tmp_path / "p", tmp_path / f"{STEM}_1T.ZIP")
    mtl = next((tmp_path / "p").glob("*MTL*"))
    for path in (tmp_path / "p", mtl, tmp_path / "p" / f"{STEM}_B029_{level}.TIF", archive):
        cube = ts.open(path)
        assert cube.sizes["band"] == len(SOME) and cube.attrs["level"] == level
        np.testing.assert_allclose(cube.values[cube["number"].values == 29][0], physical(stored, 29), rtol=1e-6)
    assert any("225 of 242 bands" in line for line in cube.attrs["history"])
    layer = ts.open(archive, layers=["nodata"])["nodata"]
    assert layer.values.sum() == 3 and layer.values[0, :3].all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).values, cube.values)


def test_factors_of_the_mtl_and_without_one(tmp_path: Path) -> None:
    stored = write_scene(tmp_path / "p", bands=SOME, factors=(50.0, 100.0))
    cube = ts.open(tmp_path / "p")
    at = list(cube["number"].values).index(110)
    np.testing.assert_allclose(cube.values[at, 1:], stored[110][1:] / 100.0, rtol=1e-6)
    stored = write_scene(tmp_path / "q", bands=SOME, mtl=False)
    cube = ts.open(tmp_path / "q")
    np.testing.assert_allclose(cube.values[list(cube["number"].values).index(8)], physical(stored, 8), rtol=1e-6)
    raw = ts.open(tmp_path / "q", raw=True)
    assert raw.dtype == np.int16 and raw.attrs["packing"]["nodata"] == 0


def test_overlap_goes_by_calibrated_bands(tmp_path: Path) -> None:
    stored = write_scene(tmp_path / "p", bands=SOME)
    vnir = ts.open(tmp_path / "p", overlap="vnir")
    assert vnir["number"].values.tolist() == [5, 8, 20, 29, 31, 50, 56, 57, 79, 110, 150, 224, 230]
    swir = ts.open(tmp_path / "p", overlap="swir")
    assert swir["number"].values.tolist() == [5, 8, 20, 29, 31, 50, 77, 78, 79, 110, 150, 224, 230]
    detector = ts.open(tmp_path / "p", overlap="detector")
    assert detector["number"].values.tolist() == SOME
    mean = ts.open(tmp_path / "p", overlap="average")
    share = (925.41 - 922.54) / (932.64 - 922.54)
    want = 0.5 * physical(stored, 57) + 0.5 * ((1 - share) * physical(stored, 78) + share * physical(stored, 79))
    np.testing.assert_allclose(mean.values[mean["number"].values == 57][0], want, rtol=1e-5)


def test_hdf4_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / f"{STEM}.L1R"
    file.write_bytes(b"\x0e\x03\x13\x01" + bytes(64))
    for path in (file, tmp_path):
        with pytest.raises(UnknownProduct, match=r"HDF4.*gdal_translate.*L1T or L1Gst"):
            ts.open(path)


def test_opening_reads_no_pixel(tmp_path: Path, monkeypatch) -> None:
    write_scene(tmp_path / "p", bands=SOME)
    reads = []
    real = StackArray.read
    monkeypatch.setattr(StackArray, "read", lambda self, *a: reads.append(a) or real(self, *a))
    ts.describe(tmp_path / "p")
    assert ts.open(tmp_path / "p").shape == (len(SOME), 6, 7) and reads == []


def test_a_full_size_scene_opens_without_reading_pixels(tmp_path: Path, monkeypatch) -> None:
    for band in range(1, 243):
        with rasterio.open(
            tmp_path / f"{STEM}_B{band:03d}_L1T.TIF", "w", driver="GTiff", width=1200, height=3400, count=1, dtype="int16",
            tiled=True, sparse_ok=True, compress="deflate", crs="EPSG:32651", transform=Affine(30, 0, 0, 0, -30, 0),
        ):  # fmt: skip
            pass
    reads = []
    real = StackArray.read
    monkeypatch.setattr(StackArray, "read", lambda self, *a: reads.append(a) or real(self, *a))
    cube = ts.open(tmp_path)
    assert cube.shape == (242, 3400, 1200) and reads == []
    assert np.isnan(cube[[3, 40], 500:510, 600:610].values).all() and len(reads) == 1
