"""The HyDe set on cubes whose truth is known, and on degenerate ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.ops.non_local_means import non_local_means
from torchspectral.ops.total_variation import tv_denoise
from torchspectral.restoration.classical.hyde.adaptive_median import adaptive_median
from torchspectral.restoration.classical.hyde.fasthyde import anscombe, inverse_anscombe
from torchspectral.restoration.classical.tiled_wavelets import TiledWavelets

METHODS = ["fasthyde", "fasthyin", "l1hymixde", "hyres", "hyminor", "wsrrr", "otvca", "forpdn"]
QUICK = {"l1hymixde": {"k": 3, "search": 4, "iterations": 2}, "wsrrr": {"iterations": 6}, "otvca": {"iterations": 6}}
QUICK |= {"fasthyde": {"k": 3, "search": 4}, "fasthyin": {"k": 3, "search": 4}}
PEER = {
    "hyres": ({}, 26.83, 26.97, 24.61),
    "wsrrr": ({"rank": 5, "iterations": 40}, 32.95, 34.41, 23.85),
    "forpdn": ({}, 31.54, 26.02, 24.70),
    "otvca": ({"features": 5}, 28.04, 25.79, 22.82),
    "fasthyde": ({}, 35.16, 35.0, 26.75),
    "hyminor": ({}, 29.08, 31.82, 28.86),
    "l1hymixde": ({"k": 5}, 31.68, 34.31, 30.10),
}
"""Settings, and what the peer library reaches for gaussian, non-iid and mixed noise on 48 x 48 x 32 [dB]."""


@pytest.fixture(scope="module")
def recipe(parity_dir: Path):
    spec = importlib.util.spec_from_file_location("synthetic_cube", parity_dir / "restoration" / "synthetic_cube.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def restored(values: np.ndarray, method: str, **settings) -> np.ndarray:
    cube = ts.make_cube(np.asarray(values, dtype=np.float32), quantity="dn")
    return ts.restore(cube, method=method, settings=settings)["cube"].values


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((one.astype(np.float64) - other) ** 2)))


@pytest.mark.parametrize("number", [0, 1, 2], ids=["gaussian", "noniid", "mixture"])
@pytest.mark.parametrize("method", [m for m in PEER if m != "l1hymixde"])
def test_above_the_peer(recipe, method, number) -> None:
    settings, *floors = PEER[method]
    clean = recipe.clean()
    noisy = recipe.noisy(clean, ("gaussian", "noniid", "mixture")[number]).transpose(2, 0, 1)
    assert psnr(restored(noisy, method, **settings), clean.transpose(2, 0, 1)) > floors[number]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2], ids=["gaussian", "noniid", "mixture"])
def test_l1hymixde_above_the_peer(recipe, number) -> None:
    test_above_the_peer(recipe, "l1hymixde", number)


@pytest.mark.parametrize(("denoiser", "floor"), [("nlm", 33), ("tv", 33.5), ("wavelet", 33)])
def test_denoisers_that_are_plugged_in(recipe, denoiser, floor) -> None:
    clean = recipe.clean()
    noisy = recipe.noisy(clean, "gaussian").transpose(2, 0, 1)
    assert psnr(restored(noisy, "fasthyde", denoiser=denoiser, patch=5), clean.transpose(2, 0, 1)) > floor


def test_l1_misfit_shrugs_off_outliers(recipe) -> None:
    clean = recipe.clean(32, 32, 16)
    noisy = recipe.noisy(clean, "mixture").transpose(2, 0, 1)
    plain, robust = (restored(noisy, m, k=4, search=6) for m in ("fasthyde", "l1hymixde"))
    assert psnr(robust, clean.transpose(2, 0, 1)) > psnr(plain, clean.transpose(2, 0, 1)) + 2


@pytest.mark.parametrize("method", METHODS)
def test_scale_and_transpose_change_nothing(recipe, method) -> None:
    values = recipe.noisy(recipe.clean(24, 32, 8), "noniid").transpose(2, 0, 1)
    settings = QUICK.get(method, {})
    one = restored(values, method, **settings)
    np.testing.assert_allclose(restored(values * 10000, method, **settings) / 10000, one, atol=2e-3)
    two = restored(values.transpose(0, 2, 1), method, **settings).transpose(0, 2, 1)
    assert np.sqrt(np.mean((two - one) ** 2)) < 1e-2


def test_missing_bands_are_inpainted(recipe) -> None:
    clean = recipe.clean(40, 40, 16)
    truth = clean.transpose(2, 0, 1)
    noisy = recipe.noisy(clean, "gaussian", sigma=0.02).transpose(2, 0, 1).copy()
    rng = np.random.default_rng(0)
    gone = rng.random((16, 1, 40)) < 0.15
    gone[:, :, :12] = False
    holes = np.where(np.broadcast_to(gone, noisy.shape), np.nan, noisy)
    out = restored(holes, "fasthyin", k=5, search=5)
    wide = np.broadcast_to(gone, noisy.shape)
    assert np.sqrt(np.mean((out - truth)[wide] ** 2)) < 0.015
    zeros = restored(np.where(wide, 0, noisy), "fasthyin", k=5, search=5, missing=0.0)
    np.testing.assert_allclose(zeros, out, atol=1e-5)


def test_photons(recipe) -> None:
    clean = recipe.clean(40, 40, 16)
    truth = clean.transpose(2, 0, 1).astype(np.float64)
    noisy = np.random.default_rng(1).poisson(truth * 30) / 30
    plain, right = (restored(noisy, "fasthyde", k=5, search=5, noise=kind) for kind in ("gaussian", "poisson"))
    assert psnr(right, truth) > psnr(plain, truth) > psnr(noisy, truth) + 5
    counts = torch.poisson(torch.full((200_000,), 6.0), generator=torch.Generator().manual_seed(0))
    assert abs(float(inverse_anscombe(anscombe(counts, 1.0).mean(), 1.0)) - 6) < 0.03


def test_tiles_have_the_coefficients_of_the_scene() -> None:
    images = torch.randn(2, 72, 52, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wavelets = TiledWavelets(3, 2)
    whole = wavelets.analyse(images)
    torch.testing.assert_close(wavelets.synthesise(whole), images)
    assert wavelets.halo <= 20
    part = wavelets.analyse(images[:, 16:72, :])
    for number in (0, 3, 6):
        step = 2 ** whole.level(number)
        first, second = (p.margin[0] // step for p in (whole, part))
        one = whole.subbands[number][:, first + 40 // step : first + 72 // step]
        two = part.subbands[number][:, second + 24 // step : second + 56 // step]
        columns = min(one.shape[2], two.shape[2])
        torch.testing.assert_close(one[..., :columns], two[..., :columns])


def test_pieces() -> None:
    generator = torch.Generator().manual_seed(0)
    step = torch.zeros(1, 20, 24)
    step[..., 12:] = 8
    noisy = step + torch.randn(1, 20, 24, generator=generator)
    for found in (non_local_means(noisy, patch=3, search=5), tv_denoise(noisy, 1.0)):
        assert (found - step).square().mean() < 0.3
    torch.testing.assert_close(tv_denoise(step[..., :12], 1.0), step[..., :12])
    torch.testing.assert_close(tv_denoise(noisy, 1e4, iterations=400), noisy.mean().expand_as(noisy), atol=0.2, rtol=0)
    image = torch.rand(1, 15, 15, generator=generator)
    image[0, 7] = 0
    image[0, :, 3] = 5
    found = adaptive_median(image, 9)
    assert float(found.max()) < 1 and float(found[0, 7].min()) > 0
    torch.testing.assert_close(found.transpose(1, 2), adaptive_median(image.transpose(1, 2), 9))
