"""PRISMA: miniatures with the groups, types, axis and band order of real products."""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from affine import Affine

sys.path.insert(0, str(Path(__file__).parent))
from prisma_miniature import MIN_MAX, SWIR, VNIR, physical, write_product

import torchspectral as ts
from torchspectral.errors import (
    BadSettings,
    BandMismatch,
    BrokenProduct,
    GridMismatch,
    MissingMetadata,
    ProductNotFound,
    UnknownName,
    UnsafeInput,
)
from torchspectral.geo import grid_of, orthorectify

NAME = "PRS_{}_STD_20210601101112_20210601101116_0001.he5"


def product(folder: Path, level: str = "L2D", **more):
    path = folder / NAME.format(level)
    return path, write_product(path, level, **more)


@pytest.mark.parametrize("level", ["L1", "L2B", "L2C", "L2D"])
@pytest.mark.parametrize("chunked", [False, True])
def test_values_and_bands(tmp_path: Path, level: str, chunked: bool) -> None:
    path, stored = product(tmp_path, level, chunked=chunked)
    want, waves, detectors, numbers = physical(stored, level)
    cube = ts.open(path)
    assert cube.shape == (66 - 3 + 173 - 2, 7, 9) and cube.dtype == np.float32
    np.testing.assert_allclose(cube.values, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(cube["wavelength"].values, waves)
    assert (np.diff(waves) > 0).all() and cube["detector"].values.tolist() == detectors
    assert cube["number"].values.tolist() == numbers.tolist()
    assert cube.attrs["quantity"] == ("reflectance" if level in ("L2C", "L2D") else "radiance")
    assert cube.attrs["sun_zenith"] == 25.5 and cube.attrs["acquired"].startswith("2021-06-01T10:11:12")
    assert np.isnan(cube.values[:, 0, :2]).all() and np.isfinite(cube.values[:, 0, 2:]).all()
    np.testing.assert_allclose(cube[5:40:7, 1:6, 2:8].values, want[5:40:7, 1:6, 2:8], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cube[[200, 3, 70], 2, [8, 0]].values, want[[200, 3, 70], 2][:, [8, 0]], rtol=1e-5)
    clone = pickle.loads(pickle.dumps(cube))
    np.testing.assert_array_equal(clone.values, cube.values)


@pytest.mark.parametrize("anchor", ["center", "edge"])
def test_corners_are_tested_for_what_they_mean(tmp_path: Path, anchor: str) -> None:
    path, _ = product(tmp_path, anchor=anchor)
    grid = grid_of(ts.open(path))
    assert grid.transform == Affine(30.0, 0, 500000.0, 0, -30.0, 5001000.0)
    assert grid.crs.to_epsg() == 32632 and grid.kind == "map"
    assert f"{'pixel centres' if anchor == 'center' else 'outer edges'} (auto)" in " ".join(
        ts.open(path).attrs["history"]
    )
    other = grid_of(ts.open(path, pixel_anchor="edge" if anchor == "center" else "center")).transform
    assert other.c != 500000.0


def test_corners_that_fit_nothing(tmp_path: Path) -> None:
    path, _ = product(tmp_path, anchor="neither")
    with pytest.raises(GridMismatch, match="pixel_anchor"):
        ts.open(path)


@pytest.mark.parametrize("pan", ["six", "centred"])
def test_pan_lies_on_the_cube(tmp_path: Path, pan: str) -> None:
    path, stored = product(tmp_path, pan=pan)
    ds = ts.open(path, layers=["pan"])
    layer = ds["pan"]
    low, high = (float(np.float32(v)) for v in MIN_MAX["Pan"])
    want = low + stored["pan"].astype(np.float64) * (high - low) / 65535
    want[0, 0] = np.nan
    np.testing.assert_allclose(layer.values, want, rtol=1e-6)
    from torchspectral.io.opening import get_reader

    grid = grid_of(get_reader("prisma").open_layer(path, "pan"))
    shift = 0.0 if pan == "six" else 12.5
    assert grid.transform == Affine(5.0, 0, 500000.0 + shift, 0, -5.0, 5001000.0 - shift)
    if pan == "six":
        assert grid.bounds == grid_of(ds["cube"]).bounds
    text = " ".join(get_reader("prisma").open_layer(path, "pan").attrs["history"])
    assert ("agree" if pan == "six" else "centred") in text


def test_pan_of_another_size(tmp_path: Path) -> None:
    path, _ = product(tmp_path, pan="odd")
    with pytest.raises(BrokenProduct, match="6 times"):
        ts.open(path, layers=["pan"])


def test_l1_is_a_swath_with_lazy_positions(tmp_path: Path) -> None:
    path, stored = product(tmp_path, "L1", size=(12, 14))
    cube = ts.open(path)
    assert grid_of(cube).kind == "swath"
    np.testing.assert_array_equal(cube["lon"].values, stored["lon"])
    np.testing.assert_array_equal(cube["lat"].values[3:5, 2], stored["lat"][3:5, 2])
    out = orthorectify(cube)
    assert grid_of(out).crs.to_epsg() == 32632 and np.isfinite(out.values[10]).mean() > 0.6
    assert set(np.unique(out.values[10][np.isfinite(out.values[10])])) <= set(cube.values[10].ravel())


def test_overlap_rules(tmp_path: Path) -> None:
    path, _ = product(tmp_path)
    vnir = sorted(float(np.float32(w)) for w in VNIR[:-3])
    swir = sorted(float(np.float32(w)) for w in SWIR[2:])
    want = {
        "detector": vnir + swir,
        "vnir": vnir + [w for w in swir if w > vnir[-1]],
        "swir": [w for w in vnir if w < swir[0]] + swir,
        "wavelength": sorted(vnir + swir),
    }
    for rule, waves in want.items():
        assert ts.open(path, overlap=rule)["wavelength"].values.tolist() == waves


def test_preset_of_the_toolbox(tmp_path: Path) -> None:
    path, stored = product(tmp_path, empty=False)
    cube = ts.open(path, preset="toolbox159")
    both = np.concatenate([stored["vnir"][:, ::-1], stored["swir"][:, ::-1]], axis=1)
    keep = [*range(7, 63), *range(71, 86), *range(89, 107), *range(120, 150), *range(176, 216)]
    raw = ts.open(path, preset="toolbox159", raw=True)
    assert len(keep) == 159 == cube.sizes["band"]
    np.testing.assert_array_equal(raw.values, np.moveaxis(both[:, keep], 1, 0))
    small, _ = product(tmp_path, "L2C", counts=(10, 12))
    with pytest.raises(BandMismatch, match=r"66 \+ 173"):
        ts.open(small, preset="toolbox159")
    with pytest.raises(BadSettings, match="toolbox159"):
        ts.open(path, preset="toolbox")
    with pytest.raises(BadSettings, match="preset and overlap"):
        ts.open(path, preset="toolbox159", overlap="vnir")


def test_layers(tmp_path: Path) -> None:
    path, stored = product(tmp_path)
    names = ts.layers(path)
    assert set(names) == {
        "pan", "pan_error", "vnir_error", "swir_error", "nodata", "observing_angle", "relative_azimuth", "solar_zenith",
        "latitude", "longitude", "column_wavelength", "column_fwhm",
    }  # fmt: skip
    ds = ts.open(path, layers=["nodata", "vnir_error", "solar_zenith"])
    gone = ~(stored["vnir"].any(axis=1) | stored["swir"].any(axis=1))
    np.testing.assert_array_equal(ds["nodata"].values, gone)
    # Stored band 5 is the 6th from the long end; bands ascend here, and three unused ones lie at the short end.
    error = ds["vnir_error"].values
    assert error.shape == (63, 7, 9) and error[62 - 4, 1, 2] == 3 and error.sum() == 3
    assert float(ds["solar_zenith"].mean()) == 7.5
    with pytest.raises(UnknownName):
        ts.open(path, layers=["clouds"])


def test_columns_have_their_own_centres(tmp_path: Path) -> None:
    path, _ = product(tmp_path, "L1")
    from torchspectral.io.opening import get_reader

    layer = get_reader("prisma").open_layer(path, "column_wavelength")
    cube = ts.open(path)
    assert layer.shape == (cube.sizes["band"], 1, 9)
    want = cube["wavelength"].values[:, None] + 0.1 * np.arange(9)
    np.testing.assert_allclose(layer.values[:, 0], want, atol=1e-3)
    clouds = ts.open(path, layers=["cloud"])["cloud"]
    assert clouds.dtype == bool and clouds.values.sum() == 3


def test_raw(tmp_path: Path) -> None:
    path, stored = product(tmp_path)
    raw = ts.open(path, raw=True, overlap="detector")
    np.testing.assert_array_equal(raw.values[:63], np.moveaxis(stored["vnir"][:, :63], 1, 0)[::-1])
    assert raw.dtype == np.uint16 and raw.attrs["packing"]["nodata"] == 0 and len(raw.attrs["packing"]["scale"]) == 234


def _shorten(file: h5py.File) -> None:
    file.attrs["List_Cw_Vnir"] = file.attrs["List_Cw_Vnir"][:60]


def _unscale(file: h5py.File) -> None:
    del file.attrs["L2ScaleVnirMax"]


def _lose_swir(file: h5py.File) -> None:
    del file["HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/SWIR_Cube"]


def _link_away(file: h5py.File) -> None:
    _lose_swir(file)
    file["HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/SWIR_Cube"] = h5py.ExternalLink("other.h5", "x")


@pytest.mark.parametrize(
    "damage, error, message",
    [
        (_shorten, BandMismatch, r"60 centres.*66 bands"),
        (_unscale, MissingMetadata, "L2ScaleVnirMin"),
        (_lose_swir, BrokenProduct, "SWIR_Cube"),
        (_link_away, UnsafeInput, "links to another file"),
    ],
)
def test_broken_products(tmp_path: Path, damage, error, message: str) -> None:
    path, _ = product(tmp_path)
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(error, match=message):
        ts.open(path, reader="prisma")


def test_truncated_file(tmp_path: Path) -> None:
    path, _ = product(tmp_path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BrokenProduct):
        ts.open(path, reader="prisma")


def test_raw_without_scale_is_plain_numbers(tmp_path: Path) -> None:
    path, _ = product(tmp_path)
    with h5py.File(path, "a") as file:
        _unscale(file)
    cube = ts.open(path, raw=True)
    assert cube.attrs["quantity"] == "dn" and cube.dtype == np.uint16 and "packing" not in cube.attrs


def test_a_full_size_scene_opens_without_reading_pixels(tmp_path: Path) -> None:
    path, _ = product(tmp_path)
    with h5py.File(path, "a") as file:
        for name, bands in (("VNIR", 66), ("SWIR", 173)):
            place = f"HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/{name}_Cube"
            del file[place]
            file.create_dataset(place, shape=(1000, bands, 1200), dtype=np.uint16, chunks=(10, bands, 100))
        for corner, axis, value in (
            ("UR", "easting", 500015.0 + 1199 * 30), ("LR", "easting", 500015.0 + 1199 * 30),
            ("LL", "northing", 5000985.0 - 999 * 30), ("LR", "northing", 5000985.0 - 999 * 30),
        ):  # fmt: skip
            file.attrs[f"Product_{corner}corner_{axis}"] = np.float64(value)
    ts.open(path)
    start = time.perf_counter()
    cube = ts.open(path)
    assert time.perf_counter() - start < 1.0 and cube.shape == (234, 1000, 1200)


def test_opening_reads_no_pixel(tmp_path: Path, monkeypatch) -> None:
    from torchspectral.io.readers.prisma.arrays import Axis1Array, PrismaCube

    path, _ = product(tmp_path)
    reads = []
    for kind, name in ((Axis1Array, "read"), (PrismaCube, "_empty_block")):
        real = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda self, *a, _real=real: reads.append(a) or _real(self, *a))
    cube = ts.open(path)
    ts.layers(path)
    assert reads == []
    cube[0, 0, 5].values  # noqa: B018
    assert reads


