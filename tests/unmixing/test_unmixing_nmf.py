"""The NMF family: exact updates, objectives that never grow, streaming, resuming, stop rules, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, Interrupted
from torchspectral.synth import mixture
from torchspectral.unmixing import score
from torchspectral.unmixing.factorisation import base
from torchspectral.unmixing.factorisation.abundance_rules import AbundanceRule, GraphRule
from torchspectral.unmixing.factorisation.blocks import Block, Factors, Sums
from torchspectral.unmixing.factorisation.endmember_rules import Dissimilarity, EndmemberRule, Volume
from torchspectral.unmixing.factorisation.neighbours import pixel_graph

FAMILY = ("nmf", "l1-nmf", "l12-nmf", "w-nmf", "g-nmf", "g-l1-nmf", "edc-nmf", "cnmf-mvc")


def scene(seed: int = 0, **fields: object):
    """Cube of a small complex image, and the image."""
    made = mixture(3, seed, settings={"bands": 30, "z": 5, "snr": 30.0, "min_angle": 0.2, **fields})
    cube = ts.make_cube(made.values.astype(np.float32), wavelength=made.wavelength, quantity="reflectance")
    return cube, made


def unmix(cube, method: str, iterations: int = 60, **values: object):
    options = {
        k: values.pop(k) for k in ("tile", "workers", "seed", "out", "resume", "progress", "pictures") if k in values
    }
    return ts.unmix(cube, 3, method=method, settings={"iterations": iterations, **values}, **options)


@pytest.mark.parametrize("method", FAMILY)
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_the_objective_never_grows(method: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "CURVE", 10_000)
    iterations = 300 if seed else 100
    figures = unmix(scene(seed)[0], method, iterations, tolerance=0.0).report.figures
    curve = np.array(figures["objective"]["value"])
    assert len(curve) == iterations + 1 and figures["stopped"] == "iterations"
    assert (np.diff(curve) <= 1e-12 * curve[:-1]).all(), np.diff(curve).max()
    assert curve[-1] < 0.99 * curve[0]


def test_steps_are_those_of_the_table() -> None:
    """Against the table's formulas with the sum-to-one row appended, written out."""
    random = np.random.default_rng(0)
    y, m, a = random.random((12, 50)), random.random((12, 3)), random.random((3, 50))
    d, lam = 2.0, 0.3
    tall, wide = np.vstack([y, d * np.ones((1, 50))]), np.vstack([m, d * np.ones((1, 3))])
    factors = Factors(torch.from_numpy(m))

    def step(rule: AbundanceRule, **more: torch.Tensor) -> np.ndarray:
        block = Block(torch.from_numpy(y), torch.from_numpy(a), **more)
        rule.step(block, factors, 0)
        return block.a.numpy()

    above, below = wide.T @ tall, wide.T @ wide @ a
    np.testing.assert_allclose(step(AbundanceRule(d=d)), a * above / below, rtol=1e-7)
    np.testing.assert_allclose(step(AbundanceRule(d=d, lam=lam)), a * above / (below + lam), rtol=1e-7)
    half = a * above / (below + lam / 2 / np.sqrt(np.maximum(a, 1e-4)))
    np.testing.assert_allclose(step(AbundanceRule(d=d, lam=lam, p=0.5)), half, rtol=1e-7)
    weights = random.random((50, 50)) * (random.random((50, 50)) < 0.1)
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    graph = torch.from_numpy(weights).to_sparse()
    expected = a * (above + 0.1 * a @ weights) / (below + lam + 0.1 * a * weights.sum(0))
    np.testing.assert_allclose(step(GraphRule(d=d, lam=lam, graph=0.1), graph=graph), expected, rtol=1e-7)
    block = Block(torch.from_numpy(y), torch.from_numpy(a))
    new = EndmemberRule().step(torch.from_numpy(m), Sums.of(block, 0.0)).numpy()
    np.testing.assert_allclose(new, m * (y @ a.T) / (m @ a @ a.T), rtol=1e-7)
    weight = random.random(50)
    sums = Sums.of(Block(torch.from_numpy(y), torch.from_numpy(a), weight=torch.from_numpy(weight)), 0.0)
    np.testing.assert_allclose(sums.ya, (y * weight) @ a.T)
    residual = ((y - m @ a) ** 2 * weight).sum(1)
    np.testing.assert_allclose(sums.residual(torch.from_numpy(m)), residual, rtol=1e-9)
    assert sums.row_error() == pytest.approx((weight * (1 - a.sum(0)) ** 2).sum())


def test_penalties_on_endmembers_have_their_gradients() -> None:
    random = np.random.default_rng(1)
    m = torch.from_numpy(random.random((10, 4)))
    axes = torch.linalg.qr(torch.from_numpy(random.standard_normal((10, 3)))).Q
    for rule in (Dissimilarity(smooth=0.2, distance=0.1), Volume(lam=5.0, axes=axes, mean=m.mean(1))):
        gradient = rule.gradient(m, 7)
        for i, j in ((0, 0), (4, 2), (9, 3)):
            step = torch.zeros_like(m)
            step[i, j] = 1e-6
            slope = (rule.penalty(m + step, 7) - rule.penalty(m - step, 7)) / 2e-6
            assert float(gradient[i, j]) == pytest.approx(slope, rel=1e-4, abs=1e-9)
    flat = Volume(lam=5.0, axes=axes, mean=m.mean(1))
    assert not flat.gradient(m[:, :1].repeat(1, 4), 7).any()


