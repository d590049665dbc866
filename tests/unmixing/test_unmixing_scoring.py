"""Scores of unmixing: pairs, units, and what is left over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral.cube import make_layers, make_spectra
from torchspectral.errors import BadInput, BandMismatch, GridMismatch
from torchspectral.unmixing import scoring


def truth(k: int = 4, bands: int = 30, pixels: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return 0.1 + random.random((k, bands)), random.dirichlet(np.ones(k), pixels).T


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(5)), gain=st.floats(0.2, 5), matching=st.sampled_from(["angle", "abundance"]))
def test_order_and_brightness_do_not_matter(order, gain, matching) -> None:
    e, a = truth(5)
    found = scoring.score(e[order] * gain, a[order], e, a, matching=matching)
    assert [order[r] for r, _ in found.pairs] == [c for _, c in found.pairs] == list(range(5))
    assert found.figures["mean_angle"] < 1e-6 and found.figures["rmse"] < 1e-12


def test_known_figures() -> None:
    e, a = truth(3)
    off = a.copy()
    off[0] += 0.1
    found = scoring.score(e, off, e, a, matching="none", pixels=e.T @ a, names=["soil", "tree", "water"])
    assert found.figures["rmse_as_given"] == pytest.approx(0.1 / np.sqrt(3))
    assert found.figures["re"] == pytest.approx(0.1 * np.sqrt((e[0] ** 2).mean()))
    assert list(found.rmse) == ["soil", "tree", "water"]
    assert scoring.reconstruction_snr(off, a) == pytest.approx(
        20 * np.log10(np.linalg.norm(a) / (0.1 * np.sqrt(a.shape[1])))
    )
    assert scoring.mean_angle([[1, 0]], [[1, 1]], degrees=True) == pytest.approx(45)
    assert scoring.reconstruction_snr(a, a) == np.inf


def test_abundances_that_do_not_sum_to_one_are_scaled_first() -> None:
    e, a = truth()
    found = scoring.score(e, 0.5 * a, e, a)
    assert found.figures["rmse"] < 1e-12 < found.figures["rmse_as_given"]


def test_leftovers_are_listed() -> None:
    e, a = truth(5)
    found = scoring.score(e[:3], a[:3], e, a)
    assert found.unmatched == {"estimated": [], "true": [3, 4]} and len(found.pairs) == 3
    found = scoring.score(e, a, e[:4], a[:4])
    assert found.unmatched == {"estimated": [4], "true": []}


def test_labelled_arrays_and_nodata() -> None:
    e, a = truth(3, pixels=12)
    maps = make_layers(a.reshape(3, 3, 4), ["a", "b", "c"])
    holes = maps.copy()
    holes[:, 0, 0] = np.nan
    spectra = make_spectra(e, ["a", "b", "c"])
    found = scoring.score(spectra, holes, spectra, maps)
    assert found.figures["rmse"] < 1e-12 and np.isfinite(found.figures["sre"])
    dark = e.copy()
    dark[1] = 0
    found = scoring.score(dark, a, e, a)
    assert found.figures["mean_angle"] < 1e-6 and np.isnan(found.angle["material 2"])


def test_what_does_not_fit_is_refused() -> None:
    e, a = truth()
    with pytest.raises(BandMismatch, match="same bands"):
        scoring.score(e[:, :20], a, e, a)
    with pytest.raises(GridMismatch, match="pixels"):
        scoring.score(e, a[:, :20], e, a)
    with pytest.raises(BadInput, match="one map"):
        scoring.score(e, a[:2], e, a)
    with pytest.raises(BadInput, match="spectrum"):
        scoring.score(e[0], a, e, a)
