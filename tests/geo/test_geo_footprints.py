"""Footprints: GeoJSON in WGS 84, dense enough, cut at the antimeridian, led over the poles."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from shapely.geometry import Point, shape

from torchspectral import make_cube
from torchspectral.geo import footprint, grid_of, place, place_swath
from torchspectral.geo.cropping import lonlat_bounds
from torchspectral.geo.grids import to_ground


def check(geometry: dict, bbox: list[float]) -> object:
    """What RFC 7946 asks of every polygon."""
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    for polygon in polygons:
        (ring,) = polygon
        assert ring[0] == ring[-1] and len(ring) >= 4
        x, y = np.array(ring).T
        assert (np.abs(x) <= 180).all() and (np.abs(y) <= 90).all()
        assert np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0, "counter-clockwise"
    found = shape(geometry)
    assert found.is_valid
    west, south, east, north = bbox
    edges = np.concatenate([np.array(p[0]) for p in polygons])
    assert edges[:, 1].min() == pytest.approx(south) and edges[:, 1].max() == pytest.approx(north)
    inside = (edges[:, 0] >= west - 1e-6) & (edges[:, 0] <= east + 1e-6)
    if west > east:
        inside = (edges[:, 0] >= west - 1e-6) | (edges[:, 0] <= east + 1e-6)
    assert inside.all()
    return found


@settings(max_examples=30, deadline=None)
@given(
    zone=st.sampled_from([32601, 32633, 32660, 32701, 32760]),
    north=st.floats(2e6, 8e6),
    size=st.floats(30, 3000),
    turn=st.floats(0, 6.28),
)
def test_every_pixel_lies_inside(zone: int, north: float, size: float, turn: float) -> None:
    t = Affine(size * np.cos(turn), size * np.sin(turn), 480000, size * np.sin(turn), -size * np.cos(turn), north)
    cube = place(make_cube(np.zeros((1, 40, 60))), t, zone)
    geometry, bbox = footprint(cube)
    found = check(geometry, bbox)
    rows, cols = np.mgrid[0:40:13, 0:60:7] + 0.5
    x, y = to_ground(t, cols.ravel(), rows.ravel())
    lon, lat = Transformer.from_crs(zone, 4326, always_xy=True).transform(x, y)
    grown = found.buffer(5e-6)
    assert all(grown.contains(Point((o + 180) % 360 - 180, a)) for o, a in zip(lon, lat, strict=True))
    x, y = to_ground(t, np.array([-9.0, 69.0, 30.0, 30.0]), np.array([20.0, 20.0, -9.0, 49.0]))
    lon, lat = Transformer.from_crs(zone, 4326, always_xy=True).transform(x, y)
    assert not any(found.contains(Point((o + 180) % 360 - 180, a)) for o, a in zip(lon, lat, strict=True))


def test_small_scenes_need_few_points() -> None:
    cube = place(make_cube(np.zeros((1, 32, 32))), Affine(30.0, 0, 362175, 0, -30.0, 5809965), 32633)
    geometry, bbox = footprint(cube)
    assert len(geometry["coordinates"][0]) == 5
    np.testing.assert_allclose(bbox, lonlat_bounds(grid_of(cube)), atol=1e-6)
    wide = place(make_cube(np.zeros((1, 100, 100))), Affine(10000.0, 0, 4e6, 0, -10000.0, 4e6), 3035)
    assert len(footprint(wide)[0]["coordinates"][0]) > 20


def test_swath_edges_are_pixel_edges() -> None:
    lat, lon = np.meshgrid(np.linspace(50.0, 49.9, 11), np.linspace(10.0, 10.2, 21), indexing="ij")
    geometry, bbox = footprint(place_swath(make_cube(np.zeros((1, 11, 21))), lon, lat))
    found = check(geometry, bbox)
    np.testing.assert_allclose(bbox, [9.995, 49.895, 10.205, 50.005], atol=2e-5)
    assert found.area == pytest.approx(0.21 * 0.11, rel=1e-3)
    lon[:3], lon[:, 15:] = np.nan, np.nan
    _, cut = footprint(place_swath(make_cube(np.zeros((1, 11, 21))), lon, lat))
    np.testing.assert_allclose(cut, [9.995, 49.895, 10.145, 49.975], atol=2e-5)


def test_antimeridian_and_poles() -> None:
    lat, lon = np.meshgrid(np.linspace(-17, -17.1, 20), np.linspace(179.95, 180.05, 20), indexing="ij")
    geometry, bbox = footprint(place_swath(make_cube(np.zeros((1, 20, 20))), (lon + 180) % 360 - 180, lat))
    assert geometry["type"] == "MultiPolygon" and len(geometry["coordinates"]) == 2
    check(geometry, bbox)
    assert bbox[0] == pytest.approx(179.947, abs=1e-2) and bbox[2] == pytest.approx(-179.947, abs=1e-2)
    for pole, crs in ((90, 5041), (-90, 5042)):
        cube = place(make_cube(np.zeros((1, 20, 20))), Affine(3e4, 0, 2e6 - 3e5, 0, -3e4, 2e6 + 3e5), crs)
        geometry, bbox = footprint(cube)
        found = check(geometry, bbox)
        assert bbox[0] == -180 and bbox[2] == 180 and pole in (bbox[1], bbox[3])
        assert all(found.buffer(1e-6).contains(Point(o, pole * 0.999)) for o in (-170, -60, 10, 133))


def test_what_lies_nowhere_has_none() -> None:
    assert footprint(make_cube(np.zeros((1, 4, 4)))) == (None, None)
    local = place(make_cube(np.zeros((1, 4, 4))), Affine(1.0, 0, 0, 0, -1.0, 0))
    assert footprint(local) == (None, None)


def test_emit_crop(samples) -> None:
    import h5py

    with h5py.File(samples / "emit" / "EMIT_L1B_OBS_001_20220827T060753_9999999_999.nc") as file:
        lon, lat = file["location/lon"][...], file["location/lat"][...]
    geometry, bbox = footprint(place_swath(make_cube(np.zeros((1, 200, 200))), lon, lat))
    found = check(geometry, bbox)
    grown = found.buffer(1e-5)
    assert all(grown.contains(Point(lon[r, c], lat[r, c])) for r in range(0, 200, 9) for c in range(0, 200, 9))
    # The slanted crop fills 50.7 % of the box around it.
    box = (bbox[2] - bbox[0]) * (bbox[3] - bbox[1])
    assert 0.48 < found.area / box < 0.54
