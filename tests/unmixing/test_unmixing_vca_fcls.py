"""VCA and FCLS through the public verbs: truth, tiles, nodata, libraries, impossible requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import xarray as xr

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, BandMismatch, UnknownName
from torchspectral.ops.fcls import AbundanceSolver
from torchspectral.ops.vca import vca
from torchspectral.unmixing import score


def scene(k: int = 4, bands: int = 40, rows: int = 37, cols: int = 29, snr: float = 50.0, seed: int = 0):
    """Cube with one pure pixel of each material, spectra (k, bands), abundances (k, y, x)."""
    random = np.random.default_rng(seed)
    knots = random.random((k, 8))
    places = np.linspace(0, 7, bands)
    spectra = np.stack([0.1 + 0.8 * np.interp(places, np.arange(8), row) for row in knots])
    shares = random.dirichlet(np.ones(k), rows * cols).T
    for i in range(k):
        shares[:, 7 + 211 * i] = np.eye(k)[i]
    clean = spectra.T @ shares
    noisy = clean + np.sqrt((clean**2).mean() / 10 ** (snr / 10)) * random.standard_normal(clean.shape)
    cube = ts.make_cube(
        noisy.reshape(bands, rows, cols).astype(np.float32),
        wavelength=np.linspace(450, 2400, bands),
        quantity="reflectance",
    )
    return cube, spectra, shares.reshape(k, rows, cols)


@pytest.fixture(scope="module")
def samson(samples: Path):
    """Samson with the truth that ships with its FCLS abundances; column-major as its files are."""
    folder = samples / "unmixing/samson"
    values = scipy.io.loadmat(folder / "samson_1.mat")["V"].reshape(156, 95, 95).transpose(0, 2, 1)
    spectra = scipy.io.loadmat(folder / "E.mat")["E"].T
    shares = scipy.io.loadmat(folder / "A_true.mat")["A_true"].transpose(2, 0, 1)
    cube = ts.make_cube(values.astype(np.float32), wavelength=np.linspace(401, 889, 156), quantity="reflectance")
    return cube, spectra, shares


def test_generated_scene_is_explained() -> None:
    cube, spectra, shares = scene()
    result = ts.unmix(cube, 4)
    found = score(result["endmembers"], result["abundances"], spectra, shares)
    assert found.figures["mean_angle"] < 0.01 and found.figures["rmse"] < 0.02
    assert list(result) == ["abundances", "rmse", "endmembers"] and result.primary.name == "abundances"
    assert list(result["abundances"]["layer"].values) == [f"endmember {i}" for i in range(1, 5)]
    np.testing.assert_allclose(result["endmembers"]["wavelength"], cube["wavelength"])
    residual = cube.values - np.einsum("kb,kyx->byx", result["endmembers"].values, result["abundances"].values)
    np.testing.assert_allclose(result["rmse"].values[0], np.sqrt((residual**2).mean(0)), atol=1e-6)
    assert sorted(result.report.figures["pixels"]) == sorted(
        [(7 + 211 * i) // 29, (7 + 211 * i) % 29] for i in range(4)
    )


def test_samson_best_of_five_seeds(samson) -> None:
    cube, spectra, shares = samson
    found = []
    for seed in range(5):
        result = ts.unmix(cube, 3, seed=seed)
        found.append(score(result["endmembers"], result["abundances"], spectra, shares, pixels=cube.values))
    assert min(f.figures["rmse"] for f in found) < 0.10
    # The table of the specification (section 8): mean angle, RMSE, SRE of seeds 0, 1, 2.
    for score_, angle, error, sre in zip(
        found, (0.102, 0.093, 0.102), (0.080, 0.139, 0.080), (16.0, 11.2, 16.0), strict=False
    ):
        assert score_.figures["mean_angle"] == pytest.approx(angle, abs=1e-3)
        assert score_.figures["rmse"] == pytest.approx(error, abs=1e-3)
        assert score_.figures["sre"] == pytest.approx(sre, abs=0.1)


def test_samson_truth_comes_back_from_its_spectra(samson) -> None:
    cube, spectra, shares = samson
    library = ts.make_spectra(spectra, ["soil", "tree", "water"], wavelength=cube["wavelength"].values)
    result = ts.unmix(cube, library=library)
    assert result.report.method == "unmixing/fcls"
    assert list(result["abundances"]["layer"].values) == ["soil", "tree", "water"]
    assert float(np.abs(result["abundances"].values - shares).max()) < 1e-4


def test_jasper_floor(samples: Path) -> None:
    """FCLS with the true spectra: the specification's floor for anything that uses FCLS."""
    folder = samples / "unmixing/jasper"
    values = scipy.io.loadmat(folder / "jasperRidge2_R198.mat")["Y"]
    truth = scipy.io.loadmat(folder / "end4.mat")
    cube = ts.make_cube((values / values.max()).reshape(198, 100, 100).astype(np.float32), quantity="reflectance")
    library = ts.make_spectra(truth["M"].T, ["tree", "water", "soil", "road"])
    result = ts.unmix(cube, library=library)
    found = score(library, result["abundances"], library, truth["A"].reshape(4, 100, 100), matching="none")
    assert found.figures["rmse"] == pytest.approx(0.078, abs=1e-3)


