"""Geometric methods: planted pure pixels, impure noisy scenes, tiles, counts, polygons and names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import xarray as xr

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, BandMismatch, MissingMetadata
from torchspectral.ops.gram import gram_sums
from torchspectral.ops.vca import vca
from torchspectral.unmixing.counting import elbow
from torchspectral.unmixing.geometric.atgp import atgp
from torchspectral.unmixing.geometric.mvsa import mvsa
from torchspectral.unmixing.geometric.n_findr import n_findr
from torchspectral.unmixing.geometric.ppi import ppi
from torchspectral.unmixing.geometric.sisal import sisal
from torchspectral.unmixing.geometric.sivm import sivm
from torchspectral.unmixing.scoring import angle_matrix, match

METHODS = ("vca", "n-findr", "sivm", "atgp", "ppi", "sisal", "mvsa")
NO_PIXELS = ("sisal", "mvsa")
PURE = [7, 218, 429, 640]


def scene(k: int = 4, pixels: int = 1073, purity: float = 0.8, snr: float = 30.0, seed: int = 0, bands: int = 40):
    """Pixels (bands, n) without pure ones and spectra (k, bands)."""
    random = np.random.default_rng(seed)
    places = np.linspace(0, 7, bands)
    spectra = np.stack([0.05 + 0.8 * np.interp(places, np.arange(8), random.random(8)) for _ in range(k)])
    shares = random.dirichlet(np.ones(k), 8 * pixels).T
    shares = shares[:, shares.max(0) < purity][:, :pixels]
    clean = spectra.T @ shares
    noise = np.sqrt((clean**2).mean() / 10 ** (snr / 10)) * random.standard_normal(clean.shape)
    return clean + noise, spectra


def pure_scene(snr: float = 45.0):
    """As `scene`, with a pure pixel of each material at PURE."""
    values, spectra = scene(snr=snr)
    for i, at in enumerate(PURE):
        values[:, at] = spectra[i]
    return values, spectra


def cube_of(values: np.ndarray, rows: int = 37, cols: int = 29) -> xr.DataArray:
    return ts.make_cube(
        values.reshape(-1, rows, cols).astype(np.float32),
        wavelength=np.linspace(450, 2400, len(values)),
        quantity="reflectance",
    )


def angle(found: np.ndarray, truth: np.ndarray) -> float:
    angles = angle_matrix(found, truth)
    return float(np.degrees(angles[match(angles)].mean()))


def volume(values: np.ndarray, at: np.ndarray) -> float:
    """Of the simplex in the k - 1 principal dimensions."""
    centred = values - values.mean(1, keepdims=True)
    axes = np.linalg.svd(centred @ centred.T)[0][:, : len(at) - 1]
    return abs(np.linalg.det(np.vstack([axes.T @ centred[:, at], np.ones(len(at))])))


@pytest.mark.parametrize("method", METHODS)
def test_pure_pixels_are_found(method: str) -> None:
    values, spectra = pure_scene()
    result = ts.endmembers(cube_of(values), 4, method=method)
    assert angle(result["endmembers"].values, spectra) < (1.5 if method in NO_PIXELS else 0.3)
    if method not in NO_PIXELS:
        assert sorted(r * 29 + c for r, c in result.report.figures["pixels"]) == PURE


@pytest.mark.parametrize("snr", [10.0, 30.0])
@pytest.mark.parametrize("method", METHODS)
def test_tiles_change_nothing(method: str, snr: float) -> None:
    values, _ = scene(snr=snr)
    cube = cube_of(values)
    whole = ts.endmembers(cube, 4, method=method, seed=3)
    tiled = ts.endmembers(cube, 4, method=method, seed=3, tile=(8, 11))
    if method in ("n-findr", "sivm", "atgp"):
        streamed = ts.endmembers(cube, 4, method=method, seed=3, tile=(8, 11), settings={"held": 0})
        np.testing.assert_array_equal(streamed["endmembers"], whole["endmembers"])
    np.testing.assert_allclose(tiled["endmembers"], whole["endmembers"], atol=1e-5)
    assert tiled.report.figures.get("pixels") == whole.report.figures.get("pixels")


@pytest.mark.parametrize("seed", range(3))
def test_impure_noisy_scenes(seed: int) -> None:
    """10 dB, no pure pixel: the low-SNR branch of VCA; N-FINDR's simplex admits no larger by one exchange."""
    values, spectra = scene(snr=10, seed=seed, purity=0.7)
    pixels = torch.from_numpy(values)
    found = vca(pixels, 4, seed)
    assert not found.high_snr and angle(found.endmembers.numpy(), spectra) < 25
    start, best = atgp(pixels, 4).numpy(), n_findr(pixels, 4).numpy()
    assert volume(values, best) >= volume(values, start) and set(best.tolist()) != set(found.indices.tolist())
    centred = values - values.mean(1, keepdims=True)
    axes = np.linalg.svd(centred @ centred.T)[0][:, :3]
    points = np.vstack([axes.T @ centred, np.ones(values.shape[1])])
    for j in range(4):
        others = np.delete(points[:, best], j, axis=1)
        normal = np.linalg.svd(others)[0][:, -1]
        assert np.abs(normal @ points).max() <= abs(normal @ points[:, best[j]]) * (1 + 1e-8)
    # ATGP, written out.
    taken: list[int] = []
    for _ in range(4):
        basis = np.linalg.pinv(values[:, taken]) if taken else None
        rest = values - values[:, taken] @ (basis @ values) if taken else values
        taken.append(int((rest**2).sum(0).argmax()))
    assert start.tolist() == taken


