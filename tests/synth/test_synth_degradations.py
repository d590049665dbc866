"""Degradations: bit-equal to the published generators, right in distribution, input unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from torchspectral.errors import BadInput, MissingMetadata
from torchspectral.synth import RECIPES, degrade_array, make_recipe
from torchspectral.synth.blur import gaussian_kernel, motion_kernel
from torchspectral.synth.haze import brightest_mean, cirrus_map, resized
from torchspectral.synth.noise import column_limits

WAVE = np.linspace(400, 1000, 12)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 0.9, (12, 40, 60))


def _hsir_stripes(x: np.ndarray, seed: int) -> np.ndarray:
    """The published stripes, written down call by call."""
    rng = np.random.RandomState(seed)
    bands, _, cols = x.shape
    out = x.copy()
    chosen = rng.permutation(range(bands))[: bands // 3]
    counts = rng.randint(np.floor(0.05 * cols), np.floor(0.15 * cols), len(chosen))
    for band, count in zip(chosen, counts, strict=True):
        place = rng.permutation(range(cols))[:count]
        out[band][:, place] -= rng.uniform(0, 1, size=(len(place),)) * 0.5 - 0.25
    return out


def test_odd_width_is_recreated_bit_for_bit() -> None:
    x = np.random.default_rng(1).random((9, 5, 33))
    made = degrade_array(x, "stripe", np.random.RandomState(7)).values
    np.testing.assert_array_equal(made, _hsir_stripes(x, 7))


def test_column_counts_of_both_rules() -> None:
    assert column_limits(33, "python", "stripe") == (1, 4)
    assert column_limits(33, "python", "deadline") == (2, 5)
    assert column_limits(512, "python", "stripe") == (25, 76)
    assert column_limits(512, "python", "deadline") == (26, 77)
    assert column_limits(512, "matlab", "stripe") == column_limits(512, "matlab", "deadline") == (26, 78)
    with pytest.raises(BadInput, match="too narrow"):
        column_limits(10, "python", "stripe") and column_limits(6, "python", "stripe")


@pytest.mark.parametrize("recipe", [*(name for name in RECIPES if name != "gaussian"), "gaussian:blind", "gaussian:30"])
def test_every_recipe_keeps_input_and_seed(image: np.ndarray, recipe: str) -> None:
    before = image.copy()
    first = degrade_array(image, recipe, 5, wavelength=WAVE)
    again = degrade_array(image, recipe, 5, wavelength=WAVE)
    other = degrade_array(image, recipe, 6, wavelength=WAVE)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(first.values, again.values)
    assert first.values.dtype == np.float64 and np.isfinite(first.values).all()
    assert not np.array_equal(first.values, image)
    fixed = recipe.split(":")[0] in ("blur", "circle", "square", "motion", "sr", "down") or recipe == "mp-hsir:motion"
    assert fixed or not np.array_equal(first.values, other.values) or recipe in ("mp-hsir:blur", "mp-hsir:sr")
    if first.values.shape == image.shape and not first.facts.bands.get("sigma", np.zeros(1)).any():
        touched = first.mask > 0
        if touched.any():
            np.testing.assert_array_equal(first.values[~touched], image[~touched])


def test_mixture_takes_disjoint_thirds() -> None:
    x = np.full((31, 30, 40), 0.5)
    found = degrade_array(x, "icvl-mixture", 3)
    facts = found.facts.bands
    kinds = np.stack([facts["stripes"] > 0, facts["dead_lines"] > 0, facts["impulses"] > 0])
    assert kinds.sum(1).tolist() == [10, 10, 10] and kinds.sum(0).max() == 1
    assert set(np.round(facts["sigma"] * 255)) <= {10, 30, 50, 70}
    assert ((found.mask == 1) == (found.values == 0))[facts["impulses"] == 0].all()


@pytest.mark.parametrize(("recipe", "kept", "error"), [("inpaint:0.8", 0.2, 0.01), ("bands:0.3", 0.7, 0.06)])
def test_share_of_lost_values(recipe: str, kept: float, error: float) -> None:
    found = degrade_array(np.ones((20, 64, 64)), recipe, 1)
    assert abs(found.values.mean() - kept) < error
    np.testing.assert_array_equal(found.mask == 1, found.values == 0)


@pytest.mark.parametrize("sigma", [10, 70])
def test_deviation_of_gaussian(sigma: int) -> None:
    noise = degrade_array(np.zeros((4, 100, 100)), f"gaussian:{sigma}", 2).values
    assert noise.std() * 255 == pytest.approx(sigma, rel=0.02)


def test_one_ratio_a_cube_as_mp_hsir_has_it() -> None:
    facts = degrade_array(np.full((30, 20, 40), 0.5), "mp-hsir:complex:impulse", 4).facts.bands
    assert len(set(facts["impulses"][facts["impulses"] > 0])) == 1
    each = degrade_array(np.full((30, 20, 40), 0.5), "icvl-impulse", 4).facts.bands["impulses"]
    assert len(set(each[each > 0])) > 1


def test_poisson_keeps_mean_and_scales_variance() -> None:
    counts = degrade_array(np.full((3, 120, 120), 0.4), "poisson:10", 0).values
    assert counts.mean() == pytest.approx(0.4, abs=0.005)
    assert counts.var() == pytest.approx(0.04, rel=0.05)


def test_kernels() -> None:
    assert gaussian_kernel(9).sum() == pytest.approx(1)
    assert motion_kernel(15, 45).sum() == pytest.approx(0.968, abs=1e-3)
    assert motion_kernel(15, 20).sum() == pytest.approx(1.0025, abs=1e-3)
    assert motion_kernel(9, 0)[4].sum() == pytest.approx(1)


def test_haze_needs_wavelengths_and_clears_with_them(image: np.ndarray) -> None:
    with pytest.raises(MissingMetadata, match="wavelength"):
        degrade_array(image, "haze:0.5")
    clear = degrade_array(image, "haze:1", wavelength=WAVE, cirrus=np.zeros((4, 4))).values
    np.testing.assert_allclose(clear, image)
    hazy = degrade_array(image, "haze:0.5", wavelength=WAVE, cirrus=np.ones((4, 4))).values
    change = np.abs(hazy - image).mean((1, 2))
    assert change[0] > change[-1]


def test_brightest_pixels_are_averaged() -> None:
    x = np.arange(40000, dtype=np.float64).reshape(1, 200, 200)
    assert brightest_mean(x)[0] == np.arange(39996, 40000).mean()
    x[0, -1, -1] = np.nan
    assert brightest_mean(x)[0] == np.arange(39995, 39999).mean()


def test_cirrus_is_smooth_and_rows_agree() -> None:
    h = cirrus_map(40, 70, np.random.default_rng(1))
    assert h.min() == 0 and h.max() == 1 and np.abs(np.diff(h, axis=0)).max() < 0.5
    np.testing.assert_array_equal(resized(h, 90, 33)[20:50], resized(h, 90, 33, first=20, last=50))


def test_nodata_stays(image: np.ndarray) -> None:
    holed = image.copy()
    holed[:, 10:14, 20:30] = np.nan
    for recipe in ("icvl-mixture", "blur:9", "inpaint:0.5", "poisson", "motion"):
        made = degrade_array(holed, recipe, 1).values
        np.testing.assert_array_equal(np.isnan(made), np.isnan(holed))
    flat = np.where(np.isnan(holed), np.nan, 0.5)
    inside = degrade_array(flat, "blur:9").values[:, 5:-5, 5:-5]
    np.testing.assert_allclose(inside[np.isfinite(inside)], 0.5, rtol=1e-6)


@hypothesis_settings(max_examples=20, deadline=None)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 12), st.integers(20, 45)),
    st.sampled_from(["icvl-mixture", "noniid", "mp-hsir:complex", "inpaint:0.5", "blur:9", "motion", "bands:0.5"]),
    st.integers(0, 2**31),
)
def test_any_shape_works(shape: tuple[int, int, int], recipe: str, seed: int) -> None:
    made = degrade_array(np.full(shape, 0.5, np.float32), recipe, seed)
    assert made.values.shape == shape and made.values.dtype == np.float32 and np.isfinite(made.values).all()


@pytest.mark.parametrize("recipe", ["icvl-mixture", "noniid", "blur:9", "motion", "sr:4", "inpaint:0.7", "bands:0.3",
                                    "mp-hsir:complex", "poisson:10", "haze:0.5"])  # fmt: skip
def test_tensors_stay_tensors(image: np.ndarray, recipe: str) -> None:
    x = torch.from_numpy(image).float()
    generator = torch.Generator().manual_seed(3)
    made = degrade_array(x, recipe, generator, wavelength=WAVE)
    again = degrade_array(x, recipe, torch.Generator().manual_seed(3), wavelength=WAVE)
    assert isinstance(made.values, torch.Tensor) and made.values.dtype == torch.float32
    assert torch.equal(made.values, again.values)
    if recipe in ("blur:9", "motion", "sr:4"):
        np.testing.assert_allclose(made.values, degrade_array(image, recipe).values, atol=1e-5)


def test_steps_follow_one_another(image: np.ndarray) -> None:
    blurred = degrade_array(image, "blur:9").values
    both = degrade_array(image, "blur:9+bands:0.5", 1).values
    lost = ~both.any((1, 2))
    assert lost.sum() == 6
    np.testing.assert_array_equal(both[~lost], blurred[~lost])
    assert len(make_recipe("icvl-mixture").steps) == 5