@pytest.mark.parametrize("snr", [15.0, 50.0])
@pytest.mark.parametrize("projections", [0, 256])
def test_tiled_is_untiled_and_in_memory(snr: float, projections: int) -> None:
    cube, _, _ = scene(snr=snr)
    whole = ts.unmix(cube, 4, seed=2)
    tiled = ts.unmix(cube, 4, seed=2, tile=(8, 11), settings={"projections": projections})
    assert tiled.report.figures["pixels"] == whole.report.figures["pixels"]
    for name in whole:
        np.testing.assert_allclose(tiled[name].values, whole[name].values, atol=2e-5)
    direct = vca(torch.from_numpy(cube.values.reshape(40, -1)), 4, seed=2)
    np.testing.assert_allclose(direct.endmembers.numpy(), whole["endmembers"].values, atol=1e-5)
    assert [r * 29 + c for r, c in whole.report.figures["pixels"]] == direct.indices.tolist()


@pytest.mark.parametrize("constraint", ["fcls", "scls", "nnls", "ucls"])
def test_constraints_hold(constraint: str) -> None:
    cube, spectra, _ = scene(snr=12)
    result = ts.unmix(cube, library=ts.make_spectra(spectra, list("abcd")), settings={"constraint": constraint})
    a = result["abundances"].values.reshape(4, -1)
    if constraint in ("fcls", "scls"):
        np.testing.assert_allclose(a.sum(0), 1, atol=1e-6)
    if constraint in ("fcls", "nnls"):
        assert a.min() >= 0
    else:
        assert a.min() < 0
    solver = AbundanceSolver(torch.from_numpy(spectra.astype(np.float32)), constraint)
    pixels = torch.from_numpy(cube.values.reshape(40, -1))
    assert float(solver.kkt_violation(pixels, solver.solve(pixels)).max()) < 1e-6
    np.testing.assert_allclose(a, solver.solve(pixels).numpy(), atol=1e-5)


def test_nodata_bad_bands_and_negative_reflectance() -> None:
    cube, _, _ = scene()
    cube = cube.copy()
    cube[:, 0, 0] = np.nan
    cube[:, 20:22, 5] = np.nan
    cube[3, 30, 20] = np.nan
    cube[:, 10, 10] = -0.05
    good = np.ones(40, dtype=bool)
    good[[4, 17]] = False
    cube[4] = -9.9
    cube = cube.assign_coords(good=("band", good))
    result = ts.unmix(cube, 4, seed=1)
    assert result["endmembers"].sizes["band"] == 38
    a = result["abundances"]
    hole = np.isnan(cube.values[good]).all(0)
    assert bool(np.isnan(a.values[:, hole]).all()) and bool(np.isfinite(a.values[:, ~hole]).all())
    assert bool(np.isnan(result["rmse"].values[0][hole]).all())
    assert result.report.dropped and result.report.filled


