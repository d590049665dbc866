"""The unmixing networks: better than their start on known truth, weights of the authors, masks, scales, tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, BadWeights
from torchspectral.unmixing import score
from torchspectral.unmixing.networks.base import shares

K, BANDS = 3, 30
TINY: dict[str, dict[str, Any]] = {
    "admmnet": {"epochs": 1},
    "cnnaeu": {"epochs": 1, "patch": 8, "batch": 2},
    "cycu-net": {"epochs": 1},
    "deeptrans-hsu": {"epochs": 1, "patch": 4, "dim": 16},
    "misicnet": {"iterations": 1},
    "msnet": {"iterations": 1},
    "pgmsu": {"epochs": 1},
    "suncnn": {"iterations": 1},
    "undip": {"iterations": 1},
}
SIZES = {"deeptrans-hsu": {"size": 24, "patch": 4, "dim": 16}}


def scene(snr: float = 30.0, sharpness: float = 1.8, rows: int = 24, cols: int = 24, seed: int = 0):
    """Smooth spectra in smooth shares: cube, spectra (k, bands), shares (k, y, x)."""
    random = np.random.default_rng(seed)
    place = np.linspace(0, 1, BANDS)
    widths, slopes = random.uniform(0.2, 0.35, K), random.random(K)
    spectra = np.stack([
        0.1 + 0.7 * np.exp(-(((place - centre) / width) ** 2)) + 0.1 * slope * place
        for centre, width, slope in zip((0.15, 0.5, 0.85), widths, slopes, strict=True)
    ])  # fmt: skip
    fields = np.stack([gaussian_filter(random.standard_normal((rows, cols)), 2.0) for _ in range(K)])
    weight = np.exp(sharpness * fields / fields.std((1, 2), keepdims=True))
    parts = weight / weight.sum(0)
    clean = np.einsum("kb,kyx->byx", spectra, parts)
    noisy = clean + np.sqrt((clean**2).mean() / 10 ** (snr / 10)) * random.standard_normal(clean.shape)
    cube = ts.make_cube(noisy.astype(np.float32), wavelength=np.linspace(450, 900, BANDS), quantity="reflectance")
    return cube, spectra, parts


def library_of(cube, spectra: np.ndarray, more: int = 0):
    """The true spectra, and some that are not in the scene."""
    others = 0.05 + 0.8 * spectra[::-1, ::-1][:more]
    values = np.concatenate([spectra, others]).astype(np.float32)
    names = [f"mineral {i}" for i in range(len(values))]
    return ts.make_spectra(values, names, wavelength=cube["wavelength"].values)


def scored(result, spectra: np.ndarray, parts: np.ndarray, matching: str = "angle") -> tuple[float, float]:
    found, maps = result["endmembers"].values[:K], result["abundances"].values[:K]
    figures = score(found, maps, spectra, parts, matching=matching).figures
    return figures["mean_angle"], figures["rmse_as_given"]


@pytest.mark.parametrize(
    ("method", "noise", "first", "settings", "floor"),
    [
        ("admmnet", (30, 1.8), {"epochs": 1, "learning_rate": 1e-9}, {"epochs": 30, "batch": 64}, 0.012),
        ("cnnaeu", (30, 1.8), {"epochs": 1, "patch": 12, "batch": 4}, {"epochs": 150, "patch": 12, "batch": 4}, 0.25),
        ("cycu-net", (6, 1.2), {"epochs": 1}, {"epochs": 100}, 0.20),
        (
            "deeptrans-hsu", (12, 1.8), {"epochs": 1, "patch": 4, "dim": 32},
            {"epochs": 40, "patch": 4, "dim": 32}, 0.08,
        ),
        ("misicnet", (12, 1.2), {"iterations": 1}, {"iterations": 30, "average": 0.8, "simplex": 1.0}, 0.10),
        pytest.param("msnet", (6, 1.2), {"iterations": 1}, {"iterations": 80}, 0.12, marks=pytest.mark.slow),
        ("pgmsu", (30, 1.8), {"epochs": 1}, {"epochs": 10}, 0.1),
    ],
)  # fmt: skip
def test_training_beats_the_start(method, noise, first, settings, floor) -> None:
    cube, spectra, parts = scene(*noise)
    start = scored(ts.unmix(cube, K, method=method, settings=first), spectra, parts)
    result = ts.unmix(cube, K, method=method, settings=settings)
    angle, error = scored(result, spectra, parts)
    assert angle < start[0] and error < start[1] and error < floor
    losses = result.report.figures["losses"]
    assert losses[-1] < losses[0]
    maps = result["abundances"].values
    assert maps.min() >= 0 and maps.max() <= 1 + 1e-6
    np.testing.assert_allclose(maps.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize(("method", "more"), [("undip", 0), ("suncnn", 2)])
def test_abundances_of_a_library(method, more) -> None:
    cube, spectra, parts = scene()
    library = library_of(cube, spectra, more)
    first = ts.unmix(cube, library=library, method=method, settings={"iterations": 1})
    result = ts.unmix(cube, library=library, method=method, settings={"iterations": 16, "average": 0.6})
    assert scored(result, spectra, parts, "none")[1] < 0.5 * scored(first, spectra, parts, "none")[1]
    assert list(result["abundances"]["layer"].values) == [f"mineral {i}" for i in range(K + more)]
    np.testing.assert_allclose(result["endmembers"].values, library.values, atol=1e-6)


def test_undip_finds_endmembers_where_none_are_given() -> None:
    cube, _, _ = scene()
    found = ts.unmix(cube, K, method="undip", settings=TINY["undip"])
    vca = ts.endmembers(cube, K)
    np.testing.assert_allclose(found["endmembers"].values, vca["endmembers"].values, atol=1e-6)


def _run(method: str, cube, spectra, **more):
    settings = TINY[method] | more.pop("settings", {})
    if method == "suncnn":
        return ts.unmix(cube, library=library_of(cube, spectra), method=method, settings=settings, **more)
    return ts.unmix(cube, K, method=method, settings=settings, **more)


@pytest.mark.parametrize("method", sorted(TINY))
def test_what_is_masked_never_enters(method) -> None:
    cube, spectra, _ = scene()
    keep = np.ones(cube.shape[1:], dtype=bool)
    keep[:4, :4] = False
    results = []
    for absurd in (5.0, -50.0):
        wrong = cube.copy(deep=True)
        wrong.values[:, ~keep] = absurd
        results.append(_run(method, wrong, spectra, mask=keep))
    for name in results[0]:
        np.testing.assert_array_equal(results[0][name].values, results[1][name].values, err_msg=name)
    assert np.isnan(results[0]["abundances"].values[:, ~keep]).all()


@pytest.mark.parametrize("method", ["admmnet", "cnnaeu", "msnet", "undip"])
def test_units_of_the_scene_come_back(method) -> None:
    """Raw numbers are divided by their largest; spectra and residual come back in the scene's numbers."""
    cube, spectra, _ = scene()
    top = float(cube.values.max())
    counts = cube.copy(data=(cube.values / top * 4000).astype(np.float32))
    counts.attrs["quantity"] = "dn"
    one = _run(method, cube.copy(data=cube.values / top), spectra, settings={"gain": 1.0})
    other = _run(method, counts, spectra)
    np.testing.assert_allclose(one["abundances"].values, other["abundances"].values, atol=1e-4)
    for name in ("endmembers", "rmse"):
        np.testing.assert_allclose(4000 * one[name].values, other[name].values, rtol=2e-3, atol=0.5)


