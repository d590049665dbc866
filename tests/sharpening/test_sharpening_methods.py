from __future__ import annotations

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

import torchspectral as ts
from torchspectral.geo import grid_of, place
from torchspectral.registry import create, methods
from torchspectral.sharpening import fuse

CLASSICAL = [
    *("exp", "gsa", "bt-h", "bdsd-pc", "pracs", "awlp", "mf", "sr-d"),
    *("mtf-glp-fs", "mtf-glp-hpm", "mtf-glp-hpm-r"),
]
ADDITIVE = ["exp", "gsa", "bdsd-pc", "pracs", "sr-d", "mtf-glp-fs"]


@pytest.fixture(autouse=True)
def _no_shift_check(monkeypatch):
    """The look for a shift has tests of its own."""
    monkeypatch.setattr("torchspectral.sharpening.shift_check.tell_shift", lambda *given: None)


def _scene(bands: int = 5, rows: int = 30, cols: int = 23, ratio: int = 3, seed: int = 0, offset: float = 800.0):
    """Correlated bands and a PAN that is a weighted mean of them at fine resolution."""
    rng = np.random.default_rng(seed)
    fine = rng.standard_normal((3, rows * ratio, cols * ratio)).cumsum(1).cumsum(2)
    fine = (fine - fine.mean((1, 2), keepdims=True)) / fine.std((1, 2), keepdims=True)
    mix = rng.uniform(0.2, 1, (bands, 3))
    truth = offset + 150 * np.tensordot(mix, fine, 1) + 5 * rng.standard_normal((bands, rows * ratio, cols * ratio))
    pan = truth[: max(1, bands // 2)].mean(0, keepdims=True)
    low = truth.reshape(bands, rows, ratio, cols, ratio).mean((2, 4))
    hs = ts.make_cube(low.astype(np.float32), wavelength=np.linspace(450, 900, bands))
    hs = place(hs, Affine(30, 0, 4e5, 0, -30, 5e6), "EPSG:32633")
    fine_pan = place(
        ts.make_cube(pan.astype(np.float32)), Affine(30 / ratio, 0, 4e5, 0, -30 / ratio, 5e6), "EPSG:32633"
    )
    return hs, fine_pan, truth


@pytest.mark.parametrize("method", CLASSICAL)
@pytest.mark.parametrize("ratio", [3, 4])
def test_tiles_agree_with_the_whole(method: str, ratio: int) -> None:
    hs, pan, _ = _scene(ratio=ratio)
    whole = ts.sharpen(hs, pan, method=method)
    tiled = ts.sharpen(hs, pan, method=method, tile=12)
    assert np.abs(whole["cube"] - tiled["cube"]).max() < 2e-3
    assert whole["cube"].shape == (5, 30 * ratio, 23 * ratio)
    grid = grid_of(whole["cube"])
    assert grid.transform == grid_of(pan).transform and grid.crs == grid_of(pan).crs
    assert np.array_equal(whole["cube"]["wavelength"], hs["wavelength"])


@pytest.mark.parametrize("method", CLASSICAL)
def test_holes_stay_holes_and_tiles_still_agree(method: str) -> None:
    hs, pan, _ = _scene()
    hs.values[:, 4:6, 7:10] = np.nan
    hs.values[:, 20, 3] = np.nan
    whole = ts.sharpen(hs, pan, method=method)["cube"]
    tiled = ts.sharpen(hs, pan, method=method, tile=12)["cube"]
    hole = np.repeat(np.repeat(maximum_filter(np.isnan(hs.values), (1, 3, 3)), 3, 1), 3, 2)
    assert np.array_equal(np.isnan(whole.values), hole) and np.array_equal(np.isnan(tiled.values), hole)
    assert np.nanmax(np.abs(whole.values - tiled.values)) < 2e-3


@pytest.mark.parametrize("method", CLASSICAL)
def test_statistics_see_valid_pixels_only(method: str) -> None:
    """What stands under nodata does not matter: the mask and NaN give the same, whatever the values were."""
    hs, pan, _ = _scene()
    keep = np.ones(hs.shape[-2:], dtype=bool)
    keep[:5] = False
    masked = ts.sharpen(hs, pan, method=method, mask=keep)["cube"]
    spoiled = hs.copy(deep=True)
    spoiled.values[:, :5] *= 7
    other = ts.sharpen(spoiled, pan, method=method, mask=keep)["cube"]
    assert np.isnan(masked.values[:, :18]).all()
    assert np.allclose(masked.values[:, 18:], other.values[:, 18:], atol=1e-3)


@pytest.mark.parametrize("method", ADDITIVE)
def test_constant_pan_gives_the_interpolated_image(method: str) -> None:
    hs, pan, _ = _scene()
    plain = ts.sharpen(hs, pan, method="exp")["cube"]
    flat = ts.sharpen(hs, pan * 0 + 431.7, method=method)["cube"]
    assert np.abs(plain - flat).max() < 1e-2


@pytest.mark.parametrize("method", CLASSICAL)
def test_constant_pan_and_constant_bands_stay_finite(method: str) -> None:
    hs, pan, _ = _scene()
    hs.values[2] = 0
    hs.values[3] = 77
    for fine in (pan, pan * 0 + 5, pan * 0):
        out = ts.sharpen(hs, fine, method=method)["cube"].values
        assert np.isfinite(out).all()
        assert np.allclose(out[2], 0, atol=1e-3) and np.allclose(out[3], 77, atol=0.2)


@pytest.mark.parametrize("method", CLASSICAL)
@pytest.mark.parametrize("shape", [(1, 9, 7), (40, 3, 4), (2, 1, 1), (3, 1, 6)])
def test_one_band_tiny_scenes_and_more_bands_than_pixels(method: str, shape: tuple[int, int, int]) -> None:
    hs, pan, _ = _scene(*shape)
    if shape[1] * shape[2] == 1:
        hs.values[:] = 800
    out = ts.sharpen(hs, pan, method=method)["cube"]
    assert out.shape == (shape[0], 3 * shape[1], 3 * shape[2]) and np.isfinite(out.values).all()


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(CLASSICAL), st.integers(2, 12), st.integers(2, 9), st.integers(2, 9))
def test_any_ratio_and_shape(method: str, ratio: int, rows: int, cols: int) -> None:
    hs, pan, _ = _scene(3, rows, cols, ratio)
    hs, pan = torch.from_numpy(hs.values), torch.from_numpy(pan.values)
    out = fuse(hs, pan, method)
    assert out.shape == (3, rows * ratio, cols * ratio) and bool(torch.isfinite(out).all())


@pytest.mark.parametrize("method", CLASSICAL)
def test_single_precision_is_enough(method: str) -> None:
    hs, pan, _ = _scene(bands=30, offset=20000.0)
    single = fuse(torch.from_numpy(hs.values), torch.from_numpy(pan.values), method)
    double = fuse(torch.from_numpy(hs.values).double(), torch.from_numpy(pan.values).double(), method)
    assert single.dtype == torch.float32 and float((single - double).abs().max()) < 0.2


@pytest.mark.parametrize("method", [name for name in CLASSICAL if name not in ("exp", "sr-d")])
def test_detail_helps(method: str) -> None:
    hs, pan, truth = _scene(ratio=4)
    plain = fuse(torch.from_numpy(hs.values), torch.from_numpy(pan.values), "exp")
    sharp = fuse(torch.from_numpy(hs.values), torch.from_numpy(pan.values), method)
    error = [float((out - torch.from_numpy(truth)).square().mean()) for out in (plain, sharp)]
    assert error[1] < 0.8 * error[0]


@pytest.mark.parametrize("method", CLASSICAL)
def test_scale_does_not_matter(method: str) -> None:
    hs, pan, _ = _scene()
    counts = ts.sharpen(hs, pan, method=method)["cube"].values
    small = ts.sharpen(hs * 1e-4, pan * 1e-4, method=method)["cube"].values
    assert np.allclose(counts, small * 1e4, rtol=1e-4, atol=0.05)


def test_negative_values_are_counted_and_kept_quiet() -> None:
    hs, pan, _ = _scene()
    hs.values[:, :3, :3] = -5
    result = ts.sharpen(hs, pan, method="mtf-glp-hpm")
    assert result.report.figures["values_not_positive"] == 5 * 9
    corner = ts.sharpen(hs, pan, method="exp")["cube"].values[:, :6, :6]
    assert np.allclose(
        result["cube"].values[:, :6, :6], np.where(corner > 0, result["cube"].values[:, :6, :6], corner), atol=1e-3
    )


def test_awlp_says_where_it_fails() -> None:
    """Water: bands at or below zero are left alone and counted, band by band; so is the luminance that is held."""
    hs, pan, _ = _scene()
    hs.values[:, :4, :4] = 2
    hs.values[1, :3, :3] = -5
    result = ts.sharpen(hs, pan, method="awlp")
    figures = result.report.figures
    assert figures["values_not_positive_by_band"] == {2: 9} and figures["values_not_positive"] == 9
    assert figures["pixels_held"] > 50 and figures["luminance_floor"] > 2
    plain = ts.sharpen(hs, pan, method="exp")["cube"].values
    out, low = result["cube"].values, plain[1] <= 0
    assert low.any() and np.array_equal(out[1][low], plain[1][low])


def test_integer_counts_and_overlapping_detectors_in_any_order() -> None:
    hs, pan, _ = _scene(bands=6)
    counts = hs.round().astype(np.int16).assign_coords(detector=("band", ["vnir"] * 3 + ["swir"] * 3))
    order = [3, 0, 4, 1, 5, 2]
    for method in ("bdsd-pc", "pracs", "awlp", "mf", "sr-d"):
        one = ts.sharpen(counts, pan.round().astype(np.int16), method=method)["cube"]
        other = ts.sharpen(counts.isel(band=order), pan.round().astype(np.int16), method=method)["cube"]
        assert one.dtype == np.float32 and np.abs(one.isel(band=order).values - other.values).max() < 0.05


def test_bad_bands_come_back_empty() -> None:
    hs, pan, _ = _scene()
    hs = hs.assign_coords(good=("band", [True, False, True, True, True]))
    out = ts.sharpen(hs, pan)
    assert np.isnan(out["cube"].values[1]).all() and np.isfinite(out["cube"].values[[0, 2, 3, 4]]).all()
    assert out.report.dropped


def test_a_state_can_be_used_again() -> None:
    hs, pan, _ = _scene()
    learned = {}

    def remember(state):
        learned.update(state)
        return {}

    method = create("sharpening", "gsa")
    method.figures = remember  # the engine hands the state over here
    from torchspectral.engine import run

    first = run(method, {"cube": hs, "pan": pan})["cube"]
    again = ts.sharpen(hs, pan, state=learned)["cube"]
    assert np.array_equal(first.values, again.values)
    doubled = ts.sharpen(hs, pan * 2, state=learned)["cube"]
    assert not np.allclose(first.values, doubled.values)


def test_cards_say_what_the_classes_do() -> None:
    for card in methods("sharpening"):
        method = create("sharpening", card.name)
        assert card.scope == method.scope.value, card.name
        assert [i.role for i in method.inputs if not i.optional] == [n for n in card.needs if n != "weights"]


def test_datasets_and_layers_as_pan() -> None:
    import xarray as xr

    hs, pan, _ = _scene()
    fine = pan.isel(band=0, drop=True)
    expected = ts.sharpen(hs, pan)["cube"].values
    assert np.array_equal(ts.sharpen(hs, fine)["cube"].values, expected)
    layer = ts.make_layers(pan.values, ["pan"]).rename(y="y_pan", x="x_pan")
    dataset = xr.Dataset({"cube": hs, "pan": layer.assign_coords(y_pan=pan["y"].values, x_pan=pan["x"].values)})
    assert np.array_equal(ts.sharpen(dataset)["cube"].values, expected)