def test_nodata_of_a_large_sparse_scene_is_looked_up_once(tmp_path: Path) -> None:
    path, _ = product(tmp_path, size=(70, 40))
    with h5py.File(path, "a") as file:
        for name in ("VNIR", "SWIR"):
            file[f"HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/{name}_Cube"][30:50, :, 10:] = 0
    cube = ts.open(path)
    gone = np.zeros((70, 40), bool)
    gone[30:50, 10:] = True
    gone[0, :2] = True
    np.testing.assert_array_equal(np.isnan(cube.values).all(axis=0), gone)
    np.testing.assert_array_equal(np.isnan(cube[17, 25:55, 5:15].values), gone[25:55, 5:15])


def test_layers_follow_the_cubes_options(tmp_path: Path) -> None:
    path, _ = product(tmp_path, pan="six")
    for anchor in ("center", "edge"):
        ds = ts.open(path, layers=["pan"], pixel_anchor=anchor)
        pan = ds["pan"].drop_vars("spatial_ref").rename(y_pan="y", x_pan="x", spatial_ref_pan="spatial_ref")
        assert grid_of(pan).bounds == grid_of(ds["cube"]).bounds
    with pytest.raises(BadSettings, match="pixel_anchor"):
        ts.open(path, layers=["pan"], pixel_anchor="corner")


