"""The numbers of one set of embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torchspectral.diagnosis.embedded import Embedded
from torchspectral.errors import BadInput, MissingDependency
from torchspectral.metrics.representation.entropy import dse
from torchspectral.metrics.representation.information import clusters_of, dsmi
from torchspectral.metrics.representation.overview import (
    COLLAPSED_COSINE,
    alarms,
    label_summary,
    principal,
    summary,
)
from torchspectral.metrics.representation.probes import linear_probe
from torchspectral.settings import Settings, setting

NARROW, WIDE = 0.3, 6.0
"""Median distance over sigma outside of which the kernel sees one region, or as many as samples."""


class DiagnosisSettings(Settings):
    """Settings of a diagnosis."""

    samples: int = setting(2000, "most samples that are looked at", ge=10, le=10000)
    sigma: float | str | None = setting(
        None, "width of the kernel: a number, or median; 1 where rows are normalised, which raw ones must not rely on"
    )
    t: float = setting(1.0, "diffusion time", gt=0)
    normalise: bool = setting(True, "bring embeddings to length 1")
    k: int = setting(5, "neighbours of the kNN probe", ge=1)
    clusters: int = setting(10, "clusters that the input spectra are put into", ge=2, le=100)


@dataclass
class Finding:
    """Numbers, what is alarming, and what stands behind them.

    Attributes
    ----------
    numbers : dict of str to float
    alarms, notes : list of str
    eigenvalues : ndarray
        Singular-value shares of the centred embeddings, descending (the first 64).
    scores : ndarray, shape (n, 2)
        First two principal components of the samples.
    shares : ndarray, shape (2,)
        Their shares of the variance.
    """

    numbers: dict[str, float]
    alarms: list[str]
    notes: list[str] = field(default_factory=list)
    eigenvalues: np.ndarray = field(default_factory=lambda: np.empty(0))
    scores: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    shares: np.ndarray = field(default_factory=lambda: np.zeros(2))


def measure(found: Embedded, settings: Any, seed: int) -> Finding:
    """Measure embeddings, against labels and spectra where they are known.

    Raises
    ------
    BadInput, BadSettings
    """
    s = settings
    options: dict[str, Any] = {"t": s.t, "normalise": s.normalise, "seed": seed}
    x = found.values
    numbers = summary(x, sigma=s.sigma, **options)
    options["sigma"] = numbers["sigma"]
    notes: list[str] = []
    before = None
    if found.first is not None and not np.array_equal(found.first, x):
        before = summary(found.first, **options)
        numbers["dse_first"] = before["dse"]
        numbers["effective_rank_first"] = before["effective_rank"]
    notes += _scale_guard(x, numbers, s)
    if found.labels is not None:
        numbers |= _labels(found, s, options, notes)
    if found.spectra is not None:
        numbers |= _input(found, s, options, notes)
    _, axes, shares = principal(x, min(64, *x.shape))
    scores = (x - x.mean(0)) @ axes[:2].T
    if scores.shape[1] < 2:
        scores = np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))
    return Finding(
        numbers, alarms(numbers, before), notes, shares, scores, np.pad(shares[:2], (0, 2 - shares[:2].size))
    )


def _scale_guard(x: np.ndarray, numbers: dict[str, float], s: Any) -> list[str]:
    """Warn of a kernel that is far from the distances, and say what one of their size sees."""
    relative = dse(x, sigma="median", t=s.t, normalise=s.normalise)
    numbers["median_distance"] = relative.sigma
    numbers["dse_median"] = relative.bits
    ratio = relative.sigma / numbers["sigma"]
    if NARROW <= ratio <= WIDE or numbers["self_cluster"] > COLLAPSED_COSINE:
        return []
    what = (
        "nearly everything looks like one region" if ratio < NARROW else "every sample looks like a region of its own"
    )
    return [
        f"the median distance of two samples is {relative.sigma:.3g} and the kernel's sigma {numbers['sigma']:.3g}: "
        f"{what} at this width, whatever was learnt; with sigma=median the entropy is {relative.bits:.2f} bits"
    ]


def _labels(found: Embedded, s: Any, options: dict[str, Any], notes: list[str]) -> dict[str, float]:
    assert found.labels is not None
    known = np.flatnonzero(found.labels > 0)
    labels = found.labels[known]
    if np.unique(labels).size < 2:
        notes.append(
            f"{known.size} samples are labelled, of {np.unique(labels).size} class: two classes are needed to compare"
        )
        return {}
    groups = None if found.groups is None else found.groups[known]
    if groups is not None and np.unique(groups).size < 2:
        groups = None
    told = label_summary(found.values[known], labels, k=s.k, groups=groups, **options)
    if "knn_overall" not in told:
        notes.append("too few labelled samples outside each block of ground for a kNN probe")
        return told
    notes.append(
        "kNN: neighbours in a sample's own block of ground do not vote"
        if groups is not None
        else "kNN: every other sample may vote; where samples are neighbours on the ground, this flatters"
    )
    try:
        folds = min(5, np.unique(groups).size if groups is not None else labels.size)
        probe = linear_probe(found.values[known], labels, folds=folds, groups=groups, seed=options["seed"])
        told |= {"linear_overall": probe["overall"], "linear_macro": probe["macro"]}
    except MissingDependency as error:
        notes.append(f"no linear probe: {error}")
    return told


def _input(found: Embedded, s: Any, options: dict[str, Any], notes: list[str]) -> dict[str, float]:
    assert found.spectra is not None
    count = min(s.clusters, max(len(found.spectra) // 5, 2))
    try:
        clusters = clusters_of(found.spectra, count=count, seed=options["seed"])
        told = float(dsmi(found.values, clusters=clusters, **options))
    except MissingDependency as error:
        notes.append(f"nothing against the input: {error}")
        return {}
    except ValueError as error:  # scikit-learn cannot cluster, say, equal spectra
        if isinstance(error, BadInput):
            raise
        notes.append(f"the input spectra could not be clustered: {' '.join(str(error).split())[:120]}")
        return {}
    counts = np.bincount(clusters)
    shares = counts[counts > 0] / counts.sum()
    return {
        "dsmi_input": told,
        "input_entropy": float(-(shares * np.log2(shares)).sum()),
        "input_clusters": float(count),
    }


def regions(bits: float) -> float:
    """As many equal regions have this entropy."""
    return math.pow(2.0, bits)