@pytest.mark.parametrize("k", [3, 4, 5])
def test_sisal_beats_vca_without_pure_pixels(k: int) -> None:
    for seed in range(3):
        values, spectra = scene(k, seed=seed)
        pixels = torch.from_numpy(values)
        ours, theirs = (angle(e.numpy(), spectra) for e in (sisal(pixels, k, 0), vca(pixels, k, 0).endmembers))
        assert ours < 0.6 * theirs, (k, seed, ours, theirs)
    plain = angle(sisal(pixels, k, 0, spherise=False).numpy(), spectra)
    assert plain == pytest.approx(ours, abs=0.3)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_mvsa_holds_every_pixel_and_finds_what_is_nowhere_pure(k: int) -> None:
    values, spectra = scene(k, purity=0.9 if k == 2 else 0.8, snr=100, seed=k)
    pixels = torch.from_numpy(values)
    found = mvsa(pixels, k).numpy()
    if k > 2:  # two materials mixed at most 9:1 are known up to that
        assert angle(found, spectra) < 0.15
    corners = np.vstack([found.T, np.ones(k)])
    shares = np.linalg.lstsq(corners, np.vstack([values, np.ones(values.shape[1])]))[0]
    assert shares.min() > -1e-3
    # No vertex can be drawn towards the others without a pixel left outside.
    for i in range(k):
        less = corners.copy()
        less[:, i] = 0.98 * corners[:, i] + 0.02 * corners.mean(1)
        assert np.linalg.lstsq(less, np.vstack([values, np.ones(values.shape[1])]))[0].min() < -1e-3


def test_tiles_make_a_bundle() -> None:
    random = np.random.default_rng(0)
    values, spectra = scene(3, pixels=32 * 24, snr=35)
    values = values.reshape(40, 32, 24)
    for row in range(0, 32, 8):
        for col in range(0, 24, 6):
            for i, (r, c) in enumerate(((1, 1), (4, 4), (6, 2))):
                values[:, row + r, col + c] = spectra[i] * (1 + 0.02 * random.standard_normal())
    cube = cube_of(values.reshape(40, -1), 32, 24)
    result = ts.endmembers(cube, 3, method="tile-means", tile=(10, 24))
    assert angle(result["endmembers"].values, spectra) < 1
    bundle = result["candidates"]
    assert sum(result.report.figures["members"]) == 96 == bundle.sizes["spectrum"]
    group = [int(str(n).split("/")[0].split()[1]) for n in bundle["spectrum"].values]
    nearest = angle_matrix(bundle.values, spectra).argmin(1)
    assert len(set(zip(group, nearest.tolist(), strict=True))) == 3
    # A corner without data, and pixels thinned out.
    cube[:, :8, :6] = np.nan
    few = ts.endmembers(cube, 3, method="tile-means", settings={"held": 0, "tiles": (2, 2), "extractors": ["vca"]})
    assert few.report.figures["members"] == [4, 4, 4] or sum(few.report.figures["members"]) == 12
    assert ts.endmembers(cube, 3, method="tile-means").report.figures["skipped"] == 1
    with pytest.raises(BadInput, match="fewer tiles"):
        ts.endmembers(cube[:, 8:12, :6], 3, method="tile-means", settings={"tiles": (12, 6)})
    with pytest.raises(BadSettings, match="at least one"):
        ts.endmembers(cube, 3, method="tile-means", settings={"tiles": (0, 2)})


