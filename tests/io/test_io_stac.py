"""STAC items: bands by what the item says, assets inside its folder only."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

sys.path.insert(0, str(Path(__file__).parent))
from stac_miniature import asset, write_asset, write_item

import torchspectral as ts
from torchspectral.errors import MissingMetadata, ProductNotFound, TooLarge, UnsafeInput
from torchspectral.geo import grid_of
from torchspectral.io.readers.stac import item as items
from torchspectral.io.readers.stacks import StackArray


def physical(dn: np.ndarray) -> np.ndarray:
    return np.where(dn == 0, np.nan, dn * 1e-4 - 0.1)


def bands(folder: Path, sides: tuple[int, ...] = (8, 8, 8)) -> tuple[Path, list[np.ndarray]]:
    stored = [write_asset(folder / "data" / f"{i}.tif", i, side, pixel=160 / side) for i, side in enumerate(sides)]
    listed = {k: asset(f"data/{i}.tif", w) for i, (k, w) in enumerate((("nir", 865), ("blue", 490), ("red", 665)))}
    return write_item(folder, listed), stored


def test_bands_by_wavelength(tmp_path: Path) -> None:
    path, stored = bands(tmp_path)
    cube = ts.open(path)
    assert cube["wavelength"].values.tolist() == [490, 665, 865] and cube["fwhm"].values.tolist() == [20, 20, 20]
    np.testing.assert_allclose(cube.values, [physical(stored[i]) for i in (1, 2, 0)], rtol=1e-5, atol=1e-6)
    assert cube.attrs["quantity"] == "reflectance" and cube.attrs["sun_zenith"] == 40 and cube.attrs["view_zenith"] == 3
    assert cube.attrs["acquired"].startswith("2024-05-01T10") and grid_of(cube).crs.to_epsg() == 32632
    assert cube["name"].values.tolist() == ["b490", "b665", "b865"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).values, cube.values)
    chosen = ts.open(path, assets=["red", "nir"])
    assert chosen["wavelength"].values.tolist() == [665, 865]
    raw = ts.open(path, raw=True)
    np.testing.assert_array_equal(raw.values, [stored[i] for i in (1, 2, 0)])
    assert sorted(ts.layers(path)) == ["blue", "nir", "red"]
    np.testing.assert_array_equal(ts.open(path, layers=["red"])["red"].values, stored[2])


def test_bands_of_version_1_1(tmp_path: Path) -> None:
    stored = write_asset(tmp_path / "a.tif")
    path = write_item(tmp_path, {"a": {"href": "./a.tif", "bands": [{
        "name": "x", "eo:center_wavelength": 0.55, "eo:full_width_half_max": 0.03, "raster:scale": 0.0001,
        "raster:offset": -0.1, "nodata": 0}]}})  # fmt: skip
    cube = ts.open(path)
    assert cube["wavelength"].values.tolist() == [550] and cube["fwhm"].values.tolist() == [30]
    np.testing.assert_allclose(cube.values[0], physical(stored), rtol=1e-5, atol=1e-6)


def test_several_pixel_sizes_are_asked_about(tmp_path: Path) -> None:
    path, stored = bands(tmp_path, (8, 4, 8))
    with pytest.raises(MissingMetadata, match=r"2 pixel sizes.*8 x 8: nir, red; 4 x 4: blue"):
        ts.open(path)
    np.testing.assert_allclose(ts.open(path, assets="blue").values[0], physical(stored[1]), rtol=1e-5, atol=1e-6)
    silent = write_item(tmp_path / "s", {"a": {"href": "a.tif"}, "b": {"href": "b.tif"}})
    for name in "ab":
        write_asset(silent.parent / f"{name}.tif")
    with pytest.raises(MissingMetadata, match="assets="):
        ts.open(silent)


def test_the_real_landsat_item_without_its_metadata(samples: Path, tmp_path: Path) -> None:
    """An old item (0.7): bands are listed once, assets give their numbers, hrefs lead to the network."""
    source = samples / "landsat" / "LC08_L2SP"
    item = next(source.glob("*_SR_stac.json"))
    (tmp_path / item.name).write_bytes(item.read_bytes())
    for n in (3, 4):
        name = next(source.glob(f"*_SR_B{n}.TIF")).name
        (tmp_path / name).write_bytes((source / name).read_bytes())
    cube = ts.open(tmp_path / item.name)
    assert cube["wavelength"].values.tolist() == [560, 650] and cube.shape == (2, 386, 379)
    with rasterio.open(next(source.glob("*_SR_B4.TIF"))) as image:
        np.testing.assert_array_equal(cube.values[1], image.read(1))
    assert cube.attrs["quantity"] == "dn" and any("remote hrefs" in line for line in cube.attrs["history"])


@pytest.mark.parametrize(
    "href, message",
    [
        ("file:///etc/passwd.tif", "file: URL"), ("FILE:secret.tif", "file: URL"), ("/etc/secret.tif", "absolute path"),
        ("../secret.tif", "leads out"), ("data/../../secret.tif", "leads out"), ("data/%2e%2e/%2e%2e/secret.tif", "leads out"),
        ("\\\\host\\share.tif", "absolute path"), ("C:\\x.tif", "lies on the network|absolute"),
        ("https://host/path/x.tif?sig=1", "lies on the network"), ("s3://bucket/x.tif", "lies on the network"),
        ("/vsicurl/https://host/x.tif", "absolute path"),
    ],
)  # fmt: skip
def test_nothing_outside_the_folder_is_read(tmp_path: Path, href: str, message: str) -> None:
    write_asset(tmp_path / "secret.tif")
    path = write_item(tmp_path / "item", {"a": asset(href, 490)})
    with pytest.raises(UnsafeInput, match=message):
        ts.open(path)


def test_a_link_does_not_lead_out(tmp_path: Path) -> None:
    write_asset(tmp_path / "secret.tif")
    path = write_item(tmp_path / "item", {"a": asset("a.tif", 490)})
    (path.parent / "a.tif").symlink_to(tmp_path / "secret.tif")
    with pytest.raises(UnsafeInput, match="by a link"):
        ts.open(path)
    remote = write_item(tmp_path / "item", {"a": asset("https://host/a.tif", 490)}, name="remote")
    with pytest.raises(UnsafeInput, match="network"):
        ts.open(remote)
    assert write_item(tmp_path / "gone", {"a": asset("b.tif", 490)})
    with pytest.raises(ProductNotFound, match=r"b\.tif"):
        ts.open(tmp_path / "gone" / "scene_1.json")


def test_size_and_depth_of_the_json_are_bounded(tmp_path: Path, monkeypatch) -> None:
    path, _ = bands(tmp_path)
    monkeypatch.setattr(items, "MOST_BYTES", 100)
    with pytest.raises(TooLarge, match="100 B"):
        ts.open(path, reader="stac")
    monkeypatch.undo()
    document = json.loads(path.read_text())
    document["assets"] = {f"a{i}": {"href": "x.tif"} for i in range(items.MOST_ASSETS + 1)}
    path.write_text(json.dumps(document))
    with pytest.raises(TooLarge, match="assets"):
        ts.open(path, reader="stac")


def test_opening_reads_no_pixel(tmp_path: Path, monkeypatch) -> None:
    path, _ = bands(tmp_path)
    reads = []
    real = StackArray.read
    monkeypatch.setattr(StackArray, "read", lambda self, *a: reads.append(a) or real(self, *a))
    ts.describe(path)
    cube = ts.open(path)
    assert reads == []
    cube[0, 2:4, 3:5].values  # noqa: B018
    assert len(reads) == 1
