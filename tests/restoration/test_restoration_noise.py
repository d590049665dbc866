"""Noise of a scene, band by band."""

from __future__ import annotations

import json

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.cli import main
from torchspectral.errors import BadInput


def scene(stripes: float = 0.0):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:60, :50] / 20
    pure = np.cumsum(rng.random((3, 20)), 1) / 20 + 0.2
    clean = np.einsum("kb,kyx->byx", pure, np.stack([1 + np.sin(y + x), 1 + np.cos(2 * y), 1 + np.sin(x)]) / 3)
    sigma = np.linspace(0.005, 0.05, 20)
    values = clean + sigma[:, None, None] * rng.standard_normal(clean.shape)
    values[6] += stripes * rng.standard_normal(50)
    return sigma, values.astype(np.float32)


def test_noise_of_each_band_is_found() -> None:
    sigma, values = scene()
    table = ts.noise(ts.make_cube(values, quantity="reflectance"))["bands"]
    np.testing.assert_allclose(table["noise"], sigma, rtol=0.3)
    assert (table["noise_shift"] > 0.9 * sigma).all() and not table["dead"].any()
    expected = 10 * np.log10((values.astype(float) ** 2).mean((1, 2)) / sigma**2)
    np.testing.assert_allclose(table["snr"], expected, atol=3)


def test_stripes_dead_columns_and_dead_bands() -> None:
    _, values = scene(0.2)
    values[3], values[4], values[9, :, 7] = 0.3, np.nan, 0
    found = ts.noise(ts.make_cube(values, quantity="reflectance"))
    table, figures = found["bands"], found.report.figures
    assert figures["dead_bands"] == [4, 5] and figures["striped_bands"][0] == 7
    assert table["dead_columns"].tolist() == [1 if b == 9 else 0 for b in range(20)]
    assert np.isnan(table["noise"][4]) and table["noise"][3] == 0


def test_strips_change_nothing(monkeypatch) -> None:
    _, values = scene()
    cube = ts.make_cube(values, quantity="reflectance")
    whole = ts.noise(cube)["bands"]
    monkeypatch.setattr("torchspectral.restoration.base.STRIP_BYTES", 20 * 50 * 8 * 7)
    strips = ts.noise(cube)["bands"]
    for key in ("noise", "snr", "stripes", "stripe_index"):
        np.testing.assert_allclose(strips[key], whole[key], rtol=1e-9)


@pytest.mark.parametrize("shape", [(1, 12, 9), (5, 7, 5), (40, 3, 3)])
def test_small_scenes(shape) -> None:
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    assert np.isfinite(ts.noise(ts.make_cube(values, quantity="reflectance"))["bands"]["noise"]).all()


def test_nothing_but_nodata_is_refused() -> None:
    with pytest.raises(BadInput, match="no valid pixel"):
        ts.noise(ts.make_cube(np.full((3, 4, 4), np.nan, np.float32), quantity="reflectance"))


def test_command(tmp_path, capsys) -> None:
    _, values = scene()
    ts.save(ts.make_cube(values, quantity="reflectance"), tmp_path / "scene.tif")
    for name in ("noise.csv", "noise.png"):
        with pytest.raises(SystemExit) as stop:
            main(["noise", str(tmp_path / "scene.tif"), "-o", str(tmp_path / name), "--json"])
        assert stop.value.code == 0 and (tmp_path / name).stat().st_size > 500
        told = json.loads(capsys.readouterr().out)
        assert len(told["bands"]) == 20 and told["median_noise"] > 0
