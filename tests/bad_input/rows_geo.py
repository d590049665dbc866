"""Bad input to geo: boxes, grids, mosaics, warps, tables, co-registration."""

from __future__ import annotations

import numpy as np
from affine import Affine
from table import Row

import torchspectral as ts
from torchspectral import geo
from torchspectral.errors import (
    BadCube,
    BadInput,
    BadSettings,
    BandMismatch,
    GridMismatch,
    MissingMetadata,
)

UTM = Affine(30.0, 0, 362175.0, 0, -30.0, 5809965.0)


def scene(rows: int = 24, cols: int = 30, transform: Affine | None = UTM, crs: object = 32633, bands: int = 2):
    values = np.random.default_rng(0).random((bands, rows, cols), dtype=np.float32)
    return geo.place(ts.make_cube(values, wavelength=500 + 10.0 * np.arange(bands)), transform, crs)


def swath(lon_add: float = 0.0, spread: float = 0.01):
    lat, lon = np.meshgrid(50 - spread * np.arange(20), 10 + spread * np.arange(20) + lon_add, indexing="ij")
    return geo.place_swath(ts.make_cube(np.ones((1, 20, 20))), lon, lat)


def _table(tmp, x, y):
    return geo.GLT(x, y, UTM, 4326)


ROWS = [
    Row("box-outside", lambda tmp: geo.crop(scene(), (0, 0, 10, 10)), GridMismatch, r"spans 362175.*= 12\.\d+.*deg"),
    Row("box-outside-degrees", lambda tmp: geo.crop(scene(), (1, 1, 2, 2), crs=4326), GridMismatch, "WGS 84.*outside"),
    Row("box-reversed", lambda tmp: geo.crop(scene(), (9, 0, 1, 10)), GridMismatch, "west < east"),
    Row("box-of-three", lambda tmp: geo.crop(scene(), (0, 0, 1)), GridMismatch, "four numbers"),
    Row("box-nan", lambda tmp: geo.crop(scene(), (0, 0, float("nan"), 1)), GridMismatch, "west < east"),
    Row("box-nowhere", lambda tmp: geo.crop(scene(transform=None), (0, 0, 1, 1)), GridMismatch, "lies nowhere"),
    Row("box-crs-nonsense", lambda tmp: geo.crop(scene(), (0, 0, 1, 1), crs="EPSG:x"), GridMismatch, "EPSG:n or WKT"),
    Row("box-crs-of-none", lambda tmp: geo.crop(scene(crs=None), (0, 0, 1, 1), crs=4326), GridMismatch, "no CRS"),
    Row("box-swath-outside", lambda tmp: geo.crop(swath(), (0, 0, 1, 1)), GridMismatch, "lon/lat swath"),
    Row("window-outside", lambda tmp: geo.window(scene(), 20, 0, 10, 10), GridMismatch, "leaves the image"),
    Row("pixels-picked", lambda tmp: geo.grid_of(scene().isel(x=[0, 1, 5])), GridMismatch, "evenly spaced"),
    Row(
        "one-pixel-no-size",
        lambda tmp: geo.grid_of(
            ts.make_cube(np.ones((1, 1, 1))).assign_coords(
                spatial_ref=((), 0, {"crs_wkt": "EPSG:32633", "grid_kind": "map"})
            )
        ),
        MissingMetadata,
        "pixel size",
    ),
    Row("glt-shapes", lambda tmp: _table(tmp, np.ones((2, 2), int), np.ones((2, 3), int)), GridMismatch, "2-D"),
    Row("glt-fractions", lambda tmp: _table(tmp, np.full((2, 2), 1.5), np.ones((2, 2))), GridMismatch, "fractions"),
    Row("glt-text", lambda tmp: _table(tmp, np.full((2, 2), "a"), np.ones((2, 2))), GridMismatch, "whole numbers"),
    Row(
        "glt-of-another-scene",
        lambda tmp: geo.orthorectify(
            geo.place_swath(
                ts.make_cube(np.ones((1, 4, 4))),
                np.ones((4, 4)),
                np.ones((4, 4)),
                geo.GLT(np.full((3, 3), 99), np.full((3, 3), 99), UTM, 4326),
            )
        ),
        GridMismatch,
        "another scene",
    ),
    Row("ortho-map", lambda tmp: geo.orthorectify(scene()), GridMismatch, "expected a swath"),
    Row("ortho-method", lambda tmp: geo.orthorectify(swath(), method="cubic"), BadSettings, "nearest, bilinear"),
    Row("ortho-resolution", lambda tmp: geo.orthorectify(swath(), -3.0), GridMismatch, "positive number"),
    Row("ortho-no-degrees", lambda tmp: geo.orthorectify(swath(lon_add=5000)), GridMismatch, "not degrees"),
    Row("ortho-one-place", lambda tmp: geo.orthorectify(swath(spread=0.0)), BadInput, "one line"),
    Row(
        "ortho-no-positions",
        lambda tmp: geo.orthorectify(
            geo.place_swath(ts.make_cube(np.ones((1, 4, 4))), np.full((4, 4), np.nan), np.full((4, 4), np.nan))
        ),
        BadInput,
        "have a position",
    ),
    Row(
        "swath-size",
        lambda tmp: geo.place_swath(ts.make_cube(np.ones((1, 4, 4))), np.ones((4, 5)), np.ones((4, 5))),
        GridMismatch,
        "expected",
    ),
    Row("mosaic-of-nothing", lambda tmp: geo.mosaic([]), BadCube, "at least one"),
    Row("mosaic-method", lambda tmp: geo.mosaic([scene()], "meen"), BadSettings, "mean"),
    Row(
        "mosaic-crs",
        lambda tmp: geo.mosaic([scene(), scene(crs=32634)]),
        GridMismatch,
        "zone 34N.*zone 33N.*resampling",
    ),
    Row("mosaic-bands", lambda tmp: geo.mosaic([scene(), scene(bands=3)]), BandMismatch, "3 bands"),
    Row("mosaic-swath", lambda tmp: geo.mosaic([swath()]), GridMismatch, "orthorectify"),
    Row("mosaic-nowhere", lambda tmp: geo.mosaic([scene(transform=None)]), GridMismatch, "geo.place"),
    Row("reproject-unknown", lambda tmp: geo.reproject(scene(), resampling="linear"), BadSettings, "bilinear"),
    Row("reproject-no-crs", lambda tmp: geo.reproject(scene(crs=None), 4326), GridMismatch, "no CRS"),
    Row("reproject-zero", lambda tmp: geo.reproject(scene(), resolution=0), GridMismatch, "positive"),
    Row("reproject-both", lambda tmp: geo.reproject(scene(), 4326, like=scene()), GridMismatch, "one or the other"),
    Row("align-to-swath", lambda tmp: geo.align(scene(), swath()), GridMismatch, "orthorectify"),
    Row(
        "coregister-apart",
        lambda tmp: geo.coregister(scene(), scene(transform=Affine(30.0, 0, 0, 0, -30.0, 0))),
        GridMismatch,
        "share 0 x 0",
    ),
    Row("coregister-video", lambda tmp: geo.coregister(scene().expand_dims("time"), scene()), BadCube, "pick one"),
    Row("coregister-nan", lambda tmp: geo.coregister(scene() * np.nan, scene()), GridMismatch, "share"),
    Row("coregister-flat", lambda tmp: geo.coregister(scene() * 0, scene()), BadInput, "constant"),
    Row("coregister-cutoff", lambda tmp: geo.coregister(scene(), scene(), cutoff=2.0), BadSettings, "cutoff"),
    Row("coregister-bands", lambda tmp: geo.coregister(scene(), scene(), bands=[9]), BandMismatch, "does not exist"),
]
