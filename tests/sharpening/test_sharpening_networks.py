"""HSpeNet, Hyper-DSNet, DHP-DARN, DIP-HyperKite and PCA-Z-PNN: the networks and the methods around them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral import registry
from torchspectral.errors import BadWeights, BandMismatch, MissingWeights
from torchspectral.sharpening import fuse
from torchspectral.sharpening.deep.hyper_dsnet import EdgeFilters
from torchspectral.sharpening.deep.kite import REACH, DIPHyperKite, KiteNetwork, pieces
from torchspectral.sharpening.deep.pca_z_pnn import PCAZPNN, blocks_of, loadings, spline_operator
from torchspectral.sharpening.deep.priors import DHPNetwork, DIPNetwork

SUPERVISED = ("hspenet", "hyper-dsnet", "dhp-darn", "dip-hyperkite")
SHIPPED = [
    card.name for card in registry.methods("sharpening") if card.name in (*SUPERVISED, "hyperpnn") and card.weights
]
LEAST_GAIN = {"hyperpnn": 0.97}
PUBLISHED = {
    "hspenet": ("HSpeNet_PRISMA.tar", 123_199),
    "hyper-dsnet": ("HyperDSNet_PRISMA.tar", 271_359),
    "dhp-darn": ("DHPDarn_PRISMA.tar", 481_971),
    "dip-hyperkite": ("DIPHyperKite_PRISMA.tar", 588_861),
}


def _pair(bands: int = 6, rows: int = 14, cols: int = 11, ratio: int = 3):
    rng = np.random.default_rng(0)
    hs = ts.make_cube(rng.uniform(0.1, 0.5, (bands, rows, cols)).astype(np.float32), quantity="reflectance")
    pan = ts.make_cube(rng.uniform(0.1, 0.5, (1, rows * ratio, cols * ratio)).astype(np.float32))
    return hs, pan


def _state(name: str, bands: int = 6) -> dict:
    torch.manual_seed(0)
    return dict(ts.create_model(name, bands=bands).state_dict())


@pytest.mark.parametrize("name", SUPERVISED)
def test_parameters_are_as_published(name: str) -> None:
    assert sum(p.numel() for p in ts.create_model(name, bands=159).parameters()) == PUBLISHED[name][1]
    for bands in (1, 3):
        assert ts.create_model(name, bands=bands).bands == bands


@pytest.mark.parametrize("name", ["hspenet", "hyper-dsnet"])
@pytest.mark.parametrize("ratio", [2, 3])
def test_tiles_agree_with_the_whole(name: str, ratio: int) -> None:
    hs, pan = _pair(ratio=ratio)
    whole, tiled = (
        ts.sharpen(hs, pan, method=name, state=_state(name), settings={"gain": 1.0}, tile=tile)["cube"]
        for tile in (None, 5)
    )
    assert whole.shape == (6, 14 * ratio, 11 * ratio) and np.abs(whole - tiled).max() < 1e-5


def test_hyper_dsnet_is_its_network_on_the_whole_image() -> None:
    from torchspectral.ops.interpolate import ideal_interp

    hs, pan = _pair()
    low, fine = torch.from_numpy(hs.values), torch.from_numpy(pan.values)
    network = ts.create_model("hyper-dsnet", bands=6).eval()
    network.load_state_dict(_state("hyper-dsnet"))
    with torch.no_grad():
        expected = network(fine[None], ideal_interp(low, 3)[None], low[None])[0]
    found = ts.sharpen(hs, pan, method="hyper-dsnet", state=_state("hyper-dsnet"), settings={"gain": 1.0}, tile=5)
    assert np.abs(found["cube"].values - expected.numpy()).max() < 1e-5
    peak = float(EdgeFilters().smooth(fine[None]).max())
    assert found.report.figures["peak of the smoothed PAN"] == pytest.approx(peak)


def test_edge_maps_have_at_most_256_levels_and_stand_a_dark_image() -> None:
    pan = torch.rand(1, 1, 20, 20)
    filters = EdgeFilters()
    maps = filters(pan)
    step = filters.smooth(pan).max() / 255
    levels = maps[:, 2:] / step
    assert maps.shape == (1, 6, 20, 20) and (levels - levels.round()).abs().max() < 1e-3
    torch.testing.assert_close(maps[0, 0, 1:], pan[0, 0, 1:] - pan[0, 0, :-1])
    assert bool(torch.isfinite(filters(torch.zeros(1, 1, 5, 5))).all())


def test_hyperkite_works_in_pieces_without_seams() -> None:
    torch.manual_seed(0)
    network = KiteNetwork(3, 4).eval()
    pan, prior = torch.rand(1, 1, 37, 50), torch.rand(1, 3, 37, 50)
    method = DIPHyperKite.__new__(DIPHyperKite)
    for compat, same in (("", True), ("authors-code", False)):
        DIPHyperKite.__init__(method, DIPHyperKite.Settings.make({"block": 16, "compat": compat}))
        with torch.no_grad():
            error = (method.correct(network, pan, prior) - network(pan, prior)).abs().max()
        assert (error < 1e-5) == same
    assert REACH == 6 and pieces(100, 32) == [(0, 32), (32, 64), (64, 100)] and pieces(5, 32) == [(0, 5)]


@pytest.mark.parametrize("name", SUPERVISED)
def test_weights_are_needed_and_must_fit(name: str) -> None:
    hs, pan = _pair()
    with pytest.raises(MissingWeights, match=f"{name}.prisma.*"):
        ts.sharpen(hs, pan, method=name, weights=f"{name}.prisma")
    with pytest.raises(BandMismatch, match="5 bands and the scene has 6"):
        ts.sharpen(hs, pan, method=name, state=_state(name, 5))
    broken = _state(name)
    broken.pop(
        {"hspenet": "conv4", "hyper-dsnet": "block3.conv2", "dhp-darn": "CSA2.conv2"}.get(name, "encoder2") + ".bias"
    )
    with pytest.raises(BadWeights, match="absent"):
        ts.sharpen(hs, pan, method=name, state=broken)


@pytest.mark.parametrize("name", SUPERVISED)
def test_published_weights_load_with_their_preset(name: str, samples) -> None:
    file = samples / "weights/pansharpening-toolbox" / PUBLISHED[name][0]
    rng = np.random.default_rng(0)
    hs = ts.make_cube(rng.uniform(500, 4000, (159, 3, 2)).astype(np.float32))
    pan = ts.make_cube(rng.uniform(500, 4000, (1, 18, 12)).astype(np.float32))
    settings = {"iterations": 2, "channels": 4} if name.startswith("d") else {}
    result = ts.sharpen(hs, pan, method=name, weights=file, settings=settings)
    assert result["cube"].shape == (159, 18, 12) and np.isfinite(result["cube"].values).all()
    assert result.report.weights == f"{name}.prisma" and result.report.licence.startswith("CC BY-NC-SA")
    assert result.report.settings["gain"] == 65536.0


@pytest.fixture(scope="module")
def unseen() -> dict:
    """Ground of Indian Pines that no shipped weights were trained on, what degrades from it, and its interpolation."""
    pytest.importorskip("tensorly")
    from torchspectral.io.samples import indian_pines

    pair = dict(ts.simulate_wald(indian_pines()[0].isel(y=slice(84, 144), x=slice(40, 100)), 4))
    return pair | {"exp": _unseen_ergas(pair, ts.sharpen(pair["hs"], pair["pan"], method="exp", check_shift=False))}


def _unseen_ergas(pair: dict, result: ts.Result) -> float:
    rows = {"y": slice(24, 60)}
    score = ts.score(result["cube"].isel(rows), pair["truth"].isel(rows), ratio=4, metrics=["ergas"])
    return score.report.figures["ERGAS"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_beat_interpolation_where_they_were_not_trained(name: str, unseen: dict) -> None:
    found = ts.sharpen(unseen["hs"], unseen["pan"], method=name, check_shift=False)
    assert _unseen_ergas(unseen, found) < LEAST_GAIN.get(name, 1.0) * unseen["exp"]
    # Where the card owns that spectra were turned, every run says so.
    assert any("SAM 2.574 against 2.516" in line for line in found.report.notes) == (name == "dhp-darn")


def test_pca_blocks_share_a_band_and_axes_point_to_brightness() -> None:
    wave = np.array([500.0, 600, 700, 780, 900, 1600])
    near, far = blocks_of(wave, 770.0)
    assert near.tolist() == [0, 1, 2, 3] and far.tolist() == [3, 4, 5]
    assert [b.tolist() for b in blocks_of(wave[:3], 770.0)] == [[0, 1, 2]]
    assert [b.tolist() for b in blocks_of(np.full(3, np.nan), 770.0)] == [[0, 1, 2]]
    pixels = torch.rand(5, 200, dtype=torch.float64)
    axes = loadings(torch.cov(pixels), 3)
    assert axes.shape == (5, 3) and bool((axes.sum(0) >= 0).all())
    torch.testing.assert_close(axes.T @ axes, torch.eye(3, dtype=torch.float64))


def _scene(bands: int = 8, size: int = 20, ratio: int = 2):
    """A smooth scene with texture that the PAN sees too, its truth, and the degraded image."""
    rng = np.random.default_rng(3)
    fine = rng.standard_normal((3, size * ratio, size * ratio)).cumsum(1).cumsum(2)
    fine = (fine - fine.min()) / np.ptp(fine)
    truth = ts.make_cube(
        (0.1 + 0.5 * np.tensordot(rng.uniform(0, 1, (bands, 3)), fine, 1)).astype(np.float32),
        wavelength=np.linspace(480, 1200, bands), quantity="reflectance",
    )  # fmt: skip
    return ts.simulate_wald(truth, ratio)


def test_pca_z_pnn_lowers_its_losses_and_guards_them() -> None:
    pair = _scene()
    result = ts.sharpen(pair["hs"], pair["pan"], method="pca-z-pnn", settings={"iterations": 20, "learning_rate": 1e-3})
    figures = result.report.figures
    for losses in figures["losses"].values():
        assert losses[-1][0] < losses[0][0]
    assert set(figures["guard"]) == {"block 1", "block 2"}
    assert np.isfinite(result["cube"].values).all()


def test_pca_z_pnn_without_detail_is_interpolation() -> None:
    pair = _scene(bands=5)
    settings = {"iterations": 1, "learning_rate": 1e-12}
    first = ts.sharpen(pair["hs"], pair["pan"], method="pca-z-pnn", settings=settings)
    exp = ts.sharpen(pair["hs"], pair["pan"], method="exp")["cube"].values
    low = torch.from_numpy(pair["hs"].values)
    method = PCAZPNN()
    state = {"blocks": 1, "0.bands": torch.arange(5), "0.loadings": torch.eye(5, 2, dtype=torch.float64)}
    state |= {k: torch.zeros_like(v) for k, v in _zero_network(2).items()}
    found = fuse(low, torch.from_numpy(pair["pan"].values), method, state=state)
    assert np.abs(found.numpy() - exp).max() < 1e-6 and np.abs(first["cube"].values - exp).max() > 1e-6


def _zero_network(components: int) -> dict:
    from torchspectral.sharpening.deep.pca_z_pnn import PCAZPNNNetwork

    return {f"0.net.{k}": v for k, v in PCAZPNNNetwork(components).state_dict().items()}


def test_spline_interpolation_keeps_constants_and_the_middle_of_a_line() -> None:
    matrix = torch.from_numpy(spline_operator(12, 3).matrix.toarray())
    assert matrix.shape == (36, 12)
    line = torch.linspace(0, 1, 12, dtype=torch.float64)
    torch.testing.assert_close(matrix @ torch.ones(12, dtype=torch.float64), torch.ones(36, dtype=torch.float64))
    assert torch.allclose((matrix @ line)[16:20].diff(), torch.full((3,), 1 / 33, dtype=torch.float64), atol=1e-3)


@pytest.mark.parametrize("network", [DIPNetwork(3, 4, 8, 2), DHPNetwork(3, 8, 2)])
@pytest.mark.parametrize("size", [(34, 34), (48, 70)])
def test_priors_draw_even_images(network: torch.nn.Module, size: tuple[int, int]) -> None:
    inputs = 4 if isinstance(network, DIPNetwork) else 3
    with torch.no_grad():
        assert network(torch.rand(1, inputs, *size)).shape == (1, 3, *size)
