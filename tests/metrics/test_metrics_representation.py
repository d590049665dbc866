"""Diffusion spectral entropy and its company: laws, invariances, guards, torch against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchspectral.errors import BadInput, BadSettings
from torchspectral.metrics import representation as r


def blobs(k: int, n: int = 160, d: int = 32, sep: float = 40.0, noise: float = 0.1, seed: int = 0):
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % k
    return draw.standard_normal((k, d))[labels] * sep + noise * draw.standard_normal((n, d)), labels


@pytest.mark.parametrize("k", [2, 4, 8])
def test_tight_clusters_far_apart_give_the_logarithm_of_their_number(k: int) -> None:
    assert abs(float(r.dse(blobs(k)[0], sigma=10, normalise=False)) - np.log2(k)) < 0.1


def test_entropy_does_not_see_rotation_translation_and_order() -> None:
    x, _ = blobs(5, n=90, d=12, sep=2.0, noise=1.0)
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((12, 12)))[0]
    moved = (x @ turn + 7.0)[np.random.default_rng(4).permutation(90)]
    for sigma in (3.0, "median"):
        first, second = (float(r.dse(v, sigma=sigma, normalise=False)) for v in (x, moved))
        assert abs(first - second) < 1e-8


@pytest.mark.parametrize("sigma", [None, "median"])
@pytest.mark.parametrize("point", [np.ones(6), np.zeros(6)])
def test_collapse_is_no_entropy(sigma, point) -> None:
    found = r.dse(np.tile(point, (100, 1)), sigma=sigma)
    assert 0 <= float(found) < 0.01 and found.share < 0.01
    assert r.effective_rank(np.tile(point, (100, 1))) == 0.0


def test_isolated_points_reach_the_logarithm_of_their_number() -> None:
    found = r.dse(np.eye(64) * 100, sigma=1.0, normalise=False)
    assert float(found) == pytest.approx(6.0, abs=1e-6) and found.share == pytest.approx(1.0)


def test_shuffled_labels_tell_almost_nothing() -> None:
    x, labels = blobs(4, n=400)
    told = float(r.dsmi(x, labels, sigma=10, normalise=False))
    shuffled = np.random.default_rng(1).permutation(labels)
    assert told > 1.5 and abs(float(r.dsmi(x, shuffled, sigma=10, normalise=False))) < 0.1 * told


@pytest.mark.parametrize(
    "measure",
    [
        lambda x, y: float(r.dse(x, t=2.0)),
        lambda x, y: float(r.dse(x, alpha=0.5)),
        lambda x, y: float(r.dse(x, sigma="median", normalise=False)),
        lambda x, y: float(r.dsmi(x, y)),
        lambda x, y: r.renyi2(x),
        lambda x, y: r.entry_entropy(x),
        lambda x, y: r.ase(x, kind="knn", k=4),
        lambda x, y: r.cse(x, bins=3),
        lambda x, y: r.effective_rank(x),
        lambda x, y: r.rank_me(x),
        lambda x, y: r.participation_ratio(x),
        lambda x, y: r.uniformity(x),
        lambda x, y: r.self_cluster(x),
    ],
)
def test_tensors_give_what_arrays_give(measure) -> None:
    x, y = blobs(3, n=70, d=9, sep=2.0, noise=1.0)
    assert measure(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(measure(x, y), abs=1e-6)


def test_renyi_is_a_lower_proxy_and_landmarks_keep_their_word() -> None:
    x, _ = blobs(6, n=300, d=8, sep=2.0, noise=0.6)
    whole = float(r.dse(x))
    assert 0 < r.renyi2(x) <= whole
    for count in (20, 80, 300):
        found = r.dse(x, landmarks=count)
        assert abs(found.bits - whole) <= found.error + 1e-6
    assert r.dse(x, landmarks=300).error < 1e-6


def test_sampling_is_repeatable_and_leaves_the_callers_numbers_alone() -> None:
    import random

    x, labels = blobs(3, n=120)
    random.seed(5)
    before = random.getstate()
    first, second = r.dse(x, max_n=50, seed=3), r.dse(x, max_n=50, seed=3)
    r.dsmi(x, labels)
    assert first.bits == second.bits and first.n == 50
    assert random.getstate() == before


def test_references_of_each_kind() -> None:
    x, labels = blobs(3, n=90, d=6)
    assert (r.clusters_of(labels[:, None]) == labels).all()
    bins = r.clusters_of(np.linspace(0, 1, 11), count=5)
    assert bins[0] == 1 and bins[-1] == 5
    made = r.dsmi(x, x, count=3, sigma=10, normalise=False)
    again = r.dsmi(x, clusters=made.clusters, sigma=10, normalise=False)
    assert len(set(made.clusters.tolist())) == 3 and again.bits == made.bits
    assert float(r.csmi(np.ones((20, 3)), np.arange(20) % 2)) == 0.0  # constant dimensions divide by nothing


def test_probes_tell_separable_from_shuffled_and_respect_groups() -> None:
    x, labels = blobs(4, n=200)
    for probe in (r.knn_probe, r.linear_probe):
        assert probe(x, labels)["overall"] == 1.0
        assert probe(x, np.random.default_rng(0).permutation(labels))["macro"] < 0.5
    # A class that lies in one group only cannot be known from the others.
    assert r.knn_probe(x, labels, groups=labels)["overall"] == 0.0
    assert r.linear_probe(x, labels, folds=4, groups=labels)["overall"] == 0.0


def test_alignment_and_self_cluster_have_their_ends() -> None:
    x = np.random.default_rng(0).standard_normal((50, 8))
    assert r.alignment(x, 3 * x) == pytest.approx(0.0, abs=1e-12)
    assert r.alignment(x, -x) == pytest.approx(4.0)
    assert r.self_cluster(np.ones((10, 4))) == pytest.approx(1.0)
    assert r.self_cluster(np.eye(8)) == pytest.approx(0.0, abs=1e-12)
    assert r.effective_rank(np.random.default_rng(0).standard_normal((4000, 4))) == pytest.approx(4, abs=0.02)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: r.dse(x, normalise=False), BadSettings, "give sigma"),
        (lambda x: r.dse(x, sigma="mean"), BadSettings, "median"),
        (lambda x: r.dse(x, sigma=0), BadSettings, "above 0"),
        (lambda x: r.dse(x, t=0), BadSettings, "above 0"),
        (lambda x: r.dse(x[0]), BadInput, "sample, dimension"),
        (lambda x: r.dse(np.where(x > 0, x, np.nan)), BadInput, "NaN"),
        (lambda x: r.dse(x, landmarks=5, t=2), BadSettings, "t=1"),
        (lambda x: r.dse(x, landmarks=500), BadSettings, "landmarks"),
        (lambda x: r.dsmi(x, np.arange(3)), BadInput, "one for each"),
        (lambda x: r.dsmi(x), BadSettings, "one of them"),
        (lambda x: r.ase(x, kind="ring"), BadSettings, "knn"),
        (lambda x: r.cse(x, bins=0), BadSettings, "bins"),
        (lambda x: r.knn_probe(x, np.zeros(len(x), int)), BadInput, "one class"),
        (lambda x: r.knn_probe(x, np.arange(len(x)) % 2, k=90), BadSettings, "neighbours"),
        (lambda x: r.alignment(x, x[1:]), BadInput, "same samples"),
        (lambda x: r.uniformity(x[:1]), BadInput, "two"),
    ],
)
def test_refusals(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call(blobs(3, n=30)[0])
