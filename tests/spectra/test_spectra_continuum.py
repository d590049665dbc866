"""Continuum removal against scipy's hull, one spectrum at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from test_spectra_resampling import lazy

from torchspectral.cube import make_cube, make_spectra
from torchspectral.errors import BadSettings, BandMismatch
from torchspectral.spectra import absorption, remove_continuum, upper_hull
from torchspectral.spectra.lazy import is_lazy


def plain_hull(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Upper hull of one spectrum by Qhull, with two points far below closing it."""
    keep = np.isfinite(y)
    xs, ys = x[keep], y[keep]
    floor = ys.min() - 10 * (np.ptp(ys) + 1)
    points = np.column_stack([np.r_[xs, xs[0], xs[-1]], np.r_[ys, floor, floor]])
    corners = np.sort([v for v in ConvexHull(points).vertices if v < xs.size])
    out = np.full(y.shape, np.nan)
    out[keep] = np.interp(xs, xs[corners], ys[corners])
    return out


def test_hull_equals_qhull_with_gaps() -> None:
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(400, 2500, 180))
    y = 0.3 + 0.2 * np.sin(x / 150) + 0.1 * rng.random((60, 180))
    y[rng.random(y.shape) < 0.1] = np.nan
    hull = upper_hull(x, y)
    for one, spectrum in zip(hull, y, strict=True):
        np.testing.assert_allclose(one, plain_hull(x, spectrum), rtol=1e-9)


@settings(max_examples=60)
@given(st.lists(st.lists(st.floats(-1, 1), min_size=12, max_size=12), min_size=1, max_size=5))
def test_hull_is_concave_and_above(rows: list[list[float]]) -> None:
    x = np.array([1, 2, 4, 5, 7, 8, 9, 12, 13, 17, 18, 20.0])
    y = np.array(rows)
    hull = upper_hull(x, y)
    assert (hull >= y).all()
    np.testing.assert_array_equal(hull[:, [0, -1]], y[:, [0, -1]])
    slopes = np.diff(hull, axis=1) / np.diff(x)
    assert (np.diff(slopes, axis=1) <= 1e-9).all()


def test_hull_of_little() -> None:
    x = np.arange(5.0)
    y = np.array([[np.nan] * 5, [np.nan, 2, np.nan, np.nan, np.nan], [np.nan, 1, np.nan, 3, np.nan], [1, 1, 1, 1, 1]])
    hull = upper_hull(x, y)
    assert np.isnan(hull[0]).all()
    np.testing.assert_array_equal(hull[1], y[1])
    np.testing.assert_array_equal(hull[2], y[2])
    np.testing.assert_array_equal(hull[3], 1)


def test_hull_over_equal_wavelengths() -> None:
    x = np.array([1.0, 1.0, 2.0, 3.0, 3.0])
    y = np.array([[1, 2, 0, 1, 3], [2, 1, 0, 3, 1], [1, 1, 0, 2, 2.0]])
    hull = upper_hull(x, y)
    assert np.isfinite(hull).all() and (hull >= y).all()
    np.testing.assert_allclose(hull[:, 2], [2.5, 2.5, 1.5])


def scene():
    wave = np.arange(2000.0, 2401.0, 10.0)
    dip = 0.3 * np.exp(-(((wave - 2200) / 25) ** 2))
    spectrum = (0.2 + 1e-4 * (wave - 2000)) * (1 - dip)
    values = spectrum[:, None, None] * np.linspace(0.5, 1.5, 12).reshape(3, 4)
    return make_cube(values.astype("f4"), wavelength=wave, quantity="reflectance")


def test_depth_does_not_depend_on_brightness() -> None:
    out = remove_continuum(scene())
    assert out.max() <= 1 + 1e-6
    np.testing.assert_allclose(out.isel(band=20).values, 0.7, atol=5e-3)
    hull = remove_continuum(scene(), mode="continuum")
    difference = remove_continuum(scene(), mode="subtract")
    np.testing.assert_allclose(scene() - hull, difference, atol=1e-6)
    assert "continuum removed" in out.attrs["history"][-1]


def test_feature_layers() -> None:
    out = absorption(scene(), 2100, 2300)
    np.testing.assert_allclose(out.sel(layer="depth"), 0.3, atol=5e-3)
    np.testing.assert_allclose(out.sel(layer="position"), 2200)
    np.testing.assert_allclose(out.sel(layer="area"), 0.3 * 25 * np.sqrt(np.pi), rtol=0.02)


def test_bad_bands_order_and_laziness() -> None:
    cube = scene()
    shuffled = np.random.default_rng(0).permutation(cube.sizes["band"])
    mixed = remove_continuum(cube.isel(band=shuffled))
    np.testing.assert_allclose(mixed.values, remove_continuum(cube).values[shuffled], atol=1e-6)
    good = np.ones(cube.sizes["band"], dtype=bool)
    good[5] = False
    flagged = cube.assign_coords(good=("band", good))
    flagged.values[5] = 9
    out = remove_continuum(flagged, low=2020, high=2380)
    assert np.isnan(out.values[5]).all() and np.isnan(out.values[0]).all() and not out["good"].values[5]
    assert np.nanmax(out.values) <= 1 + 1e-6
    source, stored = lazy(cube)
    later = remove_continuum(source)
    assert is_lazy(later) and not stored.read
    np.testing.assert_array_equal(later.isel(band=7, y=1).values, remove_continuum(cube).isel(band=7, y=1).values)
    library = make_spectra(cube.values[:, 0].T, list("abcd"), wavelength=cube["wavelength"].values)
    np.testing.assert_allclose(remove_continuum(library).values, remove_continuum(cube).values[:, 0].T, atol=1e-6)


def test_refusals() -> None:
    with pytest.raises(BadSettings, match="divide, subtract"):
        remove_continuum(scene(), mode="remove")
    with pytest.raises(BadSettings, match="low below high"):
        remove_continuum(scene(), low=2300, high=2200)
    with pytest.raises(BandMismatch, match="three or more"):
        absorption(scene(), 2200, 2211)
