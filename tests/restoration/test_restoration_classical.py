"""The classical denoisers on cubes whose truth is known, and on degenerate ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import savgol_filter

import torchspectral as ts
from torchspectral.restoration.classical.wavelets import analyse, daubechies, synthesise

METHODS = ["wavelet", "savitzky-golay", "despike", "destripe", "lrtdtv"]
METHODS += ["pca", "wiener", "tv", "bad-pixels", "lrmr", "lrtv", "ngmeet"]
QUICK = {"ngmeet": {"iterations": 2, "similar": 30, "search": 8}, "lrmr": {"iterations": 20}}
FLOORS = [("wavelet", "gaussian", 27.5), ("wavelet", "noniid", 27.5), ("savitzky-golay", "gaussian", 24.0)]
FLOORS += [("lrtdtv", "gaussian", 32.3), ("lrtdtv", "noniid", 33.8), ("lrtdtv", "mixture", 31.0)]


@pytest.fixture(scope="module")
def recipe(parity_dir: Path):
    spec = importlib.util.spec_from_file_location("synthetic_cube", parity_dir / "restoration" / "synthetic_cube.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cube_of(values: np.ndarray):
    return ts.make_cube(np.asarray(values, dtype=np.float32), quantity="dn")


def restored(values: np.ndarray, method: str, **settings) -> np.ndarray:
    return ts.restore(cube_of(values), method=method, settings=settings, account=False)["cube"].values


@pytest.mark.parametrize(("method", "kind", "floor"), FLOORS)
def test_floors(recipe, method, kind, floor) -> None:
    clean = recipe.clean()
    noisy = recipe.noisy(clean, kind).transpose(2, 0, 1)
    error = np.mean((restored(noisy, method).astype(float) - clean.transpose(2, 0, 1)) ** 2)
    assert -10 * np.log10(error) > floor


@pytest.mark.parametrize("method", METHODS)
def test_scale_and_tiles_change_nothing(recipe, method) -> None:
    values = recipe.noisy(recipe.clean(40, 56, 8), "mixture").transpose(2, 0, 1)
    quick = QUICK.get(method, {})
    one = restored(values, method, **quick)
    np.testing.assert_allclose(restored(values * 10000, method, **quick) / 10000, one, atol=1e-4)
    tiled = ts.restore(cube_of(values), method=method, settings=quick, account=False, tile=(16, 24))["cube"].values
    np.testing.assert_allclose(tiled, one, atol=1e-5)


def test_wavelets_turn_back() -> None:
    np.testing.assert_allclose(daubechies(2), [0.48296291, 0.83651630, 0.22414387, -0.12940952], atol=1e-7)
    images = torch.randn(2, 24, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    coarse, details = analyse(images, 4, 3)
    torch.testing.assert_close(synthesise(coarse, details, 4), images)


def test_savitzky_golay_is_the_known_one(recipe) -> None:
    values = recipe.noisy(recipe.clean(6, 5, 20), "gaussian").transpose(2, 0, 1)
    expected = savgol_filter(values.astype(float), 9, 3, axis=0, mode="interp")
    np.testing.assert_allclose(restored(values, "savitzky-golay", window=9, degree=3), expected, atol=1e-5)


def test_spikes_are_found_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    values = 0.5 + 0.2 * np.sin(np.linspace(0, 5, 60))[:, None, None] + 0.002 * rng.standard_normal((60, 9, 8))
    spiked = values.copy()
    places = rng.integers(3, 57, (9, 8))
    for (row, col), band in np.ndenumerate(places):
        spiked[band, row, col] += 0.2
    result = ts.restore(cube_of(spiked), method="despike")
    assert np.abs(result["cube"].values - values).max() < 0.06
    assert (result["spikes"].values >= 1).all() and result["spikes"].values.mean() < 2.2


@pytest.mark.parametrize("model", ["offset", "gain-offset"])
def test_stripes_and_dead_columns_go(model) -> None:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:90, :60] / 20
    clean = np.stack([2 + np.sin(y + k) * (1 + 0.1 * x) for k in range(4)]) + 0.01 * rng.standard_normal((4, 90, 60))
    columns = rng.random((4, 60)) < 0.15
    striped = clean + (columns * rng.choice([-0.3, 0.3], (4, 60)))[:, None]
    striped[1, :, 20] = 0
    out = restored(striped, "destripe", model=model, threshold=0.0)
    before, after = (np.sqrt(np.mean((v - clean) ** 2)) for v in (striped, out))
    assert after < 0.45 * before
    assert np.sqrt(np.mean((out[1, :, 20] - clean[1, :, 20]) ** 2)) < 0.1
