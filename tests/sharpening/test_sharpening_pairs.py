"""Pairs that are wrong, or not quite right: the right result, or one clear error."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from affine import Affine
from scipy.ndimage import shift as moved

import torchspectral as ts
from torchspectral.errors import BadInput, GridMismatch
from torchspectral.geo import grid_of, place, reproject
from torchspectral.ops.mtf import mtf_filter

UTM = Affine(10, 0, 4e5, 0, -10, 5e6)


def fine_scene(rows: int = 96, cols: int = 120, bands: int = 8):
    rng = np.random.default_rng(0)
    pure = rng.random((3, bands)).cumsum(1) / bands + 0.2
    share = mtf_filter(torch.from_numpy(rng.random((3, rows, cols))), 3, 0.3, normalize=True).numpy()
    values = (np.einsum("kyx,kb->byx", share, pure) * 1000).astype(np.float32)
    return place(ts.make_cube(values, wavelength=np.linspace(430, 900, bands)), UTM, 32633)


@pytest.fixture(scope="module")
def pair():
    return ts.simulate_wald(fine_scene(), 3)


def ergas(result, truth, ratio: int = 3) -> float:
    value: float = ts.score(result["cube"], truth, ratio=ratio, crop=9).report.figures["ERGAS"]
    return value


def test_no_overlap_is_refused(pair) -> None:
    far = place(pair["pan"], Affine(10, 0, 4.2e5, 0, -10, 5e6), 32633)
    with pytest.raises(GridMismatch, match="do not overlap"):
        ts.sharpen(pair["hs"], far)
    with pytest.raises(GridMismatch, match="do not overlap"):
        ts.sharpen(pair["hs"], place(pair["pan"], UTM, 32601), resample=True)


def test_another_crs_is_reprojected_and_said(pair) -> None:
    other = reproject(pair["pan"], crs=32632, resolution=10, resampling="cubic").load()
    with pytest.raises(GridMismatch, match="CRS"):
        ts.sharpen(pair["hs"], other)
    out = ts.sharpen(pair["hs"], other, resample=True)
    assert "ratio 3" in out.report.resampled[0] and "CRS" in out.report.resampled[0]
    assert grid_of(out["cube"]).crs == grid_of(pair["hs"]).crs
    assert ergas(out, pair["truth"]) < ergas(ts.sharpen(pair["hs"], pair["pan"], method="exp"), pair["truth"])


def test_a_ratio_that_is_no_whole_number(pair) -> None:
    odd = reproject(pair["pan"], resolution=12.5, resampling="cubic").load()
    with pytest.raises(GridMismatch, match=r"ratio is 2\.4.*--align"):
        ts.sharpen(pair["hs"], odd)
    out = ts.sharpen(pair["hs"], odd, resample=True)
    assert out["cube"].shape[-2:] == (64, 80) and "no whole number" in out.report.resampled[0]


def test_a_pan_that_is_not_finer(pair) -> None:
    with pytest.raises(GridMismatch, match="half as large"):
        ts.sharpen(pair["hs"], reproject(pair["pan"], resolution=25).load(), resample=True)


def test_a_larger_pan_is_cut_and_a_smaller_one_cuts_the_cube(pair) -> None:
    whole = ts.sharpen(pair["hs"], pair["pan"], method="exp")
    wide = np.pad(pair["pan"].values, ((0, 0), (7, 5), (4, 8)))
    wide = place(ts.make_cube(wide), Affine(10, 0, 4e5 - 40, 0, -10, 5e6 + 70), 32633)
    out = ts.sharpen(pair["hs"], wide, method="exp")
    np.testing.assert_array_equal(out["cube"].values, whole["cube"].values)
    assert any("cut to the cube's ground" in note for note in out.report.notes)
    small = pair["pan"].isel(y=slice(31, 80), x=slice(9, 100))
    out = ts.sharpen(pair["hs"], small, method="exp")
    assert out["cube"].shape == (8, 45, 90) and any(
        "rows 12-26 and columns 4-33" in line for line in out.report.dropped
    )
    corner = out["cube"]
    assert (float(corner["x"][0]), float(corner["y"][0])) == (4e5 + 95, 5e6 - 335)


def test_one_band_flat_pan_and_empty_tiles(pair) -> None:
    one = ts.sharpen(pair["hs"].isel(band=[3]), pair["pan"])
    assert one["cube"].shape == (1, 96, 120) and np.isfinite(one["cube"].values).all()
    flat = pair["pan"].copy(data=np.full_like(pair["pan"].values, 5))
    plain = ts.sharpen(pair["hs"], pair["pan"], method="exp")["cube"].values
    for method in ("gsa", "mtf-glp-fs"):
        np.testing.assert_allclose(ts.sharpen(pair["hs"], flat, method=method)["cube"].values, plain, rtol=1e-5)
    guided = ts.sharpen(pair["hs"], flat, method="guided")
    np.testing.assert_allclose(guided["cube"].values, plain, rtol=1e-5)
    assert "no guide is left: the cube was interpolated" in guided.report.notes
    holed = pair["hs"].copy(deep=True)
    holed.values[:, :16] = np.nan
    for method, inputs in (("gsa", {"pan": pair["pan"]}), ("guided", {"guides": pair["pan"]})):
        out = ts.sharpen(holed, method=method, tile=(16, 16), **inputs)["cube"].values
        assert np.isnan(out[:, :51]).all() and np.isfinite(out[:, 51:]).all()
    with pytest.raises(BadInput):
        ts.sharpen(pair["hs"] * np.nan, guides=pair["pan"])


@pytest.mark.parametrize("method", ["exp", "gsa"])
def test_a_shifted_pan_is_told_and_nothing_is_moved(pair, method: str, caplog) -> None:
    pan = pair["pan"].copy(data=moved(pair["pan"].values[0], (1.5, -0.9), order=3, mode="nearest")[None])
    with caplog.at_level(logging.WARNING, logger="torchspectral"):
        out = ts.sharpen(pair["hs"], pan, method=method)
    assert out.report.figures["pan_shift"] == pytest.approx([0.5, -0.3], abs=0.03)
    assert any("coregister" in note for note in out.report.notes) and "coregister" in caplog.text
    silent = ts.sharpen(pair["hs"], pan, method=method, check_shift=False)
    assert "pan_shift" not in silent.report.figures and not silent.report.notes
    np.testing.assert_array_equal(silent["cube"].values, out["cube"].values)
    right = ts.sharpen(pair["hs"], pair["pan"], method=method)
    assert np.abs(right.report.figures["pan_shift"]).max() < 0.03
    assert not any("coregister" in note for note in right.report.notes)


def test_a_pan_of_something_else_tells_no_shift(pair) -> None:
    noise = np.random.default_rng(5).normal(1000, 100, pair["pan"].shape).astype(np.float32)
    out = ts.sharpen(pair["hs"], pair["pan"].copy(data=noise))
    assert any("too little in common" in note for note in out.report.notes)