def test_counts_are_unmixed_as_reflectance_is() -> None:
    cube, _, _ = scene()
    counts = (cube * 1e4).round().astype(np.int16)
    counts.attrs = {"quantity": "dn"}
    one, two = ts.unmix(cube, 4), ts.unmix(counts, 4)
    np.testing.assert_allclose(one["abundances"].values, two["abundances"].values, atol=5e-3)


def test_auto_counts_and_is_bounded() -> None:
    cube, _, _ = scene(k=5, rows=50, cols=50, snr=40)
    result = ts.unmix(cube)
    figures = result.report.figures
    assert abs(figures["k"] - 5) <= 1 and figures["counts"]["hysime"] == figures["k"]
    assert len(figures["counts"]["hfc"]) == len(figures["counts"]["nwhfc"]) == 3
    few = ts.endmembers(cube, settings={"most": 3})
    assert few["endmembers"].shape == (3, 40)
    assert few.report.figures["counts"]["hysime"] > 3


def test_endmembers_then_their_state_again() -> None:
    cube, _, _ = scene()
    result = ts.unmix(cube, 4)
    library = ts.endmembers(cube, 4)["endmembers"]
    np.testing.assert_array_equal(library.values, result["endmembers"].values)
    state = {"endmembers": torch.from_numpy(library.values), "endmember_names": ["w", "x", "y", "z"]}
    again = ts.unmix(cube, method="fcls", state=state)
    np.testing.assert_allclose(again["abundances"].values, result["abundances"].values, atol=1e-4)
    assert list(again["abundances"]["layer"].values) == ["w", "x", "y", "z"]


def test_endmembers_that_were_chosen_as_they_are() -> None:
    cube, _, _ = scene()
    result = ts.endmembers(cube, 4, settings={"denoise": False})
    picked = [cube.values[:, r, c] for r, c in result.report.figures["pixels"]]
    np.testing.assert_allclose(result["endmembers"].values, picked, rtol=1e-6)


def test_library_on_other_bands_only_on_request() -> None:
    cube, spectra, shares = scene(bands=60)
    fine = ts.make_spectra(spectra, list("abcd"), wavelength=cube["wavelength"].values)
    coarse = cube[:, :, :].isel(band=slice(1, 59, 2))
    with pytest.raises(BandMismatch, match="resample"):
        ts.unmix(coarse, library=fine)
    result = ts.unmix(coarse, library=fine, resample=True)
    assert float(np.abs(result["abundances"].values - shares).mean()) < 0.05


def test_more_spectra_than_bands_and_dependent_ones() -> None:
    cube, spectra, _ = scene(bands=6)
    many = ts.make_spectra(np.concatenate([spectra, spectra, spectra[:2]]), [str(i) for i in range(10)])
    one = ts.unmix(cube, library=ts.make_spectra(spectra, list("abcd")))
    two = ts.unmix(cube, library=many)
    np.testing.assert_allclose(two["rmse"].values, one["rmse"].values, atol=1e-6)
    np.testing.assert_allclose(two["abundances"].values.sum(0), 1, atol=1e-5)


def cube_of(values: np.ndarray) -> xr.DataArray:
    return ts.make_cube(np.asarray(values, dtype=np.float32), quantity="reflectance")


