"""The three models: exactness, thresholds, noise slope, what is refused, reduced forms against the dense stack."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral.calibration import SelfCal, blind_deconvolution
from torchspectral.calibration.gain.stack import dense_stack, error_db, simulate, solve_dense
from torchspectral.errors import BadInput, BadSettings


def error(model: str, m: int, n: int, p: int, snr: float, seeds: int = 5, gains=(0.5, 1.5), **options) -> float:
    found = []
    for seed in range(seeds):
        ys, a, d, _ = simulate(model, m, n, p, snr, seed, gains)
        found.append(error_db(SelfCal(model, **options).fit(ys, a).s, 1 / d))
    return float(np.mean(found))


@pytest.mark.parametrize("solver", ["ls", "spectral"])
@pytest.mark.parametrize(
    ("model", "m", "n", "p", "limit"),
    [("a", 128, 64, 2, -200), ("a", 64, 128, 3, -200), ("c", 128, 64, 2, -160), ("b", 60, 20, 3, -200)],
)
def test_without_noise_exact(model, m, n, p, limit, solver):
    ys, a, d, x = simulate(model, m, n, p)
    found = SelfCal(model, solver).fit(ys, a)
    assert error_db(found.s, 1 / d) < limit and error_db(found.x, x) < limit
    assert found.null_dim == 1 and found.residual < 1e-7
    np.testing.assert_allclose(found.d * found.s, 1)


@pytest.mark.parametrize(
    ("model", "n", "p", "gains", "limit"),
    [
        ("a", 64, 2, (0.5, 1.5), -30),
        ("a", 64, 4, (0.5, 1.5), -38),
        ("a", 64, 8, (0.5, 1.5), -43),
        ("c", 32, 16, (0.5, 1.5), -45),
        ("c", 32, 64, (0.5, 1.5), -52),
        ("a", 64, 4, (0.1, 1.9), -26),
    ],
)
def test_thresholds_at_40_db(model, n, p, gains, limit):
    assert error(model, 128, n, p, 40, gains=gains) <= limit


def test_slope_and_the_two_solvers():
    found = [error("a", 128, 64, 4, snr, seeds=3) for snr in (40, 60, 80)]
    np.testing.assert_allclose(np.diff(found), -20, atol=1)
    # The figures of the paper's recipe, section 4 of the specification.
    assert error("a", 128, 64, 2, 20) == pytest.approx(-11.1, abs=0.3)
    assert error("a", 128, 64, 2, 20, solver="spectral") == pytest.approx(-8.8, abs=0.4)


@pytest.mark.parametrize("model", ["a", "b", "c"])
@pytest.mark.parametrize("solver", ["ls", "spectral"])
@settings(max_examples=8, deadline=None)
@given(
    m=st.integers(6, 24), share=st.floats(0.1, 0.6), p=st.integers(3, 6), snr=st.floats(15, 60), seed=st.integers(0, 99)
)
def test_reduced_equals_dense(model, solver, m, share, p, snr, seed):
    n = max(1, int(share * m))
    ys, a, _, _ = simulate(model, m, n, p, snr, seed)
    s, x, values = solve_dense(model, ys, a, solver)
    found = SelfCal(model, solver).fit(ys, a)
    if solver == "spectral":
        # Two directions that are as likely as each other are no one's solution.
        if values[-1] > 0.8 * values[-2]:
            return
        s, x, found_s = s / np.linalg.norm(s), x / np.linalg.norm(s), found.s / np.linalg.norm(found.s)
    else:
        found_s = found.s
        np.testing.assert_allclose(np.ravel(found.x), x, atol=1e-8 * np.abs(x).max())
    np.testing.assert_allclose(found_s, s, atol=1e-8 * np.abs(s).max())


def test_row_with_a_part_of_the_object():
    ys, a, _, x = simulate("a", 30, 12, 3, 30)
    w = np.concatenate([np.zeros(30), np.ones(12)])
    s, z, _ = solve_dense("a", ys, a, w=w, c=x.sum())
    found = SelfCal("a", w=w, c=float(x.sum())).fit(ys, a)
    np.testing.assert_allclose(found.s, s, atol=1e-9 * np.abs(s).max())
    np.testing.assert_allclose(found.x, z, atol=1e-9 * np.abs(z).max())


def test_below_the_count_it_says_so():
    ys, a, _, _ = simulate("a", 64, 128, 2)
    cal = SelfCal("a")
    with pytest.raises(BadInput, match="128 equations for 192 unknowns"):
        cal.fit(ys, a)
    known = cal.diagnose()
    values = np.linalg.svd(dense_stack("a", ys, a), compute_uv=False)
    assert known.null_dim == 64 == int((values < 1e-9).sum()) + 192 - 128
    assert not known.determined and known.near_null_dim >= 64
    for n, p in ((64, 1), (120, 4)):
        ys, a, _, _ = simulate("c", 128, n, p, 40)
        with pytest.raises(BadInput, match="cannot be determined"):
            SelfCal("c").fit(ys, a)


def test_smooth_operator_leaves_smooth_gains_open():
    at = np.linspace(-1, 1, 40)
    a = np.stack([at**k for k in range(6)], axis=1)
    random = np.random.default_rng(0)
    x = random.normal(size=(1, 6)) * np.ones((12, 1))
    with pytest.raises(BadInput, match=r"null_dim = \d"):
        SelfCal("c").fit((1 + 0.1 * random.random(40)) * (x @ a.T), a)


def test_streamed_equals_whole_and_leaves_gaps_out():
    ys, a, d, _ = simulate("c", 40, 10, 60, 40)
    whole = SelfCal("c").fit(ys, a).s
    cal = SelfCal("c")
    for start in range(0, 60, 7):
        cal.partial_fit(ys[start : start + 7], a)
    np.testing.assert_allclose(cal.solve().s, whole, rtol=1e-9)
    assert cal.solve().x is None
    with_gaps = np.concatenate([ys, np.where(np.arange(40) == 3, np.nan, ys[:5])])
    np.testing.assert_allclose(SelfCal("c").fit(with_gaps, a).s, whole, rtol=1e-9)
    ys, a, d, _ = simulate("a", 40, 10, 6, 40)
    cal = SelfCal("a")
    for y, one in zip(ys, a, strict=True):
        cal.partial_fit(y[None], one[None])
    np.testing.assert_allclose(cal.solve().s, SelfCal("a").fit(ys, a).s, rtol=1e-9)
    ys[1, 4] = np.nan
    assert error_db(SelfCal("a").fit(ys, a).s, 1 / d) < -30
    for options in ({"noise_var": 0.1}, {"refine": "reweight"}, {"refine": "als"}):
        with pytest.raises(BadSettings, match="call fit with all"):
            SelfCal("a", **options).partial_fit(ys, a).solve()


def test_noise_correction_takes_bias_away():
    plain, corrected = [], []
    for seed in range(5):
        ys, a, d, _ = simulate("c", 60, 10, 4000, 10, seed)
        variance = float((ys**2).mean() / (1 + 10))
        plain.append(error_db(SelfCal("c").fit(ys, a).s, 1 / d))
        corrected.append(error_db(SelfCal("c", noise_var=variance).fit(ys, a).s, 1 / d))
    assert np.mean(corrected) < np.mean(plain) - 3
    ys, a, d, _ = simulate("a", 60, 20, 40, 10, 1)
    variance = float((ys**2).mean() / 11)
    assert error_db(SelfCal("a", noise_var=variance).fit(ys, a).s, 1 / d) < error_db(SelfCal("a").fit(ys, a).s, 1 / d)
    with pytest.raises(BadInput, match="standard deviation"):
        SelfCal("a", noise_var=1e9).fit(ys, a)


@pytest.mark.parametrize(("model", "better"), [("a", -1.5), ("b", -0.3), ("c", 0.8)])
def test_refinements_on_uneven_gains(model, better):
    found = {r: error(model, 60, 20, 12, 25, 3, (0.2, 1.8), refine=r, rounds=8) for r in ("none", "reweight", "als")}
    assert found["reweight"] < found["none"] - better and found["als"] < found["none"] - better


def test_error_estimate_is_near_the_error():
    for model, n, p in (("a", 40, 4), ("c", 20, 20), ("b", 20, 20)):
        ys, a, d, _ = simulate(model, 80, n, p, 40, 2)
        found = SelfCal(model).fit(ys, a)
        assert 0.4 < found.err_est / 10 ** (error_db(found.s, 1 / d) / 20) < 2.5


def test_sparse_operators_go_through_lsqr():
    random = np.random.default_rng(1)
    m, n = 30, 60
    d, x = random.uniform(0.8, 1.2, m), random.uniform(1, 2, n)
    operators = []
    for start in (0.0, 3.3, 7.6, 12.2, 21.9):
        at = start + np.arange(m)
        low = np.floor(at).astype(int)
        rows = np.concatenate([np.arange(m)] * 2)
        operators.append(sp.csr_array((np.r_[1 - at + low, at - low], (rows, np.r_[low, low + 1])), shape=(m, n)))
    ys = np.stack([d * (a @ x) for a in operators])
    found = SelfCal("a").fit(ys, operators)
    dense = SelfCal("a").fit(ys, np.stack([a.toarray()[:, :54] for a in operators]))
    assert error_db(found.s, 1 / d) < -120
    np.testing.assert_allclose(found.s, dense.s, rtol=1e-5)
    with pytest.raises(BadInput, match="groups"):
        SelfCal("a").fit(np.ones((2, 4)), [sp.eye_array(4).tocsr()] * 2)


def test_blind_deconvolution_finds_blur_and_inputs():
    random = np.random.default_rng(3)
    rows = cols = 10
    kernel = np.zeros((rows, cols))
    kernel[:3, :3] = random.uniform(0.05, 0.4, (3, 3))
    kernel[0, 0] = 2.0
    kernel /= kernel.sum()
    support = random.random((6, rows, cols)) < 0.25
    inputs = np.where(support, random.uniform(0.5, 2, support.shape), 0)
    images = np.real(np.fft.ifft2(np.fft.fft2(kernel) * np.fft.fft2(inputs)))
    found = blind_deconvolution(images, support)
    np.testing.assert_allclose(found.kernel, kernel, atol=1e-8)
    np.testing.assert_allclose(found.inputs, inputs, atol=1e-7)
    assert found.identifiability.null_dim == 1
    with pytest.raises(BadInput, match="cannot be determined"):
        blind_deconvolution(images, np.ones_like(support))


@pytest.mark.parametrize(
    "options",
    [
        {"model": "d"},
        {"solver": "qr"},
        {"c": 0.0},
        {"ridge": -1.0},
        {"solver": "spectral", "ridge": 0.1},
        {"rounds": 0},
    ],
)
def test_bad_settings(options):
    with pytest.raises(BadSettings, match="expected"):
        SelfCal(**options)


def test_bad_measurements():
    ys, a, _, _ = simulate("a", 12, 4, 3)
    for bad in (lambda: SelfCal("a").solve(), lambda: SelfCal("a").fit(ys[0], a), lambda: SelfCal("a").fit(ys, a[:2]),
                lambda: SelfCal("c").fit(ys, a[0][:5]), lambda: SelfCal("a").fit(ys, a * np.nan)):  # fmt: skip
        with pytest.raises(BadInput):
            bad()
    with pytest.raises(BadSettings, match="row w"):
        SelfCal("a", w=np.ones(5)).fit(ys, a)
