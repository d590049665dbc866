"""Grids, windows and crops."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from torchspectral import make_cube
from torchspectral.errors import GridMismatch
from torchspectral.geo import crop, grid_of, place, place_coarser, place_swath, window
from torchspectral.geo.grids import to_ground, to_pixels

UTM = Affine(30.0, 0, 362175.0, 0, -30.0, 5809965.0)


def scene(rows: int = 40, cols: int = 50, transform: Affine = UTM, crs: object = 32633):
    values = np.arange(2 * rows * cols, dtype=np.float32).reshape(2, rows, cols)
    return place(make_cube(values, wavelength=[500, 600], quantity="reflectance"), transform, crs)


@given(st.integers(0, 30), st.integers(0, 40), st.integers(1, 10), st.integers(1, 10), st.integers(1, 3))
def test_windows_and_strides_keep_pixels_in_place(row: int, col: int, height: int, width: int, step: int) -> None:
    for transform in (UTM, Affine(20.0, 7.0, 1000.0, 7.0, -20.0, 9000.0)):
        cube = scene(transform=transform)
        part = cube.isel(y=slice(row, row + height * step, step), x=slice(col, col + width * step, step))
        got = to_ground(grid_of(part).transform, 0.5, 0.5)
        want = to_ground(transform, col + 0.5, row + 0.5)
        if min(part.shape[1:]) > 1:
            assert got == pytest.approx(want, abs=1e-6)


def test_bounds_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grid = grid_of(scene())
        assert grid.bounds == (362175.0, 5809965.0 - 1200, 362175.0 + 1500, 5809965.0)
        assert grid.window(2, 3, 4, 5).bounds == (362265.0, 5809965.0 - 180, 362415.0, 5809965.0 - 60)
        assert grid.scaled(2).resolution == (15.0, 15.0)


@given(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5))
def test_to_pixels_inverts_to_ground(x: float, y: float) -> None:
    t = Affine(20.0, 7.0, 1000.0, 6.0, -21.0, 9000.0)
    assert to_ground(t, *to_pixels(t, x, y)) == pytest.approx((x, y), abs=1e-6)


def test_crop_takes_every_touched_pixel_and_no_other() -> None:
    cube = scene()
    part = crop(cube, (362175.0 + 60, 5809965.0 - 119, 362175.0 + 151, 5809965.0 - 60))
    assert part.shape == (2, 2, 4)
    np.testing.assert_array_equal(part.values, cube.values[:, 2:4, 2:6])
    assert grid_of(part).bounds == (362235.0, 5809845.0, 362355.0, 5809905.0)


def test_crop_by_degrees() -> None:
    cube = scene()
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(362175.0 + 615, 5809965.0 - 315)
    part = crop(cube, (lon - 1e-6, lat - 1e-6, lon + 1e-6, lat + 1e-6), crs=4326)
    np.testing.assert_array_equal(part.values, cube.values[:, 10:11, 20:21])


def test_crop_of_a_rotated_grid_holds_the_box() -> None:
    t = Affine(20.0, 7.0, 1000.0, 7.0, -20.0, 9000.0)
    cube = scene(transform=t)
    x, y = to_ground(t, 20.5, 15.5)
    part = crop(cube, (x - 1, y - 1, x + 1, y + 1))
    np.testing.assert_array_equal(part.values, cube.values[:, 15:16, 20:21])
    assert grid_of(part).kind == "rotated"


def test_crop_of_a_swath() -> None:
    lat, lon = np.meshgrid(np.linspace(50, 49, 40), np.linspace(10, 11, 50), indexing="ij")
    cube = place_swath(make_cube(np.zeros((2, 40, 50))), lon, lat)
    part = crop(cube, (10.2, 49.5, 10.4, 49.7))
    assert part["lon"].values.min() >= 10.2 and part["lon"].values.max() <= 10.4
    assert part["lat"].values.min() >= 49.5 and part["lat"].values.max() <= 49.7


def test_crop_outside_says_where_the_scene_is_in_both_crs() -> None:
    with pytest.raises(GridMismatch, match=r"362175.*UTM zone 33N.*12\.9.*deg"):
        crop(scene(), (0, 0, 1, 1))


def test_window_refuses_to_leave_the_image() -> None:
    assert window(scene(), 1, 2, 3, 4).shape == (2, 3, 4)
    with pytest.raises(GridMismatch, match="leaves the image"):
        window(scene(), 38, 0, 3, 4)


def test_coarser_pixels_keep_the_corner() -> None:
    cube = scene()
    half = make_cube(np.zeros((2, 20, 25)))
    placed = place_coarser(half, cube, 2)
    assert grid_of(placed).bounds == grid_of(cube).bounds and grid_of(placed).resolution == (60.0, 60.0)
    assert grid_of(place_coarser(make_cube(np.zeros((2, 40, 50))), cube, 1)) == grid_of(cube)
    lat, lon = np.meshgrid(np.linspace(50, 49, 41), np.linspace(10, 11, 50), indexing="ij")
    swath = place_coarser(half, place_swath(make_cube(np.zeros((2, 41, 50))), lon, lat), 2)
    np.testing.assert_array_equal(swath["lat"].values, lat[1:40:2, 1::2])
    assert grid_of(place_coarser(half, make_cube(np.zeros((2, 40, 50))), 2)).kind == "none"
