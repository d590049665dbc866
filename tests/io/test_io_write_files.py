"""What other tools see in the files, and how files appear."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine

import torchspectral as ts
from torchspectral.errors import BadCube, BadSettings, OutputExists, OutputFailed
from torchspectral.geo import place
from torchspectral.io.raw import RawArray
from torchspectral.io.writers.envi import adopt
from torchspectral.result import Report

NORTH_UP = Affine(30.0, 0.0, 362175.0, 0.0, -30.0, 5809965.0)


def scene(bands=4, rows=40, cols=50, **attrs):
    random = np.random.default_rng(0)
    values = random.random((bands, rows, cols), dtype="f4")
    values[:, 3:6, 4] = np.nan
    cube = ts.make_cube(
        values,
        wavelength=np.linspace(418.24, 2445.53, bands),
        fwhm=np.full(bands, 6.995),
        good=np.arange(bands) != 1,
        quantity="reflectance",
        attrs={"sensor": "EnMAP", "acquired": "2022-07-24T10:45:26Z", **attrs},
    )
    return place(cube, NORTH_UP, 32633)


def listing(folder):
    return sorted(p.name for p in folder.iterdir())


def test_plain_gdal_sees_everything_in_the_cog(tmp_path) -> None:
    cube = scene(bands=20, rows=700, cols=530)
    path = ts.save(cube, tmp_path / "scene.tif")
    with rasterio.open(path) as dataset:
        assert dataset.driver == "GTiff" and dataset.count == 20 and dataset.dtypes[0] == "float32"
        assert dataset.block_shapes[0] == (128, 128) and dataset.profile["interleave"] == "band"
        assert dataset.profile["compress"] == "deflate"
        assert dataset.overviews(1) == [2] and dataset.crs.to_epsg() == 32633 and dataset.transform == NORTH_UP
        assert np.isnan(dataset.nodata) and dataset.descriptions[0] == "band 1 (418.24 Nanometers)"
        assert dataset.tags(2) == {
            "wavelength": repr(float(cube["wavelength"][1])),
            "wavelength_units": "Nanometers",
            "fwhm": "6.995",
            "bbl": "0",
        }  # fmt: skip
        assert dataset.tags(1, ns="IMAGERY") == {"CENTRAL_WAVELENGTH_UM": "0.418", "FWHM_UM": "0.007"}
        assert dataset.tags()["sensor"] == "EnMAP"
        np.testing.assert_array_equal(dataset.read(), cube.values)
        small = dataset.read(1, out_shape=(350, 265))
        assert abs(np.nanmean(small) - np.nanmean(cube.values[0])) < 1e-3
        # The order that makes it cloud-optimised: headers first, small overviews before the full resolution.
        headers = [int(dataset.get_tag_item("IFD_OFFSET", dm="TIFF", bidx=1, ovr=o)) for o in (None, 0)]
        data = [int(dataset.get_tag_item("BLOCK_OFFSET_0_0", dm="TIFF", bidx=1, ovr=o)) for o in (None, 0)]
        assert headers[0] < headers[1] < data[1] < data[0] and headers[0] < 1024
    assert listing(tmp_path) == ["scene.tif"]


def test_few_bands_have_larger_blocks_and_options_count(tmp_path) -> None:
    cube = scene(bands=3, rows=300, cols=300)
    with rasterio.open(ts.save(cube, tmp_path / "a.tif")) as dataset:
        assert dataset.block_shapes[0] == (256, 256) and dataset.overviews(1) == []
    options = {"compress": "zstd", "level": 9, "block": 64, "interleave": "pixel", "nodata": -9999.0}
    with rasterio.open(ts.save(cube, tmp_path / "b.tif", **options)) as dataset:
        assert dataset.block_shapes[0] == (64, 64) and dataset.profile["interleave"] == "pixel"
        assert dataset.profile["compress"] == "zstd" and dataset.nodata == -9999
        assert (dataset.read(1) == -9999).sum() == 3
    np.testing.assert_array_equal(ts.open(tmp_path / "b.tif").values, cube.values)
    ts.save(cube, tmp_path / "c.tif", compress="none", overviews=False, threads=2, cache=16)
    np.testing.assert_array_equal(ts.open(tmp_path / "c.tif").values, cube.values)


def test_scaled_integers_state_their_scale(tmp_path) -> None:
    cube = scene()
    report = Report(method="convert")
    path = ts.save(cube, tmp_path / "s.tif", dtype="int16", report=report)
    with rasterio.open(path) as dataset:
        assert dataset.dtypes[0] == "int16" and set(dataset.scales) == {1e-4} and dataset.nodata == -32768
        np.testing.assert_allclose(dataset.read(1, masked=True) * 1e-4, np.ma.masked_invalid(cube.values[0]), atol=6e-5)
    assert "nodata -32768" in report.scaled[0]
    back = ts.open(path)
    assert np.nanmax(np.abs(back.values - cube.values)) <= 0.5001e-4
    np.testing.assert_array_equal(np.isnan(back.values), np.isnan(cube.values))
    run = yaml.safe_load((tmp_path / "s.tif.run.yaml").read_text())
    assert run["method"] == "convert" and run["output"] == "s.tif" and run["scaled"] == report.scaled


@pytest.mark.parametrize(
    ("values", "quantity", "dtype", "scale"),
    [
        ([-3.0, 641.5], "radiance", "int16", 0.02),
        ([0.0, 65000.0], "radiance", "uint16", 1.0),
        ([0.0, 70000.0], "dn", "uint16", 2.0),
        ([-7.5, 2.0], "radiance", "uint8", 0.05),
        ([0.0, 0.0], "radiance", "int16", 1.0),
        ([1e-9, 4e-8], "radiance", "int32", 2e-17),
    ],
)
def test_scale_follows_the_range(tmp_path, values, quantity, dtype, scale) -> None:
    cube = ts.make_cube(np.array(values, "f4").reshape(1, 1, 2), quantity=quantity)
    path = ts.save(cube, tmp_path / "s.hdr", dtype=dtype)
    packing = ts.open(path, raw=True).attrs["packing"]
    assert packing["scale"][0] == scale
    np.testing.assert_allclose(ts.open(path).values.ravel(), values, atol=scale * 0.51)


def test_values_out_of_range_are_counted(tmp_path, caplog) -> None:
    cube = ts.make_cube(np.array([0.5, 4.0, -3.9, np.nan, np.inf], "f4").reshape(1, 1, 5), quantity="reflectance")
    report = Report()
    with caplog.at_level("WARNING", logger="torchspectral"):
        path = ts.save(cube, tmp_path / "s.zarr", dtype="int16", report=report)
    assert "3 of 5 values lay outside" in caplog.text and "3 of 5" in report.notes[0]
    np.testing.assert_allclose(ts.open(path).values.ravel(), [0.5, 3.2767, -3.2767, np.nan, 3.2767], rtol=1e-6)


def test_integers_as_other_types(tmp_path) -> None:
    cube = ts.make_cube(np.array([-5, 0, 7, 300], "i4").reshape(1, 1, 4), attrs={"nodata": -5})
    floats = ts.open(ts.save(cube, tmp_path / "f.tif", dtype="float32"))
    np.testing.assert_array_equal(floats.values.ravel(), [np.nan, 0, 7, 300])
    small = ts.open(ts.save(cube, tmp_path / "b.tif", dtype="uint8"))
    assert small.dtype == np.uint8 and small.attrs["nodata"] == 255
    np.testing.assert_array_equal(small.values.ravel(), [255, 0, 7, 254])


def test_packed_cube_as_floats_and_other_integers(tmp_path) -> None:
    packing = {"scale": [0.5], "offset": [1.0], "nodata": -1}
    cube = ts.make_cube(np.array([-1, 0, 7], "i2").reshape(1, 1, 3), quantity="radiance", attrs={"packing": packing})
    for dtype in ("float32", "int32"):
        got = ts.open(ts.save(cube, tmp_path / f"{dtype}.hdr", dtype=dtype))
        np.testing.assert_allclose(got.values.ravel(), [np.nan, 1.0, 4.5], rtol=1e-6)


def test_class_layer_has_colours_and_names_for_others(tmp_path) -> None:
    layer = ts.make_layers(
        np.array([[[0, 1], [2, 2]]], "u1"),
        ["classes"],
        attrs={"class_names": ["none", "grass", "soil"], "class_colors": [[0, 0, 0], [10, 200, 30], [90, 60, 20]]},
        name="classes",
    )
    with rasterio.open(ts.save(layer, tmp_path / "c.tif")) as dataset:
        assert dataset.colormap(1)[1] == (10, 200, 30, 255) and dataset.tags(1)["class_2"] == "soil"
        assert dataset.descriptions == ("classes",)
    text = ts.save(layer, tmp_path / "c.hdr").read_text()
    assert "file type = ENVI Classification" in text and "class names = {none, grass, soil}" in text
    assert "class lookup = {0, 0, 0, 10, 200, 30, 90, 60, 20}" in text


def test_spectral_and_gdal_open_the_envi(tmp_path) -> None:
    spectral = pytest.importorskip("spectral")
    cube = scene()
    for name, interleave in (("a.hdr", "bil"), ("b.bsq", "bsq"), ("c.bip", "bip"), ("d.img", "bil")):
        path = ts.save(cube, tmp_path / name)
        image = spectral.open_image(str(path.with_suffix(".hdr")))
        np.testing.assert_array_equal(np.asarray(image.load()).transpose(2, 0, 1), cube.values)
        np.testing.assert_array_equal(image.bands.centers, cube["wavelength"].values)
        np.testing.assert_array_equal(image.bands.bandwidths, cube["fwhm"].values)
        assert image.metadata["interleave"] == interleave and image.metadata["bbl"] == [1, 0, 1, 1]
        with rasterio.open(path.with_suffix(".img") if name == "a.hdr" else path) as dataset:
            assert dataset.driver == "ENVI" and dataset.transform == NORTH_UP and np.isnan(dataset.nodata)
            assert dataset.crs.to_epsg() == 32633 or "zone 33N" in dataset.crs.to_wkt().replace("Zone_33N", "zone 33N")
            np.testing.assert_array_equal(dataset.read(), cube.values)


def test_turned_envi_is_turned_for_gdal_too(tmp_path) -> None:
    turned = Affine(25.0, 10.0, 5e5, 10.0, -25.0, 4e6)
    path = ts.save(place(scene(), turned, 32611), tmp_path / "t.img")
    with rasterio.open(path) as dataset:
        np.testing.assert_allclose(tuple(dataset.transform), tuple(turned), rtol=1e-9)


def test_big_endian_envi(tmp_path) -> None:
    cube = scene()
    path = ts.save(cube, tmp_path / "big.hdr", byteorder=">")
    assert "byte order = 1" in path.read_text()
    np.testing.assert_array_equal(ts.open(path).values, cube.values)


def test_plain_gdal_and_xarray_open_the_zarr(tmp_path) -> None:
    import xarray as xr

    cube = scene(bands=70, rows=40, cols=300)
    path = ts.save(cube, tmp_path / "scene.zarr")
    with rasterio.open(f'ZARR:"{path}":/reflectance') as dataset:
        assert dataset.count == 70 and dataset.transform == NORTH_UP and dataset.crs.to_epsg() == 32633
        assert dataset.block_shapes[0] == (40, 256) and np.isnan(dataset.nodata)
        np.testing.assert_array_equal(dataset.read(), cube.values)
    found = xr.open_zarr(path, chunks=None)
    np.testing.assert_array_equal(found["reflectance"].values, cube.values)
    assert found["wavelength"].attrs["standard_name"] == "radiation_wavelength"
    assert found["wavelength"].attrs["units"] == "nm" and found["x"].attrs["standard_name"] == "projection_x_coordinate"
    packed = xr.open_zarr(ts.save(cube, tmp_path / "p.zarr", dtype="int16"), chunks=None)
    np.testing.assert_allclose(packed["reflectance"].values, cube.values, atol=6e-5)


def test_lazy_dask_and_numpy_give_the_same_file(tmp_path) -> None:
    cube = scene(bands=6, rows=90, cols=70)
    source = ts.open(ts.save(cube, tmp_path / "source.tif"))
    assert not source.variable._in_memory
    first = (ts.save(cube, tmp_path / "a.tif")).read_bytes()
    assert ts.save(source, tmp_path / "b.tif").read_bytes() == first
    assert not source.variable._in_memory
    dask = pytest.importorskip("dask")
    with dask.config.set(scheduler="synchronous"):
        assert ts.save(cube.chunk(band=4, y=37, x=50), tmp_path / "c.tif").read_bytes() == first


def test_raw_file_is_taken_as_it_is(tmp_path) -> None:
    cube = scene()
    raw = RawArray.create(tmp_path / "scratch", cube.shape, cube.dtype, "bip")
    raw.write(0, 0, cube.values)
    empty = cube.copy(data=np.zeros(cube.shape, "f4"))
    for suffix in (".tif", ".hdr", ".zarr"):
        np.testing.assert_array_equal(ts.open(ts.save(empty, tmp_path / f"o{suffix}", raw=raw)).values, cube.values)


def test_adopt_renames(tmp_path) -> None:
    cube = scene()
    raw = RawArray.create(tmp_path / "scratch", cube.shape, cube.dtype, "bil", offset=64)
    raw.write(0, 0, cube.values)
    inode = raw.path.stat().st_ino
    path = adopt(raw, cube, tmp_path / "o.hdr", report=Report(method="x"))
    assert (tmp_path / "o.img").stat().st_ino == inode
    assert listing(tmp_path) == ["o.hdr", "o.hdr.run.yaml", "o.img"]
    got = ts.open(path)
    np.testing.assert_array_equal(got.values, cube.values)
    assert got.attrs == cube.attrs
    with pytest.raises(OutputExists):
        adopt(RawArray.create(tmp_path / "s2", cube.shape, "f4"), cube, path)
    with pytest.raises(BadCube, match="expected"):
        adopt(RawArray.create(tmp_path / "s3", (1, 2, 3), "f4"), cube, path, overwrite=True)


def test_overwrite_replaces_and_input_is_refused(tmp_path) -> None:
    cube = scene()
    for suffix in (".tif", ".hdr", ".zarr"):
        path = ts.save(cube, tmp_path / f"o{suffix}")
        with pytest.raises(OutputExists, match="exists"):
            ts.save(cube, path)
        ts.save(cube + 1, path, overwrite=True)
        opened = ts.open(path)
        assert float(opened[0, 0, 0]) == float(cube[0, 0, 0] + 1)
        with pytest.raises(OutputFailed, match="input itself"):
            ts.save(opened[:, 2:5], path, overwrite=True)
    assert listing(tmp_path) == ["o.hdr", "o.img", "o.tif", "o.zarr"]


def test_a_failing_source_leaves_nothing(tmp_path) -> None:
    from torchspectral.errors import BrokenProduct

    source = tmp_path / "in"
    source.mkdir()
    ts.save(scene(), source / "s.hdr")
    cube = ts.open(source / "s.hdr")
    os.truncate(source / "s.img", 1000)
    for suffix in (".tif", ".hdr", ".zarr"):
        with pytest.raises(BrokenProduct):
            ts.save(cube, tmp_path / f"o{suffix}")
    assert listing(tmp_path) == ["in"]


@pytest.mark.parametrize("suffix", [".tif", ".hdr", ".zarr", ".csv"])
def test_full_disk_is_told_and_leaves_nothing(tmp_path, suffix) -> None:
    import resource

    values = np.random.default_rng(0).random((8, 300, 300), dtype="f4")
    value = ts.make_cube(values, quantity="reflectance")
    if suffix == ".csv":
        value = ts.make_spectra(values.reshape(-1, 300)[:400], [str(n) for n in range(400)])
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most[1]))
    try:
        with pytest.raises(OutputFailed, match=r"^cannot write") as refused:
            ts.save(value, tmp_path / f"o{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert "\n" not in str(refused.value)
    assert listing(tmp_path) == []


def test_full_disk_while_the_tiff_is_compressed(tmp_path, monkeypatch) -> None:
    from rasterio._err import CPLE_FileIOError

    def full(*_: object, **__: object) -> None:
        raise CPLE_FileIOError(3, 3, "write: No space left on device")

    monkeypatch.setattr("rasterio.shutil.copy", full)
    with pytest.raises(OutputFailed, match="disk is full"):
        ts.save(scene(), tmp_path / "o.tif")
    assert listing(tmp_path) == []


def test_progress_runs_to_one(tmp_path) -> None:
    for suffix in (".tif", ".hdr", ".zarr"):
        steps = []
        ts.save(scene(), tmp_path / f"o{suffix}", progress=steps.append)
        fractions = [s.fraction for s in steps]
        assert fractions == sorted(fractions) and fractions[-1] == 1.0


def test_tables(tmp_path) -> None:
    import pandas as pd

    table = pd.DataFrame({"name": ["a", "b"], "score": [0.1 + 0.2, 1.0]})
    ts.save(table, tmp_path / "t.csv")
    assert pd.read_csv(tmp_path / "t.csv")["score"][0] == 0.1 + 0.2
    ts.save([{"a": 1}, {"a": 2}], tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text().split() == ["a", "1", "2"]
    geopandas = pytest.importorskip("geopandas")
    shapely = pytest.importorskip("shapely")
    boxes = geopandas.GeoDataFrame(table, geometry=[shapely.box(0, 0, 30, 30)] * 2, crs=32633)
    for suffix in (".gpkg", ".geojson"):
        got = geopandas.read_file(ts.save(boxes, tmp_path / f"t{suffix}"))
        np.testing.assert_allclose(got["score"], table["score"], rtol=0 if suffix == ".gpkg" else 1e-14)
    assert got.crs.to_epsg() == 4326
    with pytest.raises(BadCube, match="without geometry"):
        ts.save(table, tmp_path / "no.gpkg")


def test_video_dataset_and_unknown_options_are_refused(tmp_path) -> None:
    cube = scene()
    with pytest.raises(BadCube, match="save each frame"):
        ts.save(cube.expand_dims(time=2), tmp_path / "v.tif")
    with pytest.raises(BadCube, match="take one value"):
        ts.save(cube.to_dataset(name="cube"), tmp_path / "d.tif")
    with pytest.raises(BadSettings, match="did you mean compress"):
        ts.save(cube, tmp_path / "o.tif", compression="zstd")
    assert listing(tmp_path) == []


def test_memory_stays_small_for_a_large_scene(tmp_path) -> None:
    """A scene of 200 MB that is computed as it is read, written in a fresh process."""
    code = """
        import sys, threading, time
        import numpy as np, xarray as xr, torchspectral as ts
        from torchspectral.geo.lazy import LazyArray, with_data
        class Made(LazyArray):
            def compute(self, b, y, x):
                return (b[:, None, None] + y[:, None] * x).astype("f4") % 7
        from xarray.core import indexing
        ts.save(ts.make_cube(np.ones((2, 20, 20), "f4")), sys.argv[1].replace("o.", "warm."))
        value = ts.make_cube(xr.Variable(("band", "y", "x"), indexing.LazilyIndexedArray(Made((50, 1000, 1000), "f4"))))
        def anonymous():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))
        peak, base, stop = [0.0], anonymous(), threading.Event()
        def watch():
            while not stop.wait(0.01):
                peak[0] = max(peak[0], anonymous())
        thread = threading.Thread(target=watch)
        thread.start()
        ts.save(value, sys.argv[1])
        stop.set(); thread.join()
        print(peak[0] - base)
    """
    if not os.path.exists("/proc/self/status"):
        pytest.skip("this system does not tell anonymous memory")
    for suffix in (".hdr", ".tif"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / f"o{suffix}")],
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        # The made-up source itself needs three times its block (int64 in between).
        assert float(done.stdout) < 380, suffix