def test_sisal_takes_any_unit_and_a_sample() -> None:
    values, spectra = scene(snr=40)
    one = ts.endmembers(cube_of(values), 4, method="sisal")
    counts = ts.endmembers(cube_of(1e4 * values), 4, method="sisal")
    np.testing.assert_allclose(counts["endmembers"].values / 1e4, one["endmembers"].values, atol=2e-3)
    few = ts.endmembers(cube_of(values), 4, method="sisal", settings={"most_pixels": 300})
    assert few.report.figures["sampled"] == 300 and angle(few["endmembers"].values, spectra) < 4


def test_ppi_counts_are_those_of_projections() -> None:
    values, _ = pure_scene()
    index, counts = ppi(torch.from_numpy(values), 4, seed=1, skewers=500)
    assert int(counts.sum()) == 1000 and set(PURE) <= set(index[:6].tolist())
    result = ts.endmembers(cube_of(values), 4, method="ppi", settings={"skewers": 500})
    assert float(result["purity"].sum()) == 1000
    top = np.argsort(result["purity"].values.ravel())[::-1][:6]
    assert set(PURE) <= set(top.tolist())
    with pytest.raises(BadInput, match="lower the threshold"):
        ts.endmembers(cube_of(values), 4, method="ppi", settings={"skewers": 10, "threshold": 1000})


def test_sivm_is_its_definition() -> None:
    values, _ = scene(k=3, pixels=200, snr=15)
    found = sivm(torch.from_numpy(values), 3).tolist()
    first = int((values**2).sum(0).argmax())
    second = int(((values - values[:, [first]]) ** 2).sum(0).argmax())
    edge = values[:, second] - values[:, first]
    rest = values - values[:, [first]]
    height = rest - np.outer(edge, edge @ rest) / (edge @ edge)
    assert found == sorted([first, second, int((height**2).sum(0).argmax())])


@pytest.mark.parametrize("method", METHODS)
def test_impossible_requests_say_so(method: str) -> None:
    random = np.random.default_rng(0)

    def ask(values: np.ndarray, k: object = 3) -> None:
        ts.endmembers(ts.make_cube(values.astype(np.float32), quantity="reflectance"), k, method=method)

    with pytest.raises(BadInput, match="span 0 dimensions"):
        ask(np.full((5, 4, 4), 0.3))
    with pytest.raises(BadInput, match="valid pixels"):
        ask(np.full((5, 1, 1), 0.3))
    with pytest.raises(BadInput, match="zero"):
        ask(np.zeros((5, 4, 4)))
    with pytest.raises(BadInput, match=r"at most 6|span"):
        ask(random.random((5, 4, 4)), 7)
    with pytest.raises(BadSettings, match="at least 2"):
        ask(random.random((5, 4, 4)), 1)
    flat = np.einsum("b,yx->byx", random.random(5), random.random((6, 6)))
    with pytest.raises(BadInput, match="span"):
        ask(flat, 4)
    ask(random.random((5, 6, 6)) - 0.5)


def test_counts_are_reported_as_upper_bounds(samples: Path) -> None:
    values = scipy.io.loadmat(samples / "unmixing/jasper/jasperRidge2_R198.mat")["Y"] / 5437.0
    n, total, cross = gram_sums(torch.from_numpy(values))
    assert 3 <= elbow(n, total, cross) <= 40
    cube = ts.make_cube(values.reshape(198, 100, 100).astype(np.float32), quantity="reflectance")
    report = ts.endmembers(cube).report
    assert abs(report.figures["counts"]["hysime"] - 18) <= 1
    assert {"hysime", "hfc", "nwhfc", "elbow"} == set(report.figures["counts"])
    assert any("upper bound" in note for note in report.notes)


@pytest.mark.parametrize("k", [4, 6, 8])
def test_elbow_of_generated_scenes(k: int) -> None:
    values, _ = scene(k, snr=40, bands=80)
    assert abs(elbow(*gram_sums(torch.from_numpy(values))) - k) <= 1


def test_vca_on_jasper_is_the_table_of_the_published_code(samples: Path) -> None:
    """Mean angles of seeds 0, 1, 2, which hang on the signs of LAPACK's singular vectors."""
    values = scipy.io.loadmat(samples / "unmixing/jasper/jasperRidge2_R198.mat")["Y"] / 5437.0
    truth = scipy.io.loadmat(samples / "unmixing/jasper/end4.mat")["M"].T
    for seed, want in enumerate((0.301, 0.400, 0.303)):
        found = vca(torch.from_numpy(values), 4, seed).endmembers.numpy()
        assert np.radians(angle(found, truth)) == pytest.approx(want, abs=1e-3)


