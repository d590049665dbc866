"""Simple classifiers on frozen embeddings: how well labels can be read off them."""

from __future__ import annotations

from typing import Any

import numpy as np

from torchspectral.errors import BadInput, BadSettings, missing_dependency
from torchspectral.metrics.representation.embeddings import checked, normalised
from torchspectral.ops.diffusion import is_tensor

BLOCK = 1024


def knn_probe(x: Any, labels: Any, *, k: int = 5, groups: Any = None) -> dict[str, float]:
    """Accuracy of the majority of the k nearest by cosine, each sample left out in turn.

    Parameters
    ----------
    x : array or Tensor, shape (n, d)
    labels : array of int, shape (n,)
    k : int
        A tie goes to the class whose neighbours are nearer in sum.
    groups : array of int, shape (n,), optional
        Neighbours of the sample's own group (a block of ground) do not count: near pixels are near duplicates.

    Returns
    -------
    dict
        ``overall`` (share of samples), ``macro`` (mean over classes of the share of its samples).

    Raises
    ------
    BadInput, BadSettings
        Fewer than two classes, or too few samples for k.
    """
    x, names, numbers = _supervised(x, labels)
    n = len(numbers)
    own = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if own.shape != numbers.shape:
        raise BadInput(f"got {own.size} groups for {n} embeddings, expected one for each")
    most = n - int(np.bincount(own).max())
    if isinstance(k, bool) or not 1 <= k <= most:
        raise BadSettings(
            f"got k={k} with at most {most} neighbours outside a sample's own group, expected 1 to {most}"
        )
    x = normalised(x)
    guess = np.empty(n, dtype=np.int64)
    for start in range(0, n, BLOCK):
        rows = slice(start, min(start + BLOCK, n))
        near = x[rows] @ x.T
        near[own[rows, None] == own] = -np.inf
        best = np.argpartition(-near, k - 1, axis=1)[:, :k]
        cosine = np.take_along_axis(near, best, axis=1)
        votes = np.zeros((rows.stop - start, names.size))
        # A vote weighs more than all closeness, which only breaks ties.
        np.add.at(votes, (np.arange(rows.stop - start)[:, None], numbers[best]), 1.0 + cosine * 1e-3 / k)
        guess[rows] = votes.argmax(1)
    return _accuracies(guess, numbers)


def linear_probe(x: Any, labels: Any, *, folds: int = 5, groups: Any = None, seed: int = 0) -> dict[str, float]:
    """Accuracy of logistic regression on standardised embeddings, cross-validated.

    Parameters
    ----------
    x, labels, groups
        As `knn_probe`; a group is wholly in one fold.
    folds : int
    seed : int
        Of the folds.

    Raises
    ------
    BadInput, BadSettings, MissingDependency
        Fewer than two classes, or fewer groups than folds.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GroupKFold, StratifiedKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ModuleNotFoundError as error:
        raise missing_dependency("the linear probe", error) or error from error
    x, _, numbers = _supervised(x, labels)
    size = len(numbers) if groups is None else np.unique(np.asarray(groups)).size
    if isinstance(folds, bool) or not 2 <= folds <= size:
        raise BadSettings(f"got {folds} folds of {size} samples or groups, expected 2 to {size}")
    if groups is not None:
        cuts = GroupKFold(folds).split(x, numbers, np.asarray(groups))
    else:
        fitting = max(min(folds, int(np.bincount(numbers).min())), 2)
        cuts = StratifiedKFold(fitting, shuffle=True, random_state=seed).split(x, numbers)
    guess = np.full(len(numbers), -1, dtype=np.int64)
    for fit, test in cuts:
        kinds = np.unique(numbers[fit])
        if kinds.size < 2:
            guess[test] = kinds[0]
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not wholly converged is good enough for a probe
            guess[test] = model.fit(x[fit], numbers[fit]).predict(x[test])
    return _accuracies(guess, numbers)


def _supervised(x: Any, labels: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = checked(x)
    x = x.cpu().numpy() if is_tensor(x) else x
    labels = np.asarray(labels.detach().cpu().numpy() if is_tensor(labels) else labels)
    if labels.shape != (x.shape[0],):
        raise BadInput(f"got labels of shape {labels.shape} for {x.shape[0]} embeddings, expected one for each")
    names, numbers = np.unique(labels, return_inverse=True)
    if names.size < 2:
        raise BadInput("got labels of one class, expected at least two to tell apart")
    return x, names, numbers


def _accuracies(guess: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    hit = (guess == truth).astype(np.float64)
    count = np.bincount(truth)
    return {"overall": float(hit.mean()), "macro": float((np.bincount(truth, hit) / count).mean())}
