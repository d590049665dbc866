"""Labels from polygons, points and tables of pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

import torchspectral as ts
from torchspectral.errors import BadInput, BrokenProduct, GridMismatch, MissingMetadata, UnknownName
from torchspectral.geo import grid_of, place, place_swath
from torchspectral.io.labels import read_labels

geopandas = pytest.importorskip("geopandas")
shapely = pytest.importorskip("shapely")


def scene(rows: int = 6, cols: int = 8, *, size: float = 10.0):
    cube = ts.make_cube(np.zeros((2, rows, cols), np.float32), wavelength=[500, 600])
    return place(cube, Affine(size, 0, 500_000, 0, -size, 5_800_000), "EPSG:32633")


def box(row: int, col: int, height: int, width: int, size: float = 10.0):
    x, y = 500_000 + col * size, 5_800_000 - row * size
    return shapely.box(x, y - height * size, x + width * size, y)


def shapes(tmp_path, rows, suffix=".gpkg", crs="EPSG:32633", **kwargs):
    table = geopandas.GeoDataFrame(rows, geometry=[r.pop("geometry") for r in rows], crs=crs)
    path = tmp_path / f"labels{suffix}"
    table.to_file(path, **kwargs)
    return path


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp"])
def test_polygons_fall_on_the_pixels_that_they_cover(tmp_path, suffix) -> None:
    crs = "EPSG:32633"
    path = shapes(
        tmp_path,
        [{"class": "water", "geometry": box(0, 0, 2, 3)}, {"class": "soil", "geometry": box(4, 5, 2, 3)}],
        suffix,
        crs,
    )
    labels = read_labels(path, like=scene())
    expected = np.zeros((6, 8), np.uint8)
    expected[:2, :3], expected[4:, 5:] = 2, 1
    np.testing.assert_array_equal(labels.values, expected)
    assert labels.attrs["class_names"] == ["unlabelled", "soil", "water"]
    assert grid_of(labels).transform == grid_of(scene()).transform


def test_another_crs_is_brought_to_the_cube(tmp_path) -> None:
    row = {"class": 3, "geometry": box(1, 1, 3, 3)}
    table = geopandas.GeoDataFrame([row], geometry="geometry", crs="EPSG:32633").to_crs("EPSG:4326")
    table.to_file(tmp_path / "a.geojson")
    labels = read_labels(tmp_path / "a.geojson", like=scene())
    assert labels.values[1:4, 1:4].min() == 3 and (labels.values > 0).sum() == 9
    assert labels.attrs["class_names"][3] == "3"


def test_claims_of_two_classes_stay_unlabelled(tmp_path) -> None:
    rows = [
        {"class": 1, "geometry": box(0, 0, 3, 4)},
        {"class": 2, "geometry": box(2, 3, 3, 3)},
        {"class": 1, "geometry": box(0, 2, 2, 2)},
    ]
    labels = read_labels(shapes(tmp_path, rows), like=scene())
    assert labels.values[2, 3] == 0 and labels.values[2, 2] == 1 and labels.values[2, 4] == 2
    assert "1 pixels are claimed by more than one class and left unlabelled" in labels.attrs["history"]


def test_swath_pixels_take_the_polygon_of_their_centre(tmp_path) -> None:
    lon, lat = np.meshgrid(np.linspace(10, 10.5, 6), np.linspace(50, 49.7, 4))
    cube = place_swath(ts.make_cube(np.zeros((1, 4, 6), np.float32)), lon, lat)
    path = shapes(tmp_path, [{"class": 4, "geometry": shapely.box(10.15, 49.85, 10.45, 51)}], crs="EPSG:4326")
    labels = read_labels(path, like=cube)
    inside = (lon > 10.15) & (lon < 10.45) & (lat > 49.85)
    np.testing.assert_array_equal(labels.values > 0, inside)
    points = [{"class": n + 1, "geometry": shapely.Point(lon[n, n], lat[n, n])} for n in range(4)]
    found = read_labels(shapes(tmp_path, points, ".geojson", "EPSG:4326"), like=cube)
    assert [int(found.values[n, n]) for n in range(4)] == [1, 2, 3, 4] and (found.values > 0).sum() == 4


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_points_fall_into_their_pixel(data, tmp_path_factory) -> None:
    n = data.draw(st.integers(1, 12))
    draw = st.lists(st.integers(-8, 136), min_size=n, max_size=n)
    # Sixteenths of a pixel: exact in binary, so that a point is never moved across an edge by rounding.
    rows, cols = (np.array(data.draw(draw)) / 16 for _ in range(2))
    numbers = np.array(data.draw(st.lists(st.integers(1, 3), min_size=n, max_size=n)))
    expected: dict[tuple[int, int], set[int]] = {}
    for r, c, k in zip(rows, cols, numbers, strict=True):
        if 0 <= r < 6 and 0 <= c < 8:
            expected.setdefault((int(r), int(c)), set()).add(int(k))
    path = tmp_path_factory.mktemp("points") / "p.csv"
    x, y = 500_000 + cols * 10, 5_800_000 - rows * 10
    path.write_text(
        "x,y,class\n" + "".join(f"{a!r},{b!r},{k}\n" for a, b, k in zip(x.tolist(), y.tolist(), numbers, strict=True))
    )
    if not expected:
        with pytest.raises(GridMismatch, match="lies on the cube"):
            read_labels(path, like=scene())
        return
    labels = read_labels(path, like=scene())
    for pixel in np.ndindex(6, 8):
        claimed = expected.get(pixel, set())
        assert labels.values[pixel] == (claimed.pop() if len(claimed) == 1 else 0)


def test_tables_of_rows_and_columns(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("row,col,class\n0,1,tree\n5,7,soil\n0,1,tree\n")
    plain = ts.make_cube(np.zeros((1, 6, 8), np.float32))
    labels = read_labels(tmp_path / "a.csv", like=plain)
    assert labels.values[0, 1] == 2 and labels.values[5, 7] == 1 and (labels.values > 0).sum() == 2
    (tmp_path / "b.csv").write_text("row,col,class\n6,1,tree\n")
    with pytest.raises(BadInput, match="row 6, column 1"):
        read_labels(tmp_path / "b.csv", like=plain)
    (tmp_path / "c.csv").write_text("lon,lat,class\n10,50,1\n")
    with pytest.raises(GridMismatch, match="no georeference"):
        read_labels(tmp_path / "c.csv", like=plain)
    (tmp_path / "d.csv").write_text("a,b,class\n10,50,1\n")
    with pytest.raises(BadInput, match="expected row and col"):
        read_labels(tmp_path / "d.csv", like=plain)


def test_what_cannot_be_drawn_is_told(tmp_path) -> None:
    good = [{"class": 1, "kind": "a", "geometry": box(0, 0, 1, 1)}]
    path = shapes(tmp_path, [dict(g) for g in good])
    with pytest.raises(BadInput, match="like="):
        read_labels(path)
    with pytest.raises(UnknownName, match="no column 'clas'"):
        read_labels(path, like=scene(), field="clas")
    with pytest.raises(GridMismatch, match="no georeference"):
        read_labels(path, like=ts.make_cube(np.zeros((1, 6, 8), np.float32)))
    with pytest.raises(GridMismatch, match="another scene"):
        read_labels(shapes(tmp_path, [{"class": 1, "geometry": box(90, 90, 1, 1)}], ".geojson"), like=scene())
    with pytest.raises(MissingMetadata, match="no CRS"):
        read_labels(shapes(tmp_path, [{"class": 1, "geometry": box(0, 0, 1, 1)}], ".shp", None), like=scene())
    two = [{"level_1": "a", "level_2": "b", "geometry": box(0, 0, 1, 1)}]
    with pytest.raises(BadInput, match="field=NAME"):
        read_labels(shapes(tmp_path, two, ".geojson"), like=scene())


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_polygons_without_attributes_say_no_class(tmp_path, suffix) -> None:
    path = shapes(tmp_path, [{"geometry": box(0, 0, 2, 3)}], suffix)
    with pytest.raises(BadInput, match="has no column of classes: expected one"):
        read_labels(path, like=scene())


def test_a_vector_file_that_is_another_format_is_refused(tmp_path) -> None:
    secret = tmp_path / "secret.geojson"
    secret.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    for suffix in (".geojson", ".gpkg", ".shp"):
        path = tmp_path / f"x{suffix}"
        path.write_text(
            f"<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>{secret}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
        )
        with pytest.raises(BrokenProduct, match="does not begin as"):
            read_labels(path, like=scene())
    broken = tmp_path / "b.gpkg"
    broken.write_bytes(b"SQLite format 3\0" + b"\0" * 500)
    with pytest.raises(BrokenProduct, match="cannot be read as vectors"):
        read_labels(broken, like=scene())


def test_real_points_on_the_real_land_cover(samples) -> None:
    """Points of the field visit against the class map of the same study."""
    path = samples / "enmap/landcover_potsdam_point.gpkg"
    classes = read_labels(samples / "enmap/enmap_potsdam_landcover.tif")
    like = ts.make_cube(np.zeros((1, *classes.shape), np.float32))
    grid = grid_of(classes)
    like = place(like, grid.transform, grid.crs)
    labels = read_labels(path, like=like, field="level_2")
    with pytest.raises(BadInput, match="level_1"):
        read_labels(path, like=like)
    names = labels.attrs["class_names"]
    told = {1: "impervious", 2: "impervious", 3: "low vegetation", 4: "tree", 5: "soil", 6: "water"}
    both = (labels.values > 0) & (classes.values > 0)
    agreed = [names[a] == told[int(b)] for a, b in zip(labels.values[both], classes.values[both], strict=True)]
    table = geopandas.read_file(path, layer="landcover_potsdam_point")
    for point, name in zip(table.geometry, table["level_2"], strict=True):
        col, row = ~grid.transform @ (point.x, point.y)
        assert names[labels.values[int(row), int(col)]] in (name, "unlabelled")
    assert (labels.values > 0).sum() > 100 and sum(agreed) > 0.6 * len(agreed) > 0, (sum(agreed), len(agreed))
