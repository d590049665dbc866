"""Mutual information between an embedding and labels, a number, or the input it was made from.

References
----------
Liao et al., CISS 2024, arXiv:2312.04823 (see `entropy`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torchspectral.errors import BadInput, BadSettings, missing_dependency
from torchspectral.metrics.representation.embeddings import LARGEST, checked, prepared, thinned
from torchspectral.metrics.representation.entropy import ase, binned, cse
from torchspectral.ops.diffusion import (
    diffusion_matrix,
    eigenvalues,
    gaussian_kernel,
    is_tensor,
    spectrum_entropy,
    squared_distances,
)

BATCH_BYTES = 512 << 20
"""Kernels of one batch of repetitions; more are made one after another."""


@dataclass(frozen=True)
class Information:
    """A mutual information and what it was measured against; ``float()`` gives the bits.

    Attributes
    ----------
    bits : float
        Slightly negative values happen where there is none.
    clusters : ndarray of int, shape (n,)
        Of the reference; hand them over again as ``clusters=`` to compare epochs.
    n : int
    sigma, t : float
        NaN where the entropy has none.
    repetitions : int
    """

    bits: float
    clusters: np.ndarray = field(repr=False, compare=False)
    n: int
    sigma: float
    t: float
    repetitions: int

    def __float__(self) -> float:
        return self.bits


def clusters_of(reference: Any, *, count: int = 10, seed: int = 0) -> np.ndarray:
    """Cluster of each sample of a reference.

    Parameters
    ----------
    reference : array or Tensor
        Whole numbers (n,) or (n, 1): labels as they are. Floats (n,) or (n, 1): `count` bins of equal width. (n, d):
        spectral clustering into `count` clusters (scikit-learn; nearest neighbours, cluster_qr).
    count : int
    seed : int
        Of the clustering.

    Raises
    ------
    BadInput
        Another shape, or values that are not finite.
    BadSettings, MissingDependency
    """
    if isinstance(count, bool) or count < 1:
        raise BadSettings(f"got {count} clusters, expected at least 1")
    values = np.asarray(reference.detach().cpu().numpy() if is_tensor(reference) else reference)
    flat = values.reshape(-1) if values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1) else None
    if flat is not None and values.dtype.kind in "iub":
        return flat.astype(np.int64)
    points = checked(values if flat is None else flat[:, None], "reference values")
    if flat is not None:
        return binned(points, count)[:, 0].astype(np.int64)
    if points.shape[0] <= count:
        raise BadInput(f"got {points.shape[0]} reference vectors for {count} clusters, expected more vectors")
    try:
        import warnings

        from sklearn.cluster import SpectralClustering
    except ModuleNotFoundError as error:
        raise missing_dependency("clustering the reference", error) or error from error
    neighbours = min(10, points.shape[0] - 1)
    made = SpectralClustering(
        n_clusters=count,
        affinity="nearest_neighbors",
        n_neighbors=neighbours,
        assign_labels="cluster_qr",
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not fully connected.*")
        return np.asarray(made.fit_predict(points), dtype=np.int64)


def dsmi(
    x: Any,
    reference: Any = None,
    *,
    clusters: Any = None,
    count: int = 10,
    sigma: float | str | None = None,
    t: float = 1.0,
    normalise: bool = True,
    repetitions: int = 5,
    seed: int = 0,
    max_n: int = LARGEST,
) -> Information:
    """Diffusion spectral mutual information: how much less diverse the embeddings are within a cluster, in bits.

    ``sum_i n_i/n (mean_r DSE(A_r) - DSE(x | cluster i))``, with A_r drawn from all samples, as many as the cluster has.

    Parameters
    ----------
    x : array or Tensor, shape (n, d)
    reference : array, optional
        Labels, numbers or vectors of the same samples, see `clusters_of`.
    clusters : array of int, shape (n,), optional
        In place of `reference`.
    count : int
        Clusters that are made of numbers or vectors.
    sigma, t, normalise
        As `dse`; one width for all subsets.
    repetitions : int
        Random subsets a cluster.
    seed : int
        Of ``random.Random(seed)``, begun again for every cluster, as the authors do.
    max_n : int
        Larger subsets are thinned out to so many.

    Raises
    ------
    BadInput
        Not as many references as embeddings, or values that are not finite.
    BadSettings, MissingDependency
    """
    x, width = prepared(x, normalise, sigma, max(len(x), 2), seed)
    labels = _clusters(x, reference, clusters, count, seed)

    def entropies(subsets: Sequence[Sequence[int]]) -> list[float]:
        found: list[float] = []
        size = len(subsets[0])
        if size > max_n:
            keep = thinned(size, max_n, seed) or []
            subsets = [[s[i] for i in keep] for s in subsets]
            size = max_n
        step = max(BATCH_BYTES // (8 * size * size), 1) if is_tensor(x) else 1
        for start in range(0, len(subsets), step):
            index = np.asarray(subsets[start : start + step])
            kernels = diffusion_matrix(gaussian_kernel(squared_distances(x[index]), width))
            found += [float(v) for v in spectrum_entropy(eigenvalues(kernels), t)]
        return found

    return Information(_information(labels, entropies, repetitions, seed), labels, len(labels), width, t, repetitions)


def csmi(
    x: Any,
    reference: Any = None,
    *,
    clusters: Any = None,
    count: int = 10,
    bins: int = 2,
    repetitions: int = 5,
    seed: int = 0,
) -> Information:
    """As `dsmi` with the classic entropy `cse`, scaled anew on every subset; it is often negative.

    Raises
    ------
    BadInput, BadSettings, MissingDependency
    """
    x = checked(x)
    x = x.cpu().numpy() if is_tensor(x) else x
    labels = _clusters(x, reference, clusters, count, seed)
    found = _information(labels, lambda subsets: [cse(x[np.asarray(s)], bins=bins) for s in subsets], repetitions, seed)
    return Information(found, labels, len(labels), float("nan"), float("nan"), repetitions)


def asmi(
    x: Any,
    reference: Any = None,
    *,
    clusters: Any = None,
    count: int = 10,
    kind: str = "gaussian",
    sigma: float | str | None = None,
    k: int = 10,
    normalise: bool = True,
    repetitions: int = 5,
    seed: int = 0,
) -> Information:
    """As `dsmi` with the adjacency entropy `ase`, whose kernel is made anew on every subset.

    Raises
    ------
    BadInput, BadSettings, MissingDependency
    """
    x, width = prepared(x, normalise, 1.0 if kind == "knn" else sigma, max(len(x), 2), seed)
    labels = _clusters(x, reference, clusters, count, seed)

    def entropies(subsets: Sequence[Sequence[int]]) -> list[float]:
        return [ase(x[np.asarray(s)], kind=kind, sigma=width, k=k, normalise=False) for s in subsets]

    found = _information(labels, entropies, repetitions, seed)
    return Information(found, labels, len(labels), width, 1.0, repetitions)


def _clusters(x: Any, reference: Any, clusters: Any, count: int, seed: int) -> np.ndarray:
    if (reference is None) == (clusters is None):
        raise BadSettings("got neither a reference nor clusters, or both: expected one of them")
    if clusters is not None:
        clusters = np.asarray(clusters.detach().cpu().numpy() if is_tensor(clusters) else clusters)
        if clusters.ndim != 1 or clusters.dtype.kind not in "iub":
            raise BadInput(f"got clusters {clusters.dtype} of shape {clusters.shape}, expected whole numbers (sample,)")
    size = len(clusters if clusters is not None else reference)
    if size != x.shape[0]:
        raise BadInput(f"got {x.shape[0]} embeddings and {size} references, expected one for each embedding")
    return clusters.astype(np.int64) if clusters is not None else clusters_of(reference, count=count, seed=seed)


def _information(
    labels: np.ndarray, entropies: Callable[[Sequence[Sequence[int]]], list[float]], repetitions: int, seed: int
) -> float:
    if isinstance(repetitions, bool) or repetitions < 1:
        raise BadSettings(f"got {repetitions} repetitions, expected at least 1")
    n = labels.size
    total = 0.0
    for cluster in np.unique(labels):
        members = np.flatnonzero(labels == cluster)
        draw = random.Random(seed)
        subsets = [draw.sample(range(n), members.size) for _ in range(repetitions)]
        total += members.size / n * (float(np.mean(entropies(subsets))) - entropies([members.tolist()])[0])
    return total