def labels_of(values: np.ndarray) -> xr.DataArray:
    made = ts.make_layers(values[None], ["classes"])
    made.attrs["class_names"] = ["", "oak", "soil"]
    return made


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_polygons(statistic: str) -> None:
    values, _ = scene()
    cube = cube_of(values)
    labels = np.zeros((37, 29), dtype=np.int16)
    labels[3:9, 4:12], labels[20:30, 5:9] = 1, 2
    result = ts.endmembers(cube, labels=labels_of(labels), settings={"statistic": statistic}, tile=(7, 8))
    assert list(result["endmembers"]["spectrum"].values) == ["oak", "soil"]
    for row, value in zip(result["endmembers"].values, (1, 2), strict=True):
        part = torch.from_numpy(cube.values[:, labels == value].astype(np.float64))
        want = part.mean(1) if statistic == "mean" else part.median(1).values
        np.testing.assert_allclose(row, want, rtol=1e-5)
    assert result.report.figures == {"pixels": {"oak": 48, "soil": 40}}
    alone = ts.endmembers(cube, labels=labels_of(np.where(labels == 2, 2, 0))).report.figures
    assert alone == {"pixels": {"soil": 40}, "without_pixels": ["oak"]}
    with pytest.raises(BadInput, match="no labelled pixel"):
        ts.endmembers(cube, labels=labels_of(np.zeros_like(labels)))
    with pytest.raises(BadSettings, match="labels alone"):
        ts.endmembers(cube, 3, labels=labels_of(labels))
    with pytest.raises(BadInput, match="oak has 48"):
        ts.endmembers(cube, labels=labels_of(labels), settings={"least": 100})


def test_endmembers_are_named_by_a_library(tmp_path: Path) -> None:
    values, spectra = pure_scene()
    cube = cube_of(values)
    wavelength = cube["wavelength"].values
    wide = ts.make_spectra(
        np.vstack([spectra[::-1], np.linspace(1, 0, 40)]), ["d", "c", "b", "a", "odd"], wavelength=wavelength[:40] + 3
    )
    result = ts.unmix(cube, 4, names_from=wide, out=f"{tmp_path}/u/", pictures=False)
    names = list(result["abundances"]["layer"].values)
    assert sorted(names) == ["a", "b", "c", "d"]
    for name, row in zip(names, result["endmembers"].values, strict=True):
        assert angle_matrix(row[None], spectra["abcd".index(name)][None])[0, 0] < 0.02
    assert list(ts.open(tmp_path / "u/abundances.tif")["layer"].values) == names
    assert result.report.figures["names"]["a"]["nearest"] == "a"
    far = ts.make_spectra(np.eye(40)[:2], ["x", "y"], wavelength=wavelength)
    assert ts.endmembers(cube, 4, names_from=far)["endmembers"]["spectrum"].values[0] == "endmember 1"
    with pytest.raises(BandMismatch, match="bands in common"):
        ts.endmembers(cube, 4, names_from=ts.make_spectra(spectra, list("abcd"), wavelength=wavelength + 9000))
    with pytest.raises(MissingMetadata, match="no wavelengths"):
        ts.endmembers(cube, 4, names_from=ts.make_spectra(spectra, list("abcd")))


def test_ignored_regions_do_not_enter() -> None:
    values, _ = pure_scene()
    cube = cube_of(values)
    inside = (cube["wavelength"].values >= 1310) & (cube["wavelength"].values <= 1490)
    wild = cube.copy(deep=True)
    wild.values[inside] = np.random.default_rng(0).random((int(inside.sum()), 37, 29)) * 50
    for made in (ts.endmembers(wild, 4, ignore=[(1310, 1490)]), ts.unmix(wild, 4, ignore=[(1310, 1490)])):
        assert made["endmembers"].sizes["band"] == int((~inside).sum())
        assert sorted(r * 29 + c for r, c in made.report.figures["pixels"]) == PURE
    with pytest.raises(BandMismatch, match="no band is left"):
        ts.endmembers(cube, 4, ignore=[(0, 5000)])
    with pytest.raises(BadSettings, match="pairs"):
        ts.endmembers(cube, 4, ignore=[(0, 440), (1310,)])  # type: ignore[list-item]
