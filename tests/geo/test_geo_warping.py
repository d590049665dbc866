"""Reprojection, alignment and mosaics."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import Resampling
from rasterio.warp import reproject as gdal_reproject

from torchspectral import make_cube, make_layers
from torchspectral.errors import BadCube, BadSettings, BandMismatch, GridMismatch
from torchspectral.geo import align, grid_of, mosaic, place, reproject, window
from torchspectral.geo.grids import to_ground

UTM = Affine(30.0, 0, 362175.0, 0, -30.0, 5809965.0)


def scene(rows: int = 60, cols: int = 70, bands: int = 3, transform: Affine = UTM, crs: object = 32633, seed: int = 0):
    values = np.random.default_rng(seed).random((bands, rows, cols), dtype=np.float32)
    waves = 500 + 10 * np.arange(bands)
    return place(make_cube(values, wavelength=waves, quantity="reflectance"), transform, crs)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "lanczos", "average"])
@pytest.mark.parametrize("crs, resolution", [(32632, None), (4326, None), (32633, 70.0), (3035, (25.0, 40.0))])
def test_blocks_equal_the_whole(resampling: str, crs: int, resolution: object, monkeypatch) -> None:
    monkeypatch.setattr("torchspectral.geo.warping._SIDE", 32)
    cube = scene()
    cube[1, 20:25, 30:40] = np.nan
    out = reproject(cube, crs, resolution=resolution, resampling=resampling)
    whole = out.values
    np.testing.assert_array_equal(out[:, 10:40, 20:50].values, whole[:, 10:40, 20:50])
    np.testing.assert_array_equal(out[1:2, 5:30:2, 7:40].values, whole[1:2, 5:30:2, 7:40])
    grid = grid_of(out)
    assert grid.crs.to_epsg() == crs and grid.shape == out.shape[1:]
    # The one call that GDAL needs for the same thing, on ground smooth enough that kernel widths do not show.
    rows, cols = np.mgrid[0:60, 0:70]
    smooth = (np.sin(rows / 9) * np.cos(cols / 11)).astype(np.float32)
    mine = reproject(cube.copy(data=np.stack([smooth] * 3)), like=grid, resampling=resampling).values[1]
    want = np.full(grid.shape, np.nan, dtype=np.float32)
    gdal_reproject(
        smooth, want, src_transform=UTM, src_crs="EPSG:32633", src_nodata=np.nan, dst_nodata=np.nan,
        dst_transform=grid.transform, dst_crs=grid.crs.to_wkt(), resampling=Resampling[resampling],
    )  # fmt: skip
    both = np.isfinite(want) & np.isfinite(mine)
    assert both.sum() > 0.95 * np.isfinite(want).sum()
    np.testing.assert_allclose(mine[both], want[both], atol=0.12 if resampling == "nearest" else 0.03)


def test_bands_keep_their_own_gaps() -> None:
    cube = scene(bands=2)
    cube[0, 30, 30] = np.nan
    out = reproject(cube, resampling="nearest", resolution=30.0)
    assert np.isnan(out.values[0]).sum() == 1 and not np.isnan(out.values[1]).any()
    np.testing.assert_array_equal(out.values, cube.values)


def test_rotated_grids_come_straight() -> None:
    t = Affine(20.0, 7.0, 500000.0, 7.0, -20.0, 5500000.0)
    rows, cols = np.mgrid[0:50, 0:60]
    x, y = to_ground(t, cols + 0.5, rows + 0.5)
    cube = place(make_cube(np.stack([x, y])), t, 32633)
    out = reproject(cube, resolution=20.0, resampling="bilinear")
    assert grid_of(out).kind == "map"
    gx, gy = np.meshgrid(out.x.values, out.y.values)
    seen = np.isfinite(out.values[0])
    assert seen.mean() > 0.4
    inner = seen & np.roll(seen, 2, 0) & np.roll(seen, -2, 0) & np.roll(seen, 2, 1) & np.roll(seen, -2, 1)
    np.testing.assert_allclose(out.values[0][inner], gx[inner], atol=0.01)
    np.testing.assert_allclose(out.values[1][inner], gy[inner], atol=0.01)


def test_align_returns_what_already_fits_and_moves_the_rest() -> None:
    a, b = scene(), scene(transform=Affine(10.0, 0, 362475.0, 0, -10.0, 5809665.0), seed=1)
    assert align(a, a) is a
    out = align(b, window(a, 10, 10, 20, 20), resampling="average")
    blocks = b.values[:, :60, :60].reshape(3, 20, 3, 20, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(out.values, blocks, rtol=1e-5)
    assert grid_of(out) == grid_of(window(a, 10, 10, 20, 20))


def test_labels_are_never_mixed() -> None:
    labels = make_layers(np.ones((1, 60, 70), dtype=np.uint8), ["class"], like=scene())
    with pytest.raises(BadSettings, match="nodata"):
        reproject(labels, 32632)
    out = reproject(labels, 32632, nodata=255)
    assert out.dtype == np.uint8 and set(np.unique(out.values)) == {1, 255}
    with pytest.raises(BadSettings, match="labels"):
        reproject(labels, 32632, nodata=255, resampling="bilinear")


def test_packed_integers_stay_integers() -> None:
    cube = place(make_cube(np.full((1, 20, 20), 7, np.int16)), UTM, 32633)
    cube.attrs["packing"] = {"scale": [1e-4], "offset": [0.0], "nodata": -32768}
    out = reproject(cube, 32632)
    assert (
        out.dtype == np.int16 and set(np.unique(out.values)) == {-32768, 7} and out.attrs["packing"]["nodata"] == -32768
    )


@pytest.mark.parametrize("folder", ["images"])
def test_real_tiles_mosaic_onto_their_documented_places(samples, folder: str) -> None:
    """The 14 EnMAP tiles lie at scene origin (362175, 5809965) + 30 (X, -Y), X and Y standing in their names."""
    files = sorted((samples / "enmap" / folder).glob("*.tif"))
    assert len(files) == 14
    cubes, places = [], []
    for file in files:
        with rasterio.open(file) as src:
            values = src.read()
            cubes.append(place(make_cube(values, quantity="dn"), src.transform, src.crs))
        x, y = (int(v) for v in file.stem.split("_")[-2:])
        places.append((y, x, values))
    out = mosaic(cubes)
    left, top = min(p[1] for p in places), min(p[0] for p in places)
    want = np.full(
        (224, max(p[0] for p in places) + 32 - top, max(p[1] for p in places) + 32 - left), np.nan, np.float32
    )
    for y, x, values in places:
        want[:, y - top : y - top + 32, x - left : x - left + 32] = values
    np.testing.assert_array_equal(out.values, want)
    grid = grid_of(out)
    assert (grid.transform.c, grid.transform.f) == (362175.0 + 30 * left, 5809965.0 - 30 * top)
    assert grid.resolution == (30.0, 30.0) and grid.crs.to_epsg() == 32633


@pytest.mark.parametrize("method", ["first", "last", "mean", "min", "max", "median"])
def test_overlaps_follow_the_method(method: str) -> None:
    base = scene(40, 40)
    cubes = []
    for number, (row, col) in enumerate([(0, 0), (5, 5), (10, 0)]):
        part = window(base, row, col, 25, 30).copy()
        part.values = np.random.default_rng(number).random(part.shape, dtype=np.float32)
        part[:, 8:10, 8:12] = np.nan
        cubes.append(part)
    stack = np.full((3, 3, 35, 35), np.nan)
    for layer, cube, (row, col) in zip(stack, cubes, [(0, 0), (5, 5), (10, 0)], strict=True):
        layer[:, row : row + 25, col : col + 30] = cube.values
    with np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = {
                "mean": np.nanmean, "min": np.nanmin, "max": np.nanmax, "median": np.nanmedian,
                "first": _pick, "last": lambda s, axis: _pick(s[::-1], axis),
            }[method](stack, axis=0)  # fmt: skip
    out = mosaic(cubes, method)
    np.testing.assert_allclose(out.values, want, rtol=1e-6)
    np.testing.assert_allclose(out[1, 3:20, 30:2:-3].values, want[1, 3:20, 30:2:-3], rtol=1e-6)


def _pick(stack: np.ndarray, axis: int) -> np.ndarray:
    out = stack[0].copy()
    for layer in stack[1:]:
        out = np.where(np.isnan(out), layer, out)
    return out


def test_grids_that_differ_are_named_or_resampled() -> None:
    a = scene()
    other = scene(transform=Affine(30.0, 0, 170000.0, 0, -30.0, 5820000.0), crs=32634)
    with pytest.raises(GridMismatch, match=r"UTM zone 34N.*UTM zone 33N"):
        mosaic([a, other])
    off = scene(transform=Affine(30.0, 0, 362185.0, 0, -30.0, 5809965.0))
    with pytest.raises(GridMismatch, match=r"0\.333 columns"):
        mosaic([a, off])
    with pytest.raises(GridMismatch, match="pixels are 20"):
        mosaic([a, scene(transform=Affine(20.0, 0, 362175.0, 0, -20.0, 5809965.0))])
    out = mosaic([a, off], resampling="bilinear")
    assert grid_of(out).transform.c == 362175.0 and out.shape == (3, 60, 71)
    np.testing.assert_array_equal(out.values[:, :, :70], a.values)
    there = mosaic([a, off], resampling="nearest", crs=4326)
    assert grid_of(there).crs.to_epsg() == 4326


def test_bands_that_differ_are_refused() -> None:
    a = scene()
    with pytest.raises(BandMismatch, match="has 2 bands"):
        mosaic([a, scene(bands=2)])
    with pytest.raises(BandMismatch, match="centred at 505"):
        mosaic([a, a.assign_coords(wavelength=("band", [505.0, 510.0, 520.0]))])
    with pytest.raises(BandMismatch, match="quantity"):
        mosaic([a, a.assign_attrs(quantity="radiance")])
    with pytest.raises(BadCube):
        mosaic([])


def test_integer_gaps_need_a_nodata_value() -> None:
    a = place(make_cube(np.ones((1, 5, 5), np.uint8)), UTM, 32633)
    b = place(
        make_cube(np.ones((1, 5, 5), np.uint8)), Affine(30.0, 0, 362175.0 + 300, 0, -30.0, 5809965.0 - 300), 32633
    )
    with pytest.raises(BadSettings, match="nodata="):
        mosaic([a, b])
    out = mosaic([a, b], nodata=9)
    assert out.dtype == np.uint8 and out.attrs["nodata"] == 9 and int((out == 9).sum()) == 225 - 50
