"""All measures of one set of embeddings, and what of them is alarming."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from torchspectral.metrics.representation.collapse import (
    effective_rank,
    participation_ratio,
    rank_me,
    self_cluster,
    uniformity,
)
from torchspectral.metrics.representation.embeddings import LARGEST, checked, thinned
from torchspectral.metrics.representation.entropy import dse, shannon
from torchspectral.metrics.representation.information import dsmi
from torchspectral.metrics.representation.probes import knn_probe
from torchspectral.ops.diffusion import is_tensor

COLLAPSED_BITS = 0.1
COLLAPSED_COSINE = 0.999
LOST_HALF = 0.5


def summary(
    x: Any,
    *,
    sigma: float | str | None = None,
    t: float = 1.0,
    normalise: bool = True,
    max_n: int = LARGEST,
    seed: int = 0,
) -> dict[str, float]:
    """Measures that need no labels.

    Parameters
    ----------
    x : array or Tensor, shape (n, d)
    sigma, t, normalise, max_n, seed
        See `dse`.

    Returns
    -------
    dict
        samples, dimensions, sigma, t, normalised (0 or 1), dse and renyi2 [bit], dse_share (of ``log2 n``),
        effective_rank, participation_ratio, rank_me, uniformity, self_cluster, zero_rows (share of samples that are 0).

    Raises
    ------
    BadInput, BadSettings
    """
    x = checked(x)
    index = thinned(x.shape[0], max_n, seed)
    x = x if index is None else x[index]
    found = dse(x, sigma=sigma, t=t, normalise=normalise, max_n=max(x.shape[0], 2))
    values = found.eigenvalues
    return {
        "samples": float(found.n),
        "dimensions": float(x.shape[1]),
        "sigma": found.sigma,
        "t": found.t,
        "normalised": float(normalise),
        "dse": found.bits,
        "dse_share": found.share,
        "renyi2": max(-math.log2(float((values**2).sum() / values.sum() ** 2)), 0.0),
        "effective_rank": effective_rank(x),
        "participation_ratio": participation_ratio(x),
        "rank_me": rank_me(x),
        "uniformity": uniformity(x) if found.n > 1 else 0.0,
        "self_cluster": self_cluster(x),
        "zero_rows": float(((x * x).sum(-1) == 0).sum()) / found.n,
    }


def label_summary(
    x: Any,
    labels: np.ndarray,
    *,
    sigma: float | str | None = None,
    t: float = 1.0,
    normalise: bool = True,
    k: int = 5,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """What embeddings tell of labels; every sample has one.

    Returns
    -------
    dict
        labelled, classes, label_entropy [bit], majority (share of the largest class), dsmi_labels [bit],
        dsmi_shuffled (the same with the labels shuffled: what chance gives), dsmi_labels_median (with sigma as wide as
        the median distance: this compares encoders whose embeddings are differently concentrated), knn_overall and knn_macro (absent where a
        class or a group leaves too few neighbours).

    Raises
    ------
    BadInput, BadSettings
    """
    labels = np.asarray(labels)
    names, counts = np.unique(labels, return_counts=True)
    options: dict[str, Any] = {"sigma": sigma, "t": t, "normalise": normalise, "seed": seed}
    found = {
        "labelled": float(labels.size),
        "classes": float(names.size),
        "label_entropy": shannon(counts),
        "majority": float(counts.max() / labels.size),
        "dsmi_labels": float(dsmi(x, clusters=labels, **options)),
        "dsmi_labels_median": float(dsmi(x, clusters=labels, **{**options, "sigma": "median"})),
        "dsmi_shuffled": float(dsmi(x, clusters=np.random.default_rng(seed).permutation(labels), **options)),
    }
    own = np.arange(labels.size) if groups is None else np.unique(groups, return_inverse=True)[1]
    if names.size > 1 and labels.size - int(np.bincount(own).max()) >= k:
        probe = knn_probe(x, labels, k=k, groups=groups)
        found |= {"knn_overall": probe["overall"], "knn_macro": probe["macro"]}
    return found


def alarms(numbers: Mapping[str, float], before: Mapping[str, float] | None = None) -> list[str]:
    """What is wrong with embeddings, one sentence each; empty where nothing is.

    Parameters
    ----------
    numbers : mapping
        Of `summary`.
    before : mapping, optional
        The same of an earlier moment of the training.
    """
    told = []
    if numbers["zero_rows"] > 0.5:
        told.append(
            f"{numbers['zero_rows']:.0%} of the samples have an embedding of zeros: the network is dead for them"
        )
    if numbers["dse"] < COLLAPSED_BITS and numbers["self_cluster"] > COLLAPSED_COSINE:
        told.append(
            f"complete collapse: all samples lie on one line and the embeddings tell them apart by {numbers['dse']:.3f} "
            "bits"
        )
    elif numbers["dimensions"] >= 8 and numbers["effective_rank"] < 2:
        told.append(
            f"dimensional collapse: {numbers['dimensions']:.0f} dimensions vary along {numbers['effective_rank']:.2f}"
        )
    if before is not None and before["dse"] > COLLAPSED_BITS and numbers["dse"] < LOST_HALF * before["dse"]:
        told.append(f"the entropy fell from {before['dse']:.2f} to {numbers['dse']:.2f} bits: it is collapsing")
    return told


def principal(x: Any, count: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (d,), the first principal axes (count, d), and each one's share of the variance.

    Raises
    ------
    BadInput
    """
    x = checked(x)
    x = x.cpu().numpy() if is_tensor(x) else x
    mean = x.mean(0)
    _, values, axes = np.linalg.svd(x - mean, full_matrices=False)
    power = values**2
    share = power / power.sum() if power.sum() > 0 else np.zeros_like(power)
    kept = min(count, axes.shape[0])
    return mean, axes[:kept], share[:kept]