def _published(method: str, tmp_path: Path, bands: int = BANDS, k: int = K, **sizes: Any) -> tuple[Path, Any]:
    torch.manual_seed(5)
    network = ts.create_model(method, bands=bands, k=k, **{**SIZES.get(method, {}), **sizes}).eval()
    path = tmp_path / f"{method}.pth"
    torch.save(network.state_dict(), path)
    return path, network


@pytest.mark.parametrize("method", ["admmnet", "cnnaeu", "cycu-net", "deeptrans-hsu", "msnet", "pgmsu"])
def test_weights_in_the_authors_layout_are_applied(method, tmp_path) -> None:
    cube, _, _ = scene()
    path, network = _published(method, tmp_path)
    result = ts.unmix(cube, method=method, weights=path)
    image = torch.from_numpy(cube.values)[None]
    with torch.no_grad():
        if method in ("admmnet", "pgmsu"):
            maps = network(image[0].reshape(BANDS, -1).T)[0].T.reshape(K, *cube.shape[1:])
        else:
            maps = network(image)[0][0]
    if method == "cycu-net":
        maps = shares(maps, 0)
    np.testing.assert_allclose(result["abundances"].values, maps.numpy(), atol=2e-5)
    assert result["endmembers"].shape == (K, BANDS) and "losses" not in result.report.figures


@pytest.mark.parametrize("method", ["misicnet", "undip"])
def test_weights_of_networks_fed_with_noise_are_a_start(method, tmp_path) -> None:
    cube, _, _ = scene()
    sizes = {"compat": "authors-code"} if method == "misicnet" else {}
    path, _ = _published(method, tmp_path, **sizes)
    result = ts.unmix(cube, K, method=method, weights=path, settings=TINY[method])
    fresh = ts.unmix(cube, K, method=method, settings=TINY[method])
    assert len(result.report.figures["losses"]) == 1
    assert not np.array_equal(result["abundances"].values, fresh["abundances"].values)


