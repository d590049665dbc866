"""MNF: what it keeps, what it removes, what it leaves alone; the account of any restoration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import torchspectral as ts
from torchspectral.errors import BadCube, BadInput
from torchspectral.io.samples import indian_pines
from torchspectral.restoration import compare


def scene(bands: int = 40, rows: int = 48, cols: int = 36, rank: int = 4, seed: int = 0):
    """Smooth low-rank cube with noise that grows along the bands: noisy cube, clean values, noise of each band."""
    random = np.random.default_rng(seed)
    maps = np.stack([gaussian_filter(random.standard_normal((rows, cols)), 6) * 15 for _ in range(rank)])
    spectra = np.stack([np.interp(np.linspace(0, 7, bands), np.arange(8), random.random(8)) for _ in range(rank)])
    clean = 9 + np.einsum("kb,kyx->byx", spectra, maps)
    sigma = np.linspace(0.1, 0.6, bands)
    noisy = clean + sigma[:, None, None] * random.standard_normal(clean.shape)
    cube = ts.make_cube(noisy.astype(np.float32), wavelength=np.linspace(400, 2400, bands), quantity="radiance")
    return cube, clean, sigma


def error(values: np.ndarray, clean: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean((values - clean) ** 2)))


@pytest.mark.parametrize("noise", ["shift", "regression"])
def test_noise_goes_and_signal_stays(noise: str) -> None:
    cube, clean, sigma = scene()
    result = ts.restore(cube, method="mnf", settings={"noise": noise})
    assert result.report.figures["components"] == 4
    assert error(result["cube"].values, clean) < 0.4 * error(cube.values, clean)
    bands = result["bands"]
    np.testing.assert_allclose(bands["noise_before"][8:], sigma[8:], rtol=0.25)
    removed = np.sqrt(((cube.values - result["cube"].values) ** 2).mean((1, 2)))
    np.testing.assert_allclose(bands["removed"], removed, rtol=1e-3)
    assert (bands["snr_after"] > bands["snr_before"]).all()
    np.testing.assert_allclose(bands["wavelength"], cube["wavelength"])


def test_all_components_change_nothing() -> None:
    cube, _, _ = scene()
    result = ts.restore(cube, method="mnf", settings={"components": 40})
    np.testing.assert_allclose(result["cube"].values, cube.values, rtol=1e-5)
    assert result["cube"].attrs["quantity"] == "radiance"


def test_fewer_components_than_the_threshold_keeps() -> None:
    cube, _, _ = scene()
    snr = ts.restore(cube, method="mnf").report.figures["component_snr"]
    assert sorted(snr, reverse=True) == snr and len(snr) == 4
    two = ts.restore(cube, method="mnf", settings={"components": 2, "write_components": True})
    assert two["components"].shape == (2, 48, 36)
    assert list(two["components"]["layer"].values) == ["component 1", "component 2"]
    flat = two["components"].values.reshape(2, -1)
    # Unit noise: the variance of a component is its signal-to-noise ratio plus one; components are uncorrelated.
    np.testing.assert_allclose(np.cov(flat), np.diag(np.array(snr[:2]) + 1), rtol=1e-2, atol=1e-2 * snr[0])


@pytest.mark.parametrize("settings", [{}, {"noise": "regression"}, {"direction": "x"}, {"direction": "y"}])
def test_tiled_is_untiled(settings: dict) -> None:
    cube, _, _ = scene()
    cube = cube.copy()
    cube[:, 5:9, 3] = np.nan
    whole = ts.restore(cube, method="mnf", settings=settings)
    tiled = ts.restore(cube, method="mnf", settings=settings, tile=(13, 7), batch=2)
    np.testing.assert_allclose(tiled["cube"].values, whole["cube"].values, rtol=1e-5)
    for column in whole["bands"]:
        np.testing.assert_allclose(whole["bands"][column], tiled["bands"][column], rtol=1e-5)
    assert bool(np.isnan(whole["cube"].values[:, 5:9, 3]).all())
    assert int(np.isnan(whole["cube"].values).sum()) == 4 * 40


@pytest.mark.parametrize("gain", [1e4, 1e-3])
def test_scale_does_not_matter(gain: float) -> None:
    cube, _, _ = scene()
    one, two = ts.restore(cube, method="mnf"), ts.restore(cube * gain, method="mnf")
    np.testing.assert_allclose(two["cube"].values, one["cube"].values * gain, rtol=1e-4)


def test_dead_and_doubled_bands_do_no_harm() -> None:
    cube, clean, _ = scene()
    values = np.concatenate([cube.values, np.full((1, 48, 36), 2.5), cube.values[:1]])
    for noise in ("shift", "regression"):
        result = ts.restore(ts.make_cube(values.astype(np.float32)), method="mnf", settings={"noise": noise})
        got = result["cube"].values
        np.testing.assert_allclose(got[40], 2.5, rtol=1e-6)
        assert np.isfinite(got).all() and error(got[:40], clean) < 0.5 * error(values[:40], clean)


def test_bad_bands_come_back_empty() -> None:
    cube, _, _ = scene()
    good = np.ones(40, dtype=bool)
    good[7] = False
    result = ts.restore(cube.assign_coords(good=("band", good)), method="mnf")
    assert bool(np.isnan(result["cube"].values[7]).all()) and len(result["bands"]) == 39


def test_input_is_left_alone() -> None:
    cube, _, _ = scene()
    before = cube.values.copy()
    ts.restore(cube, method="mnf")
    np.testing.assert_array_equal(cube.values, before)


def test_impossible_requests_say_so() -> None:
    cube, _, _ = scene()
    with pytest.raises(BadInput, match="only 40 bands vary"):
        ts.restore(cube, method="mnf", settings={"components": 41})
    with pytest.raises(BadInput, match=r"at least 2|neighbouring"):
        ts.restore(cube[:, :1, :1], method="mnf")


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("mnf", {}),
        ("mnf", {"noise": "regression"}),
        ("fast-eigen", {}),
        ("fast-eigen", {"robust": "on", "loops": 2}),
    ],
)
def test_one_band_and_equal_pixels_pass(method, settings) -> None:
    cube, _, _ = scene(rows=24)
    flat = ts.restore(cube * 0 + 3, method=method, settings=settings)["cube"].values
    np.testing.assert_allclose(flat, 3, rtol=1e-6)
    if "robust" not in settings:
        one = ts.restore(cube[:1], method=method, settings=settings)["cube"].values
        np.testing.assert_allclose(one, cube.values[:1], atol=0.05 * float(cube.values[0].std()))


def test_compare_accounts_for_any_restoration() -> None:
    cube, clean, sigma = scene(rows=200)
    cube = cube.copy()
    cube[:, 0, 0] = np.nan
    table = compare(cube, cube.copy(data=clean.astype(np.float32)))
    assert (table["pixels"] == 200 * 36 - 1).all()
    np.testing.assert_allclose(table["removed"], sigma, rtol=0.05)
    np.testing.assert_allclose(table["noise_before"][10:], sigma[10:], rtol=0.1)
    assert (table["snr_after"] > table["snr_before"]).all()
    from torchspectral.restoration import base

    before, base.STRIP_BYTES = base.STRIP_BYTES, 40 * 36 * 8 * 7
    try:
        np.testing.assert_allclose(compare(cube, cube * 0.9), _at_once(cube), rtol=1e-6, atol=1e-9)
    finally:
        base.STRIP_BYTES = before
    with pytest.raises(BadCube, match="same bands"):
        compare(cube, cube[:3])


def _at_once(cube):
    return compare(cube, cube * 0.9)


def test_indian_pines_water_bands_get_quieter() -> None:
    cube, _ = indian_pines()
    result = ts.restore(cube, method="mnf")
    figures = result.report.figures
    assert 5 <= figures["components"] <= 60
    bands = result["bands"]
    assert bands["snr_after"][0] > bands["snr_before"][0] + 2  # the first band is AVIRIS' noisiest
    assert result["cube"].dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "five", "default"), [("gaussian", 30.93, 32.4), ("noniid", 33.39, 36.9), ("mixture", 26.50, 27.0)]
)
def test_row_of_the_published_table(parity_dir, kind: str, five: float, default: float) -> None:
    """MNF-5 of the restoration specification (section 5); the default must not be worse."""
    import runpy

    made = runpy.run_path(str(parity_dir / "restoration/synthetic_cube.py"))
    clean = made["clean"](128, 128, 64)
    cube = ts.make_cube(made["noisy"](clean, kind).transpose(2, 0, 1))

    def psnr(**settings) -> float:
        got = ts.restore(cube, method="mnf", settings=settings)["cube"].values
        return float(-10 * np.log10(((got - clean.transpose(2, 0, 1)) ** 2).mean()))

    assert psnr(components=5, noise="regression") == pytest.approx(five, abs=0.05)
    assert psnr() > default
