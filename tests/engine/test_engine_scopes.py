"""Every scope: what comes back, and that tiles and workers do not matter."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from engine_methods import (
    Blur,
    Boxes,
    Classify,
    Contrast,
    Destripe,
    Follow,
    Negate,
    Rank,
    Repair,
    Scaled,
    Sharpen,
    scene,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import torchspectral as ts
from torchspectral.cube import make_layers, make_spectra
from torchspectral.engine.method import Scope
from torchspectral.errors import BandMismatch, GridMismatch, TorchspectralError
from torchspectral.geo import grid_of


def run(method, inputs, **options):
    if isinstance(inputs, xr.DataArray):
        inputs = {"cube": inputs}
    return ts.run(method, inputs, options=ts.RunOptions(**options))


def same(a, b, exact=False):
    assert list(a) == list(b)
    for name in a:
        if isinstance(a[name], xr.DataArray):
            if exact:
                np.testing.assert_array_equal(a[name], b[name])
            else:
                np.testing.assert_allclose(a[name], b[name], rtol=2e-6, atol=1e-6)
        else:
            assert a[name].equals(b[name])


def test_pixel_keeps_everything_and_says_what_was_done():
    cube = scene()
    result = run(Negate(), cube)
    out = result.primary
    assert out.dims == cube.dims and out.dtype == np.float32
    good = cube["good"].values
    expected = -cube.values[good]
    nodata = np.isnan(cube.values[good]).all(0)
    np.testing.assert_array_equal(np.isnan(out.values[good]), np.broadcast_to(nodata, expected.shape))
    whole = ~np.isnan(expected)
    np.testing.assert_array_equal(out.values[good][whole], expected[whole])
    assert np.isnan(out.values[~good]).all()
    for name in ("wavelength", "fwhm", "good", "number", "x", "y"):
        np.testing.assert_array_equal(out[name], cube[name])
    assert grid_of(out) == grid_of(cube)
    assert out.attrs["quantity"] == "reflectance" and "Negate" in out.attrs["history"][-1]
    assert "1 of 5 bands marked bad: 4" in result.report.dropped
    assert any("missed some bands" in line for line in result.report.filled)
    assert any(f"{nodata.sum()} nodata pixels" in line for line in result.report.filled)


def test_infinite_values_count_as_missing_and_are_told():
    cube = scene(bands=4, holes=False)
    cube.values[1, 10, 10] = np.inf
    cube.values[:, 11, 11] = -np.inf
    cube.values[0, 12, 12] = np.nan
    result = run(Negate(), cube, tile=8)
    assert result.report.filled[0] == "2 pixels with infinite values, which count as missing"
    assert np.isfinite(result.primary.values[:, 10, 10]).all() and np.isnan(result.primary.values[:, 11, 11]).all()


def test_missing_bands_are_interpolated_along_the_spectrum():
    cube = scene(bands=4, holes=False)
    cube.values[1, 10, 10] = np.nan
    cube.values[3, 11, 11] = np.nan
    out = run(Negate(), cube).primary.values
    w = cube["wavelength"].values
    share = (w[1] - w[0]) / (w[2] - w[0])
    expected = cube.values[0, 10, 10] + share * (cube.values[2, 10, 10] - cube.values[0, 10, 10])
    assert out[1, 10, 10] == pytest.approx(-expected, rel=1e-6)
    assert out[3, 11, 11] == pytest.approx(-cube.values[2, 11, 11])


@pytest.mark.parametrize("method", [Blur(), Destripe(), Boxes()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("tile", [(8, 8), (13, 60), (60, 5), (7, 11)])
def test_tiled_equals_untiled(method, tile):
    cube = scene()
    whole = run(method, cube, tile=(64, 64))
    tiled = run(method, cube, tile=tile)
    if isinstance(method, Boxes):
        order = ["y0", "x0"]
        a, b = (r["boxes"].sort_values(order).reset_index(drop=True) for r in (whole, tiled))
        assert len(a) > 3 and a.equals(b)
        first = a.iloc[0]
        assert cube.values[0, first["y0"], first["x0"]] > 2.2
    else:
        same(whole, tiled)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 30),
    cols=st.integers(1, 30),
    tile=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    holes=st.floats(0, 0.95),
    seed=st.integers(0, 99),
)
def test_filling_does_not_depend_on_the_tiles(rows, cols, tile, holes, seed):
    rng = np.random.default_rng(seed)
    cube = scene(bands=2, rows=rows, cols=cols, seed=seed, holes=False)
    empty = rng.random((rows, cols)) < holes
    empty[rng.integers(rows), rng.integers(cols)] = False
    cube.values[:, empty] = np.nan
    same(run(Blur(), cube, tile=(64, 64)), run(Blur(), cube, tile=tile))


@pytest.mark.parametrize("method", [Negate(), Blur(), Destripe(), Contrast(), Rank()], ids=lambda m: type(m).__name__)
def test_two_workers_give_the_same_bytes(method, two_workers):
    cube = scene()
    tile = None if method.scope in (Scope.TILE, Scope.SCENE) else (16, 16)
    same(run(method, cube, tile=tile), two_workers(method, cube), exact=True)


def test_batches_are_a_matter_of_rounding():
    cube = scene()
    same(run(Blur(), cube, tile=(8, 8)), run(Blur(), cube, tile=(8, 8), batch=5))
    same(run(Contrast(), cube), run(Contrast(), cube, batch=3))


def test_tiles_are_blended_without_seams():
    cube = scene(holes=False)

    class Constant(Contrast):
        def apply(self, tile, state):
            return {"cube": tile.lead, "class": (tile.lead[:, :1] > 1.5).to("cpu").byte()}

    result = run(Constant(), cube)
    np.testing.assert_allclose(result["cube"], cube, rtol=1e-6)
    np.testing.assert_array_equal(result["class"][0], cube[0] > 1.5)
    assert any("16 x 16" in note for note in result.report.notes)


def test_frames_pass_their_state_on():
    frames = xr.concat([scene(holes=False, seed=s) for s in range(4)], "time").transpose("time", "band", "y", "x")
    frames.attrs = scene().attrs
    result = run(Follow(), {"video": frames})
    mean = np.zeros(frames.shape[1:], np.float32)
    for t in range(4):
        mean = 0.8 * mean + 0.2 * frames.values[t]
        np.testing.assert_allclose(result["cube"].values[t], frames.values[t] - mean, atol=1e-5)
    assert list(result["tracks"]["frame"]) == [0, 1, 2, 3]
    assert result["cube"].dims == ("time", "band", "y", "x")


def test_one_image_is_a_video_of_one_frame():
    assert run(Follow(), {"video": scene()})["cube"].dims == ("band", "y", "x")


def pan_of(cube, ratio):
    from torchspectral.geo import place

    t = grid_of(cube).scaled(ratio).transform
    values = np.random.default_rng(3).random((1, cube.sizes["y"] * ratio, cube.sizes["x"] * ratio)).astype(np.float32)
    return place(ts.make_cube(values, quantity="reflectance"), t, "EPSG:32632")


@pytest.mark.parametrize("ratio", [2, 3])
def test_finer_role_and_finer_outputs(ratio):
    cube = scene()
    pan = pan_of(cube, ratio)
    pan.values[0, 30:33, 12:20] = np.nan
    result = run(Sharpen(), {"cube": cube, "pan": pan}, tile=(16, 16))
    whole = run(Sharpen(), {"cube": cube, "pan": pan}, tile=(64, 64))
    same(result, whole)
    out = result["cube"]
    assert out.shape == (5, 60 * ratio, 47 * ratio) and grid_of(out) == grid_of(pan)
    up = np.repeat(np.repeat(cube.values, ratio, 1), ratio, 2)[0]
    expected = np.where(np.isnan(pan.values[0]), np.nan, up + pan.values[0])
    np.testing.assert_allclose(out.values[0], expected, rtol=1e-6)
    assert result["double"].shape == (1, 120, 94)
    assert grid_of(result["double"]) == grid_of(cube).scaled(2)


def test_roles_on_other_grids_are_refused_or_resampled():
    cube = scene()
    pan = pan_of(cube, 2)
    with pytest.raises(GridMismatch, match="twice as fine"):
        run(Sharpen(), {"cube": cube, "pan": cube})
    off = pan.isel(y=slice(1, 119), x=slice(0, 92))
    with pytest.raises(GridMismatch, match="resample=True"):
        run(Sharpen(), {"cube": cube, "pan": off})
    result = run(Sharpen(), {"cube": cube, "pan": off}, resample=True)
    assert result["cube"].shape == (5, 120, 94)
    assert result.report.resampled
    moved = pan.assign_coords(x=pan["x"] + 4)
    with pytest.raises(GridMismatch, match="corners"):
        run(Sharpen(), {"cube": cube, "pan": moved})


def test_labels_only_reach_fit_and_classes_have_nodata():
    cube = scene()
    labels = np.zeros((60, 47), np.int16)
    labels[:30, :20], labels[30:, 20:] = 1, 2
    result = run(Classify(), {"cube": cube, "labels": make_layers(labels[None], ["classes"], like=cube)}, tile=(16, 16))
    classes = result["classes"]
    assert classes.dtype == np.uint8 and classes.attrs["nodata"] == 255
    nodata = np.isnan(cube.values[cube["good"].values]).all(0)
    np.testing.assert_array_equal(classes.values[0] == 255, nodata)
    assert set(np.unique(classes.values)) <= {1, 2, 255}
    assert result["counts"]["pixels"].sum() == 60 * 47


@pytest.mark.parametrize("rule", ["physical", "fixed", "max", "meanstd"])
def test_working_scales_and_back(rule):
    cube = scene(bands=3, holes=False)
    cube.values[:, :4, :4] = np.nan
    library = make_spectra(np.ones((2, 3)), ["a", "b"], wavelength=cube["wavelength"])
    result = run(Scaled(Scaled.Settings.make(rule=rule)), {"cube": cube, "library": library}, tile=(16, 47))
    np.testing.assert_allclose(result["cube"], cube, rtol=1e-5)
    seen, v = result["seen"].values, cube.values
    expected = {
        "physical": v,
        "fixed": (v - 1) / np.array([2, 4, 8], np.float32)[:, None, None],
        "max": v / np.nanmax(v),
        "meanstd": (v - np.nanmean(v, (1, 2), keepdims=True)) / np.nanstd(v, (1, 2), keepdims=True),
    }[rule]
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)
    assert bool(result.report.scaled) == (rule != "physical")
    assert all(line.endswith("undone in cube alone") for line in result.report.scaled)


def test_integers_with_nodata_and_packed_integers():
    numbers = np.random.default_rng(0).integers(1, 500, (3, 9, 8)).astype(np.int16)
    numbers[:, 2, 2] = -999
    dn = ts.make_cube(numbers, attrs={"nodata": -999})
    out = run(Negate(), dn).primary
    assert np.isnan(out.values[:, 2, 2]).all() and out.values[0, 0, 0] == -numbers[0, 0, 0]
    assert "nodata" not in out.attrs
    packing = {"scale": [0.1, 0.2, 0.5], "offset": [1.0], "nodata": -999}
    packed = ts.make_cube(numbers, quantity="reflectance", attrs={"packing": packing})
    out = run(Negate(), packed).primary
    np.testing.assert_allclose(out.values[:, 0, 0], -(numbers[:, 0, 0] * [0.1, 0.2, 0.5] + 1), rtol=1e-6)
    assert np.isnan(out.values[:, 2, 2]).all() and "packing" not in out.attrs


def test_masks_take_pixels_out():
    cube = scene(holes=False)
    keep = xr.DataArray(np.random.default_rng(0).random((60, 47)) > 0.3, dims=("y", "x"))
    out = run(Blur(), cube, mask=keep, tile=(16, 16))
    np.testing.assert_array_equal(np.isnan(out["cube"].values[0]), ~keep.values)
    same(out, run(Blur(), cube, mask=keep, tile=(64, 64)))


def test_band_choices():
    cube = scene()
    assert np.isfinite(run(Negate(), cube, bands="all").primary[3].values).any()
    chosen = run(Negate(), cube, bands=[0, 2]).primary
    assert np.isnan(chosen[[1, 3, 4]]).all() and np.isfinite(chosen[[0, 2]]).any()
    with pytest.raises(BandMismatch):
        run(Negate(), cube, bands=[9])


def test_methods_that_repair_see_all_bands_and_gaps():
    cube = scene()
    result = run(Repair(), cube)
    nodata = np.isnan(cube.values).all(0)
    np.testing.assert_array_equal(np.isnan(result.primary.values[0]), nodata)
    assert (result.primary.values[2, 30, :42] == 7).all()
    assert not result.report.dropped


def test_multiple_of_tile_origins_and_halos():
    seen = []

    class Even(Blur):
        multiple = 4

        def apply(self, tile, state):
            seen.append((tile.window, tile.inner))
            return super().apply(tile, state)

    run(Even(), scene(), tile=(12, 12))
    for window, inner in seen:
        assert window.row % 4 == window.col % 4 == inner.row % 4 == inner.col % 4 == 0
        assert window.row + window.height == 60 or window.height % 4 == 0


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda cube: ts.run(Negate, {"cube": cube}), "expected an instance"),
        (lambda cube: ts.run(Negate(), [cube]), "mapping of roles"),
        (lambda cube: ts.run(Negate(), {"cube": cube}, out={"cube": 5}), "got 5 as a name"),
        (lambda cube: ts.run(Negate(), {"cube": cube}, out="n" * 300 + ".tif"), "too long"),
        (lambda cube: ts.run(Negate(), {"cube": cube}, options={"mask": np.ones((2, 2, 9, 9))}), "4 dimensions"),
    ],
)
def test_calls_of_the_wrong_kind(call, told):
    with pytest.raises(TorchspectralError, match=told):
        call(scene())
