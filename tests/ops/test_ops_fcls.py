"""Abundances: exact against references that know nothing of ours, for any number of endmembers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear
from scipy.optimize import nnls as scipy_nnls

from torchspectral.errors import BadInput
from torchspectral.ops.fcls import AbundanceSolver, fcls, nnls, scls, ucls


def scene(p: int, bands: int, n: int, seed: int = 0, noise: float = 0.05) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    spectra = 0.05 + 0.8 * random.random((p, bands))
    shares = random.dirichlet(np.full(p, 0.5), n).T
    pixels = spectra.T @ shares + noise * random.standard_normal((bands, n))
    return torch.from_numpy(pixels), torch.from_numpy(spectra)


def brute_force(pixels: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """Best of all active sets, each by an equality-constrained least-squares solve of its own."""
    p = len(spectra)
    out = np.zeros((p, pixels.shape[1]))
    for i, y in enumerate(pixels.T):
        best = np.inf
        for size in range(1, p + 1):
            for free in itertools.combinations(range(p), size):
                e = spectra[list(free)]
                system = np.block([[e @ e.T, np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
                a = np.linalg.lstsq(system, np.append(e @ y, 1.0), rcond=None)[0][:size]
                cost = ((y - e.T @ a) ** 2).sum()
                if (a >= -1e-12).all() and cost < best:
                    best = cost
                    out[:, i] = 0
                    out[list(free), i] = a
    return out


@pytest.mark.parametrize(("p", "bands"), [(2, 5), (3, 30), (5, 20), (4, 3)])
def test_fcls_is_the_best_of_all_active_sets(p: int, bands: int) -> None:
    pixels, spectra = scene(p, bands, 60, noise=0.3)
    assert np.abs(fcls(pixels, spectra).numpy() - brute_force(pixels.numpy(), spectra.numpy())).max() < 1e-9


@pytest.mark.parametrize("p", [1, 4, 12, 13, 20, 70])
def test_nnls_equals_scipy(p: int) -> None:
    pixels, spectra = scene(p, 90, 25, noise=0.2)
    got = nnls(pixels, spectra).numpy()
    want = np.stack([scipy_nnls(spectra.numpy().T, y)[0] for y in pixels.numpy().T], axis=1)
    np.testing.assert_allclose(got, want, atol=1e-8)


def test_ucls_and_scls_are_least_squares() -> None:
    pixels, spectra = scene(5, 40, 30, noise=0.2)
    e, y = spectra.numpy().T, pixels.numpy()
    np.testing.assert_allclose(ucls(pixels, spectra).numpy(), np.linalg.lstsq(e, y, rcond=None)[0], atol=1e-9)
    shifted = np.linalg.lstsq(e[:, 1:] - e[:, :1], y - e[:, :1], rcond=None)[0]
    want = np.vstack([1 - shifted.sum(0), shifted])
    np.testing.assert_allclose(scls(pixels, spectra).numpy(), want, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    p=st.integers(1, 18),
    bands=st.integers(1, 25),
    seed=st.integers(0, 10_000),
    noise=st.sampled_from([0.0, 0.02, 1.0]),
    constraint=st.sampled_from(["fcls", "nnls", "scls"]),
    scale=st.sampled_from([1.0, 1e4, 1e-3]),
)
def test_conditions_of_optimality_hold(p, bands, seed, noise, constraint, scale) -> None:
    pixels, spectra = scene(p, bands, 80, seed, noise)
    solver = AbundanceSolver(spectra * scale, constraint)
    a = solver.solve((pixels * scale).float())
    if constraint != "nnls":
        assert float((a.sum(0) - 1).abs().max()) < 1e-6
    if constraint != "scls":
        assert float(a.min()) >= 0
        assert float(solver.kkt_violation((pixels * scale).float(), a).max()) < 1e-6


def test_more_endmembers_than_dimensions_still_fits_best() -> None:
    """Dependent spectra: abundances are not unique, the fit is."""
    pixels, spectra = scene(4, 30, 40)
    twice = torch.cat([spectra, spectra[:2], (spectra[:1] + spectra[1:2]) / 2])
    one, two = fcls(pixels, spectra), fcls(pixels, twice)
    assert torch.allclose(spectra.T @ one, twice.T @ two, atol=1e-9)
    assert float((two.sum(0) - 1).abs().max()) < 1e-9 and float(two.min()) >= 0


def test_large_library() -> None:
    pixels, spectra = scene(200, 60, 20, noise=0.05)
    solver = AbundanceSolver(spectra, "fcls")
    a = solver.solve(pixels)
    assert float(solver.kkt_violation(pixels, a).max()) < 1e-6
    bounded = lsq_linear(
        np.vstack([spectra.numpy().T, 1e5 * np.ones((1, 200))]), np.append(pixels.numpy()[:, 0], 1e5), bounds=(0, 1)
    )
    fit = ((spectra.T @ a - pixels)[:, 0] ** 2).sum()
    assert float(fit) <= ((spectra.numpy().T @ bounded.x - pixels.numpy()[:, 0]) ** 2).sum() + 1e-9


def test_true_abundances_come_back_without_noise() -> None:
    random = np.random.default_rng(3)
    spectra = torch.from_numpy(random.random((6, 50)))
    shares = torch.from_numpy(random.dirichlet(np.ones(6), 200).T)
    assert torch.allclose(fcls(spectra.T @ shares, spectra), shares, atol=1e-9)


def test_bands_plus_one_endmembers_are_enough_for_a_unique_answer() -> None:
    spectra = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    pixels = torch.tensor([[0.2, 2.0, 0.5], [0.3, -1.0, 0.5]], dtype=torch.float64)
    want = torch.tensor([[0.5, 0.0, 0.0], [0.2, 1.0, 0.5], [0.3, 0.0, 0.5]], dtype=torch.float64)
    assert torch.allclose(fcls(pixels, spectra), want, atol=1e-12)


def test_nan_pixels_stay_nan_and_alone() -> None:
    for p in (4, 20, 80):
        pixels, spectra = scene(p, 30, 20)
        clean = fcls(pixels, spectra)
        pixels[3, 7] = torch.nan
        got = fcls(pixels, spectra)
        assert bool(got[:, 7].isnan().all())
        keep = torch.arange(20) != 7
        assert torch.allclose(got[:, keep], clean[:, keep], atol=1e-9)


def test_no_pixels_is_no_error() -> None:
    assert fcls(torch.empty(5, 0), torch.rand(3, 5)).shape == (3, 0)


def test_unusable_endmembers_are_refused() -> None:
    with pytest.raises(BadInput, match="zero"):
        AbundanceSolver(torch.zeros(2, 4))
    with pytest.raises(BadInput, match="not finite"):
        AbundanceSolver(torch.tensor([[1.0, torch.nan]]))
    with pytest.raises(BadInput, match="expected"):
        AbundanceSolver(torch.ones(3))


def test_ten_thousand_pixels_are_quick() -> None:
    """The specification's time for Jasper Ridge, of one core: other programs do not count."""
    import time

    pixels, spectra = scene(4, 198, 10_000)
    pixels = pixels.float()
    solver = AbundanceSolver(spectra)
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        a = solver.solve(pixels)
        best = min(best, time.process_time() - start)
    assert float(solver.kkt_violation(pixels, a).max()) < 1e-6
    assert best < 0.2, best


