"""Confusion, multi-label figures and calibration against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import torchspectral as ts
from torchspectral.errors import BadInput, GridMismatch
from torchspectral.metrics.classes import Calibration, Confusion, MultiLabel, confusion_csv, score_classes

metrics = pytest.importorskip("sklearn.metrics")


def draw(seed: int, n: int = 400, classes: int = 5):
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, n, p=[0.5, 0.2, 0.2, 0.09, 0.01])
    return np.where(rng.random(n) < 0.7, truth, rng.integers(0, classes, n)), truth


def test_figures_equal_those_of_scikit_learn() -> None:
    guess, truth = draw(0)
    got = Confusion(list("abcde")).update(guess[:150], truth[:150])
    got.merge(Confusion(list("abcde")).update(guess[150:].reshape(50, 5), truth[150:].reshape(50, 5)))
    figures = got.compute()
    average = {k: metrics.f1_score(truth, guess, average=k) for k in ("micro", "macro")}
    jaccard = {k: metrics.jaccard_score(truth, guess, average=k) for k in ("micro", "macro")}
    wanted = {
        "oa": metrics.accuracy_score(truth, guess), "aa": metrics.balanced_accuracy_score(truth, guess),
        "kappa": metrics.cohen_kappa_score(truth, guess), "f1_micro": average["micro"], "f1_macro": average["macro"],
        "iou_micro": jaccard["micro"], "iou_macro": jaccard["macro"],
        "precision_macro": metrics.precision_score(truth, guess, average="macro", zero_division=0), "samples": 400,
    }  # fmt: skip
    for name, value in wanted.items():
        assert figures[name] == pytest.approx(value, abs=1e-12), name
    assert figures["iou_micro"] == pytest.approx(figures["oa"] / (2 - figures["oa"]))
    np.testing.assert_array_equal(got.counts[:, :-1], metrics.confusion_matrix(truth, guess))


def test_kappa_spread_is_that_of_repeated_draws() -> None:
    drawn = [Confusion(list("abcde")).update(*draw(seed)).compute() for seed in range(300)]
    kappas = np.array([d["kappa"] for d in drawn])
    assert kappas.std() == pytest.approx(np.mean([d["kappa_std"] for d in drawn]), rel=0.15)


def test_what_does_not_count_and_what_is_missed() -> None:
    got = Confusion(["a", "b", "c"]).update([0, 0, 7, 1], [0, -1, 1, 1])
    figures = got.compute()
    assert figures["samples"] == 3 and figures["oa"] == pytest.approx(2 / 3) and figures["aa"] == pytest.approx(0.75)
    assert np.isnan(got.per_class()["recall"][2]) and figures["f1_macro"] == pytest.approx((1 + 2 / 3) / 2)
    assert "(none)" in confusion_csv(got) and confusion_csv(got).splitlines()[2].startswith("b,0,1,0,1,2,0.5")
    with pytest.raises(BadInput, match="out of range"):
        Confusion(["a"]).update([0], [1])
    with pytest.raises(BadInput, match="nothing to measure"):
        Confusion(["a"]).compute()


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_merging_is_adding(seed: int) -> None:
    guess, truth = draw(seed, 60)
    cut = seed % 59 + 1
    whole = Confusion(list("abcde")).update(guess, truth)
    parts = Confusion(list("abcde")).update(guess[:cut], truth[:cut])
    parts.merge(Confusion(list("abcde")).update(guess[cut:], truth[cut:]))
    assert whole.compute() == parts.compute()


def test_multilabel_equals_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random((80, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(int)
    truth[0] = 1
    scores = np.round(np.clip(truth * 0.3 + rng.random((80, 4)) * 0.7, 0, 1), 1)  # with ties
    got = MultiLabel(list("abcd")).update(scores[:30], truth[:30])
    figures = got.merge(MultiLabel(list("abcd")).update(scores[30:], truth[30:])).compute()
    for average in ("micro", "macro"):
        wanted = metrics.average_precision_score(truth, scores, average=average)
        assert figures[f"map_{average}"] == pytest.approx(wanted)
        wanted = metrics.f1_score(truth, scores > 0.5, average=average)
        assert figures[f"f1_{average}"] == pytest.approx(wanted)
    assert figures["map_micro"] != pytest.approx(figures["map_macro"])
    with pytest.raises(BadInput, match="other numbers"):
        MultiLabel(list("ab")).update(np.zeros((1, 2)), np.full((1, 2), 2))


def test_calibration() -> None:
    assert Calibration().update([1.0, 1.0], [1, 1]).compute() == 0
    got = Calibration(2).update([0.9, 0.9, 0.9, 0.9], [1, 1, 0, 0]).merge(Calibration(2).update([0.4], [1]))
    assert got.compute() == pytest.approx((4 * 0.4 + 0.6) / 5)


def layer(values, names=None):
    out = ts.make_layers(np.asarray(values, dtype=np.uint8)[None], ["class"])
    return out.assign_attrs(nodata=255, **({"class_names": names} if names else {}))


def test_class_maps_are_scored() -> None:
    found = layer([[1, 2, 2], [0, 255, 1]], ["none", "corn", "hay"])
    result = score_classes(found, layer([[1, 2, 0], [2, 2, 2]]))
    assert result.report.figures["samples"] == 4 and result.report.figures["oa"] == 0.5
    assert "1 labelled pixels that are nodata" in result.report.dropped[0]
    swapped = score_classes(found, layer([[2, 1, 0], [1, 1, 1]], ["none", "hay", "corn"]))
    assert swapped.report.figures["oa"] == 0.5 and "by name" in swapped.report.notes[0]
    with pytest.raises(BadInput, match="out of range"):
        score_classes(found, layer([[3, 0, 0], [0, 0, 0]]))
    with pytest.raises(BadInput, match="none of the map's"):
        score_classes(found, layer([[1, 0, 0], [0, 0, 0]], ["none", "oats"]))
    with pytest.raises(BadInput, match="no pixel is labelled"):
        score_classes(found, layer(np.zeros((2, 3))))
    with pytest.raises(GridMismatch):
        score_classes(found, layer(np.ones((3, 3))))
