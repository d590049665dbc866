"""Wiener, total variation and bad pixels: what each changes and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import wiener

import torchspectral as ts
from torchspectral.errors import BadSettings


def scene(bands: int = 24, rows: int = 44, cols: int = 40, sigma: float = 0.02, seed: int = 0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols] / 12
    pure = np.cumsum(rng.random((3, bands)), 1) / bands + 0.2
    parts = np.stack([1 + np.sin(y + x), 1 + np.cos(2 * y), (x > 1) + 0.5]) / 3
    clean = np.einsum("kb,kyx->byx", pure, parts)
    return clean, (clean + sigma * rng.standard_normal(clean.shape)).astype(np.float32)


def restored(values: np.ndarray, method: str, **settings):
    return ts.restore(ts.make_cube(values, quantity="dn"), method=method, settings=settings)


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.mean((one - other) ** 2)))


def test_wiener_is_the_known_one() -> None:
    _, noisy = scene(bands=3)
    found = restored(noisy, "wiener", window=5, sigma=0.03)["cube"].values
    expected = np.stack([wiener(band.astype(float), 5, 0.03**2) for band in noisy])
    np.testing.assert_allclose(found[:, 3:-3, 3:-3], expected[:, 3:-3, 3:-3], atol=1e-6)


def test_wiener_and_tv_take_noise_away() -> None:
    clean, noisy = scene()
    before = error(noisy, clean)
    for method, settings, share in (
        ("wiener", {}, 0.75),
        ("wiener", {"window": 3, "bands": 3}, 0.7),
        ("tv", {}, 0.6),
        ("tv", {"along": "bands"}, 0.8),
    ):
        assert error(restored(noisy, method, **settings)["cube"].values, clean) < share * before, (method, settings)


def test_noise_is_told_where_bands_are_few() -> None:
    clean, noisy = scene(bands=2, sigma=0.05)
    result = restored(noisy, "wiener")
    assert result.report.figures["median_noise"] == pytest.approx(0.05, rel=0.25)
    assert error(result["cube"].values, clean) < 0.6 * error(noisy, clean)


def test_total_variation_has_the_minimum() -> None:
    rng = np.random.default_rng(3)
    values = rng.random((1, 12, 9)).astype(np.float32)

    def cost(x: np.ndarray) -> float:
        x = x[0].astype(float)
        down, right = np.zeros_like(x), np.zeros_like(x)
        down[:-1], right[:, :-1] = np.diff(x, axis=0), np.diff(x, axis=1)
        return float(((x - values[0]) ** 2).sum() / 2 + 0.08 * np.hypot(down, right).sum())

    best = restored(values, "tv", along="bands", sigma=0.1, weight=0.8, iterations=400)["cube"].values
    for _ in range(20):
        assert cost(best) <= cost(best + rng.normal(0, 1e-2, best.shape)) and cost(best) < cost(values)


@pytest.mark.parametrize("settings", [{"window": 4}, {"bands": 2}])
def test_even_windows_are_refused(settings) -> None:
    with pytest.raises(BadSettings, match="expected an odd number"):
        restored(scene()[1], "wiener", **settings)


def test_bad_pixels_go_and_objects_stay() -> None:
    clean, noisy = scene(rows=70)
    values = noisy.copy()
    values[:, 30, 20] += 0.6  # a small object, in all bands alike
    rng = np.random.default_rng(5)
    bad = np.zeros(values.shape, bool)
    bad.reshape(-1)[rng.choice(values.size, 60, replace=False)] = True
    bad[:, 29:32, 19:22] = False
    values[bad] += rng.choice([-0.7, 0.7], bad.sum())
    values[7, :, 11] = values[7, :, 11] * 0.3 + 1.0  # one detector element
    result = restored(values, "bad-pixels")
    out = result["cube"].values
    assert result.report.figures["bad_elements"] == 1
    np.testing.assert_array_equal(out[:, 30, 20], values[:, 30, 20])
    bad[7, :, 11] = True
    assert error(out[bad], clean[bad]) < 0.06
    assert (out[~bad] == values[~bad]).mean() > 0.999
    assert int(result["repaired"].values.sum()) >= bad.sum() - 3


def test_two_bands_are_repaired_in_space_alone() -> None:
    clean, noisy = scene(bands=2)
    noisy[1, 9, 9] += 1
    out = restored(noisy, "bad-pixels")["cube"].values
    assert abs(out[1, 9, 9] - clean[1, 9, 9]) < 0.1