@pytest.mark.slow
def test_a_million_pixels_take_seconds() -> None:
    """198 bands, ten endmembers, one core: below ten seconds, exact."""
    import time

    pixels, spectra = scene(10, 198, 250_000)
    pixels = pixels.float()
    solver = AbundanceSolver(spectra)
    a = solver.solve(pixels)
    start = time.process_time()
    for _ in range(4):
        solver.solve(pixels)
    assert time.process_time() - start < 10
    assert float(solver.kkt_violation(pixels[:, :20_000], a[:, :20_000]).max()) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(("p", "times"), [(4, 4), (10, 6)])
def test_faster_than_the_compiled_active_set(p: int, times: float) -> None:
    """Where spams is installed: its decompSimplex takes several times as long, both on one thread."""
    import time

    spams = pytest.importorskip("spams")
    pixels, spectra = scene(p, 198, 50_000)
    solver, single = AbundanceSolver(spectra), pixels.float()
    y, e = np.asfortranarray(pixels.numpy()), np.asfortranarray(spectra.numpy().T)
    calls = {"ours": lambda: solver.solve(single), "theirs": lambda: spams.decompSimplex(y, e, numThreads=1)}
    best = dict.fromkeys(calls, np.inf)
    for _ in range(3):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    assert best["theirs"] > times * best["ours"], best


def test_both_ways_of_applying_patterns_agree() -> None:
    from torchspectral.ops.fcls import _gathered, _grouped

    pixels, spectra = scene(6, 30, 500)
    solver = AbundanceSolver(spectra)
    products = solver._products(pixels).T.contiguous()
    pattern = torch.randint(1, 64, (500,), dtype=torch.int32)
    one, two = (way(*solver._tables(pixels.device), pattern, products) for way in (_gathered, _grouped))
    assert torch.allclose(one, two, atol=1e-10)


@pytest.mark.gpu
def test_gpu_gives_the_same() -> None:
    pixels, spectra = scene(10, 60, 5000)
    got = AbundanceSolver(spectra.cuda()).solve(pixels.cuda())
    assert torch.allclose(got.cpu(), fcls(pixels, spectra), atol=1e-9)
