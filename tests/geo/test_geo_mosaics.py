"""Mosaics: what was cut comes back, seams follow the rule, swaths share a lattice."""

from __future__ import annotations

import itertools

import h5py
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

import torchspectral as ts
from torchspectral import make_cube
from torchspectral.errors import BadSettings, BandMismatch, GridMismatch
from torchspectral.geo import GLT, grid_of, mosaic, orthorectify, place, place_swath, window

UTM = Affine(30.0, 0, 362175.0, 0, -30.0, 5809965.0)


def scene(rows: int = 24, cols: int = 30, bands: int = 2, transform: Affine = UTM, crs: object = 32633) -> xr.DataArray:
    values = np.random.default_rng(0).random((bands, rows, cols), dtype=np.float32)
    values[0, 3:6, 3:9] = np.nan
    return place(make_cube(values, wavelength=500 + 10 * np.arange(bands), quantity="reflectance"), transform, crs)


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.tuples(st.sets(st.integers(1, 23), max_size=3), st.sets(st.integers(1, 29), max_size=3)),
    grown=st.integers(0, 4),
    method=st.sampled_from(["first", "last", "mean", "min", "max", "median", "center"]),
    rotated=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_a_cut_scene_comes_back(cuts, grown: int, method: str, rotated: bool, order) -> None:
    whole = scene(transform=Affine(20.0, 5.0, 5e5, 5.0, -20.0, 5.5e6) if rotated else UTM)
    rows, cols = ([0, *sorted(c), n] for c, n in zip(cuts, (24, 30), strict=True))
    tiles = []
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(cols):
            y, x = max(0, top - grown), max(0, left - grown)
            tiles.append(window(whole, y, x, min(24, bottom + grown) - y, min(30, right + grown) - x))
    order.shuffle(tiles)
    out = mosaic(tiles, method)
    np.testing.assert_array_equal(out.values, whole.values)
    here, there = grid_of(out), grid_of(whole)
    assert here.shape == there.shape and here.crs == there.crs
    np.testing.assert_allclose(here.transform, there.transform, atol=1e-6)


def test_the_nearest_centre_wins() -> None:
    base = scene(10, 40, 1)
    left, right = (window(base, 0, at, 10, 24).copy() for at in (0, 16))
    left.values[:], right.values[:] = 1.0, 2.0
    left[0, 2, 18] = np.nan
    out = mosaic([left, right], "center").values[0]
    # Middles at columns 12 and 28: the seam is where both are as far, and the first stands on a tie.
    assert (out[:, :20] == np.where(np.arange(20) == 18, out[:, :20], 1)).all() and (out[:, 20:] == 2).all()
    assert out[2, 18] == 2 and out[3, 18] == 1
    flipped = mosaic([right, left], "center").values[0]
    np.testing.assert_array_equal(flipped, out)
    part = mosaic([left, right], "center")[0, 1:9:3, 15:25].values
    np.testing.assert_array_equal(part, out[1:9:3, 15:25])


def test_real_tiles_by_name_and_without_touching_a_value(samples) -> None:
    """Opened by the reader, packed as they are stored; 14 tiles of 32 x 32 on a lattice of 192 x 160 pixels."""
    files = sorted((samples / "enmap" / "images").glob("*.tif"))
    raw = mosaic([ts.open(f, raw=True) for f in files])
    assert raw.shape == (224, 192, 160) and raw.attrs["packing"]["scale"]
    for file in files[::5]:
        x, y = (int(v) for v in file.stem.split("_")[-2:])
        tile = ts.open(file)
        np.testing.assert_array_equal(
            mosaic([ts.open(f) for f in files])[:, y : y + 32, x - 64 : x - 32].values, tile.values
        )
    assert grid_of(raw).transform[2] == 362175 + 30 * 64 and grid_of(raw).transform[5] == 5809965
    assert not raw["good"].values[129:135].any()


@pytest.fixture(scope="module")
def emit(samples) -> xr.DataArray:
    with h5py.File(samples / "emit" / "EMIT_L1B_OBS_001_20220827T060753_9999999_999.nc") as file:
        obs = np.moveaxis(file["obs"][:, :, 1:3], -1, 0)
        where = [file[f"location/{name}"][...] for name in ("lon", "lat", "glt_x", "glt_y")]
        transform = Affine.from_gdal(*(float(v) for v in file.attrs["geotransform"]))
        glt = GLT(*where[2:], transform, file.attrs["spatial_ref"])
    return place_swath(make_cube(obs), *where[:2], glt)


def test_swaths_come_together_on_one_lattice(emit: xr.DataArray) -> None:
    parts = [emit.isel(y=slice(0, 110)), emit.isel(y=slice(110, 200))]
    with pytest.raises(GridMismatch, match=r"cube 1 is a swath.*orthorectify.*resampling="):
        mosaic(parts)
    want = orthorectify(emit)
    out = mosaic(parts, resampling="nearest")
    # One lookup a part: every value is the one that the whole scene has there.
    row = round((float(want.y[0]) - float(out.y[0])) / 5.4223252e-04)
    col = round((float(out.x[0]) - float(want.x[0])) / 5.4223252e-04)
    assert row <= 0
    beneath = want.values[:, -row : -row + out.shape[1], col : col + out.shape[2]]
    np.testing.assert_array_equal(out.values, beneath)
    assert np.isfinite(out.values).sum() == np.isfinite(want.values).sum()
    utm = mosaic(parts, resampling="bilinear", crs=32641, resolution=60.0)
    assert grid_of(utm).crs.to_epsg() == 32641 and grid_of(utm).resolution == (60.0, 60.0)
    together = orthorectify(emit, grid=grid_of(utm)).values
    assert (np.isfinite(together) == np.isfinite(utm.values)).mean() > 0.999


def test_neighbours_across_the_antimeridian() -> None:
    east = scene(4, 6, 1, Affine(0.25, 0, 178.5, 0, -0.25, 10), 4326)
    west = scene(4, 6, 1, Affine(0.25, 0, -180.0, 0, -0.25, 10), 4326)
    out = mosaic([east, west])
    assert out.shape == (1, 4, 12)
    np.testing.assert_array_equal(out.values[:, :, 6:], west.values)


def test_times_of_all_are_kept() -> None:
    base = scene()
    parts = [
        window(base, 0, at, 24, 10).assign_attrs(acquired=f"2022-07-2{n}T10:00:00Z", sensor="EnMAP")
        for n, at in ((4, 10), (3, 0))
    ]
    out = mosaic(parts)
    assert out.attrs["acquired"] == "2022-07-23T10:00:00Z" and out.attrs["acquired_end"] == "2022-07-24T10:00:00Z"
    assert out.attrs["sensor"] == "EnMAP"


def test_refusals() -> None:
    base = scene()
    with pytest.raises(BadSettings, match="center"):
        mosaic([base], "centre")
    with pytest.raises(BadSettings, match="need resampling="):
        mosaic([base], crs=4326)
    with pytest.raises(BandMismatch, match="type float64"):
        mosaic([base, base.astype(np.float64)])
