"""GLT and orthorectification, on the real EMIT crop and on made swaths."""

from __future__ import annotations

import copy
import pickle

import h5py
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from xarray.core import indexing

from torchspectral import make_cube
from torchspectral.errors import BadSettings, GridMismatch
from torchspectral.geo import GLT, build_glt, crop, grid_of, orthorectify, place_swath
from torchspectral.geo.grids import Grid, parse_crs
from torchspectral.geo.lazy import LazyArray
from torchspectral.geo.swaths import SwathOnMap


class Counting(LazyArray):
    """A source that remembers what was read."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__(values.shape, values.dtype)
        self.values, self.reads = values, []

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        self.reads.append(tuple(i.size for i in indices))
        return self.values[np.ix_(*indices)]


@pytest.fixture(scope="module")
def emit(samples):
    path = samples / "emit" / "EMIT_L1B_OBS_001_20220827T060753_9999999_999.nc"
    with h5py.File(path) as file:
        obs = np.moveaxis(file["obs"][...], -1, 0)
        lon, lat = file["location/lon"][...], file["location/lat"][...]
        glt_x, glt_y = file["location/glt_x"][...], file["location/glt_y"][...]
        geotransform, wkt = file.attrs["geotransform"], file.attrs["spatial_ref"]
    glt = GLT(glt_x, glt_y, Affine.from_gdal(*(float(v) for v in geotransform)), wkt)
    cube = place_swath(make_cube(obs), lon, lat, glt)
    return cube, glt_x, glt_y


def test_emit_orthorectifies_to_the_last_bit(emit) -> None:
    cube, glt_x, glt_y = emit
    transform = cube.attrs["glt"].transform
    # Integers stand in for the angles too, so that every place is told apart.
    numbered = cube.copy(data=np.arange(cube.size, dtype=np.float64).reshape(cube.shape))
    for source in (cube, numbered):
        out = orthorectify(source)
        assert out.shape == (11, 318, 354)
        want = np.full((11, 318, 354), np.nan, dtype=source.dtype)
        for row in range(318):
            for col in range(354):
                if glt_x[row, col] and glt_y[row, col]:
                    want[:, row, col] = source.values[:, glt_y[row, col] - 1, glt_x[row, col] - 1]
        np.testing.assert_array_equal(out.values, want)
    grid = grid_of(out)
    assert grid.kind == "map" and grid.crs.to_epsg() == 4326
    assert grid.transform.c == pytest.approx(61.6401745, abs=1e-7)
    assert float(out.x[0]) == pytest.approx(transform.c + 0.5 * transform.a, abs=1e-12)
    assert "glt" not in out.attrs and "lon" not in out.coords
    assert abs(np.isfinite(out.values[0]).mean() - 0.507) < 0.001


def test_a_window_of_the_scene_is_the_same_ground(emit) -> None:
    cube, _, _ = emit
    whole = orthorectify(cube)
    part = orthorectify(cube.isel(y=slice(50, 120), x=slice(30, 90)))
    row = round((float(part.y[0]) - float(whole.y[0])) / -5.42232520e-04)
    col = round((float(part.x[0]) - float(whole.x[0])) / 5.42232520e-04)
    beneath = whole.values[:, row : row + part.shape[1], col : col + part.shape[2]]
    seen = np.isfinite(part.values)
    assert seen.any() and part.shape[1] < whole.shape[1]
    np.testing.assert_array_equal(part.values[seen], beneath[seen])
    assert seen[0].sum() <= np.isfinite(beneath[0]).sum()


def test_orthorectified_windows_read_only_what_they_see(emit) -> None:
    cube, _, _ = emit
    counting = Counting(cube.values)
    lazy = cube.copy(data=indexing.LazilyIndexedArray(counting))
    out = orthorectify(lazy)
    assert counting.reads == []
    block = out[2:4, 100:110, 150:160].values
    np.testing.assert_array_equal(block, orthorectify(cube).values[2:4, 100:110, 150:160])
    assert all(bands == 2 and rows < 60 and cols < 60 for bands, rows, cols in counting.reads)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(out))[0, 100:110, 150:160].values, out[0, 100:110, 150:160].values
    )


def test_emit_in_utm_is_one_lookup_of_sensor_values(emit) -> None:
    cube, _, _ = emit
    out = orthorectify(cube, 60.0, crs=32641)
    assert grid_of(out).crs.to_epsg() == 32641 and grid_of(out).resolution == (60.0, 60.0)
    values = out.values[1]
    assert np.isin(values[np.isfinite(values)], cube.values[1]).all()
    assert 0.2 < np.isfinite(values).mean() < 0.9


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_emit_without_glt_finds_the_same_ground(emit, method: str) -> None:
    cube, _, _ = emit
    alone = cube.copy()
    alone.attrs = {k: v for k, v in cube.attrs.items() if k != "glt"}
    # A field that is linear in the coordinates comes out as the coordinates of the map pixels.
    field = alone.copy(data=np.stack([cube["lon"].values, cube["lat"].values] + [cube["lon"].values] * 9))
    out = orthorectify(field, method=method, crs=4326)
    x, y = np.meshgrid(out.x.values, out.y.values)
    off_x, off_y = out.values[0] - x, out.values[1] - y
    seen = np.isfinite(off_x)
    assert 0.4 < seen.mean() < 0.65
    limit = 5.5e-4 if method == "nearest" else 5e-5
    inside = seen & np.roll(seen, 3, 0) & np.roll(seen, -3, 0) & np.roll(seen, 3, 1) & np.roll(seen, -3, 1)
    assert np.abs(off_x[inside]).max() < limit and np.abs(off_y[inside]).max() < limit


def test_swath_on_a_slanted_lattice_comes_back() -> None:
    """A swath made from UTM ground: each map pixel gets the nearest sensor pixel, found by brute force."""
    from pyproj import Transformer

    angle = np.deg2rad(12)
    rows, cols = np.meshgrid(np.arange(30), np.arange(40), indexing="ij")
    x = 500000 + 30 * (cols * np.cos(angle) + rows * np.sin(angle))
    y = 5500000 + 30 * (cols * np.sin(angle) - rows * np.cos(angle))
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    cube = place_swath(make_cube(np.arange(1200.0).reshape(1, 30, 40)), lon, lat)
    out = orthorectify(cube)
    grid = grid_of(out)
    assert grid.crs.to_epsg() == 32633 and grid.resolution == pytest.approx((30, 30), rel=1e-3)
    gx, gy = np.meshgrid(out.x.values, out.y.values)
    distance = np.hypot(gx[..., None] - x.ravel(), gy[..., None] - y.ravel())
    want = distance.argmin(-1).astype(float)
    near = distance.min(-1)
    seen = np.isfinite(out.values[0])
    ties = np.sort(distance, axis=-1)[..., 1] - near < 1e-3
    assert (out.values[0][seen & ~ties] == want[seen & ~ties]).all()
    assert seen[near < 0.9 * 30 * np.sqrt(0.5)].all() and not seen[near > 30 * np.sqrt(0.5) * 1.03].any()
    assert np.unique(out.values[0][seen]).size > 0.9 * 1200


def test_bilinear_reproduces_a_plane_and_respects_gaps() -> None:
    lat, lon = np.meshgrid(np.linspace(50.0, 49.9, 40), np.linspace(10.0, 10.1, 40), indexing="ij")
    values = (3 * lon + 2 * lat)[None].copy()
    cube = place_swath(make_cube(values), lon, lat)
    out = orthorectify(cube, method="bilinear", crs=4326)
    x, y = np.meshgrid(out.x.values, out.y.values)
    seen = np.isfinite(out.values[0])
    inner = seen & (x > 10.003) & (x < 10.097) & (y > 49.903) & (y < 49.997)
    np.testing.assert_allclose(out.values[0][inner], (3 * x + 2 * y)[inner], atol=1e-5)


def _slanted(rows: int, cols: int, angle: float, lon0: float = 10.0, lat0: float = 50.0):
    """Longitudes and latitudes of a swath whose lattice is turned by `angle` [rad]."""
    r, c = np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij")
    lon = lon0 + 1e-3 * (c * np.cos(angle) + r * np.sin(angle))
    lat = lat0 + 1e-3 * (c * np.sin(angle) - r * np.cos(angle))
    return lon, lat


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-3.1, 3.1),
    seed=st.integers(0, 2**16),
    share=st.floats(0.05, 0.6),
    zoom=st.sampled_from([0.4, 1.0, 1.7]),
)
def test_nodata_never_leaks_nor_shrinks(angle: float, seed: int, share: float, zoom: float) -> None:
    """Bilinear: NaN exactly where the nearest sensor pixel is NaN; what is missing changes no value but by its weight."""
    lon, lat = _slanted(9, 11, angle)
    rng = np.random.default_rng(seed)
    values = rng.random((1, 9, 11))
    gone = rng.random((9, 11)) < share
    swath = SwathOnMap(lon, lat, 4326)
    grid = swath.grid(1e-3 * zoom)
    rows, cols = (a.astype(np.float64) for a in swath.positions(grid))
    cube = place_swath(make_cube(np.where(gone, np.nan, values)), lon, lat)
    out = orthorectify(cube, grid=grid, method="bilinear").values[0]
    seen = np.isfinite(rows)
    r, c = np.clip(rows, 0, 8), np.clip(cols, 0, 10)
    want = np.full(grid.shape, np.nan)
    tie = np.zeros(grid.shape, bool)
    for at in zip(*np.nonzero(seen), strict=True):
        y, x = r[at], c[at]
        tie[at] = min(abs(y % 1 - 0.5), abs(x % 1 - 0.5)) < 1e-4
        if gone[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))]:
            continue
        weights = np.zeros((9, 11))
        for yy in {int(np.floor(y)), min(int(np.floor(y)) + 1, 8)}:
            for xx in {int(np.floor(x)), min(int(np.floor(x)) + 1, 10)}:
                weights[yy, xx] = max(0, 1 - abs(y - yy)) * max(0, 1 - abs(x - xx)) * ~gone[yy, xx]
        want[at] = (weights * values[0]).sum() / weights.sum()
    np.testing.assert_allclose(out[~tie], want[~tie], rtol=1e-5, atol=1e-6)
    near = orthorectify(cube.copy(data=values), grid=grid).values[0]
    np.testing.assert_array_equal(np.isfinite(near), seen)


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-3.1, 3.1),
    method=st.sampled_from(["nearest", "bilinear"]),
    table=st.booleans(),
    data=st.data(),
)
def test_window_of_ortho_is_ortho_of_window(angle: float, method: str, table: bool, data: st.DataObject) -> None:
    lon, lat = _slanted(12, 10, angle)
    values = np.random.default_rng(3).random((2, 12, 10)).astype(np.float32)
    values[0, 4:6, 3:7] = np.nan
    cube = place_swath(make_cube(values), lon, lat, build_glt(lon, lat, crs=4326) if table else None)
    out = orthorectify(cube, None if table else 7e-4, method, crs=4326)
    whole = out.values
    row = data.draw(st.integers(0, out.sizes["y"] - 1))
    col = data.draw(st.integers(0, out.sizes["x"] - 1))
    height = data.draw(st.integers(1, out.sizes["y"] - row))
    width = data.draw(st.integers(1, out.sizes["x"] - col))
    part = out[:, row : row + height, col : col + width]
    np.testing.assert_array_equal(part.values, whole[:, row : row + height, col : col + width])
    grid = grid_of(out).window(row, col, height, width)
    np.testing.assert_array_equal(
        orthorectify(cube, method=method, grid=grid).values, whole[:, row : row + height, col : col + width]
    )


def test_bilinear_sees_what_the_table_sees(emit) -> None:
    cube, _, _ = emit
    for crs, size in ((None, None), (32641, 60.0)):
        near = orthorectify(cube, size, crs=crs)
        mixed = orthorectify(cube, size, "bilinear", crs=crs)
        assert grid_of(near) == grid_of(mixed)
        np.testing.assert_array_equal(np.isfinite(near.values), np.isfinite(mixed.values))
        zenith = near.values[4], mixed.values[4]
        assert np.nanmax(np.abs(zenith[0] - zenith[1])) < 0.02
        assert zenith[1][np.isfinite(zenith[1])].min() >= np.nanmin(cube.values[4])


def test_blocks_that_do_not_fit_are_read_in_halves(emit, monkeypatch) -> None:
    cube, _, _ = emit
    whole = {m: orthorectify(cube, method=m).values for m in ("nearest", "bilinear")}
    monkeypatch.setattr("torchspectral.geo.orthorectification.BLOCK_BYTES", 60_000)
    for method, want in whole.items():
        counting = Counting(cube.values)
        lazy = cube.copy(data=indexing.LazilyIndexedArray(counting))
        np.testing.assert_array_equal(orthorectify(lazy, method=method).values, want)
        assert max(b * r * c * 4 for b, r, c in counting.reads) <= 60_000


@pytest.mark.parametrize("middle", [88.0, -88.0])
def test_a_swath_over_the_pole(middle: float) -> None:
    """Polar stereographic by itself; in longitude and latitude, in UTM and in Mercator one clear error."""
    from pyproj import Transformer

    ups = 5041 if middle > 0 else 5042
    x, y = np.meshgrid(2e6 + 3e4 * np.arange(-10, 11), 2e6 - 3e4 * np.arange(-9, 12))
    lon, lat = Transformer.from_crs(ups, 4326, always_xy=True).transform(x, y)
    cube = place_swath(make_cube(np.arange(441.0).reshape(1, 21, 21)), lon, lat)
    out = orthorectify(cube)
    assert grid_of(out).crs.to_epsg() == ups
    assert 0.97 < np.unique(out.values[np.isfinite(out.values)]).size / 441 <= 1
    for crs in (4326, 3857):
        with pytest.raises(GridMismatch, match=r"torn apart|no place"):
            orthorectify(cube, crs=crs)


def test_antimeridian_in_every_way() -> None:
    lat, lon = np.meshgrid(np.linspace(-17, -17.1, 30), np.linspace(179.95, 180.05, 30), indexing="ij")
    values = np.arange(900.0).reshape(1, 30, 30)
    turned = (lon + 180) % 360 - 180
    utm = orthorectify(place_swath(make_cube(values), turned, lat))
    assert grid_of(utm).crs.to_epsg() in (32701, 32760)
    glt = build_glt(turned, lat, crs=4326)
    table = place_swath(make_cube(values), turned, lat, glt)
    degrees = orthorectify(table)
    assert degrees.shape[2] < 40 and abs(abs(float(degrees.x.mean())) - 180) < 0.01
    # The table counts beyond 180 degrees; a UTM map still finds every pixel in it.
    there = orthorectify(table, crs=grid_of(utm).crs)
    assert np.isfinite(there.values).mean() > 0.9 and np.unique(there.values[np.isfinite(there.values)]).size > 800
    with pytest.raises(GridMismatch, match="torn apart"):
        orthorectify(place_swath(make_cube(values), turned, lat), crs=3857)


def test_a_grid_of_ones_own(emit) -> None:
    cube, _, _ = emit
    glt = cube.attrs["glt"]
    want = orthorectify(cube)
    same = orthorectify(cube, grid=glt.grid)
    np.testing.assert_array_equal(same.values, want.values)
    assert grid_of(same) == grid_of(want)
    elsewhere = Grid("map", 5, 4, Affine(60.0, 0, 0, 0, -60.0, 0), parse_crs(32641))
    assert np.isnan(orthorectify(cube, grid=elsewhere).values).all()
    with pytest.raises(GridMismatch, match="one or the other"):
        orthorectify(cube, 60.0, grid=glt.grid)
    with pytest.raises(GridMismatch, match="expected a map grid"):
        orthorectify(cube, grid=grid_of(cube))


def test_antimeridian() -> None:
    lat, lon = np.meshgrid(np.linspace(-17, -17.1, 20), np.linspace(179.95, 180.05, 20), indexing="ij")
    lon = (lon + 180) % 360 - 180
    for crs in (None, 4326):
        out = orthorectify(place_swath(make_cube(np.ones((1, 20, 20))), lon, lat), crs=crs)
        assert max(out.shape) < 60 and np.isfinite(out.values).mean() > 0.5


def test_glt_reads_all_the_ways_it_is_written() -> None:
    x = np.array([[0, 1, 2], [3, -2, 1]])
    y = np.array([[0, 1, 1], [2, -2, 0]])
    t = Affine(0.5, 0, 10, 0, -0.5, 50)
    glt = GLT(x, y, t, 4326)
    assert glt.filled and glt.x.tolist() == [[0, 1, 2], [3, 2, 0]] and glt.y.tolist() == [[0, 1, 1], [2, 2, 0]]
    as_float = np.where(x == 0, np.nan, x).astype(np.float32)
    assert GLT(as_float, y, t, "EPSG:4326") == glt
    assert pickle.loads(pickle.dumps(glt)) == glt and copy.deepcopy(glt) is glt
    assert copy.deepcopy({"glt": glt})["glt"] is glt
    part = glt.window(1, 0, 1, 2)
    assert part.x.tolist() == [[3, 2]] and part.transform.f == 49.5
    with pytest.raises(AttributeError):
        glt.filled = False
    with pytest.raises(ValueError):
        glt.x[0, 0] = 5
    for bad in (np.zeros((2, 2)), np.full((2, 3), 0.5)):
        with pytest.raises(GridMismatch):
            GLT(bad, y, t, 4326)
    with pytest.raises(GridMismatch, match="leaves the GLT"):
        glt.window(0, 2, 2, 2)


def test_deep_copies_of_a_cube_share_its_glt(emit) -> None:
    cube, _, _ = emit
    assert cube.copy(deep=True).attrs["glt"] is cube.attrs["glt"]


def test_built_glt_serves_a_cropped_scene() -> None:
    lat, lon = np.meshgrid(np.linspace(50.0, 49.9, 40), np.linspace(10.0, 10.1, 40), indexing="ij")
    glt = build_glt(lon, lat, crs=4326)
    cube = place_swath(make_cube(np.arange(1600.0).reshape(1, 40, 40)), lon, lat, glt)
    alone = place_swath(make_cube(cube.values), lon, lat)
    np.testing.assert_array_equal(orthorectify(cube).values, orthorectify(alone, crs=4326).values)
    part = crop(cube, (10.02, 49.93, 10.06, 49.97))
    out = orthorectify(part)
    assert out.shape[1] < 20 and set(np.unique(out.values[np.isfinite(out.values)])) <= set(part.values.ravel())


def test_integer_scenes_keep_their_type() -> None:
    lat, lon = np.meshgrid(np.linspace(50.0, 49.9, 20), np.linspace(10.0, 10.1, 20), indexing="ij")
    cube = place_swath(make_cube(np.ones((1, 20, 20), dtype=np.int16), attrs={"nodata": -1}), lon, lat)
    out = orthorectify(cube)
    assert out.dtype == np.int16 and set(np.unique(out.values)) == {-1, 1}
    with pytest.raises(BadSettings, match="nearest"):
        orthorectify(cube, method="bilinear")
    del cube.attrs["nodata"]
    with pytest.raises(BadSettings, match="nodata"):
        orthorectify(cube)


def test_a_map_is_no_swath() -> None:
    with pytest.raises(GridMismatch, match="swath"):
        orthorectify(make_cube(np.ones((1, 4, 4))))
    assert isinstance(make_cube(np.ones((1, 4, 4))), xr.DataArray)