def test_average_in_the_overlap(tmp_path: Path) -> None:
    path = tmp_path / "PRS_L2D_STD_x.he5"
    stored = write_product(path)
    values, waves, detectors, numbers = physical(stored, "L2D")
    cube = ts.open(path, overlap="average")
    vnir = [i for i, d in enumerate(detectors) if d == "vnir"]
    swir = [i for i, d in enumerate(detectors) if d == "swir"]
    want, places = [], []
    for i in vnir:
        own = values[i]
        if waves[i] >= waves[swir[0]]:
            after = next(k for k, j in enumerate(swir) if waves[j] >= waves[i])
            low, high = swir[max(after - 1, 0)], swir[max(after, 1)]
            share = (waves[i] - waves[low]) / (waves[high] - waves[low])
            own = 0.5 * own + 0.5 * ((1 - share) * values[low] + share * values[high])
        want.append(own)
        places.append(numbers[i])
    last = max(waves[i] for i in vnir)
    want += [values[j] for j in swir if waves[j] > last]
    np.testing.assert_allclose(cube.values, np.array(want), rtol=2e-5, atol=1e-6)
    assert cube["number"].values[: len(places)].tolist() == places
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube))[60:64, 1:3].values, cube[60:64, 1:3].values)


def test_centres_of_each_column_as_a_coordinate(tmp_path: Path) -> None:
    path = tmp_path / "PRS_L1_STD_x.he5"
    stored = write_product(path, "L1")
    assert "wavelength_map" not in ts.open(path).coords
    cube = ts.open(path, wavelength_map=True)
    centres = cube["wavelength_map"]
    assert centres.dims == ("band", "x") and centres.shape == (cube.sizes["band"], cube.sizes["x"])
    every = np.concatenate([stored["wave_v"], stored["wave_s"]])
    want = every[cube["number"].values - 1][:, None] + 0.1 * np.arange(cube.sizes["x"])[None]
    np.testing.assert_allclose(centres.values, want, rtol=1e-6)
    assert cube.isel(x=slice(2, 5))["wavelength_map"].shape == (cube.sizes["band"], 3)
    flat = tmp_path / "PRS_L2D_STD_x.he5"
    write_product(flat)
    with pytest.raises(MissingMetadata, match="detector columns"):
        ts.open(flat, wavelength_map=True)


