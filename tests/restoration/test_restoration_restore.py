"""Restore without a method: the choice, the account, the residual, the weak target."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.ndimage import gaussian_filter

import torchspectral as ts
from torchspectral.errors import BadInput
from torchspectral.restoration import account


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


def test_the_account_stands_beside_every_output(tmp_path) -> None:
    _, noisy = scene()
    result = ts.restore(noisy, method="mnf", out=f"{tmp_path}/all/", weak_target=True)
    known = yaml.safe_load((tmp_path / "all" / "cube.tif.run.yaml").read_text())["figures"]
    for name in ("bands_changed", "median_snr_before", "median_snr_after", "sam", "target_kept", "median_likeness"):
        assert known[name] == result.report.figures[name]
    table = result["account"]
    np.testing.assert_allclose(known["account"]["snr_after"], table["snr_after"], rtol=1e-3)
    assert len(pd.read_csv(tmp_path / "all" / "account.csv")) == 24
    blind = ts.restore(noisy, out=tmp_path / "one.tif")
    assert any("was chosen" in n for n in yaml.safe_load((tmp_path / "one.tif.run.yaml").read_text())["notes"])
    assert "account" in blind and "account" not in ts.restore(noisy, account=False)


def test_likeness_and_edges_tell_noise_from_scene() -> None:
    clean, noisy = scene(rows=60, cols=50)
    good = account.compare(noisy, noisy.copy(data=clean.astype(np.float32)))
    assert good["likeness"].abs().max() < 0.1 and good["edges"].abs().max() < 0.1
    true = np.sqrt(np.mean((noisy.values - clean) ** 2, axis=(1, 2)))
    np.testing.assert_allclose(good["noise_before"], true, rtol=0.1)  # the scene's own slopes are no noise
    assert (good["snr_after"] > good["snr_before"] + 15).all()
    smooth = np.stack([gaussian_filter(band, 2) for band in clean]).astype(np.float32)
    bad = account.compare(noisy.copy(data=clean.astype(np.float32)), noisy.copy(data=smooth))
    assert bad["likeness"].min() > 0.5 and bad["edges"].median() > 0.3