def test_penalties_do_what_they_are_for() -> None:
    cube, _ = scene(snr=25.0)
    volume = []
    for lam in (0.0, 100.0):
        spectra = unmix(cube, "cnmf-mvc", 40, lam=lam)["endmembers"].values
        volume.append(np.linalg.det((spectra[1:] - spectra[0]) @ (spectra[1:] - spectra[0]).T))
    assert volume[1] < 0.9 * volume[0]
    rough, apart = [], []
    for smooth in (0.0, 0.1):
        spectra = unmix(cube, "edc-nmf", 40, smooth=smooth, distance=smooth / 10)["endmembers"].values
        rough.append((np.diff(spectra, axis=1) ** 2).sum())
        apart.append(np.linalg.norm(spectra[0] - spectra[1]))
    assert rough[1] < 0.95 * rough[0] and apart[1] < apart[0]
    spread = [
        np.abs(np.diff(unmix(cube, "g-nmf", 40, lam=lam)["abundances"].values, axis=2)).mean() for lam in (0.0, 5.0)
    ]
    assert spread[1] < 0.95 * spread[0]


@pytest.mark.parametrize("method", ["nmf", "l12-nmf", "w-nmf", "edc-nmf", "cnmf-mvc"])
def test_streamed_equals_in_memory(method: str) -> None:
    cube, _ = scene()
    cube[:, 3:6, 4] = np.nan
    held = unmix(cube, method, 25)
    streamed = unmix(cube, method, 25, in_memory=0, tile=(7, 11))
    for name in ("abundances", "endmembers", "rmse"):
        np.testing.assert_allclose(streamed[name].values, held[name].values, atol=2e-5)
    value = held.report.figures["objective"]["value"]
    np.testing.assert_allclose(streamed.report.figures["objective"]["value"], value, rtol=1e-8)


def test_streamed_fit_is_resumed_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchspectral.engine import fitting

    monkeypatch.setattr(fitting, "ROUND_SECONDS", 0.0)
    cube, _ = scene()
    whole = unmix(cube, "nmf", 45, in_memory=0)

    def stop(step) -> None:
        if step.stage == "fit" and step.fraction > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        unmix(cube, "nmf", 45, in_memory=0, pictures=False, out=f"{tmp_path}/out/", progress=stop)
    resumed = unmix(cube, "nmf", 45, in_memory=0, pictures=False, out=f"{tmp_path}/out/", resume=True)
    for name in whole:
        np.testing.assert_array_equal(np.asarray(resumed[name]), whole[name].values)
    assert resumed.report.figures["objective"] == whole.report.figures["objective"]


@pytest.mark.slow
def test_two_workers_give_the_same_bytes() -> None:
    cube, _ = scene()
    one = unmix(cube, "w-nmf", 12, in_memory=0, tile=(13, 13))
    two = unmix(cube, "w-nmf", 12, in_memory=0, tile=(13, 13), workers=2)
    for name in one:
        assert one[name].values.tobytes() == two[name].values.tobytes()


def test_nmf_improves_on_its_start_and_explains_the_scene() -> None:
    cube, made = scene(z=8, purity=1.0)
    start = unmix(cube, "nmf", 1)
    result = unmix(cube, "nmf", 300, tolerance=0.0, d=3.0)
    first, last = (
        score(r["endmembers"], r["abundances"], made.endmembers, made.abundances, pixels=cube.values)
        for r in (start, result)
    )
    assert last.figures["re"] < first.figures["re"]
    assert last.figures["re"] == pytest.approx(np.sqrt((made.noise**2).mean()), rel=0.05)
    a = result["abundances"].values
    np.testing.assert_allclose(a.sum(0), 1, atol=1e-6)
    assert a.min() >= 0 and result["endmembers"].values.min() >= 0
    soft = unmix(cube, "nmf", 300, tolerance=0.0, d=3.0, normalise=False)
    model = np.einsum("kb,kyx->byx", soft["endmembers"].values, soft["abundances"].values)
    rmse = np.sqrt(((cube.values - model) ** 2).mean(0))
    np.testing.assert_allclose(soft["rmse"].values[0], rmse, atol=1e-6)
    np.testing.assert_array_equal(soft["rmse"].values, result["rmse"].values)


def test_scale_of_the_data_changes_nothing() -> None:
    cube, _ = scene()
    counts = (cube * 1e4).astype(np.float32)
    counts.attrs = {"quantity": "dn"}
    one, two = unmix(cube, "l12-nmf"), unmix(counts, "l12-nmf")
    np.testing.assert_allclose(two["abundances"].values, one["abundances"].values, atol=1e-4)
    np.testing.assert_allclose(two["endmembers"].values, 1e4 * one["endmembers"].values, rtol=1e-3)
    assert two.report.figures["lam"] == pytest.approx(one.report.figures["lam"], rel=1e-4)


