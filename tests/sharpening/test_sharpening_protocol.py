from __future__ import annotations

import numpy as np
import pytest
import torch
from affine import Affine

import torchspectral as ts
from torchspectral.errors import BadSettings, GridMismatch, MissingMetadata, OutputExists
from torchspectral.geo import grid_of, place, place_swath
from torchspectral.ops.mtf import mtf_filter
from torchspectral.sharpening.degraded import DegradedArray
from torchspectral.sharpening.training_pairs import wald_pairs


def _cube(bands: int = 6, rows: int = 26, cols: int = 33, dtype: str = "float32", **attrs):
    values = np.random.default_rng(0).uniform(500, 3000, (bands, rows, cols)).astype(dtype)
    cube = ts.make_cube(values, wavelength=np.linspace(430, 1200, bands), attrs=attrs)
    return place(cube, Affine(30, 0, 4e5, 0, -30, 5e6), "EPSG:32633")


def test_grids_lie_on_the_same_ground() -> None:
    pair = ts.simulate_wald(_cube(), 4)
    assert [pair[n].shape for n in pair] == [(6, 6, 8), (1, 24, 32), (6, 24, 32)]
    hs, pan, truth = (grid_of(pair[n]) for n in ("hs", "pan", "truth"))
    assert hs.bounds == pan.bounds == truth.bounds and hs.resolution == (120, 120) and pan.crs == hs.crs == truth.crs
    assert any("2 rows at the bottom and 1 columns" in line for line in pair.report.dropped)
    assert any("0.3 (assumed)" in note for note in pair.report.notes)
    assert any("mean of 3 bands from 584 to 892 nm" in note for note in pair.report.notes)
    assert np.array_equal(pair["hs"]["wavelength"], pair["truth"]["wavelength"])
    out = ts.sharpen(pair["hs"], pair["pan"])["cube"]
    assert ts.score(out, pair["truth"], ratio=4)["scores"]["value"].notna().all()


def test_rotated_swath_and_unplaced_scenes() -> None:
    turned = place(_cube(), Affine(20, 10, 4e5, 10, -20, 5e6), "EPSG:32633")
    pair = ts.simulate_wald(turned, 2)
    assert grid_of(pair["hs"]).kind == "rotated" and ts.sharpen(pair["hs"], pair["pan"])["cube"].shape == (6, 26, 32)
    nowhere = ts.simulate_wald(_cube().drop_vars("spatial_ref").pipe(place, None), 2)
    assert grid_of(nowhere["hs"]).kind == "none" and nowhere["hs"].shape == (6, 13, 16)
    lon, lat = np.meshgrid(np.linspace(10, 11, 33), np.linspace(50, 49, 26))
    swath = ts.simulate_wald(place_swath(_cube(), lon, lat), 4)
    assert grid_of(swath["hs"]).kind == "swath"
    assert float(swath["hs"]["lon"][0, 0]) == pytest.approx(lon[2, 2])
    assert ts.sharpen(swath["hs"], swath["pan"])["cube"].shape == (6, 24, 32)


def test_values_are_the_filtered_scene_whatever_the_window() -> None:
    cube = _cube(rows=60, cols=48)
    pair = ts.simulate_wald(cube, 4)
    whole = mtf_filter(torch.from_numpy(cube.values).double(), 4, normalize=True, decimated=True)
    assert np.allclose(pair["hs"].values, whole.numpy(), atol=1e-3)
    array = DegradedArray(cube.variable, 4, np.full(6, 0.3), normalize=True, rounding="none", nodata=None)
    cut = array.compute(np.array([1, 4]), np.array([0, 9, 14]), np.arange(5, 8))
    assert np.allclose(cut, whole.numpy()[[1, 4]][:, [0, 9, 14], 5:8], atol=1e-3)
    raw = ts.simulate_wald(cube, 4, normalize=False, mtf_gain=0.2)
    assert float(raw["hs"].mean()) < float(pair["hs"].mean())


def test_integers_are_rounded_or_truncated_and_keep_their_type() -> None:
    cube = _cube(dtype="uint16")
    exact = ts.simulate_wald(cube.astype("float64"), 2)["hs"].values
    rounded, cut = (ts.simulate_wald(cube, 2, rounding=r)["hs"] for r in ("auto", "truncate"))
    assert rounded.dtype == cut.dtype == np.uint16
    assert np.array_equal(rounded.values, np.rint(exact)) and np.array_equal(cut.values, np.trunc(exact))


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_nodata_spoils_its_footprint_only(dtype: str) -> None:
    cube = _cube(rows=40, cols=40, dtype=dtype, **({"nodata": -1} if dtype == "int16" else {}))
    cube.values[:, 9, 9] = np.nan if dtype == "float32" else -1
    pair = ts.simulate_wald(cube, 4)
    hs = pair["hs"].values
    hole = np.isnan(hs) if dtype == "float32" else hs == -1
    assert hole[:, 2, 2].all() and hole.sum() == 6
    flat = cube.copy(deep=True)
    flat.values[flat.values > 0] = 1000
    low = ts.simulate_wald(flat, 4)["hs"].values
    assert np.allclose(low[~hole], 1000, atol=0.01)
    assert np.isnan(pair["pan"].values).sum() == 1
    sharp = ts.sharpen(pair["hs"], pair["pan"])["cube"]
    assert np.isnan(sharp.values[:, 8:12, 8:12]).all() and np.isfinite(sharp.values[:, 20:]).all()


