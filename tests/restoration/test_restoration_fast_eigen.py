"""Fast-eigen on cubes whose truth is known."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import torchspectral as ts


@pytest.fixture(scope="module")
def recipe(parity_dir: Path):
    spec = importlib.util.spec_from_file_location("synthetic_cube", parity_dir / "restoration" / "synthetic_cube.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pair(recipe, kind: str, size=(48, 48, 32)):
    clean = recipe.clean(*size)
    noisy = recipe.noisy(clean, kind).transpose(2, 0, 1)
    return clean.transpose(2, 0, 1), ts.make_cube(noisy, quantity="reflectance")


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2)))


@pytest.mark.parametrize(("kind", "floor"), [("gaussian", 37.0), ("noniid", 39.5)])
def test_floors_with_unknown_rank(recipe, kind, floor) -> None:
    clean, noisy = pair(recipe, kind)
    before = noisy.values.copy()
    result = ts.restore(noisy, method="fast-eigen")
    assert psnr(result["cube"].values, clean) > floor
    np.testing.assert_array_equal(noisy.values, before)
    assert not result.report.figures["robust"]


def test_mixture_takes_the_robust_loop_by_itself(recipe) -> None:
    clean, noisy = pair(recipe, "mixture")
    result = ts.restore(noisy, method="fast-eigen")
    assert result.report.figures["robust"] and psnr(result["cube"].values, clean) > 34.5
    assert 0.03 < result.report.figures["median_replaced"] < 0.15


def test_scale_and_transpose_change_nothing(recipe) -> None:
    _, noisy = pair(recipe, "noniid", (40, 56, 16))
    one = ts.restore(noisy, method="fast-eigen", settings={"robust": "off"})["cube"].values
    large = ts.make_cube(noisy.values * 10000, quantity="dn")
    ten = ts.restore(large, method="fast-eigen", settings={"robust": "off"})["cube"].values
    np.testing.assert_allclose(ten / 10000, one, atol=2e-4)
    turned = ts.make_cube(noisy.values.transpose(0, 2, 1).copy(), quantity="reflectance")
    two = ts.restore(turned, method="fast-eigen", settings={"robust": "off"})["cube"].values
    assert np.sqrt(np.mean((two.transpose(0, 2, 1) - one) ** 2)) < 2e-3


def test_copied_and_constant_bands(recipe) -> None:
    clean, noisy = pair(recipe, "gaussian")
    values = noisy.values.copy()
    values[3], values[7] = 0.25, 2 * values[6] + 1
    result = ts.restore(ts.make_cube(values, quantity="dn"), method="fast-eigen", settings={"robust": "off"})
    out = result["cube"].values
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[3], 0.25, atol=1e-5)
    np.testing.assert_allclose(out[7], 2 * out[6] + 1, atol=1e-4)
    rest = [b for b in range(32) if b not in (3, 7)]
    assert psnr(out[rest], clean[rest]) > 36.5


@pytest.mark.parametrize("shape", [(1, 30, 30), (6, 7, 5), (4, 9, 40)])
def test_small_cubes_come_back_finite(shape) -> None:
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    out = ts.restore(ts.make_cube(values, quantity="reflectance"), method="fast-eigen")["cube"].values
    assert out.shape == shape and np.isfinite(out).all()


def test_materials_seen_in_one_band_are_no_outliers(recipe) -> None:
    _, noisy = pair(recipe, "gaussian")
    values = noisy.values.copy()
    for band in (4, 11, 20):
        values[band, 10:22, 14:30] += 2
    result = ts.restore(ts.make_cube(values, quantity="reflectance"), method="fast-eigen")
    assert not result.report.figures["robust"]


def test_faint_components_that_show_the_scene_are_kept() -> None:
    from torchspectral.restoration.subspace import structured, texture

    rng = np.random.default_rng(3)
    similar = torch.tensor(rng.normal(0.2, 0.01, (2, 40)))
    similar[:, 7] += 0.3
    similar[0, 9] += 0.3  # across track only: lines of a scan, not the scene
    assert structured(similar, 10_000).nonzero()[:, 0].tolist() == [7]
    spread, pairs = torch.eye(2, dtype=torch.float64), torch.zeros(2, 3, 3, dtype=torch.float64)
    pairs[:, 0, 0], pairs[:, 1, 1], pairs[:, -1, -1] = 2 * 100.0, 100.0, 100
    np.testing.assert_allclose(texture(spread, spread, pairs), [[0, 0.5], [0, 0.5]])