def test_sparsity_comes_from_the_data() -> None:
    """Qian's formula, written out."""
    cube, _ = scene()
    y = cube.values.reshape(30, -1).astype(np.float64)
    n = y.shape[1]
    ratio = np.abs(y).sum(1) / np.linalg.norm(y, axis=1)
    lam = ((np.sqrt(n) - ratio) / np.sqrt(n - 1)).sum() / np.sqrt(30)
    assert unmix(cube, "l12-nmf", 2).report.figures["lam"] == pytest.approx(lam, rel=1e-6)
    assert unmix(cube, "l1-nmf", 2, lam=0.25).report.figures["lam"] == 0.25
    assert unmix(cube, "g-l1-nmf", 2).report.figures["alpha"] == pytest.approx(lam, rel=1e-6)


def test_it_stops_when_nothing_changes_any_more() -> None:
    cube, _ = scene()
    figures = unmix(cube, "nmf", 3000, tolerance=1e-3, checks=5).report.figures
    assert figures["stopped"] == "tolerance" and 5 < figures["iterations"] < 1000
    assert figures["last_change"] < 1e-3
    longer = unmix(cube, "nmf", 3000, tolerance=1e-4, checks=5).report.figures
    assert longer["iterations"] > figures["iterations"]


def test_random_start_and_negative_values() -> None:
    cube, _ = scene()
    cube[4, 2, 2] = -0.3
    one, again, other = (unmix(cube, "nmf", 30, start="random", seed=s) for s in (1, 1, 2))
    assert one["endmembers"].values.tobytes() == again["endmembers"].values.tobytes()
    assert not np.array_equal(one["endmembers"].values, other["endmembers"].values)
    assert one.report.figures["negative_values"] == 1
    assert any("1 values below 0" in note for note in one.report.notes)


def test_graph_is_sparse_symmetric_and_only_between_valid_pixels() -> None:
    random = np.random.default_rng(0)
    valid = torch.from_numpy(random.random((9, 8)) > 0.2)
    y = torch.from_numpy(random.random((5, int(valid.sum()))))
    graph = pixel_graph(y, valid).coalesce()
    rows, cols = torch.meshgrid(torch.arange(9), torch.arange(8), indexing="ij")
    at = torch.stack([rows[valid], cols[valid]]).double()
    near = (at[:, :, None] - at[:, None, :]).abs().amax(0) == 1
    dense = graph.to_dense()
    assert torch.equal(dense > 0, near) and torch.equal(dense, dense.T)
    apart = ((y[:, :, None] - y[:, None, :]) ** 2).sum(0)
    sigma = apart[near].mean()
    np.testing.assert_allclose(dense[near], torch.exp(-apart[near] / sigma))
    nearest = pixel_graph(y, valid, kind="knn", neighbours=3).coalesce().to_dense()
    assert torch.equal(nearest, nearest.T) and not nearest.diagonal().any()
    apart.fill_diagonal_(torch.inf)
    third = apart.sort(1).values[:, 2:3]
    expected = (apart <= third) | (apart <= third).T
    assert torch.equal(nearest > 0, expected)


def test_graph_of_the_spectrally_nearest() -> None:
    cube, _ = scene()
    found = unmix(cube, "g-nmf", 30, graph="knn", neighbours=4)
    assert np.isfinite(found["abundances"].values).all()


def test_auto_count_and_state_of_another_scene() -> None:
    cube, _ = scene()
    result = ts.unmix(cube, method="nmf", settings={"iterations": 5, "most": 4})
    assert 2 <= result["abundances"].sizes["layer"] <= 4
    with pytest.raises(BadInput, match="use fcls"):
        ts.unmix(cube, method="nmf", state={"endmembers": np.ones((3, 30))})


@pytest.mark.parametrize(
    ("values", "k", "error", "message"),
    [
        (np.full((5, 1, 1), 0.3), 2, BadInput, "1 valid pixels"),
        (np.full((5, 4, 4), 0.3), 2, BadInput, "span 0 dimensions"),
        (np.zeros((5, 4, 4)), 2, BadInput, "above zero|zero"),
        (np.full((5, 4, 4), -0.1), 2, BadInput, "above zero"),
        (np.random.default_rng(0).random((5, 4, 4)), 7, BadInput, "at most 6"),
        (np.random.default_rng(0).random((5, 1, 3)), 4, BadInput, "3 valid pixels for 4"),
        (np.random.default_rng(0).random((5, 4, 4)), 1, BadSettings, "at least 2"),
    ],
)
@pytest.mark.parametrize("method", ["nmf", "g-nmf", "rrlbs"])
def test_impossible_requests_say_so(method: str, values: np.ndarray, k: int, error: type, message: str) -> None:
    cube = ts.make_cube(values.astype(np.float32), quantity="reflectance")
    with pytest.raises(error, match=message):
        ts.unmix(cube, k, method=method, settings={"iterations": 3})
