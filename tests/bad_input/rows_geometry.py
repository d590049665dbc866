"""Bad input to orthorectification onto other grids, mosaics, STAC items and item collections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from table import Row

import torchspectral as ts
from torchspectral import geo
from torchspectral.cli.batch import expand
from torchspectral.errors import (
    BadSettings,
    BandMismatch,
    BrokenProduct,
    GridMismatch,
    MissingMetadata,
    OutputExists,
    ProductNotFound,
    UnsafeInput,
)

UTM = Affine(30.0, 0, 362175.0, 0, -30.0, 5809965.0)


def scene(left: float = 362175.0, bands: int = 2, acquired: str | None = "2022-07-24T10:45:26Z") -> Any:
    values = np.random.default_rng(0).random((bands, 12, 16), dtype=np.float32)
    cube = ts.make_cube(values, wavelength=500 + 10.0 * np.arange(bands), quantity="reflectance")
    cube.attrs |= {"acquired": acquired} if acquired else {}
    return geo.place(cube, Affine(30.0, 0, left, 0, -30.0, 5809965.0), 32633)


def swath(dtype: str = "float32", middle: float = 50.0) -> Any:
    lat, lon = np.meshgrid(middle - 0.01 * np.arange(8), 10 + 0.01 * np.arange(9), indexing="ij")
    cube = geo.place_swath(ts.make_cube(np.ones((1, 8, 9), dtype)), lon, lat)
    return cube.assign_attrs(nodata=0) if dtype != "float32" else cube


def polar() -> Any:
    from pyproj import Transformer

    x, y = np.meshgrid(2e6 + 3e4 * np.arange(-5, 6), 2e6 - 3e4 * np.arange(-5, 6))
    lon, lat = Transformer.from_crs(5041, 4326, always_xy=True).transform(x, y)
    return geo.place_swath(ts.make_cube(np.ones((1, 11, 11))), lon, lat)


def _saved(folder: Path, name: str = "scene.tif", **more: Any) -> Path:
    ts.save(scene(**more), folder / name)
    return folder / name


def _pair(folder: Path, **more: Any) -> tuple[Path, Path]:
    return _saved(folder, "a.tif"), _saved(folder, "b.tif", **more)


def _items(folder: Path, *hrefs: Any) -> Path:
    _saved(folder)
    features = [
        {"type": "Feature", "id": f"item {n}", "assets": {"data": {"href": href, "roles": ["data"]}} if href else None}
        for n, href in enumerate(hrefs, start=1)
    ]
    path = folder / "items.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _collection(name: str, expect: type[Exception], message: str, *hrefs: Any) -> Row:
    return Row(
        f"items-{name}", lambda path: expand([path]), expect, message,
        prepare=lambda folder: _items(folder, *hrefs),
        cli=lambda path: ["convert", str(path), "-o", str(path.parent / "out") + "/"],
    )  # fmt: skip


def _converts(
    name: str, expect: type[Exception], message: str, *words: str, prepare: Any = _saved, **options: Any
) -> Row:
    return Row(
        f"convert-{name}", lambda f: ts.convert(f, f.parent / "o.tif", **options), expect, message, prepare=prepare,
        cli=lambda f: ["convert", str(f), "-o", str(f.parent / "o.tif"), *words],
    )  # fmt: skip


def _mosaic(name: str, expect: type[Exception], message: str, *words: str, prepare: Any, **options: Any) -> Row:
    return Row(
        f"mosaic-{name}", lambda pair: geo.mosaic([ts.open(p) for p in pair], **options), expect, message,
        prepare=prepare,
        cli=lambda pair: ["convert", *map(str, pair), "--mosaic", "-o", str(pair[0].parent / "m.tif"), *words],
    )  # fmt: skip


ROWS = [
    Row("ortho-grid-and-size", lambda f: geo.orthorectify(swath(), 30.0, grid=geo.grid_of(scene())), GridMismatch,
        "one or the other"),
    Row("ortho-onto-swath", lambda f: geo.orthorectify(swath(), grid=geo.grid_of(swath())), GridMismatch,
        "expected a map grid"),
    Row("ortho-pole-in-degrees", lambda f: geo.orthorectify(polar(), crs=4326), GridMismatch, "torn apart.*EPSG:5041"),
    Row("ortho-pole-mercator", lambda f: geo.orthorectify(polar(), crs=3857), GridMismatch, "no place in|torn apart"),
    Row("ortho-integers-bilinear", lambda f: geo.orthorectify(swath("int16"), method="bilinear"), BadSettings, "nearest"),
    Row("ortho-cubic", lambda f: geo.to_map(swath(), resampling="cubic"), BadSettings, "nearest, bilinear"),
    Row("map-nowhere", lambda f: geo.to_map(geo.place(scene(), None), crs=4326), GridMismatch, "lies nowhere"),
    Row("save-kept-and-crs", lambda f: ts.save(swath(), f / "a.tif", orthorectify=False, crs=4326), BadSettings,
        "orthorectify it"),
    Row("save-stac-spectra", lambda f: ts.save(ts.make_spectra(np.eye(2), ["a", "b"]), f / "a.csv", stac=True),
        BadSettings, "'stac'"),
    Row("save-stac-version", lambda f: ts.save(scene(), f / "a.tif", stac="2.0"), BadSettings, "1.0.0, 1.1.0"),
    Row("save-stac-time", lambda f: ts.save(scene(), f / "a.tif", stac=True, acquired="noon"), BadSettings, "ISO 8601"),
    _converts("no-time", MissingMetadata, "--acquired", "--stac", stac=True,
              prepare=lambda f: _saved(f, acquired=None)),
    _converts("crs-unknown", GridMismatch, "EPSG:n or WKT", "--crs", "EPSG:999999", crs="EPSG:999999"),
    _converts("size-zero", GridMismatch, "positive", "--resolution", "0", resolution=0),
    _converts("resampling", BadSettings, "unknown resampling 'magic'", "--resampling", "magic", "--crs", "EPSG:4326",
              resampling="magic", crs=4326),
    _mosaic("phase", GridMismatch, r"0\.333 columns.*--resampling nearest", prepare=lambda f: _pair(f, left=362185.0)),
    _mosaic("bands", BandMismatch, "has 3 bands", prepare=lambda f: _pair(f, bands=3)),
    _mosaic("rule", BadSettings, "unknown mosaic method 'centre'.*center", "--rule", "centre", prepare=_pair,
            method="centre"),
    _mosaic("crs-alone", BadSettings, "need resampling=", "--crs", "EPSG:4326", prepare=_pair, crs=4326),
    _collection("file", UnsafeInput, "item 2.*file: address", "scene.tif", "file:///etc/passwd"),
    _collection("remote", UnsafeInput, "remote.*fetch it first", "https://example.org/a.tif"),
    _collection("virtual", UnsafeInput, "virtual path", "/vsizip/scene.zip/scene.tif"),
    _collection("upwards", UnsafeInput, "leads upwards", "../scene.tif"),
    _collection("absolute", UnsafeInput, "absolute path '/etc/passwd' outside", "/etc/passwd"),
    _collection("missing", ProductNotFound, "does not exist", "nowhere.tif"),
    _collection("no-assets", BrokenProduct, "item 2 of items.geojson has no assets", "scene.tif", None),
    Row("item-in-the-way", lambda f: ts.save(scene(), f / "new.tif", stac=True), OutputExists, r"stac\.json exists",
        prepare=lambda f: [(f / "new.tif.stac.json").write_text("{}"), f][1]),
]  # fmt: skip