def test_the_smallest_scenes_that_work() -> None:
    two = cube_of([[[0.1, 0.9]], [[0.8, 0.2]]])
    result = ts.unmix(two, 2)
    np.testing.assert_allclose(np.sort(result["abundances"].values, axis=0)[:, 0], [[0, 0], [1, 1]], atol=1e-5)
    one = ts.unmix(cube_of(np.full((5, 1, 1), 0.3)), library=ts.make_spectra(np.eye(5)[:3], list("abc")))
    np.testing.assert_allclose(one["abundances"].values.ravel(), 1 / 3, atol=1e-6)
    alone = ts.unmix(cube_of(np.full((5, 2, 2), 0.3)), library=ts.make_spectra(np.ones((1, 5)), ["a"]))
    np.testing.assert_allclose(alone["abundances"].values, 1, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "k", "error", "message"),
    [
        (np.full((5, 1, 1), 0.3), 2, BadInput, "1 valid pixels"),
        (np.full((5, 4, 4), 0.3), 2, BadInput, "span 0 dimensions"),
        (np.zeros((5, 4, 4)), 2, BadInput, "zero"),
        (np.full((5, 4, 4), np.nan), 2, BadInput, "no valid pixel|nodata"),
        (np.random.default_rng(0).random((5, 4, 4)), 7, BadInput, "at most 6"),
        (np.random.default_rng(0).random((5, 4, 4)), 1, BadSettings, "at least 2"),
        (np.random.default_rng(0).random((1, 4, 4)), 2, BandMismatch, "at least 2"),
        (np.random.default_rng(0).random((5, 4, 4)), "many", BadSettings, "many"),
    ],
)
def test_impossible_requests_say_so(values: np.ndarray, k: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ts.unmix(cube_of(values), k)


def test_conflicting_requests_say_so() -> None:
    cube, spectra, _ = scene()
    library = ts.make_spectra(spectra, list("abcd"))
    with pytest.raises(BadSettings, match="expected one of them"):
        ts.unmix(cube, 4, library=library)
    with pytest.raises(UnknownName, match="no input 'library'"):
        ts.unmix(cube, library=library, method="vca")
    with pytest.raises(BadInput, match="neither a library nor a state"):
        ts.unmix(cube, method="fcls")
    with pytest.raises(BadInput, match="no values"):
        ts.unmix(cube, library=ts.make_spectra(np.full((2, 40), np.nan), ["a", "b"]))


@pytest.mark.slow
def test_same_seed_same_bytes_with_two_workers(tmp_path: Path) -> None:
    cube, _, _ = scene()
    one = ts.unmix(cube, 4, tile=(10, 10))
    two = ts.unmix(cube, 4, tile=(10, 10), workers=2)
    for name in one:
        assert one[name].values.tobytes() == two[name].values.tobytes()


def test_folder_holds_everything(tmp_path: Path) -> None:
    cube, _, _ = scene()
    memory = ts.unmix(cube, 4)
    result = ts.unmix(cube, 4, out=f"{tmp_path}/unmixed/")
    names = {p.name for p in (tmp_path / "unmixed").iterdir()}
    assert {"abundances.tif", "rmse.tif", "endmembers.sli", "endmembers.csv"} <= names
    assert any(name.endswith(".run.yaml") for name in names)
    for name in memory:
        np.testing.assert_allclose(np.asarray(result[name]), memory[name].values, atol=1e-6)
    assert list(result["abundances"]["layer"].values) == [f"endmember {i}" for i in range(1, 5)]


def test_of_several_draws_the_largest_simplex_is_kept() -> None:
    """Two materials are near twins: most draws take one of them twice."""
    random = np.random.default_rng(4)
    spectra = random.random((4, 40)) * 0.5 + 0.2
    spectra[3] = spectra[2] + 0.02 * random.standard_normal(40)
    shares = random.dirichlet(np.full(4, 0.2), 900).T
    values = spectra.T @ shares + 0.004 * random.standard_normal((40, 900))
    cube = ts.make_cube(values.reshape(40, 30, 30).astype(np.float32), quantity="reflectance")
    axes = np.linalg.svd(values - values.mean(1, keepdims=True), full_matrices=False)[0][:, :3]

    def volume(**settings):
        found = ts.endmembers(cube, 4, settings=settings)["endmembers"].values
        return abs(np.linalg.det(np.vstack([np.ones(4), axes.T @ (found.T - values.mean(1, keepdims=True))])))

    many = volume(draws=8)
    assert many > 1.05 * volume()
    assert volume(draws=8, projections=0) == pytest.approx(many, rel=1e-5)
