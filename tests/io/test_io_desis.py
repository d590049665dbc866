"""DESIS: miniatures of all levels, with XML, header or both."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

sys.path.insert(0, str(Path(__file__).parent))
import desis_miniature
from desis_miniature import BANDS, STEM, table, write_product, zip_product

import torchspectral as ts
from torchspectral.errors import BrokenProduct, MissingMetadata
from torchspectral.geo import grid_of
from torchspectral.io.masks import clear_mask
from torchspectral.io.readers.stacks import StackArray


def physical(values: np.ndarray, factor: float = 1.0) -> np.ndarray:
    gain, offset = (np.array([row[k] for row in table()])[:, None, None] for k in (2, 3))
    return np.where(values == -32768, np.nan, (values * gain + offset) * factor)


@pytest.mark.parametrize(
    "shape",
    [{}, {"xml": False}, {"header": False}, {"tiff_scale": True}, {"suffix": ".TIF"}],
    ids=lambda s: "-".join(s) or "plain",
)
def test_reflectance(tmp_path: Path, shape: dict) -> None:
    values = write_product(tmp_path / "p", **shape)
    names = [p for p in (tmp_path / "p").iterdir() if "QL_" not in p.name]
    for path in (tmp_path / "p", *names):
        cube = ts.open(path)
        np.testing.assert_allclose(cube.values, physical(values), rtol=1e-5, atol=1e-6)
        assert cube.attrs["quantity"] == "reflectance" and cube.attrs["sensor"] == "DESIS"
        np.testing.assert_allclose(cube["wavelength"].values, [row[0] for row in table()])
        np.testing.assert_allclose(cube["fwhm"].values, [row[1] for row in table()])
    assert grid_of(cube).crs.to_epsg() == 32611
    if shape.get("xml", True):
        assert cube.attrs["sun_zenith"] == 31.5 and cube.attrs["view_zenith"] == 6.5
        assert cube.attrs["acquired"].startswith("2022-04-04T19:32:59")


@pytest.mark.parametrize("level", ["L1B", "L1C"])
def test_radiance_is_per_square_metre(tmp_path: Path, level: str) -> None:
    values = write_product(tmp_path / "p", level, quality=False)
    cube = ts.open(tmp_path / "p")
    np.testing.assert_allclose(cube.values, physical(values, 10.0), rtol=1e-5, atol=1e-5)
    assert cube.attrs["quantity"] == "radiance" and grid_of(cube).kind == ("none" if level == "L1B" else "map")


def test_zip_is_not_unpacked(tmp_path: Path) -> None:
    values = write_product(tmp_path / "p")
    archive = zip_product(tmp_path / "p", tmp_path / "DESIS-x.zip")
    before = sorted(tmp_path.rglob("*"))
    cube = ts.open(archive)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(cube)).values, physical(values), rtol=1e-5, atol=1e-6)
    assert int(ts.open(archive, layers=["cloud"])["cloud"].sum()) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_flags(tmp_path: Path) -> None:
    write_product(tmp_path / "p")
    ds = ts.open(tmp_path / "p", layers=["shadow", "land", "snow", "haze", "cloud", "water", "water_vapour"])
    where = {"shadow": [(1, 1)], "land": [(1, 2)], "snow": [(1, 3)], "haze": [(1, 4), (2, 4)],
             "cloud": [(3, 1), (3, 2)], "water": [(4, 4)]}  # fmt: skip
    for name, pixels in where.items():
        assert sorted(map(tuple, np.argwhere(ds[name].values).tolist())) == pixels, name
    assert (ds["water_vapour"].values == 20).all()
    mask, used = clear_mask(tmp_path / "p")
    assert used == ["cloud", "shadow", "haze"] and (~mask.values[0]).sum() == 5


def test_parts_must_agree(tmp_path: Path) -> None:
    write_product(tmp_path / "p", gain_in_header=2.0)
    with pytest.raises(BrokenProduct, match="gain"):
        ts.open(tmp_path / "p")
    write_product(tmp_path / "q", xml=False, header=False)
    image = tmp_path / "q" / f"{STEM.format('L2A')}-SPECTRAL_IMAGE.tif"
    with pytest.raises(MissingMetadata, match=r"-METADATA.xml and -SPECTRAL_IMAGE.hdr"):
        ts.open(image)
    values = write_product(tmp_path / "r", xml=False, gain_in_header=2.0)
    assert float(ts.open(tmp_path / "r", scale=0.5)[3].max()) == values[3].max() * 0.5


def test_opening_reads_no_pixel(tmp_path: Path, monkeypatch) -> None:
    write_product(tmp_path / "p")
    reads = []
    real = StackArray.read
    monkeypatch.setattr(StackArray, "read", lambda self, *a: reads.append(a) or real(self, *a))
    ts.describe(tmp_path / "p")
    cube = ts.open(tmp_path / "p")
    assert cube.sizes["band"] == BANDS and reads == []
    raw = ts.open(tmp_path / "p", raw=True)
    assert raw.dtype == np.int16 and len(raw.attrs["packing"]["scale"]) == BANDS


def test_a_full_size_scene_opens_without_reading_pixels(tmp_path: Path, monkeypatch) -> None:
    many = [(400.0 + 2.553 * i, 3.5, 1e-4, 0.0) for i in range(235)]
    monkeypatch.setattr(desis_miniature, "table", lambda: many)
    monkeypatch.setattr(desis_miniature, "BANDS", 235)
    write_product(tmp_path / "p", size=(2, 2), quality=False)
    image = tmp_path / "p" / f"{STEM.format('L2A')}-SPECTRAL_IMAGE.tif"
    with rasterio.open(
        image, "w", driver="GTiff", width=1200, height=1000, count=235, dtype="int16", nodata=-32768, tiled=True,
        sparse_ok=True, compress="deflate", crs="EPSG:32611", transform=Affine(30, 0, 0, 0, -30, 0),
    ):  # fmt: skip
        pass
    reads = []
    real = StackArray.read
    monkeypatch.setattr(StackArray, "read", lambda self, *a: reads.append(a) or real(self, *a))
    cube = ts.open(tmp_path / "p")
    assert cube.shape == (235, 1000, 1200) and reads == []
    assert np.isnan(cube[3, 500:510, 600:610].values).all() and len(reads) == 1