def test_swaths_that_are_not_registered(tmp_path: Path) -> None:
    path = tmp_path / "PRS_L1_STD_x.he5"
    stored = write_product(path, "L1", registered=False)
    with pytest.raises(BrokenProduct, match="PRS_L1_HRC"):
        ts.open(path)
    cube = ts.open(path, registered=False, layers=("pan",))
    np.testing.assert_allclose(cube["cube"].values, physical(stored, "L1")[0], rtol=1e-5, atol=1e-5)
    assert cube["pan"].shape == stored["pan"].shape


def test_l2c_goes_to_the_pixels_of_its_l2d(tmp_path: Path) -> None:
    name = "PRS_{}_STD_20210601101112_20210601101116_0001.he5"
    path, beside = tmp_path / name.format("L2C"), tmp_path / name.format("L2D")
    write_product(path, "L2C")
    with pytest.raises(ProductNotFound, match="L2D_STD_20210601101112"):
        ts.open(path, grid="l2d")
    write_product(beside, "L2D", size=(9, 12))
    assert "grid='l2d'" in ts.open(path).attrs["history"][-1]
    cube = ts.open(path, grid="l2d")
    ortho = orthorectify(cube)
    assert grid_of(ortho).transform == grid_of(ts.open(beside)).transform and ortho.shape[1:] == (9, 12)
    assert np.isfinite(ortho.values[20]).sum() > 40
    with pytest.raises(BadSettings, match="L2C"):
        ts.open(beside, grid="l2d")
