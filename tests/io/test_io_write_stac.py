"""STAC items beside outputs: the specification's required fields, and what other tools look for."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from shapely.geometry import shape

import torchspectral as ts
from torchspectral.errors import BadSettings, MissingMetadata, OutputExists
from torchspectral.geo import GLT, footprint, grid_of, place, place_swath
from torchspectral.io import save
from torchspectral.io.item_collections import products_of
from torchspectral.io.writers.stac import item_path, times

TIME = "2022-07-24T10:45:26.123Z"
KNOWN = {
    "1.0.0": {"eo": "v1.1.0", "raster": "v1.1.0", "projection": "v1.1.0", "processing": "v1.1.0"},
    "1.1.0": {"eo": "v2.0.0", "raster": "v2.0.0", "projection": "v2.0.0", "processing": "v1.2.0"},
}
DATA_TYPES = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"}


def scene(**attrs: object) -> xr.DataArray:
    values = np.random.default_rng(0).random((3, 12, 16), dtype=np.float32)
    values[:, 2, 3] = np.nan
    cube = ts.make_cube(
        values,
        wavelength=[450.5, 650.25, np.nan],
        fwhm=[6.5, np.nan, np.nan],
        number=[3, 7, 9],
        quantity="reflectance",
        attrs={"acquired": TIME, "sensor": "EnMAP HSI", "platform": "EnMAP", "level": "L2A", **attrs},
    )
    cube.attrs["history"] = ["opened x", "cut to 3 bands"]
    return place(cube, Affine(30, 0, 362175, 0, -30, 5809965), 32633)


def check_item(path: Path) -> dict:
    """The item specification and the schemas of its extensions, written out by hand."""
    item = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert item["type"] == "Feature" and item["stac_version"] in KNOWN
    assert isinstance(item["id"], str) and item["id"] and "/" not in item["id"]
    assert isinstance(item["links"], list) and isinstance(item["assets"], dict) and item["assets"]
    if item["geometry"] is None:
        assert "bbox" not in item
    else:
        assert len(item["bbox"]) == 4 and shape(item["geometry"]).is_valid
    properties = item["properties"]
    when = datetime.datetime.fromisoformat(properties["datetime"])
    assert when.utcoffset() == datetime.timedelta(0) and properties["datetime"].endswith("Z")
    assert ("start_datetime" in properties) == ("end_datetime" in properties)
    versions = KNOWN[item["stac_version"]]
    urls = item["stac_extensions"]
    assert len(set(urls)) == len(urls)
    text = json.dumps(item)
    for short, name in (("eo", "eo"), ("raster", "raster"), ("proj", "projection"), ("processing", "processing")):
        wanted = f"https://stac-extensions.github.io/{name}/{versions[name]}/schema.json"
        assert (wanted in urls) == (f'"{short}:' in text)
    assert len(properties["proj:shape"]) == 2 and all(isinstance(n, int) for n in properties["proj:shape"])
    if "proj:transform" in properties:
        assert len(properties["proj:transform"]) == 6 and len(properties["proj:bbox"]) == 4
    for asset in item["assets"].values():
        assert asset["href"].startswith("./") and ".." not in asset["href"]
        assert (path.parent / asset["href"]).exists() and "/" in asset["type"] and asset["roles"]
    data = item["assets"]["data"]
    bands = data["bands"] if item["stac_version"] == "1.1.0" else data["raster:bands"]
    for band in bands:
        assert band["data_type"] in DATA_TYPES
        assert isinstance(band.get("nodata", 0), (int, float)) or band["nodata"] in ("nan", "inf", "-inf")
    return item


@pytest.mark.parametrize("suffix", [".tif", ".zarr", ".hdr", ".bil"])
@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", True])
def test_items_of_every_format(tmp_path: Path, suffix: str, version: str | bool) -> None:
    if suffix == ".bil":
        pytest.importorskip("torchspectral.io.writers.envi")
    out = tmp_path / f"scene{suffix}"
    save(scene(), out, stac=version, dtype="int16")
    item = check_item(item_path(out))
    assert item["stac_version"] == ("1.1.0" if version is True else version)
    properties = item["properties"]
    assert properties["datetime"] == TIME and properties["gsd"] == 30
    assert properties["platform"] == "enmap" and properties["instruments"] == ["enmap hsi"]
    assert properties["processing:level"] == "L2A" and "cut to 3 bands" in properties["processing:lineage"]
    code = properties["proj:epsg"] if version == "1.0.0" else properties["proj:code"]
    assert code in (32633, "EPSG:32633")
    assert properties["proj:shape"] == [12, 16] and properties["proj:transform"] == [30, 0, 362175, 0, -30, 5809965]
    data = item["assets"]["data"]
    if version == "1.0.0":
        wave, stored = data["eo:bands"], data["raster:bands"]
        assert wave[0] == {"name": "band 3", "center_wavelength": 0.4505, "full_width_half_max": 0.0065}
        assert wave[1] == {"name": "band 7", "center_wavelength": 0.65025} and wave[2] == {"name": "band 9"}
        scale = stored[0]["scale"]
    else:
        wave, stored = data["bands"], data["bands"]
        assert wave[0]["eo:center_wavelength"] == 0.4505 and wave[0]["eo:full_width_half_max"] == 0.0065
        assert "eo:full_width_half_max" not in wave[1] and "eo:center_wavelength" not in wave[2]
        scale = stored[0]["raster:scale"]
    # What the item says of the stored numbers is how they read.
    raw = ts.open(out, raw=True)
    assert str(raw.dtype) == stored[0]["data_type"] == "int16"
    assert raw.attrs["packing"]["nodata"] == stored[0]["nodata"] and stored[0]["unit"] == "1"
    values = np.where(raw.values[0] == stored[0]["nodata"], np.nan, raw.values[0] * scale)
    np.testing.assert_allclose(values, scene().values[0], atol=6e-5)
    assert products_of(item_path(out)) in ([out], [out.with_suffix(".img")])


def test_floats_say_nan_and_classes_say_their_names(tmp_path: Path) -> None:
    save(scene(), tmp_path / "a.tif", stac=True)
    band = check_item(tmp_path / "a.tif.stac.json")["assets"]["data"]["bands"][0]
    assert band["data_type"] == "float32" and band["nodata"] == "nan" and "raster:scale" not in band
    classes = ts.make_layers(np.ones((1, 12, 16), np.uint8), ["class"], like=scene())
    classes.attrs |= {"class_names": ["none", "roof, red"], "class_colors": [[0, 0, 0], [255, 0, 128]]}
    classes.attrs["acquired"] = TIME
    save(classes, tmp_path / "c.tif", stac=True)
    found = check_item(tmp_path / "c.tif.stac.json")["assets"]["data"]["classification:classes"]
    assert [c["name"] for c in found] == ["none", "roof_red"] and found[1]["color_hint"] == "FF0080"


def test_without_a_time_no_item_and_no_output(tmp_path: Path) -> None:
    cube = scene(acquired=None)
    with pytest.raises(MissingMetadata, match=r"--acquired"):
        save(cube, tmp_path / "a.tif", stac=True)
    assert not list(tmp_path.iterdir())
    save(cube, tmp_path / "a.tif", stac=True, acquired="2022-07-24 12:45+02:00")
    assert check_item(tmp_path / "a.tif.stac.json")["properties"]["datetime"] == "2022-07-24T10:45:00Z"
    with pytest.raises(BadSettings, match="cannot read the time"):
        save(cube, tmp_path / "b.tif", stac=True, acquired="yesterday")
    with pytest.raises(BadSettings, match="STAC version"):
        save(scene(), tmp_path / "b.tif", stac="0.9")
    assert times(scene(acquired_end="2022-07-24T10:46:00Z"))["end_datetime"] == "2022-07-24T10:46:00Z"


def test_items_follow_their_output(tmp_path: Path) -> None:
    out = tmp_path / "a.tif"
    item_path(out).write_text("mine")
    with pytest.raises(OutputExists, match=r"stac\.json exists"):
        save(scene(), out, stac=True)
    assert not out.exists()
    save(scene(), out, stac=True, overwrite=True)
    check_item(item_path(out))
    # An item of the output before would lie.
    save(scene(), out, overwrite=True)
    assert not item_path(out).exists()


def test_a_crs_of_no_register_is_told_in_full(tmp_path: Path) -> None:
    cube = place(scene(), Affine(30, 0, 0, 0, -30, 0), "+proj=laea +lat_0=52 +lon_0=13 +datum=WGS84 +units=m")
    save(cube, tmp_path / "a.tif", stac=True)
    properties = check_item(tmp_path / "a.tif.stac.json")["properties"]
    assert properties["proj:code"] is None and "Lambert" in properties["proj:wkt2"]
    save(place(scene(), None), tmp_path / "n.tif", stac=True)
    item = check_item(tmp_path / "n.tif.stac.json")
    assert item["geometry"] is None and "proj:transform" not in item["properties"]


@pytest.fixture(scope="module")
def emit(samples) -> xr.DataArray:
    import h5py

    with h5py.File(samples / "emit" / "EMIT_L1B_OBS_001_20220827T060753_9999999_999.nc") as file:
        obs = np.moveaxis(file["obs"][:, :, :2], -1, 0)
        where = [file[f"location/{name}"][...] for name in ("lon", "lat", "glt_x", "glt_y")]
        glt = GLT(
            *where[2:], Affine.from_gdal(*(float(v) for v in file.attrs["geotransform"])), file.attrs["spatial_ref"]
        )
    return place_swath(ts.make_cube(obs, attrs={"acquired": TIME}), *where[:2], glt)


@pytest.mark.parametrize("how", ["glt", "utm", "kept"])
def test_swaths_tell_the_ground_that_was_seen(tmp_path: Path, emit: xr.DataArray, how: str) -> None:
    options = {"glt": {}, "utm": {"crs": 32641, "resolution": 60.0}, "kept": {"orthorectify": False}}[how]
    out = tmp_path / ("a.zarr" if how == "kept" else "a.tif")
    save(emit, out, stac=True, **options)
    item = check_item(item_path(out))
    geometry, bbox = footprint(emit)
    assert item["geometry"] == geometry and item["bbox"] == bbox
    assert len(json.dumps(geometry)) < 3000
    if how == "kept":
        assert item["properties"]["proj:shape"] == [200, 200] and item["properties"]["proj:code"] is None
        return
    grid = grid_of(ts.open(out))
    assert item["properties"]["proj:code"] == f"EPSG:{grid.crs.to_epsg()}"
    assert item["properties"]["proj:bbox"] == pytest.approx(list(grid.bounds))


def test_streamed_envi_has_its_item(tmp_path: Path) -> None:
    save(scene(), tmp_path / "a.tif", dtype="int16")
    ts.convert(tmp_path / "a.tif", tmp_path / "b.hdr", stac=True)
    item = check_item(tmp_path / "b.hdr.stac.json")
    assert item["assets"]["data"]["href"] == "./b.img" and item["assets"]["run"]["href"] == "./b.hdr.run.yaml"
    assert item["assets"]["data"]["bands"][0]["data_type"] == "int16"
    with pytest.raises(MissingMetadata):
        save(scene(acquired=None), tmp_path / "n.tif")
        ts.convert(tmp_path / "n.tif", tmp_path / "n.hdr", stac=True)
    assert not (tmp_path / "n.hdr").exists()


def test_written_items_open(tmp_path: Path) -> None:
    """The reader of STAC items gives back the cube."""
    from torchspectral.io import reader_cards

    if "stac" not in {card["name"] for card in reader_cards()}:
        pytest.skip("no reader of STAC items is installed")
    save(scene(), tmp_path / "a.tif", stac=True)
    found = ts.open(tmp_path / "a.tif.stac.json")
    np.testing.assert_array_equal(found.values, scene().values)
    np.testing.assert_allclose(found["wavelength"].values[:2], [450.5, 650.25], atol=1e-6)
