"""Noise from sums, and how many dimensions stand above it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import torch

from torchspectral.errors import BadInput
from torchspectral.ops.gram import gram_sums
from torchspectral.ops.noise import difference_sums, hfc, hysime, regression_noise, shift_noise


def blocks(k: int, side: int = 8, snr: float = 30.0, bands: int = 120, seed: int = 0) -> torch.Tensor:
    """Blocks of pure classes, smoothed, without pure pixels: (bands, n)."""
    from scipy.ndimage import uniform_filter

    random = np.random.default_rng(seed)
    knots = random.random((k, 10))
    spectra = np.stack([0.1 + 0.8 * np.interp(np.linspace(0, 9, bands), np.arange(10), row) for row in knots])
    classes = random.integers(0, k, (side, side)).repeat(side, 0).repeat(side, 1)
    shares = np.stack([uniform_filter((classes == i).astype(float), side + 1) for i in range(k)]).reshape(k, -1)
    shares[:, shares.max(0) > 0.8] = 1 / k
    clean = spectra.T @ shares
    sigma = np.sqrt((clean**2).mean() / 10 ** (snr / 10))
    return torch.from_numpy(clean + sigma * random.standard_normal(clean.shape))


def test_regression_equals_band_by_band() -> None:
    pixels = blocks(4, bands=30)
    n, _, cross = gram_sums(pixels)
    transform, noise = regression_noise(n, cross)
    got = (transform @ pixels).numpy()
    y = pixels.numpy()
    for band in (0, 11, 29):
        others = np.delete(y, band, axis=0)
        want = y[band] - others.T @ np.linalg.lstsq(others.T, y[band], rcond=None)[0]
        np.testing.assert_allclose(got[band], want, atol=1e-4 * np.abs(want).max())
    np.testing.assert_allclose(noise.numpy(), got @ got.T / n, atol=1e-12)


def test_known_noise_comes_back() -> None:
    random = np.random.default_rng(0)
    sigma = np.linspace(0.01, 0.05, 40)
    signal = random.random((40, 3)) @ random.random((3, 64 * 64)).reshape(3, -1)
    pixels = torch.from_numpy(signal + sigma[:, None] * random.standard_normal((40, 64 * 64)))
    n, _, cross = gram_sums(pixels)
    found = regression_noise(n, cross)[1].diagonal().sqrt().numpy()
    # Quiet bands are regressed on noisier ones, whose noise adds to theirs.
    np.testing.assert_allclose(found[15:], sigma[15:], rtol=0.1)
    assert (found > 0.95 * sigma).all() and (found < 1.4 * sigma).all()


def test_differences_see_noise_and_not_ramps() -> None:
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 5, 100)[None, None, :] * np.ones((3, 80, 1))
    cube = torch.from_numpy(ramp + 0.2 * random.standard_normal(ramp.shape))
    valid = torch.ones(80, 99, dtype=torch.bool)
    noise = shift_noise(*difference_sums(cube[:, :, :-1], cube[:, :, 1:], valid))
    np.testing.assert_allclose(noise.diagonal().sqrt().numpy(), 0.2, rtol=0.05)
    with pytest.raises(BadInput, match="neighbouring"):
        shift_noise(*difference_sums(cube[:, :, :-1], cube[:, :, 1:], ~valid))


@pytest.mark.parametrize("k", [4, 6, 8])
def test_hysime_counts_endmembers(k: int) -> None:
    n, _, cross = gram_sums(blocks(k))
    assert abs(hysime(n, cross).k - k) <= 1
    assert hysime(n, cross * 1e8).k == hysime(n, cross).k


def test_dead_and_doubled_bands_do_no_harm() -> None:
    pixels = blocks(4)
    pixels = torch.cat([pixels, torch.zeros_like(pixels[:1]), pixels[:1]])
    sums = gram_sums(pixels)
    found = hysime(sums[0], sums[2])
    assert 3 <= found.k <= 6 and float(found.noise[-2]) == 0
    assert all(c >= 1 for c in hfc(*sums, noise=found.noise))
    with pytest.raises(BadInput, match="not zero"):
        hysime(10, torch.zeros(5, 5, dtype=torch.float64))


def test_figures_of_real_scenes(samples) -> None:
    """The counts that the published formulas give on Samson and Jasper Ridge."""
    samson = scipy.io.loadmat(samples / "unmixing/samson/samson_1.mat")["V"]
    jasper = scipy.io.loadmat(samples / "unmixing/jasper/jasperRidge2_R198.mat")["Y"] / 5437.0
    for values, k, dimensions in ((samson, 43, (9, 8, 8)), (jasper, 18, (9, 9, 7))):
        sums = gram_sums(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)))
        assert abs(hysime(sums[0], sums[2]).k - k) <= 1
        assert hfc(*sums) == dimensions