def test_saved_weights_need_every_key(tmp_path) -> None:
    cube, _, _ = scene()
    _, network = _published("msnet", tmp_path)
    state = {key: value.clone() for key, value in network.state_dict().items() if key != "transconv.bias"}
    save_file(state, str(tmp_path / "part.safetensors"))
    with pytest.raises(BadWeights, match=r"1 absent \(transconv\.bias\)"):
        ts.unmix(cube, method="msnet", weights=tmp_path / "part.safetensors")


def test_a_scene_larger_than_the_transformer_is_tiled() -> None:
    cube, spectra, parts = scene(30, 1.8, 30, 21)
    settings = {"size": 16, "overlap": 4, "patch": 4, "dim": 32, "epochs": 12}
    result = ts.unmix(cube, K, method="deeptrans-hsu", settings=settings)
    assert scored(result, spectra, parts)[1] < 0.1
    assert any("tiles of 16 x 16" in note for note in result.report.notes)
    with pytest.raises(BadSettings, match="leave tile= away"):
        ts.unmix(cube, K, method="deeptrans-hsu", settings=settings | {"epochs": 1}, tile=(24, 24))


def test_endmembers_that_vary_say_how_much() -> None:
    cube, _, _ = scene()
    result = ts.unmix(cube, K, method="pgmsu", settings={"epochs": 5})
    spread = result["endmember_spread"]
    assert spread.shape == (K, BANDS) and (spread.values >= 0).all() and spread.values.max() < 0.5
    assert list(spread["spectrum"].values) == list(result["endmembers"]["spectrum"].values)


def test_cnnaeu_keeps_spectra_non_negative_and_in_scale() -> None:
    cube, _, _ = scene()
    settings = {"epochs": 60, "patch": 12, "batch": 4}
    ours = ts.unmix(cube, K, method="cnnaeu", settings=settings)
    theirs = ts.unmix(cube, K, method="cnnaeu", settings=settings | {"compat": "authors-code"})
    assert ours["endmembers"].values.min() >= 0
    assert theirs["endmembers"].values.max() < 0.2 * ours["endmembers"].values.max()  # means of 121 places
    model = np.einsum("kb,kyx->byx", ours["endmembers"].values, ours["abundances"].values)
    assert 0.9 < model.mean() / cube.values.mean() < 1.1


def test_pixels_without_any_abundance_get_equal_shares() -> None:
    values = torch.tensor([[0.0, 0.0, 0.0], [1.0, 3.0, 0.0]])
    np.testing.assert_allclose(shares(values, 1), [[1 / 3] * 3, [0.25, 0.75, 0.0]], atol=1e-7)


def test_a_state_belongs_to_its_scene() -> None:
    cube, _, _ = scene()
    result = ts.unmix(cube, K, method="misicnet", settings=TINY["misicnet"])
    assert result["abundances"].shape == (K, 24, 24)
    with pytest.raises(BadWeights):
        ts.unmix(cube, K, method="misicnet", state={"endmembers": result["endmembers"].values})


def test_too_small_for_the_layers() -> None:
    cube, spectra, _ = scene(rows=24, cols=24)
    for method, window in (("undip", (2, 24)), ("cnnaeu", (5, 24)), ("msnet", (4, 4))):
        with pytest.raises(BadInput, match="expected"):
            _run(method, cube[:, : window[0], : window[1]], spectra)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "angle", "error"),
    [("admmnet", 0.12, 0.13), ("cycu-net", 0.10, 0.13), ("deeptrans-hsu", 0.12, 0.13), ("pgmsu", 0.10, 0.13)],
)
def test_samson_at_the_published_schedule(samples: Path, method: str, angle: float, error: float) -> None:
    folder = samples / "unmixing/samson"
    values = scipy.io.loadmat(folder / "samson_1.mat")["V"].reshape(156, 95, 95).transpose(0, 2, 1)
    spectra = scipy.io.loadmat(folder / "E.mat")["E"].T
    parts = scipy.io.loadmat(folder / "A_true.mat")["A_true"].transpose(2, 0, 1)
    cube = ts.make_cube(values.astype(np.float32), wavelength=np.linspace(401, 889, 156), quantity="reflectance")
    result = ts.unmix(cube, 3, method=method)
    figures = score(result["endmembers"], result["abundances"], spectra, parts).figures
    assert figures["mean_angle"] < angle and figures["rmse"] < error
