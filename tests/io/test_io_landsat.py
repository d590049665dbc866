"""Landsat: the real samples, and miniatures of both levels and three sensors."""

from __future__ import annotations

import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

sys.path.insert(0, str(Path(__file__).parent))
from landsat_miniature import ELEVATION, SIZE, write_l1, write_l2

import torchspectral as ts
from torchspectral.errors import UnknownName
from torchspectral.geo import grid_of
from torchspectral.io.masks import clear_mask
from torchspectral.io.readers.stacks import StackArray

LC08 = "LC08_L2SP_001062_20201031_20201106_02_T2"


def plain(path: Path, scale: float, offset: float, nodata: float) -> np.ndarray:
    """Values by GDAL alone."""
    with rasterio.open(path) as source:
        counts = source.read(1)
    return np.where(counts == nodata, np.nan, counts.astype(np.float64) * scale + offset)


@pytest.mark.parametrize("name", ["", f"{LC08}_MTL.txt", f"{LC08}_MTL.json", f"{LC08}_SR_stac.json"])
def test_the_real_level_2_product(samples: Path, name: str) -> None:
    folder = samples / "landsat" / "LC08_L2SP"
    cube = ts.open(folder / name if name else folder)
    want = [plain(folder / f"{LC08}_SR_B{n}.TIF", 2.75e-5, -0.2, 0) for n in range(1, 8)]
    np.testing.assert_allclose(cube.values, want, rtol=1e-5, atol=1e-6)
    assert cube.shape == (7, 386, 379) and cube["number"].values.tolist() == list(range(1, 8))
    assert cube.attrs["quantity"] == "reflectance" and cube.attrs["level"] == "L2SP"
    assert np.all(np.abs(cube["wavelength"].values - [443, 482, 561, 655, 865, 1609, 2201]) < 2)
    assert cube.attrs["sun_zenith"] == pytest.approx(90 - 64.45083205)
    assert cube.attrs["acquired"].startswith("2020-10-31T14:31:47.8083")
    assert grid_of(cube).crs.to_epsg() == 32620 and cube.hsi.sensor.name == "landsat-8"


def test_the_real_quality_bits(samples: Path) -> None:
    folder = samples / "landsat" / "LC08_L2SP"
    with rasterio.open(folder / f"{LC08}_QA_PIXEL.TIF") as source:
        bits = source.read(1)
    ds = ts.open(folder, layers=["cloud", "shadow", "water", "nodata", "qa_pixel"])
    np.testing.assert_array_equal(ds["cloud"].values, (bits & 0b1010) != 0)
    np.testing.assert_array_equal(ds["shadow"].values, (bits & 16) != 0)
    np.testing.assert_array_equal(ds["water"].values, (bits & 128) != 0)
    np.testing.assert_array_equal(ds["nodata"].values, (bits & 1) != 0)
    np.testing.assert_array_equal(ds["qa_pixel"].values, bits)
    mask, used = clear_mask(folder)
    np.testing.assert_array_equal(mask.values[0], (bits & 0b11111) == 0)
    assert used == ["cloud", "cirrus", "shadow", "nodata"]


def test_the_real_thematic_mapper(samples: Path) -> None:
    folder = samples / "landsat" / "LT05_L1"
    cube = ts.open(folder)
    factors = {1: (0.671, -2.19134), 2: (1.322, -4.1622), 3: (1.044, -2.21398), 4: (0.876, -2.38602),
               5: (0.12, -0.49035), 7: (0.066, -0.21555), 6: (0.055, 1.18243)}  # fmt: skip
    want = [plain(folder / f"LT52240631988227CUB02_B{n}.TIF", *f, 255) for n, f in factors.items()]
    np.testing.assert_allclose(cube.values, want, rtol=1e-5, atol=1e-5)
    assert cube["number"].values.tolist() == [1, 2, 3, 4, 5, 7, 6] and cube.attrs["quantity"] == "radiance"
    assert cube.attrs["units"] == "W m-2 sr-1 um-1" and cube["wavelength"].values[-1] == 11450
    assert (np.diff(cube["wavelength"].values) > 0).all() and cube.attrs["acquired"].startswith("1988-08-14T13:00:47")
    assert grid_of(cube).transform == Affine(30, 0, 619395, 0, -30, -410205)
    raw = ts.open(folder, raw=True)
    assert raw.dtype == np.uint8 and raw.attrs["packing"]["nodata"] == 255


def test_a_plain_stack_stays_what_it_is(samples: Path) -> None:
    cube = ts.open(samples / "landsat" / "L7_ETMs.tif")
    assert cube.shape == (6, 352, 349) and cube.attrs["quantity"] == "dn" and cube.dtype == np.uint8


