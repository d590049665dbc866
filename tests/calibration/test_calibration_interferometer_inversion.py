"""Inversion of interferograms: the specification's figures, exactness, the choice of the regularisation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from torchspectral.calibration import interferometer as fp
from torchspectral.calibration.interferometer.inversion import make_solver
from torchspectral.calibration.interferometer.settings import LorisVerhoevenSettings
from torchspectral.calibration.interferometer.solvers import Ridge, dct_matrix
from torchspectral.calibration.interferometer.strength import choose_strength
from torchspectral.errors import BadInput, BadSettings, BandMismatch, UnknownName


def case(name: str = "a", noise: float = 0.02, seed: int = 6) -> dict[str, np.ndarray]:
    """Case a (ill-conditioned) or b (well-conditioned) of the specification."""
    count, lines, step, r = {"a": (120, 100, 0.175, 0.2), "b": (150, 90, 0.2, 0.45)}[name]
    random = np.random.default_rng(seed)
    opd, sigma = np.arange(count) * step, np.linspace(1.0, 2.5, lines)
    matrix = fp.fabry_perot(fp.phase(opd, sigma, random.uniform(0, 0.3, count)), 1.0, r)
    x = np.stack([np.exp(-0.5 * ((sigma - c) / w) ** 2) + 0.2 for c, w in ((1.4, 0.15), (1.9, 0.05))], axis=1)
    y = matrix @ x
    return {"T": matrix, "x": x, "y": y + noise * y.std() * random.uniform(-1, 1, y.shape), "opd": opd, "sigma": sigma}


def error(x: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(x - truth) / np.linalg.norm(truth))


def test_the_figures_of_the_ill_conditioned_case() -> None:
    c = case("a")
    found = {
        "pinv": fp.invert(c["y"], c["T"], "pinv"),
        "tsvd": fp.invert(c["y"], c["T"], "tsvd", ratio=0.7),
        "ridge": fp.invert(c["y"], c["T"], "ridge", regularisation=0.5),
        "lv": fp.invert(c["y"], c["T"], "loris-verhoeven", regularisation=0.5),
    }
    errors = {name: error(x, c["x"]) for name, x in found.items()}
    assert errors["pinv"] > 1 and errors["tsvd"] < 0.12 and errors["ridge"] < 0.12 and errors["lv"] < 0.05, errors


def test_the_figures_of_the_well_conditioned_case() -> None:
    c = case("b")
    errors = {
        m: error(fp.invert(c["y"], c["T"], m, **s), c["x"])
        for m, s in (("pinv", {}), ("ridge", {"regularisation": 0.5}), ("tsvd", {"ratio": 0.7}))
    }
    assert errors["pinv"] < 0.035 and errors["ridge"] < 0.035 and errors["tsvd"] > 0.3, errors


def test_the_authors_start_is_far_off_after_their_iterations_and_ours_is_not() -> None:
    c = case("a")
    common = {"regularisation": 0.5, "iterations": 300, "tolerance": 0.0}
    theirs = fp.invert(c["y"], c["T"], "loris-verhoeven", start="adjoint", deflate=0, **common)
    zero = fp.invert(c["y"], c["T"], "loris-verhoeven", start="zero", deflate=0, **common)
    ours = fp.invert(c["y"], c["T"], "loris-verhoeven", **common)
    assert error(theirs, c["x"]) > 3 > 0.5 > error(zero, c["x"]) > error(ours, c["x"])
    assert error(ours, c["x"]) < 0.05


@pytest.mark.parametrize("operator", ["dct", "identity", "tv"])
@pytest.mark.parametrize("non_negative", [False, True])
def test_deflated_steps_reach_the_minimum(operator: str, non_negative: bool) -> None:
    c = case("b", noise=0.05)
    c = {"T": c["T"][::3, ::3], "y": c["T"][::3, ::3] @ c["x"][::3] + 0.3}
    lam = 1.0
    lv = {"regularisation": lam, "operator": operator, "non_negative": non_negative, "tolerance": 0.0}
    x = fp.invert(c["y"], c["T"], "loris-verhoeven", iterations=600, **lv)
    plain = fp.invert(c["y"], c["T"], "loris-verhoeven", iterations=2000, deflate=0, start="zero", **lv)
    size = {
        "dct": lambda v: dct_matrix(30, torch.eye(1).double()).numpy() @ v,
        "identity": lambda v: v,
        "tv": lambda v: np.diff(v, axis=0),
    }[operator]

    def cost(v: np.ndarray) -> float:
        return 0.5 * ((c["T"] @ v - c["y"]) ** 2).sum() + lam * np.abs(size(v)).sum()

    assert cost(x) <= cost(plain) * (1 + 1e-4)
    assert not non_negative or x.min() >= 0
    random = np.random.default_rng(0)
    for _ in range(20):
        other = x + 1e-3 * random.standard_normal(x.shape)
        assert cost(np.maximum(other, 0) if non_negative else other) > cost(x) * (1 - 1e-6)


def test_each_pixel_stops_for_itself() -> None:
    c = case("b", noise=0.05)
    y = np.concatenate([c["y"], 0 * c["y"][:, :1], 50 * c["y"][:, :1]], axis=1)
    lv = {"regularisation": 1.0, "tolerance": 1e-5}
    together = fp.invert(y, c["T"], "loris-verhoeven", **lv)
    alone = np.stack([fp.invert(y[:, n], c["T"], "loris-verhoeven", **lv) for n in range(y.shape[1])], axis=1)
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-8)


def test_non_negative_least_squares_is_exact() -> None:
    c = case("b", noise=0.2)
    y = c["y"] - 6 * c["y"].std()
    found = fp.invert(y, c["T"], "pinv", non_negative=True)
    np.testing.assert_allclose(found, np.stack([nnls(c["T"], v)[0] for v in y.T], axis=1), atol=1e-8)
    ridge = fp.invert(y, c["T"], "ridge", regularisation=2.0, non_negative=True)
    stacked = np.vstack([c["T"], 2.0 * np.eye(90)])
    expected = np.stack([nnls(stacked, np.append(v, np.zeros(90)))[0] for v in y.T], axis=1)
    np.testing.assert_allclose(ridge, expected, atol=1e-8)


def test_ridge_and_twomey_are_their_normal_equations() -> None:
    c = case("b")
    t, y = c["T"], c["y"]
    expected = np.linalg.solve(t.T @ t + 0.25 * np.eye(90), t.T @ y)
    np.testing.assert_allclose(fp.invert(y, t, "ridge", regularisation=0.5), expected, rtol=1e-8)
    d = np.diff(np.eye(90), 2, axis=0)
    expected = np.linalg.solve(t.T @ t + 9 * d.T @ d, t.T @ y)
    np.testing.assert_allclose(fp.invert(y, t, "phillips-twomey", regularisation=3.0), expected, rtol=1e-7)


def test_the_cosine_transform_finds_a_line_of_an_ideal_michelson() -> None:
    count, step = 200, 0.2
    opd, sigma = np.arange(count) * step, (np.arange(count) + 0.5) / (2 * count * step)
    matrix = fp.michelson(fp.phase(opd, sigma), 0.5)
    x = np.exp(-0.5 * ((sigma - 1.2) / 0.1) ** 2)
    found = fp.invert(matrix @ x, matrix, "idct", opd=opd, wavenumber=sigma)
    assert sigma[found.argmax()] == pytest.approx(1.2, abs=0.03)
    far = fp.invert(matrix @ x, matrix, "idct", opd=opd, wavenumber=sigma, amplitude="none")
    assert abs(far.max()) > 0
    with pytest.raises(BadInput, match="regular grid from 0"):
        fp.invert(matrix @ x, matrix, "idct", opd=opd + 5, wavenumber=sigma)
    with pytest.raises(BadInput, match="opd="):
        fp.invert(matrix @ x, matrix, "idct")


@lru_cache
def best_of(method: str, name: str) -> float:
    c = case("a", noise=0.01)
    values = np.linspace(0.05, 1, 20) if name == "ratio" else np.logspace(-3, 3, 25)
    return min(error(fp.invert(c["y"], c["T"], method, **{name: v}), c["x"]) for v in values)


@pytest.mark.parametrize("how", ["gcv", "cv", "l-curve"])
@pytest.mark.parametrize(
    ("method", "name"), [("ridge", "regularisation"), ("phillips-twomey", "regularisation"), ("tsvd", "ratio")]
)
def test_the_choice_is_near_the_best(method: str, name: str, how: str) -> None:
    c = case("a", noise=0.01)
    found = error(fp.invert(c["y"], c["T"], method, **{name: how}), c["x"])
    assert found < {"gcv": 2, "cv": 3, "l-curve": 12}[how] * best_of(method, name) + 0.02


def test_known_spectra_choose_the_nearest() -> None:
    c = case("a", noise=0.01)
    t, y, x = (torch.from_numpy(c[k]) for k in ("T", "y", "x"))
    settings = fp.inversion_settings("ridge")
    chosen = choose_strength("ridge", t, settings, y, truth=x)
    assert chosen.how == "known spectra" and chosen.scores[chosen.candidates.index(chosen.value)] == min(chosen.scores)
    ours = error(Ridge(t, chosen.value).solve(y).numpy(), c["x"])
    assert all(ours <= error(Ridge(t, v).solve(y).numpy(), c["x"]) + 1e-12 for v in chosen.candidates)


def test_the_sparse_choice_works_too() -> None:
    c = case("b", noise=0.05)
    assert error(fp.invert(c["y"], c["T"], "loris-verhoeven"), c["x"]) < 0.06


def test_what_cannot_be_inverted_is_refused() -> None:
    c = case("b")
    with pytest.raises(UnknownName, match="ridge"):
        fp.invert(c["y"], c["T"], "rigde")
    with pytest.raises(BandMismatch, match="150 interferometers"):
        fp.invert(c["y"][:-1], c["T"])
    with pytest.raises(BadInput, match="not finite"):
        fp.invert(c["y"] * np.nan, c["T"])
    with pytest.raises(BadInput, match="zero everywhere"):
        fp.invert(c["y"], 0 * c["T"])
    with pytest.raises(BadInput, match="all interferograms are zero"):
        fp.invert(0 * c["y"], c["T"])
    with pytest.raises(BadSettings, match="expected above 0"):
        fp.invert(c["y"], c["T"], "ridge", regularisation=0.0)
    with pytest.raises(BadSettings, match="at least one kept"):
        fp.invert(c["y"], c["T"], "tsvd", ratio=1e-6)
    with pytest.raises(BadSettings, match="still to be chosen"):
        make_solver("loris-verhoeven", torch.from_numpy(c["T"]), LorisVerhoevenSettings.make())