def test_a_given_pan_is_degraded_too() -> None:
    cube = _cube(rows=24, cols=32)
    fine = np.random.default_rng(1).uniform(0, 1, (1, 96, 128)).astype(np.float32)
    pan = place(ts.make_cube(fine), Affine(7.5, 0, 4e5, 0, -7.5, 5e6), "EPSG:32633")
    pair = ts.simulate_wald(cube, 4, pan)
    assert pair["pan"].shape == (1, 24, 32) and any("0.15" in note for note in pair.report.notes)
    expected = mtf_filter(torch.from_numpy(fine).double(), 4, 0.15, normalize=True, decimated=True)
    assert np.allclose(pair["pan"].values, expected.numpy(), atol=1e-5)
    assert grid_of(pair["pan"]).transform == grid_of(pair["truth"]).transform
    with pytest.raises(GridMismatch):
        ts.simulate_wald(cube, 2, pan)


def test_noise_is_seeded_and_of_the_right_size() -> None:
    cube = _cube(rows=80, cols=80)
    clean, one, again, other = (
        ts.simulate_wald(cube, 2, **kw)["hs"].values
        for kw in ({}, {"snr": 30.0, "seed": 1}, {"snr": 30.0, "seed": 1}, {"snr": 30.0, "seed": 2})
    )
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    snr = 20 * np.log10(np.sqrt((clean**2).mean((1, 2))) / (one - clean).std((1, 2)))
    assert np.abs(snr - 30).max() < 0.5


def test_patches_for_training() -> None:
    cube = _cube(rows=40, cols=48)
    cube.values[:, 3, 3] = np.nan
    pairs = wald_pairs(cube, 4, 16, stride=8, gain=1000.0)
    assert pairs["target"].shape == (19, 6, 16, 16) and pairs["hs"].shape == (19, 6, 4, 4)
    assert pairs["pan"].shape == (19, 1, 16, 16) and pairs["upsampled"].dtype == np.float32
    whole = wald_pairs(cube, 4)
    assert np.isnan(whole["upsampled"]).sum() == 6 * 16
    assert np.allclose(whole["hs"][0, :, 5, 5], whole["upsampled"][0, :, 22, 22])
    for bad in ({"patch": 10}, {"patch": 64}, {"patch": 16, "stride": 3}):
        with pytest.raises(BadSettings):
            wald_pairs(cube, 4, **bad)


def test_enmap_sensor_is_used(samples) -> None:
    import rasterio

    with rasterio.open(samples / "enmap/images/enmap_potsdam_tile_128_96.tif") as file:
        wave = [float(file.tags(i)["wavelength"]) for i in file.indexes]
        cube = ts.make_cube(file.read(), wavelength=wave, good=[file.tags(i)["bbl"] == "1" for i in file.indexes])
    cube = cube.where(cube != -32768)
    pair = ts.simulate_wald(cube, 4)
    assert any("(enmap)" in note for note in pair.report.notes)
    out = ts.sharpen(pair["hs"], pair["pan"])["cube"]
    score = ts.score(out, pair["truth"], ratio=4)
    plain = ts.score(ts.sharpen(pair["hs"], pair["pan"], method="exp")["cube"], pair["truth"], ratio=4)
    assert score.report.figures["ERGAS"] < 0.9 * plain.report.figures["ERGAS"]
    assert any("6 of 224 bands" in line for line in score.report.dropped)


def test_no_wavelengths_no_pan() -> None:
    with pytest.raises(MissingMetadata):
        ts.simulate_wald(ts.make_cube(np.ones((3, 8, 8), np.float32)), 2)


def test_a_pair_on_disk_sharpens_like_one_in_memory(tmp_path) -> None:
    cube = _cube(rows=40, cols=40)
    memory = ts.simulate_wald(cube, 4)
    written = ts.simulate_wald(cube, 4, out=tmp_path / "pair")
    assert sorted(written.paths) == ["hs", "pan", "truth"]
    for name, value in memory.items():
        opened = ts.open(tmp_path / "pair" / f"{name}.tif")
        assert np.allclose(opened.values, value.values, rtol=1e-6)
        assert grid_of(opened).transform == grid_of(value).transform
    result = ts.sharpen(written["hs"], written["pan"], out=tmp_path / "sharp.tif")
    direct = ts.sharpen(memory["hs"], memory["pan"])["cube"]
    assert np.allclose(result["cube"].values, direct.values, rtol=1e-5, atol=1e-2)
    assert ts.score(ts.open(tmp_path / "sharp.tif"), written["truth"], ratio=4).report.figures["ERGAS"] > 0


def test_a_swath_on_disk_keeps_its_places(tmp_path) -> None:
    lon, lat = np.meshgrid(np.linspace(10, 11, 32), np.linspace(50, 49, 24))
    cube = place_swath(_cube(rows=24, cols=32), lon, lat)
    written = ts.simulate_wald(cube, 4, out=tmp_path)
    assert {path.rsplit(".", 1)[1] for path in written.paths.values()} == {"zarr"}
    hs = ts.open(written.paths["hs"])
    assert grid_of(hs).kind == "swath" and float(hs["lon"][1, 1]) == pytest.approx(lon[6, 6])
    out = ts.sharpen(hs, ts.open(written.paths["pan"]))
    assert grid_of(out["cube"]).kind == "swath" and out["cube"].shape == (6, 24, 32)
    with pytest.raises(OutputExists):
        ts.simulate_wald(cube, 4, out=tmp_path)
