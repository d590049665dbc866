"""Degrading scenes, published test sets, and the figures of the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from affine import Affine
from scipy.io import loadmat

import torchspectral as ts
from torchspectral import metrics
from torchspectral.cli import main
from torchspectral.errors import OutputExists, TooLarge
from torchspectral.geo import grid_of, place
from torchspectral.ops.resize import imresize
from torchspectral.restoration import degradation, protocol
from torchspectral.synth import degrade_array


def scene(bands: int = 9, rows: int = 30, cols: int = 40, *, dtype: str = "float32") -> xr.DataArray:
    values = np.random.default_rng(0).uniform(200, 3000, (bands, rows, cols)).astype(dtype)
    attrs: dict = {"sensor": "toy"}
    if dtype == "float32":
        values[:, 3:6, 8:12] = np.nan
    else:
        values[:, 3:6, 8:12] = 0
        attrs["nodata"] = 0
    good = np.arange(bands) != 2
    cube = ts.make_cube(values, wavelength=np.linspace(450, 900, bands), good=good, attrs=attrs)
    return place(cube, Affine(30, 0, 4e5, 0, -30, 5e6), 32633)


RECIPES = ["icvl-mixture", "blur:9", "motion", "sr:4", "inpaint:0.7", "bands:0.3", "haze:0.5", "poisson", "imresize:2",
           "blur:9+gaussian:30+imresize:2", "mp-hsir:complex"]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_windows_equal_the_whole(recipe: str, tmp_path: Path) -> None:
    cube = scene()
    ts.save(cube, tmp_path / "scene.tif")
    whole = ts.degrade(cube, recipe, seed=4)
    lazy = ts.degrade(ts.open(tmp_path / "scene.tif"), recipe, seed=4)
    assert not lazy["cube"].variable._in_memory
    assert lazy["cube"].shape == whole["cube"].shape
    for y, x in ((slice(0, 3), slice(0, 40)), (slice(5, 13), slice(7, 9)), (slice(10, 15), slice(0, 20))):
        for name in {"cube", "mask"} & set(whole):
            part = lazy[name].isel(band=[1, 5, 6], y=y, x=x).values
            np.testing.assert_allclose(part, whole[name].values[[1, 5, 6], y, x], rtol=2e-6, atol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_metadata_and_nodata_stay(dtype: str) -> None:
    cube = scene(dtype=dtype)
    before = cube.copy(deep=True)
    made = ts.degrade(cube, "icvl-mixture", seed=1)
    noisy = made["cube"]
    xr.testing.assert_identical(cube, before)
    assert noisy.dtype == np.float32 and noisy.shape == cube.shape
    empty = np.isnan(cube.values) if dtype == "float32" else cube.values == 0
    np.testing.assert_array_equal(np.isnan(noisy.values), empty)
    for name in ("wavelength", "good", "number"):
        np.testing.assert_array_equal(noisy[name], cube[name])
    assert grid_of(noisy).transform == grid_of(cube).transform and noisy.attrs["sensor"] == "toy"
    assert "icvl-mixture" in noisy.attrs["history"][-1] and "nodata" not in noisy.attrs
    assert (made["mask"].values[empty] == 0).all() and set(np.unique(made["mask"])) <= {0, 1, 2, 4}
    table = made["bands"]
    assert len(table) == 9 and {"sigma", "stripes", "dead_lines", "impulses"} <= set(table)


def test_noise_is_measured_in_the_range_of_the_scene() -> None:
    cube = scene()
    low, high = (float(f(cube.isel(band=cube["good"].values))) for f in (np.nanmin, np.nanmax))
    noise = (ts.degrade(cube, "gaussian:50", seed=2)["cube"] - cube).values
    assert np.nanstd(noise) == pytest.approx(50 / 255 * (high - low), rel=0.03)
    unit = (cube - low) / (high - low)
    noise = (ts.degrade(unit, "gaussian:50", seed=2, settings={"scale": "physical"})["cube"] - unit).values
    assert np.nanstd(noise) == pytest.approx(50 / 255, rel=0.03)


def test_legacy_generator_is_that_of_the_published_code() -> None:
    cube = scene()
    flat = cube.fillna(0.5 * (cube.min() + cube.max()))
    made = ts.degrade(flat, "icvl-mixture", seed=2022, settings={"generator": "legacy", "scale": "physical"})
    expected = degrade_array(flat.values.astype(np.float64), "icvl-mixture", np.random.RandomState(2022))
    np.testing.assert_allclose(made["cube"].values, expected.values, rtol=1e-6)
    np.testing.assert_array_equal(made["mask"].values, expected.mask)


def test_legacy_generator_refuses_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degradation, "LEGACY_BYTES", 1000)
    with pytest.raises(TooLarge, match="generator=rows"):
        ts.degrade(scene(), "gaussian:50", settings={"generator": "legacy"})


def test_imresize_is_matlabs_and_lies_on_the_ground() -> None:
    cube = scene().fillna(1000.0)
    made = ts.degrade(cube, "imresize:2")["cube"]
    expected = imresize(torch.from_numpy(cube.values).double(), 0.5)
    np.testing.assert_allclose(made.values, expected, rtol=1e-5)
    assert grid_of(made).transform == grid_of(cube).scaled(0.5).transform


def test_command_writes_cube_mask_and_report(tmp_path: Path) -> None:
    ts.save(scene(), tmp_path / "scene.tif")
    stamp = (tmp_path / "scene.tif").read_bytes()
    words = ["degrade", str(tmp_path / "scene.tif"), "--set", "recipe=icvl-mixture", "--seed", "1"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "-o", str(tmp_path / "noisy.tif")])
    assert stop.value.code == 0
    noisy, mask = ts.open(tmp_path / "noisy.tif"), ts.open(tmp_path / "noisy.mask.tif")
    direct = ts.degrade(ts.open(tmp_path / "scene.tif"), "icvl-mixture", 1)
    np.testing.assert_array_equal(noisy.values, direct["cube"].values)
    np.testing.assert_array_equal(mask.values, direct["mask"].values)
    facts = yaml.safe_load((tmp_path / "noisy.tif.run.yaml").read_text())
    assert facts["settings"]["recipe"] == "icvl-mixture" and facts["seed"] == 1
    assert len(facts["figures"]["sigma"]) == 9 and "scene.tif" in str(facts["inputs"])
    assert (tmp_path / "scene.tif").read_bytes() == stamp
    with pytest.raises(OutputExists):
        ts.degrade(scene(), "noniid", out=tmp_path / "noisy.tif")
    found = ts.degrade(scene(), "icvl-impulse", out=f"{tmp_path}/all/")
    assert {p.name for p in (tmp_path / "all").iterdir()} >= {"cube.tif", "mask.tif", "bands.csv"}
    assert set(found.paths) == {"cube", "mask", "bands"}


def test_published_set_goes_on_with_one_generator(tmp_path: Path) -> None:
    images = [("a", np.full((4, 6, 7), 0.5)), ("b", np.full((4, 5, 6), 0.25))]
    made = list(protocol.published_test_set(images, "gaussian:blind"))
    rng = np.random.RandomState(2022)
    for one, (_, truth) in zip(made, images, strict=True):
        sigma = 10 + 60 * rng.rand(1)
        np.testing.assert_array_equal(one["input"], truth + sigma / 255 * rng.randn(*truth.shape))
        assert one["sigma"] == pytest.approx(sigma[0])
    path = protocol.save_test_image(tmp_path / "a.mat", made[0])
    stored = loadmat(path)
    np.testing.assert_array_equal(stored["input"].transpose(2, 0, 1), made[0]["input"])
    assert stored["gt"].shape == (6, 7, 4) and float(stored["sigma"].squeeze()) == made[0]["sigma"]


def test_two_protocols_prepare_icvl_differently() -> None:
    raw = np.random.default_rng(0).uniform(0, 4095, (3, 40, 50))
    raw[:, 0, 0] = 9000.0
    ours, theirs = protocol.test_image(raw, "hsir", 16), protocol.test_image(raw, "mp-hsir", 16)
    assert ours.shape == theirs.shape == (3, 16, 16)
    assert ours.max() == 1 and theirs.max() < 0.5


def test_real_pairs_share_their_histogram() -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 200, (3, 20, 18))
    noisy, reference = protocol.real_pair(truth**1.5 + rng.normal(0, 1, truth.shape), truth, (16, 12))
    assert noisy.shape == reference.shape == (3, 16, 12)
    assert abs(np.median(noisy) - np.median(reference)) < 0.02


@pytest.mark.parametrize(("name", "clamp", "span"), [("hsir", True, 2.0), ("hsdt", False, 2.0), ("mp-hsir", True, 1.0)])
def test_figures_say_how_they_were_made(name: str, clamp: bool, span: float) -> None:
    rng = np.random.default_rng(2)
    truth = rng.random((5, 20, 20))
    found = protocol.figures(truth + rng.normal(0, 0.2, truth.shape), truth, protocol=name)
    assert (found["clamp_output"], found["ssim_range"], found["perfect_bands"]) == (clamp, span, 0)
    assert found["sam_degrees"] == pytest.approx(np.degrees(found["sam"]))
    loose = protocol.figures(truth + rng.normal(0, 0.2, truth.shape), truth, protocol=name, clamp_output=False)
    assert loose["psnr"] < found["psnr"] or not clamp


def test_completion_scores_lost_bands_only() -> None:
    truth = np.random.default_rng(3).uniform(0.1, 1, (6, 16, 16))
    degraded = degrade_array(truth, "bands:0.34", 1).values
    found = protocol.figures(degraded, truth, protocol="mp-hsir", degraded=degraded)
    lost = ~degraded.any((1, 2))
    assert found["psnr"] == pytest.approx(np.mean(-10 * np.log10((truth[lost] ** 2).mean((1, 2)))))


def test_perfect_bands_are_counted() -> None:
    truth = torch.rand(4, 12, 12, dtype=torch.float64)
    out = truth.clone()
    out[0] += 0.1
    plain, capped = metrics.MPSNR(), metrics.MPSNR(cap=80)
    assert np.isinf(metrics.measure(plain, out, truth)) and plain.perfect == 3
    assert metrics.measure(capped, out, truth) == pytest.approx((20 + 3 * 80) / 4)


def test_figures_without_truth() -> None:
    rng = np.random.default_rng(4)
    spectra, maps = rng.random((60, 3)), rng.random((3, 50 * 40))
    sigma = np.linspace(0.01, 0.02, 60)
    clean = (spectra @ maps).reshape(60, 50, 40)
    noisy = torch.from_numpy(clean + sigma[:, None, None] * rng.standard_normal(clean.shape))
    np.testing.assert_allclose(metrics.noise_std(noisy), sigma, rtol=0.15)
    noisy[7] = 0.5
    assert metrics.noise_std(noisy)[7] == 0
    flat = torch.zeros(2, 30, 20)
    flat[1, :, ::2] = 1
    np.testing.assert_allclose(metrics.stripe_index(flat), [0, 1])
    white = torch.from_numpy(rng.standard_normal((2, 60, 60)))
    white[1] = (white[1] + white[1].roll(1, -1)) / 2
    across = metrics.residual_autocorrelation(white)
    assert abs(float(across[0])) < 0.06 and float(across[1]) == pytest.approx(0.5, abs=0.06)
    assert abs(float(metrics.residual_autocorrelation(white, (1, 0))[1])) < 0.06
