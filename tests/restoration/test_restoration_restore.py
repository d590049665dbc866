"""Restore without a method: the choice, the account, the residual, the weak target."""

from __future__ import annotations

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.errors import BadInput


def scene(bands: int = 24, rows: int = 40, cols: int = 36, sigma: float = 0.02, seed: int = 0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols] / 20
    pure = np.cumsum(rng.random((3, bands)), 1) / bands + 0.2
    parts = np.stack([1 + np.sin(y + x), 1 + np.cos(2 * y), (x > 1) + 0.5]) / 3
    clean = np.einsum("kb,kyx->byx", pure, parts)
    noisy = (clean + sigma * rng.standard_normal(clean.shape)).astype(np.float32)
    return clean, ts.make_cube(noisy, wavelength=np.linspace(420, 2400, bands), quantity="reflectance")


def test_blind_restore_tells_what_it_did(tmp_path) -> None:
    clean, noisy = scene()
    result = ts.restore(noisy, out=tmp_path / "clean.tif", residual=tmp_path / "removed.tif", weak_target=True)
    after = result["cube"].values
    assert np.mean((after - clean) ** 2) < 0.15 * np.mean((noisy.values - clean) ** 2)
    assert result.report.method == "restoration/fast-eigen"
    assert any("fast-eigen was chosen" in note for note in result.report.notes)
    figures = result.report.figures
    assert figures["bands_changed"] == list(range(1, 25)) and 0 < figures["sam"] < 10
    assert figures["median_snr_after"] > figures["median_snr_before"]
    assert {"target_kept", "target_snr_before", "target_snr_after"} <= set(figures)
    assert any("weak target" in note for note in result.report.notes)
    removed = ts.open(tmp_path / "removed.tif")
    assert removed.attrs["quantity"] == noisy.attrs["quantity"]
    np.testing.assert_allclose(removed.values, noisy.values - after, atol=1e-6)


def test_few_bands_take_a_filter_of_single_bands() -> None:
    _, noisy = scene(bands=2)
    result = ts.restore(noisy)
    assert result.report.method == "restoration/wavelet" and "too few" in " ".join(result.report.notes)


def test_whatever_kills_the_target_is_told() -> None:
    _, noisy = scene()
    result = ts.restore(noisy, method="mnf", settings={"components": 1}, weak_target=True)
    assert result.report.figures["target_kept"] < 0.8
    assert any("look for rare targets in the scene as it was" in note for note in result.report.notes)


def test_weak_target_of_another_sensor_is_refused() -> None:
    _, noisy = scene()
    with pytest.raises(BadInput, match="a target of 5 bands"):
        ts.restore(noisy, weak_target=np.ones(5))