@pytest.mark.parametrize("as_json", [False, True])
def test_level_2_miniature(tmp_path: Path, as_json: bool) -> None:
    stored = write_l2(tmp_path / "p", as_json=as_json)
    cube = ts.open(tmp_path / "p")
    for band in range(7):
        dn = stored[f"SR_B{band + 1}"].astype(np.float64)
        want = np.where(dn == 0, np.nan, dn * 2.75e-5 - 0.2)
        np.testing.assert_allclose(cube.values[band], want, rtol=1e-5, atol=1e-6)
    layers = ["surface_temperature", "cloud", "cirrus", "shadow", "snow", "water", "nodata", "saturated", "emissivity"]
    ds = ts.open(tmp_path / "p", layers=layers)
    dn = stored["ST_B10"].astype(np.float64)
    np.testing.assert_allclose(ds["surface_temperature"], np.where(dn == 0, np.nan, dn * 0.00341802 + 149), rtol=1e-6)
    assert ds["surface_temperature"].attrs["units"] == "K"
    where = {"cloud": [(1, 0), (1, 1)], "cirrus": [(1, 2)], "shadow": [(1, 3)], "snow": [(1, 4)], "water": [(1, 5)],
             "nodata": [(0, 0), (0, 1)], "saturated": [(2, 2)]}  # fmt: skip
    for name, pixels in where.items():
        assert sorted(map(tuple, np.argwhere(ds[name].values).tolist())) == pixels, name
    np.testing.assert_allclose(ds["emissivity"].values[0, 1], stored["ST_EMIS"][0, 1] * 1e-4, rtol=1e-6)
    assert np.isnan(ds["emissivity"].values[0, 0]) and "cloud_distance" not in ts.layers(tmp_path / "p")
    with pytest.raises(UnknownName, match="surface_temperature"):
        ts.open(tmp_path / "p", layers=["temperature"])


def test_level_1_says_both_quantities(tmp_path: Path) -> None:
    stored = write_l1(tmp_path / "p", spacecraft="LANDSAT_9")
    cube = ts.open(tmp_path / "p")
    sine = math.sin(math.radians(ELEVATION))
    assert cube["number"].values.tolist() == [1, 2, 3, 4, 5, 9, 6, 7] and cube.attrs["quantity"] == "reflectance"
    for band, number in enumerate(cube["number"].values):
        dn = stored[str(number)].astype(np.float64)
        np.testing.assert_allclose(
            cube.values[band], np.where(dn == 0, np.nan, (dn * 2e-5 - 0.1) / sine), rtol=1e-5, atol=1e-6
        )
    other = ts.open(tmp_path / "p", quantity="radiance")
    assert other["number"].values.tolist() == [1, 2, 3, 4, 5, 9, 6, 7, 10, 11]
    dn = stored["10"].astype(np.float64)
    radiance = np.where(dn == 0, np.nan, dn * 0.019 + 1.0)
    np.testing.assert_allclose(other.values[8], radiance, rtol=1e-5)
    ds = ts.open(tmp_path / "p", layers=["pan", "thermal_10", "brightness_temperature_10", "view_zenith"])
    np.testing.assert_allclose(ds["thermal_10"], radiance, rtol=1e-5)
    np.testing.assert_allclose(ds["brightness_temperature_10"], 1321.0789 / np.log(774.8853 / radiance + 1), rtol=1e-5)
    assert ds["pan"].shape == (16, 20) and ds["pan"].attrs["quantity"] == "reflectance"
    np.testing.assert_allclose(ds["view_zenith"], stored["VZA"] * 0.01, rtol=1e-5, atol=1e-7)


def test_two_gains_of_one_band(tmp_path: Path) -> None:
    write_l1(tmp_path / "p", spacecraft="LANDSAT_7", sensor="ETM")
    cube = ts.open(tmp_path / "p", quantity="radiance")
    assert cube["name"].values.tolist() == ["B1", "B2", "B3", "B4", "B5", "B7", "B6_VCID_1", "B6_VCID_2"]
    assert cube["number"].values.tolist() == [1, 2, 3, 4, 5, 7, 6, 6]
    assert "brightness_temperature_6_vcid_2" in ts.layers(tmp_path / "p")
    assert "cirrus" not in ts.layers(tmp_path / "p")


def test_opening_reads_no_pixel_and_windows_only_themselves(tmp_path: Path, monkeypatch) -> None:
    write_l2(tmp_path / "p")
    reads = []
    real = StackArray.read
    monkeypatch.setattr(StackArray, "read", lambda self, *a: reads.append(a) or real(self, *a))
    cube = ts.open(tmp_path / "p")
    ts.describe(tmp_path / "p")
    assert reads == []
    window = cube[2:4, 1:3, 4:6].values
    assert len(reads) == 1
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).values[2:4, 1:3, 4:6], window)
    assert cube.shape == (7, *SIZE)
