"""Sparse and library methods: optimality, smoothness, coverage of bands, archetypes; EMIT's mixture analysis."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.ndimage import gaussian_filter
from scipy.optimize import lsq_linear, minimize

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, BandMismatch, MissingMetadata, UnknownName
from torchspectral.io.libraries import read_library
from torchspectral.unmixing.archetypal import archetypal_analysis, edaa, nearest_mixture
from torchspectral.unmixing.library.clsunsal import clsunsal
from torchspectral.unmixing.library.mua import mua
from torchspectral.unmixing.library.s2wsu import neighbours
from torchspectral.unmixing.library.sunaa import sunaa
from torchspectral.unmixing.library.sunsal import exact_sparse, sunsal
from torchspectral.unmixing.library.sunsal_tv import sunsal_tv

SPARSE = ("sunsal", "sunsal-tv", "clsunsal", "s2wsu", "mua", "sunaa")


def scene(snr: float = 20.0, seed: int = 0, size: int = 24, bands: int = 50, atoms: int = 16, k: int = 3):
    """Cube (bands, y, x) of smooth maps, library (atoms, bands), abundances (atoms, y, x); the first k are there."""
    random = np.random.default_rng(seed)
    places = np.linspace(0, 11, bands)
    library = np.stack([0.05 + 0.8 * np.interp(places, np.arange(12), random.random(12)) for _ in range(atoms)])
    maps = np.stack([gaussian_filter(random.standard_normal((size, size)), 4) for _ in range(k)])
    maps = np.exp(2 * maps / maps.std())
    shares = np.zeros((atoms, size, size))
    shares[:k] = maps / maps.sum(0)
    clean = np.einsum("ml,myx->lyx", library, shares)
    noisy = clean + np.sqrt((clean**2).mean() / 10 ** (snr / 10)) * random.standard_normal(clean.shape)
    return torch.from_numpy(noisy), torch.from_numpy(library), torch.from_numpy(shares)


def as_cube(values: torch.Tensor) -> xr.DataArray:
    return ts.make_cube(
        values.numpy().astype(np.float32), wavelength=np.linspace(450, 2400, len(values)), quantity="reflectance"
    )


def as_library(spectra: torch.Tensor, names: list[str] | None = None) -> xr.DataArray:
    names = names or [f"m{i}" for i in range(len(spectra))]
    return ts.make_spectra(spectra.numpy(), names, wavelength=np.linspace(450, 2400, spectra.shape[1]))


def error(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float((found.reshape(truth.shape) - truth).square().mean().sqrt())


def test_sunsal_comes_to_the_exact_optimum() -> None:
    cube, library, _ = scene(30)
    pixels = cube.reshape(50, -1)[:, :150]

    def loss(x: torch.Tensor) -> float:
        return float((pixels - library.T @ x).square().sum() / 2 + 1e-2 * x.abs().sum())

    exact = exact_sparse(pixels, library, 1e-2, False)
    slope = library @ (library.T @ exact - pixels) + 1e-2
    assert float(slope.min()) > -1e-9 and float((slope * exact).abs().max()) < 1e-9
    apart, _ = sunsal(pixels, library, l1=1e-2, iterations=20_000, tolerance=1e-7)
    together, _ = sunsal(pixels, library, l1=1e-2, iterations=20_000, tolerance=1e-7, together=True)
    for found in (apart, together):
        assert loss(exact) <= loss(found) * (1 + 1e-9) and loss(found) < loss(exact) * (1 + 1e-5)
    one = torch.cat([sunsal(pixels[:, i : i + 1], library, l1=1e-2)[0] for i in range(20)], dim=1)
    np.testing.assert_allclose(one, sunsal(pixels[:, :20], library, l1=1e-2)[0], atol=1e-9)
    both, _ = sunsal(pixels, library, l1=1e-2, sum_to_one=True, tolerance=1e-7, iterations=20_000)
    np.testing.assert_allclose(both.sum(0), 1, atol=1e-3)
    np.testing.assert_allclose((library.T @ both), library.T @ exact_sparse(pixels, library, 0.0, True), atol=2e-3)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_smooth_maps_at_20_db_are_better_with_total_variation(seed: int) -> None:
    cube, library, shares = scene(20, seed)
    plain = error(sunsal(cube.reshape(50, -1), library)[0], shares)
    smooth, _ = sunsal_tv(cube, library)
    assert error(smooth, shares) < 0.9 * plain
    isotropic, _ = sunsal_tv(cube, library, isotropic=True)
    assert error(isotropic, shares) < 0.9 * plain
    whole, _ = sunsal_tv(cube, library, sum_to_one=True)
    assert float((whole.sum(0) - 1).abs().mean()) < 0.05


def test_superpixels_help_at_10_db() -> None:
    cube, library, shares = scene(10)
    assert error(mua(cube, library), shares) < 0.8 * error(sunsal(cube.reshape(50, -1), library)[0], shares)


def test_total_variation_lowers_its_objective_and_spans_holes() -> None:
    cube, library, _ = scene(20, size=16)

    def loss(x: torch.Tensor) -> float:
        x = x.reshape(16, 16, 16)
        change = (x.roll(-1, 1) - x).abs().sum() + (x.roll(-1, 2) - x).abs().sum()
        model = torch.einsum("ml,myx->lyx", library, x)
        return float((cube - model).square().sum() / 2 + 1e-3 * x.abs().sum() + 0.05 * change)

    found, _ = sunsal_tv(cube, library, l1=1e-3, tv=0.05, iterations=800, tolerance=1e-6)
    start = sunsal(cube.reshape(50, -1), library, l1=1e-3)[0]
    assert loss(found) < 0.95 * loss(start)
    random = torch.Generator().manual_seed(0)
    for _ in range(5):
        step = 0.02 * torch.randn(found.shape, generator=random, dtype=torch.float64)
        assert loss((found + step).clamp_min(0)) > loss(found)
    valid = torch.ones((16, 16), dtype=torch.bool)
    valid[4:7, 5:9] = False
    wild = cube.clone()
    wild[:, ~valid] = 1e3
    one, two = (sunsal_tv(c, library, valid)[0][:, valid] for c in (cube, wild))
    np.testing.assert_allclose(one, two, atol=1e-9)


def test_collaborative_rows_are_few() -> None:
    cube, library, shares = scene(20)
    pixels = cube.reshape(50, -1)
    found, _ = clsunsal(pixels, library, l21=1.0, iterations=1000)
    rows = found.norm(dim=1)
    assert float(rows[3:].max()) < 0.3 * float(rows[:3].min())
    assert error(found, shares) < error(sunsal(pixels, library)[0], shares)


def test_neighbours_are_weighted_and_stop_at_holes() -> None:
    valid = torch.ones((5, 5), dtype=torch.bool)
    found = neighbours(torch.ones((2, 25), dtype=torch.float64), valid).reshape(2, 5, 5)
    assert float(found[0, 2, 2]) == pytest.approx(1) and float(found[1, 0, 0]) < 0.5
    valid[2, 1] = False
    assert float(neighbours(torch.ones((1, 24), dtype=torch.float64), valid)[0, 11]) == pytest.approx(
        1 - 1 / (4 + 4 / np.sqrt(2))
    )


@pytest.mark.parametrize("method", SPARSE)
def test_methods_give_named_maps(method: str) -> None:
    cube, library, shares = scene(40, size=12, atoms=8)
    settings = {"k": 3, "iterations": 60} if method == "sunaa" else {"l1": 1e-3} if method == "mua" else {}
    if method == "mua":
        settings |= {"l1_coarse": 1e-3, "beta": 0.1}
    values = as_cube(cube)
    values.values[:, 3, 4] = np.nan
    values.values[:, 5, 5] = -0.02
    result = ts.unmix(values, library=as_library(library), method=method, settings=settings)
    found = result["abundances"]
    assert list(found["layer"].values) == [f"m{i}" for i in range(8)]
    hole = np.isnan(values.values).all(0)
    assert np.isnan(found.values[:, hole]).all() and float(np.nanmin(found)) >= 0
    there = ~hole
    there[5, 5] = False
    assert np.sqrt(((found.values - shares.numpy())[:, there] ** 2).mean()) < 0.12
    model = np.einsum("ml,myx->lyx", result["endmembers"].values, found.values)
    want = np.sqrt(((values.values - model) ** 2).mean(0))
    np.testing.assert_allclose(result["rmse"].values[0][there], want[there], atol=1e-5)
    if method == "sunaa":
        assert list(result) == ["abundances", "rmse", "endmembers", "archetypes", "shares"]
        np.testing.assert_allclose(result["shares"].values[:, there].sum(0), 1, atol=1e-5)
        assert result.report.figures["iterations"] == 60


def test_sunaa_streams_as_in_memory() -> None:
    cube, library, _ = scene(30, size=12, atoms=8)
    values = as_cube(cube)
    options = {"library": as_library(library), "method": "sunaa", "settings": {"k": 3, "iterations": 5}}
    result = ts.unmix(values, tile=(5, 7), **options)
    given = torch.from_numpy(values.values.reshape(50, -1)).double()
    mixtures, shares = sunaa(given, library.float().double(), 3, 5)
    np.testing.assert_allclose(result["abundances"].values.reshape(8, -1), mixtures @ shares, atol=2e-5)
    with pytest.raises(BadInput, match="k=9 and a library of 8"):
        ts.unmix(values, 9, library=as_library(library), method="sunaa")


def test_library_that_does_not_cover_the_bands(tmp_path: Path) -> None:
    cube, library, _ = scene(40, atoms=4)
    values = as_cube(cube)
    short = as_library(library).isel(band=slice(0, 40))
    with pytest.raises(BandMismatch, match=r"missing values in \d+ of the 50 bands .*drop"):
        ts.unmix(values, library=short, resampling="linear")
    with pytest.raises(BandMismatch, match="40 bands, expected"):
        ts.unmix(values, library=short)
    result = ts.unmix(values, library=short, resampling="linear", uncovered="drop")
    assert 35 <= result["endmembers"].sizes["band"] <= 40 and result.report.dropped
    other = as_library(library).assign_coords(wavelength=("band", np.linspace(5000, 9000, 50)))
    with pytest.raises(BandMismatch):
        ts.unmix(values, library=other, resampling="linear", uncovered="drop")
    holes = as_library(library)
    holes.values[1, 7] = np.nan
    with pytest.raises(BadInput, match="missing values"):
        ts.unmix(values, library=holes)
    assert ts.unmix(values, library=holes, uncovered="drop")["endmembers"].sizes["band"] == 49
    for bad, error_ in (({"resampling": "cubic"}, BadSettings), ({"uncovered": "keep"}, BadSettings)):
        with pytest.raises(error_):
            ts.unmix(values, library=as_library(library), **bad)


def test_normalisation_and_shade_of_fcls() -> None:
    cube, library, shares = scene(60, atoms=3)
    dark = as_cube(cube * torch.linspace(0.3, 1, 24, dtype=torch.float64))
    spectra = as_library(library)
    shaded = ts.unmix(dark, library=spectra, settings={"shade": True})
    assert list(shaded["abundances"]["layer"].values)[-1] == "shade"
    np.testing.assert_allclose(shaded["abundances"].values[-1].mean(0), 1 - np.linspace(0.3, 1, 24), atol=0.02)
    for rule in ("l2", "brightness", 900):
        result = ts.unmix(dark, library=spectra, settings={"normalisation": rule})
        scaled = (
            library
            / {
                "l2": library.norm(dim=1),
                "brightness": library.square().mean(1).sqrt(),
                900: library[:, 11] / 0.5,
            }[rule][:, None]
        )
        back = shares[:3] * (library.norm(dim=1) / scaled.norm(dim=1))[:, None, None]
        assert float(np.abs(result["abundances"].values - back.numpy() / back.numpy().sum(0)).mean()) < 0.02
    with pytest.raises(BadSettings, match="removes shade"):
        ts.unmix(dark, library=spectra, settings={"shade": True, "normalisation": "l2"})
    with pytest.raises(BadSettings, match="nm off"):
        ts.unmix(dark, library=spectra, settings={"normalisation": 5000})
    blind = ts.make_cube(dark.values, quantity="reflectance")
    with pytest.raises(MissingMetadata, match="wavelengths"):
        ts.unmix(blind, library=ts.make_spectra(library.numpy(), list("abc")), settings={"normalisation": 700})


@pytest.fixture(scope="module")
def emit(samples: Path):
    folder = samples / "unmixing/emit"
    return ts.open(folder / "emit20250324t221005_jpl_unmix_ex"), read_library(folder / "basic_endmember_library.csv")


def test_emit_fractions_are_those_of_bounded_least_squares(emit) -> None:
    cube, library = emit
    result = ts.unmix(cube, library=library, method="sma")
    wave = cube["wavelength"].values
    used = cube["good"].values.copy()
    for first, last in ((0, 440), (1310, 1490), (1770, 2050), (2440, 2880)):
        used &= ~((wave >= first) & (wave <= last))
    order = np.argsort(library["wavelength"].values)
    spectra = np.stack([np.interp(wave[used], library["wavelength"].values[order], s[order]) for s in library.values])
    bright = ~(((wave >= 1300) & (wave <= 1500)) | ((wave >= 1800) & (wave <= 2000)))[used]
    spectra /= np.sqrt((spectra[:, bright] ** 2).mean(1))[:, None]
    of_class = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]])
    for row, col in np.ndindex(10, 10):
        x = lsq_linear(spectra.T, cube.values[used, row, col].astype(float), bounds=(0, 1)).x
        np.testing.assert_allclose(result["abundances"].values[:, row, col], of_class @ x / x.sum(), atol=1e-3)
        np.testing.assert_allclose(result["brightness"].values[0, row, col], x.sum(), atol=1e-3)
    assert list(result["abundances"]["layer"].values) == ["SOIL", "PV", "NPV"]
    assert result["fractions"].sizes["layer"] == 5 and result.report.figures["bands_used"] == int(used.sum())


def test_emit_runs_with_its_production_recipe_and_without_options(emit) -> None:
    cube, library = emit
    settings = {"num_endmembers": 30, "n_mc": 5, "sigma": 0.002}
    result = ts.unmix(cube, library=library, method="sma-best", settings=settings)
    assert list(result["uncertainty"]["layer"].values) == ["SOIL", "PV", "NPV", "brightness"]
    assert 0 < float(result["uncertainty"].mean()) < 0.1
    assert np.isfinite(ts.unmix(cube)["abundances"].values).all()


def bundles(noise: float = 0.0, seed: int = 0):
    """Pixels that each mix one of three spectra of class a with one of two of class b."""
    random = np.random.default_rng(seed)
    _, library, _ = scene(bands=30, atoms=5, seed=seed)
    one, two = random.integers(0, 3, 100), random.integers(3, 5, 100)
    share = random.uniform(0.2, 0.8, 100)
    values = library.numpy()[one].T * share + library.numpy()[two].T * (1 - share)
    values += noise * random.standard_normal(values.shape)
    return torch.from_numpy(values.reshape(30, 10, 10)), library, one, two, share


NAMES = ["a", "a 2", "a 3", "b", "b 2"]


@pytest.mark.parametrize("optimizer", ["bvls", "inverse", "nnls", "fcls"])
def test_mesma_finds_the_spectra_of_each_pixel(optimizer: str) -> None:
    cube, library, one, two, share = bundles(1e-4)
    settings = {"normalisation": "none", "ignore": [], "optimizer": optimizer}
    result = ts.unmix(as_cube(cube), library=as_library(library, NAMES), method="mesma", settings=settings)
    members = result["members"].values.reshape(2, -1)
    np.testing.assert_array_equal(members, [one + 1, two + 1])
    np.testing.assert_allclose(result["abundances"].values[0].ravel(), share, atol=5e-3)
    assert result.report.figures["models"] == {"2": 6}


def test_ldsqp_is_the_minimum_of_sequential_quadratic_programming() -> None:
    cube, library, *_ = bundles(0.05)
    settings = {"normalisation": "none", "ignore": [], "optimizer": "ldsqp"}
    found = ts.unmix(as_cube(cube), library=as_library(library), method="sma", settings=settings)["fractions"].values

    def cost(a: np.ndarray, y: np.ndarray) -> float:
        return float(((y - a @ library.numpy()) ** 2).sum())

    for row, col in ((0, 0), (3, 7), (9, 9)):
        given = {"args": (cube[:, row, col].numpy(),), "bounds": [(0, 1)] * 5, "tol": 1e-14}
        best = minimize(cost, np.full(5, 0.2), method="SLSQP", **given)
        np.testing.assert_allclose(found[:, row, col], best.x / best.x.sum(), atol=2e-4)


def test_mesma_levels_classes_and_limits() -> None:
    cube, library, one, _, _ = bundles()
    pure = torch.from_numpy(library.numpy()[one].T.reshape(30, 10, 10).copy())
    settings = {"normalisation": "none", "ignore": [], "levels": [1, 2]}
    result = ts.unmix(as_cube(pure), library=as_library(library, NAMES), method="mesma", settings=settings)
    np.testing.assert_array_equal(result["members"].values[1], 0)
    np.testing.assert_array_equal(result["members"].values[0].ravel(), one + 1)
    given = as_library(library).assign_coords({"class": ("spectrum", list("xxxyy"))})
    settings |= {"max_combinations": 2, "combination_type": "all"}
    few = ts.unmix(as_cube(cube), library=given, method="mesma", settings=settings)
    assert list(few["abundances"]["layer"].values) == ["x", "y"]
    assert few.report.figures["models"] == {"1": 2, "2": 2}
    strict = {"optimizer": "inverse", "normalisation": "none", "ignore": [], "min_fraction": 0.9}
    none = ts.unmix(as_cube(cube), library=given, method="mesma", settings=strict)
    assert np.isnan(none["abundances"].values).any()
    with pytest.raises(BadSettings, match="models of 3 spectra, expected 1 to 2"):
        ts.unmix(as_cube(cube), library=given, method="mesma", settings={"levels": [3]})
    with pytest.raises(BadSettings, match="3 classes for 5"):
        ts.unmix(as_cube(cube), library=given, method="mesma", settings={"classes": ["x", "y", "y"]})
    with pytest.raises(BandMismatch, match=r"outside the ignored|no band is left"):
        ts.unmix(as_cube(cube), library=given, method="sma", settings={"ignore": [[0, 3000]]})


@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
def test_monte_carlo_noise_has_the_size_that_was_asked_for(noise: str) -> None:
    """One band decides: the deviation of the fraction is that of the noise over the spectrum."""
    library = torch.eye(2, dtype=torch.float64)
    cube = torch.rand((2, 30, 30), dtype=torch.float64) * 0.2 + 0.4
    settings = {"normalisation": "none", "ignore": [], "n_mc": 40, "sigma": 0.02, "noise": noise, "shade": True}
    given = as_library(library, ["a", "b"])
    result = ts.unmix(as_cube(cube), library=given, method="sma", settings=settings, seed=5)
    want = 0.02 if noise == "gaussian" else 0.02 / np.sqrt(3)
    assert float(result["uncertainty"].values[:2].mean()) == pytest.approx(want, rel=0.05)
    assert list(result["abundances"]["layer"].values) == ["a", "b", "shade"]
    tiled = ts.unmix(as_cube(cube), library=given, method="sma", settings=settings, seed=5, tile=(7, 9), batch=2)
    np.testing.assert_allclose(tiled["uncertainty"], result["uncertainty"], atol=1e-6)
    doubt = as_cube(torch.full_like(cube, 0.04))
    twice = ts.unmix(as_cube(cube), library=given, method="sma", settings=settings, uncertainty=doubt, seed=5)
    assert float(twice["uncertainty"].values[:2].mean()) == pytest.approx(2 * want, rel=0.05)


def test_bootstrap_and_best_draw() -> None:
    cube, library, *_ = bundles(5e-3)
    given = as_library(library, NAMES)
    base = {"normalisation": "none", "ignore": [], "n_mc": 12}
    whole = ts.unmix(as_cube(cube), library=given, method="sma", settings=base)
    assert float(whole["uncertainty"].values.max()) == 0, "no noise and the same spectra: the draws agree"
    drawn = ts.unmix(as_cube(cube), library=given, method="sma", settings=base | {"bootstrap": True})
    assert float(drawn["uncertainty"].values.mean()) > 0.01
    best = ts.unmix(as_cube(cube), library=given, method="sma-best", settings=base | {"bootstrap": True})
    assert (best["rmse"].values <= drawn["rmse"].values + 1e-9).all()
    few = ts.unmix(as_cube(cube), library=given, method="sma", settings=base | {"num_endmembers": 2})
    assert float(few["uncertainty"].values.mean()) > 0.01


def test_classes_from_a_column_of_the_table(emit, tmp_path: Path) -> None:
    from torchspectral.unmixing.libraries import parse_regions, with_classes

    source = Path(emit[1].attrs["source"][0])
    made = with_classes(source, "Class")
    assert list(made["class"].values) == ["SOIL", "SOIL", "SOIL", "PV", "NPV"]
    with pytest.raises(UnknownName, match="Class"):
        with_classes(source, "Clas")
    assert parse_regions("0-440,1310-1490") == [(0, 440), (1310, 1490)]
    with pytest.raises(BadSettings, match="cannot read"):
        parse_regions("vis")


def mixed(k: int = 3, n: int = 400, seed: int = 0):
    random = np.random.default_rng(seed)
    places = np.linspace(0, 7, 30)
    spectra = np.stack([0.05 + 0.8 * np.interp(places, np.arange(8), random.random(8)) for _ in range(k)])
    shares = random.dirichlet(np.full(k, 0.4), n).T
    return torch.from_numpy(spectra.T @ shares + 0.003 * random.standard_normal((30, n))), spectra, shares


def test_archetypal_analysis_descends_to_mixtures_of_pixels() -> None:
    from torchspectral.unmixing.geometric.sivm import sivm
    from torchspectral.unmixing.scoring import score

    pixels, spectra, shares = mixed()
    rounds = list(archetypal_analysis(pixels, pixels[:, sivm(pixels, 3)].T, 8))
    losses = [loss for _, _, loss in rounds]
    assert all(b <= a * (1 + 1e-9) for a, b in pairwise(losses))
    for row in rounds[-1][0]:
        members, weights = nearest_mixture(pixels, row)
        np.testing.assert_allclose(pixels[:, members] @ weights, row, atol=1e-6)
    assert score(rounds[-1][0], rounds[-1][1], spectra, shares).figures["mean_angle"] < 0.03
    cube = ts.make_cube(pixels.numpy().reshape(30, 20, 20).astype(np.float32), quantity="reflectance")
    for method, settings in (("archetypal-analysis", {"iterations": 5}), ("edaa", {"runs": 4})):
        result = ts.unmix(cube, 3, method=method, settings=settings)
        found = score(result["endmembers"], result["abundances"], spectra, shares.reshape(3, 20, 20))
        assert found.figures["mean_angle"] < 0.08, (method, found.figures)
        np.testing.assert_allclose(result["abundances"].sum("layer"), 1, atol=1e-5)


def test_edaa_state_unmixes_another_scene() -> None:
    pixels, *_ = mixed()
    cube = ts.make_cube(pixels.numpy().reshape(30, 20, 20).astype(np.float32), quantity="reflectance")
    spectra, _ = edaa(pixels, 3, runs=3, iterations=30)
    state = {"endmembers": spectra.double(), "endmember_names": list("abc")}
    result = ts.unmix(cube[:, :7, :9], method="edaa", state=state)
    want = ts.unmix(cube[:, :7, :9], method="fcls", state=state)
    np.testing.assert_allclose(result["abundances"], want["abundances"], atol=1e-6)
    assert list(result["abundances"]["layer"].values) == ["a", "b", "c"]
